"""Convex terms t >= f(x_1..x_k) by tangents, added where a point violates them.

Every tangent  t >= f(a) + <f'(a), x - a>  holds for all x, so the pool is an outer approximation: what is solved with
it is a lower bound, whatever the pool holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decomp.messages import FloatArray, IntArray

Function = Callable[..., FloatArray]
Gradient = Callable[..., Sequence[FloatArray]]


@dataclass(frozen=True, eq=False)
class ConvexTerm:
    """epigraph >= function(variables), for one term or for m alike ones at once.

    epigraph   a Pyomo variable, or a sequence of m
    variables  for each of the k arguments a variable or a number, or a sequence of m of them
    function   (x_1, .., x_k), each (m,) -> (m,); convex in all arguments together
    gradient   (x_1, .., x_k), each (m,) -> k arrays (m,); a subgradient where f has a kink
    name       for messages
    """

    epigraph: Any
    variables: Sequence[Any]
    function: Function
    gradient: Gradient
    name: str = "convex term"

    @classmethod
    def norm(cls, epigraph: Any, variables: Sequence[Any], name: str = "norm") -> ConvexTerm:
        """epigraph >= sqrt(x_1^2 + .. + x_k^2), with the subgradient 0 at the origin."""
        return cls(epigraph, variables, _norm, _norm_gradient, name)


def _norm(*x: FloatArray) -> FloatArray:
    return np.hypot(*x) if len(x) == 2 else np.sqrt(sum(v * v for v in x))


def _norm_gradient(*x: FloatArray) -> Sequence[FloatArray]:
    length = _norm(*x)
    safe = np.where(length > 0, length, 1.0)
    return [v / safe for v in x]


@dataclass(frozen=True, eq=False)
class Group:
    """Alike terms: columns (m,) of the epigraph variables and (k, m) of the arguments, -1 = the number in `given`."""

    epigraph: IntArray
    column: IntArray
    given: FloatArray
    function: Function
    gradient: Gradient
    name: str

    def arguments(self, x: FloatArray) -> FloatArray:
        """Values (k, m) of the arguments at the point x."""
        return np.where(self.column >= 0, x[self.column], self.given)


@dataclass(frozen=True, eq=False)
class Pool:
    """Tangents in the order they were added: t - sum_j slope_j x_j >= level, for the term's t and x_j.

    term (p,) number of the term; slope (p, k), 0 where the argument is a number or absent; level (p,)
    """

    term: IntArray
    slope: FloatArray
    level: FloatArray

    def __len__(self) -> int:
        return len(self.level)

    def plus(self, other: Pool) -> Pool:
        return Pool(
            np.concatenate([self.term, other.term]),
            np.vstack([self.slope, other.slope]),
            np.concatenate([self.level, other.level]),
        )

    def only(self, keep: Any) -> Pool:
        return Pool(self.term[keep], self.slope[keep], self.level[keep])

    def starts_with(self, other: Pool) -> bool:
        n = len(other)
        return (
            len(self) >= n
            and np.array_equal(self.term[:n], other.term)
            and np.array_equal(self.level[:n], other.level)
            and np.array_equal(self.slope[:n], other.slope)
        )


@dataclass(frozen=True, eq=False)
class Terms:
    """All convex terms of a program, numbered through the groups. epigraph (M,), column (M, k), -1 = no variable."""

    groups: tuple[Group, ...] = ()
    epigraph: IntArray = field(init=False)
    column: IntArray = field(init=False)

    def __post_init__(self) -> None:
        width = max((len(g.column) for g in self.groups), default=0)
        blocks = [np.pad(g.column.T, ((0, 0), (0, width - len(g.column))), constant_values=-1) for g in self.groups]
        empty = np.zeros((0, width), np.int64)
        object.__setattr__(self, "column", np.vstack([empty, *blocks]))
        object.__setattr__(
            self, "epigraph", np.concatenate([np.zeros(0, np.int64), *(g.epigraph for g in self.groups)])
        )

    def __len__(self) -> int:
        return len(self.epigraph)

    @property
    def names(self) -> list[str]:
        """Name of every term."""
        return [g.name for g in self.groups for _ in g.epigraph]

    def values(self, x: FloatArray) -> FloatArray:
        """f of every term (M,) at the point x."""
        with np.errstate(all="ignore"):
            return np.concatenate([np.zeros(0), *(g.function(*g.arguments(x)) for g in self.groups)])

    def tangents(self, x: FloatArray, wanted: IntArray) -> Pool:
        """Tangents at x of the wanted terms; terms without a finite value or gradient there give none."""
        slopes = np.zeros((len(self), self.column.shape[1]))
        levels = np.zeros(len(self))
        first = 0
        for group in self.groups:
            a = group.arguments(x)
            last = first + len(group.epigraph)
            with np.errstate(all="ignore"):
                gradient = np.array([np.broadcast_to(g, a.shape[1:]) for g in group.gradient(*a)])
                gradient = np.where(group.column >= 0, gradient, 0.0)
                levels[first:last] = group.function(*a) - (gradient * a).sum(axis=0)
            slopes[first:last, : len(a)] = gradient.T
            first = last
        finite = np.isfinite(levels[wanted]) & np.isfinite(slopes[wanted]).all(axis=1)
        wanted = wanted[finite]
        return Pool(wanted, slopes[wanted], levels[wanted])

    def no_tangents(self) -> Pool:
        return Pool(np.zeros(0, np.int64), np.zeros((0, self.column.shape[1])), np.zeros(0))

    def first_tangents(self, lb: FloatArray, ub: FloatArray) -> Pool:
        """Tangents at the middle of the arguments' ranges and at both ends of each argument.

        They give the epigraph variables a floor, so that the first solve is not unbounded.
        """
        middle = np.clip(0.0, lb, ub)
        inside = np.isfinite(lb) & np.isfinite(ub)
        middle[inside] = (lb[inside] + ub[inside]) / 2
        pool = self.tangents(middle, np.arange(len(self)))
        for column in self.column.T:
            for end in (lb, ub):
                wanted = np.flatnonzero((column >= 0) & np.isfinite(end[column]))
                x = middle.copy()
                x[column[wanted]] = end[column[wanted]]
                pool = pool.plus(self.tangents(x, wanted))
        return pool

    def violated(self, x: FloatArray, weight: FloatArray, tolerance: float) -> IntArray:
        """Numbers of the terms with weight (f - t) > tolerance at x."""
        return np.flatnonzero(weight * (self.values(x) - x[self.epigraph]) > tolerance)
