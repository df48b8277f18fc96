"""python -m benchmarks.scaling [--simulate] [--quick] [--blocks 200]: scaling from 1 to 2 ranks, and beyond.

Strong: the same blocks on 1 and on 2 ranks; weak: twice the blocks on 2 ranks. Real mpiexec, the runs in turn, medians.
Communities of campus size over 24 h whose prices change in two hours each round, and a coordinator that costs nothing.
With --simulate the measured solve times and message sizes are replayed on 1 ... 10,000 ranks (benchmarks/replay.py),
and scaling.md and scaling.png are written.

The machine may be loaded: beside the clock stands the CPU time of the busiest rank, which waiting does not lengthen.
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
from benchmarks.replay import Measured, Wires
from benchmarks.scaling_page import write_page
from decomp.layout import Answers, Layout, Signals
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.packing import TAIL
from decomp.parallel.ranks import Ranks, find_ranks
from decomp.rules import DualAscent
from decomp.rules.base import Setup
from decomp.run.engine import iterate
from decomp.steps import Step, inverse

WARM_UP = 2  # rounds before the measurement begins
PINGS, LARGE = 200, 1_000_000  # exchanges of one float, and of so many


class Timed(BlockPool):
    """Notes how long the root has been in `solve`."""

    inside_s = inside_cpu_s = 0.0

    def solve(self, signals: Signals, *, keep: bool = True, aside: bool = False) -> Answers:
        wall, cpu = time.perf_counter(), time.process_time()
        answers = super().solve(signals, keep=keep, aside=aside)
        self.inside_s += time.perf_counter() - wall
        self.inside_cpu_s += time.process_time() - cpu
        return answers


def rounds(blocks: int, count: int, ranks: Ranks) -> dict[str, Any] | None:
    """Rounds of so many blocks on these ranks: medians, and every block's solve times; None beside the root."""
    units = 2
    communities, market = Communities(units, blocks // units), campus()
    data = next(iter(market.data.values()))
    need = np.zeros(communities.n)
    need[[13, 16]] = 20.0 * units
    coordinator = Needs(need, data.reactive_price_sek_per_kvarh, data.dt_h)
    layout = Layout.of(communities.couplings, len(coordinator.nodes))
    rule = DualAscent(Step(inverse, {"a": 0.002}))
    fleet = Timed(ranks, layout, communities.make)
    wires = exchanges(ranks)
    if ranks.rank:
        fleet.serve()
        return None
    state = rule.init(Setup.of(layout, coordinator))
    warm: tuple[Any, ...] = (None,)
    walls, roots, solves = [], [], []
    with fleet:
        fleet.build()
        for k in range(WARM_UP + count):
            wall, cpu, inside = time.perf_counter(), time.process_time(), fleet.inside_cpu_s
            step = iterate(k, fleet, coordinator, rule, state, warm)
            state, warm = step.state, step.warm
            walls.append(time.perf_counter() - wall)
            roots.append(time.process_time() - cpu - (fleet.inside_cpu_s - inside))
            solves.append(step.answers[0].solve_time)
    share = np.array([[s[own].sum() for own in fleet.owned] for s in solves[WARM_UP:]])
    return {
        "blocks": blocks,
        "ranks": ranks.size,
        "wall_s": walls[WARM_UP:],
        "root_s": roots[WARM_UP:],
        "busiest_s": share.max(axis=1).tolist(),
        "solve_s": [s.tolist() for s in solves[WARM_UP:]],
        "floats_asked": int(layout.start[-1]) / blocks,
        "floats_answered": (int(layout.start[-1]) + int(layout.report_start[-1])) / blocks + TAIL,
        "latency_s": wires.latency_s,
        "bytes_per_s": wires.bytes_per_s,
    }


def exchanges(ranks: Ranks) -> Wires:
    """Latency and bandwidth between the ranks, from a broadcast that is answered by one float; nothing for one rank."""
    if ranks.size == 1:
        return Wires(0.0, np.inf)
    taken = {}
    for size, count in ((1, PINGS), (LARGE, 5)):
        spent, message = [], np.zeros(size)
        for _ in range(count):
            began = time.perf_counter()
            ranks.broadcast(message)
            ranks.gather(np.zeros(1), [1] * ranks.size)
            spent.append(time.perf_counter() - began)
        taken[size] = float(np.median(spent))
    latency = taken[1] / 2
    return Wires(latency, 8.0 * LARGE / max(taken[LARGE] - taken[1], 1e-9))


def launched(blocks: int, count: int, ranks: int) -> dict[str, Any]:
    """`rounds` under mpiexec."""
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("mpiexec is missing: pip install '.[mpi]'")
    own = [sys.executable, "-m", "mpi4py", "-m", "benchmarks.scaling", "--one", "--blocks", str(blocks)]
    done = subprocess.run(
        [mpiexec, "-n", str(ranks), *own, "--rounds", str(count)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(runs: list[list[dict[str, Any]]]) -> Measured:
    """What the replay needs, from the runs of one rank and those of twice the blocks on two."""
    single, double = [one[0] for one in runs], [one[2] for one in runs]
    small, large = (float(np.median([r["root_s"] for r in some])) for some in (single, double))
    each = max(large - small, 0.0) / single[0]["blocks"]
    return Measured(
        np.concatenate([r["solve_s"] for r in single]), single[0]["floats_asked"], single[0]["floats_answered"],
        max(small - each * single[0]["blocks"], 0.0), each,
    )  # fmt: skip


def main(arguments: list[str], ranks: Ranks) -> int:
    args = _parser().parse_args(arguments)
    if args.one:
        found = rounds(args.blocks, args.rounds, ranks)
        if found is not None:
            print(json.dumps(found))
        return 0
    repeats = 1 if args.quick else args.repeats
    blocks, count = (40, 4) if args.quick else (args.blocks, args.rounds)
    runs = [[launched(b, count, n) for b, n in ((blocks, 1), (blocks, 2), (2 * blocks, 2))] for _ in range(repeats)]
    for line in table(runs):
        print(line)
    if args.simulate:
        wires = Wires(1e-6 * args.latency_us, 1e9 * args.gigabytes_per_s)
        here = Wires(*(float(np.median([one[1][k] for one in runs])) for k in ("latency_s", "bytes_per_s")))
        command = "python -m benchmarks.scaling " + " ".join(arguments)
        for path in write_page(args.out, command, table(runs), measured(runs), wires, here, quick=args.quick):
            print(path)
    return 0


def table(runs: list[list[dict[str, Any]]]) -> list[str]:
    """Medians over rounds and repeats: ms a round by the clock, ms of the busiest rank's blocks, and efficiencies."""
    walls = [float(np.median([one[i]["wall_s"] for one in runs])) for i in range(3)]
    # of the blocks and the root's own work: what a round takes where every rank has a core to itself
    work = [float(np.median([np.add(one[i]["busiest_s"], one[i]["root_s"]) for one in runs])) for i in range(3)]
    lines = [
        "| | blocks | ranks | ms a round | efficiency | ms, busiest rank and root | efficiency |",
        "|---|---|---|---|---|---|---|",
    ]
    for i, (name, ideal) in enumerate((("alone", 1), ("strong", 2), ("weak", 1))):
        one = runs[0][i]
        figures = [
            f"{1e3 * spent[i]:.1f} | " + (f"{spent[0] / (ideal * spent[i]):.0%}" if i else "")
            for spent in (walls, work)
        ]
        lines.append(f"| {name} | {one['blocks']} | {one['ranks']} | {' | '.join(figures)} |")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--blocks", type=int, default=200, help="of the strong runs, even")
    parser.add_argument("--rounds", type=int, default=10, help="rounds that are measured")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--simulate", action="store_true", help="replay on many ranks, write the page")
    parser.add_argument("--latency-us", type=float, default=2.0, help="of a message between nodes")
    parser.add_argument("--gigabytes-per-s", type=float, default=10.0, help="between nodes")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--quick", action="store_true", help="few blocks, one repeat: about a minute")
    parser.add_argument("--one", action="store_true", help="one run on the ranks that there are, as JSON")
    return parser


if __name__ == "__main__":
    everyone = find_ranks()
    code = main(sys.argv[1:], everyone)
    everyone.end()
    sys.exit(code)
