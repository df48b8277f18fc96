"""A linear program solved again and again: only costs, bounds, right-hand sides and tangents change."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import highspy
import numpy as np
from scipy import sparse

from decomp.highs.program import Program
from decomp.highs.scaling import Rows, Scaled
from decomp.highs.tangents import Pool
from decomp.messages import BoolArray, FloatArray, Status

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
BASIC = highspy.HighsBasisStatus.kBasic
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


@dataclass(frozen=True, eq=False)
class Basis:
    """A simplex basis: one status for each column, row and tangent. Kept as HiGHS gave it, for lists are slow."""

    held: highspy.HighsBasis

    def with_tangents(self, count: int) -> Basis:
        """The same basis after more tangents were added: they are basic."""
        return Basis.of(self.held.col_status, [*self.held.row_status, *[BASIC] * count])

    def keeping(self, first: int, keep: BoolArray) -> Basis:
        """The same basis when, of the rows from `first` on, only some are kept; the others were basic."""
        rows = self.held.row_status
        return Basis.of(
            self.held.col_status, [*rows[:first], *(s for s, k in zip(rows[first:], keep, strict=True) if k)]
        )

    def codes(self) -> tuple[np.ndarray, np.ndarray]:
        """HiGHS's number of each status, columns and rows."""
        columns, rows = self.held.col_status, self.held.row_status
        return np.array([int(s) for s in columns], np.int8), np.array([int(s) for s in rows], np.int8)

    @classmethod
    def from_codes(cls, columns: np.ndarray, rows: np.ndarray) -> Basis:
        known = {int(s): s for s in highspy.HighsBasisStatus.__members__.values()}
        return cls.of([known[int(c)] for c in columns], [known[int(r)] for r in rows])

    @classmethod
    def of(cls, columns: list[highspy.HighsBasisStatus], rows: list[highspy.HighsBasisStatus]) -> Basis:
        held = highspy.HighsBasis()
        held.col_status, held.row_status, held.valid = columns, rows, True
        return cls(held)


@dataclass(frozen=True, eq=False)
class LinearAnswer:
    """Point (n,), multipliers of rows (m,) and tangents (p,), basis; in the program's own units."""

    status: Status
    x: FloatArray
    row_dual: FloatArray
    pool_dual: FloatArray
    basis: Basis | None


