"""A convex quadratic program by PIQP, set up afresh for every solve: it has no memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import piqp
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.scaling import Rows, Scaled
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
STATUS_OF = {
    piqp.PIQP_SOLVED: Status.OPTIMAL,
    piqp.PIQP_PRIMAL_INFEASIBLE: Status.INFEASIBLE,
    piqp.PIQP_DUAL_INFEASIBLE: Status.UNBOUNDED,
}


@dataclass(frozen=True, eq=False)
class QuadraticAnswer:
    """Point (n,), multipliers of rows (m,) and tangents (p,): positive = the lower side holds."""

    status: Status
    x: FloatArray
    row_dual: FloatArray
    pool_dual: FloatArray


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
        largest = max(1.0, float(np.abs(linear).max(initial=0.0)))
        first = status, result = attempt(data, {}, CLOSE * largest)
        for more in FURTHER:
            if status is not Status.OPTIMAL:
                status, result = attempt(data, more, CLOSE * largest)
        if status is not Status.OPTIMAL:
            status, result = first
        x = np.array(result.x[: self.n])
        if status is not Status.OPTIMAL or not np.all(np.isfinite(x)):
            return QuadraticAnswer(Status.ERROR if status is Status.OPTIMAL else status, nothing, nothing, nothing)
        row_dual = np.zeros(len(rows.lo))
        row_dual[self.equal] = -np.array(result.y[: len(self.equal)])
        sides = np.array(result.z_l) - np.array(result.z_u)
        row_dual[self.open] = sides[: len(self.open)]
        return QuadraticAnswer(
            status, np.clip(x * column, lb, ub), row_dual * self.scaled.row, sides[len(self.open) :] * factor
        )


def attempt(data: tuple[Any, ...], more: Mapping[str, float], close: float) -> tuple[Status, Any]:
    """One attempt; an answer that missed the tolerances is taken where its residuals are `close`."""
    solver = piqp.SparseSolver()
    for name, value in {**TOLERANCES, **more}.items():
        setattr(solver.settings, name, value)
    solver.setup(*data)
    status = STATUS_OF.get(solver.solve(), Status.ERROR)
    info = solver.result.info
    if status is Status.ERROR and max(info.primal_res, info.dual_res, abs(info.duality_gap)) <= close:
        status = Status.OPTIMAL
    return status, solver.result


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
