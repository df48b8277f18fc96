"""What a microgrid is told of prices and weather: columns that count and columns refused, moments that are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from microgrid import microgrid, tables
from paths import CASES

from decomp.case.config import load
from decomp.errors import InputError
from problems.microgrid import remarks
from problems.microgrid.extensive import solve_extensive
from problems.microgrid.frontier import frontier_remarks, risk_frontier
from problems.microgrid.input_tables import market_table, moments_table, weather_table
from problems.microgrid.results import by_scenario, storage_table
from problems.scenarios.moment_matching import with_moments

CASE = CASES / "ercot_microgrid.toml"
PRICES = "prices_20200816.csv"
SMALL = ("bidding.curves=[]", "scenarios.sample=64")


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(CASES / "ercot", tmp_path / "ercot")
    return Path(shutil.copy(CASE, tmp_path))


def with_columns(case: Path, **columns) -> None:
    path = case.parent / "ercot" / PRICES
    pd.read_csv(path).assign(**columns).to_csv(path, index=False)


def told(case: Path, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load(case, [*SMALL, *overrides])
    return str(caught.value)


def test_probabilities_and_limits_of_every_hour_come_from_the_price_file(copied):
    call, limit = np.linspace(0.0, 0.1, 24), np.linspace(2.0, 5.0, 24)
    with_columns(copied, regulation_up_call_probability=call, energy_limit_mw=limit, spinning_limit_mw=0.0)
    problem = load(copied, SMALL).problem
    np.testing.assert_allclose(problem.data.call_probability["regulation_up"], call)
    table = market_table(problem.settings, problem.data)
    np.testing.assert_allclose(table.regulation_up_call_probability, call)
    assert set(table.spinning_call_probability) == {0.055}
    np.testing.assert_allclose(table.energy_limit_mw, limit)
    assert problem.bid_limit["spinning"].max() == 0.0


def test_the_probability_of_a_need_is_need_over_consumption(copied):
    need = np.linspace(100.0, 300.0, 24)
    with_columns(copied, spinning_requirement_mw=need, load_mw=2000.0)
    found = load(copied, [*SMALL, "market.call.nonspinning=0.0"]).problem.data
    np.testing.assert_allclose(found.call_probability["spinning"], 0.1)  # mean over mean, (60)
    with_columns(copied, load_mw=20.0)
    assert "check the units" in told(copied)


def test_columns_that_nothing_reads_are_refused(copied):
    with_columns(copied, energy_limit_MW=3.0, spining_C_usd_per_mw=1.0)
    text = told(copied)
    assert "energy_limit_MW: nothing reads a column of this name; did you mean 'energy_limit_mw'?" in text
    assert "did you mean 'spinning_C_usd_per_mw'?" in text


def test_probabilities_that_are_none_are_told_with_their_hour(copied):
    probability = np.full(24, 0.1)
    probability[5] = 0.97
    with_columns(copied, regulation_up_call_probability=probability)
    text = told(copied)
    assert "at 06:00" in text
    assert "is above 1" in text
    with_columns(copied, regulation_up_requirement_mw=5.0)
    assert "stands beside" in told(copied)


def test_what_is_called_has_prices_of_its_own(copied):
    services = ("regulation_up", "regulation_down", "spinning", "nonspinning")
    with_columns(copied, **{f"{name}_called_C_usd_per_mwh": np.arange(24.0) - 3.0 for name in services})
    found = load(copied, [*SMALL, "prices.called=own"]).problem.data
    np.testing.assert_array_equal(found.called_usd_per_mwh["nonspinning"][1], np.arange(24.0) - 3.0)
    assert "no such column" in told(CASE, "prices.called=own")


def test_prices_are_drawn_with_the_weather():
    uncertain = (
        "scenarios.prices={energy_std_share=0.2, services_std_share=0.3, autocorrelation=0.8, "
        "services_correlation=0.9, wind_correlation=-0.3}"
    )
    sure = load(CASE, SMALL).problem.data
    data = load(CASE, ["bidding.curves=[]", "scenarios.sample=500", "scenarios.count=500", uncertain]).problem.data
    energy, spinning = data.energy_usd_per_mwh, data.contract_usd_per_mwh["spinning"]
    assert data.prices_differ
    assert not sure.prices_differ
    np.testing.assert_allclose(data.prob @ energy, sure.energy_usd_per_mwh[0], rtol=0.01)
    np.testing.assert_allclose(energy.std(axis=0) / energy.mean(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose(spinning.mean(axis=0), sure.contract_usd_per_mwh["spinning"], rtol=0.02)
    assert np.corrcoef(energy[:, 15], spinning[:, 15])[0, 1] > 0.8
    assert np.corrcoef(energy[:, 15], data.wind_speed_ms[:, 15])[0, 1] < -0.1
    np.testing.assert_array_equal(data.called_usd_per_mwh["spinning"], energy)
    assert {"energy_usd_per_mwh", "spinning_usd_per_mw"} <= set(weather_table(data).columns)


def test_a_file_of_scenarios_may_say_their_prices(copied):
    data = load(copied, SMALL).problem.data
    rows = weather_table(data)[["scenario", "probability", "time", "wind_speed_ms", "irradiance_wm2"]]
    prices = {"energy_usd_per_mwh": np.linspace(-9.0, 90.0, len(rows)), "spinning_usd_per_mw": np.arange(len(rows))}
    rows.assign(**prices).to_csv(copied.parent / "own.csv", index=False)
    found = load(copied, [*SMALL, "scenarios.file=own.csv"]).problem.data
    np.testing.assert_allclose(found.energy_usd_per_mwh.ravel(), prices["energy_usd_per_mwh"])
    np.testing.assert_allclose(found.contract_usd_per_mwh["spinning"].ravel(), prices["spinning_usd_per_mw"])
    np.testing.assert_array_equal(found.scene(found.names[1]).energy_usd_per_mwh, found.energy_usd_per_mwh[1])
    rows.assign(price_usd_per_mwh=1.0).to_csv(copied.parent / "own.csv", index=False)
    assert "price_usd_per_mwh: nothing reads a column" in told(copied, "scenarios.file=own.csv")


@pytest.mark.parametrize("distance", ["weather", "power", "value"])
def test_scenarios_keep_the_moments_of_the_sample(distance):
    case = load(CASE, ["bidding.curves=[]", "scenarios.moments=kept", f"scenarios.distance={distance}"]).problem
    data = case.data
    for name, power in data.available_mw.items():
        mean, std = data.sample.mean[f"available_{name}_mw"], data.sample.std[f"available_{name}_mw"]
        np.testing.assert_allclose(data.prob @ power, mean, atol=1e-9)
        found = np.sqrt(data.prob @ (power - mean) ** 2)
        assert np.all(found < std + 1e-6)
        assert np.mean(found > 0.98 * std - 1e-9) > 0.7, "where three values can have the deviation they do"
        assert np.all(power >= 0.0)
    assert max(map(abs, data.energy_errors().values())) < 1e-9
    assert remarks.reduction_remarks(case) == []
    table = moments_table(case.settings, data)
    wind = table[table.series == "available_WT_mw"]
    np.testing.assert_allclose(wind.kept_mean, wind.sample_mean, atol=1e-9)


def test_energy_that_the_reduction_loses_is_told():
    case = load(CASE, ["bidding.curves=[]"]).problem
    (said,) = [text for text in remarks.reduction_remarks(case) if "WT" in text]
    error = case.data.energy_errors()["WT"]
    assert error == pytest.approx(-0.19, abs=0.01)
    assert "carry 19% less energy of WT" in said
    assert not remarks.reduction_remarks(load(CASE, ["bidding.curves=[]", "scenarios.energy_error_share=0.2"]).problem)


def test_two_values_get_mean_and_deviation_by_hand():
    values = np.array([[1.0, 0.0, 2.0, 5.0], [3.0, 1.0, 2.0, 5.0]])
    prob = np.array([0.75, 0.25])
    mean, std = np.array([2.0, 0.1, 1.0, 9.0]), np.array([0.5, 9.0, 3.0, 0.0])
    found = with_moments(values, prob, mean, std, 0.0, 10.0)
    gap = 0.5 / np.sqrt(0.75 * 0.25)
    np.testing.assert_allclose(found[:, 0], [2.0 - 0.25 * gap, 2.0 + 0.75 * gap], atol=1e-9)
    np.testing.assert_allclose(found[:, 1], [0.0, 0.4], atol=1e-6)  # the most that these limits leave
    np.testing.assert_allclose(found[:, 2:], [[1.0, 9.0], [1.0, 9.0]], atol=1e-9)  # equal values stay so
    with pytest.raises(ValueError, match="cannot lie within"):
        with_moments(values, prob, mean, std, 0.0, 5.0)


def test_a_store_that_charges_while_it_holds_reserve_is_told_and_binaries_keep_it_from_that():
    given = {**tables(4, stage="per_scenario"), "solver": {"tangent_usd": 1e-5}}
    given["storage"]["ESS"] |= {"reserve_energy": "expected", "start_mwh": 1.0}
    relaxed = microgrid(given, 1)
    free = solve_extensive(relaxed)
    table = storage_table(relaxed, free.details)
    both = remarks.charged_while_held_mw(table)
    assert both.max() > 0.1
    assert np.minimum(table.charge_mw, table.discharge_mw).max() < both.max()
    (said,) = remarks.exclusive_remarks(relaxed, table)
    assert f"ESS charges up to {both.max():.3g} MW" in said
    assert f"in {np.sum(both > 1e-6)} of 4 steps" in said
    given["storage"]["ESS"]["exclusive"] = "binary"
    binary = microgrid(given, 1)
    exact = solve_extensive(binary)
    table = storage_table(binary, exact.details)
    assert remarks.charged_while_held_mw(table).max() < 1e-6
    assert remarks.exclusive_remarks(binary, table) == []
    assert exact.objective > free.objective + 0.1


@pytest.mark.parametrize("reactive_cost", ["losses", "opportunity"])
def test_what_is_approximated_is_said_and_bounded(reactive_cost):
    given = tables(3, stage="per_scenario", reactive_cost=reactive_cost, reactive_required_mvar=1.3)
    steps = {"x_percent": [1.0, 3.0], "y_percent": [0.0, 50.0, 100.0]}
    given["solar"]["PV"]["loss"] = steps
    problem = microgrid(given, 2)
    series = by_scenario(problem, solve_extensive(problem).details)
    table = remarks.approximations_table(problem, series).set_index(["unit", "equation"])
    assert np.all(table.at_point <= table.at_most + 1e-9)
    widest = problem.settings.solar["PV"].q_limits_mvar[1]
    assert table.at_most["PV", "(15)"] == pytest.approx(problem.settings.solar["PV"].loss.error_mw(widest))
    assert ("WT", "(36)") in table.index
    assert (("MT1", "(31)") in table.index) == (reactive_cost == "opportunity")
    if reactive_cost == "opportunity":
        unit, worst = problem.settings.mt["MT1"], 0.0
        for scenario, found in series.items():
            energy = problem.data.scene(scenario).energy_usd_per_mwh
            oc = unit.marginal_usd_per_mwh(found["MT1/power_mw"])
            charged = np.maximum(energy - unit.marginal_usd_per_mwh(0.6), 0.0)
            worst = max(worst, float(np.sum(np.abs(charged - (energy - oc)) * found["MT1/loss_mw"])))
        assert table.at_point["MT1", "(31)"] == pytest.approx(worst, abs=1e-9)


def test_risk_that_leaves_schedules_open_is_told():
    given = {**tables(2, stage="committed"), "risk": {"w": 0.0, "delta": 0.9}}
    (said,) = remarks.risk_remarks(microgrid(given))
    assert "only the worst 0.1 of the probability counts" in said
    assert "up to 0.667 of it" in said
    given["risk"]["w"] = 0.5
    assert remarks.risk_remarks(microgrid(given)) == []
    given["market"]["stage"] = "per_scenario"
    assert "not what is bid" in remarks.risk_remarks(microgrid(given))[0]


def test_a_frontier_of_one_point_is_told():
    risk = {"w": 1.0, "delta": 0.5}
    one = microgrid({**tables(2, stage="per_scenario"), "risk": risk})
    said = frontier_remarks(one, risk_frontier(one, (1.0, 0.5, 0.0)))
    assert "all points are one" in said[0]
    assert "market.stage=committed" in said[0]
    assert "w = 0" in said[1]
    other = microgrid({**tables(3, stage="committed"), "risk": risk}, 4)
    assert frontier_remarks(other, risk_frontier(other, (1.0, 0.5))) == []
