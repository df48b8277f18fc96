"""The page of the comparison with mpi-sppy: one line a case, the targets, where the time goes, the command."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from benchmarks.peers_rounds import Rounds

TARGETS = {(100, 1): 8.0, (None, 50): 2.0}  # (scenarios, multiplier): times faster; None = each


class Case(Protocol):
    """What the page says of a case."""

    @property
    def scenarios(self) -> int: ...
    @property
    def multiplier(self) -> int: ...
    @property
    def ranks(self) -> int: ...
    @property
    def rounds(self) -> int: ...


Line = tuple[Case, Mapping[str, Sequence[Rounds]], float]


def medians(runs: Sequence[Rounds]) -> tuple[float, float, float]:
    """Median ms a round after the first penalised one: clock, CPU, and the share of CPU within the solver."""
    wall = np.concatenate([r.round_s[1:] for r in runs])
    cpu = np.concatenate([r.round_cpu_s[1:] for r in runs])
    solver = np.concatenate([r.solver_cpu_s[1:] for r in runs])
    return 1e3 * float(np.median(wall)), 1e3 * float(np.median(cpu)), float(solver.sum() / cpu.sum())


def ratios(line: Line) -> tuple[float, float]:
    """How many times longer a round of mpi-sppy takes: by the clock, by CPU."""
    theirs, ours = medians(line[1]["mpi-sppy"]), medians(line[1]["ours"])
    return theirs[0] / ours[0], theirs[1] / ours[1]


def page(lines: Sequence[Line], command: str, version: str) -> str:
    """The whole page."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("pyomo", "highspy", "piqp", "mpi4py"))
    rows = [_row(line) for line in lines]
    return "\n".join([*_top(command, version, versions), *HEADS, *rows, "", *_targets(lines), "", *BELOW, ""])


HEADS = (
    "| scenarios | crops | ranks | mpi-sppy: ms a round (CPU) | ours: ms a round (CPU) | times, clock | times, CPU | "
    "in the solver: mpi-sppy | ours | start, CPU s: mpi-sppy | ours | averages apart |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)
BELOW = (
    "## What each side does",
    "",
    "- mpi-sppy: `mpisppy.opt.ph.PH` with `mpisppy.tests.examples.farmer` as it is, Pyomo's `highs` (one solver object",
    "  a scenario, kept for the whole run; the older `appsi_highs` refuses the quadratic penalty). From the second",
    "  penalised round on the solver object is told to look for nothing but changed parameters. No extensions, no",
    "  bounds, no output. HiGHS solves the penalised problems with its active-set method, with",
    "  `qp_regularization_value = 0`: with its default the averages are off by 5e-6 of their size.",
    "- Ours: `ProgressiveHedging(penalty=1.0)`, `Farmer` of `benchmarks/peers_farmer.py`: the same rows and columns as",
    "  a Pyomo model, built once for all scenarios of a rank, its yields parameters. HiGHS solves the first, PIQP",
    "  (an interior-point method, set up afresh for every solve) the penalised ones; all but its own work is done for",
    "  32 scenarios at once. Residuals and all else that a run records are part of the round.",
    "- So the ratio is that of two ways to run the same iteration, solvers included; it is no ratio of HiGHS to HiGHS.",
    "- With more than three crops the scenarios begin with the fourth: in the first three crops have equal yields, and",
    "  many ways to sow are equally good without a penalty.",
    "- A round is all solves, averages and multipliers, from the end of one to the end of the next. The first (no",
    "  penalty) counts as start, with the models; the first penalised one, where mpi-sppy changes objectives, is",
    "  left out of the medians on both sides. CPU is that of all ranks, waiting for each other included; that in the",
    "  solver is of the calls that set it up and solve (ours), of `run` (mpi-sppy).",
    "- `averages apart`: the largest difference in any crop after any round, relative to the larger of 1 acre and the",
    "  average; above 1e-5 the command fails.",
)


def _top(command: str, version: str, versions: str) -> list[str]:
    return [
        "# Progressive hedging: mpi-sppy and this engine",
        "",
        f"    {command}",
        "",
        f"writes this page (mpi-sppy {version}, {versions}, Python {platform.python_version()}); it needs",
        "`pip install 'tatonnement[mpi,peers]'`. Medians of milliseconds a round; the two sides took turns. The clock",
        "depends on what else the machine does, CPU time much less; `--quick` takes a minute or two.",
        "",
    ]


def _row(line: Line) -> str:
    case, runs, apart = line
    theirs, ours, times = medians(runs["mpi-sppy"]), medians(runs["ours"]), ratios(line)
    start = [float(np.median([r.start_cpu_s for r in runs[side]])) for side in ("mpi-sppy", "ours")]
    cells = (
        f"{case.scenarios}", f"{3 * case.multiplier}", f"{case.ranks}", _pair(theirs),
        _pair(ours), f"{times[0]:.1f}", f"{times[1]:.1f}", f"{theirs[2]:.0%}", f"{ours[2]:.0%}",
        f"{start[0]:.2f}", f"{start[1]:.2f}", f"{apart:.1e}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _pair(times: tuple[float, float, float]) -> str:
    clock, cpu = (f"{ms:.0f}" if ms >= 1000 else f"{ms:.4g}" for ms in times[:2])
    return f"{clock} ({cpu})"


def _targets(lines: Sequence[Line]) -> list[str]:
    """Each target with the least ratio, by the clock or by CPU, of the measured cases it speaks of."""
    out = ["## Targets", "", "| case | target | measured | |", "|---|---|---|---|"]
    for (scenarios, multiplier), least in TARGETS.items():
        named = [e for e in lines if e[0].multiplier == multiplier and scenarios in (None, e[0].scenarios)]
        words = f"{scenarios or 'any number of'} scenarios, {3 * multiplier} crops"
        if not named:
            out.append(f"| {words} | {least:g} times | not measured in this run | |")
            continue
        counts = " and ".join(str(n) for n in sorted({e[0].scenarios for e in named}))
        words = f"{counts} scenarios, {3 * multiplier} crops"
        reached = min(min(ratios(e)) for e in named)
        out.append(f"| {words} | {least:g} times | {reached:.1f} | {'met' if reached >= least else '**missed**'} |")
    return out
