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
from problems.microgrid.calls import CallSettings
from problems.microgrid.data import MicrogridData
from problems.microgrid.input_settings import MARKETS, PriceSettings, ScenarioSettings, SeriesSettings
from problems.microgrid.price_file import Prices, read_prices
from problems.scenarios.distributions import Marginals, beta_irradiance, lognormal, normal, weibull_wind
from problems.scenarios.from_csv import read_scenarios
from problems.scenarios.moment_matching import with_moments
from problems.scenarios.power_curves import pv_power_kw, wind_power_kw
from problems.scenarios.reduction import fast_forward, k_medoids
from problems.scenarios.sampling import SampleSettings, sample
from problems.scenarios.scenario_set import Moments, Place, ScenarioSet
from problems.time_series import TimeAxis, TimeSettings, read_series

if TYPE_CHECKING:
    from problems.microgrid.settings import MicrogridSettings, UnitTables

WIND, IRRADIANCE = "wind_speed_ms", "irradiance_wm2"
ENERGY, SERVICES_FACTOR = "energy_usd_per_mwh", "services_price_factor"
OF_SCENARIO = (
    ENERGY,
    *(f"{name}_usd_per_mw" for name in MARKETS),
    *(f"{name}_called_usd_per_mwh" for name in MARKETS),
)  # columns that a file of scenarios may have


@dataclass(frozen=True, eq=False)
class Weather:
    """Scenarios of wind_speed_ms and irradiance_wm2 (S, T), of prices where they differ, and the forecast (T,).

    drawn  the scenarios are a large sample, of which few are to be kept
    """

    scenarios: ScenarioSet
    forecast: Mapping[str, FloatArray]
    drawn: bool


@dataclass(frozen=True, eq=False)
class Kept:
    """Scenarios that stand for all: the power by unit (S, T), and the moments of the sample they were taken from."""

    scenarios: ScenarioSet
    power: Mapping[str, FloatArray]
    sample: Moments | None = None


def read_weather(
    axis: TimeAxis, series: SeriesSettings, settings: ScenarioSettings, folder: Path, prices: Prices | None = None
) -> Weather:
    """The forecast and its scenarios. Raises InputError with every mistake of both series and of the scenarios.

    Wind is Weibull and irradiance Beta at each step, paper 2, eqs. (19)-(23); prices are drawn around `prices`.
    """
    found = Collector()
    start = axis.settings.start if series.start is None else series.start
    day = TimeAxis(axis.settings.model_copy(update={"start": start}))
    wind = found.of(read_series, day, series.wind_speed, folder, "series.wind_speed")
    irradiance = found.of(read_series, day, series.irradiance, folder, "series.irradiance")
    given = None
    if settings.file is not None:
        signed = [name for name in OF_SCENARIO if name.endswith("_usd_per_mwh")]
        given = found.of(
            read_scenarios, axis, settings.file, folder, (WIND, IRRADIANCE), signed=signed, optional=OF_SCENARIO
        )
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
    if settings.file is None and settings.prices is not None and prices is not None:
        share, energy = settings.prices, prices.energy
        laws[ENERGY] = normal(energy, share.energy_std_share * np.abs(energy))
        laws[SERVICES_FACTOR] = lognormal(np.ones(len(energy)), np.full(len(energy), share.services_std_share))
    if found.mistakes:
        raise InputError(found.mistakes)
    assert wind is not None
    assert irradiance is not None
    forecast = {WIND: wind, IRRADIANCE: irradiance}
    if given is not None:
        return Weather(given, forecast, drawn=False)
    known = {name: law for name, law in laws.items() if law is not None}
    return Weather(large_sample(axis, known, settings), forecast, drawn=True)


