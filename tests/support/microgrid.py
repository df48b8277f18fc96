"""A microgrid for tests: paper 2's Tables 1-5 with ratings of our own, and weather made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from problems.microgrid.data import SERVICES, MicrogridData
from problems.microgrid.problem import Microgrid
from problems.microgrid.settings import MicrogridSettings
from problems.time_series import TimeAxis

# around the peak of a day: $/MWh, in steps of an hour
ENERGY = np.array([14.3, 19.6, 62.9, 108.6, 193.8, 42.5])
CONTRACT = {
    "regulation_up": np.array([5.0, 5.8, 36.4, 75.3, 147.7, 19.1]),
    "regulation_down": np.full(6, 5.0),
    "spinning": np.array([2.2, 4.0, 34.3, 70.9, 139.0, 18.0]),
    "nonspinning": np.array([0.8, 1.5, 20.8, 46.0, 92.8, 9.6]),
}
CONVERTER = {
    "rating_mva": 2.2,
    "voltage": {"slope_pu_per_mvar": 0.1},
    "loss": {"standby_mw": 0.002, "per_mva": 0.005, "per_mva2": 0.01},
    "offer": {"gamma0_usd_per_h": 0.5, "gamma1": 2.0, "gamma2": 2.0, "q_under_mvar": 0.1, "q_mnd_mvar": 0.1},
}
TURBINE = {
    "cost_unit_mw": 0.1,
    "x_s_pu": 1.2,
    "e_max_pu": 2.0,
    "voltage": {"slope_pu_per_mvar": 0.1},
    "loss": {"from_mvar": [0.0, 0.2, 0.5], "w_per_kvar": [5.0, 10.0, 20.0]},
    "offer": {"gamma0_usd_per_h": 0.5, "gamma1": 3.0, "gamma2": 2.0, "gamma3": 20.0, "q_mnd_mvar": 0.05},
}
SIZES = {
    "MT1": {"p_min_mw": 0.2, "p_max_mw": 1.0, "ramp_up_mw": 0.5, "ramp_down_mw": 0.5, "b1": 0.02, "b2": 2.0, "b3": 5.0,
            "rating_mva": 1.2},
    "MT2": {"p_min_mw": 0.4, "p_max_mw": 2.0, "ramp_up_mw": 1.0, "ramp_down_mw": 1.0, "b1": 0.03, "b2": 1.5, "b3": 6.0,
            "rating_mva": 2.4},
}  # fmt: skip


def tables(steps=6, **market):
    """The tables of a case file, without those that name files."""
    return {
        "time": {"start": "2020-08-16T12:00:00-05:00", "step_min": 60, "steps": steps, "label": "end"},
        "series": {n: {"file": "weather.csv", "column": n} for n in ("wind_speed", "irradiance")},
        "prices": {"file": "prices.csv", "series": "A", "called": "energy"},
        "scenarios": {"file": "scenarios.csv"},
        "market": {
            "call": {"regulation_up": 0.0069, "regulation_down": 0.0067, "spinning": 0.055, "nonspinning": 0.032},
            "reactive_usd_per_mvarh": 5.0,
            "reactive_required_mvar": 0.3,
            **market,
        },
        "risk": {"w": 1.0, "delta": 0.9},
        "mt": {name: {**TURBINE, **own} for name, own in SIZES.items()},
        "solar": {"PV": {**CONVERTER, "p_max_mw": 2.0, "om_usd_per_mwh": 7.5, "irradiance_std_wm2": 1000.0}},
        "wind": {
            "WT": {**CONVERTER, "rating_mva": 1.1, "p_max_mw": 1.0, "om_usd_per_mwh": 5.77, "cut_in_ms": 3.0,
                   "rated_ms": 12.0, "cut_out_ms": 22.0, "x_pu": 0.3, "converter_v_pu": 1.4},
        },
        "storage": {
            "ESS": {"capacity_mwh": 6.0, "charge_mw": 2.0, "discharge_mw": 2.0, "eta_charge": 0.9,
                    "eta_discharge": 0.9},
        },
    }  # fmt: skip


def data_of(settings, scenarios=3, prob=None, seed=7):
    """`scenarios` of wind and sun at the prices above, cut to the settings' number of steps."""
    axis = TimeAxis(settings.time)
    n = axis.settings.steps
    rng = np.random.default_rng(seed)
    level = np.linspace(0.35, 1.0, scenarios)[:, None] if scenarios > 1 else np.ones((1, 1))
    speed = np.clip(7.5 * rng.permutation(level) * rng.uniform(0.8, 1.2, (scenarios, n)), 0.0, 20.0)
    sun = np.clip(800.0 * level * rng.uniform(0.7, 1.2, (scenarios, n)), 0.0, 1000.0)
    prob = np.full(scenarios, 1.0 / scenarios) if prob is None else np.array(prob)
    energy = np.tile(ENERGY[:n], (scenarios, 1))
    available = {name: np.clip((speed - u.cut_in_ms) / (u.rated_ms - u.cut_in_ms), 0, 1) * u.p_max_mw
                 for name, u in settings.wind.items()}  # fmt: skip
    available |= {name: u.p_max_mw * sun / u.irradiance_std_wm2 for name, u in settings.solar.items()}
    return MicrogridData(
        axis=axis,
        names=tuple(f"s{i:03d}" for i in range(scenarios)),
        prob=prob,
        energy_usd_per_mwh=energy,
        contract_usd_per_mwh={name: CONTRACT[name][:n] for name in SERVICES},
        called_usd_per_mwh=dict.fromkeys(SERVICES, energy),
        reactive_usd_per_mvarh=np.full(n, settings.market.reactive_usd_per_mvarh),
        reactive_required_mvar=np.full(n, settings.market.reactive_required_mvar),
        wind_speed_ms=speed,
        irradiance_wm2=sun,
        wind_forecast_ms=speed.mean(axis=0),
        irradiance_forecast_wm2=sun.mean(axis=0),
        available_mw=available,
    )


def microgrid(given=None, scenarios=3, prob=None, seed=7):
    """The problem of these tables with weather made by hand."""
    settings = MicrogridSettings.model_validate(given or tables())
    return Microgrid(settings, Path(), data_of(settings, scenarios, prob, seed))
