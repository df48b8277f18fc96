"""Fit the added reactive loads of case files: python -m problems.cases.fit_chalmers [CASE.toml ...] [--write].

The communities schedule first, at the neutral price; then every [[added_load]] with a `fitted_to` gets the reactive
power at which an AC power flow gives that voltage at that bus. Refit after any change of a device, a series or a line.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from decomp.messages import FloatArray, Key, Signal
from decomp.subproblem import Subproblem
from problems.market.problem import ReactiveMarket
from problems.market.settings import AddedLoad

CASES = Path(__file__).parent
WIDEST_KVAR = 65536.0


@dataclass(frozen=True)
class Fit:
    """load: number of the table in [[added_load]]; frozen: what the file says; fitted: what it should say, kvar."""

    load: int
    frozen_kvar: float
    fitted_kvar: float


def initial_reports(market: ReactiveMarket, blocks: Mapping[Key, Subproblem] | None = None) -> dict[Key, FloatArray]:
    """What every community reports with its initial schedule: net P and Q at its PCC. blocks: None = build them."""
    reports = {}
    for coupling in market.couplings:
        for key in coupling.prob:
            neutral = market.coordinator.neutral[coupling.node]
            block = market.subproblem(key) if blocks is None else blocks[key]
            response = block.solve(Signal(price=neutral, active=np.zeros(len(neutral), bool)))
            if not response.status.has_point:
                raise RuntimeError(f"{key} has no initial schedule: {response.message}")
            reports[key] = response.report
    return reports


def fit(market: ReactiveMarket, reports: Mapping[Key, FloatArray]) -> list[Fit]:
    """Fit every added load that says what to; each on its own, as steps do not influence each other.

    Raises ValueError where two fitted loads share a step, or no reactive power gives the voltage.
    """
    loads = market.settings.added_load
    numbers = [i for i, load in enumerate(loads) if load.fitted_to is not None]
    if len({loads[i].time for i in numbers}) < len(numbers):
        raise ValueError("two loads are fitted in the same step: give one of them a fixed q_kvar, without fitted_to")
    return [Fit(i, loads[i].q_kvar, _fit_one(market, reports, i)) for i in numbers]


def _fit_one(market: ReactiveMarket, reports: Mapping[Key, FloatArray], number: int) -> float:
    load = market.settings.added_load[number]
    assert load.fitted_to is not None
    step, bus = market.axis.index(load.time), market.network.buses.index(load.fitted_to.bus)
    assert step is not None
    target = load.fitted_to.v_pu

    def too_high(q_kvar: float) -> float:
        """Voltage above the target; falls with what the load draws."""
        coordinator = _with_load(market, number, q_kvar).coordinator
        v_pu = coordinator.voltages(np.zeros(len(coordinator.nodes)), reports)
        return float(v_pu[step, :, bus].mean()) - target

    low = high = load.q_kvar
    width = 1.0
    while too_high(low) < 0 or too_high(high) > 0:
        if width > WIDEST_KVAR:
            raise ValueError(f"no reactive load at bus {load.bus} gives {target} pu at bus {load.fitted_to.bus}")
        low, high, width = load.q_kvar - width, load.q_kvar + width, 4 * width
    return low if low == high else float(brentq(too_high, low, high, xtol=1e-4))


def _with_load(market: ReactiveMarket, number: int, q_kvar: float) -> ReactiveMarket:
    """The same market with another reactive power of one added load."""
    loads: list[AddedLoad] = list(market.settings.added_load)
    loads[number] = loads[number].model_copy(update={"q_kvar": q_kvar})
    return ReactiveMarket(market.settings.model_copy(update={"added_load": tuple(loads)}), market.folder)


def write(path: Path, fits: Sequence[Fit]) -> None:
    """Put the fitted figures into the case file, rounded to 0.1 kvar; everything else stays as it is."""
    head, *tables = re.split(r"(?m)^(?=\[\[added_load\]\])", path.read_text(encoding="utf-8"))
    for found in fits:
        tables[found.load] = re.sub(
            r"(?m)^q_kvar = [-+.\deE_]+", f"q_kvar = {found.fitted_kvar:.1f}", tables[found.load], count=1
        )
    path.write_text(head + "".join(tables), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m problems.cases.fit_chalmers", description=__doc__)
    parser.add_argument("cases", nargs="*", type=Path, default=sorted(CASES.glob("chalmers_*.toml")), metavar="CASE")
    parser.add_argument("--write", action="store_true", help="put the fitted loads into the case files")
    arguments = parser.parse_args()
    for path in arguments.cases:
        market = ReactiveMarket.from_file(path)
        fits = fit(market, initial_reports(market))
        for found in fits:
            load = market.settings.added_load[found.load]
            assert load.fitted_to is not None
            print(
                f"{path.name}: bus {load.bus}, {load.time.isoformat()}: {found.fitted_kvar:.1f} kvar "
                f"(the file says {found.frozen_kvar:.1f}) for {load.fitted_to.v_pu} pu at bus {load.fitted_to.bus}"
            )
        if arguments.write:
            write(path, fits)


if __name__ == "__main__":
    main()
