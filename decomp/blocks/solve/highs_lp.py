"""A linear program solved again and again: only costs, bounds, right-hand sides and tangents change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.highs_simplex import Basis, Pair, Simplex, new_highs
from decomp.blocks.solve.scaling import Rows, Scaled
from decomp.messages import FloatArray, Status

Options = Mapping[str, object]
HISTORY_FREE: dict[str, object] = {
    "output_flag": False,
    "threads": 1,
    "random_seed": 0,
    "presolve": "off",
    "solver": "simplex",
    "simplex_scale_strategy": 0,
    "simplex_dual_edge_weight_strategy": 1,  # the default computes exact weights at every warm start
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}
PRIMAL, DUAL = 4, 1  # values of simplex_strategy
MODEL_STATUS = highspy.HighsModelStatus
STATUS_OF = {
    MODEL_STATUS.kOptimal: Status.OPTIMAL,
    MODEL_STATUS.kInfeasible: Status.INFEASIBLE,
    MODEL_STATUS.kUnbounded: Status.UNBOUNDED,
    MODEL_STATUS.kUnboundedOrInfeasible: Status.INFEASIBLE,
    MODEL_STATUS.kTimeLimit: Status.LIMIT,
    MODEL_STATUS.kIterationLimit: Status.LIMIT,
    MODEL_STATUS.kSolutionLimit: Status.LIMIT,
    MODEL_STATUS.kMemoryLimit: Status.LIMIT,
    MODEL_STATUS.kInterrupt: Status.LIMIT,
}
STATUS_OF_NUMBER = {int(ended): status for ended, status in STATUS_OF.items()}


@dataclass(frozen=True, eq=False)
class LinearAnswer:
    """Point (n,), multipliers of rows (m,) and tangents (p,), basis; in the program's own units."""

    status: Status
    x: FloatArray
    row_dual: FloatArray
    pool_dual: FloatArray
    basis: Basis | None


