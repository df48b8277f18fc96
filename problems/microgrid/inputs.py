"""The inputs of a microgrid from its case file: prices by step, weather by scenario and step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.market.data import Collector
from problems.microgrid.data import MicrogridData
from problems.microgrid.input_settings import MARKETS, PriceSettings, ScenarioSettings, SeriesSettings
from problems.scenarios.distributions import Marginals, beta_irradiance, weibull_wind
from problems.scenarios.from_csv import read_scenarios
from problems.scenarios.power_curves import pv_power_kw, wind_power_kw
from problems.scenarios.reduction import Reduction, fast_forward, k_medoids
from problems.scenarios.sampling import SampleSettings, sample
from problems.scenarios.scenario_set import Place, ScenarioSet
from problems.time_series import SeriesColumn, TimeAxis, TimeSettings, read_series

if TYPE_CHECKING:
    from problems.microgrid.settings import MicrogridSettings

WIND, IRRADIANCE = "wind_speed_ms", "irradiance_wm2"


@dataclass(frozen=True, eq=False)
class Prices:
    """energy (T,) in $/MWh; contract and called (T,) by market in $/MW and hour."""

    energy: FloatArray
    contract: Mapping[str, FloatArray]
    called: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Weather:
    """Scenarios of wind_speed_ms and irradiance_wm2 (S, T), the forecast (T,) of each, and what the reduction lost."""

    scenarios: ScenarioSet
    forecast: Mapping[str, FloatArray]
    reduction: Reduction | None


def read_prices(axis: TimeAxis, settings: PriceSettings, folder: Path) -> Prices:
    """The series of one letter. Raises InputError with the mistakes of every column."""
    found = Collector()

    def column(name: str, unit: str, *, signed: bool) -> FloatArray:
        series = SeriesColumn(file=settings.file, column=f"{name}_{settings.series}_{unit}")
        values = found.of(read_series, axis, series, folder, "prices", signed=signed)
        return np.zeros(axis.settings.steps) if values is None else values

    energy = column("energy", "usd_per_mwh", signed=True)
    contract = {market: column(market, "usd_per_mw", signed=False) for market in MARKETS}
    if found.mistakes:
        raise InputError(list(dict.fromkeys(found.mistakes)))
    called = dict.fromkeys(MARKETS, energy) if settings.called == "energy" else contract
    return Prices(energy, contract, called)


def read_weather(axis: TimeAxis, series: SeriesSettings, settings: ScenarioSettings, folder: Path) -> Weather:
    """The forecast and its scenarios. Raises InputError with every mistake of both series and of the scenarios.

    Wind is Weibull and irradiance Beta at each step, paper 2, eqs. (19)-(23).
    """
    found = Collector()
    start = axis.settings.start if series.start is None else series.start
    day = TimeAxis(axis.settings.model_copy(update={"start": start}))
    wind = found.of(read_series, day, series.wind_speed, folder, "series.wind_speed")
    irradiance = found.of(read_series, day, series.irradiance, folder, "series.irradiance")
    given = None
    if settings.file is not None:
        given = found.of(read_scenarios, axis, settings.file, folder, (WIND, IRRADIANCE))
    laws: dict[str, Marginals | None] = {}
    if settings.file is None and wind is not None:
        spread = None if settings.wind_std_share is None else settings.wind_std_share * wind
        laws[WIND] = found.of(weibull_wind, wind, spread, place=Place("", "scenarios.wind_std_share"))
    if settings.file is None and irradiance is not None:
        laws[IRRADIANCE] = found.of(
            beta_irradiance,
            irradiance,
            (settings.irradiance_std_share or 0.0) * irradiance,
            r_max_wm2=settings.irradiance_max_wm2 or 0.0,
            place=Place("", "scenarios.irradiance_std_share"),
        )
    if found.mistakes:
        raise InputError(found.mistakes)
    assert wind is not None
    assert irradiance is not None
    forecast = {WIND: wind, IRRADIANCE: irradiance}
    if given is not None:
        return Weather(given, forecast, None)
    return drawn(axis, forecast, {name: law for name, law in laws.items() if law is not None}, settings)


def drawn(
    axis: TimeAxis, forecast: Mapping[str, FloatArray], laws: Mapping[str, Marginals], settings: ScenarioSettings
) -> Weather:
    """`count` of `sample` correlated draws. Raises InputError: settings that no sample can have."""
    assert settings.seed is not None
    large = sample(
        laws,
        SampleSettings(
            count=settings.sample,
            seed=settings.seed,
            autocorrelation={
                WIND: settings.wind_autocorrelation or 0.0,
                IRRADIANCE: settings.irradiance_autocorrelation or 0.0,
            },
            correlation={(WIND, IRRADIANCE): settings.wind_irradiance_correlation or 0.0},
            dt_h=axis.dt_h,
            method=settings.method,
        ),
    )
    if settings.count == settings.sample:
        return Weather(large, forecast, None)
    reduce = fast_forward if settings.reduction == "fast_forward" else k_medoids
    reduction = reduce(large, settings.count)
    return Weather(reduction.scenarios, forecast, reduction)


def inspect(tables: Mapping[str, Any], folder: Path) -> list[Mistake]:
    """What is wrong in the data, as far as the tables that name them are right themselves."""
    found = Collector()
    time = table_of(tables, "time", TimeSettings)
    if time is None:
        return found.mistakes
    axis = TimeAxis(time)
    prices, series = table_of(tables, "prices", PriceSettings), table_of(tables, "series", SeriesSettings)
    if prices is not None:
        found.of(read_prices, axis, prices, folder)
    scenarios = table_of(tables, "scenarios", ScenarioSettings)
    if series is not None and scenarios is not None:
        found.of(read_weather, axis, series, scenarios, folder)
    return found.mistakes


def table_of(tables: Mapping[str, Any], name: str, kind: type[BaseModel]) -> Any:
    """One table of the case file on its own, or None where it is missing or wrong."""
    try:
        return TypeAdapter(kind).validate_python(tables[name])
    except (KeyError, ValidationError):
        return None


def read_inputs(settings: MicrogridSettings, axis: TimeAxis, folder: Path) -> MicrogridData:
    """Prices, weather and the power it makes available. Raises InputError with the mistakes of all files.

    Power by paper 2, eqs. (22) and (24).
    """
    found = Collector()
    prices = found.of(read_prices, axis, settings.prices, folder)
    weather = found.of(read_weather, axis, settings.series, settings.scenarios, folder)
    loads = {
        name: found.of(read_series, axis, load.consumption, folder, f"load.{name}.consumption")
        for name, load in settings.load.items()
    }
    if prices is None or weather is None or found.mistakes:
        raise InputError(found.mistakes)
    scenarios = weather.scenarios
    wind, irradiance = scenarios.series[WIND], scenarios.series[IRRADIANCE]
    available = {
        name: pv_power_kw(irradiance, unit.p_max_mw, unit.irradiance_std_wm2) for name, unit in settings.solar.items()
    } | {
        name: wind_power_kw(
            wind, unit.p_max_mw, cut_in_ms=unit.cut_in_ms, rated_ms=unit.rated_ms, cut_out_ms=unit.cut_out_ms
        )
        for name, unit in settings.wind.items()
    }
    shape = wind.shape
    return MicrogridData(
        axis=axis,
        names=scenarios.names,
        prob=scenarios.prob,
        energy_usd_per_mwh=np.broadcast_to(prices.energy, shape),
        contract_usd_per_mwh=prices.contract,
        called_usd_per_mwh={name: np.broadcast_to(price, shape) for name, price in prices.called.items()},
        reactive_usd_per_mvarh=np.full(shape[1], settings.market.reactive_usd_per_mvarh),
        reactive_required_mvar=np.full(shape[1], settings.market.reactive_required_mvar),
        wind_speed_ms=wind,
        irradiance_wm2=irradiance,
        wind_forecast_ms=weather.forecast[WIND],
        irradiance_forecast_wm2=weather.forecast[IRRADIANCE],
        available_mw=available,
        sample=None if weather.reduction is None else weather.reduction.before,
        load_mw={name: load for name, load in loads.items() if load is not None},
    )
