"""What a Pyomo model may hold, on every backend: domains, bounds, objectives, leftovers of transformations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.dae as dae
import pyomo.environ as pyo
import pyomo.gdp as gdp
import pyomo.network as network
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyomo.core.base.range import NumericRange

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.scenario_bundle import ScenarioBundle
from decomp.blocks.solve.pyomo_solvers import find_solver
from decomp.messages import Response, Signal, Status

Build = Callable[[], pyo.ConcreteModel]
SOLVERS = ("highs", "appsi_highs")


class Block(PyomoSubproblem):
    def __init__(self, build: Build, **options: Any) -> None:
        super().__init__(**options)
        self._model = build

    def build(self) -> pyo.ConcreteModel:
        return self._model()


class Templated(Block):
    def __init__(self, build: Build, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(build)
        self.template, self._values = name, values

    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, Any]:
        return self._values


def solve(build: Build, price: float, solver: str = "highs") -> Response:
    return Block(build, solver=solver).solve(Signal(np.array([price]), exact=True))


def one_variable(domain: Any, bounds: Any = (None, None), least: float = -1e3, most: float = 1e3) -> Build:
    """min n^0: the offer n follows the price's sign to the end of what its domain and the row allow."""

    def build() -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.n = pyo.Var(within=domain() if callable(domain) else domain, bounds=bounds)
        m.row = pyo.Constraint(expr=(least, m.n, most))
        m.cost = pyo.Expression(expr=0.0 * m.n)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.n)
        return m

    return build


def interval(first: float | None, last: float | None, step: float = 0) -> NumericRange:
    return NumericRange(first, last, step)


DOMAINS: dict[str, tuple[Any, float, float, float, float]] = {
    # domain, least, most, right at a price of -1, right at a price of 1
    "three values": (lambda: pyo.Set(initialize=[0, 5, 10]), 3, 9, 5, 5),
    "uneven values": (lambda: pyo.Set(initialize=[0, 5, 11]), 3, 20, 5, 11),
    "one value": (lambda: pyo.Set(initialize=[3]), -9, 9, 3, 3),
    "negative fractions": (lambda: pyo.Set(initialize=[-1.25, -7.5, 2]), -7, 1.9, -1.25, -1.25),
    "half steps": (lambda: pyo.RangeSet(0.5, 9.5, 1), 0.7, 5, 1.5, 4.5),
    "steps of a half": (lambda: pyo.RangeSet(0, 5, 0.5), 0.7, 3.2, 1.0, 3.0),
    "steps downwards": (lambda: pyo.RangeSet(-3, -9, -2), -8, -4, -7, -5),
    "without an end": (lambda: pyo.RangeSet(ranges=[interval(0, None, 2)]), 3, 41, 4, 40),
    "without a beginning": (lambda: pyo.RangeSet(ranges=[interval(0, None, -3)]), -41, -4, -39, -6),
    "zero or between": (lambda: pyo.RangeSet(ranges=[interval(0, 0), interval(2, 5)]), 0.5, 4, 2, 4),
    "below or above": (lambda: pyo.RangeSet(ranges=[interval(-8, -3), interval(2, 5)]), -5, 1, -5, -3),
    "union": (lambda: pyo.Set(initialize=[0]) | pyo.RangeSet(3, 7), 1, 6.5, 3, 6),
    "difference": (lambda: pyo.RangeSet(0, 9) - pyo.RangeSet(3, 7), 2.5, 8.5, 8, 8),
    "truth values": (lambda: pyo.Set(initialize=[True, False]), 0.2, 9, 1, 1),
    "Boolean": (pyo.Boolean, 0.2, 9, 1, 1),
    "whole numbers in a list": (lambda: pyo.Set(initialize=range(4, 9)), 4.5, 7.5, 5, 7),
    "percent": (pyo.PercentFraction, 0.25, 9, 0.25, 1),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", DOMAINS)
def test_domains_are_modelled_exactly(name: str, solver: str) -> None:
    domain, least, most, low, high = DOMAINS[name]
    for price, right in ((-1.0, low), (1.0, high)):
        answer = solve(one_variable(domain, least=least, most=most), price, solver)
        assert answer.status is Status.OPTIMAL, answer.message
        assert answer.y == pytest.approx([right], abs=1e-7)
        if solver == "highs":
            assert answer.bound == pytest.approx(-price * right, abs=1e-6)
            assert (answer.pattern == 0) == (name in ("percent", "one value"))


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (lambda: pyo.Integers - pyo.RangeSet(0, 3), "no end"),
        (lambda: pyo.Set(initialize=[]), "is empty"),
        (lambda: pyo.Set(initialize=["a"]), "no number"),
    ],
)
def test_domains_that_cannot_be_modelled_are_refused(domain: Any, said: str) -> None:
    for solver in SOLVERS:
        answer = solve(one_variable(domain), 1.0, solver)
        assert answer.status is Status.ERROR
        assert said in answer.message
        assert " n: " in answer.message


