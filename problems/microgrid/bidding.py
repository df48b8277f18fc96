"""Bidding curves: what is offered at one hour when the energy price of that hour is another. Paper 2, Figs. 22, 23."""

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
from problems.microgrid.results import by_scenario
from problems.microgrid.settings import MicrogridSettings
from problems.time_series import TimeAxis

if TYPE_CHECKING:
    from problems.microgrid.problem import Microgrid


def bidding_curves(
    microgrid: Microgrid, curves: Sequence[tuple[str, float]], prices_usd_per_mwh: Sequence[float]
) -> pd.DataFrame:
    """Columns unit, hour, price_usd_per_mwh, energy_mw: expected energy at every price, for every (unit, hour).

    All scenarios are solved as one model for every price, each from the basis and the tangents of the one before; the
    prices of other hours stay. unit "MG" is the microgrid's bid. Raises TatonnementError where a price has no answer.
    """
    hours = list(dict.fromkeys(hour for _, hour in curves))
    rows = []
    for hour in hours:
        units = [unit for unit, at in curves if at == hour]
        found = sweep(microgrid, step_of(microgrid, hour), sorted(prices_usd_per_mwh), units)
        for unit, energy in found.items():
            for price, power in zip(sorted(prices_usd_per_mwh), energy, strict=True):
                row = {"unit": unit, "hour": hour, "price_usd_per_mwh": float(price), "energy_mw": float(power)}
                rows.append(row)
    return pd.DataFrame(rows, columns=["unit", "hour", "price_usd_per_mwh", "energy_mw"])


def sweep(
    microgrid: Microgrid, step: int, prices_usd_per_mwh: Sequence[float], units: Sequence[str]
) -> dict[str, FloatArray]:
    """(prices,) expected energy in MW of each unit at one step."""
    before: ScenarioBundle | None = None
    found: dict[str, list[float]] = {unit: [] for unit in units}
    for price in prices_usd_per_mwh:
        other = microgrid.with_data(at_price(microgrid, step, price))
        form = extensive_form(other)
        state = None if before is None else before.save()
        if state is not None:
            form.load(state)
        response = form.solve(Signal(np.zeros(form.n)))
        if response.status is not Status.OPTIMAL:
            raise TatonnementError(f"no bids at {price:g} $/MWh: {response.status.name} {response.message}")
        series = by_scenario(other, {next(iter(other.couplings[0].prob)): form.detail(response)})
        for unit in units:
            label = "MG/bid_energy" if unit == WHOLE else f"{unit}/energy_mw"
            found[unit].append(float(sum(p * series[s][label][step] for s, p in form.prob.items())))
        before = form
    return {unit: np.array(values) for unit, values in found.items()}


def at_price(microgrid: Microgrid, step: int, price_usd_per_mwh: float) -> MicrogridData:
    """The data with another energy price at one step, which what is called is paid too where the case says so."""
    data = microgrid.data

    def changed(series: FloatArray) -> FloatArray:
        out = np.array(series)
        out[:, step] = price_usd_per_mwh
        return out

    called = data.called_usd_per_mwh
    if microgrid.settings.prices.called == "energy":
        called = {name: changed(series) for name, series in called.items()}
    return replace(data, energy_usd_per_mwh=changed(data.energy_usd_per_mwh), called_usd_per_mwh=called)


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
