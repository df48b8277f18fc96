"""The page and the figure of the scaling benchmark."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.replay import Measured, Round, Wires, replay
from problems.plot_style import COLOURS, COLUMN_IN, GREY, MARKERS, STYLE

mpl.use("Agg")
import matplotlib.pyplot as plt

DEALINGS = ("round-robin", "longest first", "when idle")
SPREADS = (0.0, 1.0)
RANKS = (1, 2, 4, 10, 32, 100, 320, 1000, 3200, 10_000)
SEED = 1
Case = tuple[str, float, int]  # dealing, spread, ranks


def write_page(
    out: Path, command: str, table: Sequence[str], measured: Measured, wires: Wires, here: Wires, *, quick: bool
) -> list[Path]:
    """Write scaling.png and scaling.md; strong: a fixed number of blocks, weak: so many a rank."""
    strong, weak = (10_000, 10) if quick else (100_000, 100)
    fixed = {
        (dealing, spread, ranks): replay(measured, wires, strong, ranks, dealing, spread, SEED)
        for dealing in DEALINGS for spread in SPREADS for ranks in RANKS
    }  # fmt: skip
    growing = {
        ("round-robin", spread, ranks): replay(measured, wires, weak * ranks, ranks, "round-robin", spread, SEED)
        for spread in SPREADS for ranks in RANKS
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    figure = out / "scaling.png"
    _draw(fixed, growing, strong, weak, figure)
    page = out / "scaling.md"
    page.write_text("\n".join(_lines(command, table, measured, wires, here, fixed, growing, strong, weak)) + "\n")
    return [page, figure]


def efficiency(of: dict[Case, Round], case: Case, *, weak: bool) -> float:
    """How much of R ranks' time is what one rank would need."""
    alone = of[case[0], case[1], 1]
    if weak:  # a few uneven blocks on one rank are no yardstick
        return (of[case].even_s + alone.root_s) / of[case].total_s
    return alone.total_s / (of[case].total_s * case[2])


def _draw(fixed: dict[Case, Round], growing: dict[Case, Round], strong: int, weak: int, file: Path) -> None:
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 1, figsize=(COLUMN_IN, 4.6), sharex=True, layout="constrained")
        for i, dealing in enumerate(DEALINGS):
            for spread, line in zip(SPREADS, ("-", "--"), strict=True):
                y = [100 * efficiency(fixed, (dealing, spread, r), weak=False) for r in RANKS]
                label = f"{dealing}, {'uneven' if spread else 'alike'}"
                axes[0].plot(RANKS, y, line, color=COLOURS[i], marker=MARKERS[i], ms=3, label=label)
        for spread, line in zip(SPREADS, ("-", "--"), strict=True):
            y = [100 * efficiency(growing, ("round-robin", spread, r), weak=True) for r in RANKS]
            label = f"round-robin, {'uneven' if spread else 'alike'}"
            axes[1].plot(RANKS, y, line, color=COLOURS[0], marker=MARKERS[0], ms=3, label=label)
        for axis, title in zip(axes, (f"{strong:,} blocks", f"{weak} blocks a rank"), strict=True):
            axis.axhline(90, color=GREY, lw=0.8, ls=":")
            axis.set(xscale="log", ylim=(0, 105), ylabel="Efficiency (%)", title=title)
            axis.legend(loc="lower left")
        axes[1].set_xlabel("Ranks (simulated)")
        figure.savefig(file)
        plt.close(figure)