def test_an_endless_union_is_cut_at_the_variables_bounds() -> None:
    build = one_variable(lambda: pyo.Integers - pyo.RangeSet(0, 3), bounds=(-6.5, 9.5))
    assert [solve(build, p).y[0] for p in (-1.0, 1.0)] == pytest.approx([-6, 9])
    build = one_variable(lambda: pyo.Integers - pyo.RangeSet(0, 3), bounds=(-6.5, 9.5), least=-0.5)
    assert solve(build, -1.0).y == pytest.approx([4])


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    st.lists(st.integers(-40, 40).map(lambda k: k / 4), min_size=1, max_size=6, unique=True),
    st.integers(-40, 40).map(lambda k: k / 4 + 0.1),
    st.sampled_from([-1.0, 1.0]),
)
def test_any_list_of_values(values: list[float], target: float, price: float) -> None:
    inside = [v for v in values if price * v <= price * target]
    limits = {"most": target} if price > 0 else {"least": target}
    answer = solve(one_variable(lambda: pyo.Set(initialize=values), **limits), price)  # type: ignore[arg-type]
    assert answer.status is (Status.OPTIMAL if inside else Status.INFEASIBLE), answer.message
    if inside:
        assert answer.y == pytest.approx([max(inside, key=lambda v: price * v)], abs=1e-6)


def test_a_variable_of_few_values_agrees_over_scenarios_in_a_bundle() -> None:
    scenarios: Mapping[str, PyomoSubproblem] = {
        s: Block(one_variable(lambda: pyo.Set(initialize=[0, 5, 10]), least=least)) for s, least in (("a", 3), ("b", 7))
    }
    bundle = ScenarioBundle(scenarios, np.array([0.5, 0.5]), np.zeros((2, 1), int), np.array([0]), 0)
    answer = bundle.solve(Signal(np.array([-1.0]), exact=True))
    assert answer.y == pytest.approx([10])
    assert answer.bound == pytest.approx(10)


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_fractional_bounds_of_whole_variables_are_rounded_inwards(solver: str) -> None:
    for price, right in ((1.5, 9.0), (-1.5, 1.0)):
        answer = solve(one_variable(pyo.Integers, bounds=(0.7, 9.5)), price, solver)
        assert answer.y.tolist() == [right], answer.message
    near = solve(one_variable(pyo.Integers, bounds=(0, 3 - 1e-12)), 1.0, solver)
    assert near.y.tolist() == [3.0]


@pytest.mark.parametrize("solver", SOLVERS)
def test_whole_variables_without_a_whole_number_in_their_bounds_are_named(solver: str) -> None:
    answer = solve(one_variable(pyo.Integers, bounds=(2.2, 2.8)), 1.0, solver)
    assert answer.status is Status.INFEASIBLE
    assert "'n'" in answer.message


def with_parameters(domain: Any = pyo.NonNegativeReals) -> Build:
    def build() -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.lo = pyo.Param(initialize=0.0, mutable=True)
        m.hi = pyo.Param(initialize=1.0, mutable=True)
        m.n = pyo.Var(within=domain() if callable(domain) else domain, bounds=(m.lo, m.hi))
        m.cost = pyo.Expression(expr=0.0 * m.n)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.n)
        return m

    return build


