"""Scenario trees of two or more stages: who knows the same at a stage and therefore decides the same.

A node of stage k is what is known when the decisions of stage k are taken: stage 0 is the root, the last stage has one
leaf for each scenario, and a leaf's name is its scenario's. An entry of stage k agrees among the scenarios that share
their node of stage k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray, Key
from problems.scenarios.from_csv import number
from problems.scenarios.scenario_set import HERE, MASS_TOLERANCE, Place, ScenarioSet
from problems.time_series import read_csv


class Node(NamedTuple):
    """One node. `probability` is the conditional one, given the parent; the root has no parent ("") and 1."""

    name: str
    parent: str
    probability: float


@dataclass(frozen=True, eq=False)
class ScenarioTree:
    """A checked tree; build it with `scenario_tree`, `read_tree` or `tree_of_histories`.

    scenarios  (S,) names of the leaves
    prob       (S,) product of the conditional probabilities on the way from the root
    nodes      names of the nodes of each stage, stage 0 first, in the order given
    node       (S, K) position in `nodes[k]` of the node of each scenario at stage k
    """

    scenarios: tuple[str, ...]
    prob: FloatArray
    nodes: tuple[tuple[str, ...], ...]
    node: IntArray

    @property
    def stages(self) -> int:
        return len(self.nodes)

    def sharing(self, stage: int) -> dict[str, tuple[str, ...]]:
        """The scenarios that share each node of the stage."""
        return {
            name: tuple(self.scenarios[s] for s in np.flatnonzero(self.node[:, stage] == i))
            for i, name in enumerate(self.nodes[stage])
        }

    def node_probability(self, stage: int) -> FloatArray:
        """(nodes of the stage,) probability of each node: the sum over its scenarios."""
        mass = np.bincount(self.node[:, stage], weights=self.prob, minlength=len(self.nodes[stage]))
        return mass.astype(np.float64)

    def groups(self, stage_of_entry: Sequence[int]) -> IntArray:
        """(S, n) node of each scenario for each entry: scenarios with equal numbers in a column agree on that entry.

        Raises ValueError for a stage the tree does not have.
        """
        stage = np.asarray(stage_of_entry, np.int64)
        if stage.size and (stage.min() < 0 or stage.max() >= self.stages):
            raise ValueError(f"stages {sorted(set(stage.tolist()))}: the tree has 0..{self.stages - 1}")
        return self.node[:, stage]

    def blocks(self, unit: str, stage_of_entry: Sequence[int]) -> tuple[dict[Key, float], dict[Key, IntArray]]:
        """`prob` and `sharing` of the unit's Coupling, a block for each scenario, a stage for each entry.

        Raises ValueError for a stage the tree does not have.
        """
        keys = [Key(unit, name) for name in self.scenarios]
        sharing = dict(zip(keys, self.groups(stage_of_entry), strict=True))
        return dict(zip(keys, self.prob.tolist(), strict=True)), sharing

    def average(self, values: FloatArray, stage_of_entry: Sequence[int]) -> FloatArray:
        """(S, n) mean of values (S, n) over the scenarios that share the entry's node, weighted by probability."""
        group = self.groups(stage_of_entry)
        mean = np.empty(group.shape)
        for i in range(group.shape[-1]):
            total = np.bincount(group[:, i], weights=self.prob * values[:, i])
            mean[:, i] = (total / np.bincount(group[:, i], weights=self.prob))[group[:, i]]
        return mean


