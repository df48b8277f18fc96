"""Collects what the result of a run needs, round by round, and tells the callbacks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from decomp.coordinator import Coordinator
from decomp.errors import CheckpointError, TatonnementError
from decomp.layout import Answers, Layout
from decomp.messages import FloatArray, Key, Request
from decomp.parallel.block_pool import BlockPool, Counts
from decomp.parallel.vocabulary import misfit
from decomp.rules.base import Candidate
from decomp.run.certificate import Certificate
from decomp.run.result import Result, Round, Row, UnitPrice
from decomp.run.result_files import GrowingFiles
from decomp.run.stopping import Iterate, RunStatus, Stop

log = logging.getLogger(__name__)

KEPT = tuple(f.name for f in fields(Row) if f.name != "unit_prices")


def residuals(
    layout: Layout, answers: Answers, request: Request, candidate: Candidate | None
) -> tuple[FloatArray, FloatArray]:
    """R (n,) and ybar - y (N,): of the round, or of the rule's own primal point where it keeps one."""
    if candidate is not None and candidate.mismatch is not None:
        alone = np.where(layout.node < 0, candidate.mismatch, 0.0)
        return layout.totals(candidate.mismatch), layout.to_blocks(alone)
    ybar = layout.mean(answers.y)
    return np.where(request.active, request.Z - layout.totals(ybar), 0.0), layout.to_blocks(ybar) - answers.y


Stale = Iterable[Key]


@dataclass(frozen=True, eq=False)
class RoundsSoFar:
    """What the rounds so far have left. rows: by columns, as there may be thousands; prices (rounds, n)."""

    rows: Mapping[str, list[Any]]
    prices: FloatArray
    visited: list[FloatArray]
    initial: Round | None
    final: Round | None
    certificate: Certificate | None
    stale_since: Mapping[str, int]
    elapsed_s: float
    block_solves: int
    solver_time_s: float
    offers: int


