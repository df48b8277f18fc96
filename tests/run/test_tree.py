"""Scenario trees in the engine: an entry agrees only among the scenarios that share its tree node."""

from __future__ import annotations

import importlib.util
import json
import logging

import numpy as np
import pyomo.environ as pyo
import pytest
from closed_form import QuadraticBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory import ORDERS, PERIODS, TREE, demand, extensive_form, stock
from paths import ROOT

from benchmarks.monolith import Monolith
from decomp.blocks.compile.compiler import compile_model
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.coordinators import Exchange
from decomp.layout import Layout
from decomp.messages import Coupling, Key
from decomp.parallel.ranks import Serial
from decomp.rules import (
    ADMM,
    APP,
    ATC,
    Auto,
    BarzilaiBorwein,
    Bundle,
    DantzigWolfe,
    DualAscent,
    Nesterov,
    Newton,
    Polyak,
    ProgressiveHedging,
    Volume,
)
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.result_files import write
from decomp.run.stopping import Gap, RunStatus
from decomp.steps import Step, constant


def solve(problem, coordinator, rule, limit=150, tolerance=1e-5):
    make, coupling = problem
    return run(
        make, coordinator, rule, coupling=coupling, stop=[Gap(tolerance, 1e-9, "total")], limits=Limits(limit),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


# -- where entries lie -------------------------------------------------------------------------------------------------


def test_unit_entries_are_entries_in_tree_nodes():
    _, coupling = stock()
    layout = Layout.of(coupling, 0)
    names = [layout.entry_name(i) for i in range(len(layout.node))]
    assert names[:4] == ["stock order 0", "stock order 1@0", "stock order 1@1", "stock order 2@0"]
    assert len(names) == 1 + 2 + 5
    assert layout.share == pytest.approx([1, 0.35, 0.65, 0.07, 0.28, 0.3575, 0.195, 0.0975])
    assert layout.sharers.tolist() == [5, 2, 3, 1, 1, 1, 1, 1]


def test_mean_is_the_conditional_one():
    _, coupling = stock()
    layout = Layout.of(coupling, 0)
    y = np.random.default_rng(4).normal(size=(5, 3))
    at = {key.scenario: i for i, key in enumerate(layout.keys)}
    order = [at[name] for name in TREE.scenarios]
    expected = TREE.average(y[order], PERIODS)
    found = layout.to_blocks(layout.mean(y.ravel())).reshape(5, 3)[order]
    assert found == pytest.approx(expected, abs=1e-14)
    assert np.array_equal(found[:, 2], y[order][:, 2])  # what a scenario decides alone is not rounded


def test_what_feeds_a_node_is_shared_by_all_scenarios():
    prob, sharing = TREE.blocks("u", [1])
    with pytest.raises(ValueError, match="must be the same in all scenarios, but their tree nodes differ in q"):
        Coupling("u", ("q",), np.ones(1), np.zeros(1, int), prob, sharing=sharing)
    Coupling("u", ("q",), np.ones(1), np.full(1, -1), prob, sharing=sharing)
    prob, sharing = TREE.blocks("u", [0])
    Coupling("u", ("q",), np.ones(1), np.zeros(1, int), prob, sharing=sharing)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {k: s[k] for k in list(s)[1:]}, "must name the same blocks"),
        (lambda s: {k: v[:1] for k, v in s.items()}, "one whole number for each of the 3 entries"),
        (lambda s: {k: v + 0.5 for k, v in s.items()}, "one whole number for each of the 3 entries"),
    ],
)
def test_wrong_sharing_is_refused(change, words):
    prob, sharing = TREE.blocks("stock", PERIODS)
    with pytest.raises(ValueError, match=words):
        Coupling("stock", ORDERS, np.ones(3), np.full(3, -1), prob, sharing=change(sharing))


# -- three stages against their extensive form -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def best():
    return extensive_form()


