"""Bidding curves: what is offered at one hour when a price of that hour is another. Paper 2, Figs. 22, 23."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from decomp.errors import Mistake, TatonnementError
from decomp.messages import FloatArray, Signal, Status
from problems.microgrid.bundle import ScenarioBundle
from problems.microgrid.data import WHOLE, MicrogridData
from problems.microgrid.extensive import extensive_form
from problems.microgrid.markets import SOLD
from problems.microgrid.results import by_scenario
from problems.microgrid.settings import MicrogridSettings
from problems.time_series import TimeAxis

if TYPE_CHECKING:
    from problems.microgrid.problem import Microgrid


def of_case(microgrid: Microgrid) -> pd.DataFrame:
    """The curves of table [bidding]; each also has the hour's own price and twice that."""
    found = []
    for curve in microgrid.settings.bidding.curves:
        k = step_of(microgrid, curve.hour)
        own = expected_price(microgrid.data, curve.product, k)
        asked = sorted({*microgrid.settings.bidding.prices, own, 2.0 * own})
        found.append(bidding_curves(microgrid, [(curve.unit, curve.hour)], asked, curve.product))
    return pd.concat(found, ignore_index=True)


def bidding_curves(
    microgrid: Microgrid,
    curves: Sequence[tuple[str, float]],
    prices_usd_per_mwh: Sequence[float],
    product: str = "energy",
) -> pd.DataFrame:
    """Columns unit, hour, product, price_usd_per_mwh and the expected MW of every product, for every (unit, hour).

    product  whose price is another: of energy, or the contract price of a service ($/MW and hour)

    All scenarios are solved as one model for every price, each from the basis and the tangents of the one before; the
    prices of other hours and products stay. unit "MG" is the microgrid's bid. Raises TatonnementError where a price has
    no answer.
    """
    asked, rows = sorted(prices_usd_per_mwh), []
    for hour in dict.fromkeys(hour for _, hour in curves):
        units = [unit for unit, at in curves if at == hour]
        found = sweep(microgrid, step_of(microgrid, hour), asked, units, product)
        for unit, offered in found.items():
            for i, price in enumerate(asked):
                of_price = {f"{name}_mw": float(mw[i]) for name, mw in offered.items()}
                rows.append({"unit": unit, "hour": hour, "product": product, "price_usd_per_mwh": price, **of_price})
    return pd.DataFrame(rows, columns=["unit", "hour", "product", "price_usd_per_mwh", *(f"{p}_mw" for p in SOLD)])


def sweep(
    microgrid: Microgrid, step: int, prices_usd_per_mwh: Sequence[float], units: Sequence[str], product: str = "energy"
) -> dict[str, dict[str, FloatArray]]:
    """By unit and product (prices,): expected MW at one step."""
    before: ScenarioBundle | None = None
    found: dict[str, dict[str, list[float]]] = {unit: {name: [] for name in SOLD} for unit in units}
    for price in prices_usd_per_mwh:
        other = microgrid.with_data(at_price(microgrid, step, price, product))
        form = extensive_form(other)
        state = None if before is None else before.save()
        if state is not None:
            form.load(state)
        response = form.solve(Signal(np.zeros(form.n)))
        if response.status is not Status.OPTIMAL:
            raise TatonnementError(f"no bids at {price:g} $/MWh: {response.status.name} {response.message}")
        series = by_scenario(other, {next(iter(other.couplings[0].prob)): form.detail(response)})
        for unit in units:
            for name in SOLD:
                label = f"MG/bid_{name}" if unit == WHOLE else f"{unit}/{name}_mw"
                found[unit][name].append(float(sum(p * series[s][label][step] for s, p in form.prob.items())))
        before = form
    return {unit: {name: np.array(mw) for name, mw in offered.items()} for unit, offered in found.items()}


def at_price(microgrid: Microgrid, step: int, price_usd_per_mwh: float, product: str = "energy") -> MicrogridData:
    """The data with another price of a product at one step, which what is called is paid too where the case says so."""
    data, pays = microgrid.data, microgrid.settings.prices.called

    def changed(series: FloatArray) -> FloatArray:
        out = np.array(np.broadcast_to(series, data.energy_usd_per_mwh.shape))
        out[:, step] = price_usd_per_mwh
        return out

    called = dict(data.called_usd_per_mwh)
    if product == "energy":
        if pays == "energy":
            called = {name: changed(series) for name, series in called.items()}
        return replace(data, energy_usd_per_mwh=changed(data.energy_usd_per_mwh), called_usd_per_mwh=called)
    if pays == "contract":
        called[product] = changed(called[product])
    contract = {**data.contract_usd_per_mwh, product: changed(data.contract_usd_per_mwh[product])}
    return replace(data, contract_usd_per_mwh=contract, called_usd_per_mwh=called)


def expected_price(data: MicrogridData, product: str, step: int) -> float:
    """The price of a product at one step: of energy, or the contract price of a service."""
    if product == "energy":
        return float(data.prob @ data.energy_usd_per_mwh[:, step])
    return float(data.expected_contract(product)[step])


def step_of(microgrid: Microgrid, hour: float) -> int:
    """The step that the results call by this hour; hours beyond 24 are of the next days."""
    return int(np.flatnonzero(np.abs(microgrid.axis.hours - hour) < 1e-9)[0])


def curve_mistakes(settings: MicrogridSettings, axis: TimeAxis) -> list[Mistake]:
    """Curves in table [bidding] of units or hours that there are not."""
    known, hours, wrong = [WHOLE, *settings.units], axis.hours, []
    for i, curve in enumerate(settings.bidding.curves):
        place = f"bidding.curves[{i}]"
        if curve.unit not in known:
            wrong.append(Mistake("", place, "unit", f"no unit '{curve.unit}'", f"one of {', '.join(known)}"))
        if not np.any(np.abs(hours - curve.hour) < 1e-9):
            remedy = f"the hours are {hours[0]:g} to {hours[-1]:g}"
            wrong.append(Mistake("", place, "hour", f"no step is called hour {curve.hour:g}", remedy))
    return wrong
