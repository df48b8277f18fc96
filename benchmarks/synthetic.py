"""Synthetic markets: classes {qp, lp, milp, stochastic} x blocks x prices x seeds, built from the seed alone.

Nodes are the PCCs of a random radial feeder in each of 24 hours. The voltages V = V0 + X Z (per cent) must stay within
[95, 105]; what the units do not offer is shed at a cost. In some hours the voltage without the units is too low, in
others (not for milp, whose units only inject) too high, in the rest within its limits:

    g(Z) = sum_h min { shed_cost sum_b |s_b| : 95 <= V0_h + X (Z_h + s) <= 105 }

Unit u sits at PCC u mod n; where there are fewer units than PCCs it has devices at every n_units-th of them.

qp          f = 1/2 a y^2 + b y in every hour, a daily budget of |y|: strongly convex, with dy/dprice
lp          six rungs a side in every hour, a daily budget
milp        a machine at each PCC: start cost, no-load cost, least output, three hours on at least, three rungs
stochastic  several scenarios of unequal probability share one offer; what a scenario's own devices (lp for even, curved
            for odd units) cannot give is bought short; the budget belongs to the offer

A unit's data come from numpy's default_rng((seed, stream, unit)), a scenario's from (seed, stream, unit, scenario): the
same on any number of ranks, whichever blocks a rank builds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from benchmarks.band import VoltageBand
from benchmarks.commitment import Commitment, Machines
from benchmarks.compiled import Compiled
from benchmarks.ladder import Ladder, Rungs
from benchmarks.monolith import Monolith, Reference
from decomp.messages import Coupling, FloatArray, IntArray, Key
from decomp.problem import Problem
from decomp.subproblem import Subproblem

HOURS = 24
PRICE = 0.1  # a middling offer, per kvarh
SHED = 10 * PRICE
SHORT = 5 * PRICE  # dearer than any device of their own
NETWORK, UNIT, SCENARIO = range(3)  # streams of random numbers


class Table(BaseModel):
    """The [synthetic] table: class, number of blocks, number of prices (a multiple of 24), seed.

    load    factor on how far the voltage without the units is off: another network with the same blocks
    solver  "exact": the units' own algorithms; "highs": the same units as arrays, solved by HiGHS and PIQP
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    kind: Literal["qp", "lp", "milp", "stochastic"] = Field(alias="class")
    blocks: int = Field(ge=1)
    prices: int = Field(ge=HOURS, multiple_of=HOURS)
    seed: int = Field(ge=0)
    load: float = Field(default=1.0, gt=0)
    solver: Literal["exact", "highs"] = "exact"

    @model_validator(mode="after")
    def _whole_units(self) -> Table:
        if self.kind == "stochastic" and self.blocks % scenarios(self.blocks):
            raise ValueError(f"{self.blocks} blocks do not divide into units of {scenarios(self.blocks)} scenarios")
        return self


def scenarios(blocks: int) -> int:
    """Scenarios of each stochastic unit: 2 in small instances, else 5."""
    return 2 if blocks < 50 else 5


@dataclass(frozen=True, eq=False)
class Site:
    """What all scenarios of a unit share: its PCCs, the kvar it has at each, its daily budget (kvarh), shape (S, 24)
    of its prices over the day, and the probabilities of its scenarios."""

    nodes: IntArray
    size_kvar: FloatArray
    budget_kvarh: float
    shape: FloatArray
    prob: FloatArray


