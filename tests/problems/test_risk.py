"""Risk-averse units: CVaR by hand, at its limits, and the farmer's against his own extensive form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from farmer import CROPS, YIELD, Farmer, farmer
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory import TREE, Stock, stock
from pydantic import ValidationError

from decomp.blocks.compile.compiler import compile_model
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.errors import InputError
from decomp.messages import Coupling, Key, Signal
from decomp.rules import ADMM, Bundle, ProgressiveHedging
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from problems.risk import ENTRY, Risk, add_risk, tail_mean, with_value_at_risk

LEAST, GREATEST = -300e3, 200e3
UNEQUAL = (0.5, 0.3, 0.2)


class AverseFarmer(Farmer):
    def __init__(self, scenario, risk, **options):
        self.risk = risk
        super().__init__(scenario, **options)

    def build(self):
        model = super().build()
        add_risk(model, self.risk, LEAST, GREATEST)
        return model


def solve(make, coupling, rule, tolerance=1e-4, limit=60):
    return run(
        make, None, rule, coupling=coupling, stop=[Gap(tolerance, 0.0, "total")], limits=Limits(limit),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


def averse_farmer(risk, prob, rule):
    _, (coupling,) = farmer(prob)
    return solve(lambda key: AverseFarmer(key.scenario, risk), [with_value_at_risk(coupling, risk)], rule)


def extensive_form(risk, prob, wanted=None):
    """The farmer's scenarios in one model, with a loss of the tail for each: (value, acres)."""
    m = pyo.ConcreteModel()
    m.s = pyo.Block(list(YIELD))
    for name in YIELD:
        m.s[name].transfer_attributes_from(Farmer(name).build())
    m.same = pyo.Constraint(["1", "2"], CROPS, rule=lambda m, s, c: m.s[s].acres[c] == m.s["0"].acres[c])
    m.v, m.beyond = pyo.Var(), pyo.Var(list(YIELD), bounds=(0, None))
    m.tail = pyo.Constraint(list(YIELD), rule=lambda m, s: m.beyond[s] >= m.s[s].cost - m.v)
    mean = sum(p * m.s[name].cost for name, p in zip(YIELD, prob, strict=True))
    cvar = m.v + sum(p * m.beyond[name] for name, p in zip(YIELD, prob, strict=True)) / (1 - risk.alpha)
    m.objective = pyo.Objective(expr=(1 - risk.beta) * mean + risk.beta * cvar)
    pyo.SolverFactory("appsi_highs").solve(m)
    return pyo.value(m.objective), [pyo.value(m.s["0"].acres[c]) for c in CROPS]


# -- by hand -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.5, (0.2 * 10 + 0.3 * 100) / 0.5),
        (0.7, 100.0),
        (0.2, (0.5 * 10 + 0.3 * 100) / 0.8),
        (0.95, 100.0),
        (1e-9, 37.0),
    ],
)
def test_two_points_by_hand(alpha, expected):
    # 10 with probability .7, 100 with .3; the tail of 1 - alpha = .5 holds all of the 100 and .2 of the 10
    assert tail_mean(np.array([10.0, 100.0]), np.array([0.7, 0.3]), alpha) == pytest.approx(expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    cost=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=7),
    alpha=st.floats(0.02, 0.98),
    beta=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_the_minimum_over_v_is_the_mean_of_the_tail(cost, alpha, beta, seed):
    prob = np.random.default_rng(seed).dirichlet(np.ones(len(cost)))
    f = np.array(cost)
    least = min(v + prob @ np.maximum(f - v, 0) / (1 - alpha) for v in f)  # the minimum lies at one of the costs
    assert tail_mean(f, prob, alpha) == pytest.approx(least, abs=1e-8 * (1 + np.max(np.abs(f)) / (1 - alpha)))
    value = Risk(alpha=alpha, beta=beta).of(f, prob)
    assert f.min() - 1e-9 <= prob @ f - 1e-9 <= value <= f.max() + 1e-9


# -- the block ---------------------------------------------------------------------------------------------------------


def test_neutral_units_are_left_as_they_are():
    neutral = Risk(alpha=0.9, beta=0.0)
    _, (coupling,) = farmer()
    assert with_value_at_risk(coupling, neutral) is coupling
    assert neutral.extended([1.0, 2.0], np.nan).tolist() == [1.0, 2.0]
    program, plain = compile_model(AverseFarmer("1", neutral).build()), compile_model(Farmer("1").build())
    assert program.col_names == plain.col_names
    assert np.array_equal(program.cost, plain.cost)