class WarmLinear:
    """One HiGHS object for all programs of one structure. An answer is a function of the arguments alone.

    The object itself only saves work: the matrix is passed once, bounds and right-hand sides where they are not those
    of the solve before, tangents are appended. Each solve clears what the solver remembers and starts from the given
    basis. With `fresh_every` = k every k-th solve is done on a new object.
    """

    def __init__(self, scaled: Scaled, fresh_every: int = 0) -> None:
        self.scaled, self.fresh_every = scaled, fresh_every
        self.inverse = 1.0 / scaled.column  # powers of two: dividing and multiplying by them are both exact
        self.given: tuple[dict[str, object], int] | None = None
        self.solver: Simplex | None = None
        self.passed: tuple[FloatArray | None, ...] = (None,) * 4
        self.matrix: sparse.csr_matrix | None = None
        self.loaded = scaled.terms.no_tangents()
        self.factor = np.zeros(0)
        self.count = 0

    def solve(
        self,
        program: Program,
        cost: FloatArray,
        lb: FloatArray,
        ub: FloatArray,
        pool: Pool,
        basis: Basis | None,
        strategy: int = PRIMAL,
        options: Options | None = None,
        time_limit_s: float | None = None,
    ) -> LinearAnswer:
        """min cost'x over the program's rows, the pool's tangents and lb <= x <= ub, from the given basis."""
        solver = self._ready(program, pool)
        numbers = (cost * self.scaled.column)[None], *self._changed(program, lb, ub)
        if basis is None:
            strategy = DUAL
        answer = self._run(solver, numbers, basis, strategy, options or {}, time_limit_s)
        if answer.status is Status.ERROR and strategy == PRIMAL:
            # primal simplex can end with "unknown" where dual simplex has no trouble
            answer = self._run(solver, numbers, basis, DUAL, options or {}, time_limit_s)
        if answer.status is Status.ERROR and basis is not None:
            answer = self._run(solver, numbers, None, DUAL, options or {}, time_limit_s)
        return answer

    def sweep(
        self,
        program: Program,
        cost: FloatArray,
        bounds: Pair,
        sides: Pair,
        bases: Sequence[Basis | None],
        options: Options,
    ) -> tuple[FloatArray, FloatArray, list[Basis | None]]:
        """Many programs with this matrix and no tangents beside it, in scaled units: points (b, n), multipliers (b, m).

        cost (b, n); bounds, sides: two arrays (b, n) and (b, m), one row = the same for all. No basis where there is no
        optimum; point and multipliers are nan then.
        """
        solver = self._ready(program, self.scaled.terms.no_tangents())
        self._set(solver, options, PRIMAL)
        self.passed = (None,) * 4
        x, dual = np.full((len(cost), solver.n), np.nan), np.full((len(cost), solver.m), np.nan)
        ended = solver.sweep(cost, bounds, sides, bases, x, dual)
        return x, dual, [basis for _, basis in ended]

    def _run(
        self,
        solver: Simplex,
        numbers: tuple[FloatArray, Pair | None, Pair | None],
        basis: Basis | None,
        strategy: int,
        options: Options,
        time_limit_s: float | None,
    ) -> LinearAnswer:
        self._set(solver, options, strategy)
        if time_limit_s is not None:
            solver.set({"time_limit": solver.spent_s() + time_limit_s})
        x, dual, m = np.full((1, solver.n), np.nan), np.full((1, solver.m), np.nan), len(self.scaled.row)
        ((ended, after),) = solver.sweep(*numbers, [basis], x, dual)
        status = STATUS_OF_NUMBER.get(ended, Status.ERROR)
        if after is None or np.isnan(x).any():
            nothing = np.zeros(0)
            return LinearAnswer(Status.ERROR if status is Status.OPTIMAL else status, nothing, nothing, nothing, None)
        return LinearAnswer(
            status, x[0] * self.scaled.column, dual[0, :m] * self.scaled.row, dual[0, m:] * self.factor, after
        )

    def _set(self, solver: Simplex, options: Options, strategy: int) -> None:
        if self.given is None or options != self.given[0]:
            # the first solve's options must not linger on this object: another one would not have them
            solver.reset()
            solver.set({**HISTORY_FREE, **options})
            self.given = dict(options), 0
        if "simplex_strategy" not in options and strategy != self.given[1]:
            solver.set({"simplex_strategy": strategy})
            self.given = self.given[0], strategy

    def _changed(self, program: Program, lb: FloatArray, ub: FloatArray) -> tuple[Pair | None, Pair | None]:
        """Scaled bounds and right-hand sides, a row each; None where the solver holds these very arrays."""
        before, self.passed = self.passed, (lb, ub, program.row_lo, program.row_hi)
        bounds = sides = None
        if lb is not before[0] or ub is not before[1]:
            bounds = (lb * self.inverse)[None], (ub * self.inverse)[None]
        if program.row_lo is not before[2] or program.row_hi is not before[3]:
            level = self.scaled.floor(self.loaded) * self.factor
            lo, hi = program.row_lo * self.scaled.row, program.row_hi * self.scaled.row
            sides = np.append(lo, level)[None], np.append(hi, np.full(len(level), np.inf))[None]
        return bounds, sides

    def _ready(self, program: Program, pool: Pool) -> Simplex:
        """A solver that holds the program's matrix and exactly the pool's tangents, in order."""
        self.count += 1
        if self.solver is None or (self.fresh_every > 0 and self.count % self.fresh_every == 0):
            self.solver, self.given, self.matrix = Simplex(), None, None
            self.solver.set(HISTORY_FREE)
        if self.matrix is not program.A:
            rows = self.scaled.rows_of(program)
            n = rows.A.shape[1]
            self.solver.load(rows, np.full(n, -np.inf), np.full(n, np.inf))
            self.passed = (None, None, program.row_lo, program.row_hi)
            self.matrix, self.loaded, self.factor = program.A, self.scaled.terms.no_tangents(), np.zeros(0)
        if len(self.loaded) and pool is not self.loaded and not pool.starts_with(self.loaded):
            self.solver.drop(len(self.scaled.row))
            self.loaded, self.factor = self.scaled.terms.no_tangents(), np.zeros(0)
        if len(pool) > len(self.loaded):
            rows, factor = self.scaled.tangent_rows(pool.only(slice(len(self.loaded), None)))
            self.solver.add(rows)
            self.factor = np.concatenate([self.factor, factor])
        self.loaded = pool
        return self.solver


def new_solver(options: Options) -> highspy.Highs:
    """A HiGHS object with the options that make its answers repeatable, and the user's own."""
    solver = new_highs()
    set_options(solver, {**HISTORY_FREE, **options})
    return solver


def set_options(solver: highspy.Highs, options: Options) -> None:
    for name, value in options.items():
        solver.setOptionValue(name, value)


def pass_rows(
    solver: highspy.Highs, rows: Rows, cost: FloatArray, lb: FloatArray | None = None, ub: FloatArray | None = None
) -> highspy.HighsLp:
    """Give the solver the rows; without bounds the columns are free. Returns what was passed."""
    n = len(cost)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n, len(rows.lo)
    lp.col_cost_ = cost
    lp.col_lower_ = np.full(n, -np.inf) if lb is None else lb
    lp.col_upper_ = np.full(n, np.inf) if ub is None else ub
    lp.row_lower_, lp.row_upper_ = rows.lo, rows.hi
    columnwise = rows.A.tocsc()
    columnwise.sort_indices()
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = columnwise.indptr, columnwise.indices
    lp.a_matrix_.value_ = columnwise.data
    solver.passModel(lp)
    return lp


def add_rows(solver: highspy.Highs, rows: Rows) -> None:
    count, A = len(rows.lo), rows.A
    solver.addRows(count, rows.lo, rows.hi, A.nnz, A.indptr[:-1].astype(np.int32), A.indices.astype(np.int32), A.data)


def refused_options(options: Options) -> list[str]:
    """Names of the options that HiGHS does not know, or whose value it refuses."""
    if not options:
        return []
    solver = new_solver({})
    return [name for name, value in options.items() if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk]
