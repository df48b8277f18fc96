"""From a stochastic file to scenarios in a tree: all of them, or a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray
from problems.smps.stochastic import RandomVector, Stochastic

MOST = 100_000  # scenarios that are written out


@dataclass(frozen=True, eq=False)
class Scenarios:
    """S scenarios.

    prob   (S,) their sum is 1
    node   (S, K) number of the tree node of each at every stage: the same number, the same past
    value  (S, P) of every random number
    """

    names: tuple[str, ...]
    prob: FloatArray
    node: IntArray
    value: FloatArray


def all_scenarios(stochastic: Stochastic) -> Scenarios:
    """Every scenario of the file. Raises InputError where there are too many, or a distribution is continuous."""
    if stochastic.branches:
        return _listed(stochastic)
    continuous = [v.name for v in stochastic.vectors if v.law is not None]
    count = math.prod(len(v.prob) for v in stochastic.vectors if v.law is None)
    if continuous or count > MOST:
        digits = str(count) if count < 10**9 else f"10^{len(str(count)) - 1}"
        problem = f"{', '.join(continuous[:3])} has a continuous distribution" if continuous else (
            f"the independent random numbers have {digits} scenarios together"
        )  # fmt: skip
        raise InputError(
            [Mistake("", "smps", "scenarios", problem, "add scenarios = ..., so many are drawn, and seed = ...")]
        )
    stages = len(stochastic.elements.stages.periods)
    prob, node = np.ones(1), np.zeros((1, 1), np.int64)
    value = np.array([stochastic.elements.base]).reshape(1, -1)
    for k in range(1, stages):
        for vector in (v for v in stochastic.vectors if v.stage == k):
            s, outcome = np.indices((len(prob), len(vector.prob))).reshape(2, -1)
            prob, node, value = prob[s] * vector.prob[outcome], node[s], value[s]
            value[:, vector.positions] = vector.outcomes[outcome]
        node = np.column_stack([node, np.arange(len(prob))])
    return Scenarios(_numbered(len(prob)), prob / prob.sum(), node, value)


def sampled(stochastic: Stochastic, children: Sequence[int], seed: int) -> Scenarios:
    """A tree drawn at random: children[k] nodes below each node of stage k, all equally likely.

    Nodes are drawn independently of each other, from the conditional distribution given their past. The same seed, the
    same tree. Raises InputError for a number of stages that does not fit.
    """
    stages = len(stochastic.elements.stages.periods)
    if len(children) != stages - 1:
        problem = f"{len(children)} numbers for {stages} stages"
        remedy = f"give {stages - 1}: the nodes below each node, from the first stage on"
        raise InputError([Mistake("", "smps", "scenarios", problem, remedy)])
    if math.prod(children) > MOST:
        raise InputError([Mistake("", "smps", "scenarios", f"{math.prod(children)} are too many", f"at most {MOST}")])
    rng = np.random.default_rng(seed)
    if stochastic.branches:
        return _sampled_list(_listed(stochastic), stochastic, children, rng)
    node = np.zeros((1, 1), np.int64)
    value = np.array([stochastic.elements.base]).reshape(1, -1)
    for k, many in enumerate(children, 1):
        s = np.repeat(np.arange(len(node)), many)
        node, value = node[s], value[s]
        for vector in (v for v in stochastic.vectors if v.stage == k):
            _draw(stochastic, vector, value, rng)
        node = np.column_stack([node, np.arange(len(node))])
    return Scenarios(_numbered(len(node)), np.full(len(node), 1.0 / len(node)), node, value)


def _draw(stochastic: Stochastic, vector: RandomVector, value: FloatArray, rng: np.random.Generator) -> None:
    if vector.law is None:
        value[:, vector.positions] = vector.outcomes[rng.choice(len(vector.prob), len(value), p=vector.prob)]
        return
    kind, a, b = vector.law
    law = {
        "UNIFORM": lambda: stats.uniform(a, b - a),
        "NORMAL": lambda: stats.norm(a, math.sqrt(b)),
        "GAMMA": lambda: stats.gamma(b, scale=a),
        "BETA": lambda: stats.beta(a, b),
        "LOGNORM": lambda: stats.lognorm(math.sqrt(b), scale=math.exp(a)),
    }[kind]()
    drawn = law.ppf(rng.uniform(np.finfo(float).tiny, 1.0, len(value)))
    at = vector.positions[0]
    base = stochastic.elements.base[at]
    value[:, at] = base + drawn if vector.manner == "ADD" else base * drawn if vector.manner == "MULTIPLY" else drawn


def _listed(stochastic: Stochastic) -> Scenarios:
    """The scenarios of a list; a node is made where one branches, and shared before that."""
    stages = len(stochastic.elements.stages.periods)
    base = np.array(stochastic.elements.base)
    place = {b.name: s for s, b in enumerate(stochastic.branches)}
    node = np.zeros((len(place), stages), np.int64)
    value = np.tile(base, (len(place), 1))
    made = [1] * stages
    for s, branch in enumerate(stochastic.branches):
        if branch.parent:
            node[s], value[s] = node[place[branch.parent]], value[place[branch.parent]]
        for k in range(max(branch.stage, 1), stages):
            node[s, k], made[k] = made[k], made[k] + 1
        for position, x in branch.values:
            value[s, position] = x
    prob = np.array([b.prob for b in stochastic.branches])
    kept = prob > 0
    return Scenarios(
        tuple(b.name for b in stochastic.branches if b.prob > 0), prob[kept] / prob.sum(), node[kept], value[kept]
    )


def _sampled_list(
    whole: Scenarios, stochastic: Stochastic, children: Sequence[int], rng: np.random.Generator
) -> Scenarios:
    """Each node's children are drawn from the list's nodes below the same past."""
    picked = [np.arange(len(whole.names))]  # scenarios of the list that go through each node
    paths = np.zeros((1, 1), np.int64)
    for k, many in enumerate(children, 1):
        below: list[IntArray] = []
        grown: list[list[int]] = []
        for i, through in enumerate(picked):
            at, group = np.unique(whole.node[through, k], return_inverse=True)
            mass = np.bincount(group, whole.prob[through])
            for choice in rng.choice(len(at), many, p=mass / mass.sum()):
                below.append(through[group == choice])
                grown.append([*paths[i].tolist(), len(grown)])
        picked, paths = below, np.array(grown, np.int64)
    value = np.array([whole.value[through[0]] for through in picked])
    return Scenarios(_numbered(len(picked)), np.full(len(picked), 1.0 / len(picked)), paths, value)


def _numbered(count: int) -> tuple[str, ...]:
    width = len(str(count))
    return tuple(f"{i:0{width}d}" for i in range(1, count + 1))