@pytest.mark.parametrize(
    ("domain", "lo", "hi", "low", "high"),
    [
        (pyo.NonNegativeReals, -3.0, 2.5, 0.0, 2.5),
        (pyo.NonNegativeReals, 1.5, 2.5, 1.5, 2.5),
        (pyo.PercentFraction, -3.0, 2.5, 0.0, 1.0),
        (pyo.NonPositiveReals, -3.0, 2.5, -3.0, 0.0),
        (pyo.NonNegativeIntegers, -3.3, 2.5, 0.0, 2.0),
        (pyo.Integers, 0.5, 2.5, 1.0, 2.0),
        (pyo.Binary, -3.0, 0.5, 0.0, 0.0),
        (lambda: pyo.Set(initialize=[0, 5, 11]), 1.0, 10.0, 5.0, 5.0),
    ],
)
def test_domains_bound_variables_whose_bounds_follow_parameters(
    domain: Any, lo: float, hi: float, low: float, high: float
) -> None:
    build = with_parameters(domain)
    # three blocks: solved in a batch from the second time on, where the template allows it
    blocks = [Templated(build, f"{domain}", {"lo": lo, "hi": hi}) for _ in range(3)]
    for price in (-1.0, 1.0, -1.0, 1.0):
        signals = [Signal(np.array([price]), exact=True)] * 3
        together = Templated.solve_together(blocks, signals)
        assert [a.y[0] for a in together] == pytest.approx([low if price < 0 else high] * 3, abs=1e-7)
        pulled = Templated.solve_together(blocks, [Signal(np.zeros(1), np.array([100 * price]), np.ones(1))] * 3)
        assert [a.y[0] for a in pulled] == pytest.approx([low if price < 0 else high] * 3, abs=1e-6)


def test_parameters_that_leave_no_whole_number_are_told_for_their_block_alone() -> None:
    right, wrong = (Templated(with_parameters(pyo.Integers), "no whole", {"lo": 0.2, "hi": h}) for h in (1.5, 0.8))
    assert right.solve(Signal(np.ones(1))).y.tolist() == [1.0]
    answer = wrong.solve(Signal(np.ones(1)))
    assert answer.status is Status.INFEASIBLE
    assert "no whole number within the bounds of 'n'" in answer.message


def crossed() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.lo = pyo.Param(initialize=3.0, mutable=True)
    m.hi = pyo.Param(initialize=2.0, mutable=True)
    m.x = pyo.Var(bounds=(0, 9))
    m.between = pyo.Constraint(expr=(m.lo, m.x, m.hi))
    m.cost = pyo.Expression(expr=m.x)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
    return m


def test_constraints_whose_sides_cross_are_named() -> None:
    answers = [solve(crossed, 1.0, solver) for solver in SOLVERS]
    answers.append(Templated(crossed, "crossed", {"lo": 3.0, "hi": 2.0}).solve(Signal(np.ones(1))))
    for answer in answers:
        assert answer.status is Status.INFEASIBLE
        assert "'between' (3 > 2)" in answer.message
    pulled = Block(crossed).solve(Signal(np.ones(1), np.ones(1), np.ones(1)))
    assert "'between' (3 > 2)" in pulled.message


# -- objectives --------------------------------------------------------------------------------------------------------


def profit() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(0, 5))
    m.cost = pyo.Objective(expr=-4 * m.x, sense=pyo.maximize)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
    return m


def test_a_maximised_cost_is_refused_on_every_backend() -> None:
    answers = [solve(profit, 3.0, solver) for solver in SOLVERS]
    answers.append(Templated(profit, "profit", {}).solve(Signal(np.ones(1))))
    bundle = ScenarioBundle({"a": Block(profit)}, np.ones(1), np.zeros((1, 1), int), np.array([0]), 0)
    answers.append(bundle.solve(Signal(np.ones(1))))
    for answer in answers:
        assert answer.status is Status.ERROR
        assert "maximised" in answer.message


