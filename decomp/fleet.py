"""All blocks of a case, dealt out over the ranks: the root calls, the others serve.

Every exchange begins with a header from the root, so that all collectives meet in the same order whatever happens. An
exception in a block becomes a status and a text and travels to the root like any answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from decomp.errors import BlockError, TatonnementError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, Key, Response, Signal, Status
from decomp.packing import Parcel, Share, unpack
from decomp.ranks import Ranks
from decomp.subproblem import Subproblem

log = logging.getLogger(__name__)

STOP, BUILD, SOLVE, EVALUATE, EXPLAIN, DETAIL = range(6)
Make = Callable[[Key], Subproblem]


class Fleet:
    """All blocks of a case, dealt out over the ranks. The root calls, the other ranks are in `serve`.

    Blocks are dealt round-robin in key order; answers are put back in key order before anything is summed, so a sum
    has the same bits on any number of ranks.
    """

    def __init__(self, ranks: Ranks, layout: Layout, make: Make) -> None:
        self.ranks, self.layout, self._make = ranks, layout, make
        self.sensitivity = False  # on the root: ask the blocks for dy/dprice, too
        self.owned = [np.arange(r, len(layout.keys), ranks.size) for r in range(ranks.size)]
        self._mine = self.owned[ranks.rank]
        self._blocks: dict[int, Subproblem] = {}
        self._last: dict[int, Response] = {}
        self._texts: dict[str, str] = {}
        self.block_solves = 0
        self.solver_time_s = 0.0
        self._shares = [Share(layout, own) for own in self.owned]
        self._sizes, self._reports = np.diff(layout.start).tolist(), np.diff(layout.report_start).tolist()
        self._limits = threadpool_limits(1)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ranks.rank == 0:
            self._header(STOP)

    # -- the root's side ---------------------------------------------------------------------------------------------

    def build(self) -> frozenset[str]:
        """Build every block on its rank; returns the abilities that all of them have. Raises BlockError."""
        self._header(BUILD)
        abilities = [a for a in self._do_build() if a is not None]
        self._raise_failures()
        return frozenset.intersection(*abilities) if abilities else frozenset()

    def solve(self, signals: Signals, *, keep: bool = True, aside: bool = False) -> Answers:
        """Every block's answer to its signal. Raises BlockError naming the blocks without a point.

        keep = False: a sweep for a certificate; `detail` goes on speaking of the last kept answers.
        aside: the blocks' warm states are put back afterwards, as if the question had not been asked.
        """
        flags = (signals.target is not None) + 2 * (signals.active is not None) + 4 * signals.exact
        flags += 8 * keep + 16 * aside + 32 * self.sensitivity
        self._header(SOLVE, flags, signals.id)
        columns = [signals.price]
        if signals.target is not None and signals.penalty is not None:
            columns += [signals.target, signals.penalty]
        if signals.active is not None:
            columns += [signals.active.astype(float)]
        return self._ask(SOLVE, np.stack(columns), flags, signals.id)

    def evaluate(self, y: FloatArray, *, keep: bool = True) -> Answers:
        """Every block's best answer with its coupling vector fixed at y (N,). A block without one has cost inf."""
        self._header(EVALUATE, 8 * keep)
        return self._ask(EVALUATE, y[None, :], 8 * keep, 0)

    def detail(self) -> dict[Key, Mapping[str, FloatArray]]:
        """Every block's own series at its last kept answer."""
        self._header(DETAIL)
        found = self._do_detail()
        assert found is not None
        return {key: series for part in found for key, series in part.items()}

    def _ask(self, op: int, columns: FloatArray, flags: int, question: int) -> Answers:
        gathered = self._do_ask(op, [share.question(columns) for share in self._shares], flags, question)
        assert gathered is not None
        sensitivity = bool(flags & 32)
        parcels = [Parcel(share, sensitivity, flat) for share, flat in zip(self._shares, gathered, strict=True)]
        answers = unpack(self.layout, parcels, question)
        self.block_solves += len(self.layout.keys)
        self.solver_time_s += max(float(answers.solve_time[own].sum()) for own in self.owned)
        if op == SOLVE:
            self._raise_failures(answers.status)
        return answers

    def _raise_failures(self, status: np.ndarray | None = None) -> None:
        if status is not None and np.all(status <= Status.FEASIBLE):
            return
        self._header(EXPLAIN)
        texts = self.ranks.gather_objects(self._texts)
        assert texts is not None
        failures = {name: why for part in texts for name, why in part.items()}
        if failures:
            raise BlockError(dict(sorted(failures.items())))

    def _header(self, op: int, flags: int = 0, question: int = 0) -> None:
        self.ranks.broadcast(np.array([op, flags, question], np.int64))

    # -- every rank's side -------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer the root until it says stop."""
        header = np.zeros(3, np.int64)
        while True:
            self.ranks.broadcast(header)
            op, flags, question = (int(x) for x in header)
            if op == STOP:
                return
            if op == BUILD:
                self._do_build()
            elif op == EXPLAIN:
                self.ranks.gather_objects(self._texts)
            elif op == DETAIL:
                self._do_detail()
            else:
                self._do_ask(op, None, flags, question)

    def _do_build(self) -> list[frozenset[str] | None]:
        self._texts = {}
        abilities: frozenset[str] | None = None
        for b in self._mine:
            key = self.layout.keys[b]
            try:
                self._blocks[int(b)] = block = self._make(key)
                abilities = block.abilities if abilities is None else abilities & block.abilities
            except TatonnementError as error:
                self._texts[str(key)] = str(error)
            except (Exception, SystemExit) as error:
                log.debug("building block %s", key, exc_info=True)
                self._texts[str(key)] = f"could not be built: {type(error).__name__}: {error}"
        return self.ranks.gather_objects(abilities) or []

    def _do_ask(self, op: int, parts: list[FloatArray] | None, flags: int, question: int) -> list[FloatArray] | None:
        n_columns = 1 if op == EVALUATE else 1 + 2 * bool(flags & 1) + bool(flags & 2)
        share, sensitivity = self._shares[self.ranks.rank], bool(flags & 32)
        columns = self.ranks.scatter(parts, len(share.entries) * n_columns).reshape(n_columns, -1)
        self._texts = {}
        parcel, at = Parcel(share, sensitivity), share.start.tolist()
        for i, b in enumerate(self._mine.tolist()):
            before = self._blocks[b].save() if flags & 16 else None
            response = self._one(b, op, columns[:, at[i] : at[i + 1]], flags, question)
            if before is not None:
                self._blocks[b].load(before)
            if flags & 8:
                self._last[b] = response
            parcel.put(i, response)
        return self.ranks.gather(parcel.flat, [s.length(sensitivity) for s in self._shares])

    def _one(self, b: int, op: int, columns: FloatArray, flags: int, question: int) -> Response:
        key, block, began = self.layout.keys[b], self._blocks[b], time.perf_counter()
        try:
            if op == EVALUATE:
                response = block.evaluate(columns[0])
            else:
                target, penalty = (columns[1], columns[2]) if flags & 1 else (None, None)
                active = columns[-1] > 0 if flags & 2 else None
                response = block.solve(Signal(columns[0], target, penalty, active, bool(flags & 4), question))
            text = self._trouble(b, response)
        except (Exception, SystemExit) as error:
            log.debug("block %s", key, exc_info=True)
            response, text = Response(columns[0], np.nan, status=Status.ERROR), f"{type(error).__name__}: {error}"
        if text:
            self._texts[str(key)] = text
        spent = time.perf_counter() - began
        return response if response.solve_time else _timed(response, spent)

    def _trouble(self, b: int, response: Response) -> str:
        if not response.status.has_point:
            return response.message or response.status.name.lower()
        n, m = self._sizes[b], self._reports[b]
        if np.shape(response.y) != (n,):
            raise TatonnementError(f"answered with y of shape {np.shape(response.y)}, its coupling has {n} entries")
        if np.shape(response.report) != (m,):
            raise TatonnementError(f"reported {np.shape(response.report)} values, its coupling declares {m}")
        if not (np.all(np.isfinite(response.y)) and np.isfinite(response.cost)):
            raise TatonnementError("answered with a value that is not finite")
        return ""

    def _do_detail(self) -> list[dict[Key, Mapping[str, FloatArray]]] | None:
        return self.ranks.gather_objects({self.layout.keys[b]: self._series(b, r) for b, r in self._last.items()})

    def _series(self, b: int, response: Response) -> Mapping[str, FloatArray]:
        try:
            return self._blocks[b].detail(response)
        except (Exception, SystemExit) as error:  # a finished run is not lost for a table
            log.warning("block %s has no detail: %s: %s", self.layout.keys[b], type(error).__name__, error)
            return {}


def _timed(response: Response, seconds: float) -> Response:
    return replace(response, solve_time=seconds)
