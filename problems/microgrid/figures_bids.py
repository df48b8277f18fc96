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
from problems.market.figures import COLOURS, COLUMN_IN, HATCHES
from problems.microgrid.figures_inputs import LINES, PAGE_IN, hours, stepped
from problems.microgrid.folder import QUANTITIES, WHOLE, MicrogridFolder
from problems.microgrid.paper_case import roles

SHOWN_MW = 1e-4  # bars that are smaller cannot be seen, and are not in the legend
BELOW = ("regulation_down_mw", "stored_mw")  # drawn below zero: they take from what is generated


def printed(folder: MicrogridFolder, figure: str) -> str:
    """ " (paper 2, Fig. 14)" where the microgrid is the paper's, else nothing."""
    return f" (paper 2, {figure})" if roles(folder.units_table, folder.hours) is not None else ""


def figure_of(folder: MicrogridFolder) -> dict[str, str]:
    """The paper's figure of each of its units, by name; none where the microgrid is another."""
    papers = roles(folder.units_table, folder.hours)
    return {} if papers is None else {papers.mt1: "16", papers.mt2: "17", papers.pv: "18", papers.wt: "19"}


def reactive_shares(folder: MicrogridFolder) -> Figure:
    """Reactive power of each unit, stacked. Paper 2, Fig. 14."""
    figure = Figure(figsize=(COLUMN_IN, 2.5), layout="constrained")
    axis = figure.subplots()
    givers = [unit for unit in folder.units if np.any(np.abs(folder.of(unit, "reactive_mvar")) > 0)]
    stacked(axis, folder.hours, {unit: 1e3 * folder.of(unit, "reactive_mvar") for unit in givers})
    axis.set(ylabel="Reactive power (kvar)", title=f"Reactive power of the units{printed(folder, 'Fig. 14')}")
    hours(axis, folder.market.hour)
    figure.legend(handles=patches(givers), loc="outside lower center", ncols=max(len(givers), 1))
    return figure


def operating_cost(folder: MicrogridFolder) -> Figure:
    """Expected operating cost of each micro-turbine by hour. Paper 2, Fig. 15."""
    figure = Figure(figsize=(COLUMN_IN, 2.3), layout="constrained")
    axis = figure.subplots()
    for i, unit in enumerate(folder.of_kind("mt")):
        cost = folder.of(unit, "cost_usd")
        label = f"{unit}, {cost.sum():.0f} $ in the day"
        stepped(axis, folder.hours, cost / folder.dt_h, color=COLOURS[i % 6], ls=LINES[i % 4], label=label)
    axis.set(ylabel="Operating cost ($/h)", title=f"Cost of the micro-turbines{printed(folder, 'Fig. 15')}")
    axis.set_ylim(bottom=0)
    hours(axis, folder.market.hour)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def unit_bids(folder: MicrogridFolder) -> Figure:
    """What each generating unit sells, holds ready and stores, by hour. Paper 2, Figs. 16-19."""
    papers = figure_of(folder)
    units = list(folder.of_kind("mt", "solar", "wind", "demand_response")) or list(folder.units)
    rows = (len(units) + 1) // 2
    figure = Figure(figsize=(PAGE_IN, 0.6 + 2.0 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, sharex=True, squeeze=False)
    for axis, unit in zip(axes.flat, units, strict=False):
        paper = f" (paper 2, Fig. {papers[unit]})" if unit in papers else ""
        bids(axis, folder, unit)
        axis.set(ylabel="Power (MW)", title=f"{unit}{paper}")
    for axis in axes.flat[len(units) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        hours(axis, folder.market.hour)
    note = "below zero: regulation down, and what goes into the store"
    shown = [q for q in QUANTITIES if any(np.any(np.abs(folder.of(unit, q)) > SHOWN_MW) for unit in units)]
    figure.legend(handles=of_products(shown), loc="outside lower center", ncols=6, title=note, title_fontsize=7)
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
    upper.set(ylabel="Power (MW)", title=f"Bids of stores; charge below 0{printed(folder, 'Fig. 20')}")
    state = folder.stores("state_mwh")
    lower.bar(folder.hours, state, 0.8 * folder.dt_h, color=COLOURS[5], edgecolor="white", lw=0.2)
    lower.set(ylabel="State (MWh)", title=f"State at the end of the step{printed(folder, 'Table 6')}")
    hours(lower, folder.market.hour)
    shown = [q for q, values in parts.items() if np.any(np.abs(values) > SHOWN_MW)]
    figure.legend(handles=of_products(shown), loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.5)
    figure.align_ylabels([upper, lower])
    return figure


def hour_of_all(folder: MicrogridFolder, hour: float) -> Figure:
    """All units and all markets at one step, and their sums. Paper 2, Fig. 21."""
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
    paper = printed(folder, "Fig. 21") if hour == 15 else ""
    axis.set_title(f"Bids at {hour:g} h (MW), by unit and market{paper}")
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


def of_products(quantities: Iterable[str]) -> list[Artist]:
    """Patches of these columns of bids.csv, in the colours that they have in every figure."""
    every = dict(zip(QUANTITIES, patches(QUANTITIES.values()), strict=True))
    return [every[name] for name in quantities]


def patches(names: Iterable[str]) -> list[Artist]:
    return [
        Patch(facecolor=COLOURS[i % 6], hatch=HATCHES[i % 6], edgecolor="white", label=name)
        for i, name in enumerate(names)
    ]
