"""Bidding curves and the risk frontier. Paper 2, Figs. 22-23."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from problems.market.figures import COLOURS, COLUMN_IN, MARKERS
from problems.microgrid.folder import WHOLE


def bidding_curves(table: pd.DataFrame, papers: Mapping[tuple[str, int], str] | None = None) -> Figure:
    """What is offered at an hour by its price, one panel a curve, as the market takes it: in steps.

    table: bidding_curves.csv with unit, hour, product (energy where there is none), price_usd_per_mwh, MW by product
    papers: the paper's figure by unit and hour
    """
    table = table if "product" in table else table.assign(product="energy")
    groups = list(table.groupby(["unit", "hour", "product"], sort=False))
    figure = Figure(figsize=(COLUMN_IN * min(len(groups), 2), 2.4 * ((len(groups) + 1) // 2)), layout="constrained")
    axes = figure.subplots((len(groups) + 1) // 2, min(len(groups), 2), squeeze=False).flat
    for i, (axis, ((unit, hour, product), rows)) in enumerate(zip(axes, groups, strict=False)):
        rows = rows.sort_values("price_usd_per_mwh")
        offered = rows[f"{product}_mw"]
        axis.step(offered, rows.price_usd_per_mwh, where="pre", color=COLOURS[i % 6], marker=MARKERS[i % 6], ms=2.5)
        name = "Microgrid" if unit == WHOLE else str(unit)
        figure_of = (papers or {}).get((unit, int(hour))) if product == "energy" else None
        paper = "" if figure_of is None else f" (paper 2, Fig. {figure_of})"
        what = str(product).replace("_", " ").capitalize()
        unit_of = "$/MWh" if product == "energy" else "$/MW and h"
        axis.set(xlabel=f"{what} offered (MW)", ylabel=f"Price ({unit_of})", title=f"{name} at {hour:g} h{paper}")
        axis.set_xlim(left=min(0.0, float(offered.min())))
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
            left = at[0] > 0.5 * (table.cvar_usd.min() + table.cvar_usd.max())
            offset, align = ((-5, -8), "right") if left else ((5, 4), "left")
            axis.annotate(f"w = {row.w:g}", at, offset, textcoords="offset points", fontsize=6, ha=align)
            shown.append(at)
    axis.set(xlabel="CVaR of the profit ($)", ylabel="Expected profit ($)", title="Risk frontier")
    axis.margins(x=0.2, y=0.15)
    return figure
