"""Blocks from functions, cvxpy, linopy and nonlinear Pyomo models, their bounds, and the self-check of blocks."""

from __future__ import annotations

import cvxpy as cp
import linopy
import numpy as np
import pandas as pd
import pyomo.environ as pyo
import pytest
from closed_form import QuadraticBlock, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

import tatonnement as tt
from decomp.blocks.solve.pyomo_solvers import reports_bounds
from decomp.messages import Response, Signal, Status

HOURS = pd.RangeIndex(3, name="t")
DEMAND = np.array([3.0, 4.0, 5.0])


def solve(blocks, rule="bundle", nodes=1, demand=3.0, stop=None, **more):
    coupling = [unit(key.unit, tuple(range(nodes)), (1.0,) * nodes) for key in blocks]
    names = [f"n{i}" for i in range(nodes)]
    market = tt.Exchange(names, demand, (-100.0, 100.0))
    return tt.run(blocks, market, rule, coupling=coupling, stop=stop or tt.Gap(1e-6, 0.0, "total"), **more)


# -- functions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["bundle", "newton"])
def test_a_plain_function_is_a_block(rule):
    def half(price):
        y = price / 2  # y^2
        return y, float(y @ y), -float(price @ price) / 4, np.array([[0.5]])

    blocks = {tt.Key("a"): QuadraticBlock(1.0), tt.Key("b"): tt.FunctionBlock(half, evaluate=lambda y: float(y @ y))}
    result = solve(blocks, rule)
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(3.0, rel=1e-5)


def test_a_function_with_a_penalty_takes_part_in_admm():
    block = tt.FunctionBlock(
        lambda p: (p / 2, float(p @ p) / 4), exact=True, evaluate=lambda y: float(y @ y),
        penalised=lambda p, t, rho: ((y := (p + rho * t) / (2 + rho)), float(y @ y)),
    )  # fmt: skip
    assert block.abilities == {"bound", "evaluate", "penalty"}
    assert tt.check_block(block, 1) == []
    result = solve({tt.Key("a"): QuadraticBlock(1.0), tt.Key("b"): block}, "admm")
    assert result.objective == pytest.approx(3.0, rel=1e-5)


def test_averages_of_a_convex_functions_answers_are_points():
    block = tt.FunctionBlock(lambda p: (5.0 * (p > 1), 5.0 * (p[0] > 1)), exact=True, convex=True)
    assert block.evaluate(np.array([2.0])).status == Status.INFEASIBLE
    for price in (-1.0, 2.0, -2.0):
        block.solve(Signal(np.array([price])))
    assert block.evaluate(np.array([2.0])).cost == pytest.approx(2.0)
    assert block.evaluate(np.array([5.1])).status == Status.INFEASIBLE
    again = tt.FunctionBlock(block.f, exact=True, convex=True)
    again.load(block.save())
    assert again.evaluate(np.array([2.0])).cost == block.evaluate(np.array([2.0])).cost
    result = solve({tt.Key("a"): QuadraticBlock(1.0), tt.Key("b"): block})  # y^2/2 and y: 1 and 2
    assert result.status == "certified"
    assert result.objective == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda p: 1 / 0, "ZeroDivisionError"),
        (lambda p: p, "not \\(y, cost"),
        (lambda p: (np.zeros(2), 0.0), "2 values of y"),
        (lambda p: (p + np.inf, 0.0), "not finite"),
        (lambda p: ("a", 0.0), "could not convert"),
        (3, "give a function"),
    ],
)
def test_a_function_of_another_form_is_refused(f, text):
    with pytest.raises(tt.InputError, match=text):
        tt.FunctionBlock(f)


# -- cvxpy -------------------------------------------------------------------------------------------------------------