class Recorder:
    """Collects what the result needs, tells the callbacks, and lets the files grow."""

    def __init__(
        self,
        layout: Layout,
        coordinator: Coordinator,
        block_pool: BlockPool,
        callbacks: Sequence[Callable[[Row], None]],
        files: GrowingFiles | None = None,
        *,
        schedules: bool = True,
    ) -> None:
        self.layout, self.coordinator, self.block_pool, self.callbacks = layout, coordinator, block_pool, callbacks
        self.files, self.schedules = files, schedules
        self.rows: list[Row] = []
        self.prices: list[FloatArray] = []
        self.visited: deque[FloatArray] = deque(maxlen=24)  # what the detection of cycles looks at
        self.initial: Round | None = None
        self.final: Round | None = None
        self.certificate: Certificate | None = None
        self._proven_now = False  # the certificate is of the last round
        self.stale_since: dict[str, int] = {}
        self.stop = Stop("the run did not come to an end", RunStatus.FAILED)
        self._began, self._earlier_s = time.perf_counter(), 0.0

    @property
    def elapsed_s(self) -> float:
        """Of the whole run, also before it was resumed."""
        return self._earlier_s + self.spent_s

    @property
    def spent_s(self) -> float:
        """Of this job."""
        return time.perf_counter() - self._began

    def add(
        self,
        said: Round,
        w: FloatArray,
        candidate: Candidate | None,
        seen: Iterate,
        certificate: Certificate | None,
        stale: Stale,
    ) -> None:
        """One more round, the multipliers (N,) it led to, what was seen and proven of it; `publish` tells it."""
        self.initial = self.initial or said
        self.final = said
        self._proven_now = certificate is not None
        if certificate is not None or self.coordinator.linearises:  # else what was proven before still holds
            self.certificate = certificate
        self.prices.append(said.node_price)
        self.stale_since = {name: self.stale_since.get(name, said.k) for name in map(str, stale)}
        spread, spread_at = self.layout.spread(said.answers.y)
        multiplier_sum, multiplier_sum_at = self.layout.multiplier_sum(w)
        row = Row(
            round=said.k,
            worst=said.check.worst,
            worst_at=said.check.where,
            violation=said.check.violation,
            mismatch=seen.mismatch,
            mismatch_at=self._worst_entry(said, candidate),
            spread=spread,
            spread_at=spread_at,
            multiplier_sum=multiplier_sum,
            multiplier_sum_at=multiplier_sum_at,
            primal_residual=seen.primal_residual,
            dual_residual=seen.dual_residual,
            primal_relative=seen.primal_relative,
            dual_relative=seen.dual_relative,
            price_residual=seen.price_residual,
            cost=said.answers.expected_cost(),
            **_proven(certificate),
            block_solves=self.block_pool.counts.block_solves,
            unit_prices=tuple(self._unit_prices(said.node_price)),
            wall_time_s=self.elapsed_s,
            solver_time_s=self.block_pool.counts.solver_time_s,
            stale_blocks="; ".join(self.stale_since),
            late_blocks=0 if said.answers.late is None else int(np.sum(said.answers.late)),
        )
        self.rows.append(row)
        self._into_files(lambda files: files.add_offers(said, self.coordinator.nodes))

    def prove(self, certificate: Certificate) -> None:
        """What was proven of the last round after it had been added."""
        self.certificate, self._proven_now = certificate, True
        self.rows[-1] = replace(
            self.rows[-1],
            **_proven(certificate),
            block_solves=self.block_pool.counts.block_solves,
            wall_time_s=self.elapsed_s,
            solver_time_s=self.block_pool.counts.solver_time_s,
        )

    def publish(self) -> None:
        """The last round is complete: into the files, and to the callbacks."""
        row = self.rows[-1]
        self._into_files(lambda files: files.add(row, self.prices[-1], self.coordinator.nodes))
        for tell in self.callbacks:
            tell(row)

    def _into_files(self, add: Callable[[GrowingFiles], None]) -> None:
        if self.files is None:
            return
        try:
            add(self.files)
        except OSError as error:
            # the run is worth more than its log: what can be written at its end will be
            log.warning("round %d is not in the files, and no later one will be: %s", self.rows[-1].round, error)
            self.files = None

    # -- a run that is resumed --------------------------------------------------------------------------------------

    def memory(self) -> RoundsSoFar:
        """What the rounds so far have left, as plain data."""
        return RoundsSoFar(
            rows={name: [getattr(row, name) for row in self.rows] for name in KEPT},
            prices=np.array(self.prices),
            visited=list(self.visited),
            initial=_without_model(self.initial),
            final=_without_model(self.final),
            certificate=self.certificate,
            stale_since=self.stale_since,
            elapsed_s=self.elapsed_s,
            block_solves=self.block_pool.counts.block_solves,
            solver_time_s=self.block_pool.counts.solver_time_s,
            offers=self.files.offers_so_far() if self.files is not None else 0,
        )

    def check(self, memory: RoundsSoFar) -> None:
        """Raises CheckpointError where that cannot be what a recorder of this run has left."""
        hints = get_type_hints(Row)
        if set(memory.rows) != set(KEPT):
            raise CheckpointError("its rows have other columns than those of this version")
        if memory.prices.shape[1:] != (len(self.coordinator.nodes),):
            raise CheckpointError(f"its prices have the shape {memory.prices.shape}")
        for name, values in memory.rows.items():
            wrong = next(filter(None, (misfit(value, hints[name]) for value in values)), "")
            if wrong or len(values) != len(memory.prices):
                raise CheckpointError(f"its rows have {wrong or f'{len(values)} values'} in {name}")

    def restore(self, memory: RoundsSoFar, source: Path) -> None:
        """Go on from what `memory` gave; source: the folder with the files of then. Raises OSError."""
        self.prices = list(memory.prices)
        columns = zip(*(memory.rows[name] for name in KEPT), strict=True)
        self.rows = [
            Row(**dict(zip(KEPT, values, strict=True)), unit_prices=tuple(self._unit_prices(price)))
            for values, price in zip(columns, self.prices, strict=True)
        ]
        self.visited.extend(memory.visited)
        self.initial, self.final, self.certificate = memory.initial, memory.final, memory.certificate
        self.stale_since, self._earlier_s = dict(memory.stale_since), memory.elapsed_s
        self.block_pool.counts = Counts(memory.block_solves, memory.solver_time_s)
        if self.files is not None:
            self.files.restore(self.rows, self.prices, self.coordinator.nodes, source, memory.offers)

    def _worst_entry(self, said: Round, candidate: Candidate | None) -> str:
        R, spread = residuals(self.layout, said.answers, said.request, candidate)
        worst_R, worst_spread = np.max(np.abs(R), initial=0.0), np.max(np.abs(spread), initial=0.0)
        if max(worst_R, worst_spread) == 0:
            return ""
        if worst_R >= worst_spread:
            return self.coordinator.nodes[int(np.argmax(np.abs(R)))]
        return self.layout.entry_name(int(self.layout.entry[np.argmax(np.abs(spread))]))

    def _unit_prices(self, node_price: FloatArray) -> Iterable[UnitPrice]:
        layout, names = self.layout, self.layout.names
        neutral = layout.to_units(np.asarray(self.coordinator.neutral))
        price = layout.to_units(node_price)
        for c, first, end in zip(layout.couplings, layout.first[:-1], layout.first[1:], strict=True):
            worst = int(first + np.argmax(np.abs(price[first:end] - neutral[first:end])))
            yield UnitPrice(c.unit, names[worst], float(price[worst]))

    def result(self, size: int) -> Result:
        """The final point: the certified one, else the incumbent, else the offers of the last round."""
        stop, final, certificate = self.stop, self.final, self.certificate
        answers, request, check, price = None, None, None, None
        if final is not None:
            answers, check, price = final.answers, final.check, final.node_price
            certified = stop.status in (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)
            certified = certified or stop.recovered
            incumbent = certificate is not None and certificate.is_incumbent
            if certificate is not None and (
                certified or incumbent or (self._proven_now and certificate.recovered == "offers")
            ):
                answers, request, check = certificate.answers, certificate.request, certificate.check
                price = certificate.price if certified else price
                # scenarios that agree stand at their mean, which is not what the round's answers were
                moved = certificate.recovered == "request" or not np.array_equal(answers.y, final.answers.y)
                if moved and (certified or (incumbent and stop.status != RunStatus.FAILED)):
                    self.block_pool.evaluate(answers.y, keep=True)
            elif stop.status != RunStatus.FAILED:
                offers = self.layout.totals(self.layout.mean(answers.y))
                try:
                    request = self.block_pool.parts_of(self.coordinator).evaluate(offers, answers.reports())
                except TatonnementError as error:  # what was computed is not lost for the price of its last point
                    log.warning("the offers of the last round have no objective: %s", error)
        return Result(
            status=stop.status,
            reason=stop.reason,
            layout=self.layout,
            coordinator=self.coordinator,
            rows=tuple(self.rows),
            prices=tuple(self.prices),
            initial=self.initial,
            final=final,
            answers=answers,
            request=request,
            check=check,
            price=price,
            certificate=certificate,
            details=self.block_pool.detail() if self.schedules and final and stop.status != RunStatus.FAILED else {},
            block_solves=self.block_pool.counts.block_solves,
            wall_time_s=self.elapsed_s,
            solver_time_s=self.block_pool.counts.solver_time_s,
            ranks=size,
        )


def _proven(certificate: Certificate | None) -> dict[str, Any]:
    names = ("lower_bound", "upper_bound", "gap", "gap_coordination")
    return {name: getattr(certificate, name) if certificate else None for name in names}


def _without_model(said: Round | None) -> Round | None:
    """The coordinator's model of a round is the rule's business, and large."""
    return said and replace(said, request=replace(said.request, model=None))
