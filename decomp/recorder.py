"""Collects what the result of a run needs, round by round, and tells the callbacks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from decomp.certificate import Certificate
from decomp.coordinator import Coordinator, evaluate_all
from decomp.fleet import Fleet
from decomp.layout import Answers, Layout
from decomp.messages import FloatArray, Request
from decomp.rules.base import Candidate
from decomp.stopping import Iterate, RunStatus, Stop
from decomp.trace import Result, Round, Row, UnitPrice


def residuals(
    layout: Layout, answers: Answers, request: Request, candidate: Candidate | None
) -> tuple[FloatArray, FloatArray]:
    """R (n,) and ybar - y (N,): of the round, or of the rule's own primal point where it keeps one."""
    if candidate is not None and candidate.mismatch is not None:
        alone = np.where(layout.node < 0, candidate.mismatch, 0.0)
        return layout.totals(candidate.mismatch), layout.to_blocks(alone)
    ybar = layout.mean(answers.y)
    return np.where(request.active, request.Z - layout.totals(ybar), 0.0), layout.to_blocks(ybar) - answers.y


class Recorder:
    """Collects what the result needs, and tells the callbacks."""

    def __init__(
        self, layout: Layout, coordinator: Coordinator, fleet: Fleet, callbacks: Sequence[Callable[[Row], None]]
    ) -> None:
        self.layout, self.coordinator, self.fleet, self.callbacks = layout, coordinator, fleet, callbacks
        self.rows: list[Row] = []
        self.prices: list[FloatArray] = []
        self.visited: deque[FloatArray] = deque(maxlen=24)  # what the detection of cycles looks at
        self.initial: Round | None = None
        self.final: Round | None = None
        self.certificate: Certificate | None = None
        self.stop = Stop("the run did not come to an end", RunStatus.FAILED)
        self._began = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def add(
        self,
        said: Round,
        candidate: Candidate | None,
        seen: Iterate,
        certificate: Certificate | None,
        stop: Stop | None,
    ) -> None:
        """One more round, with what was seen and proven of it."""
        self.initial = self.initial or said
        self.final, self.certificate = said, certificate or self.certificate
        self.prices.append(said.node_price)
        self.stop = stop or self.stop
        row = Row(
            round=said.k,
            worst=said.check.worst,
            worst_at=said.check.where,
            violation=said.check.violation,
            mismatch=seen.mismatch,
            mismatch_at=self._worst_entry(said, candidate),
            primal_residual=seen.primal_residual,
            dual_residual=seen.dual_residual,
            primal_relative=seen.primal_relative,
            dual_relative=seen.dual_relative,
            price_residual=seen.price_residual,
            cost=said.answers.expected_cost(),
            lower_bound=certificate.lower_bound if certificate else None,
            upper_bound=certificate.upper_bound if certificate else None,
            gap=certificate.gap if certificate else None,
            gap_coordination=certificate.gap_coordination if certificate else None,
            block_solves=self.fleet.block_solves,
            unit_prices=tuple(self._unit_prices(said)),
            wall_time_s=self.elapsed_s,
            solver_time_s=self.fleet.solver_time_s,
        )
        self.rows.append(row)
        for tell in self.callbacks:
            tell(row)

    def _worst_entry(self, said: Round, candidate: Candidate | None) -> str:
        R, spread = residuals(self.layout, said.answers, said.request, candidate)
        worst_R, worst_spread = np.max(np.abs(R), initial=0.0), np.max(np.abs(spread), initial=0.0)
        if max(worst_R, worst_spread) == 0:
            return ""
        if worst_R >= worst_spread:
            return self.coordinator.nodes[int(np.argmax(np.abs(R)))]
        return self.layout.entry_name(int(self.layout.entry[np.argmax(np.abs(spread))]))

    def _unit_prices(self, said: Round) -> Iterable[UnitPrice]:
        layout, names = self.layout, self.layout.names
        neutral = layout.to_units(np.asarray(self.coordinator.neutral))
        price = layout.to_units(said.node_price)
        for c, first, end in zip(layout.couplings, layout.first[:-1], layout.first[1:], strict=True):
            worst = int(first + np.argmax(np.abs(price[first:end] - neutral[first:end])))
            yield UnitPrice(c.unit, names[worst], float(price[worst]))

    def result(self, size: int) -> Result:
        """The final point: the recovered one if it is certified, else the offers of the last round."""
        stop, final, certificate = self.stop, self.final, self.certificate
        answers, request, check, price = None, None, None, None
        if final is not None:
            answers, check, price = final.answers, final.check, final.node_price
            certified = stop.status in (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)
            if certificate is not None and (certified or certificate.recovered == "offers"):
                answers, request, check = certificate.answers, certificate.request, certificate.check
                price = certificate.price if certified else price
                if certified and certificate.recovered == "request":
                    self.fleet.evaluate(answers.y, keep=True)
            elif stop.status != RunStatus.FAILED:
                offers = self.layout.totals(self.layout.mean(answers.y))
                request = evaluate_all(self.coordinator, offers, answers.reports())
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
            details=self.fleet.detail() if final is not None and stop.status != RunStatus.FAILED else {},
            block_solves=self.fleet.block_solves,
            wall_time_s=self.elapsed_s,
            solver_time_s=self.fleet.solver_time_s,
            ranks=size,
        )
