"""Scaling by powers of two: done once by us, so that a solver has nothing of its own to remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.compile.program import Program
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

    row (m,), column (n,): the factors R and S; lift (M,): so much above its tangents the epigraph variable of each term
    is kept.
    """

    row: FloatArray
    column: FloatArray
    rows: Rows
    terms: Terms
    base: sparse.csr_matrix
    lift: FloatArray

    @classmethod
    def of(cls, program: Program, lift: FloatArray | None = None) -> Scaled:
        row, column = factors(program.A, program.integer)
        A = _times(program.A, row, column)
        return cls(row, column, Rows(A, program.row_lo * row, program.row_hi * row), program.terms, program.A,
                   np.zeros(len(program.terms)) if lift is None else lift)  # fmt: skip

    def rows_of(self, program: Program) -> Rows:
        """The rows of a program of this structure; their numbers may be others."""
        A = self.rows.A
        if program.A is not self.base:
            A = _times(program.A, self.row, self.column)
        return Rows(A, program.row_lo * self.row, program.row_hi * self.row)

    def entries(self, data: FloatArray) -> FloatArray:
        """Stored entries (b, nnz) of b matrices of this structure, their columns sorted, in scaled units."""
        A = self.rows.A
        return np.asarray(data * self.column[A.indices] * np.repeat(self.row, np.diff(A.indptr)))

    def floor(self, pool: Pool) -> FloatArray:
        """(p,) what t - sum_j slope_j x_j is kept above, for each tangent of the pool: its level, lifted."""
        return pool.level + self.lift[pool.term]

    def tangent_rows(self, pool: Pool, *, lifted: bool = True) -> tuple[Rows, FloatArray]:
        """The pool's tangents as scaled rows, and their row factors; not lifted, they are a relaxation of the terms."""
        A = tangent_matrix(self.terms, pool, len(self.column))
        data = A.data * self.column[A.indices]
        row = power_of_two(1.0 / np.maximum.reduceat(np.abs(data), A.indptr[:-1])) if len(pool) else np.zeros(0)
        data *= np.repeat(row, np.diff(A.indptr))
        scaled = sparse.csr_matrix((data, A.indices, A.indptr), shape=A.shape)
        level = self.floor(pool) if lifted else pool.level
        return Rows(scaled, level * row, np.full(len(pool), np.inf)), row


def _times(A: sparse.csr_matrix, row: FloatArray, column: FloatArray) -> sparse.csr_matrix:
    """R A S with the same stored entries, also where they are 0; those of a row in column order."""
    A = A if A.has_sorted_indices else A.sorted_indices()
    data = A.data * column[A.indices]
    data *= np.repeat(row, np.diff(A.indptr))
    return sparse.csr_matrix((data, A.indices, A.indptr), shape=A.shape)


def tangent_matrix(terms: Terms, pool: Pool, n: int) -> sparse.csr_matrix:
    """Rows t - sum_j slope_j x_j of the pool, (p, n), each in column order."""
    p = len(pool)
    column = np.column_stack([terms.epigraph[pool.term], terms.column[pool.term]])
    value = np.column_stack([np.ones(p), -pool.slope])
    column = np.where((column >= 0) & (value != 0), column, n)
    order = np.argsort(column, axis=1, kind="stable")
    column, value = np.take_along_axis(column, order, 1), np.take_along_axis(value, order, 1)
    used = column < n
    start = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int32)
    return sparse.csr_matrix((value[used], column[used].astype(np.int32), start), shape=(p, n))


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
