"""One step of the optimal power flow: a QP on linearised voltages with an elastic slack a scenario."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import piqp
from scipy import sparse

from decomp.messages import BoolArray, FloatArray, IntArray

V_UNIT = 0.01  # rows and slacks are solved in hundredths of a per unit, the size of what voltages do
DENSE_LIMIT = 150  # columns from which the sparse factorisation is the faster one
TOLERANCES = (1e-11, 1e-9, 1e-7)  # tried in this order; a looser answer still has to pass the merit test


@dataclass(frozen=True, eq=False)
class Linear:
    """Voltages near a point: |v_s|(x + d) = v[s] + slopes[s] d[columns[s]].

    v (S, n) pu;  columns[s] (C_s,) the variables that act in scenario s;  slopes[s] (n, C_s) pu per unit of x
    """

    v: FloatArray
    columns: tuple[IntArray, ...]
    slopes: tuple[FloatArray, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """d (C,); slack (S,) pu; mu (S, n) multipliers, > 0 where raising the voltage helps; value of the objective."""

    d: FloatArray
    slack: FloatArray
    mu: FloatArray
    value: float
    solved: bool


@dataclass(frozen=True, eq=False)
class Hessian:
    """diag(own) plus a positive semidefinite block among the variables `at` (k,): block (k, k)."""

    own: FloatArray
    at: IntArray
    block: FloatArray

    def times(self, d: FloatArray) -> FloatArray:
        """H d."""
        out = self.own * d
        out[self.at] += self.block @ d[self.at]
        return out

    def matrix(self, extra: int) -> sparse.csc_matrix:
        """H with `extra` empty rows and columns behind."""
        size, k = len(self.own) + extra, len(self.at)
        own = np.arange(len(self.own))
        rows = np.concatenate([own, np.repeat(self.at, k)])
        cols = np.concatenate([own, np.tile(self.at, k)])
        values = np.concatenate([self.own, self.block.ravel()])
        return sparse.csc_matrix((values, (rows, cols)), shape=(size, size))


def solve_step(
    gradient: FloatArray,
    hessian: Hessian,
    lo: FloatArray,
    hi: FloatArray,
    linear: Linear,
    v_min: FloatArray,
    v_max: FloatArray,
    slack_weight: FloatArray,
) -> Step:
    """min g'd + 1/2 d'Hd + w't  s.t.  v_min - t <= v + slopes d <= v_max + t, lo <= d <= hi, t >= 0.

    g = gradient, lo, hi (C,), bounds finite; v_min, v_max (n,) pu; w = slack_weight (S,) per pu.
    Rows that no d within the bounds can bring to their limit are left out; so the answer is that of the full problem.
    """
    count, n = linear.v.shape
    size = len(gradient)
    entries: list[FloatArray] = []
    where: list[tuple[IntArray, IntArray]] = []
    low, places, at = [np.zeros(0)], [], 0
    for s, (cols, slope) in enumerate(zip(linear.columns, linear.slopes, strict=True)):
        a, b = slope * lo[cols], slope * hi[cols]
        v = linear.v[s]
        under: BoolArray = v + np.minimum(a, b).sum(axis=1) < v_min
        over: BoolArray = v + np.maximum(a, b).sum(axis=1) > v_max
        for kept, sign, limit in ((under, 1.0, v_min), (over, -1.0, v_max)):
            # sign (v + slope d) + t >= sign limit
            rows = np.flatnonzero(kept)
            entries.append(np.column_stack([sign * slope[rows] / V_UNIT, np.ones(len(rows))]).ravel())
            where.append((np.repeat(at + np.arange(len(rows)), len(cols) + 1), np.tile([*cols, size + s], len(rows))))
            low.append(sign * (limit - v)[rows] / V_UNIT)
            places.append((s, rows, sign, at))
            at += len(rows)
    b = np.concatenate(low)
    mu, slack = np.zeros((count, n)), np.zeros(count)
    if len(b) == 0 and not hessian.block.any():
        d = _without_rows(gradient, hessian.own, lo, hi)
        return Step(d, slack, mu, _value(gradient, hessian, d, slack_weight, slack), True)
    H = hessian.matrix(count)
    c = np.concatenate([gradient, slack_weight * V_UNIT])
    lb, ub = np.concatenate([lo, np.zeros(count)]), np.concatenate([hi, np.full(count, np.inf)])
    rows, cols = (np.concatenate([w[i] for w in where]).astype(np.int64) for i in (0, 1))
    A = sparse.csc_matrix((np.concatenate(entries), (rows, cols)), shape=(len(b), len(c)))
    x, z, solved = _piqp(H, c, A, b, lb, ub)
    d, slack = np.clip(x[:size], lo, hi), np.maximum(x[size:], 0.0) * V_UNIT
    for s, rows, sign, first in places:
        mu[s, rows] += sign * z[first : first + len(rows)] / V_UNIT
    return Step(d, slack, mu, _value(gradient, hessian, d, slack_weight, slack), solved)


def _value(gradient: FloatArray, hessian: Hessian, d: FloatArray, weight: FloatArray, slack: FloatArray) -> float:
    return float(gradient @ d + 0.5 * hessian.times(d) @ d + weight @ slack)


def _without_rows(gradient: FloatArray, hessian: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
    """The separable box QP: -gradient/hessian within the bounds, a bound where there is no curvature, 0 where flat."""
    curved = hessian > 0
    d = np.where(gradient > 0, lo, np.where(gradient < 0, hi, 0.0))
    return np.clip(np.where(curved, -gradient / np.where(curved, hessian, 1.0), d), lo, hi)


def _piqp(
    H: sparse.csc_matrix, c: FloatArray, A: sparse.csc_matrix, b: FloatArray, lb: FloatArray, ub: FloatArray
) -> tuple[FloatArray, FloatArray, bool]:
    """min 1/2 x'Hx + c'x, A x >= b, lb <= x <= ub; returns x, the rows' multipliers (>= 0), solved.

    A fresh setup each time: the answer depends on the problem alone.
    """
    dense = len(c) <= DENSE_LIMIT
    free = np.full(len(b), np.inf)
    x, z = np.zeros(len(c)), np.zeros(len(b))
    for tolerance in TOLERANCES:
        solver = piqp.DenseSolver() if dense else piqp.SparseSolver()
        settings = solver.settings
        settings.eps_abs = settings.eps_rel = tolerance
        settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = tolerance
        P = H.toarray(order="F") if dense else H
        G = A.toarray(order="F") if dense else A
        solver.setup(P, c, None, None, G, b, free, lb, ub)
        status = solver.solve()
        if np.all(np.isfinite(solver.result.x)):
            x, z = np.array(solver.result.x), np.array(solver.result.z_l)
        if status == piqp.PIQP_SOLVED:
            return x, np.maximum(z, 0.0), True
    return x, np.maximum(z, 0.0), False
