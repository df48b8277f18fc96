"""The AC power flow against power-grid-model and pandapower, and what it promises by itself."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from feeders import FEEDERS, power_grid_model_voltages, read

from problems.network.feeder import Network
from problems.network.power_flow import FlowSettings, kernel_of, solve
from problems.network.sensitivity import Inverse, Sensitivity, sensitivities, sensitivity


@pytest.fixture(scope="module")
def feeders():
    """name -> Feeder, each read once."""
    return functools.cache(read)


@pytest.mark.parametrize("name", FEEDERS)
def test_voltages_agree_with_pandapower_and_power_grid_model(feeders, name):
    network, p, q, expected = feeders(name)
    flow = solve(network, p[None], q[None])
    assert flow.converged.all()
    assert flow.reason == ("",)
    assert np.abs(flow.v[0] - expected).max() <= 1e-8
    assert np.abs(flow.v[0] - power_grid_model_voltages(network, p, q)).max() <= 1e-8
    if "ties" in name or "rings" in name:
        assert len(network.from_bus) >= len(network.buses)


def test_the_feeders_cover_taps_charging_shunts_and_a_thousand_buses(feeders):
    networks = [feeders(name)[0] for name in FEEDERS]
    assert any(np.any(n.ratio != 1) for n in networks)
    assert any(np.any(n.shift_rad != 0) for n in networks)
    assert any(np.any(n.b_pu > 0) for n in networks)
    assert max(len(n.buses) for n in networks) > 1000


def test_a_column_does_not_depend_on_its_neighbours_to_the_last_bit(feeders):
    for name in ("33 buses, ties closed", "CIGRE MV, rings closed", "CIGRE LV"):
        network, p, q, _ = feeders(name)
        scale = np.random.default_rng(1).uniform(-0.5, 1.6, (23, 1))
        scale[5] = 60.0  # no solution: must not disturb the others either
        together = solve(network, scale * p, scale * q)
        assert not together.converged[5]
        order = np.random.default_rng(2).permutation(23)
        shuffled = solve(network, scale[order] * p, scale[order] * q)
        assert np.array_equal(together.v[order], shuffled.v, equal_nan=True)
        for k in range(23):
            alone = solve(network, scale[k] * p[None], scale[k] * q[None])
            assert np.array_equal(alone.v[0], together.v[k], equal_nan=True)
            assert alone.reason[0] == together.reason[k]


def test_no_solution_is_said_with_a_reason_and_the_bus(feeders):
    network, p, q, _ = feeders("33 buses, radial")
    flow = solve(network, np.stack([p, 6 * p]), np.stack([q, 6 * q]))
    assert flow.converged.tolist() == [True, False]
    assert np.isnan(flow.v[1]).all()
    assert "no power-flow solution" in flow.reason[1]
    assert "at bus" in flow.reason[1]
    assert flow.reason[0] == ""
    bad = solve(network, np.where(np.arange(33) == 3, np.nan, p)[None], q[None])
    assert not bad.converged[0]
    assert "finite" in bad.reason[0]


def test_newton_takes_over_where_the_fixed_point_is_cut_off(feeders):
    for name in ("33 buses, radial", "CIGRE MV, rings closed", "Oberrhein, 71 buses, taps"):
        network, p, q, expected = feeders(name)
        flow = solve(network, p[None], q[None], FlowSettings(max_fixed_point=0))
        assert flow.converged.all()
        assert 2 <= flow.steps[0] <= 8
        assert np.abs(flow.v[0] - expected).max() <= 1e-9


def test_near_the_nose_both_methods_give_the_same_high_voltage_solution(feeders):
    network, p, q, _ = feeders("33 buses, radial")
    low, high = 1.0, 6.0
    while high - low > 1e-3:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if solve(network, middle * p[None], middle * q[None]).converged[0] else (low, middle)
    assert 3.0 < low < 4.0
    load = 0.999 * low
    flow = solve(network, load * p[None], load * q[None])
    newton = solve(network, load * p[None], load * q[None], FlowSettings(max_fixed_point=0))
    assert flow.v_pu.min() < 0.65
    assert np.abs(flow.v - newton.v).max() < 1e-8
    assert np.abs(flow.v[0] - power_grid_model_voltages(network, load * p, load * q)).max() < 1e-7


def test_two_buses_by_hand():
    """|V2|^2 = h + sqrt(h^2 - |z|^2 |s|^2), h = |V1|^2/2 - (r p + x q), load p + jq at the end of r + jx."""
    one = np.ones(2)
    line = {"r_pu": np.array([0.03]), "x_pu": np.array([0.04]), "g_pu": np.zeros(1), "b_pu": np.zeros(1)}
    network = Network(
        buses=("source", "load"),
        from_bus=np.array([0]),
        to_bus=np.array([1]),
        **line,
        ratio=np.ones(1),
        shift_rad=np.zeros(1),
        shunt_g_pu=np.zeros(2),
        shunt_b_pu=np.zeros(2),
        base_kva=1000.0,
        slack=0,
        slack_v_pu=1.02,
        v_min_pu=0.95 * one,
        v_max_pu=1.05 * one,
    )
    p, q = 0.8, 0.5
    h = 1.02**2 / 2 - (0.03 * p + 0.04 * q)
    expected = np.sqrt(h + np.sqrt(h * h - 0.05**2 * (p * p + q * q)))
    flow = solve(network, np.array([[0, -p]]), np.array([[0, -q]]))
    assert flow.v_pu[0, 1] == pytest.approx(expected, abs=1e-12)
    # an ideal ratio in front of the line is the same feeder with another source voltage
    tapped = replace(network, ratio=np.array([1.02]), slack_v_pu=1.02**2)
    assert solve(tapped, np.array([[0, -p]]), np.array([[0, -q]])).v_pu[0, 1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["33 buses, radial", "33 buses, ties closed", "CIGRE MV, rings closed"])
def test_sensitivities_are_the_slopes_of_the_flow(feeders, name):
    network, p, q, _ = feeders(name)
    n, h = len(p), 1e-4
    exact = sensitivity(network, solve(network, p[None], q[None]).v[0])
    every = np.arange(n)
    for change_p, change_q, slopes in ((0.0, h, exact.dv_dq(every)), (h, 0.0, exact.dv_dp(every))):
        up = solve(network, p + change_p * np.eye(n), q + change_q * np.eye(n)).v_pu
        down = solve(network, p - change_p * np.eye(n), q - change_q * np.eye(n)).v_pu
        measured = (up - down).T / (2 * h)
        # central differences of a curve: error h^2 |v'''| / 6
        assert np.abs(measured - slopes).max() <= 1e-6 * np.abs(slopes).max()
    weights = np.random.default_rng(0).normal(size=n)
    assert exact.pull(weights) == pytest.approx(weights @ exact.dv_dq(every), abs=1e-12)


def test_injected_reactive_power_raises_every_voltage_of_a_radial_feeder(feeders):
    network, p, q, _ = feeders("33 buses, radial")
    slopes = sensitivity(network, solve(network, p[None], q[None]).v[0]).dv_dq(np.arange(len(p)))
    others = np.arange(len(p)) != network.slack
    assert (slopes[np.ix_(others, others)] > 0).all()
    assert not slopes[network.slack].any()
    assert not slopes[:, network.slack].any()


def test_sensitivities_found_together_are_those_found_alone_and_by_sparse_factors(feeders):
    network, p, q, _ = feeders("33 buses, ties closed")
    v = solve(network, np.outer([0.2, 0.7, 1.3], p), np.outer([0.2, 0.7, 1.3], q)).v
    kernel, buses = kernel_of(network), np.array([5, 17, 32])
    weights = np.random.default_rng(0).normal(size=len(network.buses))
    for row, together in zip(v, sensitivities(network, v), strict=True):
        alone = sensitivity(network, row)
        assert np.array_equal(together.dv_dq(buses), alone.dv_dq(buses))
        factors = kernel.jacobian(row[kernel.others])
        assert isinstance(together.factors, Inverse)
        sparse = Sensitivity(network, row, factors)
        assert np.abs(together.dv_dp(buses) - sparse.dv_dp(buses)).max() <= 1e-12
        assert np.abs(together.pulls(weights) - sparse.pulls(weights)).max() <= 1e-11
