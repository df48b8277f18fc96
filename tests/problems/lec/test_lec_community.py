"""A community's answers to prices: signs, supply, what stays, what is reported, and what is said when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lec_cases import LEC1, LEC2, NEUTRAL, campus, settings, small, solved

from decomp.messages import BoolArray, FloatArray, Key, Response, Signal, Status
from problems.lec.community import LocalEnergyCommunity, committed_change_kvar, coupling, q_injection_kvar

T14, T17 = 13, 16
NEED: BoolArray = np.isin(np.arange(24), [T14, T17])


def community(table: dict[str, Any], *, freeze_p: bool = False, **changes: Any) -> LocalEnergyCommunity:
    return LocalEnergyCommunity("LEC", *campus(table, **changes), freeze_p=freeze_p)


def asked(block: LocalEnergyCommunity, ts: float, active: BoolArray | None = NEED) -> Response:
    price = np.where(NEED, ts, block.data.reactive_price_sek_per_kvarh)
    response = block.solve(Signal(price, active=active))
    assert response.status is Status.OPTIMAL, response.message
    return response


@pytest.fixture(scope="module", params=["LEC1", "LEC2"])
def block(request: pytest.FixtureRequest) -> LocalEnergyCommunity:
    return community({"LEC1": LEC1, "LEC2": LEC2}[request.param])


def test_neutral_price_changes_nothing(block: LocalEnergyCommunity) -> None:
    assert asked(block, NEUTRAL).y == pytest.approx(np.zeros(24), abs=1e-9)
    asked(block, 0.3)
    again = asked(block, NEUTRAL)
    assert again.y == pytest.approx(np.zeros(24), abs=0.3)  # a kink further: within the tolerance of the tangents
    assert again.cost - NEUTRAL * again.y.sum() == pytest.approx(_initial_cost(block), abs=1e-3)


def test_neutral_price_costs_equation_10_without_the_payment_for_the_initial_injection(
    block: LocalEnergyCommunity,
) -> None:
    found = asked(block, NEUTRAL)
    assert found.cost == pytest.approx(_initial_cost(block), abs=1e-6)
    assert found.cost > block.initial.cost + 1.0  # both draw reactive power and pay for it


def test_supply_rises_with_the_price(block: LocalEnergyCommunity) -> None:
    offers = np.array([asked(block, ts).y[NEED] for ts in (-0.6, -0.3, -0.1, 0.0, NEUTRAL, 0.1, 0.2, 0.4, 1.0)])
    assert np.all(np.diff(offers, axis=0) > -0.05)
    assert np.all(offers[-1] > offers[0] + 45.0)


def test_negative_price_absorbs(block: LocalEnergyCommunity) -> None:
    assert np.all(asked(block, -0.1).y[NEED] < -5.0)


def test_offer_stays_within_its_declared_capability(block: LocalEnergyCommunity) -> None:
    low, high = committed_change_kvar([q_injection_kvar(block.lec, block.data)])
    for ts in (-5.0, 5.0):
        y = asked(block, ts).y
        assert np.all((y >= low - 1e-6) & (y <= high + 1e-6))
    swing = asked(block, 5.0).y - asked(block, -5.0).y
    assert swing[NEED] == pytest.approx(high[NEED], rel=0.01)  # from one end to the other: the whole box


def test_all_devices_work_at_one_angle_while_no_limit_binds(block: LocalEnergyCommunity) -> None:
    ts = 0.04  # below a tenth of the spot price: the smart boiler's limit does not bind either
    found = block.detail(asked(block, ts))
    angles = [v[NEED] for k, v in found.items() if k.startswith("sin_phi")]
    assert len(angles) == {"2": 2, "7": 5}[block.lec.bus]
    for angle in angles:
        assert angle == pytest.approx(ts / block.data.spot_sek_per_kwh[NEED], abs=0.012)


def test_reactive_power_is_shared_in_proportion_to_active_power() -> None:
    found = community(LEC2)
    detail = found.detail(asked(found, 0.15))
    shares = [detail[f"q_pv{i}_kvar"][T14] / detail[f"p_pv{i}_kw"][T14] for i in (1, 2, 3, 4)]
    assert shares == pytest.approx([np.tan(np.arcsin(0.15 / found.data.spot_sek_per_kwh[T14]))] * 4, abs=0.01)


@pytest.mark.parametrize("table", [LEC1, LEC2], ids=["LEC1", "LEC2"])
def test_frozen_import_stays_where_there_is_a_need(table: dict[str, Any]) -> None:
    held = community(table, freeze_p=True)
    before = asked(held, NEUTRAL, np.zeros(24, bool)).report[:24]
    after = asked(held, 1.0).report[:24]
    assert after[NEED] == pytest.approx(before[NEED], abs=1e-6)


def test_free_import_moves_when_reactive_power_is_dear() -> None:
    # the tank heats when its reactive power is wanted: at 50 SEK/kvarh a tenth of a kW counts
    own = settings(smart_boiler={**LEC2["smart_boiler"], "draw_day_m3_per_h": 0.02})
    data = small(4, spot_sek_per_kwh=[0.5, 0.4, 0.6, 0.3])
    price, need = np.array([0.0, 0.0, 50.0, 0.0]), np.array([False, False, True, False])
    imports = {}
    for freeze_p in (False, True):
        block = LocalEnergyCommunity("LEC", own, data, freeze_p=freeze_p)
        before = block.solve(Signal(np.zeros(4))).report[2]
        imports[freeze_p] = block.solve(Signal(price, active=need)).report[2] - before
    assert imports[False] > 0.5
    assert imports[True] == pytest.approx(0.0, abs=1e-9)


def test_report_is_the_import_and_the_initial_injection(block: LocalEnergyCommunity) -> None:
    response = asked(block, 0.2)
    found = block.detail(response)
    assert response.report.shape == (48,)
    assert response.report[:24] == pytest.approx(found["p_import_kw"], abs=1e-9)
    assert response.report[24:] == pytest.approx(-found["q_import_initial_kvar"], abs=1e-9)
    given = coupling("LEC", block.data, np.arange(24), {Key("LEC"): 1.0})
    assert given.report[T14] == "p_import_kw[14:00]"
    assert given.report[24 + T14] == "q_initial_kvar[14:00]"
    assert given.entries[T17] == "dQ[17:00]"


def test_evaluate_gives_the_cost_of_an_offer_and_the_same_report(block: LocalEnergyCommunity) -> None:
    response = asked(block, 0.2, None)
    fixed = block.evaluate(response.y)
    assert fixed.status is Status.OPTIMAL, fixed.message
    assert fixed.cost == pytest.approx(response.cost, abs=1e-3)
    assert fixed.report == pytest.approx(response.report, abs=0.5)
    too_much = block.evaluate(np.full(24, 1e4))
    assert too_much.status is Status.INFEASIBLE


def test_penalty_pulls_the_offer_to_its_target(block: LocalEnergyCommunity) -> None:
    target = np.where(NEED, 8.0, 0.0)
    price = np.full(24, NEUTRAL)
    response = block.solve(Signal(price, target=target, penalty=np.full(24, 5.0), active=NEED))
    assert response.status is Status.OPTIMAL, response.message
    assert response.y == pytest.approx(target, abs=0.1)


def test_other_hours_do_not_answer(block: LocalEnergyCommunity) -> None:
    assert np.abs(asked(block, 0.2).y[~NEED]).max() < 0.3


# -- negative spot prices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [LEC1, LEC2], ids=["LEC1", "LEC2"])
def test_negative_spot_prices_have_no_opportunity_cost_and_still_an_answer(table: dict[str, Any]) -> None:
    own, data = campus(table)
    spot = np.where(np.abs(np.arange(24) - 13) <= 2, -0.8, data.spot_sek_per_kwh)
    negative = LocalEnergyCommunity("LEC", own, replace(data, spot_sek_per_kwh=spot), freeze_p=False)
    low, asked_more = asked(negative, 0.0223), asked(negative, 5.0)
    found = negative.detail(low)
    cheap = negative.detail(asked_more)
    for pv in (name for name in own.devices if name.startswith("pv")):  # free of cost: all of it above a price of 0
        assert found[f"q_{pv}_kvar"][T14] == pytest.approx(cheap[f"q_{pv}_kvar"][T14], abs=1e-6)
        assert found[f"q_{pv}_kvar"][T14] > 10.0
    assert np.all(np.minimum(found["charge_battery_kw"], found["discharge_battery_kw"]) < 1e-6)
    assert np.all(np.minimum(cheap["charge_battery_kw"], cheap["discharge_battery_kw"]) < 1e-6)
    assert found["p_import_kw"][T14] > asked(community(table), NEUTRAL).report[T14]


def test_battery_does_not_burn_energy_at_negative_prices() -> None:
    # without binaries it would charge and discharge at once: each kWh burnt earns .8
    own = settings(battery={"capacity_kwh": 100.0, "power_kw": 50.0, "start_share": 0.95, "wear_sek_per_kwh": 0.0})
    found = solved(own, small(3, spot_sek_per_kwh=-0.8))
    assert np.all(np.minimum(found["charge_battery_kw"], found["discharge_battery_kw"]) < 1e-7)


# -- what is said when there is no schedule ----------------------------------------------------------------------------


def test_boiler_that_must_give_more_heat_than_is_wanted_is_named() -> None:
    own = settings(boiler_chp={**LEC1["boiler_chp"], "turbine_max_kw": 0.0})
    heat = np.array([100.0, 100.0, 20.0, 100.0])
    block = LocalEnergyCommunity("LEC1", own, small(4, heat_load_kw=heat), freeze_p=True)
    response = block.solve(Signal(np.zeros(4)))
    assert response.status is Status.INFEASIBLE
    assert "[02:00]" in response.message
    assert "[2]" not in response.message
    assert "boiler_chp: the boiler gives at least boiler_min_kw = 60" in response.message
    assert "allow dump_max_kw or heat_export_max_kw" in response.message
    dumped = {**LEC1["boiler_chp"], "turbine_max_kw": 0.0, "dump_max_kw": 50.0}
    assert solved(settings(boiler_chp=dumped), small(4, heat_load_kw=heat))["dump_boiler_chp_kw"][2] > 39.0


def test_solar_power_without_a_way_out_is_named() -> None:
    own = settings(pv={"peak_kwp": 10.0, "inverter_kva": 10.0}, export_max_kw=0.0)
    response = LocalEnergyCommunity("LEC", own, small(2, pv_pu=[0.0, 1.0]), freeze_p=True).solve(Signal(np.zeros(2)))
    assert response.status is Status.INFEASIBLE
    assert "electric_balance[01:00]" in response.message
    assert "export_max_kw limit" in response.message


def test_tank_that_cannot_follow_what_is_drawn_is_named() -> None:
    own = settings(smart_boiler={**LEC2["smart_boiler"], "draw_day_m3_per_h": 0.07})
    response = LocalEnergyCommunity("LEC", own, campus(LEC2)[1], freeze_p=True).solve(Signal(np.zeros(24)))
    assert response.status is Status.INFEASIBLE
    assert "smart_boiler.tank_temperature[" in response.message
    assert "raise it, or let less be drawn" in response.message


def test_offer_that_cannot_be_met_gets_no_advice_on_the_devices(block: LocalEnergyCommunity) -> None:
    assert "boiler_min_kw" not in block.evaluate(np.full(24, 1e4)).message


def test_tank_too_small_for_the_step_is_bad_input() -> None:
    own = settings(smart_boiler={**LEC2["smart_boiler"], "volume_m3": 0.03})
    response = LocalEnergyCommunity("LEC", own, campus(LEC2)[1], freeze_p=True).solve(Signal(np.zeros(24)))
    assert response.status is Status.ERROR
    assert "take shorter steps or a larger tank" in response.message


def _initial_cost(block: LocalEnergyCommunity) -> float:
    offer: FloatArray = block.initial.offer
    return block.initial.cost - NEUTRAL * float(offer.sum())
