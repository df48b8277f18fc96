"""A small run for real mpiexec: ten units of uneven size at three nodes, two of them with scenarios.

Usage: mpi_program.py FOLDER [raise-in-block | exit-in-block | raise-on-rank | cannot-build | shuffle-SEED]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from closed_form import QuadraticBlock, unit

from decomp.coordinators import Exchange
from decomp.errors import TatonnementError
from decomp.messages import Key
from decomp.parallel import block_pool as fleet
from decomp.parallel.ranks import find_ranks
from decomp.rules import ADMM
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Execution, Limits
from decomp.run.result_files import write
from decomp.run.stopping import Gap, Residual

trouble = sys.argv[2] if len(sys.argv) > 2 else ""
ranks = find_ranks()

if trouble.startswith("shuffle-"):

    def shuffled(keys, size):
        owner = np.random.default_rng(int(trouble.partition("-")[2])).integers(0, size, len(keys))
        return [np.flatnonzero(owner == r) for r in range(size)]

    fleet.dealt = shuffled


class Raises(QuadraticBlock):
    def solve(self, signal):
        if signal.id == 3 and trouble == "raise-in-block":
            raise ZeroDivisionError("a community without heat")
        if signal.id == 3 and trouble == "exit-in-block":
            sys.exit("no licence")
        if signal.id == 3 and trouble == "raise-on-rank":
            raise KeyboardInterrupt  # not an Exception: nothing in the engine may catch it
        return super().solve(signal)


def make(key: Key) -> QuadraticBlock:
    i = int(key.unit[1:])
    rng = np.random.default_rng([i, int(key.scenario)])
    n = 1 + i % 3
    if trouble == "cannot-build" and i == 7:
        raise TatonnementError("its boiler is larger than its heat load")
    kind = Raises if i == 5 else QuadraticBlock
    return kind(rng.uniform(0.5, 3, n), rng.normal(size=n), -20, 20, n=n)


couplings = []
for i in range(10):
    scenarios = tuple("012") if i in (2, 6) else ("0",)
    prob = [0.5, 0.3, 0.2] if len(scenarios) == 3 else [1.0]
    n = 1 + i % 3
    couplings.append(unit(f"u{i}", tuple(range(n)), (1.0,) * n, scenarios, prob))
market = Exchange([f"n{b}" for b in range(3)], np.array([4.0, 3.0, 2.0]), (np.full(3, -200.0), np.full(3, 200.0)))
result = run(
    make, market, ADMM(0.3), coupling=couplings, stop=[Gap(1e-7, 0.0, "total"), Residual(1e-6, 1e-6)],
    limits=Limits(200), certificate=CertificateSettings(every=5), execution=Execution(ranks=ranks),
)  # fmt: skip
code = 0
if result is not None:
    write(result, Path(sys.argv[1]), case={}, extra={})
    print(result.status, result.reason)
    code = 1 if result.status == "failed" else 0
raise SystemExit(ranks.agree(code))
