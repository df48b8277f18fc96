"""Scenarios that share a value-at-risk alone: its closed form against the one model."""

from __future__ import annotations

import numpy as np
import pytest
from microgrid import microgrid, tables

from decomp.layout import Layout
from decomp.messages import Coupling, Key
from decomp.rules.auto import Auto
from decomp.rules.value_at_risk import ValueAtRisk, only_tails, quantiles
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import Limits, run
from decomp.run.stopping import Gap, RunStatus
from problems.microgrid.extensive import solve_extensive
from problems.microgrid.results import profit_table, tail


def averse(prob, alpha=0.7, beta=0.5):
    keys = {Key("u", str(i)): p for i, p in enumerate(prob)}
    coupling = Coupling("u", ("v",), np.ones(1), np.array([-1]), keys, scale=np.array([beta]), level=np.array([alpha]))
    return Layout.of([coupling], 0)


@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.7, 0.99])
def test_the_multipliers_prove_the_quantile(alpha):
    """The dual value at them is the CVaR itself, computed by hand as the mean of the tail."""
    rng = np.random.default_rng(5)
    prob = rng.dirichlet(np.ones(9))
    cost, beta = np.round(rng.normal(0.0, 10.0, 9), 1), 0.4
    cost[3] = cost[5]
    layout = averse(prob, alpha, beta)
    (v,), w = quantiles(layout, cost)
    assert float(prob @ w) == pytest.approx(0.0, abs=1e-12)
    assert np.all(w <= beta + 1e-12)
    assert np.all(w >= beta - beta / (1 - alpha) - 1e-12)
    grid = np.linspace(-60.0, 60.0, 12001)
    excess = np.maximum(cost[:, None] - grid, 0.0) / (1 - alpha)
    dual = prob @ np.min((1 - beta) * cost[:, None] + beta * (grid + excess) - w[:, None] * grid, axis=1)
    value = (1 - beta) * prob @ cost + beta * (v + prob @ np.maximum(cost - v, 0.0) / (1 - alpha))
    assert value == pytest.approx(dual, abs=1e-9)
    assert value == pytest.approx(np.min((1 - beta) * prob @ cost + beta * (grid + prob @ excess)), abs=1e-2)


def test_only_tails_knows_what_it_is_for():
    assert only_tails(averse([0.5, 0.5]))
    assert not only_tails(Layout.of([Coupling("u", ("v",), np.ones(1), np.array([-1]), {Key("u", "0"): 1.0})], 0))


@pytest.mark.parametrize(("bundle", "rounds"), [(1, 2), (2, 40)])
def test_bids_by_scenario_are_certified_in_two_rounds(bundle, rounds):
    given = {**tables(3, stage="per_scenario"), "risk": {"w": 0.4, "delta": 0.6}}
    given["scenarios"]["bundle"] = bundle
    problem = microgrid(given, 5, prob=[0.3, 0.25, 0.2, 0.15, 0.1])
    assert isinstance(Auto().pick(frozenset({"bound"}), frozenset({"model"}), 1, tails=True)[0], ValueAtRisk)
    result = run(
        problem.subproblem, None, Auto(), coupling=problem.couplings, stop=[Gap(1e-5, 1e-6, "total")],
        limits=Limits(rounds), certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(solve_extensive(problem).objective, rel=2e-6)
    if bundle == 1:
        assert len(result.prices) <= 2
        table = profit_table(problem, result.details)
        profit, prob = table["profit_usd"].to_numpy(), table["probability"].to_numpy()
        assert -result.objective == pytest.approx(0.4 * prob @ profit + 0.6 * tail(profit, prob, 0.6)[1], rel=1e-6)