def test_the_value_at_risk_is_the_last_entry():
    risk = Risk(alpha=0.8, beta=0.25)
    _, (coupling,) = farmer()
    entry = with_value_at_risk(coupling, risk)
    assert entry.entries == (*CROPS, ENTRY)
    assert (entry.weight[-1], entry.node[-1], entry.scale[-1]) == (1.0, -1, 0.25)
    assert np.isnan(entry.scale[:-1]).all()
    _, (tree,) = stock()
    shared = with_value_at_risk(tree, risk)
    assert {int(nodes[-1]) for nodes in shared.sharing.values()} == {0}


@pytest.mark.parametrize("v", [-150e3, -120e3, -50e3])
def test_cost_of_a_block_at_a_given_value_at_risk(v):
    risk, acres = Risk(alpha=0.8, beta=0.25), [120.0, 80.0, 300.0]
    plain = Farmer("1").evaluate(np.array(acres)).cost
    found = AverseFarmer("1", risk).evaluate(np.array([*acres, v])).cost
    assert found == pytest.approx(0.75 * plain + 0.25 * (v + max(plain - v, 0) / 0.2), rel=1e-9)


@pytest.mark.parametrize("limits", [(5.0, 5.0), (-np.inf, 0.0), (0.0, float("nan")), (1.0, 0.0)])
def test_limits_that_are_none_are_refused(limits):
    with pytest.raises(InputError, match="two finite numbers"):
        add_risk(Farmer("1").build(), Risk(alpha=0.5, beta=1.0), *limits)


@pytest.mark.parametrize(
    "values",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": float("nan")},
        {"beta": -0.1},
        {"beta": 1.1},
        {"gamma": 1.0},
        {"alpha": None},
    ],
)
def test_settings_outside_their_range_are_mistakes(values):
    with pytest.raises(ValidationError) as caught:
        Risk(**{"alpha": 0.9, "beta": 0.5, **values})
    assert {error["loc"][0] for error in caught.value.errors()} == set(values)


def test_quadratic_costs_are_refused_in_words():
    class Curved(PyomoSubproblem):
        def build(self):
            m = pyo.ConcreteModel()
            m.x = pyo.Var(bounds=(0, 1))
            m.cost = pyo.Expression(expr=m.x**2)
            m.coupling = pyo.Expression([0], rule=lambda m, _: m.x)
            add_risk(m, Risk(alpha=0.5, beta=0.5), 0.0, 1.0)
            return m

    response = Curved().solve(Signal(np.zeros(2)))
    assert "tail" in response.message
    assert "declare convex_terms()" in response.message


@pytest.mark.parametrize("solver", ["highs", "appsi_highs"])
def test_the_value_at_risk_counts_from_zero_beside_an_initial_schedule(solver):
    class Measured(AverseFarmer):
        initial_price = np.array([100.0, 0.0, 0.0, np.nan])

    risk = Risk(alpha=0.5, beta=0.5)
    block, plain = Measured("1", risk, solver=solver), Measured("1", Risk(alpha=0.5, beta=0.0), solver=solver)
    plain.initial_price = block.initial_price[:3]
    y0 = plain.initial.offer
    assert block.initial.offer == pytest.approx([*y0, 0.0], abs=1e-6)
    step = np.array([-1.0, -2.0, 0.0])
    v = -90e3
    cost = plain.evaluate(step).cost + 100.0 * y0[0]
    found = block.evaluate(np.array([*step, v]))
    assert found.y == pytest.approx([*step, v], abs=1e-6)
    assert found.cost + 100.0 * y0[0] == pytest.approx(0.5 * cost + 0.5 * (v + max(cost - v, 0.0) / 0.5), rel=1e-9)


