"""The hour's optimal power flow against an NLP solver, and its voltages against an independent power flow."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from feeders import power_grid_model_voltages, read

from problems.network.hour import ALL, Controls, HourProblem, flow_with
from problems.network.linear_model import LinearModel
from problems.network.opf import solve_hour
from problems.network.power_flow import solve
from problems.network.sensitivity import sensitivity

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from acopf import optimum

PCC = (17, 21, 24, 32)
SLACK_COST = 1e7


@pytest.fixture(scope="module")
def feeders():
    return functools.cache(read)


def _hour(feeder, load=1.0, pv_kw=0.0, linear=0.05, quad=1e-9, reach=400.0, shed_cost=5.0, scenarios=1, center=0.0):
    """An hour of the 33-bus feeder with four PCCs of +-reach kvar, all loads sheddable."""
    network, n = feeder.network, len(feeder.p_pu)
    factor = load * np.linspace(0.95, 1.05, scenarios)[:, None] if scenarios > 1 else np.full((1, 1), load)
    p, q = factor * feeder.p_pu * network.base_kva, factor * feeder.q_pu * network.base_kva
    p[:, network.slack] = q[:, network.slack] = 0.0
    p[:, PCC] += pv_kw
    prob = np.full(scenarios, 1 / scenarios)
    B = len(PCC)
    spread = functools.partial(np.broadcast_to, shape=B)
    linear, quad, center = (np.array(spread(x), float) for x in (linear, quad, center))
    at_pcc = Controls.everywhere(np.array(PCC), 1.0, linear, quad, center, np.full(B, -reach), np.full(B, reach))
    s, bus = np.nonzero(q)
    shed = Controls(
        bus=bus,
        scenario=s,
        effect=-np.sign(q[s, bus]),
        linear=shed_cost * prob[s],
        quad=np.zeros(len(s)),
        center=np.zeros(len(s)),
        lo=np.zeros(len(s)),
        hi=np.abs(q[s, bus]),
        reserve=np.ones(len(s), bool),
        active=np.zeros(len(s), bool),
    )
    assert n == 33
    return HourProblem(network, p, q, prob, at_pcc.joined(shed), SLACK_COST)


RADIAL, MESHED = "33 buses, radial", "33 buses, ties closed"
CASES = {
    "undervoltage": (RADIAL, {"load": 0.75}),
    "undervoltage, unequal prices": (RADIAL, {"load": 0.75, "linear": (0.02, -0.01, 0.04, 0.03), "reach": 800.0}),
    "undervoltage, penalty": (RADIAL, {"load": 0.75, "quad": 1e-4, "center": 50.0}),
    "overvoltage": (RADIAL, {"load": 0.3, "pv_kw": 1500.0, "linear": -0.03, "reach": 3000.0}),
    "overvoltage, penalty": (RADIAL, {"load": 0.3, "pv_kw": 1800.0, "linear": 0.0, "quad": 1e-4, "reach": 3000.0}),
    "selling down to the lower limit": (RADIAL, {"load": 0.3, "pv_kw": 2000.0, "linear": 0.03, "reach": 3000.0}),
    "shedding": (RADIAL, {"load": 0.95}),
    "meshed": (MESHED, {"load": 1.35, "linear": (0.02, 0.05, 0.04, 0.03)}),
    "meshed, shedding": (MESHED, {"load": 1.5, "reach": 300.0}),
    "three scenarios, shedding": (RADIAL, {"load": 0.9, "scenarios": 3}),
}


@pytest.mark.parametrize("name", CASES)
def test_cost_is_the_nlp_solvers_and_an_independent_flow_keeps_the_limits(feeders, name):
    which, changes = CASES[name]
    problem = _hour(feeders(which), **changes)
    network = problem.network
    free = flow_with(problem, np.clip(0.0, problem.controls.lo, problem.controls.hi)).v_pu
    stressed = free.min() < 0.95 - 1e-3 or free.max() > 1.05 + 1e-3
    assert stressed or "selling" in name
    solution = solve_hour(problem, np.zeros(len(problem.controls.bus)))
    assert solution.settled
    assert solution.feasible
    reference = optimum(problem)
    assert solution.cost == pytest.approx(reference.cost, rel=1e-6)
    shed = solution.u[len(PCC) :].sum()
    assert (shed > 1.0) == ("shedding" in name)
    for s in range(len(problem.prob)):
        acts = (problem.controls.scenario == ALL) | (problem.controls.scenario == s)
        q = problem.q_kvar[s].copy()
        np.add.at(q, problem.controls.bus[acts], (problem.controls.effect * solution.u)[acts])
        base = network.base_kva
        v = np.abs(power_grid_model_voltages(network, problem.p_kw[s] / base, q / base))
        assert v.min() >= 0.95 - 1e-6
        assert v.max() <= 1.05 + 1e-6
        assert v == pytest.approx(np.abs(solution.v[s]), abs=1e-8)


def test_prices_in_proportion_to_sensitivity_are_no_trouble(feeders):
    """Where a market ends: first-order indifferent, only the curvature of the limit decides."""
    problem = _hour(feeders(RADIAL), load=0.8, reach=2000.0, shed_cost=50.0)
    u = np.zeros(len(problem.controls.bus))
    u[:4] = 400, 300, 300, 400
    flow = flow_with(problem, u)
    worst = int(flow.v_pu[0].argmin())
    slopes = sensitivity(problem.network, flow.v[0]).dv_dq(np.array(PCC))[worst]
    problem = _hour(feeders(RADIAL), load=0.8, reach=2000.0, shed_cost=50.0, linear=0.05 * slopes / slopes.max())
    near = solve_hour(problem, np.zeros(len(u)))
    far = solve_hour(problem, np.where(problem.controls.reserve, 0.0, 1500.0))
    assert near.settled
    assert far.settled
    assert max(near.steps, far.steps) <= 15
    assert near.u[:4] == pytest.approx(far.u[:4], abs=0.1)
    assert near.cost == pytest.approx(optimum(problem).cost, rel=1e-6)


def test_where_nothing_helps_the_least_violation_is_returned_and_said(feeders):
    problem = _hour(feeders(RADIAL), load=1.6, reach=100.0)
    solution = solve_hour(problem, np.zeros(len(problem.controls.bus)))
    reference = optimum(problem, elastic=True)
    assert not solution.feasible
    assert solution.slack == pytest.approx(reference.slack, abs=1e-7)
    assert solution.slack[0] == pytest.approx(0.95 - np.abs(solution.v).min(), abs=1e-12)
    assert solution.slack[0] > 0.01
    assert solution.cost == pytest.approx(reference.cost, rel=1e-6)
    assert solution.u[:4] == pytest.approx(problem.controls.hi[:4])
    assert solution.mu.sum() == pytest.approx(SLACK_COST, rel=1e-6)
    # the same against the upper limit, with nothing to shed: the cost of the slack is far above all other costs
    problem = _hour(feeders(RADIAL), load=0.3, pv_kw=3000.0, linear=-1e-4, reach=500.0)
    solution, reference = solve_hour(problem, np.zeros(len(problem.controls.bus))), optimum(problem, elastic=True)
    assert solution.slack[0] == pytest.approx(np.abs(solution.v).max() - 1.05, abs=1e-12)
    assert solution.cost == pytest.approx(reference.cost, rel=1e-6)
    assert solution.mu.sum() == pytest.approx(-SLACK_COST, rel=1e-6)


def test_the_price_of_every_control_between_its_bounds_is_the_pull_of_the_limits(feeders):
    for changes in (
        {"load": 0.75, "quad": 1e-4},
        {"load": 0.3, "pv_kw": 1800.0, "linear": 0.0, "quad": 1e-4, "reach": 3e3},
    ):
        problem = _hour(feeders(RADIAL), **changes)
        controls = problem.controls
        solution = solve_hour(problem, np.zeros(len(controls.bus)))
        inside = (solution.u > controls.lo + 1) & (solution.u < controls.hi - 1) & ~controls.reserve
        assert inside.any()
        price = controls.linear + controls.quad * (solution.u - controls.center)
        # linear + quad (u - center) = X'mu with X from finite differences of the flow
        base = problem.network.base_kva
        for c in np.flatnonzero(inside):
            nudge = np.zeros(len(solution.u))
            nudge[c] = 1e-3 * base
            slope = (flow_with(problem, solution.u + nudge).v_pu - flow_with(problem, solution.u - nudge).v_pu) / (
                2 * nudge[c]
            )
            assert price[c] == pytest.approx(float((slope * solution.mu).sum()), rel=1e-4)
        low = np.abs(solution.v).min() < 0.9501
        assert (solution.mu.max() > 1) == low
        assert (solution.mu.min() < -1) == (not low)


def test_a_dearer_community_is_asked_for_less(feeders):
    asked = []
    for price in (0.01, 0.03, 0.05, 0.2):
        problem = _hour(feeders(RADIAL), load=0.75, linear=(price, 0.04, 0.04, 0.04), quad=1e-4)
        asked.append(solve_hour(problem, np.zeros(len(problem.controls.bus))).u[0])
    assert np.all(np.diff(asked) < -1e-3)


def test_second_derivatives_of_the_voltages_are_the_slopes_of_the_sensitivities(feeders):
    feeder, h = feeders(MESHED), 1e-4
    buses, weights = np.array([5, 17, 24, 32]), np.random.default_rng(0).normal(size=33)

    def slopes(q):
        return weights @ sensitivity(feeder.network, solve(feeder.network, feeder.p_pu[None], q[None]).v[0]).dv_dq(
            buses
        )

    exact = sensitivity(feeder.network, feeder.v).curvature(weights, buses)
    for column, bus in enumerate(buses):
        nudge = h * (np.arange(33) == bus)
        measured = (slopes(feeder.q_pu + nudge) - slopes(feeder.q_pu - nudge)) / (2 * h)
        assert np.abs(measured - exact[:, column]).max() <= 1e-5 * np.abs(exact).max()


def test_the_linearised_bound_is_the_linear_programs_optimum(feeders):
    from scipy.optimize import linprog

    over = {"load": 0.3, "pv_kw": 1500.0, "linear": -0.03, "reach": 3000.0}
    short, three = {"load": 1.6, "reach": 100.0}, {"load": 0.9, "scenarios": 3}
    for changes in ({"load": 0.75}, {"load": 0.95}, over, short, three):
        problem = _hour(feeders(RADIAL), **changes)
        model = LinearModel.at(problem, np.zeros(len(problem.controls.bus)))
        arrays = model.quadratic(4)
        for extra in (np.zeros(4), np.array([0.1, -0.2, 0.0, 0.03])):
            cost = arrays.q.copy()
            cost[arrays.z_cols] += extra
            bounds = np.column_stack([arrays.lb, arrays.ub])
            exact = linprog(cost, A_ub=-arrays.A, b_ub=-arrays.lo, bounds=bounds, method="highs")
            bound = model.bound(extra)
            assert exact.status == 0
            assert bound <= exact.fun + 1e-9 * abs(exact.fun)
            assert bound == pytest.approx(exact.fun, rel=1e-6)


def test_scenarios_at_rest_are_left_out_of_the_model_and_it_stays_the_same(feeders, monkeypatch):
    from scipy.optimize import linprog

    problem = _hour(feeders(RADIAL), load=0.5, scenarios=4, reach=50.0)
    lighter = np.array([0.2, 0.2, 1.0, 2.2])[:, None]  # in the last one even the PCCs do not suffice
    problem = replace(problem, p_kw=problem.p_kw * lighter, q_kvar=problem.q_kvar * lighter)
    start = np.zeros(len(problem.controls.bus))

    def least(model):
        arrays = model.quadratic(4)
        bounds = np.column_stack([arrays.lb, arrays.ub])
        return len(arrays.q), linprog(arrays.q, A_ub=-arrays.A, b_ub=-arrays.lo, bounds=bounds, method="highs").fun

    size, cost = least(LinearModel.at(problem, start))
    bound = LinearModel.at(problem, start).bound(np.zeros(4))
    monkeypatch.setattr(LinearModel, "_resting", np.zeros(len(start), bool))
    whole, exact = least(LinearModel.at(problem, start))
    assert size < 0.6 * whole
    assert cost == pytest.approx(exact, rel=1e-9)
    assert bound == pytest.approx(exact, rel=1e-6)
