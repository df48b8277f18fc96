"""What a unit expects to be paid for reactive power: the regions of its capability curve. Paper 2, eqs. (4), (13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, model_validator

from decomp.messages import FloatArray
from problems.microgrid.unit import AlgebraicTerm, Size


class ReactiveOffer(BaseModel):
    """EPF(Q) = gamma0 + gamma1 [-Q - Q_under]+ + gamma2 [min(Q, Q_N) - Q_mnd]+ + third(Q).

    third = 1/2 gamma3 [Q^2 - Q_N^2]+ ("quadratic": the integral of gamma3 Q, as in Bhattacharya and Zhong, IEEE Trans.
    Power Systems 16 (2001)) or gamma3 [Q - Q_N]+ ("linear": as paper 2 prints it). Q_under = 0 for a machine; for a
    converter Q_under = Q_mnd = Q_base and there is no third region, eq. (13).

    gamma0_usd_per_h       availability
    gamma1, gamma2         $/Mvarh
    gamma3                 $/Mvar^2h if quadratic, else $/Mvarh
    q_under_mvar, q_mnd_mvar, q_n_mvar  where the regions end; q_n_mvar = None: there is no third region
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gamma0_usd_per_h: Size = 0.0
    gamma1: Size = 0.0
    gamma2: Size = 0.0
    gamma3: Size = 0.0
    third: Literal["quadratic", "linear"] = "quadratic"
    q_under_mvar: Size = 0.0
    q_mnd_mvar: Size = 0.0
    q_n_mvar: Size | None = None

    @model_validator(mode="after")
    def _slopes_rise(self) -> Self:
        if self.q_n_mvar is None:
            return self
        if self.q_n_mvar < self.q_mnd_mvar:
            raise ValueError(f"q_n_mvar = {self.q_n_mvar:g} is below q_mnd_mvar = {self.q_mnd_mvar:g}")
        if self._third_slope < self.gamma2:
            raise ValueError(
                f"the third region begins at {self._third_slope:g} $/Mvarh, below gamma2 = {self.gamma2:g}: "
                "an offer that grows cheaper is not convex; raise gamma3"
            )
        return self

    @property
    def _third_slope(self) -> float:
        return self.gamma3 * ((self.q_n_mvar or 0.0) if self.third == "quadratic" else 1.0)

    def payment_usd_per_h(self, q_mvar: ArrayLike) -> FloatArray:
        """EPF(Q), any shape."""
        q = np.asarray(q_mvar, np.float64)
        top = np.inf if self.q_n_mvar is None else self.q_n_mvar
        paid = self.gamma0_usd_per_h + self.gamma1 * np.maximum(-q - self.q_under_mvar, 0.0)
        paid = paid + self.gamma2 * np.maximum(np.minimum(q, top) - self.q_mnd_mvar, 0.0)
        if self.q_n_mvar is None:
            return np.asarray(paid)
        above = np.maximum(q, top)
        beyond = (above**2 - top**2) / 2 if self.third == "quadratic" else above - top
        return np.asarray(paid + self.gamma3 * beyond)

    def add(
        self, b: pyo.Block, q_mvar: Any, steps: Sequence[int], dt_h: float
    ) -> tuple[list[Any], list[AlgebraicTerm]]:
        """EPF less availability as a cost in $ of each step, and its convex term: Q is cut into its regions."""
        b.q_under_mvar = pyo.Var(steps, bounds=(0.0, None))
        b.q_second_mvar = pyo.Var(steps, bounds=(0.0, None))
        b.q_third_mvar = pyo.Var(steps, bounds=(0.0, None))
        for k in steps:
            if self.q_n_mvar is None:
                b.q_third_mvar[k].setub(0.0)
            else:
                b.q_second_mvar[k].setub(self.q_n_mvar - self.q_mnd_mvar)

        @b.Constraint(steps)
        def above_the_free_region(b: pyo.Block, k: int) -> object:
            return q_mvar[k] <= self.q_mnd_mvar + b.q_second_mvar[k] + b.q_third_mvar[k]

        @b.Constraint(steps)
        def below_the_free_region(b: pyo.Block, k: int) -> object:
            return -q_mvar[k] <= self.q_under_mvar + b.q_under_mvar[k]

        costs = [
            dt_h * (self.gamma1 * b.q_under_mvar[k] + self.gamma2 * b.q_second_mvar[k]
                    + self._third_slope * b.q_third_mvar[k])
            for k in steps
        ]  # fmt: skip
        if self.q_n_mvar is None or self.third == "linear" or self.gamma3 == 0:
            return costs, []
        b.q_third_usd = pyo.Var(steps, bounds=(0.0, None))
        half = dt_h * self.gamma3 / 2  # 1/2 gamma3 ((Q_N + r)^2 - Q_N^2) = gamma3 Q_N r + 1/2 gamma3 r^2
        term = AlgebraicTerm(
            [b.q_third_usd[k] for k in steps],
            ([b.q_third_mvar[k] for k in steps],),
            lambda r: half * r**2,
            lambda r: [2 * half * r],
            f"{b.name}.q_third_usd",
            exact=lambda t, r: t >= half * r**2,
            money=True,
        )
        return [cost + b.q_third_usd[k] for k, cost in zip(steps, costs, strict=True)], [term]
