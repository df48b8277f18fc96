"""A convex quadratic program by PIQP, set up afresh for every solve: it has no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.qp_attempts import solved
from decomp.blocks.solve.scaling import Rows, Scaled
from decomp.messages import FloatArray, Status


@dataclass(frozen=True, eq=False)
class QuadraticAnswer:
    """Point (n,), multipliers of rows (m,) and tangents (p,): positive = the lower side binds.

    off: how far the objective may be from the optimum, as a share of its terms
    """

    status: Status
    x: FloatArray
    row_dual: FloatArray
    pool_dual: FloatArray
    off: float = 0.0


class Quadratic:
    """Convex quadratic programs over one program's rows: what does not change is put together once.

    min 1/2 x'Qx + cost'x + 1/2 sum_i stiffness_i (s_i - target_i)^2,  s = coupling x (without its constant); s are
    columns of their own, for a coupling entry with many variables would fill the matrix.
    """

    def __init__(self, program: Program, scaled: Scaled) -> None:
        self.scaled, self.n, self.offers = scaled, len(program.cost), len(program.coupling_0)
        S = sparse.diags_array(scaled.column)
        quad = sparse.csc_matrix((self.n, self.n)) if program.quad is None else program.quad
        self.quad = sparse.csc_matrix(S @ quad @ S)
        self.link = sparse.csr_matrix(sparse.hstack([program.coupling @ S, -sparse.eye_array(self.offers)]))
        self.matrix: sparse.csr_matrix | None = None
        self.equal = self.open = np.zeros(0, np.int64)

    def _split(self, rows: Rows) -> None:
        """Sort the rows into equations and the others; what is as it was in the solve before is kept."""
        equal = np.flatnonzero(rows.lo == rows.hi)
        open_ = np.flatnonzero((rows.lo < rows.hi) & (np.isfinite(rows.lo) | np.isfinite(rows.hi)))
        if rows.A is self.matrix and np.array_equal(equal, self.equal) and np.array_equal(open_, self.open):
            return
        self.matrix, self.equal, self.open = rows.A, equal, open_
        self.equal_rows, self.open_rows = rows.A[equal], rows.A[open_]

    def solve(
        self,
        program: Program,
        cost: FloatArray,
        lb: FloatArray,
        ub: FloatArray,
        pool: Pool,
        stiffness: FloatArray | None = None,
        target: FloatArray | None = None,
    ) -> QuadraticAnswer:
        """The optimum over the program's rows, the pool's tangents and lb <= x <= ub; failure is a status."""
        nothing, rows = np.zeros(0), self.scaled.rows_of(program)
        self._split(rows)
        if np.any(rows.lo > rows.hi) or np.any(lb > ub):
            return QuadraticAnswer(Status.INFEASIBLE, nothing, nothing, nothing)
        column = self.scaled.column
        low, high = lb / column, ub / column
        # a column whose bounds meet has no interior: it is an equation
        fixed = np.flatnonzero(lb == ub)
        pinned = low[fixed]
        low[fixed], high[fixed] = -np.inf, np.inf
        pins = sparse.csr_matrix((np.ones(len(fixed)), fixed, np.arange(len(fixed) + 1)), shape=(len(fixed), self.n))
        tangents, factor = self.scaled.tangent_rows(pool)
        equations, right = [self.equal_rows, pins], [rows.lo[self.equal], pinned]
        P, linear, width = self.quad, cost * column, self.n
        if stiffness is not None and target is not None:
            width += self.offers
            P = bordered(self.quad, stiffness)
            linear = np.concatenate([linear, -stiffness * target])
            free = np.full(self.offers, np.inf)
            low, high = np.concatenate([low, -free]), np.concatenate([high, free])
            equations, right = [*equations, self.link], [*right, np.zeros(self.offers)]
        data = (
            P,
            linear,
            stacked(equations, width),
            np.concatenate(right),
            stacked([self.open_rows, tangents.A], width),
            np.concatenate([rows.lo[self.open], tangents.lo]),
            np.concatenate([rows.hi[self.open], tangents.hi]),
            low,
            high,
        )
        found = solved(data)
        if found.status is not Status.OPTIMAL:
            return QuadraticAnswer(found.status, nothing, nothing, nothing)
        row_dual = np.zeros(len(rows.lo))
        row_dual[self.equal], row_dual[self.open] = found.equal[: len(self.equal)], found.open[: len(self.open)]
        x = np.clip(found.x[: self.n] * column, lb, ub)
        pool_dual = found.open[len(self.open) :] * factor
        return QuadraticAnswer(found.status, x, row_dual * self.scaled.row, pool_dual, found.doubt)


def stacked(parts: Sequence[sparse.csr_matrix], width: int) -> sparse.csc_matrix:
    """The rows of all parts, one below the other; much faster than scipy's own for matrices as small as these."""
    starts = np.cumsum([0, *(p.nnz for p in parts)])
    indptr = np.concatenate([[0], *(p.indptr[1:] + s for p, s in zip(parts, starts[:-1], strict=True))])
    indices = np.concatenate([p.indices for p in parts])
    data = np.concatenate([p.data for p in parts])
    return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, width)).tocsc()


def bordered(quad: sparse.csc_matrix, stiffness: FloatArray) -> sparse.csc_matrix:
    """Q with the stiffness of the offers' columns on the diagonal below it."""
    n, more = quad.shape[0], len(stiffness)
    return sparse.csc_matrix(
        (
            np.concatenate([quad.data, stiffness]),
            np.concatenate([quad.indices, np.arange(n, n + more)]),
            np.concatenate([quad.indptr, quad.nnz + np.arange(1, more + 1)]),
        ),
        shape=(n + more, n + more),
    )
