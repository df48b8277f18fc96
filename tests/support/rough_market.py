"""A market whose units remember, and go wrong on demand: what the tests of restarts run under mpiexec.

A unit moves 70 % of the way from its last answer to its best one, so that a lost warm state shows in every later row.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from decomp.coordinators import Exchange
from decomp.messages import Coupling, Key, Response, Status
from decomp.problem import Problem
from decomp.subproblem import Subproblem

# no part of the case: seconds of a solve, of reading, of building a block; and where this process asks itself to stop
DELAY_S, READ_S, BUILD_S = (float(os.environ.get(f"ROUGH_{name}_S", "0")) for name in ("DELAY", "READ", "BUILD"))
DELAYED = os.environ.get("ROUGH_DELAYED", "").split()  # the units whose solves take so long; none named = all


def at(place: str, seconds: float) -> None:
    time.sleep(seconds)
    if os.environ.get("ROUGH_SIGNAL_AT") == place:
        os.kill(os.getpid(), signal.SIGTERM)


class MarketTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    units: int


class TroubleTable(BaseModel):
    """What goes wrong with a unit in rounds first..last.

    "grow": its warm state becomes large; "unproven": only exact questions raise
    """

    model_config = ConfigDict(extra="forbid")
    unit: str
    kind: Literal["raise", "infeasible", "nan", "limit", "grow", "slow", "unproven"]
    first: int
    last: int
    seconds: float = 0.0


class Unit(Subproblem):
    abilities = frozenset({"penalty", "bound", "evaluate"})

    def __init__(self, key: Key, trouble: TroubleTable | None) -> None:
        self.delay_s = DELAY_S if not DELAYED or key.unit in DELAYED else 0.0
        rng = np.random.default_rng([int(key.unit[1:]), int(key.scenario)])
        self.slope, self.intercept = rng.uniform(0.5, 3, 2), rng.normal(size=2)
        self.trouble, self.round = trouble, 0
        self.y: np.ndarray | None = None
        self.ballast = np.zeros(0)

    def cost(self, y):
        return float(np.sum(self.slope / 2 * y**2 + self.intercept * y))

    def solve(self, signal):
        time.sleep(self.delay_s)
        t = self.trouble
        self.round = self.round if signal.exact else signal.id  # a certificate's questions belong to the last round
        if t is not None and t.first <= self.round <= t.last:
            if t.kind == "raise" or (t.kind == "unproven" and signal.exact):
                raise ZeroDivisionError("a community without heat")
            if t.kind == "infeasible":
                return Response(signal.price, np.nan, status=Status.INFEASIBLE, message="its fuse has blown")
            if t.kind == "limit":
                return Response(signal.price, np.nan, status=Status.LIMIT, message="its solver ran out of time")
            if t.kind == "nan":
                return Response(np.full(2, np.nan), 0.0)
            if t.kind == "grow":
                self.ballast = np.arange(500_000.0)
            if t.kind == "slow":
                time.sleep(t.seconds)
        rho = np.zeros(2) if signal.penalty is None else signal.penalty
        pull = rho * (0.0 if signal.target is None else signal.target)
        best = (signal.price - self.intercept + pull) / (self.slope + rho)
        self.y = best if self.y is None or signal.exact else self.y + 0.7 * (best - self.y)
        bound = self.cost(best) - float(signal.price @ best) if signal.exact and not rho.any() else None
        return Response(self.y, self.cost(self.y), bound)

    def evaluate(self, y):
        return Response(np.array(y), self.cost(y))

    def detail(self, response):
        return {"y": response.y}

    def save(self):
        return None if self.y is None else {"y": self.y, "ballast": self.ballast}

    def load(self, arrays):
        self.y, self.ballast = arrays["y"], arrays["ballast"]


class Market(Problem):
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        market: MarketTable
        trouble: TroubleTable | None = None

    labels: ClassVar = {}

    def __init__(self, settings, folder: Path) -> None:
        self.settings = settings
        (folder / "pids").mkdir(exist_ok=True)
        (folder / "pids" / str(os.getpid())).touch()
        at("reading", READ_S)
        self.coordinator = Exchange(("a", "b"), np.array([5.0, 3.0]), (np.full(2, -100.0), np.full(2, 100.0)))
        names = {f"u{i}": ("0", "1", "2") if i == 1 else ("0",) for i in range(settings.market.units)}
        self.couplings = tuple(
            Coupling(u, ("a", "b"), np.ones(2), np.arange(2), {Key(u, s): 1 / len(scenarios) for s in scenarios})
            for u, scenarios in names.items()
        )

    def subproblem(self, key):
        (Path(__file__).parent / "pids" / str(os.getpid())).write_text(str(key))
        at(f"building {key}", BUILD_S)
        trouble = self.settings.trouble
        return Unit(key, trouble if trouble and trouble.unit == key.unit else None)
