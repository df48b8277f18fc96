"""Bidding curves and the risk frontier. Paper 2, Figs. 22-23."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from problems.market.figures import COLOURS, COLUMN_IN, MARKERS
from problems.microgrid.folder import WHOLE

PAPER = {(WHOLE, 21): "22", ("MT1", 13): "23"}


def bidding_curves(table: pd.DataFrame) -> Figure:
    """Energy offered at an hour by its price, one panel a curve.

    table: bidding_curves.csv with unit, hour, price_usd_per_mwh, energy_mw.
    """
    groups = list(table.groupby(["unit", "hour"], sort=False))
    figure = Figure(figsize=(COLUMN_IN * min(len(groups), 2), 2.4 * ((len(groups) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(groups) + 1) // 2, min(len(groups), 2), squeeze=False).flat
    for i, (axis, ((unit, hour), rows)) in enumerate(zip(axes, groups, strict=False)):
        rows = rows.sort_values("price_usd_per_mwh")
        axis.plot(rows.energy_mw, rows.price_usd_per_mwh, color=COLOURS[i % 6], marker=MARKERS[i % 6], ms=2.5)
        name = "Microgrid" if unit == WHOLE else str(unit)
        paper = f" (paper 2, Fig. {PAPER[unit, int(hour)]})" if (unit, int(hour)) in PAPER else ""
        axis.set(xlabel="Energy offered (MW)", ylabel="Price ($/MWh)", title=f"{name} at {hour:g} h{paper}")
        axis.set_xlim(left=min(0.0, float(rows.energy_mw.min())))
    for axis in list(axes)[len(groups) :]:
        axis.set_axis_off()
    return figure


def risk_frontier(table: pd.DataFrame) -> Figure:
    """Expected profit against the CVaR of the profit, over the weight w of paper 2, eq. (35)."""
    figure = Figure(figsize=(COLUMN_IN, 2.4), layout="constrained")
    axis = figure.subplots()
    axis.plot(table.cvar_usd, table.expected_profit_usd, color=COLOURS[0], marker="o", ms=3)
    shown: list[tuple[float, float]] = []
    span = np.ptp(table[["cvar_usd", "expected_profit_usd"]].to_numpy(), axis=0) + 1e-12
    for row in table.itertuples():
        at = (row.cvar_usd, row.expected_profit_usd)
        if all(np.max(np.abs(np.subtract(at, other)) / span) > 0.15 for other in shown):
            label = axis.annotate(f"w = {row.w:g}", at, xytext=(4, 3), textcoords="offset points", fontsize=6)
            label.set_in_layout(False)  # it stands inside the axes
            shown.append(at)
    axis.set(xlabel="CVaR of the profit ($)", ylabel="Expected profit ($)", title="Risk frontier")
    axis.margins(x=0.2, y=0.15)
    return figure
