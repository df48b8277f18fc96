"""The two communities of the campus and small ones, as settings and data for tests."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import paths

from decomp.messages import FloatArray, Response, Signal, Status
from problems.lec.community import LocalEnergyCommunity
from problems.lec.data import LecData
from problems.lec.settings import LecSettings

CASES = paths.CASES / "chalmers"
CET = timezone(timedelta(hours=2))
NEUTRAL = 0.0222

LEC1: dict[str, Any] = {
    "bus": "2",
    "load_peak_kw": 700.0,
    "heat_peak_kw": 450.0,
    "heat_mean_kw": 315.0,
    "pv": {"peak_kwp": 40.0, "inverter_kva": 42.0, "q_share": 0.6},
    "boiler_chp": {
        "boiler_min_kw": 60.0,
        "boiler_max_kw": 300.0,
        "ramp_kw_per_h": 100.0,
        "fuel_sek_per_kwh": 0.30,
        "turbine_max_kw": 9.0,
        "eta_turbine": 0.22,
    },
    "heat_pump": {"power_kw": 60.0, "cop": 3.1},
    "battery": {"capacity_kwh": 100.0, "power_kw": 50.0},
}
LEC2: dict[str, Any] = {
    "bus": "7",
    "load_peak_kw": 300.0,
    "heat_peak_kw": 300.0,
    "pv": [{"peak_kwp": p, "inverter_kva": 1.05 * p, "q_share": 0.6} for p in (125.37, 116.235, 106.785, 100.485)],
    "battery": {"capacity_kwh": 200.0, "power_kw": 100.0},
    "demand_response": {"energy_kwh_per_kw": 0.10, "power_kw_per_kwh": 0.5},
    "smart_boiler": {
        "power_kw": 3.0,
        "converter_kva": 3.15,
        "eta_heater": 0.98,
        "volume_m3": 0.3,
        "loss_kw_per_k": 0.002,
        "draw_day_m3_per_h": 0.042,
        "draw_night_m3_per_h": 0.012,
    },
    "tes_stirling": {
        "capacity_kwh": 250.0,
        "start_kwh": 80.0,
        "heater_kw": 60.0,
        "discharge_kw": 80.0,
        "eta_heater": 0.97,
        "loss_per_h": 0.005,
        "eta_work": 0.32,
        "residual_heat": 0.6,
        "eta_generator": 0.92,
    },
}


def series(name: str, column: str) -> FloatArray:
    with (CASES / f"{name}_20210414.csv").open() as file:
        return np.array([float(row[column]) for row in csv.DictReader(file)])


def settings(**tables: Any) -> LecSettings:
    return LecSettings.model_validate({"bus": "1", "load_peak_kw": 0.0, **tables})


def campus(table: dict[str, Any], **changes: Any) -> tuple[LecSettings, LecData]:
    """A campus community with the series of 14 April 2021."""
    own = LecSettings.model_validate(table)
    p_kw, q_kvar = own.load(series("load_shape", "load_pu"))
    given: dict[str, Any] = {
        "times": [datetime(2021, 4, 14, tzinfo=CET) + timedelta(hours=k) for k in range(24)],
        "dt_h": 1.0,
        "labels": [f"{k + 1:02d}:00" for k in range(24)],
        "spot_sek_per_kwh": series("spot_price", "spot_sek_per_kwh"),
        "load_p_kw": p_kw,
        "load_q_kvar": q_kvar,
        "heat_load_kw": own.heat_load(series("heat_shape", "heat_pu")),
        "pv_pu": series("pv_clear_sky", "pv_pu"),
        "reactive_price_sek_per_kvarh": NEUTRAL,
        "heat_price_sek_per_kwh": 0.359,
        "grid_tariff_sek_per_kwh": 0.032,
        "heat_peak_sek_per_kw_day": 2.35,
        "heat_fixed_sek_per_day": 76.33,
    }
    return own, LecData(**{**given, **changes})


def small(n: int = 2, dt_h: float = 1.0, **series_: Any) -> LecData:
    """n steps in which nothing happens and nothing costs, but for what is given."""
    zero = dict.fromkeys(
        (
            "spot_sek_per_kwh",
            "load_p_kw",
            "load_q_kvar",
            "heat_load_kw",
            "pv_pu",
            "reactive_price_sek_per_kvarh",
            "heat_price_sek_per_kwh",
        ),
        0.0,
    )
    times = [datetime(2021, 4, 14, tzinfo=CET) + timedelta(hours=k * dt_h) for k in range(n)]
    return LecData(**{"times": times, "dt_h": dt_h, **zero, **series_})


class Schedule(dict[str, FloatArray]):
    """A community's answer: its series by name, and the response itself."""

    def __init__(self, block: LocalEnergyCommunity, response: Response) -> None:
        assert response.status is Status.OPTIMAL, response.message
        super().__init__(block.detail(response))
        self.response, self.cost, self.dq = response, response.cost, response.y


def solved(own: LecSettings, data: LecData, price: float | None = None, **options: Any) -> Schedule:
    """The answer to one price in every step; without a price the initial schedule."""
    block = LocalEnergyCommunity("LEC", own, data, freeze_p=False, **options)
    asked = data.reactive_price_sek_per_kvarh if price is None else np.full(data.n, price)
    return Schedule(block, block.solve(Signal(asked)))
