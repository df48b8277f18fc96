"""One scenario of a microgrid as a Pyomo model, and as a block that the engine can ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.messages import FloatArray, Response
from problems.microgrid.calls import Calls
from problems.microgrid.data import SERVICES, MicrogridData, Scene
from problems.microgrid.markets import (
    SOLD,
    Sales,
    add_markets,
    committed_products,
    price_of_surplus,
    prices_of_shortfall,
    sells_reactive,
    worth_usd_per_mw,
)
from problems.microgrid.settings import MicrogridSettings
from problems.microgrid.unit import AlgebraicTerm, Contribution, Series, Setting
from problems.risk import Risk, add_risk


@dataclass(frozen=True, eq=False)
class Scenario:
    """What `add_scenario` has added: the units' parts and the sales, and -profit in $."""

    parts: Mapping[str, Contribution]
    sales: Sales
    cost_usd: Any
    products: tuple[str, ...] = ()

    @property
    def convex(self) -> list[AlgebraicTerm]:
        return [term for part in self.parts.values() for term in part.convex]

    @property
    def committed(self) -> list[Any]:
        """The bids product by product and step by step, in the order of `entries`."""
        return [x for name in self.products for x in self.sales.bid[name]]


def add_scenario(
    b: pyo.Block, settings: MicrogridSettings, scene: Scene, bid_limit: Mapping[str, FloatArray]
) -> Scenario:
    """Add units and markets of one scenario to the block b. Paper 2, eqs. (1)-(18), (26)-(31), (36)-(59)."""
    calls = Calls.of(settings.market.call, scene.n, scene.call_probability)
    market = settings.market
    setting = Setting(calls, market.reactive_cost, settings.takes_power, bool(settings.load), market.delivery)
    b.unit = pyo.Block()
    parts = {}
    for name, unit in settings.units.items():
        block = pyo.Block()
        b.unit.add_component(name, block)
        parts[name] = unit.add(block, scene, setting, name)
    sales = add_markets(b, market, scene, list(parts.values()), bid_limit, calls)
    spent = sum(x for part in parts.values() for x in part.cost_usd) + sum(sales.bought_back_usd)
    earned = sum(x for series in sales.revenue_usd.values() for x in series)
    return Scenario(parts, sales, spent - earned, coupled_products(settings))  # (25)


class MicrogridScenario(PyomoSubproblem):
    """One scenario: y = the bids of every product and step, and the value at risk where the case is risk-averse.

    stage = "committed": y are the bids; "per_scenario": the value at risk alone, or a constant 0 where nothing agrees.
    cost is -profit in $, or (1 - beta) f + beta (v + [f - v]+ / (1 - alpha)) of f = -profit.

    Arguments
        settings, scene  of the microgrid and of this scenario
        bid_limit        (T,) greatest bid by product, equal in all scenarios
        cost_range_usd   least and greatest -profit, equal in all scenarios
    """

    def __init__(
        self,
        settings: MicrogridSettings,
        scene: Scene,
        /,
        *,
        bid_limit: Mapping[str, FloatArray],
        cost_range_usd: tuple[float, float],
        **options: Any,
    ) -> None:
        self.microgrid, self.scene, self.bid_limit, self.cost_range = settings, scene, bid_limit, cost_range_usd
        self._convex: list[AlgebraicTerm] = []
        self._labels: tuple[str, ...] = ()
        super().__init__(weight=weights(settings, scene.n, scene.dt_h), settings=settings.solver.block(), **options)
        self.abilities = abilities(settings, self.abilities)  # type: ignore[misc]

    def build(self) -> pyo.ConcreteModel:
        model = pyo.ConcreteModel(name="microgrid")
        found = add_scenario(model, self.microgrid, self.scene, self.bid_limit)
        self._convex = found.convex
        model.cost = pyo.Expression(expr=found.cost_usd)
        entries = found.committed
        if not entries and not risk_of(self.microgrid).averse:
            model.nothing = pyo.Var(bounds=(0.0, 0.0))
            entries = [model.nothing]
        model.coupling = pyo.Expression(range(len(entries)), rule=lambda _, i: entries[i])
        series = series_of(found, self.scene)
        self._labels = tuple(series)
        model.series = pyo.Expression(self._labels, self.scene.steps, rule=lambda _, label, k: series[label][k])
        add_risk(model, risk_of(self.microgrid), *self.cost_range)
        return model

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return self.microgrid.solver.met(self._convex)

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Series (T,) by "<unit>/<quantity>_<unit of measure>", the microgrid's own under MG."""
        if response.point is None:
            return {}
        values = self.value(response.point, "series").reshape(len(self._labels), self.scene.n)
        return dict(zip(self._labels, values, strict=True))


def abilities(settings: MicrogridSettings, given: frozenset[str]) -> frozenset[str]:
    """What a block of this microgrid can do: `given`, and convex or no convex program at all."""
    return given | {"convex"} if settings.convex and "kkt" in given else given - {"kkt"}


def series_of(found: Scenario, scene: Scene) -> dict[str, Series]:
    """Everything the result files show of one scenario, by "<unit>/<quantity>"."""
    zero = [0.0] * scene.n
    out: dict[str, Series] = {}
    for name, part in found.parts.items():
        out[f"{name}/energy_mw"] = part.energy_mw
        out |= {f"{name}/{service}_mw": part.service_mw[service] for service in SERVICES}
        out[f"{name}/reactive_mvar"] = part.reactive_mvar or zero
        out[f"{name}/stored_mw"] = part.stored_mw or zero
        out[f"{name}/cost_usd"] = part.cost_usd
        out |= {f"{name}/{quantity}_{unit}": series for (quantity, unit), series in part.states.items()}
    out |= {f"MG/bid_{name}": series for name, series in found.sales.bid.items()}
    out |= {f"MG/revenue_{name}": series for name, series in found.sales.revenue_usd.items()}
    out["MG/bought_back_usd"] = found.sales.bought_back_usd
    return out