def test_a_cvxpy_problem_is_a_block():
    def build():
        y = cp.Variable(1, name="y")
        return tt.CvxpyModel(cp.sum_squares(y) + cp.norm1(y), [y <= 3], y)

    block = tt.CvxpyBlock(build)
    assert tt.check_block(block, 1, scale=4.0) == []
    answer = block.solve(Signal(np.array([3.0])))
    assert answer.y == pytest.approx([1.0], abs=1e-6)
    assert -1.0 - 1e-5 < answer.bound < -1.0 + 1e-9  # min y^2 + |y| - 3 y = -1
    assert block.detail(answer)["y"] == pytest.approx([1.0], abs=1e-6)
    assert block.evaluate(np.array([4.0])).status == Status.INFEASIBLE
    for rule in ("bundle", "admm"):  # y^2/2 and y^2 + |y|, demand 3: y' = 2 y + 1
        result = solve({tt.Key("a"): QuadraticBlock(1.0), tt.Key("b"): tt.CvxpyBlock(build)}, rule)
        assert result.status == "certified"
        assert result.objective == pytest.approx(0.5 * (7 / 3) ** 2 + (2 / 3) ** 2 + 2 / 3, rel=1e-5)


def test_a_cvxpy_problem_with_whole_variables_has_no_bound():
    def build():
        y = cp.Variable(1, integer=True)
        return tt.CvxpyModel(cp.sum(0.6 * y), [y >= 0, y <= 3], y)

    block = tt.CvxpyBlock(build)
    assert "bound" not in block.abilities
    assert block.solve(Signal(np.array([1.0]))).y == pytest.approx([3.0])
    with pytest.raises(tt.InputError, match="not convex"):
        tt.CvxpyBlock(lambda: tt.CvxpyModel(cp.sqrt(y := cp.Variable()), [], y))


# -- linopy ------------------------------------------------------------------------------------------------------------


def generator(commitment=False, sense="min"):
    def model():
        m = linopy.Model()
        p = m.add_variables(lower=0, upper=4, coords=[HOURS], name="p")
        if commitment:
            on = m.add_variables(coords=[HOURS], name="on", binary=True)
            m.add_constraints(p <= 4 * on, name="most")
            m.add_constraints(p >= 1.5 * on, name="least")
            cost = (2 * p + 1.0 * on).sum()
        else:
            cost = (0.5 * p * p + 1 * p).sum()
        m.add_constraints(p.shift(t=1).isel(t=slice(1, None)) - p.isel(t=slice(1, None)) >= -1.2, name="ramp")
        m.add_objective(cost if sense == "min" else -1 * cost, sense=sense)
        return m

    return model


@pytest.mark.parametrize("commitment", [False, True])
@pytest.mark.parametrize("sense", ["min", "max"])
def test_a_linopy_model_is_a_block_and_answers_as_the_same_model_in_pyomo(commitment, sense):
    class Same(tt.PyomoSubproblem):
        def build(self):
            m = pyo.ConcreteModel()
            m.p = pyo.Var(range(3), bounds=(0, 4))
            cost = sum(0.5 * m.p[t] ** 2 + m.p[t] for t in range(3))
            if commitment:
                m.on = pyo.Var(range(3), domain=pyo.Binary)
                m.most = pyo.Constraint(range(3), rule=lambda m, t: m.p[t] <= 4 * m.on[t])
                m.least = pyo.Constraint(range(3), rule=lambda m, t: m.p[t] >= 1.5 * m.on[t])
                cost = sum(2 * m.p[t] + m.on[t] for t in range(3))
            m.ramp = pyo.Constraint([1, 2], rule=lambda m, t: m.p[t] - m.p[t - 1] <= 1.2)
            m.cost = pyo.Expression(expr=cost)
            m.coupling = pyo.Expression(range(3), rule=lambda m, t: 2 * m.p[t] - 1)
            return m

    block = tt.LinopyBlock(generator(commitment, sense), lambda m: 2 * m.variables["p"] - 1)
    for price in ([1.2, 1.4, 1.1], [0.1, 3.0, 0.2], [0.5, 0.5, 1.9]):
        ours, theirs = (b.solve(Signal(np.array(price), exact=True)) for b in (block, Same()))
        value = [r.cost - float(np.dot(price, r.y)) for r in (ours, theirs)]
        assert value[0] == pytest.approx(value[1], rel=1e-7, abs=1e-7)
        assert ours.bound == pytest.approx(value[0], abs=1e-5)
    assert tt.check_block(block, 3, scale=2.0) == []
    assert block.detail(block.solve(Signal(np.zeros(3))))["p"] == pytest.approx(np.zeros(3), abs=1e-6)


