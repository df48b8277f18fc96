"""The microgrid against a second model that shares no code with it (cvxpy, Clarabel): the same optimum everywhere."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from microgrid import data_of, microgrid, tables
from microgrid_reference import World, solve
from paths import CASES

from decomp.case.config import load
from decomp.errors import InputError
from problems.microgrid.extensive import solve_extensive
from problems.microgrid.problem import Microgrid, merged
from problems.microgrid.results import by_scenario
from problems.microgrid.settings import MicrogridSettings

CASE = CASES / "ercot_microgrid.toml"
STORE = {"storage": {"ESS": {"start_mwh": 2.0}}}
SETTINGS = {
    "the paper's stage": {},
    "committed": {"market": {"stage": "committed"}},
    "energy committed": {"market": {"stage": "energy_committed"}},
    "surplus is paid half": {"market": {"stage": "committed", "surplus_factor": 0.5}},
    "opportunity cost": {"market": {"reactive_cost": "opportunity"}},
    "offers of reactive power": {"market": {"reactive_cost": "offer"}},
    "reactive power is sold": {"market": {"reactive_paid_mvar": 1.2, "reactive_usd_per_mvarh": 20.0}},
    "reserve counts as expected": {"storage": {"ESS": {"reserve_energy": "expected", "start_mwh": 1.0}}},
    "limit of what is delivered": {"storage": {"ESS": {"discharge_limit": "delivered", "end_mwh": 1.0}}},
    "outputs are ramped": {"mt": {"MT2": {"ramp_of": "output", "ramp_up_mw": 0.4, "ramp_down_mw": 0.3}}},
    "turbines with small ratings": {
        "market": {"reactive_required_mvar": 1.0},
        "mt": {"MT1": {"rating_mva": 1.05, "loss": None}, "MT2": {"rating_mva": 2.05}},
    },
    "a solar converter of 1.5 MVA": {
        "market": {"reactive_required_mvar": 1.4},
        "solar": {"PV": {"rating_mva": 1.5, "voltage": {"slope_pu_per_mvar": 0.04}}},
    },
    "a wind converter of 0.5 MVA": {"wind": {"WT": {"rating_mva": 0.5, "converter_v_pu": 1.2}}},
    "averse to risk, by scenario": {"risk": {"w": 0.3, "delta": 0.6}},
    "averse to risk, committed": {"risk": {"w": 0.3, "delta": 0.6}, "market": {"stage": "committed"}},
    "limits": {"market": {"limit": {"energy_mw": 3.0, "regulation_up_mw": 1.0, "regulation_down_mw": 0.4}}},
    "limits, committed": {"market": {"stage": "committed", "limit": {"energy_mw": 2.5, "spinning_mw": 0.2}}},
    "energy called down is bought back": {
        "market": {"called_down": "bought_back", "call": {"regulation_down": 0.3}},
    },
    "bought from the grid": {"market": {"buy_mw": 1.0, "buy_fee_usd_per_mwh": 2.0}},
    "bought from the grid, committed": {"market": {"buy_mw": 1.0, "stage": "committed"}},
    "output before the first hour": {"mt": {"MT2": {"initial_mw": 1.9, "ramp_down_mw": 0.3}}},
    "the store wears": {"storage": {"ESS": {"wear_usd_per_mwh": 12.0, "start_mwh": 3.0}}},
    "the store wears by what is expected": {
        "storage": {"ESS": {"wear_usd_per_mwh": 12.0, "start_mwh": 3.0, "reserve_energy": "expected"}},
    },
    "few cycles": {"storage": {"ESS": {"cycles_per_day": 0.5, "start_mwh": 3.0}}},
    "reserves that can be ramped": {
        "market": {
            "delivery": {
                "regulation_up_within_min": 5.0, "spinning_within_min": 10.0, "nonspinning_within_min": 30.0,
                "regulation_down_within_min": 5.0,
            },
        },
    },
    "reserves that last": {
        "market": {"delivery": {"regulation_up_for_h": 2.0, "nonspinning_for_h": 4.0}},
        "storage": {"ESS": {"start_mwh": 4.0, "reserve_energy": "expected"}},
    },
    "reserves that last, counted in full": {
        "market": {"delivery": {"regulation_up_for_h": 2.0}}, "storage": {"ESS": {"start_mwh": 4.0}},
    },
}  # fmt: skip
PRICES = {  # $/MWh
    "as they are": None,
    "below zero at first": np.array([-30.0, -30.0, 62.9, 108.6, 193.8, 42.5]),
}


def world_of(problem) -> World:
    data = problem.data
    return World(
        data.axis.dt_h, data.prob, data.energy_usd_per_mwh, data.contract_usd_per_mwh, data.called_usd_per_mwh,
        data.available_mw, problem.settings.market.reactive_usd_per_mvarh, dict(data.market_limit_mw),
        dict(data.call_probability),
    )  # fmt: skip


def both(given, energy=None, scenarios=3):
    """The problem, its one model at tight tangents, and the independent optimum."""
    problem = microgrid(given, scenarios)
    if energy is not None:
        data = data_of(problem.settings, scenarios)
        rows = np.tile(energy[: data.axis.settings.steps], (scenarios, 1))
        problem = problem.with_data(_with_energy(data, rows))
    case = problem.settings.model_dump(exclude_none=True)
    return problem, solve_extensive(problem), solve(case, world_of(problem))


def _with_energy(data, rows):
    return replace(data, energy_usd_per_mwh=rows, called_usd_per_mwh=dict.fromkeys(data.called_usd_per_mwh, rows))


@pytest.mark.parametrize("prices", PRICES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_an_independent_model_has_the_same_optimum(setting, prices):
    given = merged({**tables(5, stage="per_scenario"), "solver": {"tangent_usd": 1e-6}}, SETTINGS[setting])
    given["mt"] = {name: {k: v for k, v in unit.items() if v is not None} for name, unit in given["mt"].items()}
    problem, ours, theirs = both(given, PRICES[prices])
    assert -ours.objective == pytest.approx(theirs.objective, rel=2e-7)
    assert -ours.bound >= theirs.objective * (1 - 1e-7)
    for series in by_scenario(problem, ours.details).values():
        for name, top in problem.settings.market.limit.model_dump(exclude_none=True).items():
            own = sum(series[f"{unit}/{name}"] for unit in problem.settings.units)
            assert np.all(own <= top + 1e-7)


def test_prices_calls_and_limits_by_hour_and_scenario():
    """gamma_s and o-gamma_s of (27), (29), probabilities (60) and limits (48)-(52) of every hour."""
    given = {**tables(4, stage="committed"), "solver": {"tangent_usd": 1e-6}, "risk": {"w": 0.4, "delta": 0.6}}
    settings = MicrogridSettings.model_validate(given)
    data = data_of(settings)
    rng = np.random.default_rng(3)
    shape = data.energy_usd_per_mwh.shape
    energy = data.energy_usd_per_mwh * rng.uniform(0.6, 1.5, shape)
    data = replace(
        data,
        energy_usd_per_mwh=energy,
        contract_usd_per_mwh={n: x * rng.uniform(0.5, 1.5, shape) for n, x in data.contract_usd_per_mwh.items()},
        called_usd_per_mwh={n: energy * rng.uniform(0.5, 2.0, shape) for n in data.called_usd_per_mwh},
        call_probability={
            "spinning": np.array([0.05, 0.2, 0.1, 0.04]),
            "regulation_up": np.array([0.0, 0.1, 0.3, 0.2]),
        },
        market_limit_mw={"energy": np.array([3.0, 2.0, 4.0, 5.0]), "spinning": np.array([0.0, 0.3, 0.2, 0.1])},
    )
    assert data.prices_differ
    problem = Microgrid(settings, Path(), data)
    theirs = solve(settings.model_dump(exclude_none=True), world_of(problem))
    assert -solve_extensive(problem).objective == pytest.approx(theirs.objective, rel=2e-7)


def test_a_turbine_that_may_be_off_has_the_best_of_all_patterns():
    """Every pattern of on and off is fixed in the independent model in turn."""
    given = {**tables(4, stage="per_scenario", reactive_required_mvar=0.2), "solver": {"tangent_usd": 1e-6}}
    del given["mt"]["MT1"]
    off = {"start_usd": 4.0, "min_up_h": 2.0}
    given["mt"]["MT2"] |= {"commitment": off, "b3": 14.0, "b2": 2.5}
    problem = microgrid(given, 1)
    problem = problem.with_data(_with_energy(problem.data, np.array([[20.0, 34.0, 22.0, 90.0]])))
    ours = solve_extensive(problem)
    case, best = problem.settings.model_dump(exclude_none=True), {}
    for on in product((0, 1), repeat=4):
        case["mt"]["MT2"]["on"] = on
        starts = np.flatnonzero(np.diff((1, *on)) == 1)
        found = None if any(not all(on[k : k + 2]) for k in starts) else solve(case, world_of(problem))
        if found is not None:
            best[on] = found.objective
    assert -ours.objective == pytest.approx(max(best.values()), rel=1e-6)
    pattern = max(best, key=best.__getitem__)
    assert 0 < sum(pattern) < 4, "else nothing is switched"
    (series,) = by_scenario(problem, ours.details).values()
    np.testing.assert_allclose(series["MT2/running_share"], pattern, atol=1e-6)


def test_a_turbine_that_is_off_sells_non_spinning_reserve():
    given = {**tables(3, stage="per_scenario", reactive_required_mvar=0.2), "solver": {"tangent_usd": 1e-6}}
    given["mt"] = {"MT2": {**given["mt"]["MT2"], "b3": 40.0, "commitment": {"quick_start_mw": 1.5}}}
    problem = microgrid(given, 1)
    data = replace(problem.data, contract_usd_per_mwh={n: np.full(3, 3.0) for n in problem.data.contract_usd_per_mwh})
    problem = problem.with_data(_with_energy(data, np.full((1, 3), 14.0)))
    (series,) = by_scenario(problem, solve_extensive(problem).details).values()
    np.testing.assert_allclose(series["MT2/running_share"], 0.0, atol=1e-6)
    np.testing.assert_allclose(series["MT2/nonspinning_mw"], 1.5, atol=1e-6)
    np.testing.assert_allclose(series["MT2/energy_mw"], 0.0, atol=1e-6)
    np.testing.assert_allclose(series["MT2/reactive_mvar"], 0.0, atol=1e-6)
    unit, p = problem.settings.mt["MT2"], 1.5
    called = problem.settings.market.call.nonspinning
    np.testing.assert_allclose(series["MT2/cost_usd"], called * unit.cost_usd_per_h(p), rtol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "right"),
    [
        ((), 4619.556),
        (("market.limit.regulation_down_mw=0.0",), 4340.924),
        (("market.limit.regulation_down_mw=0.0", "market.call.regulation_down=0.3"), 4340.924),
        (("negative",), 4397.568),
    ],
)
def test_the_shipped_case_has_the_independent_optimum(overrides, right):
    negative = overrides == ("negative",)
    fine = ["bidding.curves=[]", "solver.tangent_usd=1e-6", *(() if negative else overrides)]
    problem = load(CASE, fine).problem
    if negative:
        rows = problem.data.energy_usd_per_mwh.copy()
        rows[:, :8] = -30.0
        problem = problem.with_data(_with_energy(problem.data, rows))
    theirs = solve(problem.settings.model_dump(exclude_none=True), world_of(problem))
    assert theirs.objective == pytest.approx(right, abs=2e-3)
    assert -solve_extensive(problem).objective == pytest.approx(theirs.objective, rel=2e-7)


@pytest.mark.parametrize("tangent", [1e-3, 1e-5, 1e-9])
def test_bound_and_cost_enclose_the_true_optimum_however_coarse_the_tangents_are(tangent):
    given = {**tables(5, stage="per_scenario", reactive_required_mvar=1.3), "risk": {"w": 0.5, "delta": 0.6}}
    given["solver"] = {"tangent_usd": tangent, "tangent_mw": tangent}
    given["solar"]["PV"] |= {"rating_mva": 1.5, "voltage": {"slope_pu_per_mvar": 0.04}}
    problem = microgrid(given)
    ours = solve_extensive(problem)
    theirs = solve(problem.settings.model_dump(exclude_none=True), world_of(problem)).objective
    rounding = 2e-8 * theirs
    assert -ours.objective <= theirs + rounding
    assert -ours.bound >= theirs - rounding
    assert ours.objective - ours.bound <= 1000 * tangent + 1e-3
    for series in by_scenario(problem, ours.details).values():
        for name, rating in (("PV", 1.5), ("WT", 1.1)):
            q, loss = series[f"{name}/reactive_mvar"], series[f"{name}/loss_mw"]
            p = series[f"{name}/terminal_mw"]
            apparent = np.hypot(p, np.abs(q) + (loss if name == "PV" else 0.0))
            assert np.all(apparent <= rating + 1e-8)


def test_a_limit_below_what_the_turbines_always_give_is_refused():
    with pytest.raises(InputError, match=r"infeasible: the grid takes 0.3 MW of energy \(48\).*at least 0.6 MW"):
        load(CASE, ["market.limit.energy_mw=0.3"])
    problem = load(CASE, ["market.limit.energy_mw=0.6", "bidding.curves=[]"]).problem
    assert isinstance(problem.settings, MicrogridSettings)
    assert solve_extensive(problem).objective < 0
