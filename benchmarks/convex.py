"""Rounds that one rule needs on every convex instance of the benchmark.   python -m benchmarks.convex [--rule NAME]

The instances are those of convergence.toml (classes lp, qp, stochastic); every round is certified. Printed is, for each
class, how many runs came to the gap, and the rounds and seconds they took in the median and at most. With --one-model
the same instances are also solved whole, by HiGHS or, where they are curved, by PIQP. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import find_reference, measure
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
    rule = {"kind": args.rule, **({"sweep_below": args.sweep_below} if args.sweep_below else {})}
    found: dict[str, list[tuple[int | None, float]]] = {}
    whole: dict[str, list[float]] = {}
    for instance in convex_instances(args.prices, args.blocks, args.seed):
        began = time.process_time()
        outcome = measure(Run(instance, args.rule, rule, None, False), settings, FILE.parent, {})
        spent = time.process_time() - began
        rounds = rounds_to(outcome, args.tolerance)
        found.setdefault(instance.group, []).append((rounds, spent))
        if args.one_model:
            began = time.process_time()
            find_reference(instance, settings, FILE.parent)
            whole.setdefault(instance.group, []).append(time.process_time() - began)
        told = "not reached: " + outcome["message"] if rounds is None else f"{rounds} rounds"
        print(f"{instance.label}: {told}, {spent:.1f} s", file=sys.stderr, flush=True)
    for line in _table(found, whole):
        print(line)
    return 0


def _table(found: dict[str, list[tuple[int | None, float]]], whole: dict[str, list[float]]) -> Iterable[str]:
    yield "| class | reached | rounds, median (largest) | seconds, median (largest) |" + " one model |" * bool(whole)
    yield "|---|---|---|---|" + "---|" * bool(whole)
    for name, runs in sorted(found.items()):
        rounds = np.array([np.inf if r is None else r for r, _ in runs])
        cells = [
            name,
            f"{np.isfinite(rounds).sum()} of {len(runs)}",
            f"{np.median(rounds):g} ({rounds.max():g})",
            *(_seconds(s) for s in ([s for _, s in runs], whole.get(name)) if s),
        ]
        yield f"| {' | '.join(cells)} |"


def _seconds(spent: Sequence[float]) -> str:
    return f"{np.median(spent):.1f} ({max(spent):.1f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convex", description=__doc__)
    parser.add_argument("--rule", default="interior_point", help="a rule's name, with its defaults")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative gap that is to be certified")
    parser.add_argument("--max-rounds", type=int, default=40)
    parser.add_argument("--sweep-below", type=float, default=None, help="interior_point: see docs/interior_point.md")
    parser.add_argument("--one-model", action="store_true", help="also solve every instance as one model")
    parser.add_argument("--prices", type=int, default=None, help="instances of at most so many prices")
    parser.add_argument("--blocks", type=int, default=None, help="instances of at most so many blocks")
    parser.add_argument("--seed", type=int, default=None, help="instances of this seed only")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
