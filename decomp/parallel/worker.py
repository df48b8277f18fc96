"""The blocks of one rank: built, asked, marked, saved; the root's `BlockPool` says when.

An exception in a block becomes a status and a text and travels to the root like any answer.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from decomp.blocks.batches import ResponseBatch, SignalBatch
from decomp.errors import TatonnementError
from decomp.layout import Layout
from decomp.messages import FloatArray, IntArray, Key, Response, Status
from decomp.parallel.packing import Parcel, Share
from decomp.parallel.participation import Conversations
from decomp.parallel.ranks import Ranks
from decomp.parallel.serialization import encode
from decomp.parallel.vocabulary import MESSAGES
from decomp.storage.checkpoint import read_arrays, write_arrays
from decomp.storage.warm_states import packed, unpacked
from decomp.subproblem import Arrays, Subproblem

log = logging.getLogger(__name__)

SOLVE, EVALUATE = range(2)
PENALISED, ACTIVE, EXACT, KEEP, ASIDE, SLOPES, CUT, GAP = (1 << i for i in range(8))  # flags of a question
SKIPPED = -1  # status of a block that was not asked, because the run has been asked to stop
TELL_S = 10.0  # a round that takes long says so often how far it is
MOST_TOGETHER = 64  # blocks asked at once: between two such groups a rank looks whether it was asked to stop ...
TOGETHER_S = 1.0  # ... so a group is no larger than what takes about this long; no answer depends on its size
Make = Callable[[Key], Subproblem]
Moving = tuple[int, Arrays | None, Response | None]  # number, warm state, last kept answer
Kept = tuple[Sequence[Response], int]  # answers to several blocks, and which of them
Troubles = dict[str, str]  # why blocks gave no answer, by name


class RankWorker:
    """The blocks of this rank, their last kept answers, and the moment to go back to."""

    def __init__(self, ranks: Ranks, layout: Layout, make: Make, share: Share) -> None:
        self.ranks, self.layout, self._make, self.share = ranks, layout, make, share
        self.texts: Troubles = {}
        self._mine: list[int] = share.blocks.tolist()
        self._blocks: dict[int, Subproblem] = {}
        self.conversations = Conversations(self._blocks)
        self._last: dict[int, Kept] = {}
        self._marked: tuple[dict[int, Any], dict[int, Kept], dict[int, Any]] = ({}, {}, {})
        self._sizes, self._reports = np.diff(layout.start).tolist(), np.diff(layout.report_start).tolist()
        self._limits = threadpool_limits(1)
        self._most = 1  # blocks that are asked together
        self._warned: set[tuple[int, str]] = set()  # what has been said of answers that have a point, once each
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
            block = self._blocks[b] = self._make(key)
            self._tell(b, block.refusal())
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
            states = [(b, self._saved(b), self._kept(b)) for b in blocks]
            encode(states, MESSAGES)  # what cannot be sent is found before anything has moved
        except Exception as error:  # a run goes on with its blocks where they are, whatever one of the user's raises
            log.debug("blocks of rank %d", self.ranks.rank, exc_info=True)
            return f"rank {self.ranks.rank}: {error if str(error) else type(error).__name__}", []
        return "", states

    def _saved(self, b: int) -> Arrays | None:
        """A block's warm state, with that of its part in a method over all blocks."""
        own, more = self._blocks[b].save(), self.conversations.arrays(b)
        return own if not more else {**(own or {}), **more}

    def _kept(self, b: int) -> Response | None:
        some, i = self._last.get(b, ([], 0))
        return some[i] if some else None

    def take(self, arriving: list[Moving], share: Share) -> None:
        """From now on this rank has the blocks of `share`, some of them from other ranks; this is a new mark."""
        self.share, self._mine, self.texts = share, share.blocks.tolist(), {}
        here = set(self._mine)
        for b in [b for b in self._blocks if b not in here]:
            del self._blocks[b]
            self.conversations.forget(b)
            self._last.pop(b, None)
        for b, state, last in arriving:
            block = self._built(b)
            if block is None:
                continue
            try:
                block.load(self.conversations.load(b, {} if state is None else state))
            except Exception as error:
                log.debug("block %s", self.layout.keys[b], exc_info=True)
                self.texts[str(self.layout.keys[b])] = f"{type(error).__name__}: {error}"
            if last is not None:
                self._last[b] = [last], 0
        self.mark()

    def columns(self, op: int, flags: int) -> int:
        """Number of columns of a question: price, target and penalty, active, gap of mixed-integer solves; or y."""
        return 1 if op == EVALUATE else 1 + 2 * bool(flags & PENALISED) + bool(flags & ACTIVE) + bool(flags & GAP)

    def ask(self, op: int, question: FloatArray, flags: int, number: int) -> FloatArray:
        """Every block's answer, packed. Blocks are left out from the moment on in which a rank is asked to stop."""
        columns, at = question.reshape(self.columns(op, flags), -1), self.share.start.tolist()
        self.texts = {}
        parcel = Parcel(self.share, bool(flags & SLOPES))
        told, i = time.perf_counter(), 0
        self._most = 1  # how long blocks take with this question is not known yet
        while i < len(self._mine):
            if time.perf_counter() - told > TELL_S:
                told = time.perf_counter()
                log.info("%d of %d blocks of rank %d have answered", i, len(self._mine), self.ranks.rank)
            if flags & CUT and self.ranks.asked():
                parcel.tail[2, i:] = SKIPPED
                break
            answered = self._together(i, columns, flags, number, parcel) if op == SOLVE else 0
            if not answered:
                parcel.put(i, self.answer(self._mine[i], op, columns[:, at[i] : at[i + 1]], flags, number))
            i += answered or 1
        return parcel.flat

    def _together(self, first: int, columns: FloatArray, flags: int, number: int, parcel: Parcel) -> int:
        """Ask the block at place `first` and those behind it with the same batch key; their number, 0 = it has none."""
        batch_key, last = self._blocks[self._mine[first]].batch_key, first + 1
        if batch_key is None:
            return 0
        most, size = min(first + self._most, len(self._mine)), self._sizes[self._mine[first]]
        while last < most and self._blocks[self._mine[last]].batch_key == batch_key:
            if self._sizes[self._mine[last]] != size:
                break
            last += 1
        mine, at = self._mine[first:last], self.share.start
        blocks = [self._blocks[b] for b in mine]
        marks, began = [block.mark() for block in blocks], time.perf_counter()
        try:
            asked = columns[:, at[first] : at[last]].reshape(len(columns), len(mine), size)
            found = type(blocks[0]).solve_together(blocks, self._signals(asked, flags, number))
            if isinstance(found, ResponseBatch):
                self._refuse(found, mine)
                texts = [""] * len(mine)
            else:
                texts = [self._trouble(b, r) for b, r in zip(mine, found, strict=True)]
        except (Exception, SystemExit):  # asked alone, the block at fault says so itself
            log.debug("blocks from %s", self.layout.keys[mine[0]], exc_info=True)
            for block, mark in zip(blocks, marks, strict=True):
                block.reset(mark)
            return 0
        each = (time.perf_counter() - began) / len(blocks)
        self._most = max(1, min(MOST_TOGETHER, int(TOGETHER_S / max(each, 1e-9))))
        if isinstance(found, ResponseBatch):
            found = found.but(solve_time=each)
            parcel.put_rows(first, found)
        else:
            found = [r if r.solve_time else _timed(r, each) for r in found]
            for i, response in enumerate(found, first):
                parcel.put(i, response)
                self._warn(self._mine[i], response)
        for b, text in zip(mine, texts, strict=True):
            if text or self.texts:
                self._tell(b, text)
        if flags & ASIDE:
            for block, mark in zip(blocks, marks, strict=True):
                block.reset(mark)
        if flags & KEEP:
            for i, b in enumerate(mine):
                if isinstance(found, ResponseBatch) or found[i].status.has_point:
                    self._last[b] = found, i
        return len(mine)

    def _refuse(self, found: ResponseBatch, mine: list[int]) -> None:
        """Raises TatonnementError where answers are not of the size their couplings declare, or not finite."""
        sizes, reports = {self._sizes[b] for b in mine}, {self._reports[b] for b in mine}
        fit = len(found) == len(mine) and {found.y.shape[1]} == sizes and {found.report.shape[1]} == reports
        if not (fit and np.isfinite(found.y).all() and np.isfinite(found.cost).all()):
            raise TatonnementError("answers that are not what the couplings declare")

    def _tell(self, b: int, text: str) -> None:
        """Why block number b has no answer; "" = it has one."""
        self.texts.pop(str(self.layout.keys[b]), None)
        if text:
            self.texts[str(self.layout.keys[b])] = text

    def answer(self, b: int, op: int, columns: FloatArray, flags: int, number: int) -> Response:
        """One block's answer; kept for `detail` where the question says so."""
        before = self._blocks[b].mark() if flags & ASIDE else None
        response = self._one(b, op, columns, flags, number)
        if flags & ASIDE:
            self._blocks[b].reset(before)
        if flags & KEEP and response.status.has_point:
            self._last[b] = [response], 0
        self._warn(b, response)
        return response

    def _warn(self, b: int, response: Response) -> None:
        """What a block says of an answer that has a point, once."""
        if response.message and response.status.has_point and (b, response.message) not in self._warned:
            self._warned.add((b, response.message))
            log.warning("block %s: %s", self.layout.keys[b], response.message)

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
        marks = {b: block.mark() for b, block in self._blocks.items()}
        self._marked = (marks, dict(self._last), self.conversations.mark())

    def roll_back(self) -> None:
        """Back to the last mark, as if nothing had been asked since."""
        marks, last, conversations = self._marked
        self.conversations.reset(conversations)
        for b, mark in marks.items():
            self._blocks[b].reset(mark)
        self._last = dict(last)

    def save(self, folder: Path) -> tuple[str, str, str]:
        """Write the blocks' warm states: file name, SHA-256, and what went wrong."""
        name, digest, trouble = f"blocks-{self.ranks.rank:04d}.npz", "", ""
        try:
            digest = write_arrays(folder / name, packed(self._mine, [self._saved(b) for b in self._mine]))
        except Exception as error:  # a run goes on without a checkpoint, whatever a block of the user's raises
            log.debug("writing %s", name, exc_info=True)
            trouble = f"rank {self.ranks.rank}: {error if str(error) else type(error).__name__}"
        return name, digest, trouble

    def load(self, folder: Path, names: list[str]) -> str:
        """Take up the warm states of this rank's blocks, whichever files they are in; what went wrong."""
        try:
            for name in names:
                for b, state in unpacked(read_arrays(folder / name), self._mine):
                    self._blocks[b].load(self.conversations.load(b, state))
        except Exception as error:
            log.debug("reading %s", folder, exc_info=True)
            return f"rank {self.ranks.rank}: {type(error).__name__}: {error}"
        return ""

    def detail(self) -> dict[Key, Mapping[str, FloatArray]]:
        """Every block's own series at its last kept answer."""
        return {self.layout.keys[b]: self._series(b, some[i]) for b, (some, i) in sorted(self._last.items())}

    def _one(self, b: int, op: int, columns: FloatArray, flags: int, question: int) -> Response:
        key, block, began = self.layout.keys[b], self._blocks[b], time.perf_counter()
        try:
            if op == EVALUATE:
                response = block.evaluate(columns[0])
            else:
                response = block.solve(self._signals(columns[:, None], flags, question)[0])
            text = self._trouble(b, response)
        except (Exception, SystemExit) as error:
            log.debug("block %s", key, exc_info=True)
            response, text = Response(columns[0], np.nan, status=Status.ERROR), f"{type(error).__name__}: {error}"
        self._tell(b, text)
        spent = time.perf_counter() - began
        return response if response.solve_time else _timed(response, spent)

    def _signals(self, columns: FloatArray, flags: int, question: int) -> SignalBatch:
        """Signals from columns (c, b, n)."""
        target, penalty = (columns[1], columns[2]) if flags & PENALISED else (None, None)
        active = columns[3 if flags & PENALISED else 1] > 0 if flags & ACTIVE else None
        mip_gap = float(columns[-1].flat[0]) if flags & GAP and columns.size else None
        return SignalBatch(columns[0], target, penalty, active, bool(flags & EXACT), question, mip_gap)

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
