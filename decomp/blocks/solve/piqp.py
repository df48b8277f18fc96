"""One convex quadratic program, solved from scratch: its answer depends on nothing but its data.

PIQP solves it; a linear one whose costs lie too far apart for an interior point is left to the simplex method.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
from scipy import sparse

from decomp.blocks.solve.highs_lp import new_solver, pass_rows
from decomp.blocks.solve.highs_simplex import run_highs
from decomp.blocks.solve.piqp_call import PiqpAnswer, call_piqp
from decomp.blocks.solve.scaling import Rows, factors
from decomp.errors import TatonnementError
from decomp.messages import BoolArray, FloatArray, Status

SETTINGS = {
    "eps_abs": 1e-10,
    "eps_rel": 1e-11,
    "eps_duality_gap_abs": 1e-10,
    "eps_duality_gap_rel": 1e-11,
}
DENSE = 100  # columns up to which a program of plain arrays is tried as one: three to ten times faster, less exact
DENSE_ITERATIONS = 40
CONDENSED_ITERATIONS = 50  # with the equations condensed; what stalls there the whole often solves in thirty
# Factor on the objective, iterations, whether in units of its own: what stalls in one unit is often solved in another.
ATTEMPTS = (
    (1.0, 100, False),
    (1.0, 100, True),
    (64.0, 100, False),
    (4096.0, 100, False),
    (2.0**-20, 100, False),
    (1.0, 500, False),
)
GOOD_ENOUGH = 1e-7  # relative residuals at which an answer that missed the tolerances is still taken


class NoSolution(TatonnementError):
    """The quadratic program is infeasible, unbounded, or beyond the solver's numerical means."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Minimiser v (n,), row multipliers (m,) > 0 at the upper side, and a proven lower bound of the value."""

    v: FloatArray
    rows: FloatArray
    bound: float


def solve(
    P: sparse.spmatrix | FloatArray,
    q: FloatArray,
    A: sparse.spmatrix | FloatArray,
    lo: FloatArray,
    hi: FloatArray,
    lb: FloatArray,
    ub: FloatArray,
    condensed: bool = False,
) -> Solution:
    """min 1/2 v'Pv + q'v over lo <= Av <= hi, lb <= v <= ub; free sides are +-inf. Raises NoSolution.

    condensed: try first with the equations eliminated from the linear systems (P + A'A / delta). That pays where the
    columns are fewer than the rows that hang together, and may cost a hundred times as much where they are not.

    Bound: for any row multipliers y the minimum is at least -1/2 v*'Pv* + min_v (Pv* + q + A'y)'v - support(y), because
    1/2 v'Pv lies above its tangent at v*; the gradient that rounding leaves is paid at the worse end of the bounds.
    """
    equal = lo == hi
    limited = ~equal & (np.isfinite(lo) | np.isfinite(hi))
    found = None
    if len(q) <= DENSE and not sparse.issparse(P) and not sparse.issparse(A):
        unit = _unit(P, q)
        data = unit * P, unit * q, A[equal], lo[equal], A[limited], lo[limited], hi[limited], lb, ub
        ended = call_piqp(data, {**SETTINGS, "max_iter": DENSE_ITERATIONS}, dense=True)
        if ended.status is Status.OPTIMAL:
            found = _found(ended, unit, equal, limited)
    if found is None:
        P, A = sparse.csc_matrix(P), sparse.csr_matrix(A)
        found = _sparsely(P, q, A, lo, hi, lb, ub, equal, limited, condensed)
    v, rows = np.clip(found[0], lb, ub), found[1]
    rows = np.where(((rows > 0) & ~np.isfinite(hi)) | ((rows < 0) & ~np.isfinite(lo)), 0.0, rows)
    curve = P @ v
    return Solution(v, rows, lower_bound(-0.5 * float(v @ curve), curve + q, v, rows, A, lo, hi, lb, ub))