def large_sample(axis: TimeAxis, laws: Mapping[str, Marginals], settings: ScenarioSettings) -> ScenarioSet:
    """`sample` correlated draws. Raises InputError: settings that no sample can have."""
    assert settings.seed is not None
    again = {WIND: settings.wind_autocorrelation or 0.0, IRRADIANCE: settings.irradiance_autocorrelation or 0.0}
    together = {(WIND, IRRADIANCE): settings.wind_irradiance_correlation or 0.0}
    of = settings.prices
    if of is not None and ENERGY in laws:
        again |= {ENERGY: of.autocorrelation, SERVICES_FACTOR: of.autocorrelation}
        together |= {
            (ENERGY, SERVICES_FACTOR): of.services_correlation,
            (ENERGY, WIND): of.wind_correlation,
            (ENERGY, IRRADIANCE): of.irradiance_correlation,
        }
    return sample(
        laws,
        SampleSettings(
            count=settings.sample, seed=settings.seed, autocorrelation=again, correlation=together, dt_h=axis.dt_h,
            method=settings.method,
        ),
    )  # fmt: skip


def available_mw(units: UnitTables, wind: FloatArray, irradiance: FloatArray) -> dict[str, FloatArray]:
    """By wind or solar unit: what it could generate in this weather, any shape. Paper 2, eqs. (22) and (24)."""
    return {
        name: pv_power_kw(irradiance, unit.p_max_mw, unit.irradiance_std_wm2) for name, unit in units.solar.items()
    } | {
        name: wind_power_kw(
            wind, unit.p_max_mw, cut_in_ms=unit.cut_in_ms, rated_ms=unit.rated_ms, cut_out_ms=unit.cut_out_ms
        )
        for name, unit in units.wind.items()
    }


def few(weather: Weather, units: UnitTables, settings: ScenarioSettings, energy: FloatArray) -> Kept:
    """`count` of the draws, by the distance and with the moments that the case asks for; given ones as they are.

    energy (T,): the price by which power is valued where no other is drawn.
    """
    large = weather.scenarios
    power = available_mw(units, large.series[WIND], large.series[IRRADIANCE])
    if not weather.drawn:
        return Kept(large, power)
    prices = {name: large.series[name] for name in (ENERGY, SERVICES_FACTOR) if name in large.series}
    told = {**large.series, **{f"available_{name}_mw": mw for name, mw in power.items()}}
    before = ScenarioSet(large.names, large.prob, told).moments()
    if settings.count == settings.sample:
        return Kept(large, power, before)
    measured, scale = large, None
    if settings.distance != "weather" and power:
        worth = np.abs(prices.get(ENERGY, energy)) if settings.distance == "value" else 1.0
        measured = ScenarioSet(large.names, large.prob, {name: mw * worth for name, mw in power.items()})
        scale = dict.fromkeys(power, 1.0)  # MW with MW, $ with $
    reduction = (fast_forward if settings.reduction == "fast_forward" else k_medoids)(measured, settings.count, scale)
    rows, prob = reduction.kept, reduction.scenarios.prob
    kept = {name: values[rows] for name, values in large.series.items()}
    mw = {name: values[rows] for name, values in power.items()}
    if settings.moments == "kept":

        def matched(name: str, values: FloatArray, every: FloatArray) -> FloatArray:
            mean, std = before.mean[name], before.std[name]
            return with_moments(values, prob, mean, std, float(every.min()), float(every.max()))

        mw = {name: matched(f"available_{name}_mw", values, power[name]) for name, values in mw.items()}
        kept |= {name: matched(name, kept[name], every) for name, every in prices.items()}
    return Kept(ScenarioSet(reduction.scenarios.names, prob, kept), mw, before)


def inspect(tables: Mapping[str, Any], folder: Path) -> list[Mistake]:
    """What is wrong in the data, as far as the tables that name them are right themselves."""
    found = Collector()
    time = table_of(tables, "time", TimeSettings)
    if time is None:
        return found.mistakes
    axis = TimeAxis(time)
    prices, series = table_of(tables, "prices", PriceSettings), table_of(tables, "series", SeriesSettings)
    read = None if prices is None else found.of(read_prices, axis, prices, folder)
    scenarios = table_of(tables, "scenarios", ScenarioSettings)
    if series is not None and scenarios is not None:
        found.of(read_weather, axis, series, scenarios, folder, read)
    return found.mistakes


