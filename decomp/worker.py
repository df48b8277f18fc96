"""The blocks of one rank: built, asked, marked, saved; the root's `Fleet` says when.

An exception in a block becomes a status and a text and travels to the root like any answer.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from decomp.block_states import packed, unpacked
from decomp.checkpoint import read_arrays, write_arrays
from decomp.envelope import sealed
from decomp.errors import TatonnementError
from decomp.layout import Layout
from decomp.messages import FloatArray, IntArray, Key, Response, Signal, Status
from decomp.packing import Parcel, Share
from decomp.ranks import Ranks
from decomp.subproblem import Arrays, Subproblem

log = logging.getLogger(__name__)

SOLVE, EVALUATE = range(2)
PENALISED, ACTIVE, EXACT, KEEP, ASIDE, SLOPES, CUT = (1 << i for i in range(7))  # flags of a question
SKIPPED = -1  # status of a block that was not asked, because the run has been asked to stop
TELL_S = 10.0  # a round that takes long says so often how far it is
MOST_TOGETHER = 64  # blocks asked at once: between two such groups a rank looks whether it was asked to stop ...
TOGETHER_S = 1.0  # ... so a group is no larger than what takes about this long; no answer depends on its size
Make = Callable[[Key], Subproblem]
Moving = tuple[int, Arrays | None, Response | None]  # number, warm state, last kept answer
Troubles = dict[str, str]  # why blocks gave no answer, by name


class Worker:
    """The blocks of this rank, their last kept answers, and the moment to go back to."""

    def __init__(self, ranks: Ranks, layout: Layout, make: Make, share: Share) -> None:
        self.ranks, self.layout, self._make, self.share = ranks, layout, make, share
        self.texts: Troubles = {}
        self._mine: list[int] = share.blocks.tolist()
        self._blocks: dict[int, Subproblem] = {}
        self._last: dict[int, Response] = {}
        self._marked: tuple[dict[int, Any], dict[int, Response]] = ({}, {})
        self._sizes, self._reports = np.diff(layout.start).tolist(), np.diff(layout.report_start).tolist()
        self._limits = threadpool_limits(1)
        self._most = 1  # blocks that are asked together
        self.built_s: dict[int, float] = {}  # what building each block took

    def build(self) -> frozenset[str] | None:
        """Build all blocks, until a rank is asked to stop; the abilities that all of them have."""
        self.texts = {}
        abilities: frozenset[str] | None = None
        for b in self._mine:
            if self.ranks.asked():
                break
            block = self._built(b)
            if block is not None:
                abilities = block.abilities if abilities is None else abilities & block.abilities
        return abilities

    def _built(self, b: int) -> Subproblem | None:
        key, began = self.layout.keys[b], time.perf_counter()
        try:
            self._blocks[b] = self._make(key)
        except TatonnementError as error:
            self.texts[str(key)] = str(error)
        except (Exception, SystemExit) as error:
            log.debug("building block %s", key, exc_info=True)
            self.texts[str(key)] = f"could not be built: {type(error).__name__}: {error}"
        self.built_s[b] = time.perf_counter() - began
        return self._blocks.get(b)

    def leaving(self, owner: IntArray) -> tuple[str, list[Moving]]:
        """Number, warm state and last kept answer of the blocks that go to another rank, or why there is none."""
        blocks = [b for b in self._mine if owner[b] != self.ranks.rank]
        try:
            states = [(b, self._blocks[b].save(), self._last.get(b)) for b in blocks]
            sealed(states)  # what cannot be sent is found before anything has moved
        except Exception as error:  # a run goes on with its blocks where they are, whatever one of the user's raises
            log.debug("blocks of rank %d", self.ranks.rank, exc_info=True)
            return f"rank {self.ranks.rank}: {error if str(error) else type(error).__name__}", []
        return "", states

    def take(self, arriving: list[Moving], share: Share) -> None:
        """From now on this rank has the blocks of `share`, some of them from other ranks; this is a new mark."""
        self.share, self._mine, self.texts = share, share.blocks.tolist(), {}
        here = set(self._mine)
        for b in [b for b in self._blocks if b not in here]:
            del self._blocks[b]
            self._last.pop(b, None)
        for b, state, last in arriving:
            block = self._built(b)
            if block is None:
                continue
            try:
                block.load({} if state is None else state)
            except Exception as error:
                log.debug("block %s", self.layout.keys[b], exc_info=True)
                self.texts[str(self.layout.keys[b])] = f"{type(error).__name__}: {error}"
            if last is not None:
                self._last[b] = last
        self.mark()

    def columns(self, op: int, flags: int) -> int:
        """Number of columns of a question: price, target and penalty, active; or y."""
        return 1 if op == EVALUATE else 1 + 2 * bool(flags & PENALISED) + bool(flags & ACTIVE)

    def ask(self, op: int, question: FloatArray, flags: int, number: int) -> FloatArray:
        """Every block's answer, packed. Blocks are left out from the moment on in which a rank is asked to stop."""
        columns, at = question.reshape(self.columns(op, flags), -1), self.share.start.tolist()
        self.texts = {}
        parcel = Parcel(self.share, bool(flags & SLOPES))
        done: dict[int, Response] = {}
        told = time.perf_counter()
        self._most = 1  # how long blocks take with this question is not known yet
        for i, b in enumerate(self._mine):
            if time.perf_counter() - told > TELL_S:
                told = time.perf_counter()
                log.info("%d of %d blocks of rank %d have answered", i, len(self._mine), self.ranks.rank)
            if i in done:
                parcel.put(i, done[i])
                continue
            if flags & CUT and self.ranks.asked():
                parcel.tail[2, i] = SKIPPED
                continue
            if op == SOLVE:
                done = self._together(i, columns, flags, number)
            response = done[i] if i in done else self.answer(b, op, columns[:, at[i] : at[i + 1]], flags, number)
            parcel.put(i, response)
        return parcel.flat

    def _together(self, first: int, columns: FloatArray, flags: int, number: int) -> dict[int, Response]:
        """Answers of the block at place `first` and of those behind it that keep its company; {} = it has none."""
        company, last = self._blocks[self._mine[first]].company, first + 1
        if company is None:
            return {}
        most = min(first + self._most, len(self._mine))
        while last < most and self._blocks[self._mine[last]].company == company:
            last += 1
        mine, at = self._mine[first:last], self.share.start.tolist()
        blocks = [self._blocks[b] for b in mine]
        signals = [self._signal(columns[:, at[i] : at[i + 1]], flags, number) for i in range(first, last)]
        marks, began = [block.mark() for block in blocks], time.perf_counter()
        try:
            found = type(blocks[0]).solve_together(blocks, signals)
            texts = [self._trouble(b, r) for b, r in zip(mine, found, strict=True)]
        except (Exception, SystemExit):  # asked alone, the block at fault says so itself
            log.debug("blocks from %s", self.layout.keys[mine[0]], exc_info=True)
            for block, mark in zip(blocks, marks, strict=True):
                block.reset(mark)
            return {}
        each = (time.perf_counter() - began) / len(blocks)
        self._most = max(1, min(MOST_TOGETHER, int(TOGETHER_S / max(each, 1e-9))))
        done = {}
        for i, (b, response, text) in enumerate(zip(mine, found, texts, strict=True)):
            done[first + i] = response = response if response.solve_time else _timed(response, each)
            self.texts.pop(str(self.layout.keys[b]), None)
            if text:
                self.texts[str(self.layout.keys[b])] = text
            if flags & ASIDE:
                blocks[i].reset(marks[i])
            if flags & KEEP and response.status.has_point:
                self._last[b] = response
        return done

    def answer(self, b: int, op: int, columns: FloatArray, flags: int, number: int) -> Response:
        """One block's answer; kept for `detail` where the question says so."""
        before = self._blocks[b].mark() if flags & ASIDE else None
        response = self._one(b, op, columns, flags, number)
        if flags & ASIDE:
            self._blocks[b].reset(before)
        if flags & KEEP and response.status.has_point:
            self._last[b] = response
        return response

    def fingerprints(self) -> dict[int, str]:
        """Which data each block has, in hexadecimal digits, by number; without those that cannot tell."""
        found: dict[int, str] = {}
        for b, block in self._blocks.items():
            try:
                told = block.fingerprint()
            except (Exception, SystemExit):  # what is wrong with it the block says when it is asked
                log.debug("fingerprint of block %s", self.layout.keys[b], exc_info=True)
                continue
            if told is not None:
                found[b] = told.hex()
        return found

    def mark(self) -> None:
        """This is the moment to come back to."""
        self._marked = ({b: block.mark() for b, block in self._blocks.items()}, dict(self._last))

    def roll_back(self) -> None:
        """Back to the last mark, as if nothing had been asked since."""
        marks, last = self._marked
        for b, mark in marks.items():
            self._blocks[b].reset(mark)
        self._last = dict(last)

    def save(self, folder: Path) -> tuple[str, str, str]:
        """Write the blocks' warm states: file name, SHA-256, and what went wrong."""
        name, digest, trouble = f"blocks-{self.ranks.rank:04d}.npz", "", ""
        try:
            digest = write_arrays(folder / name, packed(self._mine, [self._blocks[b].save() for b in self._mine]))
        except Exception as error:  # a run goes on without a checkpoint, whatever a block of the user's raises
            log.debug("writing %s", name, exc_info=True)
            trouble = f"rank {self.ranks.rank}: {error if str(error) else type(error).__name__}"
        return name, digest, trouble

    def load(self, folder: Path, names: list[str]) -> str:
        """Take up the warm states of this rank's blocks, whichever files they are in; what went wrong."""
        try:
            for name in names:
                for b, state in unpacked(read_arrays(folder / name), self._mine):
                    self._blocks[b].load(state)
        except Exception as error:
            log.debug("reading %s", folder, exc_info=True)
            return f"rank {self.ranks.rank}: {type(error).__name__}: {error}"
        return ""

    def detail(self) -> dict[Key, Mapping[str, FloatArray]]:
        """Every block's own series at its last kept answer."""
        return {self.layout.keys[b]: self._series(b, r) for b, r in sorted(self._last.items())}

    def _one(self, b: int, op: int, columns: FloatArray, flags: int, question: int) -> Response:
        key, block, began = self.layout.keys[b], self._blocks[b], time.perf_counter()
        try:
            if op == EVALUATE:
                response = block.evaluate(columns[0])
            else:
                response = block.solve(self._signal(columns, flags, question))
            text = self._trouble(b, response)
        except (Exception, SystemExit) as error:
            log.debug("block %s", key, exc_info=True)
            response, text = Response(columns[0], np.nan, status=Status.ERROR), f"{type(error).__name__}: {error}"
        self.texts.pop(str(key), None)
        if text:
            self.texts[str(key)] = text
        spent = time.perf_counter() - began
        return response if response.solve_time else _timed(response, spent)

    def _signal(self, columns: FloatArray, flags: int, question: int) -> Signal:
        target, penalty = (columns[1], columns[2]) if flags & PENALISED else (None, None)
        active = columns[-1] > 0 if flags & ACTIVE else None
        return Signal(columns[0], target, penalty, active, bool(flags & EXACT), question)

    def _trouble(self, b: int, response: Response) -> str:
        if not response.status.has_point:
            return response.message or response.status.name.lower()
        n, m = self._sizes[b], self._reports[b]
        if np.shape(response.y) != (n,):
            raise TatonnementError(f"answered with y of shape {np.shape(response.y)}, its coupling has {n} entries")
        if np.shape(response.report) != (m,):
            raise TatonnementError(f"reported {np.shape(response.report)} values, its coupling declares {m}")
        if not (np.isfinite(response.y).all() and math.isfinite(response.cost)):
            raise TatonnementError("answered with a value that is not finite")
        return ""

    def _series(self, b: int, response: Response) -> Mapping[str, FloatArray]:
        try:
            return self._blocks[b].detail(response)
        except (Exception, SystemExit) as error:  # a finished run is not lost for a table
            log.warning("block %s has no detail: %s: %s", self.layout.keys[b], type(error).__name__, error)
            return {}


def _timed(response: Response, seconds: float) -> Response:
    return response.but(solve_time=seconds)
