"""A unit that sells along a ladder of offers under a daily budget: its answers are exact and take microseconds.

    f(y) = sum_i weight_i f_i(y_i),  f_i convex, piecewise quadratic, f_i(0) = 0;   sum_i weight_i |y_i| <= budget

With one rung a side and curvature it is a strongly convex QP, with several flat rungs an LP. The budget couples all
entries, so an answer is a water-filling: one multiplier mu >= 0 of the budget, found exactly among its breakpoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.integer_pattern import CONVEX
from decomp.messages import BoolArray, FloatArray, IntArray, Response, Signal, Status
from decomp.subproblem import Subproblem

ROUNDING = 1e-9  # relative: what a sum may miss a limit by and still be called equal to it


@dataclass(frozen=True, eq=False)
class Rungs:
    """The rungs of all entries, on either side of 0, from inside out.

    entry (J,)  the coupling entry a rung belongs to
    side (J,)   +1 upwards from 0, -1 downwards
    inner (J,)  y at the rung's end towards 0;  width (J,) > 0
    cost (J,)   price at which the rung begins to be sold: side * f'(inner), moving away from 0
    curvature (n,) >= 0 second derivative of f_i;  weight (n,);  budget: inf = none
    """

    entry: IntArray
    side: FloatArray
    inner: FloatArray
    width: FloatArray
    cost: FloatArray
    curvature: FloatArray
    weight: FloatArray
    budget: float

    @classmethod
    def stacked(
        cls, width: FloatArray, up: FloatArray, down: FloatArray, curvature: FloatArray, budget: float = np.inf
    ) -> Rungs:
        """width, up, down (n, K): widths and beginning prices of K rungs a side, equal widths on both; weight 1.

        `up` and `down` are the prices without curvature, which is added. Raises ValueError where f is not convex.
        """
        n, K = width.shape
        inner = np.hstack([np.zeros((n, 1)), np.cumsum(width, axis=1)[:, :-1]])
        begin = [p + curvature[:, None] * inner for p in (up, down)]
        if np.any(np.diff(up, axis=1) < 0) or np.any(np.diff(down, axis=1) < 0) or np.any(up[:, 0] + down[:, 0] < 0):
            raise ValueError("the offers are not convex: prices must rise away from 0 on both sides")
        return cls(
            entry=np.tile(np.repeat(np.arange(n), K), 2),
            side=np.repeat([1.0, -1.0], n * K),
            inner=np.concatenate([inner.ravel(), -inner.ravel()]),
            width=np.tile(width.ravel(), 2),
            cost=np.concatenate([b.ravel() for b in begin]),
            curvature=curvature,
            weight=np.ones(n),
            budget=budget,
        )

    @property
    def size(self) -> int:
        return len(self.curvature)

    def total(self, q: FloatArray) -> FloatArray:
        """y (n,) of what is sold on each rung q (J,)."""
        return np.asarray(np.bincount(self.entry, self.side * q, self.size), float)

    def price_of(self, q: FloatArray) -> float:
        """f of what is sold on each rung."""
        return float(np.sum(self.weight[self.entry] * q * (self.cost + 0.5 * self.curvature[self.entry] * q)))

    def filled(self, margin: FloatArray, r: FloatArray) -> FloatArray:
        """argmin over 0 <= q <= width of -margin q + r/2 q^2; a flat rung without margin is left empty."""
        with np.errstate(divide="ignore", invalid="ignore"):
            curved = np.clip(margin / r, 0.0, self.width)
        return np.where(r > 0, curved, np.where(margin > 0, self.width, 0.0))

    def sold(self, margin: FloatArray, r: FloatArray) -> tuple[FloatArray, float]:
        """The same within the budget, and the budget's multiplier mu.

        sum_j w_j q_j(mu) falls with mu in straight lines between the breakpoints margin - r width and margin, and
        jumps at `margin` where r = 0; of the rungs of such a jump the first in order are filled first.
        """
        q, w = self.filled(margin, r), self.weight[self.entry]
        if w @ q <= self.budget:
            return q, 0.0
        corners = np.unique(np.concatenate([[0.0], margin, margin - r * self.width]))
        corners = corners[corners >= 0]
        low, high = 0, len(corners) - 1  # more than the budget is sold at corners[low], not more at corners[high]
        while high - low > 1:
            middle = (low + high) // 2
            over = w @ self.filled(margin - corners[middle], r) > self.budget
            low, high = (middle, high) if over else (low, middle)
        at = self.filled(margin - corners[high], r)
        step = (r == 0) & (margin == corners[high])
        before = np.where(step, self.width, at)
        if w @ before <= self.budget:
            more, less = w @ self.filled(margin - corners[low], r), w @ before
            mu = corners[low] + (more - self.budget) / (more - less) * (corners[high] - corners[low])
            return self.filled(margin - mu, r), float(mu)
        room = self.budget - w @ at - np.concatenate([[0.0], np.cumsum(w * self.width * step)[:-1]])
        return np.where(step, np.clip(room / w, 0.0, self.width), at), float(corners[high])


class Ladder(Subproblem):
    """Answers by water-filling; dy/dprice where every entry is curved."""

    def __init__(self, rungs: Rungs) -> None:
        self.rungs = rungs
        abilities = {"penalty", "bound", "evaluate", "kkt", "convex"} | (
            {"sensitivity"} if np.all(rungs.curvature > 0) else set()
        )
        self.abilities = frozenset(abilities)  # type: ignore[misc]

    def solve(self, signal: Signal) -> Response:
        """argmin f - <price, y> + 1/2 <penalty (y - target), y - target>."""
        g, e = self.rungs, self.rungs.entry
        pull, rho = signal.price, np.zeros(g.size)
        if signal.target is not None and signal.penalty is not None:
            rho = signal.penalty
            pull = pull + rho * signal.target
        margin = g.side * (pull[e] - rho[e] * g.inner) - g.cost
        q, mu = g.sold(margin, (g.curvature + rho)[e])
        bound = None if rho.any() else self._bound(margin, mu)
        return Response(g.total(q), g.price_of(q), bound, sensitivity=self._slope(q, mu), pattern=CONVEX)

    def evaluate(self, y: FloatArray) -> Response:
        g = self.rungs
        q = np.clip(g.side * (y[g.entry] - g.inner), 0.0, g.width)
        missed = np.max(np.abs(g.total(q) - y), initial=0.0)
        reach = np.bincount(g.entry, g.width, g.size).max(initial=0.0)
        if missed > ROUNDING * reach or g.weight[g.entry] @ q > g.budget * (1 + ROUNDING):
            text = f"its offers end {missed:.3g} short of what is asked, or its budget {g.budget:.6g} is exceeded"
            return Response(np.array(y), np.inf, status=Status.INFEASIBLE, message=text)
        return Response(np.array(y), g.price_of(q), pattern=CONVEX)

    def fingerprint(self) -> bytes | None:
        return fingerprint(self.rungs)

    def _bound(self, margin: FloatArray, mu: float) -> float:
        """Weak duality at mu: the rungs, each for itself, and the budget's worth."""
        g = self.rungs
        r, w = g.curvature[g.entry], g.weight[g.entry]
        q = g.filled(margin - mu, r)
        worth = float(np.sum(w * q * (mu - margin + 0.5 * r * q)))
        return worth - (mu * g.budget if mu > 0 else 0.0)

    def _slope(self, q: FloatArray, mu: float) -> FloatArray | None:
        """dy/dprice = diag(d) - (d side)(w d side)' / <w, d>, the second term where the budget binds; d = 1/curvature
        of the entries inside a rung."""
        g = self.rungs
        if "sensitivity" not in self.abilities:
            return None
        inside = (q > 0) & (q < g.width)
        d, side = np.zeros(g.size), np.zeros(g.size)
        d[g.entry[inside]], side[g.entry[inside]] = 1 / g.curvature[g.entry[inside]], g.side[inside]
        slope = np.diag(d)
        if mu > 0 and d.any():
            slope -= np.outer(d * side, g.weight * d * side) / (g.weight @ d)
        return slope

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        program = self.program()
        return program, program.terms.no_tangents()

    def program(self) -> Program:
        """The same unit as arrays for a solver: columns are the rungs."""
        g = self.rungs
        J, w = len(g.entry), self.rungs.weight[self.rungs.entry]
        bounded = np.isfinite(g.budget)
        empty = Rows.none(J)
        rows = replace(empty, A=sparse.csr_matrix(w[None, :]), hi=np.array([g.budget])) if bounded else empty
        quad = sparse.csc_matrix(sparse.diags(w * g.curvature[g.entry])) if g.curvature.any() else None
        coupling = sparse.csr_matrix((g.side, (g.entry, np.arange(J))), (g.size, J))
        return linear_program(w * g.cost, rows, np.zeros(J), g.width, coupling, quad)


@dataclass(frozen=True, eq=False)
class Rows:
    """A x <= hi."""

    A: sparse.csr_matrix
    hi: FloatArray

    @classmethod
    def none(cls, n: int) -> Rows:
        return cls(sparse.csr_matrix((0, n)), np.zeros(0))


def linear_program(
    cost: FloatArray,
    rows: Rows,
    lb: FloatArray,
    ub: FloatArray,
    coupling: sparse.csr_matrix,
    quad: sparse.csc_matrix | None = None,
    integer: FloatArray | None = None,
) -> Program:
    """A Program without tangents, report or names of its own."""
    n, m = len(cost), len(rows.hi)
    return Program(
        cost=cost,
        constant=0.0,
        quad=quad,
        A=rows.A,
        row_lo=np.full(m, -np.inf),
        row_hi=rows.hi,
        lb=lb,
        ub=ub,
        integer=np.zeros(n, bool) if integer is None else integer > 0,
        coupling=coupling,
        coupling_0=np.zeros(coupling.shape[0]),
        report=sparse.csr_matrix((0, n)),
        report_0=np.zeros(0),
        row_names=tuple(f"row {i}" for i in range(m)),
        col_names=tuple(f"x{j}" for j in range(n)),
        terms=Terms(),
    )
