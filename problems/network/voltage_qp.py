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


def solve_step(
    gradient: FloatArray,
    hessian: FloatArray,
    lo: FloatArray,
    hi: FloatArray,
    linear: Linear,
    v_min: FloatArray,
    v_max: FloatArray,
    slack_weight: FloatArray,
) -> Step:
    """min g'd + 1/2 d'diag(h)d + w't  s.t.  v_min - t <= v + slopes d <= v_max + t, lo <= d <= hi, t >= 0.

    g = gradient, h = hessian, lo, hi (C,), bounds finite; v_min, v_max (n,) pu; w = slack_weight (S,) per pu.
    Rows that no d within the bounds can bring to their limit are left out; so the answer is that of the full problem.
    """
    count, n = linear.v.shape
    size = len(gradient)
    blocks, low, places = [], [], []
    for s, (cols, slope) in enumerate(zip(linear.columns, linear.slopes, strict=True)):
        a, b = slope * lo[cols], slope * hi[cols]
        v = linear.v[s]
        under: BoolArray = v + np.minimum(a, b).sum(axis=1) < v_min
        over: BoolArray = v + np.maximum(a, b).sum(axis=1) > v_max
        for rows, sign in ((np.flatnonzero(under), 1.0), (np.flatnonzero(over), -1.0)):
            # sign * (v + slope d) + t >= sign * limit
            block = np.zeros((len(rows), size + count))
            block[:, cols] = sign * slope[rows] / V_UNIT
            block[:, size + s] = 1.0
            limit = v_min if sign > 0 else v_max
            blocks.append(block)
            low.append(sign * (limit[rows] - v[rows]) / V_UNIT)
            places.append((s, rows, sign))
    A, b = np.concatenate(blocks), np.concatenate(low)
    mu, slack = np.zeros((count, n)), np.zeros(count)
    if len(b) == 0:
        d = _without_rows(gradient, hessian, lo, hi)
        return Step(d, slack, mu, _value(gradient, hessian, d, slack_weight, slack), True)
    H = np.concatenate([hessian, np.zeros(count)])
    c = np.concatenate([gradient, slack_weight * V_UNIT])
    lb, ub = np.concatenate([lo, np.zeros(count)]), np.concatenate([hi, np.full(count, np.inf)])
    x, z, solved = _piqp(H, c, A, b, lb, ub)
    d, slack = np.clip(x[:size], lo, hi), np.maximum(x[size:], 0.0) * V_UNIT
    at = 0
    for s, rows, sign in places:
        mu[s, rows] += sign * z[at : at + len(rows)] / V_UNIT
        at += len(rows)
    return Step(d, slack, mu, _value(gradient, hessian, d, slack_weight, slack), solved)


def _value(gradient: FloatArray, hessian: FloatArray, d: FloatArray, weight: FloatArray, slack: FloatArray) -> float:
    return float(gradient @ d + 0.5 * (hessian * d) @ d + weight @ slack)


def _without_rows(gradient: FloatArray, hessian: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
    """The separable box QP: -gradient/hessian within the bounds, a bound where there is no curvature, 0 where flat."""
    curved = hessian > 0
    d = np.where(gradient > 0, lo, np.where(gradient < 0, hi, 0.0))
    return np.clip(np.where(curved, -gradient / np.where(curved, hessian, 1.0), d), lo, hi)


def _piqp(
    H: FloatArray, c: FloatArray, A: FloatArray, b: FloatArray, lb: FloatArray, ub: FloatArray
) -> tuple[FloatArray, FloatArray, bool]:
    """min 1/2 x'diag(H)x + c'x, A x >= b, lb <= x <= ub; returns x, the rows' multipliers (>= 0), solved.

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
        P = np.asfortranarray(np.diag(H)) if dense else sparse.diags(H, format="csc")
        G = np.asfortranarray(A) if dense else sparse.csc_matrix(A)
        solver.setup(P, c, None, None, G, b, free, lb, ub)
        status = solver.solve()
        if np.all(np.isfinite(solver.result.x)):
            x, z = np.array(solver.result.x), np.array(solver.result.z_l)
        if status == piqp.PIQP_SOLVED:
            return x, np.maximum(z, 0.0), True
    return x, np.maximum(z, 0.0), False
