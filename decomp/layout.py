"""Where every block's entries lie in the stacked arrays. Sorted keys fix the order of every sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from decomp.integer_pattern import UNKNOWN
from decomp.messages import BoolArray, Coupling, FloatArray, IntArray, Key, Response, Signal, Status
from decomp.nonanticipativity import joined, unit_entries


@dataclass(frozen=True, eq=False)
class Layout:
    """Index arrays between blocks, units and nodes.

    N entries of all blocks stacked in key order, M unit entries, n node rows, B blocks. A unit entry is what the blocks
    of a unit agree on: an entry of its coupling or, where that is decided differently in several nodes of a scenario
    tree, the entry in one of the nodes.

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
    first        (U+1,) unit u's unit entries are first[u]:first[u+1]
    declared     (M,) number of each unit entry's entry among the entries of all couplings in a row
    tree_node    (M,) tree node of each unit entry, -1 = all scenarios of the unit agree
    share        (M,) probability of the tree node: sum of pi over the blocks that agree
    sharers      (M,) number of blocks that agree
    part         (N,) pi / share: weight of each stacked entry in the mean of those that agree
    scale        (M,) reference price of unit entries without a node, nan = not known
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
    first: IntArray
    declared: IntArray
    tree_node: IntArray
    share: FloatArray
    sharers: IntArray
    part: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, couplings: Iterable[Coupling], n_nodes: int) -> Layout:
        """Build the index arrays. Raises ValueError for units named twice and node rows out of range."""
        units = tuple(sorted(couplings, key=lambda c: c.unit))
        if len({c.unit for c in units}) != len(units):
            raise ValueError("two couplings have the same unit name")
        if any(np.any(c.node >= n_nodes) or np.any(c.node < -1) for c in units):
            raise ValueError(f"a coupling names a node row outside 0..{n_nodes - 1}")
        keyed = [(key, i) for i, c in enumerate(units) for key in sorted(c.prob)]
        parted = [unit_entries(c) for c in units]
        first = np.concatenate([[0], np.cumsum([len(p.declared) for p in parted])]).astype(np.int64)
        before = np.concatenate([[0], np.cumsum([len(c.entries) for c in units])]).astype(np.int64)

        def entries(of: Callable[[Coupling], ArrayLike]) -> FloatArray:
            return joined([np.asarray(of(c), float)[p.declared] for c, p in zip(units, parted, strict=True)], float)

        node = entries(lambda c: c.node).astype(np.int64)
        prob = np.array([units[i].prob[key] for key, i in keyed])
        entry = joined([(first[i] + p.entry).ravel() for i, p in enumerate(parted)], np.int64)
        share = joined([p.share for p in parted], float)
        sizes = [len(units[i].entries) for _, i in keyed]
        return cls(
            couplings=units,
            keys=tuple(key for key, _ in keyed),
            prob=prob,
            start=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            report_start=np.concatenate([[0], np.cumsum([len(units[i].report) for _, i in keyed])]).astype(np.int64),
            block=np.repeat(np.arange(len(keyed)), sizes),
            entry=entry,
            node=node,
            weight=entries(lambda c: c.weight),
            count=np.bincount(node[node >= 0], minlength=n_nodes).astype(float),
            first=first,
            declared=joined([before[i] + p.declared for i, p in enumerate(parted)], np.int64),
            tree_node=joined([p.tree_node for p in parted], np.int64),
            share=share,
            sharers=joined([p.sharers for p in parted], np.int64),
            part=np.repeat(prob, sizes) / share[entry],
            scale=entries(lambda c: np.full(len(c.entries), np.nan) if c.scale is None else c.scale),
        )

    @property
    def pi(self) -> FloatArray:
        """(N,) probability of the block each stacked entry belongs to."""
        return self.prob[self.block]

    @property
    def names(self) -> tuple[str, ...]:
        """(M,) name of each unit entry's entry: the same in all units and tree nodes that have it."""
        all_names = [name for c in self.couplings for name in c.entries]
        return tuple(all_names[i] for i in self.declared)

    def mean(self, y: FloatArray) -> FloatArray:
        """ybar_u = sum_s pi_s y_us / share_u over the scenarios s that agree; (N,) -> (M,)."""
        return _sum(self.entry, self.part * y, len(self.node))

    def spread(self, y: FloatArray) -> tuple[float, str]:
        """Largest |ybar_u - y_us| and the name of that unit entry, "" where all scenarios agree; y (N,)."""
        apart = np.abs(self.to_blocks(self.mean(y)) - y)
        worst = int(np.argmax(apart)) if len(apart) else 0
        largest = float(apart[worst]) if len(apart) else 0.0
        return largest, self.entry_name(int(self.entry[worst])) if largest > 0 else ""

    def multiplier_sum(self, w: FloatArray) -> tuple[float, str]:
        """Largest |sum_s pi_s w_us| over the scenarios that agree, and the name of that unit entry; w (N,)."""
        size = np.abs(_sum(self.entry, self.pi * w, len(self.node)))
        worst = int(np.argmax(size)) if len(size) else 0
        largest = float(size[worst]) if len(size) else 0.0
        return largest, self.entry_name(worst) if largest > 0 else ""

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
        """Name of a unit entry, for messages: "unit entry", or "unit entry@tree node"."""
        u = int(np.searchsorted(self.first, i, side="right")) - 1
        if not 0 <= i < len(self.declared):
            raise IndexError(i)
        at = f"@{self.tree_node[i]}" if self.tree_node[i] >= 0 else ""
        return f"{self.couplings[u].unit} {self.names[i]}{at}"


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
    mip_gap: float | None = None

    def __getitem__(self, key: Key) -> Signal:
        return self.at(self.layout.keys.index(key))

    def at(self, b: int) -> Signal:
        """The signal of block number b."""
        s = slice(self.layout.start[b], self.layout.start[b + 1])

        def cut(a: FloatArray | None) -> FloatArray | None:
            return None if a is None else a[s]

        active = None if self.active is None else self.active[s]
        return Signal(self.price[s], cut(self.target), cut(self.penalty), active, self.exact, self.id, self.mip_gap)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.layout.keys)

    def __len__(self) -> int:
        return len(self.layout.keys)


@dataclass(frozen=True, eq=False)
class Answers(Mapping[Key, Response]):
    """One response of every block, as stacked arrays; a response is a view.

    y (N,), cost (B,), bound (B,) nan where none, status (B,), revised (B,), solve_time (B,), report stacked by
    report_start, sensitivity (B,) list or None, stale (B,) True where a failed block's last good answer stands in,
    late (B,) True where one to an earlier question does; None = nowhere,
    pattern (B,) UNKNOWN where a block does not say, None = no block does.
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
    stale: BoolArray | None = None
    late: BoolArray | None = None
    pattern: IntArray | None = None

    def is_old(self, b: int) -> bool:
        """Is the answer of block number b not one to this question: stale, or late?"""
        return any(old is not None and bool(old[b]) for old in (self.stale, self.late))

    def stale_keys(self) -> tuple[Key, ...]:
        """The blocks whose last good answer stands in for a failed one."""
        return () if self.stale is None else tuple(self.layout.keys[int(b)] for b in np.flatnonzero(self.stale))

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
            pattern=None if self.pattern is None or self.pattern[b] == UNKNOWN else int(self.pattern[b]),
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
