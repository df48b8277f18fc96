"""Progressive hedging on the farmer, through Pyomo and HiGHS."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from farmer import YIELD, Farmer, farmer

from decomp.messages import Key, Signal
from decomp.rules import ADMM
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus


def hedging(prob, rho=1.0, tolerance=1e-4, limit=120):
    make, coupling = farmer(prob)
    rule = ADMM(agreement_penalty=rho, first_round="free")
    return run(
        make, None, rule, coupling=coupling, stop=[Gap(tolerance, 0.0, "total")], limits=Limits(limit),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


def extensive_form(prob):
    """The three scenarios in one model, acres in common."""
    model = pyo.ConcreteModel()
    model.s = pyo.Block(list(YIELD))
    for name in YIELD:
        model.s[name].transfer_attributes_from(Farmer(name).build())
    model.same = pyo.Constraint(
        ["1", "2"], ["wheat", "corn", "beets"], rule=lambda m, s, c: m.s[s].acres[c] == m.s["0"].acres[c]
    )
    weighted = sum(p * model.s[name].cost for name, p in zip(YIELD, prob, strict=True))
    model.objective = pyo.Objective(expr=weighted)
    pyo.SolverFactory("appsi_highs").solve(model)
    return pyo.value(model.objective)


def test_first_round_is_wait_and_see():
    costs = [Farmer(name).solve(Signal(np.zeros(3))).cost for name in YIELD]
    assert np.mean(costs) == pytest.approx(-115405.56, abs=0.01)


def test_equal_probabilities_reach_the_published_optimum():
    result = hedging((1 / 3, 1 / 3, 1 / 3))
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(-108390, rel=1e-4)
    assert result.answers.y == pytest.approx(np.tile([170, 80, 250], 3), abs=1.0)
    assert result.certificate.lower_bound <= -108390 + 1e-4
    assert result.certificate.w_sum < 1e-9
    assert 30 <= len(result.rows) <= 50


def test_unequal_probabilities_reach_the_extensive_form():
    prob = (0.5, 0.3, 0.2)
    best = extensive_form(prob)
    result = hedging(prob)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.certificate.lower_bound <= best + 1e-4 <= result.certificate.upper_bound + 2e-4
    assert result.objective == pytest.approx(best, rel=1e-4)


def test_every_bound_lies_below_the_optimum_and_every_cost_above():
    best = extensive_form((0.5, 0.3, 0.2))
    result = hedging((0.5, 0.3, 0.2), tolerance=1e-9, limit=15)
    assert result.status == RunStatus.ITERATION_LIMIT
    for row in result.rows:
        assert row.lower_bound <= best + 1e-3
        assert row.upper_bound is None or row.upper_bound >= best - 1e-3


def test_scenario_without_a_schedule_is_named():
    class Flooded(Farmer):
        def build(self):
            model = super().build()
            model.flood = pyo.Constraint(expr=model.acres["wheat"] >= 600)
            return model

    _, coupling = farmer()
    result = run(
        lambda key: Flooded("1") if key == Key("farmer", "1") else Farmer(key.scenario), None,
        ADMM(agreement_penalty=1.0), coupling=coupling, stop=[], limits=Limits(3),
    )  # fmt: skip
    assert result.status == RunStatus.FAILED
    assert "block farmer/1" in result.reason
    assert "flood" in result.reason
