"""A linear program in HiGHS, by its C interface: numbers go in and come out as they lie in memory.

highspy hands vectors over as lists of Python objects, which takes as long as a warm solve of a small program. The C
interface is part of the library that highspy brings, so that both are the same HiGHS.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from decomp.highs.scaling import Rows
from decomp.messages import BoolArray, FloatArray

Codes = NDArray[np.int8]
Pair = tuple[FloatArray, FloatArray]
BASIC = int(highspy.HighsBasisStatus.kBasic)
OPTIMAL = int(highspy.HighsModelStatus.kOptimal)
COLUMNWISE = MINIMISE = 1
_INT, _DOUBLE, _AT = ctypes.c_int, ctypes.c_double, ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "passLp": (_INT, _INT, _INT, _INT, _INT, _DOUBLE, *[_AT] * 8),
    "addRows": (_INT, _AT, _AT, _INT, _AT, _AT, _AT),
    "deleteRowsByRange": (_INT, _INT),
    "changeColsCostByRange": (_INT, _INT, _AT),
    "changeColsBoundsByRange": (_INT, _INT, _AT, _AT),
    "changeRowsBoundsByRange": (_INT, _INT, _AT, _AT),
    "clearSolver": (),
    "resetOptions": (),
    "run": (),
    "getRunTime": (),
    "getModelStatus": (),
    "getSolution": (_AT, _AT, _AT, _AT),
    "getBasis": (_AT, _AT),
    "setBasis": (_AT, _AT),
    "getOptionType": (ctypes.c_char_p, _AT),
    "setBoolOptionValue": (ctypes.c_char_p, _INT),
    "setIntOptionValue": (ctypes.c_char_p, _INT),
    "setDoubleOptionValue": (ctypes.c_char_p, _DOUBLE),
    "setStringOptionValue": (ctypes.c_char_p, ctypes.c_char_p),
    "getIntOptionValue": (ctypes.c_char_p, _AT),
}
_KINDS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("Bool", bool), ("Int", int), ("Double", float), ("String", lambda value: str(value).encode()),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Basis:
    """A simplex basis: HiGHS's number of the status of each column, then of each row and tangent."""

    codes: Codes
    columns: int

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
        self._call = _library()
        self._highs = self._call["create"]()
        weakref.finalize(self, self._call["destroy"], self._highs).atexit = False
        self.n = self.m = 0
        self._codes = np.zeros(0, np.int32)
        self._codes_at = 0

    # -- the program ---------------------------------------------------------------------------------------------------

    def load(self, rows: Rows, lb: FloatArray, ub: FloatArray) -> None:
        """A program with these rows and bounds, and no costs yet."""
        A = rows.A.tocsc()
        A.sort_indices()
        held = [_doubles(part) for part in (np.zeros(len(lb)), lb, ub, rows.lo, rows.hi)]
        matrix = _ints(A.indptr), _ints(A.indices), _doubles(A.data)
        where = [part.ctypes.data for part in held] + [part.ctypes.data for part in matrix]
        sizes = len(lb), len(rows.lo), A.nnz
        self._call["passLp"](self._highs, *sizes, COLUMNWISE, MINIMISE, 0.0, *where)
        self._sized(len(lb), len(rows.lo))

    def add(self, rows: Rows) -> None:
        """More rows, behind those there are."""
        A = rows.A
        lo, hi, data = _doubles(rows.lo), _doubles(rows.hi), _doubles(A.data)
        start, index = _ints(A.indptr), _ints(A.indices)
        sides, matrix = (lo.ctypes.data, hi.ctypes.data), (start.ctypes.data, index.ctypes.data, data.ctypes.data)
        self._call["addRows"](self._highs, len(lo), *sides, A.nnz, *matrix)
        self._sized(self.n, self.m + len(rows.lo))

    def drop(self, first: int) -> None:
        """Without the rows from `first` on."""
        self._call["deleteRowsByRange"](self._highs, first, self.m - 1)
        self._sized(self.n, first)

    def _sized(self, n: int, m: int) -> None:
        self.n, self.m = n, m
        self._codes = np.zeros(n + m, np.int32)
        self._codes_at = self._codes.ctypes.data

    # -- options -------------------------------------------------------------------------------------------------------

    def set(self, options: Mapping[str, object]) -> None:
        """Options by name; those that HiGHS does not know or refuses stay as they are."""
        kind = ctypes.c_int()
        for name, value in options.items():
            known = self._call["getOptionType"](self._highs, name.encode(), ctypes.addressof(kind)) == 0
            if known:
                word, as_kind = _KINDS[kind.value]
                self._call[f"set{word}OptionValue"](self._highs, name.encode(), as_kind(value))

    def reset(self) -> None:
        """All options as HiGHS has them."""
        self._call["resetOptions"](self._highs)

    def whole_number(self, option: str) -> int:
        """The value of an option that is a whole number."""
        value = ctypes.c_int()
        self._call["getIntOptionValue"](self._highs, option.encode(), ctypes.addressof(value))
        return value.value

    # -- solves --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._call["run"](self._highs)

    def spent_s(self) -> float:
        """What HiGHS's clock of this object says, by which it keeps its time limit."""
        return float(self._call["getRunTime"](self._highs))

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
        the solve before. All are C-contiguous. Where the status is OPTIMAL, point and multipliers are written into x
        (b, n) and dual (b, m), which are not touched otherwise.
        """
        call, highs, n, m = self._call, self._highs, self.n, self.m
        clear, start, status = call["clearSolver"], call["setBasis"], call["getModelStatus"]
        change_cost, values, basis_of = call["changeColsCostByRange"], call["getSolution"], call["getBasis"]
        cost_at, x_at, dual_at = cost.ctypes.data, x.ctypes.data, dual.ctypes.data
        several = []
        for change, size, pair in (
            (call["changeColsBoundsByRange"], n, bounds),
            (call["changeRowsBoundsByRange"], m, sides),
        ):
            if pair is not None and size:
                first, second = (part.ctypes.data for part in pair)
                if len(pair[0]) > 1:
                    several.append((change, size, first, second))
                else:
                    clear(highs)  # a basis would have to follow the change
                    change(highs, 0, size - 1, first, second)
        codes, codes_at, rows_at = self._codes, self._codes_at, self._codes_at + 4 * n
        found: list[tuple[int, Basis | None]] = []
        for i, basis in enumerate(bases):
            clear(highs)
            change_cost(highs, 0, n - 1, cost_at + 8 * n * i)
            for change, size, first, second in several:
                change(highs, 0, size - 1, first + 8 * size * i, second + 8 * size * i)
            if basis is not None:
                codes[:] = basis.codes
                start(highs, codes_at, rows_at)
            self.run()
            ended = status(highs)
            if ended == OPTIMAL:
                values(highs, x_at + 8 * n * i, None, None, dual_at + 8 * m * i)
                basis_of(highs, codes_at, rows_at)
                found.append((ended, Basis(codes.astype(np.int8), n)))
            else:
                found.append((ended, None))
        return found


@cache
def _library() -> dict[str, Any]:
    """The functions of the C interface by name, without "Highs_". Raises ImportError where highspy has none."""
    core = Path(highspy._core.__file__)
    for file in (core, *sorted(core.parent.glob("*highs*.dll"))):
        library = ctypes.CDLL(str(file))
        if hasattr(library, "Highs_run") and library.Highs_getSizeofHighsInt() == ctypes.sizeof(_INT):
            break
    else:
        raise ImportError(f"{core} has no C interface of HiGHS with 32-bit integers; install highspy from PyPI")
    found = {"create": library.Highs_create, "destroy": library.Highs_destroy}
    library.Highs_create.restype, library.Highs_create.argtypes = _AT, ()
    library.Highs_destroy.restype, library.Highs_destroy.argtypes = None, (_AT,)
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, f"Highs_{name}")
        function.restype, function.argtypes = _DOUBLE if name == "getRunTime" else _INT, (_AT, *arguments)
        found[name] = function
    return found


def _doubles(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, np.float64)


def _ints(values: np.ndarray) -> NDArray[np.int32]:
    return np.ascontiguousarray(values, np.int32)
