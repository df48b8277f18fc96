"""Coordinators of the classic forms, against optima worked out by hand or by another solver."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from closed_form import QuadraticBlock, unit
from scipy import optimize, sparse

import tatonnement as tt
from decomp.coordinator import answer_all, evaluate_all
from decomp.messages import Query

BOX = (-20.0, 20.0)
EXP = tt.ConvexCost(lambda z: np.exp(0.3 * z), lambda z: 0.3 * np.exp(0.3 * z), lambda z: 0.09 * np.exp(0.3 * z))


def two(b=(-3.0, -4.0)):
    """1/2 y^2 - 3 y and y^2 - 4 y: alone they offer 3 and 2 at the price 0."""
    blocks = {tt.Key("a"): QuadraticBlock(1.0, b[0]), tt.Key("b"): QuadraticBlock(2.0, b[1])}
    return blocks, [unit("a"), unit("b")]


def solve(coordinator, rule="bundle", blocks=None, coupling=None, rounds=100):
    own, joined = two()
    return tt.run(
        blocks or own, coordinator, rule, coupling=coupling or joined, stop=[tt.Gap(1e-6, 1e-9, "total")],
        limits=tt.Limits(rounds), certificate=tt.CertificateSettings(every=1),
    )  # fmt: skip


# offers 3 + p and 2 + p / 2 at the price p, so the sum is 5 + 1.5 p and the cost -8.5 + .75 p^2
@pytest.mark.parametrize("rule", ["bundle", "admm", "newton"])
@pytest.mark.parametrize(
    ("coordinator", "objective", "price"),
    [
        (tt.Capacity(["n"], 3.0, BOX), -8.5 + 0.75 * (4 / 3) ** 2, -4 / 3),
        (tt.Capacity(["n"], 30.0, BOX), -8.5, 0.0),
        (tt.Capacity(["n"], 3.0, BOX, excess_cost=0.5), -8.5 + 0.75 * 0.25 + 0.5 * 1.25, -0.5),
        (tt.AtLeast(["n"], 8.0, BOX), -8.5 + 0.75 * 4, 2.0),
        (tt.AtLeast(["n"], 1.0, BOX), -8.5, 0.0),
        (tt.AtLeast(["n"], 8.0, BOX, shortage_cost=1.0), -8.5 + 0.75 + 1.5, 1.0),
        (tt.Band(["n"], 6.0, 7.0, BOX), -8.5 + 0.75 * (2 / 3) ** 2, 2 / 3),
        (tt.Band(["n"], 2.0, 3.5, BOX), -8.5 + 0.75, -1.0),
        (tt.Exchange(["n"], 8.0, BOX, shortage_cost=1.0), -8.5 + 0.75 + 1.5, 1.0),
        (tt.Rows([[2.0]], None, 6.0, nodes=["n"], box=BOX), -8.5 + 0.75 * (4 / 3) ** 2, -4 / 3),
        (tt.Rows([[1.0]], None, 9.0, 0.5, nodes=["n"], box=BOX), -8.5 + 0.75 * 0.25 + 0.5 * 4.25, -0.5),
        (tt.Rows([[1.0]], None, 9.0, nodes=["n"], box=BOX, curvature=2.0), -8.5 + 0.75 * 6.25 + 1.5625, -2.5),
    ],
)
def test_limits_kept_or_paid_for_have_the_price_of_what_is_scarce(coordinator, objective, price, rule):
    result = solve(coordinator, rule)
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(objective, rel=2e-6)
    assert result.node_prices.iloc[-1, 0] == pytest.approx(price, abs=0.02)
    assert result.certificate.lower_bound <= objective + 1e-8


def test_nodes_share_a_limit_and_weights_scale_costs_not_rows():
    # two nodes of weight 1/2 under one limit of 3: costs and prices count half an hour each
    blocks, _ = two()
    half = {k: QuadraticBlock(b.a[0], b.b[0], weight=0.5) for k, b in blocks.items()}
    coupling = [unit("a", (0,), (0.5,)), unit("b", (1,), (0.5,))]
    shared = tt.Capacity(["m", "n"], [3.0], BOX, group_of=[0, 0], weight=0.5, excess_cost=0.5)
    result = solve(shared, "bundle", half, coupling)
    assert result.objective == pytest.approx(0.5 * (-8.5 + 0.75 * 0.25 + 0.5 * 1.25), rel=2e-6)
    assert evaluate_all(shared, np.array([2.0, 2.0]), {}).cost == pytest.approx(0.5 * 0.5 * 1.0)


@pytest.mark.parametrize("rule", ["bundle", "admm"])
@pytest.mark.parametrize("settings", [{"l1": 0.5, "l2": 0.2}, {"l1": 9.0, "center": 1.5}, {"high": 1.0}, {"l2": 3.0}])
def test_a_consensus_with_a_cost_of_its_own(settings, rule):
    own = {"l1": 0.0, "l2": 0.0, "center": 0.0, "high": np.inf} | settings

    def cost(x):
        off = x - own["center"]
        return 0.5 * x**2 - 3 * x + x**2 - 4 * x + own["l1"] * abs(off) + 0.5 * own["l2"] * off**2

    best = optimize.minimize_scalar(cost, bounds=(-5, min(5, own["high"])), method="bounded", options={"xatol": 1e-10})
    coordinator = tt.Consensus(["m", "n"], BOX, **settings)
    result = solve(coordinator, rule, two()[0], [unit("a"), unit("b", (1,))])
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(best.fun, rel=3e-6)


@pytest.mark.parametrize("rule", ["bundle", "admm", "newton"])
def test_a_cost_by_functions_is_certified_at_its_own_optimum(rule):
    coordinator = tt.Rows([[1.0]], None, 6.0, nodes=["n"], box=BOX, convex=EXP)

    def cost(p):  # both blocks at the price p
        z = 5 + 1.5 * p
        return -8.5 + 0.75 * p**2 + np.exp(0.3 * z)

    best = optimize.minimize_scalar(cost, bounds=(-3, 0), method="bounded", options={"xatol": 1e-10})
    result = solve(coordinator, rule)
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(best.fun, rel=2e-6)


def test_the_bound_of_a_cost_by_functions_is_below_a_fine_grid_and_nearly_touches_it():
    coordinator = tt.Band(["m", "n"], [1.0], [4.0], (0.0, 5.0), group_of=[0, 0], convex=EXP)
    grid = np.linspace(0, 5, 1001)
    a, b = np.meshgrid(grid, grid)
    inside = (a + b >= 1) & (a + b <= 4)
    for price in (np.array([-0.9, -0.4]), np.array([0.3, 0.6]), np.array([-2.0, -2.0])):
        best = np.min((np.exp(0.3 * a) + np.exp(0.3 * b) + price[0] * a + price[1] * b)[inside])
        answer, _ = answer_all(coordinator, Query(price, np.zeros(2), np.zeros(2), want_bound=True), {}, (None,))
        assert best - 1e-4 <= answer.bound <= best + 1e-9


def test_functions_that_are_no_convex_cost_are_told():
    wrong = tt.ConvexCost(lambda z: z**3, lambda z: 3 * z**2, lambda z: 6 * z)
    concave = tt.Rows([[1.0]], None, None, nodes=["n"], box=BOX, convex=wrong)
    with pytest.raises(tt.TatonnementError, match="not convex"):
        answer_all(concave, Query(np.zeros(1), np.array([-5.0]), np.zeros(1)), {}, (None,))
    short = tt.ConvexCost(lambda z: np.zeros(3), lambda z: z, lambda z: z)
    with pytest.raises(tt.TatonnementError, match="shape"):
        evaluate_all(tt.Rows([[1.0]], None, None, nodes=["n"], box=BOX, convex=short), np.zeros(1), {})


def network():
    """Serve 8 by own supply at 1.5, at most 2 of it, or by what the units offer."""
    m = pyo.ConcreteModel()
    m.Z, m.own = pyo.Var(["n"]), pyo.Var(bounds=(0, 2))
    m.served = pyo.Constraint(expr=m.Z["n"] + m.own == 8)
    m.cost = pyo.Expression(expr=1.5 * m.own)
    return m


def curved():
    m = network()
    m.del_component("cost")
    m.cost = pyo.Expression(expr=1.5 * m.own + 0.5 * m.own**2)
    return m


@pytest.mark.parametrize("rule", ["bundle", "admm", "newton"])
def test_a_pyomo_model_coordinates(rule):
    # the sum of offers is 5 + 1.5 p; at the price 1.5 they offer 7.25, and .75 is supplied by itself
    linear = solve(tt.PyomoCoordinator(model=network, box=BOX), rule)
    assert linear.objective == pytest.approx(-8.5 + 0.75 * 1.5**2 + 1.5 * 0.75, rel=2e-6)
    # own = p - 1.5, 5 + 1.5 p + p - 1.5 = 8
    price, own = 1.8, 0.3
    found = solve(tt.PyomoCoordinator(model=curved, box=BOX), rule)
    assert found.objective == pytest.approx(-8.5 + 0.75 * price**2 + 1.5 * own + 0.5 * own**2, rel=2e-6)


def lots():
    """Asks for a multiple of 1.5, at least 5, at 1 each lot."""
    m = pyo.ConcreteModel()
    m.Z, m.n = pyo.Var(["n"]), pyo.Var(domain=pyo.Integers, bounds=(0, 6))
    m.whole = pyo.Constraint(expr=m.Z["n"] == 1.5 * m.n)
    m.least = pyo.Constraint(expr=m.n >= 3.2)
    m.cost = pyo.Expression(expr=1.0 * m.n)
    return m


def test_a_coordinator_with_whole_decisions_is_one_more_unit():
    # four lots: the units offer 6 at the price 2/3
    blocks, coupling = two()
    market, more, own = tt.coordinator_unit(tt.PyomoCoordinator(model=lots, box=(0.0, 20.0)))
    result = solve(market, "bundle", blocks | more, [*coupling, own])
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(-8.5 + 0.75 * (2 / 3) ** 2 + 4, rel=2e-6)
    direct = tt.PyomoCoordinator(model=lots, box=(0.0, 20.0))
    assert "model" not in direct.abilities
    asked, _ = answer_all(direct, Query(np.full(1, -2.0), np.zeros(1), np.zeros(1), want_bound=True), {}, (None,))
    assert (asked.Z[0], asked.cost, asked.bound) == pytest.approx((9.0, 6.0, 6.0 - 18.0))
    assert evaluate_all(direct, np.array([7.5]), {}).cost == pytest.approx(5.0)
    assert evaluate_all(direct, np.array([7.0]), {}).cost == np.inf


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: tt.Capacity(["m", "n"], [1.0, 2.0, 3.0], (0, 1)), ["group_of"]),
        (lambda: tt.Band(["m"], 2.0, 1.0, BOX), ["lo"]),
        (lambda: tt.Exchange(["m", "m"], 1.0, (1.0, 0.0)), ["box", "nodes"]),
        (lambda: tt.Rows([[1.0, 2.0]], 0.0, 1.0, nodes=["m"], box=BOX), ["A"]),
        (lambda: tt.AtLeast(["m"], np.nan, BOX, shortage_cost=-1.0), ["need", "shortage_cost"]),
        (lambda: tt.Consensus(["m"], BOX, l1=-1.0, units_at="two"), ["l1", "units_at"]),
        (lambda: tt.PyomoCoordinator(model=lambda: pyo.ConcreteModel(), box=BOX), ["Z"]),
        (lambda: tt.Exchange(["m"], 1.0, BOX, scale=0.0, weight=-1.0), ["scale", "weight"]),
    ],
)
def test_every_wrong_argument_is_named(make, names):
    with pytest.raises(tt.InputError) as told:
        make()
    assert sorted({m.key for m in told.value.mistakes}) == names


def test_thousands_of_nodes_stay_sparse():
    n = 6000
    group = np.arange(n) // 2
    for coordinator in (
        tt.Exchange([f"n{i}" for i in range(n)], np.ones(n // 2), (0.0, 2.0), group_of=group, shortage_cost=3.0),
        tt.Consensus([f"n{i}" for i in range(n)], (0.0, 2.0), group_of=group, l1=0.1),
    ):
        assert sparse.issparse(coordinator.model.A)
        assert sparse.issparse(coordinator.model.P)
        answer, _ = answer_all(coordinator, Query(np.zeros(n), np.full(n, 0.5), np.full(n, 1.0)), {}, (None,))
        assert answer.Z.shape == (n,)
    assert coordinator.model.A.nnz < 5 * n


def test_a_large_model_travels_between_ranks():
    from decomp.parallel.serialization import decode, encode
    from decomp.parallel.vocabulary import Vocabulary

    coordinator = tt.Exchange([f"n{i}" for i in range(200)], 1.0, BOX, shortage_cost=3.0)
    words = Vocabulary.of(coordinator, tt.Request)
    back = decode(encode(coordinator.model, words), words)
    assert abs(back.A - coordinator.model.A).nnz == 0
    assert (back.P.shape, back.P.nnz) == ((400, 400), 0)
