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
from problems.microgrid.data import SERVICES, MicrogridData, Scene
from problems.microgrid.markets import SOLD, Sales, add_markets, prices_of_shortfall, sells_reactive
from problems.microgrid.settings import MicrogridSettings
from problems.microgrid.unit import AlgebraicTerm, Contribution, Series, Setting
from problems.risk import Risk, add_risk


@dataclass(frozen=True, eq=False)
class Scenario:
    """What `add_scenario` has added: the units' parts and the sales, and -profit in $."""

    parts: Mapping[str, Contribution]
    sales: Sales
    cost_usd: Any

    @property
    def convex(self) -> list[AlgebraicTerm]:
        return [term for part in self.parts.values() for term in part.convex]

    @property
    def committed(self) -> list[Any]:
        """The bids product by product and step by step, in the order of `entries`."""
        bid = self.sales.bid
        return [x for name, series in bid.items() for x in series if name in SOLD or not _all_numbers(series)]


def add_scenario(
    b: pyo.Block, settings: MicrogridSettings, scene: Scene, bid_limit: Mapping[str, FloatArray]
) -> Scenario:
    """Add units and markets of one scenario to the block b. Paper 2, eqs. (1)-(18), (26)-(31), (36)-(59)."""
    setting = Setting(settings.market.call, settings.market.reactive_cost, stores=settings.takes_power)
    b.unit = pyo.Block()
    parts = {}
    for name, unit in settings.units.items():
        block = pyo.Block()
        b.unit.add_component(name, block)
        parts[name] = unit.add(block, scene, setting, name)
    sales = add_markets(b, settings.market, scene, list(parts.values()), bid_limit)
    spent = sum(x for part in parts.values() for x in part.cost_usd) + sum(sales.bought_back_usd)
    earned = sum(x for series in sales.revenue_usd.values() for x in series)
    return Scenario(parts, sales, spent - earned)  # (25)


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

    def build(self) -> pyo.ConcreteModel:
        model = pyo.ConcreteModel(name="microgrid")
        found = add_scenario(model, self.microgrid, self.scene, self.bid_limit)
        self._convex = found.convex
        model.cost = pyo.Expression(expr=found.cost_usd)
        entries = found.committed if self.microgrid.market.stage == "committed" else []
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
        return self._convex

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Series (T,) by "<unit>/<quantity>_<unit of measure>", the microgrid's own under MG."""
        if response.point is None:
            return {}
        values = self.value(response.point, "series").reshape(len(self._labels), self.scene.n)
        return dict(zip(self._labels, values, strict=True))


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
    if settings.market.stage == "per_scenario":
        return () if risk_of(settings).averse else ("nothing",)
    products = [*SOLD, *(["reactive"] if sells_reactive(settings.market) else [])]
    return tuple(f"{product}@{step}" for product in products for step in steps)


def weights(settings: MicrogridSettings, n: int, dt_h: float) -> FloatArray:
    """(n_u,) weight of each entry: dt of the bids, 1 of the value at risk."""
    names = entries(settings, [""] * n)
    hourly = np.full(len(names), dt_h if settings.market.stage == "committed" else 1.0)
    return risk_of(settings).extended(hourly, 1.0)


def reference_prices(settings: MicrogridSettings, data: MicrogridData) -> FloatArray:
    """(n_u,) what a unit of each entry is worth to the market in expectation, for rules that need a scale."""
    if settings.market.stage == "per_scenario":
        return np.full(len(entries(settings, ())), 1.0)
    worth = {"energy": np.abs(data.prob @ data.energy_usd_per_mwh), "reactive": data.reactive_usd_per_mvarh}
    for name in SERVICES:
        called = data.prob @ data.called_usd_per_mwh[name]
        worth[name] = np.abs(data.contract_usd_per_mwh[name] + getattr(settings.market.call, name) * called)
    products = [*SOLD, *(["reactive"] if sells_reactive(settings.market) else [])]
    return np.maximum(np.concatenate([worth[name] for name in products]), LEAST_WORTH)


LEAST_WORTH = 0.1  # $/MWh, so that a product that is free today still has a scale


def bid_limits(settings: MicrogridSettings, data: MicrogridData) -> dict[str, FloatArray]:
    """(T,) by product: most that the units can offer in any scenario and the grid takes. Paper 2, eqs. (48)-(52)."""
    scenes = [data.scene(name) for name in data.names]
    most = np.max([units_mw(settings, x) for x in scenes], axis=0)
    limit = settings.market.limit
    taken = {name: getattr(limit, f"{name}_mw") for name in SOLD}
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
        best, worst = _revenue_range(settings, scene, bid_limit, most)
        least = min(least, sum(low for low, _ in units) - best)
        greatest = max(greatest, sum(high for _, high in units) - worst)
    return float(least), float(greatest)


def _revenue_range(
    settings: MicrogridSettings, scene: Scene, bid_limit: Mapping[str, FloatArray], most_mw: FloatArray
) -> tuple[float, float]:
    """Most and least revenue; one MW can be energy or one of the upward services, and regulation down besides."""
    market, dt = settings.market, scene.dt_h
    worth = {
        name: scene.contract_usd_per_mwh[name] + getattr(market.call, name) * scene.called_usd_per_mwh[name]
        for name in SERVICES
    } | {"energy": scene.energy_usd_per_mwh}
    most = {name: np.maximum(worth[name], 0.0) * bid_limit[name] for name in SOLD}
    upward = [name for name in SOLD if name != "regulation_down"]
    dearest = np.max([np.maximum(worth[name], 0.0) for name in upward], axis=0)
    up = np.minimum(np.sum([most[name] for name in upward], axis=0), dearest * most_mw)
    best = float(dt * np.sum(up + most["regulation_down"] + scene.reactive_usd_per_mvarh * market.paid_mvar))
    worst = float(dt * np.sum([np.minimum(worth[name], 0.0) * bid_limit[name] for name in SOLD]))
    if market.stage == "committed":
        back = prices_of_shortfall(market, scene)
        worst -= float(dt * np.sum([np.maximum(back[name] - worth[name], 0.0) * bid_limit[name] for name in SOLD]))
    return best, worst


def _all_numbers(series: Series) -> bool:
    return all(isinstance(x, int | float) for x in series)
