"""Units in which a program's columns, rows and money count as about 1, powers of two: no digit is lost.

An interior point is not invariant to units: regularisation, start and step tests are absolute. Offers in a unit 1e5
times too large never converge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from decomp.blocks.compile.program import Program
from decomp.blocks.solve.scaling import power_of_two
from decomp.messages import BoolArray, FloatArray, IntArray

PASSES = 12


def natural_units(program: Program, y_unit: FloatArray | None) -> FloatArray:
    """Units (n,) of the columns, powers of two.

    A column's unit is its range where that is finite, else the smallest that a row with known columns allows it, and at
    most the offer it makes (y_unit (n_u,), None = not known); else 1. A range that is wider than what the largest other
    term of one of its rows could ask of it says nothing, and that term counts instead. Fixed columns count as 1.
    """
    unit = np.full(len(program.cost), np.nan)
    fixed = program.lb == program.ub
    both = np.isfinite(program.lb) & np.isfinite(program.ub) & ~fixed
    unit[both] = (program.ub - program.lb)[both]
    A = sparse.csr_matrix(abs(program.A)).tocoo()
    some = (A.data > 0) & ~fixed[A.col]
    terms = _Terms(A.row[some], A.col[some], A.data[some], A.shape[0])
    sides = [np.where(np.isfinite(side), np.abs(side), 0.0) for side in (program.row_lo, program.row_hi)]
    offered = np.full(len(unit), np.inf)
    if y_unit is not None:
        C = sparse.csr_matrix(abs(program.coupling)).tocoo()
        entries = C.data > 0
        np.minimum.at(offered, C.col[entries], (y_unit[C.row] / np.where(entries, C.data, 1.0))[entries])
    unit = np.where(both, np.minimum(unit, offered), unit)
    for _ in range(PASSES):
        allowed = np.minimum(terms.allowed(unit, np.zeros(terms.rows)), offered)
        more = np.isnan(unit) & np.isfinite(allowed) & ~fixed
        if not more.any():
            break
        unit = np.where(more, allowed, unit)
    unit = np.where(both, np.minimum(unit, terms.allowed(unit, np.maximum(*sides))), unit)
    unit = np.where(np.isnan(unit) | (unit <= 0), 1.0, unit)
    return power_of_two(np.clip(unit, 1e-9, 1e12))


@dataclass(frozen=True, eq=False)
class _Terms:
    """Entries |a| > 0 of a matrix with so many rows: row, column, value."""

    row: IntArray
    col: IntArray
    value: FloatArray
    rows: int

    def allowed(self, unit: FloatArray, least: FloatArray) -> FloatArray:
        """(n,) the smallest that a row allows a column: the largest of its other terms, and of `least` (m,), by |a|.

        unit nan = not known; inf where no row says anything.
        """
        size = np.nan_to_num(self.value * unit[self.col], nan=0.0)
        order = np.lexsort((size, self.row))
        top = np.zeros(self.rows, np.int64)
        top[self.row[order]] = order  # the last one written is the largest
        first = np.zeros(self.rows)
        first[self.row[order]] = size[order]
        second = np.zeros(self.rows)
        rest = order[top[self.row[order]] != order]
        second[self.row[rest]] = size[rest]
        is_top = top[self.row] == np.arange(len(self.row))
        other = np.maximum(np.where(is_top, second[self.row], first[self.row]), least[self.row])
        allowed = np.full(len(unit), np.inf)
        says = other > 0
        np.minimum.at(allowed, self.col[says], (other / self.value)[says])
        return allowed


def row_factors(A: sparse.csr_matrix, unit: FloatArray, fixed: BoolArray) -> FloatArray:
    """Factors (m,) that make the largest scaled coefficient of each row about 1, fixed columns left out."""
    scaled, largest = sparse.csr_matrix(abs(A)).tocoo(), np.zeros(A.shape[0])
    moves = ~fixed[scaled.col]
    np.maximum.at(largest, scaled.row[moves], scaled.data[moves] * unit[scaled.col[moves]])
    return power_of_two(1 / np.where(largest > 0, largest, 1.0))