def test_linopy_blocks_are_certified_by_every_kind_of_rule():
    for rule in ("bundle", "admm", "interior_point"):
        blocks = {tt.Key(u): tt.LinopyBlock(generator(), lambda m: m.variables["p"]) for u in "ab"}
        result = solve(blocks, rule, nodes=3, demand=DEMAND)
        assert result.status == "certified", (rule, result.reason)
        assert result.objective == pytest.approx(float(np.sum(DEMAND**2 / 4 + DEMAND)), rel=1e-5)


def test_what_linopy_has_and_rows_have_not_is_refused():
    with pytest.raises(tt.InputError, match="give a function"):
        tt.LinopyBlock(generator()(), lambda m: m.variables["p"])
    answer = tt.LinopyBlock(generator(), lambda m: m.variables["p"] * m.variables["p"]).solve(Signal(np.zeros(3)))
    assert "not a linear expression" in answer.message


# -- nonlinear Pyomo models, other solvers -----------------------------------------------------------------------------


class Curved(tt.PyomoSubproblem):
    """exp(a x0) - log x1 in a disc."""

    def __init__(self, a=1.0, radius=2.0, **options):
        self.a, self.radius = a, radius
        super().__init__(solver="pounce", **options)

    def build(self):
        m = pyo.ConcreteModel()
        m.x = pyo.Var([0, 1], bounds=(0.01, None), initialize=1)
        m.disc = pyo.Constraint(expr=m.x[0] ** 2 + m.x[1] ** 2 <= self.radius**2)
        m.cost = pyo.Expression(expr=pyo.exp(self.a * m.x[0]) - pyo.log(m.x[1]))
        m.coupling = pyo.Expression([0, 1], rule=lambda m, i: m.x[i])
        return m

    def least(self, price):
        """By another solver: a trust region in two variables."""
        return least(lambda x: np.exp(self.a * x[0]) - np.log(x[1]) - price[0] * x[0] - price[1] * x[1], self.radius)


def least(cost, radius):
    disc = optimize.NonlinearConstraint(lambda x: x[0] ** 2 + x[1] ** 2, 0, radius**2)
    found = optimize.minimize(
        cost, [0.3 * radius, 0.3 * radius], method="SLSQP", bounds=[(0.01, None)] * 2, constraints=[disc],
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    return found.fun


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    a=st.floats(0.2, 2.0), radius=st.floats(0.5, 4.0), price=st.tuples(st.floats(-5, 8), st.floats(-5, 8)),
)  # fmt: skip
def test_the_bound_of_a_convex_model_is_below_every_point_and_near_the_optimum(a, radius, price):
    block = Curved(a, radius, convex=True)
    answer = block.solve(Signal(np.array(price)))
    best = block.least(price)
    assert answer.bound is not None
    assert best - 1e-4 * (1 + abs(best)) < answer.bound <= best + 1e-6 * (1 + abs(best))


def test_only_the_users_word_makes_a_nonlinear_model_convex():
    assert "bound" not in Curved().abilities
    assert Curved().solve(Signal(np.zeros(2))).bound is None

    class Whole(Curved):
        def build(self):
            m = super().build()
            m.x[0].domain = pyo.Integers
            return m

    answer = Whole(convex=True).solve(Signal(np.zeros(2)))
    assert answer.status == Status.ERROR


def test_a_bundle_certifies_a_convex_nonlinear_block():
    blocks = {tt.Key("a"): QuadraticBlock(1.0, n=2), tt.Key("b"): Curved(convex=True)}
    result = solve(blocks, nodes=2, demand=np.array([1.0, 2.0]), stop=tt.Gap(1e-4, 0.0, "total"), limits=60)
    assert result.status == "certified", result.reason
    best = least(lambda x: np.exp(x[0]) - np.log(x[1]) + 0.5 * (1 - x[0]) ** 2 + 0.5 * (2 - x[1]) ** 2, 2.0)
    assert result.objective == pytest.approx(best, rel=2e-4)


