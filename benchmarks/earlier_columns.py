"""python -m benchmarks.columns_columns: rounds of the bundle on a changed network, from what an earlier run has left.

Synthetic LP markets. The earlier run solves each as it is; then how far the voltages are off is multiplied by `--load`,
the blocks stay as they are, and the market is solved from the neutral price, from the earlier run's best prices, and
from its columns and prices.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

from benchmarks.synthetic import Synthetic
from decomp.messages import FloatArray
from decomp.rules import Bundle
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits, Output, Start
from decomp.run.result import Result
from decomp.run.stopping import Gap, RunStatus
from decomp.storage.stored_columns import StoredColumns

ROUNDS = 100  # of a run; one that needs more counts as infinitely many


def market(blocks: int, prices: int, seed: int, load: float) -> Synthetic:
    """An LP market of the benchmark, with this factor on its needs."""
    table = {"class": "lp", "blocks": blocks, "prices": prices, "seed": seed, "load": load}
    return Synthetic(Synthetic.Settings.model_validate({"synthetic": table}))


def solved(
    problem: Synthetic, tolerance: float, start_price: FloatArray | None = None, earlier: StoredColumns | None = None
) -> Result:
    """A run of the bundle with its default settings, certified every round."""
    result = run(
        problem.subproblem,
        problem.coordinator,
        Bundle(),
        coupling=problem.couplings,
        stop=[Gap(tolerance, 0.0, "total")],
        limits=Limits(ROUNDS, schedules=False),
        certificate=CertificateSettings(every=1),
        start=Start(price=start_price, columns=earlier),
        output=Output(columns=True),
    )
    assert result is not None
    return result


def rounds(result: Result) -> float:
    """Rounds to the certificate."""
    return float(len(result.rows)) if result.status == RunStatus.CERTIFIED else float("inf")


def main(arguments: list[str] | None = None) -> None:
    """Print a row for each seed, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=50)
    parser.add_argument("--prices", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--load", type=float, default=1.05)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args(arguments)
    ways = ("neutral price", "earlier prices", "earlier columns")
    lines: list[tuple[str, ...]] = [("seed", *ways)]
    counts: list[list[float]] = []
    for seed in range(args.seeds):
        before = solved(market(args.blocks, args.prices, seed, 1.0), args.tolerance).columns
        assert before is not None
        starts = ((None, None), (before.held.price, None), (before.held.price, before))
        changed = market(args.blocks, args.prices, seed, args.load)
        counts.append([rounds(solved(changed, args.tolerance, *start)) for start in starts])
        lines.append((str(seed), *(f"{count:g}" for count in counts[-1])))
    lines.append(("median", *(f"{median(column):g}" for column in zip(*counts, strict=True))))
    sys.stdout.write("".join("".join(f"{cell:>17}" for cell in line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
