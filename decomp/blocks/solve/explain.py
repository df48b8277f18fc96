"""Why a program has no answer, in the names the user gave. Solvers' own words for it are not relied on."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.bounds import of_columns, of_rows
from decomp.blocks.solve.highs_lp import HISTORY_FREE, MODEL_STATUS, new_solver, pass_rows
from decomp.blocks.solve.highs_simplex import run_highs
from decomp.blocks.solve.scaling import Rows, power_of_two, tangent_matrix
from decomp.messages import BoolArray, FloatArray, Status

MOST_NAMES = 5
SMALL = 1e-7  # below this a slack or a multiplier is rounding
ROUNDING = 1e-12
SEARCH_S = 10.0
WHOLE = "no feasible solution with whole numbers, though there is one with fractions, of "
NEARLY = (
    "unbounded: the solver has found the cost to fall without end, by no more than its tolerances; give the variables "
    "bounds, or the price a penalty"
)
NUMERICAL = (
    "the solver failed, also from a cold start, though the constraints are not in conflict and the cost is bounded; "
    "look at the scale of the model's coefficients"
)


def diagnose(
    program: Program,
    cost: FloatArray,
    lb: FloatArray,
    ub: FloatArray,
    pool: Pool,
    penalised: BoolArray,
    whole: bool,
    unbounded: bool = False,
) -> tuple[Status, str]:
    """INFEASIBLE with the conflict, UNBOUNDED with who runs away, or ERROR.

    penalised (n_u,) True where a penalty keeps the offer; whole: the solver has ended, without presolve, with the proof
    that no point has whole numbers; unbounded: it has ended with a ray. That a solver has failed proves nothing.
    """
    conflict = explain_infeasible(program, lb, ub, pool)
    if conflict:
        return Status.INFEASIBLE, conflict
    runaway = explain_unbounded(program, cost, lb, ub, pool, penalised)
    if runaway:
        return Status.UNBOUNDED, runaway
    if unbounded:
        return Status.UNBOUNDED, NEARLY
    if whole:
        return Status.INFEASIBLE, WHOLE + _some([f"'{program.col_names[j]}'" for j in np.flatnonzero(program.integer)])
    return Status.ERROR, NUMERICAL


def explain_infeasible(program: Program, lb: FloatArray, ub: FloatArray, pool: Pool) -> str:
    """Which constraints conflict and by how much; "" where none are proven to.

    min sum of slacks on all rows and tangents, variable bounds kept. Rows with slack are what would have to give way;
    rows and bounds with a multiplier at this optimum are what they are in conflict with. They prove it: by these
    multipliers alone the least sum of slacks is above 0, which is worked out here and not taken from the solver.
    """
    crossed = [
        f"'{program.col_names[j]}' ({lb[j]:.6g} > {ub[j]:.6g})" for j in np.flatnonzero((lb > ub) & ~program.integer)
    ]
    crossed += [
        f"'{program.row_names[i]}' ({program.row_lo[i]:.6g} > {program.row_hi[i]:.6g})"
        for i in np.flatnonzero(program.row_lo > program.row_hi)
    ]
    between = [
        f"'{program.col_names[j]}' (above {lb[j] - 1:.6g}, below {ub[j] + 1:.6g})"
        for j in np.flatnonzero((lb > ub) & program.integer)
    ]
    if crossed or between:
        texts = ["the lower bound exceeds the upper bound of " + _some(crossed)] if crossed else []
        texts += ["there is no whole number within the bounds of " + _some(between)] if between else []
        return "no feasible solution: " + "; ".join(texts)
    n = len(program.lb)
    A = sparse.vstack([program.A, tangent_matrix(program.terms, pool, n)])
    names = [*program.row_names, *(program.terms.names[i] for i in pool.term)]
    m = len(names)
    slack = sparse.eye_array(m)
    elastic = Rows(
        sparse.csr_matrix(sparse.hstack([A, slack, -slack])),
        np.concatenate([program.row_lo, pool.level]),
        np.concatenate([program.row_hi, np.full(len(pool), np.inf)]),
    )
    solver = new_solver({**HISTORY_FREE, "presolve": "choose", "simplex_scale_strategy": 2, "time_limit": SEARCH_S})
    low, high = np.concatenate([lb, np.zeros(2 * m)]), np.concatenate([ub, np.full(2 * m, np.inf)])
    pass_rows(solver, elastic, np.concatenate([np.zeros(n), np.ones(2 * m)]), low, high)
    run_highs(solver)
    if solver.getModelStatus() != MODEL_STATUS.kOptimal:
        return ""
    solution = solver.getSolution()
    value, dual = np.array(solution.col_value), np.abs(np.array(solution.row_dual))
    short = value[n : n + m] + value[n + m :]
    sides = [np.where(np.isfinite(side), np.abs(side), 0.0) for side in (elastic.lo, elastic.hi)]
    largest = np.maximum(1.0, np.maximum(*sides))
    give = [i for i in np.argsort(-short, kind="stable") if short[i] > SMALL * largest[i]]
    if not give or not _proven(A, elastic, np.array(solution.row_dual), lb, ub, value[:n]):
        return ""
    others = [i for i in np.argsort(-dual, kind="stable") if dual[i] > SMALL and i not in give]
    reduced = np.abs(np.array(solution.col_dual)[:n])
    bounds = [j for j in np.argsort(-reduced, kind="stable") if reduced[j] > SMALL]
    text = "no feasible solution: " + _some([f"'{names[i]}' misses by {short[i]:.6g}" for i in give])
    if others:
        text += "; in conflict with " + _some([f"'{names[i]}'" for i in others])
    if bounds:
        text += "; against the bounds of " + _some([f"'{program.col_names[j]}'" for j in bounds])
    return text


def _proven(A: sparse.csr_matrix, rows: Rows, dual: FloatArray, lb: FloatArray, ub: FloatArray, x: FloatArray) -> bool:
    """Do these multipliers, each within [-1, 1], bound the sum of slacks away from 0?

    sum_i pi_i (lo_i if pi_i > 0 else hi_i) - sum_j (A'pi)_j (ub_j if (A'pi)_j > 0 else lb_j) > 0.
    """
    dual = np.clip(dual, -1.0, 1.0)
    dual = np.where(np.abs(dual) > SMALL, dual, 0.0)
    zero = np.zeros((1, A.shape[1]))
    sides = rows.lo[None], rows.hi[None]
    total, reduced = of_rows(sparse.csr_matrix(A.T), zero, np.zeros(1), sides, dual[None])
    size = float(np.abs(dual) @ (np.abs(A) @ np.abs(x)))
    bound = float(of_columns(total, reduced, zero, (lb[None], ub[None]), x[None])[0])
    return bound > ROUNDING * size


def explain_unbounded(
    program: Program, cost: FloatArray, lb: FloatArray, ub: FloatArray, pool: Pool, penalised: BoolArray
) -> str:
    """Which variables run away: the direction d of the recession cone, |d| <= 1, along which the cost falls; "" = none.

    Q d = 0, and coupling d = 0 where a penalty keeps the offer.
    """
    n = len(cost)
    tangents = tangent_matrix(program.terms, pool, n)
    flat = [program.coupling[np.flatnonzero(penalised)], *([] if program.quad is None else [program.quad])]
    A = sparse.csr_matrix(sparse.vstack([program.A, tangents, *flat]))
    more = A.shape[0] - len(program.row_lo) - len(pool)
    lo = np.concatenate([_cone(program.row_lo, -1), np.zeros(len(pool)), np.zeros(more)])
    hi = np.concatenate([_cone(program.row_hi, 1), np.full(len(pool), np.inf), np.zeros(more)])
    solver = new_solver({**HISTORY_FREE, "presolve": "choose", "simplex_scale_strategy": 2, "time_limit": SEARCH_S})
    size = float(power_of_two(np.array([np.abs(cost).max(initial=0.0) or 1.0]))[0])
    pass_rows(
        solver, Rows(A, lo, hi), cost / size, np.where(np.isfinite(lb), 0.0, -1.0), np.where(np.isfinite(ub), 0.0, 1.0)
    )
    run_highs(solver)
    d = np.array(solver.getSolution().col_value)
    if len(d) != n or -float(cost @ d) <= SMALL * size:
        return ""
    movers = [j for j in np.argsort(-np.abs(d), kind="stable") if abs(d[j]) > SMALL]
    names = _some([f"'{program.col_names[j]}' {'up' if d[j] > 0 else 'down'}" for j in movers])
    return f"unbounded: the cost falls without end along {names}; give these variables bounds"


def _cone(side: FloatArray, sign: int) -> FloatArray:
    return np.where(np.isfinite(side), 0.0, sign * np.inf)


def _some(names: list[str]) -> str:
    names = list(dict.fromkeys(names))
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