@pytest.mark.parametrize(
    ("rule", "tolerance"),
    [
        (ProgressiveHedging(), 1e-5),
        (ProgressiveHedging(penalty=1.0), 1e-2),
        (ADMM(), 1e-5),
        (Bundle(), 1e-5),
        (DantzigWolfe(), 1e-5),
    ],
    ids=["ph", "ph given", "admm", "bundle", "dantzig-wolfe"],
)
def test_three_stages_reach_the_extensive_form(rule, tolerance, best):
    cost, orders = best
    result = solve(stock(), None, rule, 60, tolerance)
    assert result.status == RunStatus.CERTIFIED, result.reason
    for row in result.rows:
        assert row.lower_bound <= cost * (1 + 1e-9)
        assert row.upper_bound is None or row.upper_bound >= cost * (1 - 1e-9)
    assert result.certificate.w_sum < 1e-9
    for s, name in enumerate(TREE.scenarios):
        wanted = [orders[t, TREE.nodes[t][TREE.node[s, t]]] for t in PERIODS]
        assert result.answers[Key("stock", name)].y == pytest.approx(wanted, abs=200 * tolerance**0.5)


def test_agreeing_more_than_the_tree_asks_costs_more(best):
    make, (coupling,) = stock()
    blind = Coupling("stock", ORDERS, np.ones(3), np.full(3, -1), coupling.prob, coupling.report)
    result = solve((make, [blind]), None, Bundle(), 40)
    assert result.certificate.lower_bound > best[0] * 1.1


def test_the_one_model_of_arrays_knows_the_tree(best):
    make, coupling = stock()
    programs = {key: compile_model(make(key).build()) for key in coupling[0].prob}
    assert Monolith.of(coupling, programs, None).solved(60.0).optimum == pytest.approx(best[0], rel=1e-9)


# -- any tree, any rule, known by hand ---------------------------------------------------------------------------------


class Separable:
    """Units with min sum pi (a/2 y^2 + b y); entry 0 meets a demand at a node, the others agree within tree nodes."""

    def __init__(self, seed, branches, units, traded):
        rng = np.random.default_rng(seed)
        first = np.repeat(np.arange(len(branches)), branches)
        n, S = 3, len(first)
        prob = rng.dirichlet(np.full(S, 2.0), size=units)
        self.blocks, self.coupling, self.best = {}, [], 0.0
        node = np.array([0 if traded else -1, -1, -1])
        stage = np.stack([np.zeros(S, int), first, np.arange(S)], axis=1)
        a, b = rng.uniform(0.5, 3.0, (units, S, n)), rng.normal(0.0, 2.0, (units, S, n))
        slope, offset = np.zeros(units), np.zeros(units)
        for u in range(units):
            keys = [Key(f"u{u}", f"{s:02d}") for s in range(S)]
            weight = np.array([1.0, rng.uniform(0.3, 3.0), rng.uniform(0.3, 3.0)])
            for s, key in enumerate(keys):
                self.blocks[key] = QuadraticBlock(a[u, s], b[u, s], -50, 50, weight, n)
            sharing = dict(zip(keys, stage, strict=True))
            given = dict(zip(keys, prob[u].tolist(), strict=True))
            self.coupling.append(Coupling(f"u{u}", ("x", "y", "z"), weight, node, given, sharing=sharing))
            for i in range(n):
                for at in range(stage[:, i].max() + 1):
                    here = stage[:, i] == at
                    A, B = prob[u, here] @ a[u, here, i], prob[u, here] @ b[u, here, i]
                    if i == 0 and traded:
                        slope[u], offset[u] = A, B
                    else:
                        self.best -= weight[i] * B**2 / (2 * A)
        self.coordinator = None
        if traded:
            demand_0 = 3.0 * units
            price = (demand_0 + np.sum(offset / slope)) / np.sum(1 / slope)
            self.best += float(np.sum((price - offset) * (price + offset) / (2 * slope)))
            box = np.array([60.0 * units])
            self.coordinator = Exchange(["n"], np.array([demand_0]), (-box, box))

    @property
    def problem(self):
        return self.blocks.__getitem__, self.coupling


CONVERGING = {
    "admm": ADMM(),
    "admm given": ADMM(0.5, agreement_penalty=1.0, first_round="free"),
    "atc": ATC(agreement_penalty=1.0),
    "app": APP(0.5, agreement_penalty=1.0),
    "auto": Auto(),
    "bundle": Bundle(),
    "newton": Newton(),
    "barzilai-borwein": BarzilaiBorwein(),
    "nesterov": Nesterov(),
    "dual ascent": DualAscent(Step(constant, {"a": 0.2}), agreement_step=Step(constant, {"a": 0.5})),
}


