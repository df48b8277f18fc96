"""Scaling by powers of two: done once by us, so that a solver has nothing of its own to remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from decomp.highs.program import Program
from decomp.highs.tangents import Pool, Terms
from decomp.messages import BoolArray, FloatArray

PASSES = 4


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows lo <= A x <= hi in scaled units, x_scaled = x / column."""

    A: sparse.csr_matrix
    lo: FloatArray
    hi: FloatArray


@dataclass(frozen=True, eq=False)
class Scaled:
    """A program's rows as R A S with R, S diagonal powers of two: no digit is lost on the way there or back.

    row (m,), column (n,): the factors R and S.
    """

    row: FloatArray
    column: FloatArray
    rows: Rows
    terms: Terms

    @classmethod
    def of(cls, program: Program) -> Scaled:
        row, column = factors(program.A, program.integer)
        A = sparse.csr_matrix(sparse.diags_array(row) @ program.A @ sparse.diags_array(column))
        A.sort_indices()
        return cls(row, column, Rows(A, program.row_lo * row, program.row_hi * row), program.terms)

    def tangent_rows(self, pool: Pool) -> tuple[Rows, FloatArray]:
        """The pool's tangents as scaled rows, and their row factors."""
        matrix = tangent_matrix(self.terms, pool, len(self.column))
        scaled = sparse.csr_matrix(matrix @ sparse.diags_array(self.column))
        scaled.sort_indices()
        largest = np.maximum.reduceat(np.abs(scaled.data), scaled.indptr[:-1]) if len(pool) else np.zeros(0)
        row = power_of_two(1.0 / largest)
        scaled = sparse.csr_matrix(sparse.diags_array(row) @ scaled)
        return Rows(scaled, pool.level * row, np.full(len(pool), np.inf)), row


def tangent_matrix(terms: Terms, pool: Pool, n: int) -> sparse.csr_matrix:
    """Rows t - sum_j slope_j x_j of the pool, (p, n)."""
    p, width = pool.slope.shape
    column = np.column_stack([terms.epigraph[pool.term], terms.column[pool.term]])
    value = np.column_stack([np.ones(p), -pool.slope])
    row = np.repeat(np.arange(p), width + 1).reshape(p, width + 1)
    used = (column >= 0) & (value != 0)
    return sparse.csr_matrix((value[used], (row[used], column[used])), shape=(p, n))


def factors(A: sparse.csr_matrix, integer: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Row and column factors that bring every row and column near 1 in geometric mean of its extremes.

    Integer columns keep the factor 1.
    """
    row, column = np.ones(A.shape[0]), np.ones(A.shape[1])
    size = sparse.csr_matrix(np.abs(A))
    size.eliminate_zeros()
    if not size.nnz:
        return row, column
    entries = size.tocoo()
    for _ in range(PASSES):
        row = 1 / _middle(entries.data * column[entries.col], entries.row, len(row))
        column = 1 / _middle(entries.data * row[entries.row], entries.col, len(column))
        column[integer] = 1.0
    column = power_of_two(column)
    row = power_of_two(1 / _largest(entries.data * column[entries.col], entries.row, len(row)))
    return row, column


def power_of_two(x: FloatArray) -> FloatArray:
    """The power of two nearest to each x (in its logarithm)."""
    return np.exp2(np.round(np.log2(x)))


def _largest(value: FloatArray, group: Any, count: int) -> FloatArray:
    most = np.zeros(count)
    np.maximum.at(most, group, value)
    return np.where(most > 0, most, 1.0)


def _middle(value: FloatArray, group: Any, count: int) -> FloatArray:
    """Square root of least times largest value of each group; 1 for an empty one."""
    least = np.full(count, np.inf)
    np.minimum.at(least, group, value)
    return np.sqrt(np.where(np.isfinite(least), least, 1.0) * _largest(value, group, count))
