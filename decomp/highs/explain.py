"""Why a program has no answer, in the names the user gave."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from decomp.highs.linear import HISTORY_FREE, MODEL_STATUS, add_rows, new_solver, pass_rows
from decomp.highs.program import Program
from decomp.highs.scaling import Rows, Scaled
from decomp.highs.tangents import Pool
from decomp.messages import FloatArray

MOST_NAMES = 5
SMALL = 1e-7


def explain_infeasible(program: Program, lb: FloatArray, ub: FloatArray, pool: Pool) -> str:
    """Which constraints conflict and by how much: min sum of slacks on all rows, variable bounds kept.

    The rows with a multiplier at its optimum are the conflict; the slacks are what would have to give way.
    """
    crossed = np.flatnonzero(lb > ub)
    if len(crossed):
        return "no feasible solution: the lower bound exceeds the upper bound of " + _some(
            [f"'{program.col_names[j]}' ({lb[j]:.6g} > {ub[j]:.6g})" for j in crossed]
        )
    m, n = program.A.shape
    slack = sparse.eye_array(m, format="csr")
    elastic = Rows(sparse.csr_matrix(sparse.hstack([program.A, slack, -slack])), program.row_lo, program.row_hi)
    solver = new_solver({**HISTORY_FREE, "presolve": "choose", "time_limit": 10.0})
    cost = np.concatenate([np.zeros(n), np.ones(2 * m)])
    pass_rows(
        solver, elastic, cost, np.concatenate([lb, np.zeros(2 * m)]), np.concatenate([ub, np.full(2 * m, np.inf)])
    )
    solver.run()
    if solver.getModelStatus() != MODEL_STATUS.kOptimal:
        return "no feasible solution, and the search for the conflicting constraints found none either"
    solution = solver.getSolution()
    value, dual = np.array(solution.col_value), np.abs(np.array(solution.row_dual))
    short = value[n : n + m] + value[n + m :]
    if short.max(initial=0.0) <= SMALL:
        if program.integer.any():
            return "no feasible solution with whole numbers, though there is one with fractions of " + _some(
                [f"'{program.col_names[j]}'" for j in np.flatnonzero(program.integer)]
            )
        return "the solver found no feasible solution, but relaxing the constraints shows none in conflict: bad scaling"
    give = sorted(np.flatnonzero(short > SMALL), key=lambda i: -short[i])
    others = [i for i in np.argsort(-dual, kind="stable") if dual[i] > SMALL and short[i] <= SMALL]
    text = "no feasible solution: " + _some([f"'{program.row_names[i]}' misses by {short[i]:.6g}" for i in give])
    if others:
        text += "; in conflict with " + _some([f"'{program.row_names[i]}'" for i in others])
    reduced = np.abs(np.array(solution.col_dual)[:n])
    bounds = [j for j in np.argsort(-reduced, kind="stable") if reduced[j] > SMALL]
    if bounds:
        text += "; against the bounds of " + _some([f"'{program.col_names[j]}'" for j in bounds])
    return text


def explain_unbounded(program: Program, cost: FloatArray, lb: FloatArray, ub: FloatArray, pool: Pool) -> str:
    """Which variables run away: the direction d in the recession cone, |d| <= 1, along which the cost falls."""
    scaled = Scaled.of(program)
    tangents, _ = scaled.tangent_rows(pool)
    parts = [(scaled.rows.A, scaled.rows.lo, scaled.rows.hi), (tangents.A, tangents.lo, tangents.hi)]
    if program.quad is not None:
        flat = sparse.csr_matrix(program.quad @ sparse.diags_array(scaled.column))
        parts.append((flat, np.zeros(len(cost)), np.zeros(len(cost))))
    solver = new_solver({"presolve": "choose"})
    first = Rows(parts[0][0], *_cone(parts[0][1], parts[0][2]))
    pass_rows(
        solver, first, cost * scaled.column, np.where(np.isfinite(lb), 0.0, -1), np.where(np.isfinite(ub), 0.0, 1)
    )
    for A, lo, hi in parts[1:]:
        add_rows(solver, Rows(A, *_cone(lo, hi)))
    solver.run()
    d = np.array(solver.getSolution().col_value) * scaled.column
    gain = -float(cost @ d) if len(d) else 0.0
    if gain <= 0:
        return "unbounded: the cost falls without end"
    movers = [j for j in np.argsort(-np.abs(d), kind="stable") if abs(d[j]) > SMALL]
    names = _some([f"'{program.col_names[j]}' {'up' if d[j] > 0 else 'down'}" for j in movers])
    return f"unbounded: the cost falls without end along {names}; give these variables bounds"


def _cone(lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.where(np.isfinite(lo), 0.0, -np.inf), np.where(np.isfinite(hi), 0.0, np.inf)


def _some(names: list[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")
