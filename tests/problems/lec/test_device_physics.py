"""What every device keeps over a day, whatever the price: energy, limits, ramps, the end of the horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lec_cases import LEC1, LEC2, NEUTRAL, Schedule, campus, series, settings, small, solved

from decomp.messages import FloatArray

HOURS = np.arange(24)


@pytest.fixture(scope="module", params=["neutral", "asked"])
def lec1(request: pytest.FixtureRequest) -> Schedule:
    own, data = campus(LEC1)
    return solved(own, data, NEUTRAL if request.param == "neutral" else 0.2)


@pytest.fixture(scope="module", params=["neutral", "asked"])
def lec2(request: pytest.FixtureRequest) -> Schedule:
    own, data = campus(LEC2)
    return solved(own, data, NEUTRAL if request.param == "neutral" else -0.2)


def changes(state: FloatArray, start: float) -> FloatArray:
    return np.diff(state, prepend=start)


def test_electric_balance_holds_in_every_hour(lec1: Schedule, lec2: Schedule) -> None:
    for found, table in ((lec1, LEC1), (lec2, LEC2)):
        given = sum(v for k, v in found.items() if k.startswith("p_") and _device(k) in _names(table))
        assert found["p_import_kw"] == pytest.approx(found["p_load_kw"] - found["p_shed_kw"] - given, abs=1e-6)
        assert np.all(np.abs(found["p_shed_kw"]) < 1e-7)


def test_reactive_balance_holds_and_the_offer_is_the_change_of_injection(lec1: Schedule, lec2: Schedule) -> None:
    for found, table in ((lec1, LEC1), (lec2, LEC2)):
        given = sum(v for k, v in found.items() if k.startswith("q_") and _device(k) in _names(table))
        assert found["q_import_kvar"] == pytest.approx(found["q_load_kvar"] - given, abs=1e-7)
        assert found.dq == pytest.approx(found["q_import_initial_kvar"] - found["q_import_kvar"], abs=1e-7)


def test_heat_balance_holds_without_the_tank(lec1: Schedule, lec2: Schedule) -> None:
    one = lec1["heat_boiler_chp_kw"] + lec1["heat_heat_pump_kw"] + lec1["heat_import_kw"]
    assert one == pytest.approx(lec1["heat_load_kw"], abs=1e-6)
    assert lec2["heat_tes_stirling_kw"] + lec2["heat_import_kw"] == pytest.approx(lec2["heat_load_kw"], abs=1e-6)
    assert "heat_smart_boiler_kw" not in lec2


def test_battery_keeps_its_energy(lec1: Schedule, lec2: Schedule) -> None:
    for found, capacity, power in ((lec1, 100.0, 50.0), (lec2, 200.0, 100.0)):
        charge, discharge, soc = (found[f"{what}_battery_{u}"] for what, u in _of_battery())
        assert changes(soc, capacity / 2) == pytest.approx(0.95 * charge - discharge / 0.95, abs=1e-6)
        assert np.all((soc >= 0.2 * capacity - 1e-6) & (soc <= capacity + 1e-6))
        assert max(charge.max(), discharge.max()) <= power + 1e-6
        assert np.all(np.minimum(charge, discharge) < 1e-6)
        assert soc[-1] >= capacity / 2 - 1e-6
        assert charge.sum() > 10.0


def test_boiler_keeps_its_energy_limits_and_ramps(lec1: Schedule) -> None:
    boiler, turbine, p = (lec1[f"{k}_boiler_chp_kw"] for k in ("boiler", "turbine_heat", "p"))
    assert p == pytest.approx(0.22 * turbine, abs=1e-7)
    assert lec1["heat_boiler_chp_kw"] + p == pytest.approx(boiler, abs=1e-6)
    assert np.all((boiler >= 60 - 1e-6) & (boiler <= 300 + 1e-6) & (p <= 9 + 1e-7))
    assert np.all(np.abs(np.diff(boiler)) <= 100 + 1e-6)
    assert np.all(np.abs(lec1["q_boiler_chp_kvar"]) <= 0.4843 * p + 1e-6)


def test_pv_stays_inside_its_inverter(lec1: Schedule) -> None:
    p, q = lec1["p_pv_kw"], lec1["q_pv_kvar"]
    assert p == pytest.approx(40.0 * series("pv_clear_sky", "pv_pu"))
    assert np.all(np.hypot(p, q) <= 42.0 + 1e-6)
    assert np.all(np.abs(q) <= np.minimum(p, 0.6 * 42.0) + 1e-7)


def test_curtailed_energy_is_caught_up_within_the_day(lec2: Schedule) -> None:
    p, owed, load = lec2["p_demand_response_kw"], lec2["outstanding_demand_response_kwh"], lec2["p_load_kw"]
    assert changes(owed, 0.0) == pytest.approx(p, abs=1e-6)
    assert p.sum() == pytest.approx(0.0, abs=1e-6)
    assert np.all((owed >= -1e-6) & (owed <= 0.1 * load + 1e-6))
    assert np.all(np.abs(p) <= 0.05 * load + 1e-6)
    assert np.abs(p).max() > 1.0


def test_heat_store_keeps_its_energy_and_never_charges_while_it_discharges(lec2: Schedule) -> None:
    soc, heater, engine = (
        lec2[f"{a}_tes_stirling_{u}"] for a, u in (("soc", "kwh"), ("heater", "kw"), ("engine_heat", "kw"))
    )
    before = np.concatenate([[80.0], soc[:-1]])
    assert soc == pytest.approx(0.995 * before + 0.97 * heater - engine, abs=1e-6)
    assert np.all((soc >= -1e-6) & (soc <= 250 + 1e-6))
    assert soc[-1] >= 80 - 1e-6
    assert np.all(np.minimum(heater, engine) < 1e-6)
    assert lec2["p_tes_stirling_kw"] == pytest.approx(0.92 * 0.32 * engine - heater, abs=1e-6)
    assert np.all(lec2["p_tes_stirling_kw"] + lec2["heat_tes_stirling_kw"] <= engine + 1e-6)
    assert engine.sum() > 10.0


def test_tank_keeps_its_energy_and_temperature(lec2: Schedule) -> None:
    power, temperature = -lec2["p_smart_boiler_kw"], lec2["temperature_smart_boiler_c"]
    before = np.concatenate([[70.0], temperature[:-1]])
    drawn = np.where((HOURS >= 7) & (HOURS < 22), 0.042, 0.012)
    stored = 1.163 * 0.3 * (temperature - before)
    assert stored == pytest.approx(0.98 * power - 1.163 * drawn * (before - 8.0) - 0.002 * (before - 20.0), abs=1e-6)
    assert np.all((temperature >= 60 - 1e-6) & (temperature <= 88 + 1e-6))
    assert temperature[-1] >= 70 - 1e-6
    assert np.all(np.abs(lec2["q_smart_boiler_kvar"]) <= 0.1 * power + 1e-6)


def test_dearer_hours_import_less() -> None:
    own, data = campus(LEC2)
    cheap = solved(own, data)["p_import_kw"]
    spot = data.spot_sek_per_kwh.copy()
    spot[[10, 11]] += 1.0
    assert np.all(solved(*campus(LEC2, spot_sek_per_kwh=spot))["p_import_kw"][[10, 11]] < cheap[[10, 11]] - 1.0)


# -- steps of 15 minutes -----------------------------------------------------------------------------------------------


def quarters(n_hours: int, **hourly: Any) -> Any:
    repeated = {k: np.repeat(np.broadcast_to(v, n_hours), 4) if np.ndim(v) else v for k, v in hourly.items()}
    return small(4 * n_hours, 0.25, **repeated)


@pytest.mark.parametrize(
    ("table", "tolerance"),
    [
        ({"battery": {"capacity_kwh": 100.0, "power_kw": 50.0}}, 1e-6),
        ({"demand_response": {"energy_kwh_per_kw": 0.1, "power_kw_per_kwh": 0.5}}, 1e-6),
        ({"heat_pump": {"power_kw": 60.0, "cop": 3.1}}, 1e-6),
        ({"boiler_chp": {**LEC1["boiler_chp"], "ramp_kw_per_h": 1e4}}, 2e-4),
        ({"tes_stirling": {**LEC2["tes_stirling"], "loss_per_h": 0.0}}, 1e-6),
        ({"tes_stirling": LEC2["tes_stirling"]}, 0.02),  # what is charged loses within the hour too
        ({"smart_boiler": {**LEC2["smart_boiler"], "draw_day_m3_per_h": 0.02}}, 0.05),
        ({"pv": LEC1["pv"]}, 1e-4),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_quarter_hours_cost_what_hours_cost(table: dict[str, Any], tolerance: float) -> None:
    hourly = {
        "spot_sek_per_kwh": [0.2, 1.4, 0.3, 0.9, 0.5],
        "load_p_kw": [200.0, 150.0, 180.0, 220.0, 160.0],
        "heat_load_kw": [150.0, 130.0, 120.0, 250.0, 200.0],
        "pv_pu": [0.0, 0.2, 0.7, 0.5, 0.1],
        "heat_price_sek_per_kwh": 0.359,
        "heat_peak_sek_per_kw_day": 2.35,
        "grid_tariff_sek_per_kwh": 0.032,
        "reactive_price_sek_per_kvarh": 0.05,
    }
    own = settings(**table)
    fine, coarse = solved(own, quarters(5, **hourly)), solved(own, small(5, **hourly))
    assert fine.cost == pytest.approx(coarse.cost, abs=tolerance)
    assert fine.cost != pytest.approx(solved(settings(), small(5, **hourly)).cost, abs=1.0)


def test_ramp_is_per_hour_and_holds_per_quarter() -> None:
    own = settings(boiler_chp={**LEC1["boiler_chp"], "boiler_start_kw": 60.0})
    data = small(8, 0.25, heat_load_kw=250.0, heat_price_sek_per_kwh=0.359, spot_sek_per_kwh=0.2)
    assert solved(own, data)["boiler_boiler_chp_kw"] == pytest.approx(
        [85.0, 110.0, 135.0, 160.0, 185.0, 210.0, 235.0, 250.0], abs=1e-6
    )


def test_idle_store_loses_in_four_quarters_what_it_loses_in_an_hour() -> None:
    # the store must end where it began, so that the heater tells what was lost: 10 % of 80 kWh
    own = settings(tes_stirling={**LEC2["tes_stirling"], "loss_per_h": 0.1})
    hour = solved(own, small(1, spot_sek_per_kwh=1.0))
    fine = solved(own, small(4, 0.25, spot_sek_per_kwh=[9.0, 9.0, 9.0, 1.0]))
    assert hour["heater_tes_stirling_kw"] == pytest.approx(8.0 / 0.97)
    assert 0.25 * fine["heater_tes_stirling_kw"] == pytest.approx([0.0, 0.0, 0.0, 8.0 / 0.97])


def _device(label: str) -> str:
    return label.split("_", 1)[1].rsplit("_", 1)[0]


def _names(table: dict[str, Any]) -> set[str]:
    several = {f"{k}{i + 1}" for k, v in table.items() if isinstance(v, list) for i in range(len(v))}
    return several | {k for k, v in table.items() if isinstance(v, dict)}


def _of_battery() -> list[tuple[str, str]]:
    return [("charge", "kw"), ("discharge", "kw"), ("soc", "kwh")]
