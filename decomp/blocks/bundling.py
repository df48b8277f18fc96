"""Several scenarios of a unit as one block: fewer and larger blocks, fewer rounds, a tighter bound.

    f_B(x) = sum_{s in B} pi_s / pi_B f_s(x_s),   y_s equal for the scenarios s in B that share the entry's tree node

A bundle is a block of the unit like any other, with pi_B = sum of pi_s. What its scenarios must agree on is settled in
its own model; an entry that has to agree with scenarios of other bundles stays an entry. Escudero, Garin, Perez and
Unzueta (2013); Crainic, Hewitt and Rei (2014).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.scenario_bundle import ScenarioBundle
from decomp.messages import BoolArray, Coupling, FloatArray, IntArray, Key

Make = Callable[[Key], PyomoSubproblem]
Series = Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Bundling:
    """How the scenarios of a case are put together.

    couplings  of the units, with bundles for blocks
    members    (bundle -> its scenarios): a bundle's report holds theirs in this order, each as long as before; a bundle
               with fewer scenarios than the largest one is filled up with nan
    before     the couplings of the scenarios, by unit
    kept       unit -> numbers of the entries that the bundles still have to agree on
    largest    unit -> most scenarios in one of its bundles
    """

    couplings: tuple[Coupling, ...]
    members: Mapping[Key, tuple[Key, ...]]
    before: Mapping[str, Coupling]
    kept: Mapping[str, IntArray]
    largest: Mapping[str, int]

    def block(self, key: Key, make: Make) -> PyomoSubproblem:
        """The block of a bundle, its scenarios built by `make`."""
        scenarios, unit, largest = self.members[key], self.before[key.unit], self.largest[key.unit]
        if largest == 1:
            return make(scenarios[0])
        prob = np.array([unit.prob[s] for s in scenarios])
        return ScenarioBundle(
            {s.scenario: make(s) for s in scenarios},
            prob / prob.sum(),
            nodes_of(unit, scenarios),
            self.kept[key.unit],
            largest * len(unit.report),
        )

    def reports(self, reports: Mapping[Key, FloatArray]) -> dict[Key, FloatArray]:
        """The scenarios' reports out of the bundles'."""
        found: dict[Key, FloatArray] = {}
        for key, scenarios in self.members.items():
            m = len(self.before[key.unit].report)
            found |= {s: reports[key][i * m : (i + 1) * m] for i, s in enumerate(scenarios)}
        return found

    def details(self, details: Mapping[Key, Series]) -> dict[Key, Series]:
        """The scenarios' own series out of the bundles'."""
        found: dict[Key, Series] = {}
        for key, scenarios in self.members.items():
            given = details.get(key, {})
            for s in scenarios:
                mine = f"{s.scenario}/"
                own = {name.removeprefix(mine): x for name, x in given.items() if name.startswith(mine)}
                found[s] = own or given
        return found


def bundled(couplings: Iterable[Coupling], size: int) -> Bundling:
    """Put up to `size` scenarios of each unit into one block; 1 = none.

    Scenarios that share all their tree nodes are bundled in the order of their names, as evenly as possible. Where
    fewer than `size` do, whole subtrees are put together, the largest that fit: a node of the tree never lies in two
    bundles unless all scenarios of both are in it.
    """
    if size < 1:
        raise ValueError("bundle is a number of scenarios, at least 1")
    before = {c.unit: c for c in couplings}
    members: dict[Key, tuple[Key, ...]] = {}
    kept: dict[str, IntArray] = {}
    largest: dict[str, int] = {}
    after = []
    for c in before.values():
        groups = [(key,) for key in sorted(c.prob)] if size == 1 else _groups(c, size)
        own = {_name(group): group for group in groups}
        stay = _kept(c, groups)
        members |= own
        kept[c.unit], largest[c.unit] = np.flatnonzero(stay), max(map(len, groups))
        after.append(c if all(len(group) == 1 for group in groups) else _coupling(c, own, kept[c.unit]))
    return Bundling(tuple(after), members, before, kept, largest)


def nodes_of(c: Coupling, keys: Sequence[Key]) -> IntArray:
    """(len(keys), n_u) tree node of each entry in these scenarios; all 0 where all agree."""
    if c.sharing is None:
        return np.zeros((len(keys), len(c.entries)), np.int64)
    return np.stack([np.asarray(c.sharing[key], np.int64) for key in keys])


def _groups(c: Coupling, size: int) -> list[tuple[Key, ...]]:
    keys = sorted(c.prob)
    nodes = nodes_of(c, keys)
    columns = [np.unique(nodes[:, i], return_inverse=True)[1] for i in range(nodes.shape[1])]
    # partitions of the scenarios, from coarse to fine; what every scenario decides alone parts nobody from anybody
    partitions = sorted((tuple(column.tolist()) for column in columns if column.max() + 1 < len(keys)), key=max)
    partitions = [tuple([0] * len(keys)), *partitions]
    fitting = [p for p in partitions if max(np.bincount(p)) <= size]
    chosen = np.array(fitting[0] if fitting else partitions[-1])
    found = []
    for part in range(int(chosen.max()) + 1):
        at = np.flatnonzero(chosen == part)
        found += [tuple(keys[i] for i in some) for some in np.array_split(at, -(-len(at) // size))]
    return found


def _kept(c: Coupling, groups: Sequence[tuple[Key, ...]]) -> BoolArray:
    """(n_u,) entries that bundles must still agree on with each other, or that feed a node of the coordinator."""
    if all(len(group) == 1 for group in groups):
        return np.ones(len(c.entries), bool)
    nodes = [nodes_of(c, group) for group in groups]
    across = np.zeros(len(c.entries), bool)
    for i in range(len(c.entries)):
        seen = [set(own[:, i].tolist()) for own in nodes]
        across[i] = sum(map(len, seen)) > len(set().union(*seen)) or len(groups) == 1
    alike = np.array([[len(set(own[:, i].tolist())) == 1 for i in range(len(c.entries))] for own in nodes]).all(axis=0)
    stay = np.asarray(((np.asarray(c.node) >= 0) | across) & alike, bool)
    parted = across & ~alike & (len(groups) > 1)
    if parted.any():
        names = ", ".join(c.entries[i] for i in np.flatnonzero(parted))
        raise ValueError(f"unit {c.unit}: its bundles cut through tree nodes of {names}; the nodes are no tree")
    return stay


def _coupling(c: Coupling, own: Mapping[Key, tuple[Key, ...]], kept: IntArray) -> Coupling:
    if not len(kept):
        raise ValueError(f"unit {c.unit}: every scenario decides alone, there is nothing to bundle")
    first = {key: scenarios[0] for key, scenarios in own.items()}
    largest = max(map(len, own.values()))
    return replace(
        c,
        entries=tuple(c.entries[i] for i in kept),
        weight=np.asarray(c.weight, float)[kept],
        node=np.asarray(c.node, np.int64)[kept],
        prob={key: sum(c.prob[s] for s in scenarios) for key, scenarios in own.items()},
        report=tuple(f"{name}, scenario {i}" for i in range(largest) for name in c.report),
        sharing=None if c.sharing is None else {key: np.asarray(c.sharing[s])[kept] for key, s in first.items()},
        scale=None if c.scale is None else np.asarray(c.scale, float)[kept],
        level=None if c.level is None else np.asarray(c.level, float)[kept],
    )


def _name(group: tuple[Key, ...]) -> Key:
    first, last = group[0], group[-1]
    return first if len(group) == 1 else Key(first.unit, f"{first.scenario}..{last.scenario}")