def scenario_tree(nodes: Sequence[Node], place: Place = HERE) -> ScenarioTree:
    """The tree of these nodes, in any order.

    Raises InputError with everything that is wrong: names given twice, no root or several, parents that are not there,
    circles, probabilities outside (0, 1], branches missing (the children of a node do not sum to 1, or a path ends
    before the last stage).
    """
    wrong: list[Mistake] = []
    names = [node.name for node in nodes]
    for name in sorted({n for n in names if names.count(n) > 1}):
        wrong.append(place.mistake(f"node {name}", "is given more than once", "name each node once"))
    roots = [node.name for node in nodes if not node.parent]
    if len(roots) != 1:
        problem = f"{len(roots)} nodes have no parent: {', '.join(roots) or 'none'}"
        wrong.append(place.mistake("parent", problem, "a tree has one root, which alone has no parent"))
    known = set(names)
    for node in nodes:
        if node.parent and node.parent not in known:
            wrong.append(place.mistake(f"node {node.name}", f"its parent {node.parent} is not there", "add that node"))
        if not 0.0 < node.probability <= 1.0 + MASS_TOLERANCE:
            problem = f"has the probability {node.probability:g}"
            wrong.append(place.mistake(f"node {node.name}", problem, "give a number above 0 and not above 1"))
    if wrong:
        raise InputError(wrong)

    parent = {node.name: node.parent for node in nodes}
    chance = {node.name: node.probability for node in nodes}
    paths = {name: path_to(name, parent) for name in names}
    circling = [name for name in names if not paths[name]]
    if circling:
        raise InputError(
            [
                place.mistake(f"node {name}", "its parents go round in a circle", "lead it to the root")
                for name in circling
            ]
        )
    with_children = set(parent.values())
    leaves = [name for name in names if name not in with_children]
    last = max(len(path) for path in paths.values()) - 1
    if abs(chance[roots[0]] - 1.0) > MASS_TOLERANCE:
        problem = f"the root has the probability {chance[roots[0]]:g}"
        wrong.append(place.mistake(f"node {roots[0]}", problem, "the root is certain: 1"))
    for name in names:
        children = [child for child in names if parent[child] == name]
        total = sum(chance[child] for child in children)
        if children and abs(total - 1.0) > MASS_TOLERANCE:
            problem = f"the branches to {', '.join(children)} have the probability {total:.12g} in sum"
            remedy = "add the missing branch" if total < 1 else "the probabilities given the parent must sum to 1"
            wrong.append(place.mistake(f"node {name}", problem, remedy))
        elif not children and len(paths[name]) - 1 < last:
            problem = f"has no branches at stage {len(paths[name]) - 1}, others go on to stage {last}"
            wrong.append(place.mistake(f"node {name}", problem, "every path must reach the last stage"))
    if wrong:
        raise InputError(wrong)
    stages = tuple(tuple(n for n in names if len(paths[n]) == k + 1) for k in range(last + 1))
    position = [{name: i for i, name in enumerate(stage)} for stage in stages]
    index = np.array([[position[k][paths[leaf][k]] for k in range(last + 1)] for leaf in leaves], np.int64)
    prob = np.array([np.prod([chance[step] for step in paths[leaf]]) for leaf in leaves])
    return ScenarioTree(tuple(leaves), prob, stages, index)


def path_to(name: str, parent: Mapping[str, str]) -> tuple[str, ...]:
    """Nodes from the root to `name`; empty where the parents go round in a circle."""
    path = [name]
    while parent[path[-1]]:
        path.append(parent[path[-1]])
        if len(path) > len(parent):
            return ()
    return tuple(reversed(path))


def read_tree(file: str, folder: Path, section: str = "scenarios") -> ScenarioTree:
    """The tree of a CSV file with the columns node, parent (empty for the root) and probability (given the parent).

    Raises InputError as `scenario_tree`, or for columns that are not there.
    """
    place = Place(file, section)
    table = read_csv(folder / file, file, section)
    absent = [c for c in Node._fields if c.replace("name", "node") not in table.columns]
    if absent:
        remedy = f"the file has {', '.join(map(str, table.columns))}"
        raise InputError([place.mistake(c.replace("name", "node"), "no such column", remedy) for c in absent])
    rows = zip(table["node"].str.strip(), table["parent"].str.strip(), table["probability"], strict=True)
    return scenario_tree([Node(name, parent, number(chance)) for name, parent, chance in rows], place)


def tree_of_histories(scenarios: ScenarioSet, known_steps: Sequence[int]) -> ScenarioTree:
    """The tree in which scenarios share a node while their known values are the same, to the last bit.

    `known_steps[k]` is the number of steps known when stage k is decided, not falling; a last stage at which all steps
    are known, with a leaf for each scenario, is added. Scenarios that are equal in all steps stay apart there.

    Raises ValueError: known_steps falling or outside 0..T, or values that already differ at stage 0 (one node).
    """
    known = [int(k) for k in known_steps]
    if not known or known != sorted(known) or known[0] < 0 or known[-1] > scenarios.steps:
        raise ValueError(f"known_steps {known} must rise within 0..{scenarios.steps}")
    columns: list[IntArray] = []
    for steps in known:
        history = np.hstack([values[:, :steps] for values in scenarios.series.values()])
        first: dict[bytes, int] = {}
        columns.append(np.array([first.setdefault((row + 0.0).tobytes(), len(first)) for row in history], np.int64))
    if columns[0].max() > 0:
        raise ValueError(f"the scenarios already differ in the first {known[0]} steps: stage 0 has only one node")
    names = tuple(tuple(f"{k}.{i}" for i in range(column.max() + 1)) for k, column in enumerate(columns))
    node = np.column_stack([*columns, np.arange(len(scenarios))])
    return ScenarioTree(scenarios.names, scenarios.prob, (*names, scenarios.names), node)
