"""python -m benchmarks.overhead [--blocks 1 10 100 1000] [--rounds 8] [--skip-pyomo]: time outside the solvers.

A run of the engine on communities of campus size over 24 h, whose prices change in two hours each round; then one block
beside what Pyomo does for the same price changes. On one rank, and on two where there is mpiexec.

The machine may be loaded: shares are of CPU time, beside them of the clock; ratios are of medians of CPU time, the ways
taken in turn within one run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.communities import Communities, Needs, campus
from benchmarks.pyomo_ways import IN_A_ROW, compare
from benchmarks.stopwatch import solver_calls
from decomp.parallel.ranks import Ranks, find_ranks
from decomp.rules import DualAscent
from decomp.run.engine import run
from decomp.run.options import Execution, Limits, Output
from decomp.run.result import Row
from decomp.steps import Step, inverse

WARM_UP = 2  # rounds before the measurement begins


def shares(blocks: int, rounds: int, ranks: Ranks) -> dict[str, Any] | None:
    """Share of CPU time and of the clock spent outside HiGHS, fleet, engine and coordinator included.

    Inside: HiGHS and its Python binding (numbers in, `run`, answers out); `outside_run` counts `run` alone.
    """
    units = 1 if blocks == 1 else 2
    fleet, market = Communities(units, blocks // units), campus()
    data = next(iter(market.data.values()))
    need = np.zeros(fleet.n)
    need[[13, 16]] = 20.0 * units
    ends: list[float] = []

    def note(row: Row) -> None:
        ends.append(time.perf_counter())

    with solver_calls() as calls:
        result = run(
            fleet.make, Needs(need, data.reactive_price_sek_per_kvarh, data.dt_h),
            DualAscent(Step(inverse, {"a": 0.002})), coupling=fleet.couplings, stop=[],
            limits=Limits(WARM_UP + rounds + 1), execution=Execution(ranks=ranks), output=Output(callbacks=[note]),
        )  # fmt: skip
    everyone = ranks.gather_objects(calls)
    if result is None or everyone is None:
        return None
    # the last round is told of after the final certificate
    ends = ends[WARM_UP - 1 : -1]
    begin, end = ends[0], ends[-1]
    inside = [[c for c in one if begin < c.ended <= end] for one in everyone]
    busy = [c[-1].ended_cpu - c[0].ended_cpu + c[0].cpu for c in inside if c]
    return {
        "blocks": blocks,
        "ranks": ranks.size,
        "ms_per_round": 1e3 * float(np.median(np.diff(ends))),
        "run_ms": 1e3 * float(np.median([c.wall for one in inside for c in one if c.kind == "run"])),
        "outside_run": 1.0 - sum(c.cpu for one in inside for c in one if c.kind == "run") / sum(busy),
        "outside_cpu": 1.0 - sum(c.cpu for one in inside for c in one if c.kind == "use") / sum(busy),
        "outside_clock": 1.0
        - sum(c.wall for one in inside for c in one if c.kind == "use") / (ranks.size * (end - begin)),
    }


def main(arguments: list[str], ranks: Ranks) -> int:
    args = _parser().parse_args(arguments)
    rows = [shares(blocks, args.rounds, ranks) for blocks in args.blocks]
    if ranks.rank:
        return 0
    if args.json:
        print(json.dumps(rows))
        return 0
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec and ranks.size == 1 and not args.one_rank:
        blocks = [str(b) for b in args.blocks if b > 1]
        command = [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py", "-m", "benchmarks.overhead", "--json"]
        done = subprocess.run(
            [*command, "--rounds", str(args.rounds), "--blocks", *blocks], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.stderr.write(done.stderr)
            return 1
        rows += json.loads(done.stdout)
    print("| blocks | ranks | ms a round | ms a HiGHS run | outside HiGHS, CPU | outside, clock | outside `run`, CPU |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        assert r is not None
        times = f"{r['ms_per_round']:.1f} | {r['run_ms']:.2f}"
        outside = " | ".join(f"{r[key]:.1%}" for key in ("outside_cpu", "outside_clock", "outside_run"))
        print(f"| {r['blocks']} | {r['ranks']} | {times} | {outside} |")
    if not args.skip_pyomo:
        print()
        for line in compare(args.rounds, args.in_a_row):
            print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=8, help="rounds that are measured")
    parser.add_argument("--one-rank", action="store_true", help="do not start two ranks beside")
    parser.add_argument("--in-a-row", type=int, default=IN_A_ROW, help="solves of one way before the next's turn")
    parser.add_argument("--skip-pyomo", action="store_true", help="only the shares")
    parser.add_argument("--json", action="store_true", help="the shares alone, for another program")
    return parser


if __name__ == "__main__":
    everyone = find_ranks()
    code = main(sys.argv[1:], everyone)
    everyone.end()
    sys.exit(code)
