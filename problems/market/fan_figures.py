"""Figures of a result folder with several scenarios: what was drawn, voltages and offers over all of them.

A fan is the expectation as a line, the middle 80 % of the probability as a dark band, least to greatest as a light one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from decomp.messages import FloatArray
from problems.market.schedules import device_name, outside, reactive_by_device
from problems.plot_style import COLOURS, COLUMN_IN, GREY, HATCHES, hours_of_day

MIDDLE = 0.8
ZOOM_PU = 0.012  # a whole day's range would leave the fans too thin to be read
SHOWN = {"pv_pu": "PV\n(kW/kWp)", "load_pu": "Load\n(of its peak)", "spot_sek_per_kwh": "Spot price\n(SEK/kWh)"}
SHOWN["heat_pu"] = "Heat\n(of its peak)"
KEYS: list[Artist] = [
    Line2D([], [], color="black", label="expectation"),
    Patch(facecolor="black", alpha=0.45, lw=0, label=f"middle {MIDDLE:.0%}"),
    Patch(facecolor="black", alpha=0.18, lw=0, label="least to greatest"),
]


def read_scenarios(folder: Path) -> pd.DataFrame | None:
    """scenarios.csv, or None where the run had one scenario."""
    path = folder / "scenarios.csv"
    return pd.read_csv(path, dtype={"scenario": str}) if path.is_file() else None


def probabilities(scenarios: pd.DataFrame) -> dict[str, float]:
    """Probability by name, in the order of the file."""
    return dict(zip(scenarios.scenario, scenarios.probability, strict=True))


def quantile(values: FloatArray, prob: FloatArray, share: float) -> FloatArray:
    """(T,) the least value that is not exceeded with probability `share`; values (S, T), prob (S,)."""
    order = np.argsort(values, axis=0, kind="stable")
    mass = np.cumsum(prob[order], axis=0)
    at = np.minimum((mass < share - 1e-12).sum(axis=0), len(prob) - 1)
    found: FloatArray = np.take_along_axis(np.take_along_axis(values, order, 0), at[None], 0)[0]
    return found


def fan(axis: Axes, hour: FloatArray, values: FloatArray, prob: FloatArray, colour: str) -> None:
    """Draw one fan; values (S, T)."""
    tail = (1 - MIDDLE) / 2
    axis.fill_between(hour, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, lw=0)
    middle = quantile(values, prob, tail), quantile(values, prob, 1 - tail)
    axis.fill_between(hour, *middle, color=colour, alpha=0.45, lw=0)
    axis.plot(hour, prob @ values, color=colour)


def drawn_series(scenarios: pd.DataFrame, hour: FloatArray) -> Figure:
    """The uncertain series. scenarios: scenarios.csv; hour (T,) of the steps."""
    names = [n for n in SHOWN if n in scenarios.columns]
    figure = Figure(figsize=(COLUMN_IN, 0.8 + 1.1 * len(names)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    prob = probabilities(scenarios)
    for i, (axis, name) in enumerate(zip(axes, names, strict=True)):
        fan(axis, hour, _by_scenario(scenarios, name, list(prob)), np.array(list(prob.values())), COLOURS[i % 6])
        axis.set(ylabel=SHOWN[name])
    axes[0].set_title(f"{len(prob)} scenarios", fontsize=7)
    hours_of_day(axes[-1], pd.Series(hour))
    figure.legend(handles=KEYS, loc="outside lower center", ncols=3)
    figure.align_ylabels(axes)
    return figure


def voltage_fans(table: pd.DataFrame, prob: Mapping[str, float]) -> Figure:
    """Voltages near the limit, before in grey and after in colour, of the buses that leave it in some scenario.

    Where none does, the bus with the least voltage. table: voltages.csv; prob: probability by scenario.
    """
    bad = list(dict.fromkeys(table.bus[outside(table, "v_before_pu") | outside(table, "v_after_pu")]))
    buses = bad or [str(table.bus[table.v_after_pu.idxmin()])]
    figure = Figure(figsize=(COLUMN_IN, 0.9 + 1.35 * len(buses)), layout="constrained")
    axes = figure.subplots(len(buses), 1, sharex=True, squeeze=False)[:, 0]
    weights = np.array(list(prob.values()))
    for axis, bus, colour in zip(axes, buses, COLOURS * len(buses), strict=False):
        mine = table[table.bus == bus]
        hour = mine.hour[mine.scenario == mine.scenario.iloc[0]].to_numpy(float)
        for column, shade in (("v_before_pu", GREY), ("v_after_pu", colour)):
            fan(axis, hour, _by_scenario(mine, column, list(prob)), weights, shade)
        for limit in ("v_min_pu", "v_max_pu"):
            axis.axhline(mine[limit].iloc[0], color="black", ls="--", lw=0.8)
        axis.set_ylim(*_near_the_limit(mine))
        axis.set_ylabel(f"Bus {bus}\nvoltage (pu)")
    hours_of_day(axes[-1], table.hour)
    handles = [*KEYS, Line2D([], [], color=GREY, label="before"), Line2D([], [], color="black", ls="--", label="limit")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.5)
    figure.align_ylabels(axes)
    return figure


def _near_the_limit(table: pd.DataFrame) -> tuple[float, float]:
    """From a little beyond the worst voltage to ZOOM_PU inside the limit that it is nearer to."""
    seen = table[["v_before_pu", "v_after_pu"]].to_numpy()
    least, most, low, high = seen.min(), seen.max(), table.v_min_pu.iloc[0], table.v_max_pu.iloc[0]
    if least - low <= high - most:
        return min(least, low) - 0.1 * ZOOM_PU, low + ZOOM_PU
    return high - ZOOM_PU, max(most, high) + 0.1 * ZOOM_PU


def offers(schedules: Mapping[str, pd.DataFrame], prob: Mapping[str, float]) -> Figure:
    """The committed change of every community, what each kind of device is expected to give of it, and its range.

    schedules: schedule_<unit>.csv by unit; prob: probability by scenario.
    """
    figure = Figure(figsize=(COLUMN_IN, 0.7 + 1.6 * len(schedules)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(schedules), 1, sharex=True))
    kinds = list(dict.fromkeys(kind for s in schedules.values() for kind in reactive_by_device(s)))
    weights = np.array(list(prob.values()))
    for axis, (unit, schedule) in zip(axes, schedules.items(), strict=True):
        final, initial = reactive_by_device(schedule), reactive_by_device(schedule, initial=True)
        first = schedule[schedule.scenario == schedule.scenario.iloc[0]]
        hour = first.hour.to_numpy(float)
        width = 0.8 / max(len(final), 1)
        for j, kind in enumerate(final):
            values = _by_scenario(schedule.assign(change=final[kind] - initial[kind]), "change", list(prob))
            mean, i = weights @ values, kinds.index(kind)
            span = np.maximum((mean - values.min(axis=0), values.max(axis=0) - mean), 0.0)  # rounding may be below 0
            axis.bar(
                hour + (j + 0.5) * width - 0.4, mean, width, yerr=span,
                color=COLOURS[i % 6], hatch=HATCHES[i % 6], edgecolor="white", lw=0.2,
                error_kw={"lw": 0.7, "ecolor": "#404040"},
            )  # fmt: skip
        axis.step(hour, first.dq_kvar, where="mid", color="black", lw=0.9)
        axis.axhline(0, color="black", lw=0.4)
        axis.set(ylabel="Change (kvar)", title=unit)
    handles: list[Artist] = [
        Patch(facecolor=COLOURS[i % 6], hatch=HATCHES[i % 6], edgecolor="white", label=device_name(kind))
        for i, kind in enumerate(kinds)
    ]
    handles.append(Line2D([], [], color="black", lw=0.9, label="committed"))
    handles.append(Line2D([], [], color="#404040", lw=0.7, label="range"))
    hours_of_day(axes[-1], next(iter(schedules.values())).hour)
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.0, handlelength=1.5)
    figure.align_ylabels(axes)
    return figure


def _by_scenario(table: pd.DataFrame, column: str, names: list[str]) -> FloatArray:
    """(S, T) of a table with one row for each scenario and step, scenarios in the order of `names`."""
    wide = table.pivot(index="time", columns="scenario", values=column)
    found: FloatArray = wide[names].to_numpy(np.float64).T
    return found
