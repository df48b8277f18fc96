"""Additional active-power losses by reactive power. Paper 2, eqs. (7)-(8), (14)-(15), (18)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.messages import FloatArray
from problems.microgrid.unit import AlgebraicTerm, Size


def excess(p: FloatArray, q: FloatArray) -> FloatArray:
    """ds = sqrt(P^2 + Q^2) - P = Q^2 / (S + P), P >= 0; convex. Paper 2, eq. (7) (there against P at Q = 0)."""
    total = np.hypot(p, q) + p
    return np.where(total > 0, q**2 / np.where(total > 0, total, 1.0), np.abs(q))


def excess_gradient(p: FloatArray, q: FloatArray) -> Sequence[FloatArray]:
    """d(S - P)/dP = P/S - 1, d(S - P)/dQ = Q/S; the subgradient 0 at the origin."""
    s = np.hypot(p, q)
    safe = np.where(s > 0, s, 1.0)
    return [np.where(s > 0, -excess(p, q) / safe, 0.0), q / safe]


def excess_term(b: pyo.Block, loss_mw: Any, p_mw: Any, q_mvar: Any, steps: Sequence[int]) -> AlgebraicTerm:
    """loss_mw[k] >= S - P of the variables p_mw[k], q_mvar[k]."""
    return AlgebraicTerm(
        [loss_mw[k] for k in steps],
        ([p_mw[k] for k in steps], [q_mvar[k] for k in steps]),
        excess,
        excess_gradient,
        f"{b.name}.loss_mw",
        exact=lambda t, p, q: t * (t + 2 * p) >= q**2,
    )


class LossRegions(BaseModel):
    """Loss by region of |Q|: rate_i for each Mvar between from_i and from_{i+1}, as a manufacturer gives it (Fig. 3).

    from_mvar     where each region begins, rising from 0
    w_per_kvar    loss rate of each region in W per kvar, not falling
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_mvar: tuple[Size, ...] = Field(min_length=1)
    w_per_kvar: tuple[Size, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _regions_are_in_order(self) -> Self:
        if len(self.from_mvar) != len(self.w_per_kvar):
            raise ValueError(f"{len(self.from_mvar)} regions begin, {len(self.w_per_kvar)} have a rate")
        if self.from_mvar[0] != 0 or list(self.from_mvar) != sorted(set(self.from_mvar)):
            raise ValueError(f"from_mvar = {list(self.from_mvar)} must rise from 0")
        if list(self.w_per_kvar) != sorted(self.w_per_kvar):
            raise ValueError(f"w_per_kvar = {list(self.w_per_kvar)} must not fall: the loss would not be convex")
        return self

    @property
    def lines(self) -> list[tuple[float, float]]:
        """(intercept, slope) in MW and MW/Mvar of the straight pieces; the loss is the greatest of them."""
        pieces, loss, last = [], 0.0, (0.0, 0.0)
        for begin, rate in zip(self.from_mvar, self.w_per_kvar, strict=True):
            loss += last[1] * (begin - last[0])
            slope = rate / 1000.0
            pieces.append((loss - slope * begin, slope))
            last = (begin, slope)
        return pieces

    def loss_mw(self, q_mvar: ArrayLike) -> FloatArray:
        """Loss at any Q, any shape."""
        return _greatest(self.lines, q_mvar)


class ConverterLoss(BaseModel):
    """loss(S) = I_0 + I_v S + I_R S^2 in MW, S in MVA. Paper 2, eqs. (14), (18).

    standby_mw, per_mva, per_mva2   I_0, I_v, I_R. In a step without power the converter is switched off
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    standby_mw: Size
    per_mva: Size
    per_mva2: Size

    def loss_mw(self, p_mw: ArrayLike, q_mvar: ArrayLike) -> FloatArray:
        """Loss at (P, Q), any shape."""
        s = np.hypot(np.asarray(p_mw, np.float64), np.asarray(q_mvar, np.float64))
        return np.asarray(self.standby_mw + self.per_mva * s + self.per_mva2 * s**2)

    def additional_mw(self, p_mw: ArrayLike, q_mvar: ArrayLike) -> FloatArray:
        """loss(P, Q) - loss(P, 0) = I_v (S - P) + I_R Q^2."""
        p, q = np.asarray(p_mw, np.float64), np.asarray(q_mvar, np.float64)
        return np.asarray(self.per_mva * excess(p, q) + self.per_mva2 * q**2)

    def term(
        self, b: pyo.Block, loss_mw: Any, p_mw: Any, q_mvar: Any, steps: Sequence[int], additional: bool
    ) -> AlgebraicTerm:
        """loss_mw[k] >= the loss at the variables p_mw[k], q_mvar[k], or only what Q adds to it."""

        def slopes(p: FloatArray, q: FloatArray) -> Sequence[FloatArray]:
            if additional:
                by_p, by_q = excess_gradient(p, q)
                return [self.per_mva * by_p, self.per_mva * by_q + 2 * self.per_mva2 * q]
            s = np.hypot(p, q)
            along = self.per_mva / np.where(s > 0, s, 1.0) + 2 * self.per_mva2
            return [along * p, along * q]

        def exact(t: Any, p: Any, q: Any) -> Any:
            s = (p**2 + q**2 + SMOOTH) ** 0.5
            if additional:
                return t >= self.per_mva * (s - p) + self.per_mva2 * q**2
            return t >= self.standby_mw + self.per_mva * s + self.per_mva2 * (p**2 + q**2)

        return AlgebraicTerm(
            [loss_mw[k] for k in steps],
            ([p_mw[k] for k in steps], [q_mvar[k] for k in steps]),
            self.additional_mw if additional else self.loss_mw,
            slopes,
            f"{b.name}.loss_mw",
            exact=exact,
        )


SMOOTH = 1e-12  # MVA^2: keeps the root differentiable at the origin for solvers of nonlinear models


class LossSteps(BaseModel):
    """loss = x_i percent of |Q| for y_i < |Q|/Q_max <= y_{i+1} (percent): jumps upwards at each y. Paper 2, eq. (15).

    In the model its convex envelope stands for it; `error_mw` says how far that is below.

    x_percent  of each step, rising;  y_percent  ends of the steps, one more than x, from 0 to 100
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    x_percent: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(min_length=1)
    y_percent: tuple[Annotated[float, Field(ge=0, le=100)], ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _steps_are_in_order(self) -> Self:
        if len(self.y_percent) != len(self.x_percent) + 1:
            raise ValueError(f"{len(self.x_percent)} steps have {len(self.x_percent) + 1} ends, not y_percent's count")
        if self.y_percent[0] != 0 or self.y_percent[-1] != 100 or list(self.y_percent) != sorted(set(self.y_percent)):
            raise ValueError(f"y_percent = {list(self.y_percent)} must rise from 0 to 100")
        if list(self.x_percent) != sorted(self.x_percent):
            raise ValueError(f"x_percent = {list(self.x_percent)} must not fall")
        return self

    def loss_mw(self, q_mvar: ArrayLike, q_max_mvar: float) -> FloatArray:
        """The printed loss with its jumps, at |Q| <= Q_max, any shape."""
        q = np.abs(np.asarray(q_mvar, np.float64))
        step = np.searchsorted(np.array(self.y_percent[1:-1]) / 100 * q_max_mvar, q, side="left")
        return np.asarray(np.array(self.x_percent)[step] / 100 * q)

    def lines(self, q_max_mvar: float) -> list[tuple[float, float]]:
        """(intercept, slope) of the straight pieces of the greatest convex function below the loss.

        It is the lower hull of the lower ends (y_{i+1}, x_i y_{i+1}) of the jumps.
        """
        ends = np.array(self.y_percent[1:]) / 100 * q_max_mvar
        hull = [(0.0, 0.0)]
        for q, loss in zip(ends, np.array(self.x_percent) / 100 * ends, strict=True):
            while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (q, loss)):
                hull.pop()
            hull.append((float(q), float(loss)))
        slopes = [_slope(*pair) for pair in pairwise(hull)]
        return [(loss - slope * q, slope) for (q, loss), slope in zip(hull, slopes, strict=False)]

    def envelope_mw(self, q_mvar: ArrayLike, q_max_mvar: float) -> FloatArray:
        """The convex envelope, any shape."""
        return _greatest(self.lines(q_max_mvar), q_mvar)

    def error_mw(self, q_max_mvar: float) -> float:
        """The most by which the envelope is below the loss: right after a jump."""
        jumps = np.array(self.y_percent[1:-1]) / 100 * q_max_mvar
        after = np.array(self.x_percent[1:]) / 100 * jumps
        return float(np.max(after - self.envelope_mw(jumps, q_max_mvar), initial=0.0))


def add_lines(
    b: pyo.Block, loss_mw: Any, q_mvar: Any, steps: Sequence[int], lines: Sequence[tuple[float, float]]
) -> None:
    """loss_mw[k] >= intercept + slope |q_mvar[k]| for every line."""

    @b.Constraint(steps, range(len(lines)), (1, -1))
    def loss_by_region(b: pyo.Block, k: int, i: int, side: int) -> object:
        intercept, slope = lines[i]
        return loss_mw[k] >= intercept + side * slope * q_mvar[k]


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _greatest(lines: Sequence[tuple[float, float]], q_mvar: ArrayLike) -> FloatArray:
    q = np.abs(np.asarray(q_mvar, np.float64))
    return np.asarray(np.max([intercept + slope * q for intercept, slope in lines], axis=0))
