"""One convex quadratic program, solved by PIQP from scratch: its answer depends on nothing but its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import piqp
from scipy import sparse

from decomp.errors import TatonnementError
from decomp.messages import FloatArray

SETTINGS = {
    "eps_abs": 1e-10,
    "eps_rel": 1e-11,
    "eps_duality_gap_abs": 1e-10,
    "eps_duality_gap_rel": 1e-11,
}
DENSE = 100  # columns up to which a program of plain arrays is tried as one: three to ten times faster, less exact
DENSE_ITERATIONS = 40
# Columns from which a program whose A A' (of the equations: a master's many columns over few rows) is smaller than A is
# tried with the equations condensed: five times faster.
LARGE = 1000
# Factors on the objective and iterations: what stalls in one unit of cost is often solved in another.
ATTEMPTS = ((1.0, 100), (64.0, 100), (4096.0, 100), (2.0**-20, 100), (1.0, 500))
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
) -> Solution:
    """min 1/2 v'Pv + q'v over lo <= Av <= hi, lb <= v <= ub; free sides are +-inf. Raises NoSolution.

    Bound: for any row multipliers y the minimum is at least -1/2 v*'Pv* + min_v (Pv* + q + A'y)'v - support(y), because
    1/2 v'Pv lies above its tangent at v*; the gradient that rounding leaves is paid at the worse end of the bounds.
    """
    equal = lo == hi
    held = ~equal & (np.isfinite(lo) | np.isfinite(hi))
    numbers = P.data if sparse.issparse(P) else P
    size = max(float(np.max(np.abs(q), initial=0.0)), float(np.max(np.abs(numbers), initial=0.0))) or 1.0
    # the solver's tolerances are absolute: no objective may be tiny
    own = unit = max(1.0, 2.0 ** float(-np.round(np.log2(size))))
    small = len(q) <= DENSE and not sparse.issparse(P) and not sparse.issparse(A)
    solver, status = None, None
    if small:
        solver = _with_settings(piqp.DenseSolver(), DENSE_ITERATIONS)
        solver.setup(unit * P, unit * q, A[equal], lo[equal], A[held], lo[held], hi[held], lb, ub)
        status = solver.solve()
    if status != piqp.PIQP_SOLVED:
        P, A = sparse.csc_matrix(P), sparse.csr_matrix(A)
        equations, limits = A[equal].tocsc(), A[held].tocsc()
        condensed = len(q) > LARGE and (equations @ equations.T).nnz < equations.nnz
        nearest = np.inf
        for factor, iterations in ATTEMPTS:
            trial = _with_settings(piqp.SparseSolver(), iterations)
            if condensed:
                trial.settings.kkt_solver = piqp.KKTSolver.sparse_ldlt_eq_cond
                trial.settings.iterative_refinement_always_enabled = True
                condensed = False  # what that stalls on the whole may solve
            trial.setup(factor * own * P, factor * own * q, equations, lo[equal], limits, lo[held], hi[held], lb, ub)
            status, info = trial.solve(), trial.result.info
            solved = status == piqp.PIQP_SOLVED  # even what it calls infeasible may be solved in another unit
            missing = 0.0 if solved else max(info.primal_res_rel, info.dual_res_rel, info.duality_gap_rel)
            if missing < nearest:
                nearest, solver, unit = missing, trial, factor * own
            if solved:
                break
        if not nearest < GOOD_ENOUGH:
            raise NoSolution(f"a quadratic program of {len(q)} columns and {len(lo)} rows has no solution: {status}")
    assert solver is not None
    result = solver.result
    v = np.clip(np.asarray(result.x), lb, ub)
    rows = np.zeros(len(lo))
    rows[equal] = np.asarray(result.y) / unit
    rows[held] = (np.asarray(result.z_u) - np.asarray(result.z_l)) / unit
    rows = np.where(((rows > 0) & ~np.isfinite(hi)) | ((rows < 0) & ~np.isfinite(lo)), 0.0, rows)
    curve = P @ v
    gradient = curve + q + A.T @ rows
    ends = np.where(gradient > 0, lb, ub)
    # a column without a bound on that side can only hide rounding: its gradient is taken where it is
    tangent = float(np.sum(gradient * np.where(np.isfinite(ends), ends, v)))
    sides = np.where(rows > 0, np.where(np.isfinite(hi), hi, 0.0), np.where(np.isfinite(lo), lo, 0.0))
    return Solution(v, rows, float(-0.5 * v @ curve + tangent - rows @ sides))


def _with_settings(solver: Any, iterations: int) -> Any:
    for name, value in {**SETTINGS, "max_iter": iterations}.items():
        setattr(solver.settings, name, value)
    return solver
