"""What goes into a microgrid's bids: weather and its scenarios, prices, need of ancillary services. Figs. 7-13."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MultipleLocator

from problems.market.figures import COLOURS, GREY
from problems.microgrid.input_settings import MARKETS

PAGE_IN = 7.0  # both columns of a journal's page
LINES = ("-", "--", "-.", ":")
MANY = 8  # scenarios: more than that are drawn grey and without a legend
NAMES = {
    "regulation_up": "regulation up",
    "regulation_down": "regulation down",
    "spinning": "spinning reserve",
    "nonspinning": "non-spinning reserve",
}
PANELS = (
    ("wind_speed_ms", "Wind speed (m/s)", "7", "9"),
    ("irradiance_wm2", "Irradiance (W/m²)", "8", "10"),
)


def weather(moments: pd.DataFrame, inputs: pd.DataFrame, *, papers: bool = True) -> Figure:
    """Forecast of wind and irradiance, with one deviation of the sample, and the scenarios. Paper 2, Figs. 7-10.

    moments: scenario_moments.csv; inputs: inputs.csv; papers: the microgrid is the paper's, whose figures are named
    """
    figure = Figure(figsize=(PAGE_IN, 4.0), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for row, (name, label, forecast, scenarios) in zip(axes, PANELS, strict=True):
        table = moments[moments.series == name]
        row[0].plot(table.hour, table.forecast, color="black", marker="o", ms=2.5, label="forecast")
        low = np.maximum(table.sample_mean - table.sample_std, 0.0)
        row[0].fill_between(
            table.hour, low, table.sample_mean + table.sample_std, color=COLOURS[5], alpha=0.4, lw=0,
            label="sample: mean ± deviation",
        )  # fmt: skip
        row[0].set(ylabel=label, title=f"Forecast{_printed(papers, forecast)}")
        groups = list(inputs.groupby("scenario", sort=False))
        for i, (scenario, rows) in enumerate(groups):
            few = len(groups) <= MANY
            style = {"color": COLOURS[i % 6], "ls": LINES[i % 4]} if few else {"color": GREY, "lw": 0.4}
            probability = rows.probability.iloc[0]
            row[1].plot(rows.hour, rows[name], label=f"{scenario}: π = {probability:.3f}" if few else None, **style)
        row[1].set_title(f"{len(groups)} scenario{'s' if len(groups) > 1 else ''}{_printed(papers, scenarios)}")
    handles = [pair for axis in axes[1] for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=5)
    for axis in axes[1]:
        hours(axis, inputs.hour)
    figure.align_ylabels(axes[:, 0])
    return figure


def prices(market: pd.DataFrame, *, papers: bool = True) -> Figure:
    """Energy and called prices, contract prices, and how much of each service is needed. Paper 2, Figs. 11-13.

    market: market.csv; papers: the microgrid is the paper's, whose figures are named. Fig. 13 is not in the paper's
    text; the probabilities of Table 5 stand for it, with eq. (60).
    """
    figure = Figure(figsize=(PAGE_IN, 2.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
    stepped(left, market.hour, market.energy_usd_per_mwh, color="black", label="energy")
    for i, name in enumerate(MARKETS):
        style = {"color": COLOURS[i], "ls": LINES[i]}
        called, contract = market[f"{name}_called_usd_per_mwh"], market[f"{name}_contract_usd_per_mw"]
        if not np.array_equal(called, market.energy_usd_per_mwh):
            stepped(left, market.hour, called, label=f"{NAMES[name]}, called", **style)
        stepped(middle, market.hour, contract, label=NAMES[name], **style)
    if len(left.lines) == 1:
        left.lines[0].set_label("energy, called services")
    left.set(ylabel="Price ($/MWh)", title=f"Energy{_printed(papers, '11')}")
    middle.set(ylabel="Contract price ($/MW and h)", title=f"Services offered{_printed(papers, '12')}")
    for axis in (left, middle):
        hours(axis, market.hour)
        logarithmic(axis)
    handles, labels = left.get_legend_handles_labels()
    more = middle.get_legend_handles_labels()
    figure.legend(handles + more[0], labels + more[1], loc="outside lower center", ncols=5)
    needs = [float(market[f"{name}_call_probability"].mean()) for name in MARKETS]
    right.barh([NAMES[name].replace(" ", "\n", 1) for name in MARKETS], needs, color=COLOURS[: len(MARKETS)])
    right.invert_yaxis()
    for y, need in enumerate(needs):
        right.annotate(f"{need:g}", (need, y), xytext=(2, 0), textcoords="offset points", va="center", fontsize=7)
    right.set(
        xlabel="Need over load (-)",
        title=f"Need{' (for Fig. 13)' if papers else ''}",
        xlim=(0, 1.3 * max(*needs, 1e-9)),
    )
    right.grid(axis="y", visible=False)
    return figure


def stepped(axis: Axes, hour: Any, values: Any, **style: Any) -> None:
    """A quantity that is constant within each step: `hour` names the steps, whose middle it stands at."""
    at, width = np.asarray(hour, float), float(np.diff(hour).min()) if len(hour) > 1 else 1.0
    edges = np.append(at - width / 2, at[-1] + width / 2)
    axis.step(edges, np.append(values, np.asarray(values)[-1:]), where="post", lw=1.2, **style)


def _printed(papers: bool, figure: str) -> str:
    return f" (paper 2, Fig. {figure})" if papers else ""


def logarithmic(axis: Axes) -> None:
    """Prices of one day span three decades. Linear where one is not above 0."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axis.lines])
    if values.min() <= 0:
        return
    axis.set_yscale("log")
    axis.set_ylim(0.7 * values.min(), 1.5 * values.max())
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()


def hours(axis: Axes, hour: pd.Series) -> None:
    axis.set(xlabel="Hour", xlim=(hour.min() - 0.6, hour.max() + 0.6))
    axis.xaxis.set_major_locator(MultipleLocator(4 if hour.max() - hour.min() > 12 else 1))
