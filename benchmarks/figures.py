"""Figures of a benchmark: gaps, performance profiles, start values, number of prices. Groups are panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

FONT = {"font.size": 8, "axes.titlesize": 8, "legend.fontsize": 7, "axes.labelsize": 8}
WIDTH = 7.2  # inch
LINES = ("-", "--", "-.", ":")
LEAST = 1e-6  # gaps below are drawn there
FEWEST = 3  # instances of a group that a profile is drawn for


def draw_all(tables: Mapping[str, pd.DataFrame], tolerance: float, out: Path) -> list[Path]:
    """Draw every figure there is data for; returns their files."""
    runs, rounds = tables["runs"], tables["rounds"]
    default = runs[runs.start_factor.isna()]
    style = _styles(list(dict.fromkeys(runs.rule)))
    joined = rounds.merge(default[["run", "group", "rule", "blocks"]], on="run")
    joined = joined.assign(
        rounds_done=joined["round"] + 1, sweeps=joined.block_solves / joined.blocks.astype(float).clip(lower=1)
    )
    plots: list[tuple[str, Callable[[], Figure | None]]] = [
        ("gap_rounds", lambda: _gaps(default, joined, "rounds_done", "rounds", style)),
        ("gap_block_solves", lambda: _gaps(default, joined, "sweeps", "block solves a block", style)),
        ("gap_wall_time", lambda: _gaps(default, joined, "wall_time_s", "wall time (s), certificates included", style)),
        ("profile_rounds", lambda: _profiles(default, tables["profiles"], "rounds", style)),
        ("profile_block_solves", lambda: _profiles(default, tables["profiles"], "block_solves", style)),
        ("start_values", lambda: _heat_map(tables["start_values"], tolerance)),
        ("rounds_by_prices", lambda: _prices(tables["by_prices"], tolerance, style)),
    ]
    paths = []
    with matplotlib.rc_context(FONT):
        for name, draw in plots:
            figure = draw()
            if figure is not None:
                path = out / f"{name}.png"
                figure.savefig(path, dpi=160, bbox_inches="tight", metadata={"Software": None})
                paths.append(path)
    return paths


def _styles(rules: Sequence[str]) -> dict[str, dict[str, Any]]:
    colours = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    # the first is drawn broad, so that a rule it coincides with is seen on top of it
    return {
        rule: {"color": colours[i % 10], "linestyle": LINES[i // 10 % 4], "linewidth": 1.2 if i else 3.0}
        for i, rule in enumerate(rules)
    }


def _panels(groups: Sequence[str]) -> tuple[Figure, list[Axes]]:
    columns = min(len(groups), 3)
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(WIDTH, 2.3 * rows + 0.3), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in axes[len(groups) :]:
        spare.remove()
    for ax, group in zip(axes, groups, strict=False):
        ax.set_title(group)
        ax.grid(True, color="0.9", linewidth=0.5)
    return figure, axes


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    found: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if found:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=4, frameon=False)


def _gaps(
    runs: pd.DataFrame, rounds: pd.DataFrame, x: str, label: str, style: Mapping[str, dict[str, Any]]
) -> Figure | None:
    """Median gap of a group's runs against x; a run that has ended keeps its last gap, one without a gap has none."""
    groups = [g for g in dict.fromkeys(runs.group) if (rounds.group == g).any()]
    if not groups:
        return None
    figure, axes = _panels(groups)
    for ax, group in zip(axes, groups, strict=False):
        some = rounds[rounds.group == group]
        grid = np.unique(np.geomspace(max(some[x].min(), 1e-3), max(some[x].max(), 2e-3), 80))
        for rule, number in runs[runs.group == group].groupby("rule", sort=False).size().items():
            curves = [_held(run[x], run.gap, grid) for _, run in some[some.rule == rule].groupby("run")]
            curves += [np.full(len(grid), np.inf)] * (int(number) - len(curves))
            middle = np.sort(np.stack(curves), axis=0)[len(curves) // 2]
            shown = np.isfinite(middle)
            if shown.any():
                line = np.maximum(middle[shown], LEAST)
                ax.step(grid[shown], line, where="post", label=rule, **style[str(rule)])
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3) if grid[-1] < 300 * grid[0] else (1,)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in axes[:: min(len(groups), 3)]:
        ax.set_ylabel("median gap")
    _legend(figure, axes)
    return figure


