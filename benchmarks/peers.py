"""python -m benchmarks.peers [--quick] [--out docs/peers.md]: progressive hedging by mpi-sppy and by this engine.

The farmer of mpi-sppy's own examples, the same penalty, the same number of rounds; after every round the averages of
both must be the same. The two sides take turns, each run in processes of its own, on one rank and on two.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.peers_page import page
from benchmarks.peers_rounds import Rounds

MISSING = (
    "python -m benchmarks.peers compares with mpi-sppy 0.14, which is missing: pip install 'tatonnement[mpi,peers]'"
)
SIDES = {"mpi-sppy": "benchmarks.peers_sppy", "ours": "benchmarks.peers_ours"}
SAME = 1e-5  # averages, relative to the larger of 1 acre and the average
ONE_RANK = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Case:
    """So many scenarios of so many times three crops, on so many ranks."""

    scenarios: int
    multiplier: int
    ranks: int
    rounds: int

    @property
    def first(self) -> int:
        """Number of the first scenario; the first three have crops of equal yield, whose acres are not unique."""
        return 0 if self.multiplier == 1 else 3


@dataclass(frozen=True)
class Compared:
    """All runs of a case by side, and how far the averages were apart at most."""

    case: Case
    runs: dict[str, list[Rounds]]
    apart: float


def farthest(one: Rounds, other: Rounds) -> float:
    """Largest difference of the averages of any crop after any round, relative to the larger of 1 acre and the average.

    Raises ValueError where the crops or the numbers of rounds differ.
    """
    if set(one.averages) != set(other.averages):
        raise ValueError("the two sides do not have the same crops")
    worst = 0.0
    for crop, values in one.averages.items():
        a, b = np.array(values), np.array(other.averages[crop])
        if a.shape != b.shape:
            raise ValueError(f"{crop}: {len(a)} rounds beside {len(b)}")
        worst = max(worst, float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(a)))))
    return worst


def compare(case: Case, repeats: int, mpiexec: str | None) -> Compared:
    """Both sides in turn; raises ValueError where their averages are not the same."""
    runs: dict[str, list[Rounds]] = {side: [] for side in SIDES}
    apart = 0.0
    for _ in range(repeats):
        for side in SIDES:
            runs[side].append(_run(side, case, mpiexec))
        apart = max(apart, farthest(runs["mpi-sppy"][-1], runs["ours"][-1]))
    if not apart <= SAME:
        raise ValueError(f"{case}: the averages are {apart:.1e} apart; the two do not solve the same problem")
    return Compared(case, runs, apart)


def _run(side: str, case: Case, mpiexec: str | None) -> Rounds:
    words = [str(n) for n in (case.scenarios, case.multiplier, case.first, case.rounds)]
    command = [sys.executable, "-m", SIDES[side], *words]
    if case.ranks > 1:
        assert mpiexec is not None
        command = [mpiexec, "-n", str(case.ranks), sys.executable, "-m", "mpi4py", "-m", SIDES[side], *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_RANK})
    if done.returncode:
        raise ValueError(f"{side} failed on {case}: {done.stderr[-2000:]}")
    return Rounds.read(done.stdout)


def cases(quick: bool, scenarios: list[int], multipliers: list[int], rounds: int) -> list[Case]:
    """What is compared; fewer rounds where they are long, four at least."""
    out = []
    for times in multipliers:
        for count in scenarios:
            if quick and count * times > 150:
                continue
            fewer = max(4, min(rounds, 20000 // (count * times)))
            out.append(Case(count, times, 1, 5 if quick else fewer))
    return out


def main(arguments: list[str]) -> int:
    args = _parser().parse_args(arguments)
    try:
        version = importlib.metadata.version("mpi-sppy")
    except importlib.metadata.PackageNotFoundError:
        print(MISSING, file=sys.stderr)
        return 2
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    ranks = [n for n in args.ranks if n == 1 or mpiexec]
    plan = cases(args.quick, args.scenarios, args.multipliers, args.rounds)
    found: list[Compared] = []
    command = " ".join(["python -m benchmarks.peers", *arguments])
    repeats = 1 if args.quick else args.repeats
    for case in [replace(case, ranks=n) for case in plan for n in ranks]:
        print(f"{case.scenarios} scenarios, {3 * case.multiplier} crops, {case.ranks} ranks", flush=True)
        try:
            found.append(compare(case, repeats, mpiexec))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        if args.out:
            # so that a run which is cut short leaves what it has measured
            args.out.write_text(page([(c.case, c.runs, c.apart) for c in found], command, version), encoding="utf-8")
    print(page([(c.case, c.runs, c.apart) for c in found], command, version))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--scenarios", type=int, nargs="+", default=[3, 100, 1000])
    parser.add_argument("--multipliers", type=int, nargs="+", default=[1, 10, 50], help="three times as many crops")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15, help="penalised rounds; fewer in large cases")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side")
    parser.add_argument("--quick", action="store_true", help="a minute or two: the small cases, one run each")
    parser.add_argument("--out", type=Path, help="write the page here")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
