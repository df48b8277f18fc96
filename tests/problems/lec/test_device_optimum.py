"""Every device against an optimum worked out by hand."""

from __future__ import annotations

from math import asin, sqrt, tan

import numpy as np
import pytest
from lec_cases import settings, small, solved


def test_pv_gives_reactive_power_at_the_angle_of_the_price() -> None:
    # min lambda (sqrt(P^2 + Q^2) - P) - TS Q: sin(phi) = TS / lambda = 1/2, Q = P / sqrt(3)
    own = settings(pv={"peak_kwp": 10.0, "inverter_kva": 20.0})
    found = solved(own, small(1, pv_pu=1.0, spot_sek_per_kwh=0.5), price=0.25)
    assert found["q_pv_kvar"] == pytest.approx(10.0 / sqrt(3.0), abs=0.02)
    paid = 0.25 * found["q_pv_kvar"][0]
    given_up, sold = 0.5 * (20.0 / sqrt(3.0) - 10.0), 0.5 * 10.0
    assert found.cost - paid == pytest.approx(given_up - sold - 0.25 * 10.0 / sqrt(3.0), abs=1e-5)
    assert found["sin_phi_pv"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("table", "limit"),
    [
        ({"inverter_kva": 20.0, "q_share": 0.3}, 6.0),  # (21) xi S
        ({"inverter_kva": 40.0}, 10.0),  # (22) P
        ({"inverter_kva": 12.5}, 7.5),  # (23) sqrt(S^2 - P^2)
        ({"inverter_kva": 8.0}, 0.0),  # clipped at S: nothing left
    ],
)
def test_pv_stops_at_each_of_its_limits(table: dict[str, float], limit: float) -> None:
    own, data = settings(pv={"peak_kwp": 10.0, **table}), small(1, pv_pu=1.0, spot_sek_per_kwh=0.5)
    assert solved(own, data, price=9.0)["q_pv_kvar"] == pytest.approx(limit, abs=1e-7)
    assert solved(own, data, price=-9.0)["q_pv_kvar"] == pytest.approx(-limit, abs=1e-7)


def test_battery_buys_cheap_and_sells_dear() -> None:
    # 50 kW for 1 h at .1 stores 47.5 kWh, of which 45.125 come out at 1.0; wear on both
    own = settings(battery={"capacity_kwh": 100.0, "power_kw": 50.0, "start_share": 0.2})
    found = solved(own, small(spot_sek_per_kwh=[0.1, 1.0]))
    assert found["p_battery_kw"] == pytest.approx([-50.0, 45.125], abs=1e-6)
    assert found["soc_battery_kwh"] == pytest.approx([67.5, 20.0], abs=1e-6)
    assert found.cost == pytest.approx(0.1 * 50.0 - 45.125 + 0.0496 * 95.125, abs=1e-6)


def test_battery_rests_when_the_spread_does_not_pay_its_wear_and_losses() -> None:
    # 1 kWh bought at .5 with wear gives .9025 kWh sold at .6 with wear: .5415 - .5 < .0496 (1 + .9025)
    own = settings(battery={"capacity_kwh": 100.0, "power_kw": 50.0, "start_share": 0.2})
    assert solved(own, small(spot_sek_per_kwh=[0.5, 0.6]))["p_battery_kw"] == pytest.approx([0.0, 0.0], abs=1e-9)


CHP = {
    "boiler_min_kw": 0.0,
    "boiler_max_kw": 300.0,
    "ramp_kw_per_h": 300.0,
    "fuel_sek_per_kwh": 0.30,
    "turbine_max_kw": 9.0,
    "eta_turbine": 0.22,
}


@pytest.mark.parametrize(("spot", "power"), [(0.31, 9.0), (0.29, 0.0)])
def test_turbine_runs_when_electricity_is_worth_more_than_its_fuel(spot: float, power: float) -> None:
    # 1 kWh of heat through the turbine gives .22 kWh electricity and .78 kWh heat; the heat lost costs .30
    data = small(1, spot_sek_per_kwh=spot, heat_load_kw=100.0, heat_price_sek_per_kwh=0.359)
    found = solved(settings(boiler_chp=CHP), data)
    assert found["p_boiler_chp_kw"] == pytest.approx(power, abs=1e-7)
    assert found["boiler_boiler_chp_kw"] == pytest.approx(100.0 + power, abs=1e-6)
    assert found.cost == pytest.approx(0.30 * (100.0 + power) - spot * power, abs=1e-5)