def risk_of(settings: MicrogridSettings) -> Risk:
    """w E[profit] + (1 - w) CVaR_delta of profit, as a cost: beta = 1 - w, alpha = delta. Paper 2, eqs. (32)-(35)."""
    return Risk(alpha=settings.risk.delta, beta=1.0 - settings.risk.w)


def entries(settings: MicrogridSettings, steps: Sequence[str]) -> tuple[str, ...]:
    """Names of the coupling entries, without the value at risk."""
    products = coupled_products(settings)
    if not products:
        return () if risk_of(settings).averse else ("nothing",)
    return tuple(f"{product}@{step}" for product in products for step in steps)


def coupled_products(settings: MicrogridSettings) -> tuple[str, ...]:
    """The products whose bids are entries: equal in all scenarios."""
    committed = committed_products(settings.market)
    return (*committed, "reactive") if committed == SOLD and sells_reactive(settings.market) else committed


def weights(settings: MicrogridSettings, n: int, dt_h: float) -> FloatArray:
    """(n_u,) weight of each entry: dt of the bids, 1 of the value at risk."""
    names = entries(settings, [""] * n)
    hourly = np.full(len(names), dt_h if coupled_products(settings) else 1.0)
    return risk_of(settings).extended(hourly, 1.0)


def reference_prices(settings: MicrogridSettings, data: MicrogridData) -> FloatArray:
    """(n_u,) what a unit of each entry is worth to the market in expectation, for rules that need a scale."""
    products = coupled_products(settings)
    if not products:
        return np.full(len(entries(settings, ())), 1.0)
    scenes = [data.scene(name) for name in data.names]
    calls = Calls.of(settings.market.call, scenes[0].n, data.call_probability)
    by_scene = [worth_usd_per_mw(settings.market, scene, calls) for scene in scenes]
    worth = {name: np.abs(data.prob @ [worth[name] for worth in by_scene]) for name in SOLD}
    worth["reactive"] = data.reactive_usd_per_mvarh
    return np.maximum(np.concatenate([worth[name] for name in products]), LEAST_WORTH)


LEAST_WORTH = 0.1  # $/MWh, so that a product that is free today still has a scale


def bid_limits(settings: MicrogridSettings, data: MicrogridData) -> dict[str, FloatArray]:
    """(T,) by product: most that the units can offer in any scenario and the grid takes. Paper 2, eqs. (48)-(52)."""
    scenes = [data.scene(name) for name in data.names]
    most = np.max([units_mw(settings, x) for x in scenes], axis=0)
    taken = {name: scenes[0].limit_mw(settings.market, name) for name in SOLD}
    return {name: most if top is None else np.minimum(most, top) for name, top in taken.items()}


def units_mw(settings: MicrogridSettings, scene: Scene) -> FloatArray:
    """(T,) the most that all units can sell together."""
    return np.sum([unit.most_mw(scene, name) for name, unit in settings.units.items()], axis=0)


def cost_range_usd(
    settings: MicrogridSettings, data: MicrogridData, bid_limit: Mapping[str, FloatArray]
) -> tuple[float, float]:
    """Least and greatest -profit that any bids can lead to in any scenario: finite bounds of the value at risk."""
    least, greatest = np.inf, -np.inf
    for name in data.names:
        scene = data.scene(name)
        units = [unit.cost_range_usd(scene, n) for n, unit in settings.units.items()]
        most = units_mw(settings, scene)
        best, worst = revenue_range_usd(settings, scene, bid_limit, most)
        least = min(least, sum(low for low, _ in units) - best)
        greatest = max(greatest, sum(high for _, high in units) - worst)
    return float(least), float(greatest)


def revenue_range_usd(
    settings: MicrogridSettings, scene: Scene, bid_limit: Mapping[str, FloatArray], most_mw: FloatArray
) -> tuple[float, float]:
    """Most and least revenue; one MW can be energy or one of the upward services, and regulation down besides."""
    market, dt = settings.market, scene.dt_h
    worth = worth_usd_per_mw(market, scene, Calls.of(market.call, scene.n, scene.call_probability))
    bought = market.buy_mw * (scene.energy_usd_per_mwh + market.buy_fee_usd_per_mwh)
    most = {name: np.maximum(worth[name], 0.0) * bid_limit[name] for name in SOLD}
    upward = [name for name in SOLD if name != "regulation_down"]
    dearest = np.max([np.maximum(worth[name], 0.0) for name in upward], axis=0)
    up = np.minimum(np.sum([most[name] for name in upward], axis=0), dearest * most_mw)
    reactive = scene.reactive_usd_per_mvarh * market.paid_mvar
    best = float(dt * np.sum(up + most["regulation_down"] + reactive + np.maximum(-bought, 0.0)))
    worst = float(dt * np.sum([np.minimum(worth[name], 0.0) * bid_limit[name] for name in SOLD]))
    worst -= float(dt * np.sum(np.maximum(bought, 0.0)))
    committed = committed_products(market)
    if committed:
        back = prices_of_shortfall(market, scene)
        limit = {name: bid_limit[name] + (market.buy_mw if name == "energy" else 0.0) for name in committed}
        worst -= float(dt * np.sum([np.maximum(back[name] - worth[name], 0.0) * limit[name] for name in committed]))
        surplus = np.minimum(price_of_surplus(market, scene), 0.0) * limit["energy"]
        worst += float(dt * np.sum(surplus))
    return best, worst
