"""Questions to the blocks of one rank and their answers; the root's `BlockPool` says when.

An exception in a block becomes a status and a text and travels to the root like any answer.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from decomp.blocks.batches import ResponseBatch, SignalBatch
from decomp.errors import TatonnementError
from decomp.layout import Layout
from decomp.messages import FloatArray, Response, Status
from decomp.parallel.packing import Parcel, Share
from decomp.parallel.rank_blocks import Make, Moving, RankBlocks
from decomp.parallel.ranks import Ranks
from decomp.subproblem import Subproblem

log = logging.getLogger(__name__)

SOLVE, EVALUATE = range(2)
PENALISED, ACTIVE, EXACT, KEEP, ASIDE, SLOPES, CUT, GAP = (1 << i for i in range(8))  # flags of a question
SKIPPED = -1  # status of a block that was not asked, because the run has been asked to stop
TELL_S = 10.0  # a round that takes long says so often how far it is
MOST_IN_BATCH = 64  # blocks asked at once: between two such groups a rank looks whether it was asked to stop ...
BATCH_S = 1.0  # ... so a group is no larger than what takes about this long; no answer depends on its size


class RankWorker:
    """Asks the blocks of this rank, and packs what they answer.

    blocks  the blocks themselves
    texts   why blocks gave no answer to the last question, by name
    """

    def __init__(self, ranks: Ranks, layout: Layout, make: Make, share: Share) -> None:
        self.ranks, self.layout, self.share = ranks, layout, share
        self.blocks = RankBlocks(ranks.rank, layout, make, share)
        self.texts: dict[str, str] = {}
        self._sizes, self._reports = np.diff(layout.start).tolist(), np.diff(layout.report_start).tolist()
        self._limits = threadpool_limits(1)
        self._most = 1  # blocks that are solved in one batch
        self._warned: set[tuple[int, str]] = set()  # what has been said of answers that have a point, once each
        self._alone: set[str] = set()  # errors of batches whose blocks were then solved one by one, said once each

    def build(self) -> frozenset[str] | None:
        """Build all blocks, until a rank is asked to stop; the abilities that all of them have."""
        self.texts = {}
        abilities: frozenset[str] | None = None
        for b in self.blocks.mine:
            if self.ranks.asked():
                break
            self._note(b, self.blocks.build(b))
            block = self.blocks.of.get(b)
            if block is not None:
                abilities = block.abilities if abilities is None else abilities & block.abilities
        return abilities

    def take(self, arriving: Sequence[Moving], share: Share) -> None:
        """From now on this rank has the blocks of `share`, some of them from other ranks; this is a new mark."""
        self.share, self.texts = share, {}
        for b, text in self.blocks.take(arriving, share).items():
            self._note(b, text)

    def explain_systems(self) -> None:
        """Why the blocks' own linear systems gave no answer is what `texts` says now."""
        keys, why = self.layout.keys, self.blocks.conversations.texts
        self.texts = {str(keys[b]): text for b, text in why.items()}

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
        while i < len(self.blocks.mine):
            if time.perf_counter() - told > TELL_S:
                told = time.perf_counter()
                log.info("%d of %d blocks of rank %d have answered", i, len(self.blocks.mine), self.ranks.rank)
            if flags & CUT and self.ranks.asked():
                parcel.tail[2, i:] = SKIPPED
                break
            answered = self._batch(i, columns, flags, number, parcel) if op == SOLVE else 0
            if not answered:
                parcel.put(i, self.answer(self.blocks.mine[i], op, columns[:, at[i] : at[i + 1]], flags, number))
            i += answered or 1
        return parcel.flat

    def _batch(self, first: int, columns: FloatArray, flags: int, number: int, parcel: Parcel) -> int:
        """Ask the block at place `first` and those behind it with the same batch key; their number, 0 = it has none."""
        batch_key, last = self.blocks[self.blocks.mine[first]].batch_key, first + 1
        if batch_key is None:
            return 0
        most, size = min(first + self._most, len(self.blocks.mine)), self._sizes[self.blocks.mine[first]]
        while last < most and self.blocks[self.blocks.mine[last]].batch_key == batch_key:
            if self._sizes[self.blocks.mine[last]] != size:
                break
            last += 1
        mine, at = self.blocks.mine[first:last], self.share.start
        blocks = [self.blocks[b] for b in mine]
        marks, began = [block.mark() for block in blocks], time.perf_counter()
        try:
            asked = columns[:, at[first] : at[last]].reshape(len(columns), len(mine), size)
            found = type(blocks[0]).solve_together(blocks, self._signals(asked, flags, number))
            if isinstance(found, ResponseBatch):
                self._refuse(found, mine)
                texts = [""] * len(mine)
            else:
                texts = [self._trouble(b, r) for b, r in zip(mine, found, strict=True)]
        except (Exception, SystemExit) as error:  # solved alone, the block at fault says so itself
            self._say_alone(blocks[0], mine, error)
            for block, mark in zip(blocks, marks, strict=True):
                block.reset(mark)
            return 0
        each = (time.perf_counter() - began) / len(blocks)
        self._most = max(1, min(MOST_IN_BATCH, int(BATCH_S / max(each, 1e-9))))
        if isinstance(found, ResponseBatch):
            found = found.but(solve_time=each)
            parcel.put_rows(first, found)
        else:
            found = [r if r.solve_time else _timed(r, each) for r in found]
            for i, response in enumerate(found, first):
                parcel.put(i, response)
                self._warn(self.blocks.mine[i], response)
        for b, text in zip(mine, texts, strict=True):
            if text or self.texts:
                self._note(b, text)
        if flags & ASIDE:
            for block, mark in zip(blocks, marks, strict=True):
                block.reset(mark)
        if flags & KEEP:
            for i, b in enumerate(mine):
                if isinstance(found, ResponseBatch) or found[i].status.has_point:
                    self.blocks.keep(b, found, i)
        return len(mine)

    def _say_alone(self, block: Subproblem, mine: list[int], error: BaseException) -> None:
        """A batch could not be solved as one, and its blocks are solved one by one: said once for each error."""
        text = f"{type(block).__name__}.solve_together: {type(error).__name__}: {error}"
        log.debug("batch from block %s", self.layout.keys[mine[0]], exc_info=True)
        if text not in self._alone:
            self._alone.add(text)
            log.warning("%s; %d blocks from %s on are solved one by one", text, len(mine), self.layout.keys[mine[0]])

    def _refuse(self, found: ResponseBatch, mine: list[int]) -> None:
        """Raises TatonnementError where answers are not of the size their couplings declare, or not finite."""
        sizes, reports = {self._sizes[b] for b in mine}, {self._reports[b] for b in mine}
        fit = len(found) == len(mine) and {found.y.shape[1]} == sizes and {found.report.shape[1]} == reports
        if not (fit and np.isfinite(found.y).all() and np.isfinite(found.cost).all()):
            raise TatonnementError("answers that are not what the couplings declare")

    def _note(self, b: int, text: str) -> None:
        """Why block number b has no answer; "" = it has one."""
        self.texts.pop(str(self.layout.keys[b]), None)
        if text:
            self.texts[str(self.layout.keys[b])] = text

    def answer(self, b: int, op: int, columns: FloatArray, flags: int, number: int) -> Response:
        """One block's answer; kept for `detail` where the question says so."""
        before = self.blocks[b].mark() if flags & ASIDE else None
        response = self._one(b, op, columns, flags, number)
        if flags & ASIDE:
            self.blocks[b].reset(before)
        if flags & KEEP and response.status.has_point:
            self.blocks.keep(b, [response])
        self._warn(b, response)
        return response

    def _warn(self, b: int, response: Response) -> None:
        """What a block says of an answer that has a point, once."""
        if response.message and response.status.has_point and (b, response.message) not in self._warned:
            self._warned.add((b, response.message))
            log.warning("block %s: %s", self.layout.keys[b], response.message)

    def _one(self, b: int, op: int, columns: FloatArray, flags: int, question: int) -> Response:
        key, block, began = self.layout.keys[b], self.blocks[b], time.perf_counter()
        try:
            if op == EVALUATE:
                response = block.evaluate(columns[0])
            else:
                response = block.solve(self._signals(columns[:, None], flags, question)[0])
            text = self._trouble(b, response)
        except (Exception, SystemExit) as error:
            log.debug("block %s", key, exc_info=True)
            response, text = Response(columns[0], np.nan, status=Status.ERROR), f"{type(error).__name__}: {error}"
        self._note(b, text)
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


def _timed(response: Response, seconds: float) -> Response:
    return response.but(solve_time=seconds)
