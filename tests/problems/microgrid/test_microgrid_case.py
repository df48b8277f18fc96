"""The microgrid's case file and its data: what the series are, and what is said of wrong ones."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paths import CASES, ROOT

from decomp.case.config import load
from decomp.errors import InputError
from decomp.parallel.ranks import Serial
from problems.microgrid.calls import call_probability
from problems.scenarios.sampling import autocorrelation_of

CASE = CASES / "ercot_microgrid.toml"
ERCOT = CASES / "ercot"
SERVICES = ("regulation_up", "regulation_down", "spinning", "nonspinning")


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return pd.read_csv(ERCOT / "prices_20200816.csv")


@pytest.fixture(scope="module")
def data():
    return load(CASE).problem.data


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(ERCOT, tmp_path / "ercot")
    return Path(shutil.copy(CASE, tmp_path))


def mistakes(case: Path, *overrides: str) -> dict[tuple[str, str], str]:
    with pytest.raises(InputError) as caught:
        load(case, overrides)
    return {(m.section, m.key): m.problem for m in caught.value.mistakes}


def test_series_c_is_series_a_an_hour_earlier(prices):
    for name in ("energy_{}_usd_per_mwh", *(f"{s}_{{}}_usd_per_mw" for s in SERVICES)):
        a, c = prices[name.format("A")].to_numpy(), prices[name.format("C")].to_numpy()
        np.testing.assert_array_equal(c[:-1], a[1:])
    assert prices.energy_C_usd_per_mwh.iloc[-1] == 17.86


def test_series_b_only_exchanges_the_dear_hours(prices):
    a, b = prices.energy_A_usd_per_mwh.to_numpy(), prices.energy_B_usd_per_mwh.to_numpy()
    dear = (prices.hour >= 14) & (prices.hour <= 18)
    np.testing.assert_array_equal(a[~dear], b[~dear])
    np.testing.assert_array_equal(np.sort(a[dear]), np.sort(b[dear]))
    assert prices.hour[b.argmax()] == 15


def test_reconstructed_reserve_prices_follow_their_formula(prices):
    energy = prices.energy_A_usd_per_mwh.to_numpy()
    for name, factor, base in (("regulation_up", 0.85, 20), ("spinning", 0.80, 20), ("nonspinning", 0.55, 25)):
        given, formula = prices[f"{name}_A_usd_per_mw"].to_numpy(), factor * (energy - base)
        assert np.all(given > formula - 0.01), name
        dear = energy > 60
        np.testing.assert_allclose(given[dear], formula[dear], atol=0.01)


def test_called_probabilities_are_need_over_load():
    table = pd.read_csv(ERCOT / "ancillary_requirement_july_2020.csv").set_index("service")
    call = load(CASE).problem.settings.market.call
    for name in SERVICES:
        probability = call_probability(table.requirement_mw[name], table.mean_load_mw[name])
        assert probability == pytest.approx(getattr(call, name), abs=5e-5)  # the need is rounded to MW


def test_the_autocorrelation_of_the_wind_is_that_of_july_2020():
    july = pd.read_csv(ERCOT / "wind_10m_july_2020_ms.csv").drop(columns="date")
    settings = load(CASE).problem.settings.scenarios
    assert autocorrelation_of(july) == pytest.approx(settings.wind_autocorrelation, abs=0.005)


def test_the_sample_has_the_moments_that_the_case_asks_for(data):
    wind, sun = data.wind_forecast_ms, data.irradiance_forecast_wm2
    np.testing.assert_allclose(data.sample.mean["wind_speed_ms"], wind, rtol=0.01)
    np.testing.assert_allclose(data.sample.std["wind_speed_ms"] / wind, 0.5227, rtol=0.02)  # Weibull with k = 2
    day = sun > 0
    np.testing.assert_allclose(data.sample.mean["irradiance_wm2"][day], sun[day], rtol=0.01)
    np.testing.assert_allclose(data.sample.std["irradiance_wm2"][day] / sun[day], 0.15, rtol=0.02)


def test_scenarios_are_the_weather_of_their_files_and_power_follows_it(data):
    assert len(data.names) == 3
    assert data.prob.sum() == pytest.approx(1.0, abs=1e-12)
    night = data.irradiance_forecast_wm2 == 0
    assert not data.available_mw["PV"][:, night].any()
    np.testing.assert_allclose(data.available_mw["PV"], 2.0 * data.irradiance_wm2 / 1000.0)
    calm = data.wind_speed_ms <= 3.0
    assert calm.any()
    assert not data.available_mw["WT"][calm].any()
    np.testing.assert_allclose(data.available_mw["WT"][~calm], np.minimum((data.wind_speed_ms[~calm] - 3.0) / 9.0, 1.0))


@pytest.mark.parametrize(("letter", "dearest"), [("A", 17), ("B", 15), ("C", 16)])
def test_the_letter_chooses_the_prices(letter, dearest):
    found = load(CASE, [f"prices.series={letter}"]).problem.data
    assert found.energy_usd_per_mwh.shape == (3, 24)
    assert found.axis.hours[found.energy_usd_per_mwh[0].argmax()] == dearest
    np.testing.assert_array_equal(found.called_usd_per_mwh["spinning"], found.energy_usd_per_mwh)


def test_what_is_called_can_be_paid_its_contract_price():
    found = load(CASE, ["prices.called=contract"]).problem.data
    np.testing.assert_array_equal(found.called_usd_per_mwh["spinning"][1], found.contract_usd_per_mwh["spinning"])


def test_the_number_of_scenarios_is_a_setting_and_the_seed_decides():
    few = ["scenarios.count=5", "scenarios.sample=64", "scenarios.reduction=fast_forward"]
    one, again, other = (load(CASE, [*few, f"scenarios.seed={s}"]).problem.data for s in (1, 1, 2))
    assert len(one.names) == 5
    np.testing.assert_array_equal(one.wind_speed_ms, again.wind_speed_ms)
    assert not np.array_equal(one.wind_speed_ms, other.wind_speed_ms)


def test_scenarios_from_a_file_are_taken_as_they_are(copied, data):
    rows = scenario_rows(data)
    rows.to_csv(copied.parent / "own.csv", index=False)
    found = load(copied, ["scenarios.file=own.csv"]).problem.data
    assert found.names == data.names
    assert found.sample is None
    np.testing.assert_array_equal(found.wind_speed_ms, data.wind_speed_ms)


def scenario_rows(data) -> pd.DataFrame:
    count, steps = data.wind_speed_ms.shape
    return pd.DataFrame(
        {
            "scenario": np.repeat(data.names, steps),
            "probability": np.repeat(data.prob, steps),
            "time": np.tile(data.axis.stamps, count),
            "wind_speed_ms": data.wind_speed_ms.ravel(),
            "irradiance_wm2": data.irradiance_wm2.ravel(),
        }
    )


def test_everything_wrong_with_files_and_tables_is_told_at_once(copied, data):
    rows = scenario_rows(data)
    rows["probability"] *= 0.9
    rows.drop(index=30).to_csv(copied.parent / "own.csv", index=False)
    table = pd.read_csv(copied.parent / "ercot" / "prices_20200816.csv")
    table.loc[3, "spinning_C_usd_per_mw"] = np.nan
    table.drop(columns="nonspinning_C_usd_per_mw").to_csv(copied.parent / "ercot" / "prices_20200816.csv", index=False)
    found = mistakes(copied, "scenarios.file=own.csv", "risk.delta=1.5", "risk.w=-0.1", "storage.ESS.eta_charge=1.2")
    assert "sum to 0.9" in found["scenarios", "probability"]
    assert "has no row for 1 of the 24 steps" in found["scenarios", "time"]
    assert "1 values are not finite" in found["prices", "spinning_C_usd_per_mw"]
    assert "no such column" in found["prices", "nonspinning_C_usd_per_mw"]
    assert {("risk", "delta"), ("risk", "w"), ("storage.ESS", "eta_charge")} <= set(found)


def test_deviations_that_no_beta_distribution_has_are_named_hour_by_hour():
    found = mistakes(CASE, "scenarios.irradiance_std_share=0.9", "prices.series=Z")
    steps = [key for section, key in found if section == "scenarios.irradiance_std_share"]
    assert "step 13" in steps
    assert "step 7" not in steps  # a low sun may vary that much
    assert ("prices", "energy_Z_usd_per_mwh") in found


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("scenarios.count=2000", "raise sample"),
        ("scenarios.wind_autocorrelation=1.0", "less than 1"),
        ("scenarios.irradiance_max_wm2=900.0", "must lie below r_max_wm2"),
        ("series.wind_speed.column=wind_999m_ms", "no such column"),
        ("scenarios.method=sobol", "power of 2"),
    ],
)
def test_settings_that_no_sample_can_have(override, told):
    with pytest.raises(InputError, match=told):
        load(CASE, [override])


def test_without_a_file_the_sample_has_to_be_described(copied):
    text = copied.read_text()
    copied.write_text(text.replace("seed = 20200816\n", "").replace("irradiance_max_wm2 = 1100.0\n", ""))
    (found,) = mistakes(copied).values()
    assert "seed, irradiance_max_wm2" in found


def test_bad_input_ends_with_code_2_and_writes_nothing(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("mpi_run", ROOT / "mpi_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    wrong = ["--set", "risk.delta=1.0", "--set", "scenarios.irradiance_std_share=0.9"]
    assert module.main(Serial(), [str(CASE), "--out", str(tmp_path / "out"), *wrong]) == 2
    told = capsys.readouterr().err
    assert "delta" in told
    assert "no Beta distribution" in told
    assert not (tmp_path / "out").exists()


def test_curves_and_contract_are_checked_though_prices_are_missing():
    wrong = ("prices.file='none.csv'", "market.reactive_required_mvar=30", "bidding.curves=[{unit='XX', hour=40}]")
    assert set(mistakes(CASE, *wrong)) == {
        ("prices", "file"),
        ("market", "reactive_required_mvar"),
        ("bidding.curves[0]", "unit"),
        ("bidding.curves[0]", "hour"),
    }


def test_converters_in_the_dark_do_not_count_for_the_reactive_contract():
    told = mistakes(CASE, "market.reactive_required_mvar=2.0")  # 3 Mvar at noon, 1.5 of the turbines at night
    assert set(told) == {("market", "reactive_required_mvar")}
    assert "above the 1.5 Mvar" in told["market", "reactive_required_mvar"]
    assert "PV and WT being without power and switched off" in told["market", "reactive_required_mvar"]
    load(CASE, ["market.reactive_required_mvar=1.4"])
