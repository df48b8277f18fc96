"""The smallest sets of rows and bounds that cannot hold together: irreducible, for none can be spared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import highspy
import numpy as np
from scipy import sparse

from decomp.blocks.solve.bounds import of_columns, of_rows
from decomp.blocks.solve.highs_lp import HISTORY_FREE, MODEL_STATUS, new_solver, pass_rows
from decomp.blocks.solve.highs_simplex import run_highs
from decomp.blocks.solve.scaling import Rows
from decomp.messages import BoolArray, FloatArray

SMALL = 1e-7  # below this a slack or a multiplier is rounding
ROUNDING = 1e-12
SEARCH_S = 10.0
MOST_TRIALS = 80  # larger conflicts are told as they were found
MOST_WHOLE = 60  # rows; with whole numbers every trial is a search of its own
MOST_NODES = 500


@dataclass(frozen=True, eq=False)
class Conflict:
    """Sides of rows and bounds of columns: lo, hi (m,) and lb, ub (n,) True where the limit belongs to it.

    irreducible  without any of them there is a point that keeps all the others
    """

    lo: BoolArray
    hi: BoolArray
    lb: BoolArray
    ub: BoolArray
    irreducible: bool = False

    def __len__(self) -> int:
        return int(sum(np.count_nonzero(part) for part in (self.lo, self.hi, self.lb, self.ub)))


@dataclass(frozen=True, eq=False)
class Elastic:
    """The least sum of slacks of the rows within the bounds: how much each row is short (m,), and the conflict that its
    multipliers prove; None where none is proven."""

    short: FloatArray
    conflict: Conflict | None


def elastic(rows: Rows, lb: FloatArray, ub: FloatArray) -> Elastic | None:
    """min sum (s+ + s-), lo <= A x + s+ - s- <= hi, lb <= x <= ub. None where the solver has no optimum.

    The multipliers prove a conflict of the sides and bounds they touch where by them alone the least sum is above 0:
    sum_i pi_i (lo_i if pi_i > 0 else hi_i) - sum_j (A'pi)_j (ub_j if (A'pi)_j > 0 else lb_j) > 0
    (the lemma of Farkas), which is worked out here and not taken from the solver.
    """
    m, n = rows.A.shape
    slack = sparse.eye_array(m)
    stretched = Rows(sparse.csr_matrix(sparse.hstack([rows.A, slack, -slack])), rows.lo, rows.hi)
    solver = new_solver({**HISTORY_FREE, "presolve": "choose", "simplex_scale_strategy": 2, "time_limit": SEARCH_S})
    low, high = np.concatenate([lb, np.zeros(2 * m)]), np.concatenate([ub, np.full(2 * m, np.inf)])
    pass_rows(solver, stretched, np.concatenate([np.zeros(n), np.ones(2 * m)]), low, high)
    run_highs(solver)
    if solver.getModelStatus() != MODEL_STATUS.kOptimal:
        return None
    solution = solver.getSolution()
    value = np.array(solution.col_value)
    return Elastic(value[n : n + m] + value[n + m :], _proven(rows, lb, ub, np.array(solution.row_dual), value[:n]))


def _proven(rows: Rows, lb: FloatArray, ub: FloatArray, dual: FloatArray, x: FloatArray) -> Conflict | None:
    dual = np.clip(dual, -1.0, 1.0)
    dual = np.where(np.abs(dual) > SMALL, dual, 0.0)
    zero = np.zeros((1, rows.A.shape[1]))
    total, reduced = of_rows(sparse.csr_matrix(rows.A.T), zero, np.zeros(1), (rows.lo[None], rows.hi[None]), dual[None])
    size = float(np.abs(dual) @ (np.abs(rows.A) @ np.abs(x)))
    bound = float(of_columns(total, reduced, zero, (lb[None], ub[None]), x[None])[0])
    if not bound > ROUNDING * size:
        return None
    slope = reduced[0]  # of x in - pi'A x: where it rises, its least value is at the lower bound
    return Conflict(dual > 0, dual < 0, (slope > SMALL) & np.isfinite(lb), (slope < -SMALL) & np.isfinite(ub))


def irreducible(rows: Rows, lb: FloatArray, ub: FloatArray, found: Conflict) -> Conflict:
    """Spare one limit after the other where the others are still proven to be in conflict (deletion filter).

    Chinneck and Dravnieks (1991). What a trial proves is at once the new set. Bounds are tried before rows.
    """
    if len(found) > MOST_TRIALS:
        return found

    def trial(kept: Conflict) -> Conflict | None:
        at = np.flatnonzero(kept.lo | kept.hi)
        sides = np.where(kept.lo, rows.lo, -np.inf)[at], np.where(kept.hi, rows.hi, np.inf)[at]
        low, high = np.where(kept.lb, lb, -np.inf), np.where(kept.ub, ub, np.inf)
        got = elastic(Rows(sparse.csr_matrix(rows.A[at]), *sides), low, high)
        if got is None or got.conflict is None:
            return None
        lo, hi = np.zeros(len(rows.lo), bool), np.zeros(len(rows.lo), bool)
        lo[at], hi[at] = got.conflict.lo, got.conflict.hi
        return Conflict(lo & kept.lo, hi & kept.hi, got.conflict.lb & kept.lb, got.conflict.ub & kept.ub)

    return _filtered(found, ("lb", "ub", "lo", "hi"), trial)


def irreducible_whole(rows: Rows, lb: FloatArray, ub: FloatArray, integer: BoolArray) -> Conflict | None:
    """Rows that no whole numbers within the bounds can keep together, none of which can be spared; None where there are
    too many, or where a search was too long to prove it."""
    if len(rows.lo) > MOST_WHOLE:
        return None
    free = np.zeros(len(lb), bool)
    everything = Conflict(np.isfinite(rows.lo), np.isfinite(rows.hi), free, free)

    def trial(kept: Conflict) -> Conflict | None:
        at = np.flatnonzero(kept.lo | kept.hi)
        sides = np.where(kept.lo, rows.lo, -np.inf)[at], np.where(kept.hi, rows.hi, np.inf)[at]
        solver = new_solver(
            {"presolve": "off", "solver": "choose", "mip_max_nodes": MOST_NODES, "mip_feasibility_tolerance": 1e-9}
        )
        pass_rows(solver, Rows(sparse.csr_matrix(rows.A[at]), *sides), np.zeros(len(lb)), lb, ub)
        whole = np.flatnonzero(integer).astype(np.int32)
        solver.changeColsIntegrality(
            len(whole), whole, np.full(len(whole), int(highspy.HighsVarType.kInteger), np.uint8)
        )
        run_highs(solver)
        return kept if solver.getModelStatus() == MODEL_STATUS.kInfeasible else None

    return None if trial(everything) is None else _filtered(everything, ("lo", "hi"), trial)


def _filtered(found: Conflict, parts: tuple[str, ...], trial: Callable[[Conflict], Conflict | None]) -> Conflict:
    for part in parts:
        for i in np.flatnonzero(getattr(found, part)):
            kept = getattr(found, part).copy()
            if not kept[i]:
                continue  # an earlier trial has spared it, too
            kept[i] = False
            less = trial(replace(found, **{part: kept}))
            found = found if less is None else less
    return replace(found, irreducible=True)
