"""Rounds of the stochastic campus case beside its extensive form: python -m benchmarks.stochastic --out FILE.md.

A round is one question to all blocks, a price each and no penalty. The prices come nearer to a given point by a half a
round, as in a run that converges; scenarios differ by multipliers that halve, too. The extensive form is the same case
as one nonlinear model (problems/market/monolithic.py), from the same initial schedules. Every count has a process of
its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from decomp.case.config import load
from decomp.coordinator import Reports, answer_all, check_all
from decomp.errors import TatonnementError
from decomp.layout import Layout
from decomp.messages import Key, Query, Response, Signal
from problems.dso.coordinator import DSO
from problems.lec.community import LocalEnergyCommunity
from problems.market.monolithic import reference
from problems.market.problem import ReactiveMarket

CASE = Path(__file__).parents[1] / "problems" / "cases" / "chalmers_stochastic.toml"
NEED = (13, 16)  # steps that are called 14:00 and 17:00
END_SEK_PER_KVARH = (0.26, 0.26)  # signals that the case ends at in these steps
SPREAD = 0.1  # of the scenarios' multipliers at first, relative to the signal
SEED = 1
FAST = ("solver.tangents='fixed'", "solver.tangent_sek=1e-4")


@dataclass(frozen=True)
class Row:
    """What one count of scenarios takes: CPU and wall seconds (_cpu_s, _wall_s), peak memory of the process in MB.

    first    all initial schedules, mixed-integer solves included
    round    median over the rounds after the first
    dso      the DSO's part of a round: load flows at the offers, and its answer to them; median over the rounds
    model    the same where the rule asks for the bound and the model of its problem too
    whole    building and solving the extensive form; None = not tried, nan = not solved
    """

    settings: str
    scenarios: int
    blocks: int
    first_cpu_s: float
    first_wall_s: float
    round_cpu_s: float
    round_wall_s: float
    dso_cpu_s: float
    model_cpu_s: float
    blocks_mb: float
    whole_cpu_s: float | None
    whole_wall_s: float | None
    whole_mb: float | None


def measure(count: int, rounds: int, extensive: bool, settings: Sequence[str]) -> Row:
    """Measure one count in this process."""
    market = load(CASE, (f"scenarios.count={count}", *settings)).problem
    assert isinstance(market, ReactiveMarket)
    layout = Layout.of(market.couplings, len(market.coordinator.nodes))
    blocks = {key: market.community(key) for key in layout.keys}
    active = np.zeros(market.axis.settings.steps, bool)
    neutral = np.full(len(active), market.settings.tariffs.reactive_sek_per_kvarh)
    first = _timed(lambda: [block.solve(Signal(neutral, active=active)) for block in blocks.values()])
    reports = {key: block.solve(Signal(neutral, active=active)).report for key, block in blocks.items()}
    active[list(NEED)] = True
    w = np.random.default_rng(SEED).uniform(-SPREAD, SPREAD, (len(blocks), len(NEED)))
    w -= np.average(w, axis=0)

    dso, size = market.coordinator, len(market.coordinator.nodes)
    rows = layout.node.reshape(len(market.data), -1)[:, NEED].ravel()
    taken, network = [], []
    for k in range(rounds):
        price = np.tile(neutral, (len(blocks), 1))
        price[:, NEED] = np.array(END_SEK_PER_KVARH) * (1 + 0.5**k * w) * (1 - 0.5 ** (k + 1))
        signals = [Signal(p, active=active) for p in price]
        answers: list[Response] = []
        taken.append(_timed(lambda: answers.extend(map(_solved, blocks.values(), signals))))  # noqa: B023
        offers = layout.totals(layout.mean(np.concatenate([answer.y for answer in answers])))
        ts = dso.neutral.copy()
        ts[rows] = np.tile(END_SEK_PER_KVARH, len(market.data)) * (1 - 0.5 ** (k + 1))
        plain = Query(ts, offers, np.zeros(size))
        for query in (plain, replace(plain, want_bound=True, want_model=True)):
            network.append(_timed(lambda: _asked(dso, query, reports))[0])  # noqa: B023
    taken = taken[1:]
    before = _peak_mb()
    whole: tuple[float, float] | None = _extensive(market, blocks) if extensive else None
    cpu, wall = (float(np.median(seconds)) for seconds in zip(*taken, strict=True))
    memory = _peak_mb() if whole else None
    whole_cpu, whole_wall = whole or (None, None)
    words = " ".join(settings)
    dso_s, model_s = (float(np.median(network[i::2])) for i in (0, 1))
    return Row(words, count, len(blocks), *first, cpu, wall, dso_s, model_s, before, whole_cpu, whole_wall, memory)


def _solved(block: LocalEnergyCommunity, signal: Signal) -> Response:
    return block.solve(signal)


def _asked(dso: DSO, query: Query, reports: Reports) -> None:
    """What a round asks of the DSO: are the limits met at the offers, and what is needed."""
    check_all(dso, query.center, reports)
    answer_all(dso, query, reports, (None,) * len(dso.parts()))


def _extensive(market: ReactiveMarket, blocks: dict[Key, LocalEnergyCommunity]) -> tuple[float, float]:
    try:
        return _timed(lambda: reference(market, need=NEED, blocks=blocks))
    except TatonnementError:
        return np.nan, np.nan


def _timed(what: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = sum(os.times()[:4]), time.perf_counter()  # with processes that a solver starts
    what()
    return sum(os.times()[:4]) - cpu, time.perf_counter() - wall


def _peak_mb() -> float:
    both = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(both) / 1024.0


def page(rows: Sequence[Row], command: str) -> str:
    """The table with the command that wrote it."""
    heads = (
        "settings", "scenarios", "blocks", "initial schedules: CPU s (wall)", "a round of all blocks: CPU s (wall)",
        "DSO: CPU s", "of the blocks'", "DSO with bound and model: CPU s", "of the blocks'",
        "memory, MB", "extensive form: CPU s (wall)", "memory with it, MB",
    )  # fmt: skip
    lines = [
        "# The stochastic campus case: rounds and the extensive form",
        "",
        f"Written by `{command}`.",
        "One process, one thread. Wall times depend on what else the machine does, CPU times much less.",
        "A round is one price to every block without penalty, the median of the rounds after the first; the DSO's",
        "part (load flows of all hours and scenarios at the offers, then its answer to them) is apart, with what it is",
        "of the blocks'. The extensive form is the same case as one nonlinear model with the AC network, integers",
        "held at the initial schedules, from these as a start: its time is that of building and solving it. Memory is",
        "the peak of the process, with that of the solver's own where it has one.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for r in rows:
        cells = (
            r.settings or "the case's", f"{r.scenarios}", f"{r.blocks}", f"{r.first_cpu_s:.1f} ({r.first_wall_s:.1f})",
            f"{r.round_cpu_s:.2f} ({r.round_wall_s:.2f})", f"{r.dso_cpu_s:.2f}", f"{r.dso_cpu_s / r.round_cpu_s:.0%}",
            f"{r.model_cpu_s:.2f}", f"{r.model_cpu_s / r.round_cpu_s:.0%}", f"{r.blocks_mb:.0f}",
            _whole(r), "-" if r.whole_mb is None else f"{r.whole_mb:.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _whole(r: Row) -> str:
    if r.whole_cpu_s is None or r.whole_wall_s is None:
        return "not tried"
    return "not solved" if np.isnan(r.whole_cpu_s) else f"{r.whole_cpu_s:.1f} ({r.whole_wall_s:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stochastic", description=__doc__)
    parser.add_argument("--counts", nargs="+", type=int, default=[20, 200], help="scenarios of each of the two LECs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--extensive-up-to", type=int, default=20, metavar="N", help="also the one model, up to N")
    parser.add_argument("--out", type=Path, help="write the page here")
    parser.add_argument("--set", nargs="*", default=FAST, metavar="KEY=VALUE", help="the second line's settings")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(asdict(measure(args.one, args.rounds, args.one <= args.extensive_up_to, args.set))))
        return
    rows = []
    variants: tuple[Sequence[str], ...] = ((), args.set)
    for count, settings in ((count, settings) for count in args.counts for settings in variants):
        again = [sys.executable, "-m", "benchmarks.stochastic", "--one", str(count), "--rounds", str(args.rounds)]
        again += ["--extensive-up-to", str(0 if settings else args.extensive_up_to), "--set", *settings]
        told = subprocess.run(again, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        rows.append(Row(**json.loads(told)))
        print(rows[-1])
    words = page(rows, "python -m benchmarks.stochastic " + " ".join(sys.argv[1:]))
    if args.out:
        args.out.write_text(words, encoding="utf-8")
    print(words)


if __name__ == "__main__":
    main()
