"""Linear programs of one matrix, solved one after the other in HiGHS by highspy's documented interface.

Each solve passes the whole model as arrays (`passModel` copies them; that is quicker than changing costs, bounds and
sides one by one) and starts from a basis in the form in which HiGHS returned it. Nothing is left of the solve before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache

import highspy
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from decomp.blocks.solve.scaling import Rows
from decomp.messages import BoolArray, FloatArray

Codes = NDArray[np.int8]
Pair = tuple[FloatArray, FloatArray]
BASIC = int(highspy.HighsBasisStatus.kBasic)
OPTIMAL = int(highspy.HighsModelStatus.kOptimal)
COLUMNWISE = MINIMISE = 1
FAULTY = frozenset({"1.14.0"})  # presolve loses optima, see HiGHS's release notes of 1.14.1 and 1.15
STATUS_OF_CODE = tuple(highspy.HighsBasisStatus(code) for code in range(5))


def new_highs() -> highspy.Highs:
    """A HiGHS object that prints nothing."""
    _take_banner()
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    return solver


def run_highs(solver: highspy.Highs) -> highspy.HighsModelStatus:
    """Run the solver; what it ended with.

    All HiGHS objects of a process share their threads, and one that wants another number does not start. Where somebody
    else has solved with more threads before, theirs are given back, and the solver is run again.
    """
    solver.run()
    if solver.getModelStatus() == highspy.HighsModelStatus.kNotset:
        highspy.Highs.resetGlobalScheduler(True)
        solver.run()
    return solver.getModelStatus()


@cache
def faulty_version() -> str:
    """Why the installed HiGHS may not solve mixed-integer programs; "" = it may."""
    version = new_highs().version()
    if version not in FAULTY:
        return ""
    return (
        f"HiGHS {version} returns wrong optima of mixed-integer programs and proves them by wrong bounds; install "
        f"another version: pip install 'highspy!={version}'"
    )


@cache
def _take_banner() -> None:
    """Build a first HiGHS object with standard output closed off.

    From version 1.16 on HiGHS greets with two lines when a process builds its first object, before any option can be
    set; they belong neither on the terminal of every rank nor into piped output.
    """
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no standard output
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            highspy.Highs()
        finally:
            os.dup2(kept, 1)
            os.close(kept)


class Basis:
    """A simplex basis: the status of each column, then of each row and tangent.

    `handle` is HiGHS's own object, `codes` are its numbers; each is worked out from the other when it is needed. A
    handle that HiGHS returned is given back as it is: HiGHS trusts it and factorises once.
    """

    __slots__ = ("_codes", "_handle", "columns")

    def __init__(self, codes: Codes | None, columns: int, handle: highspy.HighsBasis | None = None) -> None:
        self._codes, self.columns, self._handle = codes, columns, handle

    @property
    def codes(self) -> Codes:
        if self._codes is None:
            assert self._handle is not None
            statuses = (*self._handle.col_status, *self._handle.row_status)
            self._codes = np.fromiter(map(int, statuses), np.int8, len(statuses))
        return self._codes

    @property
    def handle(self) -> highspy.HighsBasis:
        if self._handle is None:
            statuses = [STATUS_OF_CODE[code] for code in self.codes.tolist()]
            basis = highspy.HighsBasis()
            basis.col_status, basis.row_status = statuses[: self.columns], statuses[self.columns :]
            basis.valid, basis.alien = True, False
            self._handle = basis
        return self._handle

    @property
    def rows(self) -> Codes:
        return self.codes[self.columns :]

    def with_tangents(self, count: int) -> Basis:
        """The same basis after more tangents were added: they are basic."""
        return Basis(np.append(self.codes, np.full(count, BASIC, np.int8)), self.columns)

    def keeping(self, first: int, keep: BoolArray) -> Basis:
        """The same basis when, of the rows from `first` on, only some are kept; the others were basic."""
        first += self.columns
        return Basis(np.concatenate([self.codes[:first], self.codes[first:][keep]]), self.columns)

    def apart(self) -> tuple[Codes, Codes]:
        """Columns and rows."""
        return self.codes[: self.columns], self.rows

    @classmethod
    def of(cls, columns: np.ndarray, rows: np.ndarray) -> Basis:
        return cls(np.concatenate([columns, rows]).astype(np.int8), len(columns))


class Simplex:
    """One HiGHS object with a linear program: min cost'x, lo <= A x <= hi, lb <= x <= ub."""

    def __init__(self) -> None:
        self._highs = new_highs()
        self.n = self.m = 0
        self._parts: list[sparse.csr_matrix] = []
        self._bounds: Pair = (np.zeros(0), np.zeros(0))
        self._sides: Pair = (np.zeros(0), np.zeros(0))

    # -- the program ---------------------------------------------------------------------------------------------------

    def load(self, rows: Rows, lb: FloatArray, ub: FloatArray) -> None:
        """A program with these rows and bounds, and no costs yet."""
        self._parts = [rows.A.tocsr()]
        self._bounds, self._sides = (lb, ub), (rows.lo, rows.hi)
        self._index_columns()

    def add(self, rows: Rows) -> None:
        """More rows, behind those there are."""
        self._parts.append(rows.A.tocsr())
        lo, hi = self._sides
        self._sides = np.append(lo, rows.lo), np.append(hi, rows.hi)
        self._index_columns()

    def drop(self, first: int) -> None:
        """Without the rows from `first` on."""
        self._parts = [sparse.vstack(self._parts).tocsr()[:first]]
        lo, hi = self._sides
        self._sides = lo[:first], hi[:first]
        self._index_columns()

    def _index_columns(self) -> None:
        A = sparse.vstack(self._parts).tocsc()
        A.sort_indices()
        self.m, self.n = A.shape
        self._start, self._index = A.indptr.astype(np.int32), A.indices.astype(np.int32)
        self._value = np.ascontiguousarray(A.data, np.float64)
        self._continuous = np.zeros(self.n, np.int32)

    # -- options -------------------------------------------------------------------------------------------------------

    def set(self, options: Mapping[str, object]) -> None:
        """Options by name; those that HiGHS does not know or refuses stay as they are."""
        for name, value in options.items():
            self._highs.setOptionValue(name, value)

    def reset(self) -> None:
        """All options as HiGHS has them, but for its output, which stays off."""
        self._highs.resetOptions()
        self._highs.setOptionValue("output_flag", False)

    def whole_number(self, option: str) -> int:
        """The value of an option that is a whole number."""
        return int(self._highs.getOptionValue(option)[1])

    # -- solves --------------------------------------------------------------------------------------------------------

    def run(self) -> highspy.HighsModelStatus:
        return run_highs(self._highs)

    def spent_s(self) -> float:
        """What HiGHS's clock of this object says, by which it keeps its time limit."""
        return float(self._highs.getRunTime())

    def sweep(
        self,
        cost: FloatArray,
        bounds: Pair | None,
        sides: Pair | None,
        bases: Sequence[Basis | None],
        x: FloatArray,
        dual: FloatArray,
    ) -> list[tuple[int, Basis | None]]:
        """Solves b programs one after the other, each as if it were the first; HiGHS's status and the basis of each.

        cost (b, n); bounds: two arrays (b, n), or (1, n) for all; sides: two arrays (b, m) or (1, m); None = those of
        the solve before. Where the status is OPTIMAL, point and multipliers are written into x (b, n) and dual (b, m),
        which are not touched otherwise.
        """
        highs, n, m = self._highs, self.n, self.m
        sizes = n, m, len(self._value), COLUMNWISE, MINIMISE, 0.0
        matrix = self._start, self._index, self._value, self._continuous
        found: list[tuple[int, Basis | None]] = []
        for i, basis in enumerate(bases):
            if bounds is not None:
                self._bounds = _row(bounds, i)
            if sides is not None:
                self._sides = _row(sides, i)
            highs.passModel(*sizes, cost[i], *self._bounds, *self._sides, *matrix)
            if basis is not None:
                highs.setBasis(basis.handle)
            ended = int(self.run())
            if ended == OPTIMAL:
                solution = highs.getSolution()
                x[i] = np.fromiter(solution.col_value, np.float64, n)
                dual[i] = np.fromiter(solution.row_dual, np.float64, m)
                found.append((ended, Basis(None, n, highs.getBasis())))
            else:
                found.append((ended, None))
        return found


def _row(pair: Pair, i: int) -> Pair:
    """Row i of both arrays, or their only one."""
    first, second = pair
    return (first[i], second[i]) if len(first) > 1 else (first[0], second[0])