class WarmLinear:
    """One HiGHS object for all programs of one structure. An answer is a function of `solve`'s arguments alone.

    The object itself only saves work: the matrix is passed once, numbers are passed where they differ from those of
    the solve before, tangents are appended. Each solve clears what the solver remembers and starts from the given
    basis. With `fresh_every` = k every k-th solve is done on a new object.
    """

    def __init__(self, scaled: Scaled, fresh_every: int = 0) -> None:
        self.scaled, self.fresh_every = scaled, fresh_every
        self.inverse = 1.0 / scaled.column  # powers of two: dividing and multiplying by them are both exact
        self.given: dict[str, object] = {}
        self.solver: highspy.Highs | None = None
        self.held: list[FloatArray] = []
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
        lo, hi = program.row_lo * self.scaled.row, program.row_hi * self.scaled.row
        self.pass_numbers(cost * self.scaled.column, lb * self.inverse, ub * self.inverse, lo, hi)
        if basis is None:
            strategy = DUAL
        answer = self._run(solver, basis, strategy, options or {}, time_limit_s)
        if answer.status is Status.ERROR and strategy == PRIMAL:
            # primal simplex can end with "unknown" where dual simplex has no trouble
            answer = self._run(solver, basis, DUAL, options or {}, time_limit_s)
        if answer.status is Status.ERROR and basis is not None:
            answer = self._run(solver, None, DUAL, options or {}, time_limit_s)
        return answer

    def _run(
        self,
        solver: highspy.Highs,
        basis: Basis | None,
        strategy: int,
        options: Options,
        time_limit_s: float | None,
    ) -> LinearAnswer:
        solver.clearSolver()
        self._set_options(solver, options)
        if "simplex_strategy" not in options:
            solver.setOptionValue("simplex_strategy", strategy)
        if time_limit_s is not None:
            solver.setOptionValue("time_limit", solver.getRunTime() + time_limit_s)
        if basis is not None:
            solver.setBasis(basis.held)
        solver.run()
        status = STATUS_OF.get(solver.getModelStatus(), Status.ERROR)
        solution, m = solver.getSolution(), len(self.scaled.row)
        if status is not Status.OPTIMAL or not solution.value_valid:
            nothing = np.zeros(0)
            return LinearAnswer(Status.ERROR if status is Status.OPTIMAL else status, nothing, nothing, nothing, None)
        dual = floats(solution.row_dual)
        return LinearAnswer(
            status,
            floats(solution.col_value) * self.scaled.column,
            dual[:m] * self.scaled.row,
            dual[m:] * self.factor,
            Basis(solver.getBasis()),
        )

    def _set_options(self, solver: highspy.Highs, options: Options) -> None:
        if options != self.given:
            # the first solve's options must not linger on this object: another one would not have them
            solver.resetOptions()
            set_options(solver, {**HISTORY_FREE, **options})
            self.given = dict(options)

    def prepare(self, program: Program, options: Options) -> None:
        """Ready for `again`: the program's matrix, no tangents beside it, these options."""
        self._set_options(self._ready(program, self.scaled.terms.no_tangents()), options)

    def again(
        self,
        at: tuple[np.ndarray, np.ndarray, np.ndarray],
        numbers: Sequence[FloatArray],
        basis: Basis | None,
        options: Options,
        x: FloatArray,
        dual: FloatArray,
    ) -> Basis | None:
        """Another program's numbers at these columns (cost; bounds) and rows, solved from its basis; all scaled.

        Writes point and multipliers into x and dual; None where there is no optimum.
        """
        solver = self.solver
        assert solver is not None
        cost, bounds, rows = at
        solver.changeColsCost(len(cost), cost, numbers[0])
        if len(bounds):
            solver.changeColsBounds(len(bounds), bounds, numbers[1], numbers[2])
        if len(rows):
            solver.changeRowsBounds(len(rows), rows, numbers[3], numbers[4])
        solver.clearSolver()
        if "simplex_strategy" not in options:
            solver.setOptionValue("simplex_strategy", PRIMAL)
        if basis is not None:
            solver.setBasis(basis.held)
        solver.run()
        solution = solver.getSolution()
        if solver.getModelStatus() != MODEL_STATUS.kOptimal or not solution.value_valid:
            return None
        _packer(len(x)).pack_into(x.data, 0, *solution.col_value)
        _packer(len(dual)).pack_into(dual.data, 0, *solution.row_dual)
        return Basis(solver.getBasis())

    def _ready(self, program: Program, pool: Pool) -> highspy.Highs:
        """A solver that holds the program's matrix and exactly the pool's tangents, in order."""
        self.count += 1
        if self.solver is None or (self.fresh_every > 0 and self.count % self.fresh_every == 0):
            self.solver, self.given, self.matrix = new_solver({}), {}, None
        if self.matrix is not program.A:
            rows = self.scaled.rows_of(program)
            n = rows.A.shape[1]
            lp = pass_rows(self.solver, rows, np.zeros(n))
            self.held = [np.zeros(n), np.array(lp.col_lower_), np.array(lp.col_upper_), rows.lo, rows.hi]
            self.matrix, self.loaded, self.factor = program.A, self.scaled.terms.no_tangents(), np.zeros(0)
        if len(self.loaded) and pool is not self.loaded and not pool.starts_with(self.loaded):
            first = len(self.scaled.row)
            gone = np.arange(first, first + len(self.loaded), dtype=np.int32)
            self.solver.deleteRows(len(gone), gone)
            self.loaded, self.factor = self.scaled.terms.no_tangents(), np.zeros(0)
        if len(pool) > len(self.loaded):
            rows, factor = self.scaled.tangent_rows(pool.only(slice(len(self.loaded), None)))
            add_rows(self.solver, rows)
            self.factor = np.concatenate([self.factor, factor])
        self.loaded = pool
        return self.solver

    def pass_numbers(self, cost: FloatArray, lb: FloatArray, ub: FloatArray, lo: FloatArray, hi: FloatArray) -> None:
        """Costs, bounds and right-hand sides, in scaled units, as far as the solver does not hold them already."""
        held, solver = self.held, self.solver
        assert solver is not None
        at = _changed(cost, held[0])
        if len(at):
            solver.changeColsCost(len(at), at, cost[at])
        at = _changed(lb, held[1], ub, held[2])
        if len(at):
            solver.changeColsBounds(len(at), at, lb[at], ub[at])
        at = _changed(lo, held[3], hi, held[4])
        if len(at):
            solver.changeRowsBounds(len(at), at, lo[at], hi[at])
        self.held = [cost, lb, ub, lo, hi]


def _changed(*pairs: FloatArray) -> np.ndarray:
    """Places where new and old differ in any of the pairs new, old, new, old."""
    differ = pairs[0] != pairs[1]
    for new, old in zip(pairs[2::2], pairs[3::2], strict=True):
        differ |= new != old
    return np.flatnonzero(differ).astype(np.int32)


def floats(values: list[float]) -> FloatArray:
    """A list of floats as an array; several times faster than numpy's own way."""
    return np.frombuffer(_packer(len(values)).pack(*values))


@cache
def _packer(n: int) -> struct.Struct:
    return struct.Struct(f"{n}d")


def new_solver(options: Options) -> highspy.Highs:
    """A HiGHS object with the options that make its answers repeatable, and the user's own."""
    solver = highspy.Highs()
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
