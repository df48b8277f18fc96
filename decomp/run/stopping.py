"""When to stop, and what has then been achieved. A status starts as failure and earns success."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np

from decomp.messages import Check, FloatArray
from decomp.run.certificate import Certificate


class RunStatus(StrEnum):
    """What is held at the end; why the run stopped is told beside it."""

    CERTIFIED = "certified"
    CERTIFIED_LINEARISED = "certified_linearised"
    RESIDUAL = "residual"
    SECURE = "secure"
    ITERATION_LIMIT = "iteration_limit"
    TIME_LIMIT = "time_limit"
    INTERRUPTED = "interrupted"
    DIVERGED = "diverged"
    FAILED = "failed"


@dataclass(frozen=True)
class Iterate:
    """What a criterion may look at after round k.

    mismatch         largest |Z_b - Y_b| over the rows with a need, and largest |ybar_u - y_us|
    price_residual   largest difference between the next price and the price an answer stands for
    primal_residual  sqrt of the weighted sum of squares of mismatch and spread; dual_residual the same of prices
    primal_relative  primal_residual over primal_norm, dual_relative over dual_norm
    primal_norm      the norm of requests or of offers, whichever is larger; dual_norm that of the prices
    primal_count     sum of the weights in the primal norm (p entries of weight 1: p); dual_count in the dual one
    check            the coordinator's limits at the offers
    enough           the coordinator's limits would be met at what it asks for
    certificate      None in rounds without one
    """

    k: int
    mismatch: float
    price_residual: float
    primal_residual: float
    dual_residual: float
    primal_relative: float
    dual_relative: float
    check: Check
    certificate: Certificate | None
    elapsed_s: float
    primal_norm: float = 0.0
    dual_norm: float = 0.0
    primal_count: float = 0.0
    dual_count: float = 0.0
    enough: bool = True


@dataclass(frozen=True)
class Stop:
    """Why a run ends, and with what.

    recovered  the result is the point that the certificate has recovered, not the offers
    unsure     said again when a certificate has been made of the round, and counts only then
    """

    reason: str
    status: RunStatus
    recovered: bool = False
    unsure: bool = False


StoppingCriterion = Callable[[Iterate], Stop | None]


def period(visited: Sequence[FloatArray], longest: int = 8, times: int = 3) -> int:
    """Length of the cycle in which the last points repeat each other `times` times, 0 if they do not.

    A point is what was asked and answered in a round. It is the same again when it is off by less than a millionth of
    the way it has gone in between; to have stopped (length 1) it must be the same to 1e-12.
    """
    points = list(visited)
    for p in range(1, longest + 1):
        last = points[-p * times :]
        if len(last) < p * times:
            return 0
        way = max(_apart(a, b) for a, b in zip(last[1:], last[:-1], strict=True))
        enough = 1e-12 * _apart(last[-1], 0.0 * last[-1]) if p == 1 else 1e-6 * way
        if all(_apart(last[i], last[i - p]) <= enough for i in range(p, len(last))):
            return p
    return 0


def _apart(a: FloatArray, b: FloatArray) -> float:
    return float(np.max(np.abs(a - b), initial=0.0))


@dataclass(frozen=True)
class Gap:
    """Stop when the certified gap is small: `measure` = "coordination" or "total".

    floor  in cost units: where coordination can win less than this there is nothing to coordinate, and UB - LB <= floor
           is enough
    """

    tolerance: float
    floor: float
    measure: str = "coordination"

    needs_certificate: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.measure not in ("coordination", "total"):
            raise ValueError(f"measure is '{self.measure}'; it is 'coordination' or 'total'")
        if self.tolerance <= 0 or self.floor < 0:
            raise ValueError("tolerance must be positive and floor not negative")

    def __call__(self, iterate: Iterate) -> Stop | None:
        c = iterate.certificate
        if c is None or c.lower_bound is None or c.upper_bound is None or not c.feasible:
            return None
        nothing = c.neutral_bound is not None and c.upper_bound - c.neutral_bound <= self.floor
        gap = c.gap_coordination if self.measure == "coordination" else c.gap
        if nothing and c.upper_bound - c.lower_bound <= self.floor:
            reason = f"nothing to coordinate: at most {self.floor:g} can be won"
        elif gap is not None and gap <= self.tolerance:
            name = "gap_coordination" if self.measure == "coordination" else "gap"
            reason = f"{name} {gap:.2e} <= {self.tolerance:g}"
        else:
            return None
        linearised = c.bound_of == "linearised"
        return Stop(reason, RunStatus.CERTIFIED_LINEARISED if linearised else RunStatus.CERTIFIED)


@dataclass(frozen=True)
class Residual:
    """Stop when offers and requests agree within `quantity` and prices within `price`, in their own units."""

    quantity: float
    price: float

    def __post_init__(self) -> None:
        if self.quantity <= 0 or self.price <= 0:
            raise ValueError("quantity and price must be positive")

    def __call__(self, iterate: Iterate) -> Stop | None:
        if iterate.mismatch > self.quantity or iterate.price_residual > self.price:
            return None
        return Stop(
            f"mismatch {iterate.mismatch:.2e} <= {self.quantity:g} and "
            f"price residual {iterate.price_residual:.2e} <= {self.price:g}",
            RunStatus.RESIDUAL,
        )


@dataclass(frozen=True)
class RelativeResidual:
    """Stop when both residuals are small against what they are residuals of.

        |r| <= eps_abs sqrt(p) + eps_rel max(|Z|, |Y|),    |s| <= eps_abs_price sqrt(n) + eps_rel |price|

    Norms are those of the inner product: p and n are the sums of the weights of the entries.

    eps_rel        relative to requests or offers, and to prices
    eps_abs        in the unit of the offers, of an entry on average
    eps_abs_price  in the unit of the prices; None = eps_abs

    Boyd et al. (2011), section 3.3.1, eq. (3.12).
    """

    eps_abs: float
    eps_rel: float
    eps_abs_price: float | None = None

    def __post_init__(self) -> None:
        if min(self.eps_abs, self.eps_rel, self.eps_abs_price or 0.0) < 0 or self.eps_abs + self.eps_rel <= 0:
            raise ValueError("eps_abs, eps_rel and eps_abs_price must not be negative, and not both of eps be 0")

    def __call__(self, iterate: Iterate) -> Stop | None:
        price = self.eps_abs if self.eps_abs_price is None else self.eps_abs_price
        primal = self.eps_abs * np.sqrt(iterate.primal_count) + self.eps_rel * iterate.primal_norm
        dual = price * np.sqrt(iterate.dual_count) + self.eps_rel * iterate.dual_norm
        if iterate.primal_residual > primal or iterate.dual_residual > dual:
            return None
        return Stop(
            f"primal residual {iterate.primal_residual:.2e} <= {primal:.2e} and "
            f"dual residual {iterate.dual_residual:.2e} <= {dual:.2e}",
            RunStatus.RESIDUAL,
        )


@dataclass(frozen=True)
class Secure:
    """Stop when the coordinator's limits are met at the offers: the end of paper 1's Fig. 2. Says nothing of cost.

    surplus  share of the offers (norms) by which they may exceed the point that the certificate recovers from the
             answers; where they exceed it by more, as answers do that jump from one bound to the other, that point is
             the result, if the limits are met there
    settled  relative mismatch (`Iterate.primal_relative`) at which the offers are all that is asked for; where the
             limits would not be met at the request either, the run then ends as `residual`
    """

    surplus: float = 0.25
    settled: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.surplus > 0 and self.settled > 0):
            raise ValueError("surplus and settled must be positive")

    def __call__(self, iterate: Iterate) -> Stop | None:
        c = iterate.certificate
        if not iterate.check.feasible:
            if iterate.enough or iterate.primal_relative > self.settled:
                return None
            return Stop("the offers are all that is asked for, and do not keep every limit", RunStatus.RESIDUAL)
        if c is None:
            return Stop("all limits are met at the offers", RunStatus.SECURE, unsure=True)
        if c.surplus <= self.surplus:
            return Stop("all limits are met at the offers", RunStatus.SECURE)
        if c.check.feasible and c.upper_bound is not None:
            said = f"all limits are met at the recovered point, which {c.surplus:.0%} of the offers exceed"
            return Stop(said, RunStatus.SECURE, recovered=True)
        return None


@dataclass(frozen=True)
class Divergence:
    """Stop when the mismatch exceeds `factor` times `reference`, a mismatch worth speaking of in its own unit."""

    factor: float
    reference: float

    def __post_init__(self) -> None:
        if self.factor <= 1 or self.reference <= 0:
            raise ValueError("factor must be above 1 and reference (a mismatch worth speaking of) positive")

    def __call__(self, iterate: Iterate) -> Stop | None:
        if iterate.mismatch <= self.factor * self.reference:
            return None
        return Stop(
            f"mismatch {iterate.mismatch:.3g} exceeds {self.factor:g} x {self.reference:g}; the step is too large",
            RunStatus.DIVERGED,
        )


CRITERIA: dict[str, type] = {
    "gap": Gap,
    "residual": Residual,
    "relative_residual": RelativeResidual,
    "secure": Secure,
    "divergence": Divergence,
}
