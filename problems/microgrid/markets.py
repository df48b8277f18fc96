"""What the microgrid sells and buys, and for how much: bids, contracts, calls and limits.

Paper 2, eqs. (1)-(2), (26)-(29), (48)-(53).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.microgrid.calls import Calls
from problems.microgrid.data import PRODUCTS, SERVICES, UNIT_OF, Scene
from problems.microgrid.settings import MarketSettings
from problems.microgrid.unit import Contribution, Series

SOLD = tuple(name for name in PRODUCTS if name != "reactive")


@dataclass(frozen=True, eq=False)
class Sales:
    """Bids by product (T,), revenue by product in $ of each step (T,), and what deviations from the bids cost (T,)."""

    bid: Mapping[str, Series]
    revenue_usd: Mapping[str, Series]
    bought_back_usd: Series


def committed_products(market: MarketSettings) -> tuple[str, ...]:
    """The products whose bids are equal in all scenarios."""
    return {"committed": SOLD, "energy_committed": ("energy",), "per_scenario": ()}[market.stage]


def worth_usd_per_mw(market: MarketSettings, scene: Scene, calls: Calls) -> dict[str, FloatArray]:
    """(T,) what a MW sold for an hour earns in expectation, by product. Paper 2, eqs. (27), (29).

    Energy called down is paid as printed, or bought back: then it costs its price.
    """
    worth = {"energy": scene.energy_usd_per_mwh}
    for name in SERVICES:
        sign = -1.0 if name == "regulation_down" and market.called_down == "bought_back" else 1.0
        worth[name] = scene.contract_usd_per_mwh[name] + sign * calls[name] * scene.called_usd_per_mwh[name]
    return worth


def prices_of_shortfall(market: MarketSettings, scene: Scene) -> dict[str, FloatArray]:
    """(T,) $/MWh at which what was bid and is not there is bought back, by product; never below 0."""
    energy = np.maximum(scene.energy_usd_per_mwh, 0.0)
    contract = scene.contract_usd_per_mwh
    own = {"energy": energy, **{name: energy + contract[name] for name in SERVICES}}
    return {name: market.shortfall_factor * price for name, price in own.items()}


def price_of_surplus(market: MarketSettings, scene: Scene) -> FloatArray:
    """(T,) $/MWh paid for energy beyond the bid: surplus_factor e of a price e >= 0, (2 - surplus_factor) e below 0."""
    energy = scene.energy_usd_per_mwh
    return np.asarray(energy - (1.0 - market.surplus_factor) * np.abs(energy))


def add_markets(
    b: pyo.Block,
    market: MarketSettings,
    scene: Scene,
    parts: Sequence[Contribution],
    bid_limit: Mapping[str, FloatArray],
    calls: Calls,
) -> Sales:
    """Add bids, their balance with what the units offer, limits, purchases and the power within the microgrid.

        sum_n P_n - bought = bid                          energy and services that are bid by scenario
        sum_n P_n - bought + short = bid + surplus        energy committed before the scenario is known
        sum_n P_n + short = bid, short >= 0               services committed
        sum_n P_n <= limit                                paper 2, eqs. (48)-(52)

    bid_limit  (T,) most of each product that all units can offer and the grid takes
    """
    steps, dt = scene.steps, scene.dt_h
    committed = committed_products(market)
    found = {name: scene.limit_mw(market, name) for name in SOLD}
    tightest = {name: limit for name, limit in found.items() if limit is not None}

    def limits(_: pyo.Block, name: str, k: int) -> tuple[float, float]:
        return (-market.buy_mw if name == "energy" else 0.0, float(bid_limit[name][k]))

    b.bid_mw = pyo.Var(SOLD, steps, bounds=limits)
    bid: dict[str, Series] = {name: [b.bid_mw[name, k] for k in steps] for name in SOLD}
    b.bought_mw = pyo.Var(steps if market.buy_mw > 0 else (), bounds=(0.0, market.buy_mw))
    bought: Series = [b.bought_mw[k] if market.buy_mw > 0 else 0.0 for k in steps]
    deviation = _add_deviations(b, market, scene, committed, bid_limit)

    def offered(name: str, k: int) -> Any:
        return sum(part.energy_mw[k] if name == "energy" else part.service_mw[name][k] for part in parts)

    @b.Constraint(SOLD, steps)
    def offered_is_bid(b: pyo.Block, name: str, k: int) -> object:  # (27), (29)
        short = b.short_mw[name, k] if name in committed else 0.0
        surplus = b.surplus_mw[k] if name == "energy" and "energy" in committed else 0.0
        return offered(name, k) - (bought[k] if name == "energy" else 0.0) + short == bid[name][k] + surplus

    @b.Constraint(list(tightest), steps)
    def grid_limit(b: pyo.Block, name: str, k: int) -> object:  # (48)-(52)
        given, limit = offered(name, k), float(tightest[name][k])
        if isinstance(given, int | float):
            return pyo.Constraint.Feasible if given <= limit else pyo.Constraint.Infeasible
        return given <= limit

    @b.Constraint(steps)
    def stored_power(b: pyo.Block, k: int) -> object:
        given = sum(part.stored_mw[k] for part in parts if part.stored_mw is not None)
        drawn = sum(part.drawn_mw[k] for part in parts if part.drawn_mw is not None)
        both = given + bought[k] - drawn
        return pyo.Constraint.Skip if isinstance(both, int | float) else both == 0.0

    bid["reactive"] = _add_reactive(b, market, scene, parts)
    worth = worth_usd_per_mw(market, scene, calls)
    revenue: dict[str, Series] = {name: [dt * float(worth[name][k]) * bid[name][k] for k in steps] for name in SOLD}
    fee = dt * market.buy_fee_usd_per_mwh
    revenue["energy"] = [x - fee * bought[k] for k, x in enumerate(revenue["energy"])]
    revenue["reactive"] = [dt * float(scene.reactive_usd_per_mvarh[k]) * bid["reactive"][k] for k in steps]  # (28)
    return Sales(bid, revenue, deviation)


def _add_deviations(
    b: pyo.Block,
    market: MarketSettings,
    scene: Scene,
    committed: Sequence[str],
    bid_limit: Mapping[str, FloatArray],
) -> list[Any]:
    """Shortfall of committed products and surplus energy; returns what they cost in $ of each step."""
    steps, dt = scene.steps, scene.dt_h
    if not committed:
        return [0.0] * scene.n
    most = {name: bid_limit[name] + (market.buy_mw if name == "energy" else 0.0) for name in SOLD}
    b.short_mw = pyo.Var(committed, steps, bounds=lambda _, name, k: (0.0, float(most[name][k])))
    price = prices_of_shortfall(market, scene)
    cost = [dt * sum(float(price[name][k]) * b.short_mw[name, k] for name in committed) for k in steps]
    if "energy" in committed:
        b.surplus_mw = pyo.Var(steps, bounds=lambda _, k: (0.0, float(most["energy"][k])))
        paid = price_of_surplus(market, scene)
        cost = [x - dt * float(paid[k]) * b.surplus_mw[k] for k, x in enumerate(cost)]
    return cost


def _add_reactive(b: pyo.Block, market: MarketSettings, scene: Scene, parts: Sequence[Contribution]) -> Series:
    """Reactive power that is paid for: the contract, or more where the market takes more. Paper 2, eq. (53)."""
    steps, required = scene.steps, scene.reactive_required_mvar
    paid: list[Any] = [float(q) for q in required]
    if sells_reactive(market):
        b.bid_reactive_mvar = pyo.Var(steps, bounds=lambda _, k: (float(required[k]), market.paid_mvar))
        paid = [b.bid_reactive_mvar[k] for k in steps]

    @b.Constraint(steps)
    def reactive_contract(b: pyo.Block, k: int) -> object:
        given = sum(part.reactive_mvar[k] for part in parts if part.reactive_mvar is not None)
        return pyo.Constraint.Feasible if isinstance(given, int | float) and given >= paid[k] else given >= paid[k]

    return paid


def sells_reactive(market: MarketSettings) -> bool:
    """Reactive power is bid; else the contract says how much it is."""
    return market.paid_mvar > market.reactive_required_mvar


def column(product: str) -> str:
    """energy_mw, regulation_up_mw, .., reactive_mvar: the product's name in the result files."""
    return f"{product}_{UNIT_OF[product]}"