@pytest.mark.parametrize("traded", [False, True], ids=["alone", "at a node"])
@pytest.mark.parametrize("name", CONVERGING)
def test_every_rule_finds_the_optimum_of_a_tree(name, traded):
    case = Separable(3, (2, 3, 1), 2, traded)
    result = solve(case.problem, case.coordinator, CONVERGING[name], 300, 1e-5)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(case.best, rel=1.1e-5)
    assert result.certificate.lower_bound <= case.best + 1e-9 * abs(case.best)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    branches=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    units=st.integers(1, 2),
    traded=st.booleans(),
    rule=st.sampled_from([*CONVERGING.values(), DantzigWolfe(), Polyak(), Volume()]),
)
def test_bounds_enclose_the_optimum_on_any_tree(seed, branches, units, traded, rule):
    case = Separable(seed, branches, units, traded)
    result = solve(case.problem, case.coordinator, rule, 8, 1e-12)
    assert result.status != RunStatus.FAILED, result.reason
    slack = 1e-8 * (1 + abs(case.best))
    for row in result.rows:
        assert row.lower_bound <= case.best + slack
        assert row.upper_bound is None or row.upper_bound >= case.best - slack
    assert result.certificate.w_sum < 1e-9 * (1 + np.max(np.abs(result.final.block_price)))


def test_files_of_a_run_name_the_scenarios(tmp_path):
    result = solve(stock(), None, Bundle(), 20)
    write(result, tmp_path, case={}, extra={})
    rows = (tmp_path / "offers.csv").read_text().splitlines()
    assert sum("order 1" in row for row in rows) == len(TREE.scenarios)
    assert {row.mismatch_at.split("@")[0] for row in result.rows} <= {f"stock {name}" for name in ORDERS} | {""}


# -- what is told of the scenarios' agreement --------------------------------------------------------------------------


def test_spread_and_multiplier_sum_are_told_in_every_round(tmp_path):
    result = solve(stock(), None, ProgressiveHedging(penalty=1.0), 6, 1e-9)
    write(result, tmp_path, case={}, extra={})
    _, coupling = stock()
    layout = Layout.of(coupling, 0)
    first = result.initial.answers.y.reshape(5, 3)
    at = [[key.scenario for key in layout.keys].index(name) for name in TREE.scenarios]
    expected = np.abs(TREE.average(first[at], PERIODS) - first[at])
    assert result.rows[0].spread == pytest.approx(expected.max())
    worst = int(np.argmax(expected.max(axis=0)))
    assert result.rows[0].spread_at.split("@")[0] == f"stock {ORDERS[worst]}"
    assert all(row.multiplier_sum < 1e-12 for row in result.rows)
    header, *rows = (tmp_path / "iterations.csv").read_text().splitlines()
    column = header.split(",").index("spread")
    assert float(rows[0].split(",")[column]) == result.rows[0].spread
    told = json.loads((tmp_path / "result.json").read_text())
    assert told["spread"] == result.layout.spread(result.answers.y)[0]
    assert told["multiplier_sum"] == result.rows[-1].multiplier_sum


def test_a_multiplier_that_does_not_cancel_is_named():
    _, coupling = stock()
    layout = Layout.of(coupling, 0)
    w = np.zeros((5, 3))
    w[:, 1] = [3.0, 3.0, 3.0, 0.0, 0.0]  # stock/high-...: all three of one node
    assert layout.multiplier_sum(w.ravel()) == (pytest.approx(3.0 * 0.65), "stock order 1@1")


class Builds(PyomoSubproblem):
    """Build at a cost of 10 or not; it is worth `worth`."""

    def __init__(self, worth):
        self.worth = worth
        super().__init__()

    def build(self):
        m = pyo.ConcreteModel()
        m.built = pyo.Var(domain=pyo.Binary)
        m.cost = pyo.Expression(expr=(10 - self.worth) * m.built)
        m.coupling = pyo.Expression([0], rule=lambda m, _: m.built)
        return m


