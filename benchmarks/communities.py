"""Any number of communities of campus size in any number of scenarios, and what prices do to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from decomp.blocks.pyomo_block import BlockSettings
from decomp.coordinator import Coordinator, Reports, Warm
from decomp.messages import Coupling, FloatArray, Key, Query, Request
from problems.lec.community import LocalEnergyCommunity, coupling
from problems.lec.data import LecData
from problems.lec.settings import LecSettings
from problems.market.problem import ReactiveMarket

CASE = Path(__file__).parents[1] / "problems" / "cases" / "chalmers_undervoltage.toml"
SETTLED = BlockSettings(tangents="fixed", milp="relax")


@cache
def campus() -> ReactiveMarket:
    return ReactiveMarket.from_file(CASE)


def scenario_of(data: LecData, *seed: int) -> LecData:
    """The same day, otherwise: sun, loads, heat and prices off by some percent. Depends on the seed alone."""
    rng = np.random.default_rng(seed)
    return replace(
        data,
        pv_pu=data.pv_pu * rng.uniform(0.6, 1.3),
        load_p_kw=data.load_p_kw * rng.normal(1.0, 0.05, data.n),
        load_q_kvar=data.load_q_kvar * rng.normal(1.0, 0.05, data.n),
        heat_load_kw=data.heat_load_kw * rng.normal(1.0, 0.05, data.n),
        spot_sek_per_kwh=data.spot_sek_per_kwh * rng.normal(1.0, 0.1, data.n),
    )


class Communities:
    """Units of campus size, every second one like LEC1, the others like LEC2; each with its own load."""

    def __init__(self, units: int, scenarios: int, settings: BlockSettings = SETTLED, *, shared: bool = True) -> None:
        market = campus()
        names = sorted(market.data)
        self.block_settings, self.shared = settings, shared
        self.base: dict[str, tuple[LecSettings, LecData]] = {}
        for u in range(units):
            like = names[u % len(names)]
            load = 0.8 + 0.4 * np.random.default_rng(u).random()
            data = market.data[like]
            data = replace(data, load_p_kw=load * data.load_p_kw, load_q_kvar=load * data.load_q_kvar)
            self.base[f"U{u:04d}"] = (market.settings.lec[like].model_copy(), data)
        self.n = len(market.axis.names)
        prob = {f"{s:03d}": 1.0 / scenarios for s in range(scenarios)}
        self.couplings: Sequence[Coupling] = tuple(
            coupling(name, data, np.arange(self.n), {Key(name, s): p for s, p in prob.items()})
            for name, (lec, data) in self.base.items()
        )

    def make(self, key: Key) -> LocalEnergyCommunity:
        lec, data = self.base[key.unit]
        own = scenario_of(data, int(key.unit[1:]), int(key.scenario))
        return LocalEnergyCommunity(
            key.unit, lec, own, freeze_p=False, shared=self.shared, settings=self.block_settings
        )


class Needs(Coordinator):
    """Asks for `need` (n,) kvar in some steps and takes what is offered in the others: a coordinator without cost."""

    def __init__(self, need: FloatArray, neutral: FloatArray, dt_h: float) -> None:
        n = len(need)
        self.need, self.neutral = need, neutral
        self.nodes = self.groups = tuple(f"step {k}" for k in range(n))
        self.weight, self.scale = np.full(n, dt_h), np.ones(n)
        self.box = (np.full(n, -1e6), np.full(n, 1e6))

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        active = self.need != 0
        return Request(Z=np.where(active, self.need, query.center), cost=0.0, active=active), warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        return Request(Z=Z, cost=0.0, active=self.need != 0)
