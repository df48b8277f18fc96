"""Lower bounds that hold whatever the solver's tolerances were."""

from __future__ import annotations

import numpy as np

from decomp.highs.program import Program
from decomp.highs.tangents import Pool, Terms
from decomp.messages import FloatArray, IntArray

REACH = 1e3  # a column without a bound is taken to stay within this multiple of max(1, |x|) ...
RESIDUAL = 1e-7  # ... and only rounding, relative to its cost, may be left on it


def dual_bound(
    program: Program,
    cost: FloatArray,
    constant: float,
    lb: FloatArray,
    ub: FloatArray,
    x: FloatArray,
    row_dual: FloatArray,
    pool: Pool,
    pool_dual: FloatArray,
) -> float | None:
    """Weak duality at any multipliers: min cost'x + constant over the rows, tangents and bounds is at least

        constant + sum_i pi_i (lo_i if pi_i > 0 else hi_i) + sum_j d_j (lb_j if d_j > 0 else ub_j),  d = cost - A'pi.

    A quadratic cost enters by its tangent plane at x: cost + Qx, constant - 1/2 x'Qx. Multipliers of the wrong sign are
    dropped. What is left on a column without the bound it needs is charged at `REACH` times its size if it is rounding;
    otherwise nothing is proven and the answer is None.
    """
    if program.quad is not None:
        curve = program.quad @ x
        cost, constant = cost + curve, constant - 0.5 * float(x @ curve)
    side = np.where(row_dual > 0, program.row_lo, program.row_hi)
    used = np.where(np.isfinite(side), row_dual, 0.0)
    reduced = cost - program.A_t @ used
    total = constant + float(np.sum(np.multiply(side, used, out=np.zeros_like(used), where=used != 0)))
    if len(pool):
        some = np.flatnonzero(pool_dual > 0)
        reduced -= tangent_sums(program.terms, pool, pool_dual, some, len(cost))
        total += float(pool.level[some] @ pool_dual[some])
    end = np.where(reduced > 0, lb, ub)
    end[reduced == 0] = 0.0
    open_ended = np.isinf(end)
    if not open_ended.any():
        bound = total + float(np.sum(reduced * end))
        return bound if np.isfinite(bound) else None
    if np.any(np.abs(reduced[open_ended]) > RESIDUAL * np.maximum(1.0, np.abs(cost[open_ended]))):
        return None
    reach = np.sum(np.where(open_ended, np.abs(reduced), 0.0) * np.maximum(1.0, np.abs(x)))
    near = np.where(open_ended, 0.0, reduced * np.where(open_ended, 0.0, end))
    bound = total + float(np.sum(near)) - REACH * float(reach)
    return bound if np.isfinite(bound) else None


def tangent_sums(terms: Terms, pool: Pool, dual: FloatArray, some: IntArray, n: int) -> FloatArray:
    """sum_p dual_p (row of tangent p) over some of the pool's tangents, (n,)."""
    term, weight = pool.term[some], dual[some]
    out = np.asarray(np.bincount(terms.epigraph[term], weight, n), np.float64)
    for column, slope in zip(terms.column[term].T, pool.slope[some].T, strict=True):
        # where the argument is a number the slope is 0 and the column -1
        out -= np.bincount(np.maximum(column, 0), weight * slope, n)
    return out
