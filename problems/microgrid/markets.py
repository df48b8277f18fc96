"""What the microgrid sells and for how much: bids, contracts, calls and limits.

Paper 2, eqs. (1)-(2), (26)-(29), (48)-(53).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.microgrid.data import PRODUCTS, SERVICES, UNIT_OF, Scene
from problems.microgrid.settings import MarketSettings
from problems.microgrid.unit import Contribution, Series

SOLD = tuple(name for name in PRODUCTS if name != "reactive")


@dataclass(frozen=True, eq=False)
class Sales:
    """Bids by product (T,), revenue by kind in $ of each step (T,), and what buying back costs (T,)."""

    bid: Mapping[str, Series]
    revenue_usd: Mapping[str, Series]
    bought_back_usd: Series


def prices_of_shortfall(market: MarketSettings, scene: Scene) -> dict[str, FloatArray]:
    """(T,) $/MWh at which what was bid and is not there is bought back, by product; never below 0."""
    energy = np.maximum(scene.energy_usd_per_mwh, 0.0)
    contract = scene.contract_usd_per_mwh
    own = {"energy": energy, **{name: energy + contract[name] for name in SERVICES}}
    return {name: market.shortfall_factor * price for name, price in own.items()}


def add_markets(
    b: pyo.Block,
    market: MarketSettings,
    scene: Scene,
    parts: Sequence[Contribution],
    bid_limit: Mapping[str, FloatArray],
) -> Sales:
    """Add bids, what stands behind them, and the balance of stored power; returns bids, revenue and its costs.

    bid_limit  (T,) greatest bid by product
    """
    steps, dt = scene.steps, scene.dt_h
    b.bid_mw = pyo.Var(SOLD, steps, bounds=lambda _, name, k: (0.0, float(bid_limit[name][k])))  # (48)-(52)
    bid: dict[str, Series] = {name: [b.bid_mw[name, k] for k in steps] for name in SOLD}
    bought_back: list[Any] = [0.0] * scene.n
    if market.stage == "committed":
        b.short_mw = pyo.Var(SOLD, steps, bounds=lambda _, name, k: (0.0, float(bid_limit[name][k])))
        price = prices_of_shortfall(market, scene)
        bought_back = [dt * sum(float(price[name][k]) * b.short_mw[name, k] for name in SOLD) for k in steps]

    def offered(name: str, k: int) -> Any:
        return sum(part.energy_mw[k] if name == "energy" else part.service_mw[name][k] for part in parts)

    @b.Constraint(SOLD, steps)
    def stands_behind_the_bid(b: pyo.Block, name: str, k: int) -> object:
        short = b.short_mw[name, k] if market.stage == "committed" else 0.0
        return offered(name, k) + short >= bid[name][k]

    @b.Constraint(steps)
    def stored_power(b: pyo.Block, k: int) -> object:
        given = sum(part.stored_mw[k] for part in parts if part.stored_mw is not None)
        drawn = sum(part.drawn_mw[k] for part in parts if part.drawn_mw is not None)
        both = given - drawn
        return pyo.Constraint.Skip if isinstance(both, int | float) else both == 0.0

    bid["reactive"] = _add_reactive(b, market, scene, parts)
    energy, contract, called = scene.energy_usd_per_mwh, scene.contract_usd_per_mwh, scene.called_usd_per_mwh
    revenue: dict[str, Series] = {"energy": [dt * float(energy[k]) * bid["energy"][k] for k in steps]}  # (27)
    for name in SERVICES:  # (29): the contract, and the energy when called
        worth = contract[name] + getattr(market.call, name) * called[name]
        revenue[name] = [dt * float(worth[k]) * bid[name][k] for k in steps]
    revenue["reactive"] = [dt * float(scene.reactive_usd_per_mvarh[k]) * bid["reactive"][k] for k in steps]  # (28)
    return Sales(bid, revenue, bought_back)


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