def table_of(tables: Mapping[str, Any], name: str, kind: type[BaseModel]) -> Any:
    """One table of the case file on its own, or None where it is missing or wrong."""
    try:
        return TypeAdapter(kind).validate_python(tables[name])
    except (KeyError, ValidationError):
        return None


def read_inputs(settings: MicrogridSettings, axis: TimeAxis, folder: Path) -> MicrogridData:
    """Prices, weather and the power it makes available. Raises InputError with the mistakes of all files."""
    found = Collector()
    prices = found.of(read_prices, axis, settings.prices, folder)
    weather = found.of(read_weather, axis, settings.series, settings.scenarios, folder, prices)
    loads = {
        name: found.of(read_series, axis, load.consumption, folder, f"load.{name}.consumption")
        for name, load in settings.load.items()
    }
    if prices is not None:
        found.mistakes += call_mistakes(settings, axis, prices)
    if prices is None or weather is None or found.mistakes:
        raise InputError(found.mistakes)
    kept = few(weather, settings, settings.scenarios, prices.energy)
    scenarios = kept.scenarios
    wind, irradiance = scenarios.series[WIND], scenarios.series[IRRADIANCE]
    shape = wind.shape
    energy, contract, called = prices_of(prices, settings.prices, scenarios)
    return MicrogridData(
        axis=axis,
        names=scenarios.names,
        prob=scenarios.prob,
        energy_usd_per_mwh=energy,
        contract_usd_per_mwh=contract,
        called_usd_per_mwh=called,
        reactive_usd_per_mvarh=np.full(shape[1], settings.market.reactive_usd_per_mvarh),
        reactive_required_mvar=np.full(shape[1], settings.market.reactive_required_mvar),
        wind_speed_ms=wind,
        irradiance_wm2=irradiance,
        wind_forecast_ms=weather.forecast[WIND],
        irradiance_forecast_wm2=weather.forecast[IRRADIANCE],
        available_mw=kept.power,
        sample=kept.sample,
        call_probability=prices.call_probability,
        market_limit_mw=prices.limit_mw,
        load_mw={name: load for name, load in loads.items() if load is not None},
    )


def prices_of(
    prices: Prices, settings: PriceSettings, scenarios: ScenarioSet
) -> tuple[FloatArray, dict[str, FloatArray], dict[str, FloatArray]]:
    """Energy (S, T), contract by service (T,) or (S, T), called (S, T): the file's, or what the scenarios say."""
    own = scenarios.series
    shape = own[WIND].shape
    energy = own.get(ENERGY, np.broadcast_to(prices.energy, shape))
    drawn = own.get(SERVICES_FACTOR)
    offered = {name: x if drawn is None else drawn * x for name, x in prices.contract.items()}
    contract = {name: own.get(f"{name}_usd_per_mw", offered[name]) for name in MARKETS}
    by_case = {
        "energy": dict.fromkeys(MARKETS, energy),
        "contract": {name: np.broadcast_to(x, shape) for name, x in contract.items()},
    }
    file = {name: np.broadcast_to(prices.called[name], shape) for name in MARKETS}
    called = by_case.get(settings.called, file)
    return energy, contract, {name: own.get(f"{name}_called_usd_per_mwh", called[name]) for name in MARKETS}


def call_mistakes(settings: MicrogridSettings, axis: TimeAxis, prices: Prices) -> list[Mistake]:
    """Steps whose probabilities of being called, those of the file over those of the case, are none."""
    wrong = []
    flat = settings.market.call.model_dump()
    for k, label in enumerate(axis.labels if prices.call_probability else ()):
        try:
            CallSettings(**{**flat, **{name: float(p[k]) for name, p in prices.call_probability.items()}})
        except ValidationError as error:
            told = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
            wrong.append(Mistake(settings.prices.file, "prices", "call_probability", f"at {label}: {told}"))
    return wrong
