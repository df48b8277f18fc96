"""Why a program has no answer, in the names the user gave. Solvers' own words for it are not relied on."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.conflict import SEARCH_S, SMALL, Conflict, elastic, irreducible, irreducible_whole
from decomp.blocks.solve.highs_lp import HISTORY_FREE, new_solver, pass_rows
from decomp.blocks.solve.highs_simplex import run_highs
from decomp.blocks.solve.scaling import Rows, power_of_two, tangent_matrix
from decomp.messages import BoolArray, FloatArray, Status

MOST_NAMES = 5
MOST_LIMITS = 12
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
        return Status.INFEASIBLE, explain_whole(program, lb, ub, pool)
    return Status.ERROR, NUMERICAL


def explain_infeasible(program: Program, lb: FloatArray, ub: FloatArray, pool: Pool) -> str:
    """Which constraints conflict and by how much; "" where none are proven to.

    Rows that miss are what would have to give way where the sum of slacks is least, variable bounds kept; the smallest
    conflict is a set of limits of rows and bounds that cannot hold together, of which none can be spared.
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
    rows, names = _rows_of(program, pool)
    found = elastic(rows, lb, ub)
    if found is None or found.conflict is None:
        return ""
    sides = [np.where(np.isfinite(side), np.abs(side), 0.0) for side in (rows.lo, rows.hi)]
    largest = np.maximum(1.0, np.maximum(*sides))
    short = found.short
    give = [i for i in np.argsort(-short, kind="stable") if short[i] > SMALL * largest[i]]
    if not give:
        return ""
    text = "no feasible solution: " + _some([f"'{names[i]}' misses by {short[i]:.6g}" for i in give])
    return text + _told(irreducible(rows, lb, ub, found.conflict), rows, names, program, lb, ub)


def explain_whole(program: Program, lb: FloatArray, ub: FloatArray, pool: Pool) -> str:
    """Which rows leave no whole numbers, though they leave fractions."""
    text = WHOLE + _some([f"'{program.col_names[j]}'" for j in np.flatnonzero(program.integer)])
    rows, names = _rows_of(program, pool)
    found = irreducible_whole(rows, lb, ub, program.integer)
    return text if found is None else text + _told(found, rows, names, program, lb, ub)


def _rows_of(program: Program, pool: Pool) -> tuple[Rows, list[str]]:
    """Rows and tangents of the program, and their names."""
    A = sparse.csr_matrix(sparse.vstack([program.A, tangent_matrix(program.terms, pool, len(program.lb))]))
    lo = np.concatenate([program.row_lo, pool.level])
    hi = np.concatenate([program.row_hi, np.full(len(pool), np.inf)])
    return Rows(A, lo, hi), [*program.row_names, *(program.terms.names[i] for i in pool.term)]


def _told(c: Conflict, rows: Rows, names: list[str], program: Program, lb: FloatArray, ub: FloatArray) -> str:
    """The conflict in words: each limit with its value."""
    kept = [_limit(names[i], c.lo[i], c.hi[i], rows.lo[i], rows.hi[i]) for i in np.flatnonzero(c.lo | c.hi)]
    bounds = [_limit(program.col_names[j], c.lb[j], c.ub[j], lb[j], ub[j]) for j in np.flatnonzero(c.lb | c.ub)]
    text = "; a smallest conflict: " if c.irreducible else "; a conflict: "
    text += "rows " + _some(kept, MOST_LIMITS)
    return text + (f"; bounds of {_some(bounds, MOST_LIMITS)}" if bounds else "")


def _limit(name: str, low: bool, high: bool, lo: float, hi: float) -> str:
    """A row or column with those of its limits that are in conflict. One that is settled has one value."""
    if lo == hi:
        return f"'{name}' = {lo:.6g}"
    sides = [f">= {lo:.6g}"] if low else []
    sides += [f"<= {hi:.6g}"] if high else []
    return f"'{name}' {' and '.join(sides)}"


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


def _some(names: list[str], most: int = MOST_NAMES) -> str:
    names = list(dict.fromkeys(names))
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
