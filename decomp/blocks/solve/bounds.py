"""Lower bounds that hold whatever the solver's tolerances were."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.compile.program import Program
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
    cost, sides = cost[None], (program.row_lo[None], program.row_hi[None])
    total, reduced = of_rows(program.A_t, cost, np.array([constant]), sides, row_dual[None])
    if len(pool):
        some = np.flatnonzero(pool_dual > 0)
        reduced[0] -= tangent_sums(program.terms, pool, pool_dual, some, cost.shape[1])
        total += float(pool.level[some] @ pool_dual[some])
    bound = float(of_columns(total, reduced, cost, (lb[None], ub[None]), x[None])[0])
    return None if np.isnan(bound) else bound


def of_rows(
    A_t: sparse.csr_matrix,
    cost: FloatArray,
    constant: FloatArray,
    sides: tuple[FloatArray, FloatArray],
    dual: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """constant + sum_i pi_i (lo_i or hi_i), (b,), and cost - A'pi, (b, n), for b programs with one matrix.

    cost (b, n), dual (b, m); sides: lower and upper (b, m), one row = the same for all.
    """
    m = dual.shape[1]
    at = np.flatnonzero(dual != 0)  # most multipliers are 0
    block, used = at // m if len(dual) > 1 else np.zeros_like(at), dual.ravel()[at]
    lo, hi = (side.ravel()[at - block * m if len(side) == 1 else at] for side in sides)
    side = np.where(used > 0, lo, hi)
    wrong = np.isinf(side)
    if wrong.any():
        dual = dual.copy()
        dual.ravel()[at[wrong]] = used[wrong] = side[wrong] = 0.0
    total = constant + np.bincount(block, side * used, len(dual))
    # one block's products after the other's, each in the order of the matrix: as for one alone
    product = (A_t @ dual[0])[None] if len(dual) == 1 else (A_t @ np.ascontiguousarray(dual.T)).T
    return total, np.subtract(cost, product, order="C")


def of_columns(
    total: FloatArray,
    reduced: FloatArray,
    cost: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
    x: FloatArray,
    column: FloatArray | None = None,
) -> FloatArray:
    """total + sum_j d_j (lb_j or ub_j), (b,); nan where nothing is proven.

    reduced, cost, x (b, n); bounds: lower and upper (b, n), one row = the same for all; column (n,): the units
    all these are in, x = column * what is given, None = 1.
    """
    end = np.where(reduced > 0, *bounds)
    at = np.flatnonzero(np.isinf(end))
    end.ravel()[at] = 0.0
    bound = total + (reduced * end).sum(axis=1)
    at = at[reduced.ravel()[at] != 0]
    if len(at):
        n = reduced.shape[1]
        block = at // n
        rest, size, price = np.abs(reduced.ravel()[at]), np.abs(x.ravel()[at]), np.abs(cost.ravel()[at])
        if column is not None:
            unit = column[at - block * n]
            rest, size, price = rest / unit, size * unit, price / unit
        bound = bound - REACH * np.bincount(block, rest * np.maximum(1.0, size), len(total))
        bound[block[rest > RESIDUAL * np.maximum(1.0, price)]] = np.nan
    return np.where(np.isfinite(bound), bound, np.nan)


def tangent_sums(terms: Terms, pool: Pool, dual: FloatArray, some: IntArray, n: int) -> FloatArray:
    """sum_p dual_p (row of tangent p) over some of the pool's tangents, (n,)."""
    term, weight = pool.term[some], dual[some]
    out = np.asarray(np.bincount(terms.epigraph[term], weight, n), np.float64)
    for column, slope in zip(terms.column[term].T, pool.slope[some].T, strict=True):
        # where the argument is a number the slope is 0 and the column -1
        out -= np.bincount(np.maximum(column, 0), weight * slope, n)
    return out
