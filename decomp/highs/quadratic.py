"""A convex quadratic program by PIQP, set up afresh for every solve: it has no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import piqp
from scipy import sparse

from decomp.highs.program import Program
from decomp.highs.scaling import Scaled
from decomp.highs.tangents import Pool
from decomp.messages import FloatArray, Status

TOLERANCES: Mapping[str, float] = {
    "eps_abs": 1e-10,
    "eps_rel": 1e-12,
    "eps_duality_gap_abs": 1e-10,
    "eps_duality_gap_rel": 1e-12,
}
GOOD_ENOUGH = 1e-7  # residual at which an answer that missed the tolerances is still taken
STATUS_OF = {
    piqp.PIQP_SOLVED: Status.OPTIMAL,
    piqp.PIQP_PRIMAL_INFEASIBLE: Status.INFEASIBLE,
    piqp.PIQP_DUAL_INFEASIBLE: Status.UNBOUNDED,
}


@dataclass(frozen=True, eq=False)
class QuadraticAnswer:
    """Point (n,), multipliers of rows (m,) and tangents (p,): positive = the lower side holds."""

    status: Status
    x: FloatArray
    row_dual: FloatArray
    pool_dual: FloatArray


def solve_quadratic(
    program: Program,
    scaled: Scaled,
    cost: FloatArray,
    lb: FloatArray,
    ub: FloatArray,
    pool: Pool,
    stiffness: FloatArray | None = None,
    target: FloatArray | None = None,
) -> QuadraticAnswer:
    """min 1/2 x'Qx + cost'x + 1/2 sum_i stiffness_i (s_i - target_i)^2,  s = coupling x (without its constant).

    s are columns of their own: a coupling entry with many variables would fill the matrix.
    """
    n, column = len(cost), scaled.column
    extra = 0 if stiffness is None else len(stiffness)
    quad = sparse.csc_matrix((n, n)) if program.quad is None else program.quad
    S = sparse.diags_array(column)
    P = sparse.block_diag([S @ quad @ S, *([] if stiffness is None else [sparse.diags_array(stiffness)])])
    linear = cost * column
    tangents, factor = scaled.tangent_rows(pool)
    A = sparse.vstack([scaled.rows.A, tangents.A])
    lo = np.concatenate([scaled.rows.lo, tangents.lo])
    hi = np.concatenate([scaled.rows.hi, tangents.hi])
    low, high = lb / column, ub / column
    if stiffness is not None and target is not None:
        linear = np.concatenate([linear, -stiffness * target])
        link = sparse.hstack([program.coupling @ S, -sparse.eye_array(extra)])
        A = sparse.vstack([sparse.hstack([A, sparse.csr_matrix((A.shape[0], extra))]), link])
        lo, hi = np.concatenate([lo, np.zeros(extra)]), np.concatenate([hi, np.zeros(extra)])
        low, high = np.concatenate([low, np.full(extra, -np.inf)]), np.concatenate([high, np.full(extra, np.inf)])
    if np.any(lo > hi) or np.any(low > high):
        nothing = np.zeros(0)
        return QuadraticAnswer(Status.INFEASIBLE, nothing, nothing, nothing)
    A = sparse.csr_matrix(A)
    # a column whose bounds meet has no interior; PIQP wants it as an equation
    fixed = np.flatnonzero(low == high)
    pins = sparse.csr_matrix((np.ones(len(fixed)), (np.arange(len(fixed)), fixed)), shape=(len(fixed), A.shape[1]))
    equal = lo == hi
    idle = ~equal & np.isinf(lo) & np.isinf(hi)
    open_rows = ~equal & ~idle
    at = low[fixed]
    low, high = low.copy(), high.copy()
    low[fixed], high[fixed] = -np.inf, np.inf
    solver = piqp.SparseSolver()
    for name, value in TOLERANCES.items():
        setattr(solver.settings, name, value)
    solver.setup(
        sparse.csc_matrix(P),
        linear,
        sparse.csc_matrix(sparse.vstack([A[equal], pins])),
        np.concatenate([lo[equal], at]),
        sparse.csc_matrix(A[open_rows]),
        lo[open_rows],
        hi[open_rows],
        low,
        high,
    )
    outcome = solver.solve()
    result, info = solver.result, solver.result.info
    status = STATUS_OF.get(outcome, Status.ERROR)
    if status is Status.ERROR and max(info.primal_res, info.dual_res, abs(info.duality_gap)) <= GOOD_ENOUGH * max(
        1.0, float(np.abs(linear).max(initial=0.0))
    ):
        status = Status.OPTIMAL
    x = np.array(result.x[:n])
    if status is not Status.OPTIMAL or not np.all(np.isfinite(x)):
        nothing = np.zeros(0)
        return QuadraticAnswer(Status.ERROR if status is Status.OPTIMAL else status, nothing, nothing, nothing)
    dual = np.zeros(len(lo))
    dual[equal] = -np.array(result.y[: int(equal.sum())])
    dual[open_rows] = np.array(result.z_l) - np.array(result.z_u)
    m = len(scaled.row)
    return QuadraticAnswer(status, np.clip(x * column, lb, ub), dual[:m] * scaled.row, dual[m : m + len(pool)] * factor)