# -- nothing to decide -------------------------------------------------------------------------------------------------


def passive(fixed: bool = False, need: float = 0.0) -> Build:
    def build() -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.demand = pyo.Param([0, 1], initialize={0: 3.0, 1: 4.0}, mutable=True)
        m.x = pyo.Var([0] if fixed else [], initialize=2.0)
        for v in m.x.values():
            v.fix()
        m.enough = pyo.Constraint(expr=m.x[0] >= need) if fixed else pyo.Constraint([])
        m.cost = pyo.Expression(expr=sum(m.x.values()))
        m.coupling = pyo.Expression([0, 1], rule=lambda m, i: -m.demand[i])
        return m

    return build


@pytest.mark.parametrize("fixed", [False, True])
def test_blocks_without_a_free_variable_are_legal(fixed: bool) -> None:
    price, y, cost = np.array([3.0, 2.0]), [-3.0, -4.0], 2.0 * fixed
    for solver in SOLVERS:
        block = Block(passive(fixed), solver=solver)
        for signal in (Signal(price), Signal(price, np.ones(2), np.ones(2)), Signal(price, exact=True)):
            answer = block.solve(signal)
            assert answer.status is Status.OPTIMAL, answer.message
            assert answer.y.tolist() == y
            assert answer.cost == cost
        assert answer.bound == (cost + 17.0 if solver == "highs" else None)
        assert block.evaluate(np.array(y)).cost == cost
        assert block.evaluate(np.array([-3.0, -5.0])).status is Status.INFEASIBLE
        lacking = Block(passive(True, need=3.0), solver=solver).solve(Signal(price))
        assert lacking.status is Status.INFEASIBLE
        assert "'enough'" in lacking.message
    blocks = [Templated(passive(), "passive", {"demand": [1.0, 2.0]}) for _ in range(2)]
    for signal in (Signal(price), Signal(price), Signal(price, np.ones(2), np.ones(2)), Signal(price)):
        for answer in Templated.solve_together(blocks, [signal, signal]):
            assert answer.y.tolist() == [-1.0, -2.0]
            assert answer.bound == (7.0 if signal.target is None else None)


# -- leftovers of transformations --------------------------------------------------------------------------------------


def with_logic() -> pyo.ConcreteModel:
    m = base()
    m.a, m.b = pyo.BooleanVar(), pyo.BooleanVar()
    m.either = pyo.LogicalConstraint(expr=pyo.lor(m.a, m.b))
    pyo.TransformationFactory("contrib.logical_to_disjunctive").apply_to(m)
    pyo.TransformationFactory("gdp.bigm").apply_to(m)
    m.row = pyo.Constraint(expr=m.x >= m.a.get_associated_binary() + 2 * m.b.get_associated_binary())
    return m


def with_disjunction(kind: str) -> Build:
    def build() -> pyo.ConcreteModel:
        m = base()
        m.low, m.high = gdp.Disjunct(), gdp.Disjunct()
        m.low.row = pyo.Constraint(expr=m.x <= -1)
        m.high.row = pyo.Constraint(expr=m.x >= 1)
        m.either = gdp.Disjunction(expr=[m.low, m.high])
        pyo.TransformationFactory(kind).apply_to(m)
        return m

    return build


def with_time() -> pyo.ConcreteModel:
    m = base()
    m.t = dae.ContinuousSet(bounds=(0, 1))
    m.level = pyo.Var(m.t)
    m.slope = dae.DerivativeVar(m.level, wrt=m.t)
    m.flow = pyo.Constraint(m.t, rule=lambda m, t: m.slope[t] == m.x)
    m.start, m.end = pyo.Constraint(expr=m.level[0] == 0), pyo.Constraint(expr=m.level[1] >= 1)
    pyo.TransformationFactory("dae.finite_difference").apply_to(m, nfe=4)
    return m