def lower_bound(
    constant: float,
    slope: FloatArray,
    v: FloatArray,
    rows: FloatArray,
    A: sparse.spmatrix | FloatArray,
    lo: FloatArray,
    hi: FloatArray,
    lb: FloatArray,
    ub: FloatArray,
) -> float:
    """min constant + slope'u over lo <= Au <= hi, lb <= u <= ub, from below, by any row multipliers.

    A convex function lies above its tangent plane: with that of its value and slope at v this bounds its minimum, too.
    """
    rows = np.where(((rows > 0) & ~np.isfinite(hi)) | ((rows < 0) & ~np.isfinite(lo)), 0.0, rows)
    gradient = slope + A.T @ rows
    ends = np.where(gradient > 0, lb, ub)
    # a column without a bound on that side can only hide rounding: its gradient is taken where it is
    tangent = float(np.sum(gradient * np.where(np.isfinite(ends), ends, v)))
    sides = np.where(rows > 0, np.where(np.isfinite(hi), hi, 0.0), np.where(np.isfinite(lo), lo, 0.0))
    return float(constant + tangent - rows @ sides)


def _sparsely(
    P: sparse.csc_matrix,
    q: FloatArray,
    A: sparse.csr_matrix,
    lo: FloatArray,
    hi: FloatArray,
    lb: FloatArray,
    ub: FloatArray,
    equal: BoolArray,
    limited: BoolArray,
    condensed: bool,
) -> tuple[FloatArray, FloatArray]:
    """Minimiser and row multipliers of the first attempt that succeeds, else of the nearest. Raises NoSolution."""
    nearest, best, status = np.inf, None, None
    first = [(1.0, CONDENSED_ITERATIONS, False, True)] if condensed else []
    for factor, iterations, rescaled, condense in first + [(*attempt, False) for attempt in ATTEMPTS]:
        row, column = np.ones(len(lo)), np.ones(len(q))
        if rescaled:
            row, column = factors(A, np.zeros(len(q), bool))
        R, D = sparse.diags(row), sparse.diags(column)
        P_own, q_own, A_own = sparse.csc_matrix(D @ P @ D), column * q, sparse.csr_matrix(R @ A @ D)
        unit = factor * _unit(P_own, q_own)
        equations, limits = A_own[equal].tocsc(), A_own[limited].tocsc()
        lo_own, hi_own = row * lo, row * hi
        data = (
            unit * P_own, unit * q_own, equations, lo_own[equal], limits, lo_own[limited], hi_own[limited],
            lb / column, ub / column,
        )  # fmt: skip
        ended = call_piqp(data, {**SETTINGS, "max_iter": iterations}, condensed=condense)
        status, info = ended.said, ended.info
        solved = ended.status is Status.OPTIMAL  # even what it calls infeasible may be solved in another unit
        missing = 0.0 if solved else max(info.primal_res_rel, info.dual_res_rel, info.duality_gap_rel)
        if missing < nearest:
            v, rows = _found(ended, unit, equal, limited)
            nearest, best = missing, (column * v, row * rows)
        if solved:
            break
    if best is None or not nearest < GOOD_ENOUGH:
        vertex = None if P.count_nonzero() else _simplex(q, A, lo, hi, lb, ub)
        if vertex is not None:
            return vertex
        raise NoSolution(f"a quadratic program of {len(q)} columns and {len(lo)} rows has no solution: {status}")
    return best


def _simplex(
    q: FloatArray, A: sparse.csr_matrix, lo: FloatArray, hi: FloatArray, lb: FloatArray, ub: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Minimiser and row multipliers of the linear program, by a method that forgives costs of any size."""
    solver = new_solver({"presolve": "choose", "simplex_scale_strategy": 2})
    pass_rows(solver, Rows(A, lo, hi), q, lb, ub)
    run_highs(solver)
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    found = solver.getSolution()
    return np.array(found.col_value), -np.array(found.row_dual)


def _unit(P: sparse.csc_matrix | FloatArray, q: FloatArray) -> float:
    """Factor on the objective: the solver's tolerances are absolute, no objective may be tiny."""
    numbers = P.data if sparse.issparse(P) else P
    size = max(float(np.max(np.abs(q), initial=0.0)), float(np.max(np.abs(numbers), initial=0.0))) or 1.0
    return max(1.0, 2.0 ** float(-np.round(np.log2(size))))


def _found(ended: PiqpAnswer, unit: float, equal: BoolArray, limited: BoolArray) -> tuple[FloatArray, FloatArray]:
    rows = np.zeros(len(equal))
    rows[equal] = ended.equal / unit
    rows[limited] = (ended.upper - ended.lower) / unit
    return ended.x, rows
