"""Convex terms t >= f(x_1..x_k) by tangents, added where a point violates them.

Every tangent  t >= f(a) + <f'(a), x - a>  holds for all x, so the pool is an outer approximation: what is solved with
it is a lower bound, whatever the pool holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray

Function = Callable[..., FloatArray]
Gradient = Callable[..., Sequence[FloatArray]]


@dataclass(frozen=True, eq=False)
class ConvexTerm:
    """epigraph >= function(variables), for one term or for m alike ones at once.

    epigraph   a Pyomo variable, or a sequence of m
    variables  for each of the k arguments a variable or a number, or a sequence of m of them
    function   (x_1, .., x_k), each (m,) -> (m,), member by member; convex in all arguments together
    gradient   (x_1, .., x_k), each (m,) -> k arrays (m,); a subgradient where f has a kink
    name       for messages
    touches    (T, k) points at which tangents touch where they are settled beforehand (tangents = "fixed")
    tolerance  how far below its function the term may be in a solve, in units of the epigraph where a row, a bound or
               an offer holds that, else in units of the cost; None = settings.tangent_tol
    """

    epigraph: Any
    variables: Sequence[Any]
    function: Function
    gradient: Gradient
    name: str = "convex term"
    touches: Sequence[Sequence[float]] = ()
    tolerance: float | None = None

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
    touches: Sequence[Sequence[float]] = ()
    settled: bool = False  # its tangents are rows of the program
    tolerance: float | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """Tangents in the order they were added: t - sum_j slope_j x_j >= level, for the term's t and x_j.

    term (p,) number of the term; touch (p, k) where it touches; slope (p, k), 0 where the argument is a number or
    absent; level (p,)
    """

    term: IntArray
    touch: FloatArray
    slope: FloatArray
    level: FloatArray

    def __len__(self) -> int:
        return len(self.level)

    def plus(self, *others: Pool) -> Pool:
        pools = (self, *others)
        return Pool(
            np.concatenate([p.term for p in pools]),
            np.vstack([p.touch for p in pools]),
            np.vstack([p.slope for p in pools]),
            np.concatenate([p.level for p in pools]),
        )

    def only(self, keep: Any) -> Pool:
        return Pool(self.term[keep], self.touch[keep], self.slope[keep], self.level[keep])

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
    """All convex terms of a program, numbered through the groups.

    epigraph (M,) column of t; column (M, k) of the arguments, -1 = the number in `given` (M, k), or no argument;
    open (M,) False where the tangents are rows of the program and no more are wanted; tolerance (M,), nan = none given
    """

    groups: tuple[Group, ...] = ()
    epigraph: IntArray = field(init=False)
    column: IntArray = field(init=False)
    given: FloatArray = field(init=False)
    open: BoolArray = field(init=False)
    tolerance: FloatArray = field(init=False)
    _calls: tuple[tuple[Function, Gradient, int, Any], ...] = field(init=False)  # alike groups are asked at once
    _all_decided: bool = field(init=False)
    distinct: bool = field(init=False)  # no epigraph variable belongs to two terms

    def __post_init__(self) -> None:
        width = max((len(g.column) for g in self.groups), default=0)
        size = sum(len(g.epigraph) for g in self.groups)
        column, given = np.full((size, width), -1, np.int64), np.zeros((size, width))
        is_open, tolerance = np.ones(size, bool), np.full(size, np.nan)
        for group, rows in self.by_group():
            tolerance[rows] = np.nan if group.tolerance is None else group.tolerance
            is_open[rows] = not group.settled
            column[rows, : len(group.column)] = group.column.T
            given[rows, : len(group.column)] = group.given.T
        epigraph = np.concatenate([np.zeros(0, np.int64), *(g.epigraph for g in self.groups)])
        for name, value in (
            ("epigraph", epigraph),
            ("column", column),
            ("given", given),
            ("open", is_open),
            ("tolerance", tolerance),
            ("_calls", self._alike()),
            ("_all_decided", bool(np.all(column >= 0))),
            ("distinct", len(set(epigraph.tolist())) == len(epigraph)),
        ):
            object.__setattr__(self, name, value)

    def _alike(self) -> tuple[tuple[Function, Gradient, int, Any], ...]:
        found: dict[Any, list[slice]] = {}
        for group, rows in self.by_group():
            found.setdefault((group.function, group.gradient, len(group.column)), []).append(rows)
        return tuple(
            (*call, rows[0] if len(rows) == 1 else np.concatenate([np.arange(r.start, r.stop) for r in rows]))
            for call, rows in ((key, rows) for key, rows in found.items())
        )

    def __len__(self) -> int:
        return len(self.epigraph)

    def by_group(self) -> Iterator[tuple[Group, slice]]:
        """Every group with the numbers of its terms."""
        first = 0
        for group in self.groups:
            last = first + len(group.epigraph)
            yield group, slice(first, last)
            first = last

    @property
    def names(self) -> list[str]:
        """Name of every term."""
        return [g.name for g in self.groups for _ in g.epigraph]

    def data(self) -> tuple[Any, ...]:
        """All its numbers and functions, without the names."""
        groups = [(g.function, g.gradient, len(g.epigraph), g.touches, g.settled, g.tolerance) for g in self.groups]
        return (self.epigraph, self.column, self.given, groups)

    def with_given(self, given: FloatArray) -> Terms:
        """The same terms with other numbers for the arguments that are not decided (M, k)."""
        other = object.__new__(Terms)
        other.__dict__.update(self.__dict__)
        other.__dict__["given"] = given
        return other

    def arguments(self, x: FloatArray) -> FloatArray:
        """The arguments (M, k) of every term at the point x."""
        at = x[self.column]
        return at if self._all_decided else np.where(self.column >= 0, at, self.given)

    def values(self, arguments: FloatArray) -> FloatArray:
        """f of every term (.., M) at arguments (.., M, k); at more than one point only where terms are settled."""
        out = np.zeros(arguments.shape[:-1])
        with np.errstate(all="ignore"):
            for function, _, k, rows in self._calls:
                some = arguments[..., rows, :k]
                out[..., rows] = function(*some.reshape(-1, k).T).reshape(some.shape[:-1])
        return out

    def lifted(self, x: FloatArray, values: FloatArray) -> FloatArray:
        """The point with every epigraph variable raised to its term's value."""
        x = x.copy()
        if self.distinct:
            x[self.epigraph] = np.maximum(x[self.epigraph], values)
        else:
            np.maximum.at(x, self.epigraph, values)
        return x

    def slopes(self, arguments: FloatArray) -> FloatArray:
        """Gradients (M, k) by the arguments that are variables."""
        out = np.zeros(self.column.shape)
        with np.errstate(all="ignore"):
            for _, gradient, k, rows in self._calls:
                for j, slope in enumerate(gradient(*arguments[rows, :k].T)):
                    out[rows, j] = slope
        return np.where(self.column >= 0, out, 0.0)

    def tangents(self, arguments: FloatArray, wanted: IntArray) -> Pool:
        """Tangents of the wanted terms; terms without a finite value or gradient there give none."""
        slope = self.slopes(arguments)
        with np.errstate(all="ignore"):
            level = self.values(arguments) - (slope * arguments).sum(axis=1)
        finite = np.isfinite(level[wanted]) & np.isfinite(slope[wanted]).all(axis=1)
        wanted = wanted[finite]
        return Pool(wanted, arguments[wanted], slope[wanted], level[wanted])

    def no_tangents(self) -> Pool:
        k = self.column.shape[1]
        return Pool(np.zeros(0, np.int64), np.zeros((0, k)), np.zeros((0, k)), np.zeros(0))

    def first_tangents(self, lb: FloatArray, ub: FloatArray) -> Pool:
        """Tangents at the middle of the arguments' ranges and at both ends of each argument.

        They give the epigraph variables a floor, so that the first solve is not unbounded.
        """
        middle = np.clip(0.0, lb, ub)
        inside = np.isfinite(lb) & np.isfinite(ub)
        middle[inside] = (lb[inside] + ub[inside]) / 2
        centre = self.arguments(middle)
        pool = self.tangents(centre, np.flatnonzero(self.open))
        for j, column in enumerate(self.column.T):
            for end in (lb, ub):
                wanted = np.flatnonzero(self.open & (column >= 0) & np.isfinite(end[column]))
                moved = centre.copy()
                moved[wanted, j] = end[column[wanted]]
                pool = pool.plus(self.tangents(moved, wanted))
        return pool

    def violated(self, x: FloatArray, allowed: FloatArray) -> IntArray:
        """Numbers of the open terms with f - t > allowed (M,) at x."""
        short = self.values(self.arguments(x)) - x[self.epigraph]
        return np.flatnonzero(self.open & (short > allowed))

    def more_tangents(
        self, x: FloatArray, violated: IntArray, pool: Pool, dual: FloatArray, tolerance: FloatArray
    ) -> Pool:
        """Tangents that cut the point x off, and those around where the optimum is likely to be.

        The multipliers of a term's tangents say which slope the rest of the program asks of it: the mean of f'(a_i) by
        the weights dual_i. To second order f' has this slope at a, the mean of the a_i by the same weights. Tangents at
        a and at a +- h, so short that f at the corners between them is met within the term's tolerance (curvature c:
        c |h|^2 / 8 = tolerance (M,)), end the search in a few rounds where cuts at x alone halve the error. h points
        from x to where the tangent of the largest multiplier touches, and is no longer than that.
        """
        here = self.arguments(x)
        cuts = self.tangents(here, violated)
        total = np.bincount(pool.term, dual, len(self))
        mean = np.column_stack([np.bincount(pool.term, dual * a, len(self)) for a in pool.touch.T])
        usable = violated[total[violated] > 0]
        if not len(usable):
            return cuts
        centre, top = here.copy(), here.copy()
        centre[usable] = mean[usable] / total[usable, None]
        order = np.argsort(dual, kind="stable")
        top[pool.term[order]] = pool.touch[order]  # the last one written is the largest
        away = here - top
        curvature = ((self.slopes(here) - self.slopes(top)) * away).sum(axis=1)
        usable = usable[curvature[usable] > 0]
        step = np.zeros_like(here)
        # this curvature is c |away|^2, so that |h| is |away| times the root; 0.9 keeps clear of the tolerance
        root = np.sqrt(8 * tolerance[usable] / curvature[usable])
        step[usable] = 0.9 * np.minimum(root, 1.0)[:, None] * away[usable]
        return cuts.plus(*(self.tangents(centre + side * step, usable) for side in (0.0, 1.0, -1.0)))
