"""Figures of a result folder, drawn from its files alone: voltages, signals by round, reactive schedules, convergence.

3.5 in wide (a journal's column), colours of Okabe and Ito (safe for colour-blind readers), doubled by line styles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from problems.market import fan_figures
from problems.market.schedules import device_name, outside, reactive_by_device, worst_node
from problems.plot_style import COLOURS, COLUMN_IN, GREY, HATCHES, MARKERS, STYLE, hours_of_day

MOST_SHOWN = 6  # units that fit a figure


def draw(folder: Path) -> tuple[Path, ...]:
    """Draw every figure of a result folder into folder/figures; returns the files."""
    out = folder / "figures"
    out.mkdir(exist_ok=True)
    schedules = {
        p.stem.removeprefix("schedule_"): pd.read_csv(p, dtype={"scenario": str})
        for p in sorted(folder.glob("schedule_*.csv"))
    }
    voltages = pd.read_csv(folder / "voltages.csv", dtype={"bus": str, "scenario": str})
    scenarios = fan_figures.read_scenarios(folder)
    shown = most_traded(schedules)
    with mpl.rc_context(STYLE):
        signals = signals_by_round(pd.read_csv(folder / "prices.csv"), shown)
        if scenarios is None:
            figures = {
                "voltages": voltage_profile(voltages),
                "signals": signals,
                "reactive_schedule": reactive_schedules(shown),
            }
        else:
            prob = fan_figures.probabilities(scenarios)
            figures = {
                "scenarios": fan_figures.drawn_series(scenarios, voltages.hour.unique()),
                "voltages": fan_figures.voltage_fans(voltages, prob),
                "signals": signals,
                "offers": fan_figures.offers(shown, prob),
            }
        figures["convergence"] = convergence(pd.read_csv(folder / "iterations.csv"))
        paths = []
        for name, figure in figures.items():
            paths.append(out / f"{name}.png")
            figure.savefig(paths[-1])
    return tuple(paths)


def most_traded(schedules: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The MOST_SHOWN units with the largest change of reactive power in hours with a need, in the given order."""
    change = {unit: float(s.dq_kvar[s.need].abs().max() if s.need.any() else 0.0) for unit, s in schedules.items()}
    chosen = set(sorted(change, key=lambda unit: -change[unit])[:MOST_SHOWN])
    return {unit: s for unit, s in schedules.items() if unit in chosen}


def voltage_profile(table: pd.DataFrame) -> Figure:
    """Voltage of every bus over the horizon before and after, with the limits; buses that leave them are coloured.

    Paper 1, Fig. 5. table: voltages.csv. Every scenario is a line of its own.
    """
    bad = dict.fromkeys(table.bus[outside(table, "v_before_pu") | outside(table, "v_after_pu")])
    marked = {bus: COLOURS[i % 6] for i, bus in enumerate(bad)}
    figure = Figure(figsize=(COLUMN_IN, 3.7), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, sharey=True)
    titles = ("Before", "After")
    for axis, column, title in zip(axes, ("v_before_pu", "v_after_pu"), titles, strict=True):
        for (bus, _), rows in table.groupby(["bus", "scenario"], sort=False):
            inside = bus not in marked
            style = {"color": GREY, "lw": 0.6, "zorder": 2} if inside else {"color": marked[bus], "zorder": 3}
            axis.plot(
                rows.hour, rows[column], marker="" if inside else MARKERS[list(marked).index(bus) % 6], ms=2.5, **style
            )
        for limit in ("v_min_pu", "v_max_pu"):
            axis.axhline(table[limit].iloc[0], color="black", ls="--", lw=0.8, zorder=4)
        depth = np.maximum(table.v_min_pu - table.v_before_pu, table.v_before_pu - table.v_max_pu)
        worst = table[outside(table, "v_before_pu")]
        worst = worst.loc[depth[worst.index].nlargest(2).index].sort_index() if len(worst) > 2 else worst
        values = [f"bus {row.bus}, {row.label}: {getattr(row, column):.5f}" for row in worst.itertuples()]
        axis.set_ylabel("Voltage (pu)")
        axis.set_title(f"{title} ({'; '.join(values)})" if values else title, fontsize=7)
    axes[0].set_ylim(_voltage_range(table))
    for i, (bus, colour) in enumerate(marked.items()):
        axes[0].plot([], [], color=colour, marker=MARKERS[i % 6], ms=2.5, label=f"bus {bus}")
    axes[0].plot([], [], color=GREY, lw=0.6, label="other buses" if marked else "buses")
    axes[0].plot([], [], color="black", ls="--", lw=0.8, label="limits")
    hours_of_day(axes[-1], table.hour)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(marked) + 2, 4))
    return figure


