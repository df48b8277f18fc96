"""How far prices move for a mismatch before anything is known of the blocks: reference price / width.

    node rows              Coordinator.scale / width of the box; agreement at a node n_b times that, for there n_b units
                           share what moves the node's price
    entries without node   scale / E|y| of the first answers; where the scale is not known, what a unit of y costs on
                           average, E|f| / (weight E|y|)

Boxes are often wide and first answers far apart: either kind is divided by its largest relative mismatch in the first
round, so that a first step of 1 moves a price by at most its reference price.
"""

from __future__ import annotations

import numpy as np

from decomp.layout import Answers, Layout
from decomp.messages import FloatArray
from decomp.rules.base import Constant, Setup

LEAST_MISMATCH = 1e-4  # relative to the width: less is nearly none, and no measure of what will come


def at_nodes(setup: Setup) -> tuple[FloatArray, FloatArray]:
    """reach, width (n+N,) of node rows and of the agreement of entries that feed them; nan where there is no node."""
    layout = setup.layout
    if np.any(setup.scale <= 0) or not np.all(np.isfinite(setup.scale)):
        raise ValueError("the coordinator's scale (reference price) must be positive at every node")
    width = setup.box[1] - setup.box[0]
    known = np.isfinite(width) & (width > 0)
    width = np.where(known, width, np.max(width[known], initial=0.0) or 1.0)
    reach = setup.scale / width
    shared = layout.to_units(reach * layout.count, np.nan)
    return (
        np.concatenate([reach, layout.to_blocks(shared)]),
        np.concatenate([width, layout.to_blocks(layout.to_units(width, np.nan))]),
    )


def settled(
    setup: Setup,
    reach: FloatArray,
    width: FloatArray,
    g: FloatArray,
    answers: Answers,
    agreement_penalty: Constant | None,
) -> tuple[FloatArray, FloatArray]:
    """reach, width (n+N,) after the first answers with their mismatches g (n+N,)."""
    layout = setup.layout
    alone = np.isnan(reach)
    size, cost = layout.mean(np.abs(answers.y)), layout.mean(np.abs(answers.cost)[layout.block])
    size = np.where(size > 0, size, np.max(size, initial=0.0) or 1.0)
    preset = given(layout, agreement_penalty)
    worth = np.where(np.isnan(layout.scale), np.where(cost > 0, cost, 1.0) / (layout.weight * size), layout.scale)
    by_cost = worth / size if preset is None else preset
    nobody = np.zeros(len(setup.nodes))
    reach = np.where(alone, np.concatenate([nobody, layout.to_blocks(by_cost)]), reach)
    width = np.where(alone, np.concatenate([nobody, layout.to_blocks(size)]), width)
    for kind in (~alone, alone) if preset is None else (~alone,):
        largest = float(np.max(np.abs(g[kind]) / width[kind], initial=0.0))
        factor = np.where(kind, max(largest, LEAST_MISMATCH) if largest > 0 else 1.0, 1.0)
        reach, width = reach / factor, width * factor
    return reach, width


def given(layout: Layout, penalty: Constant | None) -> FloatArray | None:
    """(M,) the reach given for entries without a node, 1 for the others; None = none is given."""
    if penalty is None:
        return None
    names = layout.names
    alone = {name for name, node in zip(names, layout.node, strict=True) if node < 0}
    if isinstance(penalty, (int, float)):
        penalty = dict.fromkeys(alone, float(penalty))
    missing = sorted(alone - set(penalty))
    if missing:
        raise ValueError(f"agreement_penalty has no value for {', '.join(missing)}")
    if any(penalty[name] <= 0 for name in alone):
        raise ValueError("agreement_penalty must be positive")
    return np.array([penalty[name] if name in alone else 1.0 for name in names])