class Synthetic(Problem):
    """One instance; see the module's text."""

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        synthetic: Table

    labels: ClassVar = {"worst": "voltage %", "mismatch": "kvar"}

    def __init__(self, settings: Settings, folder: Path = Path()) -> None:
        self.table = t = settings.synthetic
        self.n = t.prices // HOURS
        self.count = scenarios(t.blocks) if t.kind == "stochastic" else 1
        self.units = t.blocks // self.count
        sites = [self._site(u) for u in range(self.units)]
        self.couplings = tuple(self._coupling(u, site) for u, site in enumerate(sites))
        self.coordinator = self._network(sites)

    def subproblem(self, key: Key) -> Subproblem:
        block = self._block(int(key.unit[1:]), int(key.scenario))
        if self.table.solver == "exact":
            return block
        return Compiled(block.program(), np.ones(len(self.couplings[int(key.unit[1:])].entries)))

    def monolith(self) -> Monolith:
        """All blocks and the coordinator as one model."""
        programs = {
            key: self._block(int(key.unit[1:]), int(key.scenario)).program() for c in self.couplings for key in c.prob
        }
        return Monolith.of(self.couplings, programs, self.coordinator)

    def reference(self, time_limit_s: float) -> Reference:
        """The optimum of the one model; for milp the incumbent and its bound where the time is over before."""
        return self.monolith().solved(time_limit_s)

    # -- who is where --------------------------------------------------------------------------------------------------

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((self.table.seed, *stream))

    def _site(self, u: int) -> Site:
        rng = self._rng(UNIT, u)
        nodes = np.arange(u, self.n, self.units) if self.units < self.n else np.array([u % self.n])
        size = rng.uniform(20, 200, len(nodes))
        shape = rng.uniform(0.8, 1.2, (len(nodes), HOURS)) * rng.uniform(0.6, 1.6)
        raw = rng.uniform(0.5, 1.5, self.count)
        return Site(nodes, size, float(rng.uniform(0.35, 0.7) * HOURS * size.sum()), shape, raw / raw.sum())

    def _coupling(self, u: int, site: Site) -> Coupling:
        # node rows lie hour by hour, entries PCC by PCC
        rows = (np.arange(HOURS)[None, :] * self.n + site.nodes[:, None]).ravel()
        name = f"u{u:03d}"
        prob = {Key(name, str(s)): float(p) for s, p in enumerate(site.prob)}
        entries = tuple(f"pcc{b:02d} h{h:02d}" for b in site.nodes for h in range(HOURS))
        return Coupling(name, entries, np.ones(len(rows)), rows, prob)

    def _network(self, sites: list[Site]) -> VoltageBand:
        rng = self._rng(NETWORK)
        at, kvar = (np.concatenate([getattr(s, name) for s in sites]) for name in ("nodes", "size_kvar"))
        size = np.asarray(np.bincount(at, kvar, self.n), float)
        X = radial(rng, self.n)
        X *= 5.0 / np.max(X @ size)  # all units together move the voltage by at most 5 %
        hours = np.arange(HOURS)
        low, high = (hours >= 16) | (hours <= 1) | ((hours >= 6) & (hours <= 9)), (hours >= 10) & (hours <= 14)
        if self.table.kind == "milp":
            high = np.zeros(HOURS, bool)
        need = rng.uniform(0.25, 0.65, (HOURS, self.n)) * size * self.table.load
        V0 = np.full((HOURS, self.n), 100.0)
        V0[low] = 95.0 - need[low] @ X.T
        V0[high] = 105.0 + need[high] @ X.T
        least = np.zeros(self.n) if self.table.kind == "milp" else -size
        return VoltageBand(X, V0, 95.0, 105.0, SHED, (least, size), scale=PRICE)

    # -- what a block can do -------------------------------------------------------------------------------------------

    def _block(self, u: int, s: int) -> Ladder | Commitment:
        site, rng = self._site(u), self._rng(SCENARIO, u, s)
        size = np.repeat(site.size_kvar, HOURS)
        price = PRICE * site.shape.ravel()
        match self.table.kind:
            case "qp":
                bias = rng.uniform(-0.1, 0.1, len(price)) * price
                curvature = price * rng.uniform(1.0, 2.0, len(price)) / size
                b = bias[:, None]
                return Ladder(Rungs.stacked(size[:, None], b, -b, curvature, site.budget_kvarh))
            case "lp":
                width, up, down = self._rungs(rng, size, price, 6)
                return Ladder(Rungs.stacked(width, up, down, np.zeros(len(size)), site.budget_kvarh))
            case "stochastic":
                own = size * rng.uniform(0.3, 1.0, len(size))
                width, up, down = self._rungs(rng, own, price, 3)
                short = np.full((len(size), 1), 1.0)
                width = np.hstack([width, (size - own)[:, None]])
                curvature = (u % 2) * 0.5 * price / size
                up, down = np.hstack([up, SHORT * short]), np.hstack([down, SHORT * short])
                return Ladder(Rungs.stacked(width, up, down, curvature, site.budget_kvarh))
            case "milp":
                return Commitment(self._machines(rng, site))

    def _rungs(
        self, rng: np.random.Generator, size: FloatArray, price: FloatArray, count: int
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(n, K) widths that add up to the size, and rising prices for either side."""
        share = rng.uniform(0.5, 1.5, (len(size), count))
        width = size[:, None] * share / share.sum(axis=1, keepdims=True)
        up, down = (price[:, None] * np.sort(rng.uniform(0.2, 2.0, (len(size), count)), axis=1) for _ in range(2))
        return width, up, down

    def _machines(self, rng: np.random.Generator, site: Site) -> Machines:
        size, shape = site.size_kvar, site.shape
        least = size * rng.uniform(0.25, 0.4, len(size))
        width, _, _ = self._rungs(rng, size - least, np.ones(len(size)), 3)
        rise = np.sort(rng.uniform(0.3, 1.6, (len(size), 3)), axis=1)
        cost = PRICE * shape[:, :, None] * rise[:, None, :]
        noload = PRICE * shape * (least * rng.uniform(0.8, 1.2, len(size)))[:, None]
        start = PRICE * size * rng.uniform(0.3, 1.0, len(size))
        return Machines(least, width, cost, noload, start, hold=3)


def radial(rng: np.random.Generator, n: int) -> FloatArray:
    """dV/dQ (n, n) of a random radial feeder: the reactance that the paths of two PCCs have in common."""
    paths = np.zeros((n, n), bool)
    length = rng.uniform(0.5, 1.5, n)
    for i in range(n):
        parent = int(rng.integers(max(0, i - 3), i)) if i else None
        if parent is not None:
            paths[i] = paths[parent]
        paths[i, i] = True
    return np.asarray((paths * length) @ paths.T.astype(float))
