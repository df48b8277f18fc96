"""Where every block's entries lie in the stacked arrays. Sorted keys fix the order of every sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from decomp.messages import BoolArray, Coupling, FloatArray, IntArray, Key, Response, Signal, Status


@dataclass(frozen=True, eq=False)
class Layout:
    """Index arrays between blocks, units and nodes.

    N entries of all blocks stacked in key order, M entries of all units, n node rows, B blocks.

    couplings    by unit, sorted
    keys         the B blocks, sorted
    prob         (B,) probability of each block within its unit
    start        (B+1,) block b's entries are start[b]:start[b+1]
    report_start (B+1,) the same for reports
    block        (N,) block of each entry
    entry        (N,) position of each stacked entry among the M unit entries
    node         (M,) node row of each unit entry, -1 = agrees over scenarios only
    weight       (M,) weight of each unit entry
    count        (n,) number of unit entries at each node
    """

    couplings: tuple[Coupling, ...]
    keys: tuple[Key, ...]
    prob: FloatArray
    start: IntArray
    report_start: IntArray
    block: IntArray
    entry: IntArray
    node: IntArray
    weight: FloatArray
    count: FloatArray

    @classmethod
    def of(cls, couplings: Iterable[Coupling], n_nodes: int) -> Layout:
        """Build the index arrays. Raises ValueError for units named twice and node rows out of range."""
        units = tuple(sorted(couplings, key=lambda c: c.unit))
        if len({c.unit for c in units}) != len(units):
            raise ValueError("two couplings have the same unit name")
        if any(np.any(c.node >= n_nodes) or np.any(c.node < -1) for c in units):
            raise ValueError(f"a coupling names a node row outside 0..{n_nodes - 1}")
        first = np.concatenate([[0], np.cumsum([len(c.entries) for c in units])]).astype(np.int64)
        keyed = [(key, i) for i, c in enumerate(units) for key in sorted(c.prob)]
        node = np.concatenate([np.asarray(c.node, np.int64) for c in units]) if units else np.zeros(0, np.int64)
        sizes = [len(units[i].entries) for _, i in keyed]
        return cls(
            couplings=units,
            keys=tuple(key for key, _ in keyed),
            prob=np.array([units[i].prob[key] for key, i in keyed]),
            start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            report_start=np.concatenate([[0], np.cumsum([len(units[i].report) for _, i in keyed])]).astype(np.int64),
            block=np.repeat(np.arange(len(keyed)), sizes),
            entry=np.concatenate([np.arange(first[i], first[i + 1]) for _, i in keyed]),
            node=node,
            weight=np.concatenate([np.asarray(c.weight, float) for c in units]),
            count=np.bincount(node[node >= 0], minlength=n_nodes).astype(float),
        )

    @property
    def pi(self) -> FloatArray:
        """(N,) probability of the block each stacked entry belongs to."""
        return self.prob[self.block]

    def mean(self, y: FloatArray) -> FloatArray:
        """ybar_u = sum_s pi_s y_us; (N,) -> (M,)."""
        return _sum(self.entry, self.pi * y, len(self.node))

    def totals(self, ybar: FloatArray) -> FloatArray:
        """Y_b = sum of ybar_u over the units at b; (M,) -> (n,)."""
        at = self.node >= 0
        return _sum(self.node[at], ybar[at], len(self.count))

    def to_units(self, at_node: FloatArray, elsewhere: float = 0.0) -> FloatArray:
        """Spread a value per node row over the unit entries; (n,) -> (M,)."""
        return np.where(self.node >= 0, np.append(at_node, elsewhere)[self.node], elsewhere)

    def to_blocks(self, at_unit: FloatArray) -> FloatArray:
        """Repeat a value per unit entry in each of the unit's scenarios; (M,) -> (N,)."""
        return at_unit[self.entry]

    def norm(self, per_unit: FloatArray) -> float:
        """sqrt(sum_i weight_i x_i^2) of a vector over the unit entries."""
        return float(np.sqrt(np.sum(self.weight * per_unit**2)))

    def inner(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """<a_us, b_us> of every block; (N,), (N,) -> (B,)."""
        return _sum(self.block, self.weight[self.entry] * a * b, len(self.keys))

    def entry_name(self, i: int) -> str:
        """Name of a unit entry, for messages."""
        for c in self.couplings:
            if i < len(c.entries):
                return f"{c.unit} {c.entries[i]}"
            i -= len(c.entries)
        raise IndexError(i)


def _sum(index: IntArray, values: FloatArray, n: int) -> FloatArray:
    """Sum values by index, in stacked order: the same bits on any number of ranks."""
    return np.asarray(np.bincount(index, values, minlength=n), np.float64)


@dataclass(frozen=True, eq=False)
class Signals(Mapping[Key, Signal]):
    """One signal for every block, as stacked (N,) arrays; a signal is a view."""

    layout: Layout
    price: FloatArray
    target: FloatArray | None = None
    penalty: FloatArray | None = None
    active: BoolArray | None = None
    exact: bool = False
    id: int = 0

    def __getitem__(self, key: Key) -> Signal:
        return self.at(self.layout.keys.index(key))

    def at(self, b: int) -> Signal:
        """The signal of block number b."""
        s = slice(self.layout.start[b], self.layout.start[b + 1])

        def cut(a: FloatArray | None) -> FloatArray | None:
            return None if a is None else a[s]

        active = None if self.active is None else self.active[s]
        return Signal(self.price[s], cut(self.target), cut(self.penalty), active, self.exact, self.id)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.layout.keys)

    def __len__(self) -> int:
        return len(self.layout.keys)


@dataclass(frozen=True, eq=False)
class Answers(Mapping[Key, Response]):
    """One response of every block, as stacked arrays; a response is a view.

    y (N,), cost (B,), bound (B,) nan where none, status (B,), revised (B,), solve_time (B,), report stacked by
    report_start, sensitivity (B,) list or None.
    """

    layout: Layout
    y: FloatArray
    cost: FloatArray
    bound: FloatArray
    status: IntArray
    report: FloatArray
    revised: BoolArray
    solve_time: FloatArray
    sensitivity: tuple[FloatArray, ...] | None = None
    signal_id: int = 0

    def __getitem__(self, key: Key) -> Response:
        return self.at(self.layout.keys.index(key))

    def at(self, b: int) -> Response:
        """The response of block number b."""
        s = slice(self.layout.start[b], self.layout.start[b + 1])
        return Response(
            y=self.y[s],
            cost=float(self.cost[b]),
            bound=None if np.isnan(self.bound[b]) else float(self.bound[b]),
            status=Status(int(self.status[b])),
            report=self.report_of(b),
            sensitivity=None if self.sensitivity is None else self.sensitivity[b],
            revised=bool(self.revised[b]),
            signal_id=self.signal_id,
            solve_time=float(self.solve_time[b]),
        )

    def report_of(self, b: int) -> FloatArray:
        """What block number b reported."""
        return self.report[self.layout.report_start[b] : self.layout.report_start[b + 1]]

    def reports(self) -> dict[Key, FloatArray]:
        """What every block reported, by key."""
        return {key: self.report_of(b) for b, key in enumerate(self.layout.keys)}

    def expected_cost(self) -> float:
        """sum_us pi_s f_us."""
        return float(np.sum(self.layout.prob * self.cost))

    def expected_bound(self) -> float:
        """sum_us pi_s bound_us; nan when one block has none."""
        return float(np.sum(self.layout.prob * self.bound))

    def __iter__(self) -> Iterator[Key]:
        return iter(self.layout.keys)

    def __len__(self) -> int:
        return len(self.layout.keys)
