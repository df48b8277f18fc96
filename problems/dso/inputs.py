"""Checks of what a DSO is built from, and which blocks make up its scenarios."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from decomp.errors import Mistake
from decomp.messages import FloatArray, Key
from problems.network.feeder import Network

PROBABILITY_TOLERANCE = 1e-9


def wrong_arrays(shapes: Mapping[str, tuple[object, tuple[int, ...]]]) -> list[Mistake]:
    """Arrays of another shape than the one wanted, and arrays with nan or infinite figures."""
    mistakes = []
    for name, (value, shape) in shapes.items():
        array = np.asarray(value, float)
        if array.shape != shape:
            mistakes.append(Mistake("", "dso", name, f"has shape {array.shape}", f"one figure for each of {shape}"))
        elif not np.isfinite(array).all():
            first = np.argwhere(~np.isfinite(array))[0].tolist()
            mistakes.append(Mistake("", "dso", name, f"the figure at {first} is not finite", "fill the gap"))
    return mistakes


def wrong_units(
    network: Network,
    pcc: Mapping[str, str],
    probabilities: Mapping[Key, float],
    box: Mapping[str, tuple[FloatArray, FloatArray]],
    name: str = "box",
) -> list[Mistake]:
    """PCCs that do not exist, units without a box or with one upside down, scenarios that do not fit together."""
    mistakes = []
    several: dict[str, dict[str, float]] = {}
    for unit, bus in pcc.items():
        if bus not in network.buses:
            known = f"the buses are {', '.join(network.buses[:40])}"
            mistakes.append(Mistake("", "dso", f"pcc.{unit}", f"no bus '{bus}' in the network", known))
        elif bus == network.buses[network.slack]:
            remedy = "its voltage is given; connect the unit elsewhere"
            mistakes.append(Mistake("", "dso", f"pcc.{unit}", f"bus '{bus}' is the slack bus", remedy))
        if unit not in box:
            mistakes.append(Mistake("", "dso", f"{name}.{unit}", "the unit has no box", "give (lo, hi), (T,) each"))
        elif np.shape(box[unit][0]) == np.shape(box[unit][1]) and np.any(np.greater(*box[unit])):
            mistakes.append(Mistake("", "dso", f"{name}.{unit}", "lo is above hi", "lo <= hi in every step"))
        labels = {key.scenario: p for key, p in probabilities.items() if key.unit == unit}
        if not labels:
            mistakes.append(Mistake("", "dso", f"probabilities.{unit}", "the unit has no block", "add its probability"))
        if len(labels) > 1:
            several[unit] = labels
    for unit, labels in several.items():
        first = next(iter(several))
        if labels.keys() != several[first].keys() or any(
            abs(labels[s] - several[first][s]) > PROBABILITY_TOLERANCE for s in labels
        ):
            problem = f"its scenarios or their probabilities differ from those of {first}"
            remedy = "the network sees all units in one scenario at a time: use the same labels and probabilities"
            mistakes.append(Mistake("", "dso", f"probabilities.{unit}", problem, remedy))
    return mistakes


def scenarios_of(
    pcc: Mapping[str, str], probabilities: Mapping[Key, float]
) -> tuple[tuple[str, ...], FloatArray, tuple[tuple[Key, ...], ...]]:
    """(labels, probability of each, keys of all units (sorted) in each); a unit with one scenario is in all of them."""
    of_unit = {u: sorted(key for key in probabilities if key.unit == u) for u in sorted(pcc)}
    widest = max(of_unit.values(), key=len)
    labels = tuple(key.scenario for key in widest)
    keys = tuple(
        tuple(own[0] if len(own) == 1 else Key(unit, label) for unit, own in of_unit.items()) for label in labels
    )
    prob = np.array([probabilities[key] for key in widest])
    return labels, prob, keys