class Lots(tt.PyomoSubproblem):
    def build(self):
        m = pyo.ConcreteModel()
        m.n, m.x = pyo.Var(domain=pyo.Integers, bounds=(0, 7)), pyo.Var(bounds=(0, 2))
        m.most = pyo.Constraint(expr=m.n + m.x <= 6.5)
        m.cost = pyo.Expression(expr=1.5 * m.n + m.x + 1)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.n + 0.5 * m.x)
        return m


def test_another_mixed_integer_solver_gives_the_bounds_it_reports():
    assert reports_bounds("appsi_highs")
    assert not reports_bounds("pounce")
    theirs, ours = Lots(solver="appsi_highs"), Lots()
    assert "bound" in theirs.abilities
    for price in (-1.0, 1.7, 2.5):
        a, b = (block.solve(Signal(np.array([price]), exact=True)) for block in (theirs, ours))
        assert a.bound == pytest.approx(b.bound, abs=1e-6)
        assert a.bound <= a.cost - price * a.y[0] + 1e-9
    assert theirs.solve(Signal(np.zeros(1), np.zeros(1), np.ones(1))).bound is None


def test_bounds_of_other_solvers_count_from_the_initial_schedule():
    first = Lots(solver="appsi_highs")
    first.initial_price = np.array([2.5])
    own = Lots()
    own.initial_price = np.array([2.5])
    for price in (0.0, 1.7, 3.0):
        a, b = (block.solve(Signal(np.array([price]), exact=True)) for block in (first, own))
        assert a.bound == pytest.approx(b.bound, abs=1e-6)
        assert a.bound == pytest.approx(a.cost - price * a.y[0], abs=1e-6)


# -- the self-check ----------------------------------------------------------------------------------------------------


class Wrong(QuadraticBlock):
    """1/2 y^2 within 0 and 10, with one thing wrong."""

    def __init__(self, fault):
        super().__init__(1.0, 0.0, 0.0, 10.0)
        self.fault, self.count = fault, 0

    def solve(self, signal):
        if self.fault == "sign":
            return super().solve(Signal(-signal.price, signal.target, signal.penalty))
        found = super().solve(signal)
        if self.fault == "penalty" and signal.penalty is not None:
            return super().solve(Signal(signal.price, -signal.target, signal.penalty))
        if self.fault == "bound" and found.bound is not None:
            return found.but(bound=found.bound + 0.1)
        if self.fault == "repeatability":
            self.count += 1
            return found.but(y=found.y + 1e-9 * self.count)
        if self.fault == "shape":
            return found.but(y=np.zeros(3))
        if self.fault == "cost":
            return found.but(cost=found.cost - float(signal.price @ found.y))
        if self.fault == "raises":
            raise KeyError("nothing")
        if self.fault == "type":
            return found.y
        return found

    def evaluate(self, y):
        found = super().evaluate(y)
        return found.but(cost=found.cost + 0.1) if self.fault == "evaluation" else found


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("sign", "sign of the price"),
        ("penalty", "1/2 <penalty"),
        ("bound", "the bound"),
        ("repeatability", "two answers"),
        ("shape", "shape"),
        ("cost", "does not minimise"),
        ("raises", "raised KeyError"),
        ("type", "not a Response"),
        ("evaluation", "evaluate("),
    ],
)
def test_the_self_check_finds_what_is_wrong(fault, text):
    found = tt.check_block(Wrong(fault), 1)
    assert any(text in one for one in found), found


def test_the_self_check_passes_what_is_right_and_leaves_it_as_it_was():
    assert tt.check_block(Wrong(""), 1) == []
    block = Lots()
    block.solve(Signal(np.array([2.0])))
    before = block.save()
    assert tt.check_block(block, 1, scale=3.0) == []
    after = block.save()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert isinstance(block.solve(Signal(np.array([2.0]))), Response)


def test_every_variable_of_a_pyomo_block_is_told():
    block = Lots()
    told = block.detail(block.solve(Signal(np.array([2.5]), exact=True)))
    assert told["n"] == pytest.approx([6.0])
    assert told["x"] == pytest.approx([0.5])
