"""What the blocks of one unit agree on: an entry, or an entry in one node of a scenario tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decomp.messages import Coupling, FloatArray, IntArray


class UnitEntries(NamedTuple):
    """One unit: declared, tree_node, share, sharers (m,) of its unit entries; entry (S, n_u) where its blocks' lie."""

    declared: IntArray
    tree_node: IntArray
    share: FloatArray
    sharers: IntArray
    entry: IntArray


def unit_entries(c: Coupling) -> UnitEntries:
    """What the blocks of a unit agree on: entry by entry, in each the tree nodes by number."""
    n, keys = len(c.entries), sorted(c.prob)
    if c.sharing is None:
        every = np.arange(n)
        alike = np.full(n, -1)
        return UnitEntries(every, alike, np.ones(n), np.full(n, len(keys)), np.tile(every, (len(keys), 1)))
    prob = np.array([c.prob[key] for key in keys])
    sharing = np.stack([np.asarray(c.sharing[key], np.int64) for key in keys])
    entry = np.zeros(sharing.shape, np.int64)
    declared: list[int] = []
    tree_node: list[int] = []
    share: list[FloatArray] = []
    sharers: list[IntArray] = []
    for i in range(n):
        nodes, at = np.unique(sharing[:, i], return_inverse=True)
        entry[:, i] = len(declared) + at
        declared += [i] * len(nodes)
        tree_node += nodes.tolist() if len(nodes) > 1 else [-1]
        # those of all blocks sum to 1 but for rounding
        share.append(np.asarray(np.bincount(at, prob), float) if len(nodes) > 1 else np.ones(1))
        sharers.append(np.bincount(at))
    whole = np.int64
    return UnitEntries(
        np.array(declared, whole), np.array(tree_node, whole), joined(share, float), joined(sharers, whole), entry
    )


def joined(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    """The parts in a row, as one array of `dtype`; empty where there is none."""
    return np.concatenate([np.asarray(p, dtype) for p in parts] or [np.zeros(0, dtype)])
