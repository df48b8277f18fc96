"""python -m benchmarks.fleet [--units 100] [--scenarios 100] [--ranks 2]: rounds of very many blocks.

The case problems/cases/fleet_100k.toml with so many units and scenarios: seconds and memory of the start, of the first
round (every block solved from nothing), of a round at other prices, of one with a penalty, and of what the DSO does
with the offers. Seconds are the clock's, and beside them the root's CPU: the machine may be loaded.
"""

from __future__ import annotations

import argparse
import logging
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from decomp.case.config import load
from decomp.coordinator import answer_all, check_all
from decomp.layout import Layout, Signals
from decomp.messages import Query
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Ranks, find_ranks

CASE = Path(__file__).parents[1] / "problems" / "cases" / "fleet_100k.toml"


def main(arguments: list[str], ranks: Ranks) -> int:
    args = _parser().parse_args(arguments)
    if args.ranks > 1 and ranks.size == 1:
        mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
        if mpiexec is None:
            sys.stderr.write("mpiexec is missing: pip install '.[mpi]', or --ranks 1\n")
            return 1
        own = [sys.executable, "-m", "mpi4py", "-m", "benchmarks.fleet", *arguments]
        return subprocess.run([mpiexec, "-n", str(args.ranks), *own], check=False).returncode
    logging.basicConfig(level=logging.INFO if ranks.rank == 0 else logging.WARNING, format="%(message)s")
    clock = _Clock(ranks)
    with clock.of("read the case, build its network and draw its units"):
        case = load(CASE, (f"fleet.units={args.units}", f"scenarios.count={args.scenarios}"))
        problem = case.problem
        assert problem.coordinator is not None
        layout = Layout.of(problem.couplings, len(problem.coordinator.nodes))
    fleet = BlockPool(ranks, layout, problem.subproblem)
    if ranks.rank:
        fleet.serve()
        clock.others()
        return 0
    neutral = layout.to_blocks(layout.to_units(np.asarray(problem.coordinator.neutral)))
    rng = np.random.default_rng(0)
    moved = neutral + np.where(np.arange(len(neutral)) % 24 >= 18, 0.05 + 0.01 * rng.random(len(neutral)), 0.0)
    with fleet:
        with clock.of("build the blocks"):
            fleet.build()
        with clock.of("first round: models, and every block from nothing"):
            answers = fleet.solve(Signals(layout, neutral))
        for _ in range(args.rounds):
            moved = moved + 0.002 * (moved != neutral)
            with clock.of("a round without penalty"):
                answers = fleet.solve(Signals(layout, moved, id=1))
        bounded = np.isfinite(answers.bound).all()
        short = float(np.max(answers.cost - layout.inner(moved, answers.y) - answers.bound))
        offers = layout.totals(layout.mean(answers.y))
        with clock.of("the DSO: load flows, and the answer to the offers"):
            reports = answers.reports()
            check_all(problem.coordinator, offers, reports)
            query = Query(np.asarray(problem.coordinator.neutral), offers, np.zeros(len(offers)))
            answer_all(problem.coordinator, query, reports, (None,) * len(problem.coordinator.parts()))
        if not args.no_penalty:
            with clock.of("a round with penalty (a quadratic program a block)"):
                fleet.solve(Signals(layout, moved, answers.y, np.full(len(moved), 1e-3), id=2))
    clock.others()
    print(f"{len(layout.keys)} blocks ({args.units} units x {args.scenarios} scenarios), {ranks.size} ranks")
    print("| what | s | CPU s of the root |")
    print("|---|---|---|")
    for what, wall, cpu in clock.taken:
        print(f"| {what} | {wall:.1f} | {cpu:.1f} |")
    print(f"memory of all ranks at its highest: {sum(clock.peaks) / 1e9:.2f} GB")
    print(f"every block with a proven bound: {bool(bounded)}; furthest any answer is above its bound: {short:.4g} SEK")
    return 0


class _Clock:
    """Seconds of each step, and the memory of all ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.taken = ranks, list[tuple[str, float, float]]()
        self.peaks: list[float] = []

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.taken.append((what, time.perf_counter() - wall, time.process_time() - cpu))
        if self.ranks.rank == 0:
            logging.info("%s: %.1f s", *self.taken[-1][:2])

    def others(self) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
        self.peaks = self.ranks.gather_objects(peak) or []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--scenarios", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="rounds without penalty after the first")
    parser.add_argument("--no-penalty", action="store_true", help="without the round with penalty")
    return parser


if __name__ == "__main__":
    everyone = find_ranks()
    code = main(sys.argv[1:], everyone)
    everyone.end()
    sys.exit(code)
