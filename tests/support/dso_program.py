"""A DSO's few hours in seven scenarios for real mpiexec; no hour is easy, and blocks are in closed form.

Usage: dso_program.py FOLDER HOURS ["q" | "pq"]; prints how many stretches of work each rank has done.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from closed_form import QuadraticBlock
from three_lines import NEUTRAL, UNITS, three_lines

from decomp.messages import Coupling, Key
from decomp.parallel.ranks import find_ranks
from decomp.rules import ADMM
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Execution, Limits
from decomp.run.result_files import write
from problems.dso.coordinator import DSO
from problems.dso.settings import DsoSettings

SCENARIOS = tuple("abcdefg")
PROB = np.arange(1.0, 8.0) / 28.0


class Reports(QuadraticBlock):
    """A block that also says what it imports and injects at first."""

    def __init__(self, told, **given):
        super().__init__(**given)
        self.told = told

    def solve(self, signal):
        return super().solve(signal).but(report=self.told)

    def evaluate(self, y):
        return super().evaluate(y).but(report=self.told)


class Counting(DSO):
    """Counts the stretches of work done here."""

    done = 0

    def do(self, work):
        self.done += 1
        return super().do(work)


def market(hours: int, products: str) -> Counting:
    rng = np.random.default_rng(5)
    kinds, lim = len(products), (np.full(hours, -400.0), np.full(hours, 400.0))
    spread = rng.uniform(0.85, 1.1, (hours, len(SCENARIOS), 1))
    boxes = {"box": dict.fromkeys(UNITS, lim)} | ({"box_p": dict.fromkeys(UNITS, lim)} if kinds > 1 else {})
    settings = DsoSettings(
        requirement="resolved", products=tuple(products), freeze_p=kinds == 1, shed_cost_sek_per_kvarh=10.0
    )
    return Counting(
        network=three_lines(), settings=settings, pcc=UNITS, times=[f"h{t}" for t in range(hours)], dt_h=1.0,
        probabilities={Key(u, s): p for u in UNITS for s, p in zip(SCENARIOS, PROB, strict=True)},
        p_load_kw=spread * [0, 300, 300, 600], q_load_kvar=spread * [0, 200, 300, 800],
        neutral_price=np.full(hours, NEUTRAL), reference_price=np.full(hours, 0.5), **boxes,
    )  # fmt: skip


def couplings(dso: Counting) -> list[Coupling]:
    steps = range(len(dso.times))
    products = [p for p in ("q", "p") if p in dso.settings.products]
    return [
        Coupling(
            unit, tuple(f"{p}{t}" for p in products for t in steps), np.ones(len(products) * len(steps)),
            np.concatenate([dso.rows(bus, p) for p in products]),
            {Key(unit, s): p for s, p in zip(SCENARIOS, PROB, strict=True)},
            tuple(f"r{i}" for i in range(2 * len(steps))),
        )
        for unit, bus in UNITS.items()
    ]  # fmt: skip


def make(key: Key, n: int, hours: int) -> Reports:
    rng = np.random.default_rng([SCENARIOS.index(key.scenario), int(key.unit[-1])])
    told = np.concatenate([rng.uniform(0, 50, hours), rng.uniform(-5, 5, hours)])
    return Reports(told, a=rng.uniform(1e-3, 2e-3, n), b=NEUTRAL, lo=-400.0, hi=400.0, n=n)


def solved(dso: Counting, ranks):
    hours = len(dso.times)
    n = hours * len(dso.settings.products)
    return run(
        lambda key: make(key, n, hours), dso, ADMM(1e-3), coupling=couplings(dso), stop=[], limits=Limits(4),
        certificate=CertificateSettings(every=2), execution=Execution(ranks=ranks),
    )  # fmt: skip


if __name__ == "__main__":
    ranks = find_ranks()
    dso = market(int(sys.argv[2]), sys.argv[3])
    result = solved(dso, ranks)
    done = ranks.gather_objects(dso.done)
    if result is not None:
        write(result, Path(sys.argv[1]), case={}, extra={})
        request = result.final.request
        figures = [request.Z, *(request.info[name] for name in sorted(request.info))]
        Path(sys.argv[1], "request.bin").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in figures))
        print(result.status, *done)
    ranks.end()