@pytest.mark.parametrize("rule", [Bundle(), ADMM(agreement_penalty=1.0), DantzigWolfe()], ids=["bundle", "admm", "dw"])
@pytest.mark.parametrize("worth", [(20.0, 4.0, 1.0), (15.0, 4.0, 1.0)], ids=["worth it", "not worth it"])
def test_whole_decisions_of_scenarios_are_never_averaged(rule, worth):
    scenarios = ("0", "1", "2")
    blocks = {Key("u", s): Builds(value) for s, value in zip(scenarios, worth, strict=True)}
    prob = dict(zip(blocks, (0.5, 0.3, 0.2), strict=True))  # built in one of them, the others would not
    coupling = [Coupling("u", ("built",), np.ones(1), np.full(1, -1), prob)]
    best = min(0.0, 10 - sum(p * v for p, v in zip(prob.values(), worth, strict=True)))
    result = solve((blocks.__getitem__, coupling), None, rule, 12)
    for row in result.rows:
        assert row.lower_bound is None or row.lower_bound <= best + 1e-9
        assert row.upper_bound is not None
        assert row.upper_bound >= best - 1e-9
    if result.status == RunStatus.CERTIFIED:
        assert set(np.round(result.answers.y, 9)) <= {0.0, 1.0}
        assert result.answers.y == pytest.approx(np.full(3, result.answers.y[0]))


def test_scenarios_that_disagree_are_no_solution_where_nothing_can_be_evaluated():
    class Mute(Builds):
        abilities = frozenset({"penalty", "bound"})

    blocks = {Key("u", s): Mute(value) for s, value in (("0", 20.0), ("1", 4.0))}
    coupling = [Coupling("u", ("built",), np.ones(1), np.full(1, -1), dict.fromkeys(blocks, 0.5))]
    result = solve((blocks.__getitem__, coupling), None, Bundle(), 1)
    assert result.rows[0].spread == 0.5
    assert result.rows[0].upper_bound is None
    assert result.certificate.gap is None


# -- from a case file --------------------------------------------------------------------------------------------------

CASE = """
[case]
title = "Stock over three periods"
problem = "inventory:Warehouse"
[rule]
kind = "bundle"
[stop.gap]
tolerance = 1e-6
floor = 1e-9
measure = "total"
[certificate]
every = 1
[run]
max_rounds = 60
[scenarios]
file = "tree.csv"
bundle = {bundle}
[risk]
alpha = {alpha}
beta = {beta}
"""
NODES = (
    "node,parent,probability", "now,,1", "low,now,0.35", "high,now,0.65", "low-calm,low,0.2", "low-busy,low,0.8",
    "high-calm,high,0.55", "high-busy,high,0.3", "high-wild,high,0.15",
)  # fmt: skip


@pytest.fixture
def case(tmp_path):
    def written(nodes=NODES, **values):
        (tmp_path / "tree.csv").write_text("\n".join(nodes))
        file = tmp_path / "case.toml"
        file.write_text(CASE.format(**{"bundle": 1, "alpha": 0.6, "beta": 0.0, **values}))
        return file

    return written


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("mpi_run", ROOT / "mpi_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main(Serial(), [str(a) for a in arguments])


@pytest.mark.parametrize("bundle", [1, 3])
def test_a_tree_from_a_case_file(bundle, case, command, tmp_path, best, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    assert command(case(bundle=bundle), "--out", tmp_path / "out", "--quiet") == 0
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["status"] == "certified"
    assert told["objective"] == pytest.approx(best[0], rel=1e-6)
    assert (told["scenarios"], told["subproblems"]) == (5, 5 if bundle == 1 else 2)
    assert told["spread"] < 1e-9
    assert told["multiplier_sum"] < 1e-9


def test_every_mistake_of_a_tree_and_its_risk_is_told_at_once(case, command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    nodes = [*NODES[:5], NODES[6], "high-busy,moon,0.3", "high-wild,high,1.15"]
    file = case(nodes, alpha=1.0, beta=-0.5, bundle=0)
    assert command(file, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    for part in (
        "[risk] alpha", "[risk] beta", "[scenarios] bundle", "its parent moon is not there", "the probability 1.15",
    ):  # fmt: skip
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_missing_branch_ends_a_run_before_it_begins(case, command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    assert command(case(NODES[:-1]), "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "tree.csv" in said
    assert "have the probability 0.85 in sum; add the missing branch" in said
    assert not (tmp_path / "out").exists()


def test_each_period_has_its_demand():
    assert {demand(name) for name in TREE.scenarios} == {
        (20.0, 15.0, 40.0), (20.0, 50.0, 75.0), (60.0, 15.0, 40.0), (60.0, 50.0, 75.0), (60.0, 95.0, 75.0),
    }  # fmt: skip
