"""Progressive hedging: the scenarios of a unit agree on what must be decided before they part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import Query, Request
from decomp.rules.admm import ADMM
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule


@dataclass(frozen=True)
class ProgressiveHedging(UpdateRule):
    """Consensus ADMM without a coordinator; round 0 is wait-and-see, without a penalty.

        y_s  = argmin f_s - <w_s, y> + rho/2 |y - ybar|^2,   ybar = sum_s pi_s y_s
        w_s += rho (ybar - y_s),   so that sum_s pi_s w_s = 0

    w is minus the W of its literature. One rho > 0 for all scenarios of a unit, or the bound sum_s pi_s min(f_s -
    <w_s, y>) would be none; entries may differ: a value-at-risk in money needs another one than acres of land.

    penalty     rho, by entry name where they differ; None = cost-proportional, c_i / spread_i after the first round,
                then balanced per entry and accelerated (see ADMM)
    unit_cost   c_i, cost of one unit of an entry, by entry name where they differ; None = expected |cost| of the unit
                over the size of its offer
    factor      on the penalty; relaxation, adapt, anderson, settle_rounds as in ADMM

    needs: blocks that take a target and a penalty. reveals: y; its expected cost in the first round if neither penalty
    nor unit_cost is given. wins when: scenarios are many and what they must agree on is small.
    Rockafellar and Wets (1991); penalties: Watson and Woodruff (2011).
    """

    penalty: Constant | None = None
    unit_cost: Constant | None = None
    factor: float = 1.0
    relaxation: float | None = None
    adapt: Literal["fixed", "balanced", "spectral"] | None = None
    anderson: int | None = None
    settle_rounds: int = 10

    needs: ClassVar[frozenset[str]] = frozenset({"penalty"})
    reveals: ClassVar[str] = "y, cost"

    def __post_init__(self) -> None:
        self._admm()

    def _admm(self) -> ADMM:
        return ADMM(
            agreement_penalty=self.penalty,
            first_round="free",
            relaxation=self.relaxation,
            adapt=self.adapt,
            anderson=self.anderson,
            settle_rounds=self.settle_rounds,
            penalty_factor=self.factor,
            unit_cost=self.unit_cost,
        )

    def init(self, setup: Setup) -> State:
        if np.any(setup.layout.node >= 0):
            raise ValueError("progressive hedging only makes scenarios agree, this case also prices nodes: use admm")
        return self._admm().init(setup)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        return self._admm().ask(k, state)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        return self._admm().query(k, state, answers)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        return self._admm().update(k, state, answers, request)
