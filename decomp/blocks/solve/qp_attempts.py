"""One convex quadratic program, tried in several units and with several settings until its optimum is known.

    min 1/2 x'Px + c'x,  E x = b,  lo <= G x <= hi,  lb <= x <= ub

How far an answer may be from the optimum is worked out here, from its multipliers and in the program's own units: what
the solver is content with depends on the units it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from decomp.blocks.solve.piqp_call import call_piqp
from decomp.blocks.solve.scaling import power_of_two
from decomp.messages import FloatArray, Status

TOLERANCES: Mapping[str, float] = {
    "eps_abs": 1e-10,
    "eps_rel": 1e-12,
    "eps_duality_gap_abs": 1e-10,
    "eps_duality_gap_rel": 1e-13,
    "max_iter": 100,
}
CLOSE = 1e-7  # residual at which an answer that missed the tolerances is still taken
# Tried in turn. Where values span many decades (a value at risk of thousands beside kW) rounding keeps the tolerances
# out of reach, and further iterations lead away again. With the solver's own limits programs without room between their
# sides (integers held) stall or are called infeasible.
LOOSER: Mapping[str, float] = {
    "eps_abs": 1e-9,
    "eps_rel": 1e-10,
    "eps_duality_gap_abs": 1e-9,
    "eps_duality_gap_rel": 1e-10,
    "reg_finetune_lower_limit": 1e-13,
}
FURTHER: tuple[Mapping[str, float], ...] = (LOOSER, {"reg_lower_limit": 1e-8}, {"reg_lower_limit": 1e-7})
FACTORS = (64.0, 4096.0, 1.0)  # on the objective in its own unit: what stalls in one is often solved in another
KNOWN = 1e-9  # an optimum is known where the objective's terms are, to this share of them
NOTHING = 1e-10  # in units of the cost: an error of this size is none
USABLE = 1e-6  # ... and an answer can be used, and says how far it may be off
ROUNDING = 1e-12
REACH = 1e3  # a column is taken to stay within this multiple of where it is
PASSES = 4
Data = tuple[Any, ...]  # P, c, E, b, G, lo, hi, lb, ub


@dataclass(frozen=True, eq=False)
class Solved:
    """Point (n,), multipliers of E (k,) and of G (m,), > 0 at the lower side.

    error  how far the objective may be from the optimum; off: the same as a share of the objective's terms
    """

    status: Status
    x: FloatArray
    equal: FloatArray
    open: FloatArray
    error: float = np.inf
    off: float = np.inf

    @property
    def doubt(self) -> float:
        """The share where the error counts at all: an optimum of 0 is not known to any share of it."""
        return self.off if self.error > NOTHING else 0.0


def solved(data: Data) -> Solved:
    """The first answer whose optimum is known, else the best one; a failure has the status of the first attempt."""
    first = best = attempt(data, {})
    if best.off <= KNOWN:
        return best
    own, column, equal, open_, unit = in_own_units(data)
    for factor in FACTORS:
        again = attempt((factor * own[0], factor * own[1], *own[2:]), {})
        if again.status is Status.OPTIMAL:
            x, y, z = again.x * column, again.equal * equal, again.open * open_
            y, z = y / (factor * unit), z / (factor * unit)
            best = min(best, Solved(again.status, x, y, z, *misses(data, x, y, z)), key=_off)
        if best.off <= KNOWN:
            return best
    for more in FURTHER if best.doubt > KNOWN else ():
        best = min(best, attempt(data, more), key=_off)
        if best.doubt <= KNOWN:
            return best
    return best if np.isfinite(best.off) else first


def _off(answer: Solved) -> float:
    return answer.off


def attempt(data: Data, more: Mapping[str, float]) -> Solved:
    """One attempt; an answer that missed the tolerances is taken where its residuals are close."""
    ended = call_piqp(data, {**TOLERANCES, **more})
    status, info = ended.status, ended.info
    close = CLOSE * max(1.0, float(np.abs(data[1]).max(initial=0.0)))
    if status is Status.ERROR and max(info.primal_res, info.dual_res, abs(info.duality_gap)) <= close:
        status = Status.OPTIMAL
    x, y, z = ended.x, -ended.equal, ended.lower - ended.upper
    if status is not Status.OPTIMAL or not np.isfinite(x).all():
        return Solved(Status.ERROR if status is Status.OPTIMAL else status, x, y, z)
    return Solved(status, x, y, z, *misses(data, x, y, z))


def misses(data: Data, x: FloatArray, equal: FloatArray, open_: FloatArray) -> tuple[float, float]:
    """How far the objective at x may be from the optimum, and that as a share of its terms.

    The Lagrangian's gradient d = P x + c - E'y - G'z is charged up to the end of the column that it points to, and what
    rows and their multipliers do not fit each other by its product.
    """
    P, c, E, b, G, lo, hi, lb, ub = data
    curve = P @ x
    gradient = curve + c - E.T @ equal - G.T @ open_
    end = np.where(gradient > 0, x - lb, ub - x)
    moved = np.abs(gradient) @ np.minimum(np.maximum(end, 0.0), REACH * np.abs(x))
    body = G @ x
    side = np.where(open_ > 0, body - lo, hi - body)
    # a multiplier of a side that does not exist is a residual of the gradient
    rows = np.abs(open_) @ np.where(np.isfinite(side), np.abs(side), REACH * np.abs(body))
    outside = np.maximum(np.maximum(lb - x, x - ub), 0.0)
    missed = np.abs(equal) @ np.abs(E @ x - b) + np.abs(gradient) @ outside
    if not c.any() and not P.nnz:
        return 0.0, 0.0  # every feasible point is an optimum
    # terms of the objective at x, those of the squares it is made of (of a penalty: its target's), and what is rounding
    diagonal = P.diagonal()
    squares = 0.5 * float(np.sum(np.divide(c * c, diagonal, out=np.zeros(len(c)), where=diagonal > 0)))
    span = np.where(np.isfinite(ub) & np.isfinite(lb), ub - lb, np.abs(x))
    size = np.abs(c) @ np.abs(x) + 0.5 * np.abs(curve) @ np.abs(x) + squares + ROUNDING * (np.abs(c) @ span)
    total = float(moved + rows + missed)
    return total, total / float(size) if size > 0 else (0.0 if total == 0 else np.inf)


def in_own_units(data: Data) -> tuple[Data, FloatArray, FloatArray, FloatArray, float]:
    """The program with every column in a unit of its range, every row in one of its largest term, the objective of its
    largest: powers of two. Returns the factors of columns, of both kinds of rows and of the objective."""
    P, c, E, b, G, lo, hi, lb, ub = data
    rows = sparse.coo_matrix(sparse.vstack([E, G]))
    sides = np.abs(np.concatenate([b, np.where(np.isfinite(lo), lo, 0.0)]))
    upper = np.abs(np.concatenate([b, np.where(np.isfinite(hi), hi, 0.0)]))
    column = column_units(abs(rows), np.maximum(sides, upper), lb, ub)
    row = power_of_two(1 / _most(np.abs(rows.data) * column[rows.col], rows.row, rows.shape[0], np.zeros(len(sides))))
    equal, open_ = row[: len(b)], row[len(b) :]
    D = sparse.diags_array(column)
    P_own, c_own = sparse.csc_matrix(D @ P @ D), column * c
    largest = max(float(np.abs(c_own).max(initial=0.0)), float(np.abs(P_own.data).max(initial=0.0))) or 1.0
    unit = float(power_of_two(np.array([1 / largest]))[0])
    E_own = sparse.csc_matrix(sparse.diags_array(equal) @ E @ D)
    G_own = sparse.csc_matrix(sparse.diags_array(open_) @ G @ D)
    own = unit * P_own, unit * c_own, E_own, equal * b, G_own, open_ * lo, open_ * hi, lb / column, ub / column
    return own, column, equal, open_, unit


def column_units(rows: sparse.coo_matrix, sides: FloatArray, lb: FloatArray, ub: FloatArray) -> FloatArray:
    """A unit for each column: the size of its bounds where both are finite, else what its rows make it."""
    n = len(lb)
    ranges = np.where(np.isfinite(lb) & np.isfinite(ub), np.maximum(np.abs(lb), np.abs(ub)), 0.0)
    known = ranges > 0
    unit = np.where(known, ranges, 0.0)
    for _ in range(PASSES):
        row = _most(rows.data * unit[rows.col], rows.row, rows.shape[0], sides)
        # each row as large as what is known of it, each other column as large as the smallest of its rows makes it
        least = np.full(n, np.inf)
        positive = rows.data > 0
        np.minimum.at(least, rows.col[positive], row[rows.row[positive]] / rows.data[positive])
        unit = np.where(known, unit, np.where(np.isfinite(least), least, 1.0))
    return power_of_two(np.where(unit > 0, unit, 1.0))


def _most(value: FloatArray, group: Any, count: int, floor: FloatArray) -> FloatArray:
    """The largest value of each group, and at least its floor; 1 where both are 0."""
    most = np.array(floor, float)
    np.maximum.at(most, group, value)
    return np.where(most > 0, most, 1.0)
