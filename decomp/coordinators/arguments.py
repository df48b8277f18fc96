"""Arguments of coordinators as arrays; what is wrong with them, all of it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray

NO_LIMIT = 1e20  # as large as this is no limit: what solvers take for infinite, and what a file can write


class Arguments:
    """Reads the arguments of one coordinator. `done` raises InputError with every mistake found so far."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.mistakes: list[Mistake] = []

    def wrong(self, name: str, problem: str, remedy: str = "") -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(self.owner, "argument", name, problem, remedy))

    def done(self) -> None:
        """Raises InputError if there was a mistake."""
        if self.mistakes:
            raise InputError(self.mistakes)

    def names(self, name: str, value: Any) -> tuple[str, ...]:
        """Names that differ, in order."""
        if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
            self.wrong(name, f"is {value!r}, not a list of names", 'give one name for each: ["bus 1", "bus 2"]')
            return ()
        found = tuple(str(item) for item in value)
        twice = sorted({item for item in found if found.count(item) > 1}) if len(set(found)) < len(found) else []
        if twice:
            self.wrong(name, f"{', '.join(twice[:5])} stands there twice", "names must differ")
        return found

    def vector(self, name: str, value: Any, n: int, *, infinite: bool = False, least: float = -np.inf) -> FloatArray:
        """(n,) numbers; one number stands for all. infinite: inf, and what is as large as NO_LIMIT, is no limit."""
        found = self._numbers(name, value)
        if found is None or (found.ndim and found.shape != (n,)):
            if found is not None:
                self.wrong(name, f"has {found.size} values where {n} belong", "give one for each, or one number")
            return np.zeros(n)
        bad = ~(np.isfinite(found) | (infinite & np.isinf(found))) | (found < least)
        if np.any(bad):
            at = np.flatnonzero(np.broadcast_to(bad, (n,)))[:1].tolist()
            needed = "a number" if infinite else "a finite number"
            more = f" of at least {least:g}" if np.isfinite(least) else ""
            where = f"value {at[0]} " if found.ndim and at else ""
            self.wrong(name, f"{where}is {np.broadcast_to(found, (n,))[at[0]] if at else found}", needed + more)
            return np.full(n, max(least, 0.0))
        out = np.array(np.broadcast_to(found, (n,)), float)
        if infinite:
            out[np.abs(out) >= NO_LIMIT] *= np.inf
        return out

    def optional(self, name: str, value: Any, n: int, default: float, **limits: Any) -> FloatArray:
        """As `vector`; `default` everywhere for None."""
        return np.full(n, default) if value is None else self.vector(name, value, n, **limits)

    def box(self, value: Any, n: int, name: str = "box", *, infinite: bool = True) -> tuple[FloatArray, FloatArray]:
        """Lower and upper limits (n,) each."""
        if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str) or len(value) != 2:
            self.wrong(name, f"is {value!r}", "give a pair: the lower limits and the upper limits")
            return np.zeros(n), np.zeros(n)
        lo, hi = (self.vector(name, end, n, infinite=infinite) for end in value)
        self.ordered(name, lo, name, hi)
        return lo, hi

    def ordered(self, low: str, lo: FloatArray, high: str, hi: FloatArray) -> None:
        """lo <= hi."""
        crossed = np.flatnonzero(lo > hi)
        if len(crossed):
            i = int(crossed[0])
            problem = f"its lower limit {lo[i]:g} lies above its upper limit {hi[i]:g} at value {i}"
            if low != high:
                problem = f"{lo[i]:g} lies above {high} {hi[i]:g} at value {i}"
            self.wrong(low, problem)

    def groups(self, name: str, value: Any, n: int, count: int | None = None) -> IntArray:
        """(n,) group of each node, numbered from 0; None = each node its own."""
        if value is None:
            if count is not None and count != n:
                self.wrong(name, f"is missing: {n} nodes share {count} values", "give the value's number for each node")
                return np.zeros(n, np.int64)
            return np.arange(n)
        found = np.asarray(value)
        whole = found.dtype.kind in "iu" or (found.dtype.kind == "f" and bool(np.all(found == np.round(found))))
        if found.shape != (n,) or not whole or np.any(found < 0):
            self.wrong(name, "is not a list of numbers of groups", f"give {n} whole numbers, counted from 0")
            return np.zeros(n, np.int64)
        group = found.astype(np.int64)
        if count is not None and np.any(group >= count):
            self.wrong(name, f"names group {int(group.max())}, there are {count}", f"groups are 0 to {count - 1}")
            return np.zeros(n, np.int64)
        return group

    def matrix(self, name: str, value: Any, n: int | None = None) -> sparse.csr_matrix:
        """(m, n) coefficients, kept sparse."""
        try:
            found = sparse.csr_matrix(value, dtype=float)
        except (TypeError, ValueError) as error:
            self.wrong(name, f"is no matrix: {error}", "give rows of numbers, an array, or a scipy.sparse matrix")
            return sparse.csr_matrix((0, n or 0))
        if n is not None and found.shape[1] != n:
            self.wrong(name, f"has {found.shape[1]} columns for {n} nodes", "give one column for each node")
            return sparse.csr_matrix((0, n))
        if not np.all(np.isfinite(found.data)):
            self.wrong(name, "has a coefficient that is not a finite number")
            return sparse.csr_matrix(found.shape)
        return found

    def _numbers(self, name: str, value: Any) -> FloatArray | None:
        try:
            found = np.asarray(value, float)
        except (TypeError, ValueError):
            found = np.full(2, np.nan).reshape(1, 2)
        if found.ndim > 1 or value is None or isinstance(value, str | bool):
            self.wrong(name, f"is {_short(value)}, not numbers", "give a number, or a list of numbers")
            return None
        return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 50 else text[:47] + "..."
