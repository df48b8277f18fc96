"""Units in which a program's columns, rows and money count as about 1, powers of two: no digit is lost.

An interior point is not invariant to units: regularisation, start and step tests are absolute. Offers in a unit 1e5
times too large never converge.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from decomp.blocks.compile.program import Program
from decomp.blocks.solve.scaling import power_of_two
from decomp.messages import FloatArray

PASSES = 12


def natural_units(program: Program, y_unit: FloatArray) -> FloatArray:
    """Units (n,) of the columns.

    A column's unit is its range where that is finite, else that of the offer it makes (y_unit (n_u,)), else the
    smallest that a row with known columns allows it, else 1.
    """
    n = len(program.cost)
    unit = np.full(n, np.nan)
    both = np.isfinite(program.lb) & np.isfinite(program.ub) & (program.ub > program.lb)
    unit[both] = (program.ub - program.lb)[both]
    C = sparse.csr_matrix(abs(program.coupling)).tocoo()
    some = C.data > 0
    offered = np.full(n, np.nan)
    offered[C.col[some]] = y_unit[C.row[some]] / C.data[some]
    unit = np.where(np.isnan(unit), offered, unit)
    A = sparse.csr_matrix(abs(program.A)).tocoo()
    some = A.data > 0
    row, col, value = A.row[some], A.col[some], A.data[some]
    for _ in range(PASSES):
        known = ~np.isnan(unit[col])
        largest = np.zeros(A.shape[0])
        np.maximum.at(largest, row[known], value[known] * unit[col[known]])
        use = ~known & (largest[row] > 0)
        if not use.any():
            break
        allowed = np.full(n, np.inf)
        np.minimum.at(allowed, col[use], largest[row[use]] / value[use])
        unit = np.where(np.isnan(unit) & np.isfinite(allowed), allowed, unit)
    unit = np.where(np.isnan(unit) | (unit <= 0), 1.0, unit)
    return power_of_two(np.clip(unit, 1e-9, 1e12))


def row_factors(A: sparse.csr_matrix, unit: FloatArray) -> FloatArray:
    """Factors (m,) that make the largest scaled coefficient of each row about 1."""
    scaled, largest = sparse.csr_matrix(abs(A)).tocoo(), np.zeros(A.shape[0])
    np.maximum.at(largest, scaled.row, scaled.data * unit[scaled.col])
    return power_of_two(1 / np.where(largest > 0, largest, 1.0))
