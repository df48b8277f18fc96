"""One community of a fleet, drawn from its own random numbers: the same on every rank and beside any others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decomp.messages import FloatArray
from problems.lec.settings import LecSettings
from problems.synthetic_communities.settings import FleetSettings

HOUSEHOLD_KW = 20.0  # of peak load, for each smart boiler


@dataclass(frozen=True)
class FleetUnit:
    """A community before its photovoltaics are scaled.

    table   its table as in a case file, without photovoltaics
    pv      table of its photovoltaics, or None
    shift_h, load_profile, pv_profile  which series it has; "" = the case's own
    """

    name: str
    bus: str
    table: Mapping[str, Any]
    pv: Mapping[str, float] | None
    shift_h: float
    load_profile: str = ""
    pv_profile: str = ""

    def settings(self, pv_factor: float = 1.0) -> LecSettings:
        """Its settings with photovoltaics and inverter `pv_factor` times as large."""
        tables = dict(self.table)
        if self.pv is not None:
            sizes = {name: pv_factor * self.pv[name] for name in ("peak_kwp", "inverter_kva")}
            tables["pv"] = {**self.pv, **sizes}
        return LecSettings.model_validate(tables)


@dataclass(frozen=True, eq=False)
class Fleet:
    """units in the order of their names; factors found for the network's loads and the fleet's photovoltaics.

    series  (T,) by profile name, from the fleet's own file
    """

    units: tuple[FleetUnit, ...]
    series: Mapping[str, FloatArray] = field(default_factory=dict)
    load_factor: float = 1.0
    pv_factor: float = 1.0

    def unit(self, name: str) -> FleetUnit | None:
        """The unit of that name."""
        return self._by_name.get(name)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {unit.name: unit for unit in self.units})

    _by_name: Mapping[str, FleetUnit] = field(init=False, repr=False, default_factory=dict)

    def lecs(self) -> dict[str, LecSettings]:
        """Settings by name."""
        return {unit.name: unit.settings(self.pv_factor) for unit in self.units}


def draw(
    settings: FleetSettings, buses: Sequence[str], loads: Sequence[str] = (), pvs: Sequence[str] = ()
) -> tuple[FleetUnit, ...]:
    """All units at the PCCs `buses`, with profiles out of `loads` and `pvs`."""
    return tuple(draw_unit(settings, i, buses, loads, pvs) for i in range(settings.units))


def draw_unit(
    settings: FleetSettings, i: int, buses: Sequence[str], loads: Sequence[str] = (), pvs: Sequence[str] = ()
) -> FleetUnit:
    """Unit i; every figure is drawn whether it is used or not, so that no share moves the draws behind it."""
    random = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(i,)))
    u = random.random(32)
    at = iter(u)

    def between(limits: tuple[float, float]) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * next(at))

    def has(share: float) -> bool:
        return bool(next(at) < share)

    def one_of(names: Sequence[str]) -> str:
        which = int(len(names) * next(at))
        return names[which] if names else ""

    bus, load, pv_profile = one_of(buses), one_of(loads), one_of(pvs)
    peak = round(between(settings.load_kw), 3)
    table: dict[str, Any] = {"bus": bus, "load_peak_kw": peak}
    table["load_power_factor"] = between(settings.power_factor)
    shift = (2.0 * next(at) - 1.0) * settings.load_shift_h
    pv = _photovoltaics(peak, has(settings.pv_share), between(settings.pv_kwp_per_kw), between(settings.pv_q_share))
    battery, power, hours = (
        has(settings.battery_share),
        between(settings.battery_kw_per_kw),
        between(settings.battery_h),
    )
    if battery and power * hours > 0:
        table["battery"] = {"power_kw": peak * power, "capacity_kwh": peak * power * hours}
    heater, heat, cop = next(at), peak * between(settings.heat_kw_per_kw), between(settings.heat_pump_cop)
    if heater < settings.heat_pump_share:
        table["heat_pump"] = {"power_kw": heat / cop, "cop": cop}
    elif heater < settings.heat_pump_share + settings.chp_share:
        table["boiler_chp"] = _boiler(heat)
    if heater < settings.heat_pump_share + settings.chp_share:
        table |= {"heat_peak_kw": heat, "heat_mean_kw": 0.7 * heat}
    response, energy = has(settings.demand_response_share), between(settings.demand_response_kwh_per_kw)
    if response:
        table["demand_response"] = {"energy_kwh_per_kw": energy, "power_kw_per_kwh": 0.5}
    if has(settings.smart_boiler_share):
        table["smart_boiler"] = _smart_boiler(max(1, round(peak / HOUSEHOLD_KW)))
    return FleetUnit(f"LEC{i + 1:04d}", bus, table, pv, shift, load, pv_profile)


def _photovoltaics(peak: float, has: bool, per_kw: float, q_share: float) -> dict[str, float] | None:
    kwp = peak * per_kw
    return {"peak_kwp": kwp, "inverter_kva": 1.05 * kwp, "q_share": q_share} if has and kwp > 0 else None


def _boiler(heat: float) -> dict[str, float]:
    """A boiler for the heat load; its turbine, ramp and fuel in the proportions of the campus case."""
    return {
        "boiler_min_kw": 0.0,
        "boiler_max_kw": 1.2 * heat,
        "ramp_kw_per_h": 0.4 * heat,
        "fuel_sek_per_kwh": 0.30,
        "turbine_max_kw": 0.1 * heat,
        "eta_turbine": 0.22,
    }


def _smart_boiler(households: int) -> dict[str, float]:
    """The campus case's boiler, so many times as large."""
    return {
        "power_kw": 3.0 * households,
        "converter_kva": 3.15 * households,
        "eta_heater": 0.98,
        "volume_m3": 0.3 * households,
        "loss_kw_per_k": 0.002 * households,
        "draw_day_m3_per_h": 0.042 * households,
        "draw_night_m3_per_h": 0.012 * households,
    }