def test_turbine_gives_reactive_power_at_the_angle_of_the_price_up_to_its_limit() -> None:
    own = settings(boiler_chp=CHP)
    data = small(1, spot_sek_per_kwh=0.553, heat_load_kw=100.0, heat_price_sek_per_kwh=0.359)
    assert solved(own, data, price=0.16)["q_boiler_chp_kvar"] == pytest.approx(9 * tan(asin(0.16 / 0.553)), abs=0.01)
    assert solved(own, data, price=0.40)["q_boiler_chp_kvar"] == pytest.approx(0.4843 * 9.0, abs=1e-6)
    assert solved(own, data, price=-0.40)["q_boiler_chp_kvar"] == pytest.approx(-0.4843 * 9.0, abs=1e-6)


@pytest.mark.parametrize("price", [0.4, -0.4])
def test_turbine_at_part_load_gives_reactive_power_in_proportion(price: float) -> None:
    # all heat goes through the turbine: .78 H^T = 7.8 kW, P = 2.2 kW
    own = settings(boiler_chp=CHP)
    data = small(1, spot_sek_per_kwh=0.553, heat_load_kw=7.8, heat_price_sek_per_kwh=0.359)
    found = solved(own, data, price=price)
    assert found["p_boiler_chp_kw"] == pytest.approx(2.2, abs=1e-6)
    assert found["q_boiler_chp_kvar"] == pytest.approx(np.sign(price) * 0.4843 * 2.2, abs=1e-6)


def test_heat_beyond_the_load_goes_to_the_dump_at_its_price() -> None:
    own = settings(boiler_chp={**CHP, "boiler_min_kw": 60.0, "turbine_max_kw": 0.0, "dump_max_kw": 100.0})
    found = solved(own, small(1, heat_load_kw=20.0, heat_price_sek_per_kwh=0.359))
    assert found["dump_boiler_chp_kw"] == pytest.approx(40.0, abs=1e-7)
    assert found.cost == pytest.approx(0.30 * 60.0 + 0.01 * 40.0, abs=1e-7)


@pytest.mark.parametrize(("spot", "power"), [(0.359 * 3.1 - 0.01, 60.0), (0.359 * 3.1 + 0.01, 0.0)])
def test_heat_pump_runs_while_its_heat_is_cheaper_than_the_district(spot: float, power: float) -> None:
    own = settings(heat_pump={"power_kw": 60.0, "cop": 3.1})
    found = solved(own, small(1, spot_sek_per_kwh=spot, heat_load_kw=200.0, heat_price_sek_per_kwh=0.359))
    assert found["p_heat_pump_kw"] == pytest.approx(-power, abs=1e-7)
    assert found.cost == pytest.approx(spot * power + 0.359 * (200.0 - 3.1 * power), abs=1e-7)


def test_demand_response_moves_its_share_of_the_load() -> None:
    # load 100 kW, xi .1 h, kappa .5 / h: 5 kW from the dear hour to the cheap one
    own = settings(demand_response={"energy_kwh_per_kw": 0.1, "power_kw_per_kwh": 0.5})
    found = solved(own, small(load_p_kw=100.0, spot_sek_per_kwh=[1.0, 0.2]))
    assert found["p_demand_response_kw"] == pytest.approx([5.0, -5.0], abs=1e-7)
    assert found.cost == pytest.approx(120.0 - 5.0 * 0.8, abs=1e-7)


def test_demand_response_curtails_no_more_than_may_be_outstanding() -> None:
    # kappa 2 would allow 20 kW an hour, (30) allows 10 kWh
    own = settings(demand_response={"energy_kwh_per_kw": 0.1, "power_kw_per_kwh": 2.0})
    found = solved(own, small(load_p_kw=100.0, spot_sek_per_kwh=[1.0, 0.2]))
    assert found["p_demand_response_kw"] == pytest.approx([10.0, -10.0], abs=1e-7)


