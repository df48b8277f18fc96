"""The microgrid as one model and decomposed: the same optimum, proven; markets, storage, risk and files."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from microgrid import microgrid, tables

from benchmarks.microgrid import measure, page
from decomp.case.config import from_tables
from decomp.errors import InputError
from decomp.messages import Signal
from decomp.rules import ProgressiveHedging
from decomp.rules.auto import Auto
from decomp.rules.bundle import Bundle
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from problems.microgrid.bidding import bidding_curves
from problems.microgrid.block import bid_limits
from problems.microgrid.data import PRODUCTS
from problems.microgrid.extensive import solve_extensive
from problems.microgrid.frontier import risk_frontier
from problems.microgrid.results import bids_table, by_scenario, profit_table, storage_table, summary, tail


def given(steps=4, tangent=1e-3, bundle=1, risk=None, **market):
    t = tables(steps, **market)
    t["solver"] = {"tangent_usd": tangent}
    t["scenarios"]["bundle"] = bundle
    t["risk"] = risk or t["risk"]
    return t


def certified(problem, rule, every=3, limit=60):
    result = run(
        problem.subproblem, None, rule, coupling=problem.couplings, stop=[Gap(1e-4, 1e-6, "total")],
        limits=Limits(limit), certificate=CertificateSettings(every=every),
    )  # fmt: skip
    assert result.status == RunStatus.CERTIFIED, result.reason
    return result


@cache
def one_model(steps=4, scenarios=3):
    problem = microgrid(given(steps), scenarios)
    return problem, solve_extensive(problem)


def test_committed_bids_of_three_scenarios_agree_with_the_one_model():
    problem, whole = one_model()
    result = certified(problem, ProgressiveHedging())
    assert result.certificate.lower_bound <= whole.objective + 1e-6 * abs(whole.objective)
    assert whole.bound <= result.certificate.upper_bound + 1e-6 * abs(whole.bound)
    assert result.objective == pytest.approx(whole.objective, rel=1.1e-4)
    assert result.certificate.w_sum < 1e-6


def test_many_bids_that_only_agree_are_left_to_the_interior_point_where_blocks_are_convex(caplog):
    caplog.set_level("INFO")
    certified(microgrid(given(5, stage="committed"), 3), Auto())
    assert "auto picks InteriorPoint" in caplog.text
    t = given(4, stage="committed")
    t["storage"]["ESS"]["exclusive"] = "binary"
    binary = microgrid(t, 3)
    block = binary.subproblem(next(iter(binary.bundles)))
    assert not {"kkt", "convex"} & block.abilities
    assert Auto().pick(block.abilities, frozenset({"model"}), 100)[0] == ProgressiveHedging()


def test_the_series_are_of_the_point_whose_objective_is_claimed():
    problem = microgrid(given(2, 1e-6, risk={"w": 0.5, "delta": 0.9}, stage="committed"), 2)
    result = certified(problem, ProgressiveHedging(), limit=200)
    assert result.certificate.recovered == "offers", "else the point is another than the mean of the offers"
    profits = profit_table(problem, result.details)
    cost, prob = -profits["profit_usd"].to_numpy(), profits["probability"].to_numpy()
    v = result.answers.y[result.layout.start[1] - 1]
    tail_usd = v + prob @ np.maximum(cost - v, 0.0) / (1 - 0.9)
    assert result.objective == pytest.approx(0.5 * prob @ cost + 0.5 * tail_usd, abs=1e-5)


def test_thirty_scenarios_agree_with_the_one_model():
    problem = microgrid(given(4, bundle=10), 30)
    whole = solve_extensive(problem)
    result = certified(problem, ProgressiveHedging())
    assert result.certificate.lower_bound <= whole.objective + 1e-6 * abs(whole.objective)
    assert whole.bound <= result.certificate.upper_bound + 1e-6 * abs(whole.bound)
    assert result.objective == pytest.approx(whole.objective, rel=1.1e-4)
    assert set(by_scenario(problem, result.details)) == set(problem.data.names)


def test_risk_averse_bids_that_adapt_agree_with_the_one_model():
    problem = microgrid(given(3, risk={"w": 0.5, "delta": 0.6}, stage="per_scenario"), 5)
    assert problem.couplings[0].entries == ("value_at_risk",)
    whole = solve_extensive(problem)
    result = certified(problem, Bundle(near_request=False), every=1)
    assert result.objective == pytest.approx(whole.objective, rel=1.1e-4)
    profits = profit_table(problem, result.details)
    profit, prob = profits["profit_usd"].to_numpy(), profits["probability"].to_numpy()
    _, cvar = tail(profit, prob, 0.6)
    assert -result.objective == pytest.approx(0.5 * prob @ profit + 0.5 * cvar, rel=1e-3)


@pytest.mark.parametrize("reactive_cost", ["losses", "opportunity", "offer"])
def test_one_model_agrees_with_an_interior_point_solver(reactive_cost):
    pytest.importorskip("pyomo_pounce")
    problem = microgrid(given(2, 1e-5, reactive_cost=reactive_cost), 2)
    ours, theirs = solve_extensive(problem), solve_extensive(problem, "pounce")
    assert theirs.objective == pytest.approx(ours.objective, rel=1e-5)
    assert ours.bound <= theirs.objective + 1e-6 * abs(theirs.objective)


def test_bids_are_equal_in_all_scenarios_only_where_committed():
    problem, whole = one_model()
    other = microgrid(given(stage="per_scenario"), 3)
    free = solve_extensive(other)
    spread = [
        bids_table(p, e.details).query("unit == 'MG'").groupby("time")["energy_mw"].agg(np.ptp).max()
        for p, e in ((problem, whole), (other, free))
    ]
    assert spread[0] < 1e-6
    assert spread[1] > 0.1
    assert free.objective < whole.objective - 1.0  # who sees the weather earns more


def test_what_is_bid_stands_behind_it_in_every_scenario():
    problem, whole = one_model()
    for series in by_scenario(problem, whole.details).values():
        for product in (p for p in PRODUCTS if p != "reactive"):
            own = sum(series[f"{name}/{product}_mw"] for name in problem.settings.units)
            assert np.all(own >= series[f"MG/bid_{product}"] - series["MG/bought_back_usd"] - 1e-6)
        q = sum(series[f"{name}/reactive_mvar"] for name in problem.settings.units)
        assert np.all(q >= 0.3 - 1e-6)
        stored = sum(series[f"{name}/stored_mw"] for name in problem.settings.units)
        assert stored == pytest.approx(series["ESS/charge_mw"], abs=1e-6)


def test_bids_that_low_wind_cannot_deliver_are_bought_back():
    problem, whole = one_model()
    high = max(by_scenario(problem, whole.details).values(), key=lambda s: s["WT/energy_mw"].sum())
    y = np.array(whole.y)
    y[: problem.axis.settings.steps] += 0.5
    form_cost = [problem.scenario(name).evaluate(y) for name in problem.data.names]
    assert all(answer.status.has_point for answer in form_cost)
    assert sum(a.cost for a in form_cost) / 3 > whole.objective
    assert high["MG/bought_back_usd"].sum() == pytest.approx(0.0, abs=1e-3)


def test_grid_limits_hold_and_cost():
    _, whole = one_model()
    limited = microgrid(given(limit={"energy_mw": 3.0, "regulation_down_mw": 0.5}), 3)
    tight = solve_extensive(limited)
    table = bids_table(limited, tight.details).query("unit == 'MG'")
    assert table["energy_mw"].max() <= 3.0 + 1e-9
    assert table["regulation_down_mw"].max() <= 0.5 + 1e-9
    assert tight.objective > whole.objective
    assert bid_limits(limited.settings, limited.data)["energy"].max() == 3.0


def test_the_store_does_not_charge_while_it_discharges_where_outputs_are_ramped():
    """Then the optimum without the binaries of (59) is the optimum with them."""
    t = given(6, 1e-4)
    for turbine in t["mt"].values():
        turbine["ramp_of"] = "output"
    relaxed = microgrid(t, 1)
    t["storage"]["ESS"]["exclusive"] = "binary"
    exclusive = microgrid(t, 1)
    one, other = solve_extensive(relaxed), solve_extensive(exclusive)
    store = storage_table(relaxed, one.details)
    assert np.minimum(store["charge_mw"], store["discharge_mw"]).max() < 1e-6
    assert other.objective == pytest.approx(one.objective, rel=1e-5)
    assert store["charge_mw"].max() > 0.5


def test_expected_reserve_energy_earns_more_than_full():
    t = given(6)
    t["storage"]["ESS"]["reserve_energy"] = "expected"
    assert solve_extensive(microgrid(t, 1)).objective < solve_extensive(microgrid(given(6), 1)).objective - 1.0


def test_demand_response_earns_and_catches_up():
    t = given(5)
    t["demand_response"] = {
        "DR": {"curtailable_mw": 0.5, "energy_mwh": 1.0, "catch_up_mw": 0.5, "paid_usd_per_mwh": 5.0}
    }
    problem = microgrid(t, 1)
    with_it, without = solve_extensive(problem), solve_extensive(microgrid(given(5), 1))
    series = by_scenario(problem, with_it.details)["s000"]
    assert with_it.objective < without.objective - 5.0
    up = sum(series[f"DR/{name}_mw"] for name in ("energy", "regulation_up", "spinning", "nonspinning"))
    assert up.max() == pytest.approx(0.5)
    assert series["DR/outstanding_mwh"][-1] == pytest.approx(0.0, abs=1e-9)
    call = problem.settings.market.call
    curtailed = series["DR/energy_mw"] - call.regulation_down * series["DR/regulation_down_mw"]
    curtailed = curtailed + sum(
        getattr(call, n) * series[f"DR/{n}_mw"] for n in ("regulation_up", "spinning", "nonspinning")
    )
    assert curtailed.sum() > 0.01
    assert series["DR/catch_up_mw"].sum() == pytest.approx(curtailed.sum(), abs=1e-6)
    assert series["DR/outstanding_mwh"] == pytest.approx(np.cumsum(curtailed - series["DR/catch_up_mw"]), abs=1e-6)
    assert series["DR/cost_usd"] == pytest.approx(5.0 * curtailed, abs=1e-6)  # customers, by the expected energy
    stored = sum(series[f"{name}/stored_mw"] for name in ("MT1", "MT2", "PV", "WT"))
    assert stored == pytest.approx(series["ESS/charge_mw"] + series["DR/catch_up_mw"], abs=1e-6)
    offered = sum(series[f"{name}/energy_mw"] for name in problem.settings.units)
    assert np.all(series["MG/bid_energy"] <= offered + 1e-6)
    earned = sum(series[f"MG/revenue_{name}"].sum() for name in PRODUCTS)
    spent = sum(series[f"{name}/cost_usd"].sum() for name in problem.settings.units)
    assert -with_it.objective == pytest.approx(earned - spent, abs=1e-3)


def test_reactive_power_beyond_the_contract_is_a_bid_where_it_is_paid():
    problem = microgrid(given(3, reactive_paid_mvar=0.8, reactive_usd_per_mvarh=20.0), 2)
    assert len(problem.couplings[0].entries) == 6 * 3
    whole = solve_extensive(problem)
    assert bids_table(problem, whole.details).query("unit == 'MG'")["reactive_mvar"].min() > 0.4


def test_a_contract_that_turbines_meet_at_part_load_is_no_mistake():
    """At full power the armature leaves MT1 .66 Mvar."""
    t = given(2, reactive_required_mvar=0.9)
    t["mt"] = {"MT1": {**t["mt"]["MT1"], "voltage": {"slope_pu_per_mvar": 0.05}}}
    del t["solar"], t["wind"], t["storage"]
    problem = microgrid(t, 1)
    assert problem.settings.mt["MT1"].q_n_mvar < 0.7
    series = by_scenario(problem, solve_extensive(problem).details)["s000"]
    assert series["MT1/reactive_mvar"].min() > 0.9 - 1e-6
    assert series["MT1/power_mw"].max() < 0.8


def test_profit_adds_up_to_the_objective():
    problem, whole = one_model()
    table = profit_table(problem, whole.details)
    assert float(table["probability"] @ table["profit_usd"]) == pytest.approx(-whole.objective, abs=1e-6)


def test_bidding_curves_rise_with_the_price():
    problem, _ = one_model()
    found = bidding_curves(problem, [("MG", 15.0), ("MT1", 15.0)], [200.0, 10.0, 40.0, 80.0])
    for unit in ("MG", "MT1"):
        curve = found[found["unit"] == unit]
        assert curve["price_usd_per_mwh"].tolist() == [10.0, 40.0, 80.0, 200.0]
        assert np.all(np.diff(curve["energy_mw"]) >= -1e-6)
        assert curve["energy_mw"].iloc[-1] > curve["energy_mw"].iloc[0] + 0.3
    at_its_own_price = bidding_curves(problem, [("MG", 15.0)], [62.9])
    own = bids_table(problem, one_model()[1].details).query("unit == 'MG' and hour == 15")["energy_mw"].mean()
    assert at_its_own_price["energy_mw"].iloc[0] == pytest.approx(own, abs=0.02)


def test_frontier_trades_expected_profit_for_cvar():
    problem = microgrid(given(3, risk={"w": 1.0, "delta": 0.5}), 4)
    found = risk_frontier(problem, (1.0, 0.5, 0.0))
    assert np.all(np.diff(found["expected_profit_usd"]) <= 0.05)
    assert np.all(np.diff(found["cvar_usd"]) >= -0.05)
    assert found["cvar_usd"].iloc[-1] > found["cvar_usd"].iloc[0] + 0.05


@pytest.mark.parametrize(
    ("delta", "var", "cvar"), [(0.5, 20.0, 15.0), (0.75, 10.0, 10.0), (0.6, 20.0, (0.25 * 10 + 0.15 * 20) / 0.4)]
)
def test_tail_of_four_profits_by_hand(delta, var, cvar):
    assert tail(np.array([30.0, 10.0, 40.0, 20.0]), np.full(4, 0.25), delta) == pytest.approx((var, cvar))


def test_bundles_hold_every_scenario_once_and_mixed_weather():
    problem = microgrid(given(3, bundle=4), 10)
    names = [name for members in problem.bundles.values() for name in members]
    assert sorted(names) == sorted(problem.data.names)
    assert sum(problem.couplings[0].prob.values()) == pytest.approx(1.0)
    value = dict(zip(problem.data.names, sum(problem.data.available_mw.values()).sum(axis=1), strict=True))
    means = [np.mean([value[n] for n in members]) for members in problem.bundles.values()]
    assert np.ptp(means) < 0.5 * np.ptp(list(value.values()))


def test_a_block_answers_the_same_from_a_saved_state():
    problem, _ = one_model()
    key = next(iter(problem.couplings[0].prob))
    first, second = problem.subproblem(key), problem.subproblem(key)
    n = len(problem.couplings[0].entries)
    first.solve(Signal(np.zeros(n)))
    second.load(first.save())
    price = np.linspace(-3.0, 3.0, n)
    assert np.array_equal(first.solve(Signal(price)).y, second.solve(Signal(price)).y)


def case(tmp_path, **other):
    """Tables of a case file, and its CSV files in the folder."""
    t = given(3, bundle=2)
    t["scenarios"]["file"] = "scenarios.csv"
    stamps = [f"2020-08-16T{12 + k}:00:00-05:00" for k in range(3)]
    pd.DataFrame({"time": stamps, "wind_speed": 8.0, "irradiance": 500.0}).to_csv(tmp_path / "weather.csv", index=False)
    prices = {f"{n}_A_usd_per_mw": 5.0 for n in ("regulation_up", "regulation_down", "spinning", "nonspinning")}
    pd.DataFrame({"time": stamps, "energy_A_usd_per_mwh": [20.0, 60.0, 100.0], **prices}).to_csv(
        tmp_path / "prices.csv", index=False
    )
    rows = [(s, 0.5, x, v, 500.0) for s, v in (("calm", 4.0), ("windy", 9.0)) for x in stamps]
    names = ["scenario", "probability", "time", "wind_speed_ms", "irradiance_wm2"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "scenarios.csv", index=False)
    engine = {
        "case": {"title": "small", "problem": "problems.microgrid.problem:Microgrid"},
        "rule": {"kind": "progressive_hedging"},
        "stop": {"gap": {"tolerance": 1e-4, "measure": "total", "floor": 1e-6}},
        "certificate": {"every": 1},
        "run": {"max_rounds": 40},
    }
    return {**engine, **t, **other}


def test_a_case_file_is_solved_and_written(tmp_path):
    curves = {"curves": [{"unit": "MG", "hour": 14}, {"unit": "MT1", "hour": 15}], "prices": [10.0, 50.0, 150.0]}
    problem = from_tables(case(tmp_path, bidding=curves), tmp_path / "case.toml").problem
    result = certified(problem, ProgressiveHedging(), every=1)
    files = {path.name for path in problem.write(result, tmp_path)}
    assert {"bids.csv", "storage.csv", "profit.csv", "bidding_curves.csv"} <= files
    bids = pd.read_csv(tmp_path / "bids.csv")
    assert set(bids["unit"]) == {"MT1", "MT2", "PV", "WT", "ESS", "MG"}
    assert sorted(set(bids["hour"])) == [13.0, 14.0, 15.0]
    told = summary(problem, result)
    assert told["expected_profit_usd"] == pytest.approx(-result.objective, rel=1e-3)
    assert json.dumps(told)


def test_every_mistake_in_a_case_is_told_at_once(tmp_path):
    t = case(tmp_path, bidding={"curves": [{"unit": "MT9", "hour": 14}, {"unit": "MG", "hour": 3}], "prices": [1, 2]})
    t["market"]["reactive_required_mvar"] = 50.0
    with pytest.raises(InputError) as found:
        from_tables(t, tmp_path / "case.toml")
    text = str(found.value)
    for words in ("no unit 'MT9'", "no step is called hour 3", "all units together can give"):
        assert words in text
    t = case(tmp_path)
    t["risk"] = {"w": 1.5, "delta": 1.0}
    t["market"]["call"]["nonspinning"] = 0.5
    t["market"]["shortfall_factor"] = 0.5
    t["storage"]["ESS"]["eta_charge"] = 1.2
    t["mt"]["MT1"]["p_min_mw"] = 3.0
    with pytest.raises(InputError) as found:
        from_tables(t, tmp_path / "case.toml")
    places = {(m.section, m.key) for m in found.value.mistakes}
    assert {("risk", "w"), ("risk", "delta"), ("market", "shortfall_factor"), ("storage.ESS", "eta_charge")} <= places
    assert "above p_max_mw" in str(found.value)
    assert "above spinning" in str(found.value)


def as_toml(tables, path=""):
    """The tables as a TOML file; tables within tables get a head each."""
    plain = {k: v for k, v in tables.items() if not isinstance(v, dict)}
    head = [f"[{path}]"] if path else []
    lines = head + [f"{k} = {json.dumps(v)}" for k, v in plain.items()]
    for k, v in tables.items():
        if isinstance(v, dict):
            lines.append(as_toml(v, f"{path}.{k}" if path else k))
    return "\n".join(lines)


def test_benchmark_compares_both_ways_on_one_page(tmp_path):
    t = case(tmp_path)
    (tmp_path / "case.toml").write_text(as_toml(t))
    found = measure(tmp_path / "case.toml", [], 2, one_model=True)
    assert found.status == "certified"
    assert found.difference < 1.1e-4
    row = page([found], "the command").splitlines()[-1]
    assert row.startswith("| 2 | 1 | certified |")
