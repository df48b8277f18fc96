"""Rounds that one rule needs on every convex instance of the benchmark.   python -m benchmarks.convex [--rule NAME]

The instances are those of convergence.toml (classes lp, qp, stochastic); every round is certified. Printed is, for each
class, how many runs came to the gap, and the rounds and seconds they took in the median and at most.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import measure
from benchmarks.plan import Instance, Run, Settings, look_up, read_plan

FILE = Path(__file__).parent / "convergence.toml"
CLASSES = ("lp", "qp", "stochastic")


def convex_instances(prices: int | None = None, blocks: int | None = None, seed: int | None = None) -> list[Instance]:
    """The synthetic markets of the benchmark without integers, of at most so many prices and blocks; of one seed."""
    chosen = []
    for instance in read_plan(FILE).instances:
        table = look_up(instance.tables, "synthetic")
        if table is None or instance.group not in CLASSES:
            continue
        small = table["prices"] <= (prices or np.inf) and table["blocks"] <= (blocks or np.inf)
        if small and table["seed"] == (table["seed"] if seed is None else seed):
            chosen.append(instance)
    return chosen


def rounds_to(outcome: Mapping[str, Any], tolerance: float) -> int | None:
    """Rounds to the gap; None where the run did not come to it."""
    return next((r["round"] + 1 for r in outcome["rows"] if r["gap"] is not None and r["gap"] <= tolerance), None)


def main(arguments: list[str]) -> int:
    args = _parser().parse_args(arguments)
    settings: Settings = replace(
        read_plan(FILE).settings, tolerances=(args.tolerance,), max_rounds=args.max_rounds, stalled_rounds=None
    )
    found: dict[str, list[tuple[int | None, float]]] = {}
    for instance in convex_instances(args.prices, args.blocks, args.seed):
        job = Run(instance, args.rule, {"kind": args.rule}, None, False)
        outcome = measure(job, settings, FILE.parent, {})
        rounds = rounds_to(outcome, args.tolerance)
        found.setdefault(instance.group, []).append((rounds, outcome["seconds"]))
        told = "not reached: " + outcome["message"] if rounds is None else f"{rounds} rounds"
        print(f"{instance.label}: {told}, {outcome['seconds']:.1f} s", file=sys.stderr, flush=True)
    for line in _table(found):
        print(line)
    return 0


def _table(found: dict[str, list[tuple[int | None, float]]]) -> Iterable[str]:
    yield "| class | reached | rounds, median (largest) | seconds, median (largest) |"
    yield "|---|---|---|---|"
    for name, runs in sorted(found.items()):
        rounds = np.array([np.inf if r is None else r for r, _ in runs])
        seconds = np.array([s for _, s in runs])
        reached = f"{np.isfinite(rounds).sum()} of {len(runs)}"
        yield (
            f"| {name} | {reached} | {np.median(rounds):g} ({rounds.max():g}) "
            f"| {np.median(seconds):.1f} ({seconds.max():.1f}) |"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convex", description=__doc__)
    parser.add_argument("--rule", default="interior_point", help="a rule's name, with its defaults")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative gap that is to be certified")
    parser.add_argument("--max-rounds", type=int, default=40)
    parser.add_argument("--prices", type=int, default=None, help="instances of at most so many prices")
    parser.add_argument("--blocks", type=int, default=None, help="instances of at most so many blocks")
    parser.add_argument("--seed", type=int, default=None, help="instances of this seed only")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