TES = {
    "capacity_kwh": 250.0,
    "start_kwh": 80.0,
    "heater_kw": 60.0,
    "discharge_kw": 80.0,
    "eta_heater": 0.97,
    "loss_per_h": 0.005,
    "eta_work": 0.32,
    "residual_heat": 0.6,
    "eta_generator": 0.92,
}


def test_heat_store_charges_cheap_and_gives_power_and_heat_dear() -> None:
    found = solved(
        settings(tes_stirling=TES),
        small(spot_sek_per_kwh=[0.0, 2.0], heat_load_kw=100.0, heat_price_sek_per_kwh=0.359),
    )
    taken = (80.0 * 0.995 + 0.97 * 60.0) * 0.995 - 80.0
    assert found["p_tes_stirling_kw"] == pytest.approx([-60.0, 0.92 * 0.32 * taken], abs=1e-6)
    assert found["heat_tes_stirling_kw"] == pytest.approx([0.0, 0.6 * taken], abs=1e-6)
    assert found.cost == pytest.approx(0.359 * (200.0 - 0.6 * taken) - 2.0 * 0.92 * 0.32 * taken, abs=1e-6)


TANK = {
    "power_kw": 3.0,
    "converter_kva": 3.15,
    "eta_heater": 0.98,
    "volume_m3": 0.3,
    "loss_kw_per_k": 0.002,
    "draw_day_m3_per_h": 0.03,
    "day_from_h": 0.0,
    "day_to_h": 24.0,
}


def test_tank_heats_what_is_drawn_and_lost() -> None:
    # one hour at 70 C: .03 m3 of 8 C replace water of 70 C, and 50 K to the room lose .1 kWh
    found = solved(settings(smart_boiler=TANK), small(1, spot_sek_per_kwh=0.5))
    power = (1.163 * 0.03 * (70.0 - 8.0) + 0.002 * 50.0) / 0.98
    assert found["p_smart_boiler_kw"] == pytest.approx(-power, abs=1e-7)
    assert found["temperature_smart_boiler_c"] == pytest.approx(70.0, abs=1e-7)
    assert found.cost == pytest.approx(0.5 * power, abs=1e-5)


def test_tank_is_heated_ahead_of_the_dear_hour() -> None:
    found = solved(settings(smart_boiler=TANK), small(spot_sek_per_kwh=[0.1, 1.0]))
    tank = 0.3 * 1.163
    first = 0.1 * 8.0 + 0.9 * 70.0 + 0.98 * 3.0 / tank - 0.002 * 50.0 / tank
    second = (70.0 - 0.1 * 8.0 - 0.9 * first + 0.002 * (first - 20.0) / tank) * tank / 0.98
    assert found["p_smart_boiler_kw"] == pytest.approx([-3.0, -second], abs=1e-6)
    assert found["temperature_smart_boiler_c"] == pytest.approx([first, 70.0], abs=1e-6)


def test_tank_gives_a_tenth_of_its_power_as_reactive_power() -> None:
    found = solved(settings(smart_boiler=TANK), small(1, spot_sek_per_kwh=0.5), price=0.25)
    assert found["q_smart_boiler_kvar"] == pytest.approx(-0.1 * found["p_smart_boiler_kw"], abs=1e-7)


def test_tank_trades_active_for_reactive_power_on_the_circle_of_its_converter() -> None:
    # lambda P + lambda (S - P) - TS Q = lambda S - TS Q over Q <= P, S <= 2: P = Q = sqrt(2)
    own = settings(smart_boiler={**TANK, "converter_kva": 2.0, "q_share": 1.0, "draw_day_m3_per_h": 0.001})
    found = solved(own, small(1, spot_sek_per_kwh=0.5), price=3.0)
    assert found["q_smart_boiler_kvar"] == pytest.approx(sqrt(2.0), abs=2e-3)
    assert np.hypot(found["p_smart_boiler_kw"], found["q_smart_boiler_kvar"]) <= 2.0 + 1e-4


