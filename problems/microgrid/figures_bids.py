"""A microgrid's bids: reactive power, cost, the bids of each unit, the store, and one hour as a whole. Figs. 14-21.

Everything shown is the expectation over the scenarios.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from decomp.messages import FloatArray
from problems.market.figures import COLOURS, COLUMN_IN, HATCHES, MARKERS
from problems.microgrid.figures_inputs import PAGE_IN, hours
from problems.microgrid.folder import QUANTITIES, WHOLE, MicrogridFolder

BELOW = ("regulation_down_mw", "stored_mw")  # drawn below zero: they take from what is generated
PAPER = {"MT1": "16", "MT2": "17", "PV": "18", "WT": "19"}


def reactive_shares(folder: MicrogridFolder) -> Figure:
    """Reactive power of each unit, stacked. Paper 2, Fig. 14."""
    figure = Figure(figsize=(COLUMN_IN, 2.5), layout="constrained")
    axis = figure.subplots()
    givers = [unit for unit in folder.units if np.any(np.abs(folder.of(unit, "reactive_mvar")) > 0)]
    stacked(axis, folder.hours, {unit: 1e3 * folder.of(unit, "reactive_mvar") for unit in givers})
    axis.set(ylabel="Reactive power (kvar)", title="Reactive power of the units (paper 2, Fig. 14)")
    hours(axis, folder.market.hour)
    figure.legend(handles=patches(givers), loc="outside lower center", ncols=max(len(givers), 1))
    return figure


def operating_cost(folder: MicrogridFolder) -> Figure:
    """Expected operating cost of each micro-turbine by hour. Paper 2, Fig. 15."""
    figure = Figure(figsize=(COLUMN_IN, 2.3), layout="constrained")
    axis = figure.subplots()
    for i, unit in enumerate(u for u in folder.units if u.startswith("MT")):
        cost = folder.of(unit, "cost_usd")
        label = f"{unit}, {cost.sum():.0f} $ in the day"
        axis.plot(folder.hours, cost, color=COLOURS[i % 6], marker=MARKERS[i % 6], ms=3, label=label)
    axis.set(ylabel="Operating cost ($/h)", title="Cost of the micro-turbines (paper 2, Fig. 15)")
    axis.set_ylim(bottom=0)
    hours(axis, folder.market.hour)
    axis.legend(loc="upper left")
    return figure


def unit_bids(folder: MicrogridFolder) -> Figure:
    """What each generating unit sells, holds ready and stores, by hour. Paper 2, Figs. 16-19."""
    units = [u for u in folder.units if u in PAPER] or list(folder.units)
    rows = (len(units) + 1) // 2
    figure = Figure(figsize=(PAGE_IN, 0.6 + 2.0 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, sharex=True, squeeze=False)
    for axis, unit in zip(axes.flat, units, strict=False):
        paper = f" (paper 2, Fig. {PAPER[unit]})" if unit in PAPER else ""
        bids(axis, folder, unit)
        axis.set(ylabel="Power (MW)", title=f"{unit}{paper}")
    for axis in axes.flat[len(units) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        hours(axis, folder.market.hour)
    note = "below zero: regulation down, and what goes into the store"
    figure.legend(
        handles=patches(QUANTITIES.values()), loc="outside lower center", ncols=6, title=note, title_fontsize=7
    )
    figure.align_ylabels(axes)
    return figure


def storage(folder: MicrogridFolder) -> Figure:
    """Bids of the stores, their charge, and the state at the end of each hour. Paper 2, Fig. 20 and Table 6."""
    figure = Figure(figsize=(COLUMN_IN, 3.7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.3, 1))
    names = [unit for unit in dict.fromkeys(folder.storage.unit)]
    parts = {q: sum((folder.of(u, q) for u in names), np.zeros(len(folder.hours))) for q in list(QUANTITIES)[:-1]}
    parts["stored_mw"] = folder.stores("charge_mw")
    stacked(upper, folder.hours, {q: -v if q in BELOW else v for q, v in parts.items()})
    upper.set(ylabel="Power (MW)", title="Bids of the store; charge below zero (paper 2, Fig. 20)")
    state = folder.stores("state_mwh")
    lower.bar(folder.hours, state, 0.8, color=COLOURS[5], edgecolor="white", lw=0.2)
    lower.set(ylabel="State (MWh)", title="State at the end of the hour (paper 2, Table 6)")
    hours(lower, folder.market.hour)
    figure.legend(
        handles=patches(QUANTITIES.values()), loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.5
    )
    figure.align_ylabels([upper, lower])
    return figure


def hour_of_all(folder: MicrogridFolder, hour: int) -> Figure:
    """All units and all markets at one hour, and their sums. Paper 2, Fig. 21."""
    rows, columns = [*folder.units, WHOLE], list(QUANTITIES)
    values = np.array([[folder.at(u, q, hour) for q in columns] for u in rows])
    values[np.abs(values) < 5e-4] = 0.0
    figure = Figure(figsize=(1.25 * COLUMN_IN, 0.9 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    axis.imshow(values, cmap="Blues", vmin=0.0, vmax=1.4 * max(float(values.max()), 1e-9), aspect="auto")
    for i, j in np.ndindex(values.shape):
        weight = "bold" if rows[i] == WHOLE else "normal"
        text = f"{values[i, j]:.3f}" if values[i, j] else "–"
        axis.text(j, i, text, ha="center", va="center", fontsize=7, weight=weight)
    axis.axhline(len(rows) - 1.5, color="black", lw=0.8)
    axis.set_xticks(range(len(columns)), [QUANTITIES[q].replace(" ", "\n", 1) for q in columns])
    axis.set_yticks(range(len(rows)), ["sum" if u == WHOLE else u for u in rows])
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.set_title(f"Bids at {hour} h (MW), by unit and market (paper 2, Fig. 21)")
    return figure


def bids(axis: Axes, folder: MicrogridFolder, unit: str) -> None:
    parts = {q: folder.of(unit, q) for q in QUANTITIES}
    stacked(axis, folder.hours, {q: -v if q in BELOW else v for q, v in parts.items()})


def stacked(axis: Axes, at: FloatArray, parts: Mapping[str, FloatArray]) -> None:
    """Bars of all parts, those above zero on one another, those below under one another."""
    above, below = np.zeros(len(at)), np.zeros(len(at))
    width = 0.8 * float(np.diff(at).min()) if len(at) > 1 else 0.8
    for i, values in enumerate(parts.values()):
        axis.bar(
            at, values, width, bottom=np.where(values >= 0, above, below), color=COLOURS[i % 6],
            hatch=HATCHES[i % 6], edgecolor="white", lw=0.2,
        )  # fmt: skip
        above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
    axis.axhline(0, color="black", lw=0.5)
    margin = 0.06 * max(float(np.ptp([above.max(), below.min()])), 1e-9)
    axis.set_ylim(below.min() - margin if below.min() < 0 else 0.0, above.max() + margin)


def patches(names: Iterable[str]) -> list[Artist]:
    return [
        Patch(facecolor=COLOURS[i % 6], hatch=HATCHES[i % 6], edgecolor="white", label=name)
        for i, name in enumerate(names)
    ]