def _held(x: pd.Series, gap: pd.Series, grid: np.ndarray) -> np.ndarray:
    """The gap that holds at each grid point: that of the last round before; inf before the first."""
    values = np.append(np.inf, gap.fillna(np.inf).to_numpy(float))
    return np.asarray(values[np.searchsorted(x.to_numpy(float), grid * (1 + 1e-9), side="right")])


def _profiles(
    runs: pd.DataFrame, table: pd.DataFrame, metric: str, style: Mapping[str, dict[str, Any]]
) -> Figure | None:
    sizes = runs.groupby("group", sort=False).instance.nunique()
    groups = [g for g in sizes.index if sizes[g] >= FEWEST]
    if not groups:
        return None
    figure, axes = _panels([f"{g} ({sizes[g]} instances)" for g in groups])
    for ax, group in zip(axes, groups, strict=False):
        some = table[(table.group == group) & (table.metric == metric)]
        for rule, line in some.groupby("rule", sort=False):
            if line.share.max() > 0:
                ax.step(
                    line.ratio, line.share, where="post", label=str(rule), **style[str(rule)]
                )  # fmt: skip
        ax.set(xscale="log", ylim=(-0.02, 1.02), xlabel=f"{metric.replace('_', ' ')}, times the least")
        ax.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"], minor=False)
        ax.minorticks_off()
    for ax in axes[:: min(len(groups), 3)]:
        ax.set_ylabel("share of instances")
    _legend(figure, axes)
    return figure


def _heat_map(table: pd.DataFrame, tolerance: float) -> Figure | None:
    """Median rounds by rule and start factor; a cross where the median run did not reach the gap."""
    if table.empty:
        return None
    groups = list(dict.fromkeys(table.group))
    rules = list(dict.fromkeys(table.rule))
    factors = sorted(set(table.start_factor))
    columns = min(len(groups), 4)
    figure = Figure(figsize=(WIDTH, 0.24 * len(rules) * -(-len(groups) // columns) + 1.3), layout="constrained")
    axes = list(figure.subplots(-(-len(groups) // columns), columns, squeeze=False, sharey=True).ravel())
    finite = table.rounds_median[np.isfinite(table.rounds_median)].to_numpy(float)
    norm = matplotlib.colors.LogNorm(max(finite.min(initial=1), 1), max(finite.max(initial=2), 2))
    image = None
    for ax, group in zip(axes, groups, strict=False):
        grid = np.full((len(rules), len(factors)), np.nan)
        for row in table[table.group == group].itertuples():
            grid[rules.index(row.rule), factors.index(row.start_factor)] = row.rounds_median
        image = ax.imshow(np.where(np.isfinite(grid), grid, np.nan), norm=norm, cmap="viridis_r", aspect="auto")
        for i, j in np.ndindex(grid.shape):
            if not np.isnan(grid[i, j]):
                text = f"{grid[i, j]:.0f}" if np.isfinite(grid[i, j]) else "×"
                dark = np.isfinite(grid[i, j]) and norm(grid[i, j]) > 0.5
                ax.text(j, i, text, ha="center", va="center", color="w" if dark else "k", fontsize=6.5)
        ax.set_title(group)
        ax.set_xticks(range(len(factors)), [f"{f:g}" for f in factors])
        ax.set_yticks(range(len(rules)), rules)
        ax.set_xlabel("start value ×")
    for spare in axes[len(groups) :]:
        spare.remove()
    if image is not None:
        figure.colorbar(image, ax=axes[: len(groups)], label=f"rounds to gap {tolerance:g}", shrink=0.9)
    return figure


def _prices(table: pd.DataFrame, tolerance: float, style: Mapping[str, dict[str, Any]]) -> Figure | None:
    several = table.groupby("group", sort=False).prices.nunique()
    groups = [g for g in several.index if several[g] > 1]
    if not groups:
        return None
    figure, axes = _panels(groups)
    for ax, group in zip(axes, groups, strict=False):
        for rule, line in table[table.group == group].groupby("rule", sort=False):
            line = line[np.isfinite(line.rounds_median)].sort_values("prices")
            if len(line):
                ax.plot(
                    line.prices, line.rounds_median, marker="o", markersize=2.5, label=str(rule),
                    **style[str(rule)],
                )  # fmt: skip
        ticks = sorted(set(table[table.group == group].prices))
        ax.set(xscale="log", yscale="log", xlabel="prices")
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        ax.set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    for ax in axes[:: min(len(groups), 3)]:
        ax.set_ylabel(f"median rounds to gap {tolerance:g}")
    _legend(figure, axes)
    return figure