def _voltage_range(table: pd.DataFrame) -> tuple[float, float]:
    """What the voltages cover, with the limits that are near enough to matter."""
    seen = table[["v_before_pu", "v_after_pu"]].to_numpy()
    ends = [seen.min(), seen.max()]
    ends += [
        limit for limit in (table.v_min_pu.iloc[0], table.v_max_pu.iloc[0]) if ends[0] - 0.02 < limit < ends[1] + 0.02
    ]
    margin = 0.06 * (max(ends) - min(ends))
    return min(ends) - margin, max(ends) + margin


def signals_by_round(prices: pd.DataFrame, schedules: Mapping[str, pd.DataFrame]) -> Figure:
    """Transactive signal by round of every unit at the hour where it ends furthest from where it began.

    Paper 1, Fig. 6. prices: prices.csv; schedules: schedule_<unit>.csv by unit.
    """
    figure = Figure(figsize=(COLUMN_IN, 2.3), layout="constrained")
    axis = figure.subplots()
    for i, (unit, schedule) in enumerate(schedules.items()):
        node, label = worst_node(schedule)
        rows = prices[prices.node == node]
        axis.plot(
            rows["round"] + 1, rows.price, color=COLOURS[i % 6], marker=MARKERS[i % 6], ms=3, label=f"{unit}, {label}"
        )
    axis.set(xlabel="Round", ylabel="Transactive signal\n(SEK/kvarh)")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.legend()
    return figure


def reactive_schedules(schedules: Mapping[str, pd.DataFrame]) -> Figure:
    """Reactive power of every device over the horizon, and what the devices gave in the initial schedule.

    Paper 1, Figs. 7 and 8. schedules: schedule_<unit>.csv by unit; the first scenario is drawn.
    """
    figure = Figure(figsize=(COLUMN_IN, 0.5 + 1.6 * len(schedules)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(schedules), 1, sharex=True))
    kinds = list(dict.fromkeys(kind for s in schedules.values() for kind in reactive_by_device(s)))
    for axis, (unit, schedule) in zip(axes, schedules.items(), strict=True):
        schedule = schedule[schedule.scenario == schedule.scenario.iloc[0]]
        final, initial = reactive_by_device(schedule), reactive_by_device(schedule, initial=True)
        width = 0.8 * float(np.diff(schedule.hour).min()) if len(schedule) > 1 else 0.8
        above, below = np.zeros(len(schedule)), np.zeros(len(schedule))
        for kind, values in final.items():
            i = kinds.index(kind)
            axis.bar(
                schedule.hour, values, width, bottom=np.where(values >= 0, above, below), color=COLOURS[i % 6],
                hatch=HATCHES[i % 6], edgecolor="white", lw=0.2,
            )  # fmt: skip
            above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
        axis.step(schedule.hour, sum(initial.values(), np.zeros(len(schedule))), where="mid", color="black", lw=0.9)
        axis.axhline(0, color="black", lw=0.4)
        axis.set(ylabel="Reactive power (kvar)", title=unit)
    handles: list[Artist] = [
        Patch(facecolor=COLOURS[i % 6], hatch=HATCHES[i % 6], edgecolor="white", label=device_name(kind))
        for i, kind in enumerate(kinds)
    ]
    handles.append(Line2D([], [], color="black", lw=0.9, label="initial schedule"))
    hours_of_day(axes[-1], next(iter(schedules.values())).hour)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), columnspacing=1.0, handlelength=1.5)
    figure.align_ylabels(axes)
    return figure


def convergence(rows: pd.DataFrame) -> Figure:
    """By round: mismatch of request and offers, violation of the limits, and the gap where there is one."""
    panels = [("mismatch", "Mismatch\n(kvar)"), ("violation", "Violation\n(pu)")]
    if rows.gap_coordination.notna().sum() > 1:
        panels.append(("gap_coordination", "Gap of\ncoordination (-)"))
    figure = Figure(figsize=(COLUMN_IN, 0.4 + 1.1 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True)
    for i, (axis, (column, name)) in enumerate(zip(axes, panels, strict=True)):
        values = _positive(rows[column])
        axis.semilogy(rows["round"] + 1, values, color=COLOURS[i], marker=MARKERS[i], ms=3)
        axis.set(ylabel=name)
        if values.notna().any():  # whole decades, so that at least two powers of ten are written
            axis.set_ylim(10 ** np.floor(np.log10(values.min()) - 0.1), 10 ** np.ceil(np.log10(values.max()) + 0.1))
    axes[-1].set(xlabel="Round", xlim=(0.5, len(rows) + 0.5))
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels(axes)
    return figure


def _positive(values: pd.Series) -> pd.Series:
    """A logarithmic axis has no zero: what is zero to rounding is not drawn."""
    return values.where(values > 1e-12)