# -- the unit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "risk", "prob"),
    [
        (ProgressiveHedging(), Risk(alpha=0.9, beta=0.1), (1 / 3, 1 / 3, 1 / 3)),
        (ADMM(), Risk(alpha=0.7, beta=0.5), UNEQUAL),
        (Bundle(), Risk(alpha=0.5, beta=1.0), UNEQUAL),
        (Bundle(), Risk(alpha=0.7, beta=0.5), (1 / 3, 1 / 3, 1 / 3)),
    ],
    ids=["ph", "admm", "bundle, tail only", "bundle"],
)
def test_averse_farmer_reaches_his_extensive_form(rule, risk, prob):
    best, acres = extensive_form(risk, prob)
    result = averse_farmer(risk, prob, rule)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(best, rel=1.01e-4)
    for row in result.rows:
        assert row.lower_bound <= best + 1e-3
        assert row.upper_bound is None or row.upper_bound >= best - 1e-3
    y = result.answers.y.reshape(3, 4)
    assert np.ptp(y, axis=0) == pytest.approx(np.zeros(4), abs=1e-6)
    assert y[0, :3] == pytest.approx(acres, abs=2.0)  # of 500 acres; certified to 1e-4 of a cost that is flat there
    costs = [Farmer(name).evaluate(y[0, :3]).cost for name in YIELD]
    assert result.objective == pytest.approx(risk.of(costs, prob), rel=2e-5)  # v is the value-at-risk of these costs


@pytest.mark.parametrize("rule", [ProgressiveHedging(adapt="fixed", anderson=0), Bundle()], ids=["ph", "bundle"])
def test_the_entrys_own_scale_saves_rounds(rule):
    risk = Risk(alpha=0.7, beta=0.5)
    known = averse_farmer(risk, UNEQUAL, rule)
    _, (coupling,) = farmer(UNEQUAL)
    blind = replace(with_value_at_risk(coupling, risk), scale=None)
    estimated = solve(lambda key: AverseFarmer(key.scenario, risk), [blind], rule, limit=len(known.rows) + 4)
    assert known.status == RunStatus.CERTIFIED
    assert estimated.status == RunStatus.ITERATION_LIMIT  # not even four rounds later


def test_without_weight_on_the_tail_the_farmer_is_neutral():
    result = averse_farmer(Risk(alpha=0.9, beta=0.0), (1 / 3, 1 / 3, 1 / 3), Bundle())
    assert result.objective == pytest.approx(-108390, rel=1e-4)
    assert len(result.layout.node) == 3


def test_towards_alpha_1_only_the_worst_scenario_counts():
    risk = Risk(alpha=0.95, beta=1.0)  # every probability exceeds 1 - alpha
    result = averse_farmer(risk, UNEQUAL, Bundle())
    bad_year = Farmer("0").solve(Signal(np.zeros(3)))
    assert result.status == RunStatus.CERTIFIED
    assert result.objective == pytest.approx(bad_year.cost, rel=1e-4)  # bad yields are the worst whatever is sown


def test_aversion_costs_on_average_and_saves_in_the_tail():
    def mean_and_tail(risk):
        y = averse_farmer(risk, UNEQUAL, Bundle()).answers.y[:3]
        costs = np.array([Farmer(name).evaluate(y).cost for name in YIELD])
        return float(np.array(UNEQUAL) @ costs), tail_mean(costs, np.array(UNEQUAL), 0.7)

    (mean, tail), (mean_averse, tail_averse) = (mean_and_tail(Risk(alpha=0.7, beta=beta)) for beta in (0.0, 0.9))
    assert mean_averse > mean + 100
    assert tail_averse < tail - 100


def test_risk_and_a_tree_go_together():
    risk = Risk(alpha=0.6, beta=0.5)

    class Averse(Stock):
        def build(self):
            model = super().build()
            add_risk(model, risk, 0.0, 6000.0)
            return model

    _, (coupling,) = stock()
    result = solve(lambda key: Averse(key.scenario), [with_value_at_risk(coupling, risk)], Bundle(), 1e-5)
    assert result.status == RunStatus.CERTIFIED, result.reason
    make, _ = stock()
    keys = [Key("stock", name) for name in TREE.scenarios]
    costs = np.array([make(key).evaluate(result.answers[key].y[:3]).cost for key in keys])
    assert result.objective == pytest.approx(risk.of(costs, TREE.prob), rel=1e-5)
    free = Coupling(
        "stock", coupling.entries, coupling.weight, coupling.node, coupling.prob, ("kept",), coupling.sharing
    )
    neutral = solve(make, [free], Bundle(), 1e-5).answers
    careless = np.array([make(key).evaluate(neutral[key].y).cost for key in keys])
    assert result.certificate.lower_bound <= risk.of(careless, TREE.prob)