def with_ports() -> pyo.ConcreteModel:
    m = base()
    m.out = pyo.Var(initialize=1.0)
    m.source, m.sink = network.Port(initialize={"flow": m.x}), network.Port(initialize={"flow": m.out})
    m.arc = network.Arc(source=m.source, destination=m.sink)
    m.need = pyo.Constraint(expr=m.out >= 1)
    pyo.TransformationFactory("network.expand_arcs").apply_to(m)
    return m


def base() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.x = pyo.Var(bounds=(-9, 9))
    m.cost = pyo.Expression(expr=0.0 * m.x)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
    return m


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("build", "right"),
    [
        (with_logic, 1.0),
        (with_disjunction("gdp.bigm"), -9.0),
        (with_disjunction("gdp.hull"), -9.0),
        (with_time, 1.0),
        (with_ports, 1.0),
    ],
    ids=["logic", "bigm", "hull", "dae", "arcs"],
)
def test_what_transformations_leave_behind_is_accepted(build: Build, right: float, solver: str) -> None:
    answer = solve(build, -1.0, solver)
    assert answer.status is Status.OPTIMAL, answer.message
    assert answer.y == pytest.approx([right], abs=1e-6)


def logic_untransformed() -> pyo.ConcreteModel:
    m = base()
    m.a = pyo.BooleanVar()
    m.must = pyo.LogicalConstraint(expr=m.a.implies(False))
    return m


def disjunction_untransformed() -> pyo.ConcreteModel:
    m = base()
    m.low, m.high = gdp.Disjunct(), gdp.Disjunct()
    m.either = gdp.Disjunction(expr=[m.low, m.high])
    return m


def ordered_set() -> pyo.ConcreteModel:
    m = base()
    m.w = pyo.Var([1, 2, 3], bounds=(0, 1))
    m.one = pyo.SOSConstraint(var=m.w, sos=1)
    return m


@pytest.mark.parametrize("build", [logic_untransformed, disjunction_untransformed, ordered_set])
@pytest.mark.parametrize("solver", [*SOLVERS, "pounce"])
def test_what_a_solver_would_drop_is_refused(build: Build, solver: str) -> None:
    answer = solve(build, 1.0, solver)
    assert answer.status is Status.ERROR
    assert "transform it first" in answer.message


# -- solvers -----------------------------------------------------------------------------------------------------------


def nearest() -> pyo.ConcreteModel:
    m = pyo.ConcreteModel()
    m.b = pyo.Var(within=pyo.Binary, initialize=0)
    m.cost = pyo.Expression(expr=(m.b - 0.3) ** 2)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.b)
    return m


def test_a_nonlinear_solver_never_relaxes_integers() -> None:
    answer = solve(nearest, 0.0, "pounce")
    assert answer.status is Status.ERROR
    assert "'b'" in answer.message or " b: " in answer.message


def test_integers_that_a_solver_has_relaxed_are_found_in_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = find_solver("pounce")
    monkeypatch.setattr(type(solver), "has_capability", lambda self, kind: True)
    answer = solve(nearest, 0.0, "pounce")
    assert answer.status is Status.ERROR
    assert "whole" in answer.message or "discrete" in answer.message or "integer" in answer.message


def test_a_command_on_the_path_is_no_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "somesolver"
    command.write_text("#!/bin/sh\necho 'somesolver 1.0 (ASL 20200101)'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    answer = solve(base, 0.0, "somesolver")
    assert answer.status is Status.ERROR
    assert "no usable solver 'somesolver'" in answer.message


def test_rows_with_a_side_of_zero_are_among_the_worst() -> None:
    def build() -> pyo.ConcreteModel:
        m = base()
        m.x.value = 0.5
        m.least = pyo.Constraint(expr=pyo.exp(m.x) <= 0.0)
        return m

    answer = solve(build, 0.0, "pounce")
    assert not answer.status.has_point
    assert "'least' by 1.6" in answer.message


def test_blocks_are_refused_by_their_solver_before_any_is_solved() -> None:
    assert "no usable solver" in Block(base, solver="no_such_solver").refusal()
    assert Block(base, solver="appsi_highs").refusal() == Block(base).refusal() == ""
