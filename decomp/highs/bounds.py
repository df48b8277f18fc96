"""Lower bounds that hold whatever the solver's tolerances were."""

from __future__ import annotations

import numpy as np

from decomp.highs.program import Program
from decomp.highs.scaling import tangent_matrix
from decomp.highs.tangents import Pool
from decomp.messages import FloatArray

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
    row_dual = np.where(np.isinf(np.where(row_dual > 0, program.row_lo, program.row_hi)), 0.0, row_dual)
    pool_dual = np.maximum(pool_dual, 0.0)
    reduced = cost - program.A_t @ row_dual
    if len(pool):
        reduced = reduced - tangent_matrix(program.terms, pool, len(cost)).T @ pool_dual
    side = np.where(row_dual > 0, program.row_lo, program.row_hi)
    total = constant + float(np.where(row_dual != 0, side, 0.0) @ row_dual) + float(pool.level @ pool_dual)
    end = np.where(reduced > 0, lb, ub)
    end = np.where(reduced != 0, end, 0.0)
    open_ended = np.isinf(end)
    if np.any(np.abs(reduced[open_ended]) > RESIDUAL * np.maximum(1.0, np.abs(cost[open_ended]))):
        return None
    reach = np.abs(reduced[open_ended]) @ np.maximum(1.0, np.abs(x[open_ended]))
    bound = total + float(reduced[~open_ended] @ end[~open_ended]) - REACH * float(reach)
    return bound if np.isfinite(bound) else None