def _lines(
    command: str,
    table: Sequence[str],
    measured: Measured,
    wires: Wires,
    here: Wires,
    fixed: dict[Case, Round],
    growing: dict[Case, Round],
    strong: int,
    weak: int,
) -> list[str]:
    solve = measured.solve_s
    return [
        "# Scaling over ranks",
        "",
        f"Written by `{command}`. Communities of campus size over 24 h, one LP a block, prices that change in two",
        "hours each round, and a coordinator that costs nothing: what is left beside the blocks is the engine's own.",
        "",
        "## Measured: one and two ranks",
        "",
        f"Load of the machine when it was over: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Above their number",
        "other programs took part of the cores, and the figures by the clock say little.",
        "",
        *table,
        "",
        "`strong`: the same blocks on two ranks; `weak`: twice the blocks. Medians over rounds and repeats. The first",
        "two figures are the clock's, under real mpiexec. The last two are the time that the busiest rank spent in its",
        "blocks by the clock, plus the root's own CPU time: what is lost to blocks that differ and to work that",
        "only the",
        "root does, without the messages.",
        "",
        "## Simulated: up to 10,000 ranks",
        "",
        "Nothing in this section was run on so many ranks. It replays what was measured above with a model of what was",
        "not:",
        "",
        f"- Solve times: {solve.shape[1]} blocks in {solve.shape[0]} rounds, median {1e3 * np.median(solve):.2f} ms,",
        f"  largest {1e3 * solve.max():.1f} ms. A simulated block is one of these in all rounds, drawn with",
        f"  seed {SEED}.",
        "  `alike`: as measured. `uneven`: longer or shorter for good by a factor exp(N(0, 1)) of mean 1, an",
        "  assumption",
        "  about fleets of unequal units, not a measurement.",
        f"- Messages: {measured.floats_asked:.0f} floats asked of a block and {measured.floats_answered:.0f} answered,",
        "  all through the root. Binomial trees, ceil(log2 R) latencies; a scatter or gather moves (R - 1)/R of",
        "  all bytes",
        "  through the root (Thakur, Rabenseifner and Gropp 2005, section 3).",
        f"- Assumed wires: {1e6 * wires.latency_s:g} us and {wires.bytes_per_s / 1e9:g} GB/s between any two ranks; no",
        "  contention, no noise of the operating system. Measured between the two ranks here (memory of one machine):",
        f"  {1e6 * here.latency_s:.0f} us and {here.bytes_per_s / 1e9:.2g} GB/s.",
        f"- The root's own work (sums, new prices): {1e3 * measured.root_s:.2f} ms and",
        f"  {1e6 * measured.root_per_block_s:.2f} us a block, a straight line through two measured sizes.",
        "  Putting answers in",
        "  order and the coordinator's cost are not in it.",
        "- Dealing: `round-robin` is what the engine begins with, unit by unit (all scenarios of a unit share",
        "  a rank; here each unit is one block); `longest first` deals by the mean of the other rounds,",
        "  what `run.rebalance_every` comes near to; `when idle` is a queue from which each rank fetches its",
        "  next block",
        "  when it is idle, one message there and one back. The engine has none; it shows what one could win.",
        "- Efficiency: strong, T(1) / (R T(R)); weak, the mean work of a rank and the root's on one rank, over T(R).",
        "",
        "![Efficiency on many ranks](scaling.png)",
        "",
        f"Strong: {strong:,} blocks.",
        "",
        *_strong(fixed),
        "",
        f"Weak: {weak} blocks a rank, round-robin.",
        "",
        *_weak(growing),
    ]


def _strong(of: dict[Case, Round]) -> list[str]:
    lines = [
        "| ranks | blocks | dealing | slowest rank, ms | dealt evenly, ms | messages, ms | root, ms | efficiency |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for ranks in (1, 10, 100, 1000, 10_000):
        for spread in SPREADS:
            for dealing in DEALINGS if ranks > 1 else DEALINGS[:1]:
                r = of[dealing, spread, ranks]
                kind = "uneven" if spread else "alike"
                parts = " | ".join(f"{1e3 * x:.2f}" for x in (r.blocks_s, r.even_s, r.messages_s, r.root_s))
                share = efficiency(of, (dealing, spread, ranks), weak=False)
                lines.append(f"| {ranks} | {kind} | {dealing} | {parts} | {share:.0%} |")
    return lines


def _weak(of: dict[Case, Round]) -> list[str]:
    lines = [
        "| ranks | blocks | slowest rank, ms | messages, ms | root, ms | efficiency |",
        "|---|---|---|---|---|---|",
    ]
    for (dealing, spread, ranks), r in sorted(of.items(), key=lambda item: (item[0][2], item[0][1])):
        kind = "uneven" if spread else "alike"
        parts = " | ".join(f"{1e3 * x:.2f}" for x in (r.blocks_s, r.messages_s, r.root_s))
        lines.append(f"| {ranks} | {kind} | {parts} | {efficiency(of, (dealing, spread, ranks), weak=True):.0%} |")
    return lines