def test_tank_that_needs_its_power_has_the_rest_of_the_circle_for_reactive_power() -> None:
    # what is drawn needs 1.9 kW: |Q| <= sqrt(2^2 - 1.9^2)
    drawn = (0.98 * 1.9 - 0.002 * 50.0) / (1.163 * 62.0)
    own = settings(smart_boiler={**TANK, "converter_kva": 2.0, "q_share": 1.0, "draw_day_m3_per_h": drawn})
    found = solved(own, small(1, spot_sek_per_kwh=0.5), price=3.0)
    assert found["p_smart_boiler_kw"] == pytest.approx(-1.9, abs=1e-6)
    assert found["q_smart_boiler_kvar"] == pytest.approx(sqrt(4.0 - 1.9**2), abs=1e-3)


def test_nobody_is_paid_for_reactive_power_by_a_negative_spot_price() -> None:
    # 10 kW exported at -.5 cost 5 SEK, and nothing else
    own = settings(pv={"peak_kwp": 10.0, "inverter_kva": 20.0})
    found = solved(own, small(1, pv_pu=1.0, spot_sek_per_kwh=-0.5), price=0.25)
    assert found.cost == pytest.approx(5.0, abs=1e-7)


def test_export_stops_at_the_connection() -> None:
    own = settings(
        pv={"peak_kwp": 10.0, "inverter_kva": 20.0},
        battery={"capacity_kwh": 100.0, "power_kw": 50.0},
        export_max_kw=6.0,
    )
    found = solved(own, small(1, pv_pu=1.0, spot_sek_per_kwh=0.5))
    assert found["p_import_kw"] == pytest.approx(-6.0, abs=1e-7)
    assert found["p_battery_kw"] == pytest.approx(-4.0, abs=1e-7)


def test_heat_is_taken_back_only_where_that_is_allowed_and_at_the_same_price() -> None:
    own = {"boiler_chp": {**CHP, "turbine_max_kw": 0.0}}
    data = small(1, heat_load_kw=100.0, heat_price_sek_per_kwh=0.359)
    kept, sold = solved(settings(**own), data), solved(settings(**own, heat_export_max_kw=40.0), data)
    assert (kept["heat_import_kw"][0], sold["heat_import_kw"][0]) == pytest.approx((0.0, -40.0), abs=1e-6)
    assert sold.cost - kept.cost == pytest.approx(40.0 * (0.30 - 0.359), abs=1e-6)


def test_load_beyond_the_connection_is_shed_at_its_cost() -> None:
    data = small(1, load_p_kw=80.0, spot_sek_per_kwh=0.5, shed_cost_sek_per_kwh=30.0)
    found = solved(settings(import_max_kw=50.0), data)
    assert found["p_shed_kw"] == pytest.approx(30.0, abs=1e-7)
    assert found.cost == pytest.approx(0.5 * 50.0 + 30.0 * 30.0, abs=1e-7)


def test_tariffs_are_charged_on_import_on_each_days_peak_and_each_day() -> None:
    # 26 h: two calendar days; active power is exported in the last hour and pays no grid tariff there
    heat = np.full(26, 50.0)
    heat[[3, 25]] = [100.0, 70.0]
    pv = np.zeros(26)
    pv[25] = 1.0
    data = small(
        26,
        heat_load_kw=heat,
        heat_price_sek_per_kwh=0.359,
        heat_peak_sek_per_kw_day=2.35,
        heat_fixed_sek_per_day=76.33,
        load_p_kw=10.0,
        spot_sek_per_kwh=0.5,
        grid_tariff_sek_per_kwh=0.032,
        pv_pu=pv,
    )
    found = solved(settings(pv={"peak_kwp": 30.0, "inverter_kva": 30.0}), data)
    power = 0.5 * (25 * 10.0 - 20.0) + 0.032 * 25 * 10.0
    assert found.cost == pytest.approx(power + 0.359 * heat.sum() + 2.35 * (100.0 + 70.0) + 2 * 76.33, abs=1e-6)


def test_reactive_load_is_no_part_of_the_cost_but_what_was_paid_for_it_is() -> None:
    # f = cost - <c^Q, y0> with y0 = -load: the initial schedule draws 40 kvar for 2 h at .0222
    found = solved(settings(), small(load_q_kvar=40.0, reactive_price_sek_per_kvarh=0.0222), price=0.0222)
    assert found.cost == pytest.approx(2 * 40.0 * 0.0222, abs=1e-9)
    assert found["q_import_kvar"] == pytest.approx(40.0)
