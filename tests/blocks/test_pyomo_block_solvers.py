"""Blocks solved by other Pyomo solvers: a nonlinear one by POUNCE, the same linear one by two ways to HiGHS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.pyomo_block import ConvexTerm, PyomoSubproblem
from decomp.errors import TatonnementError
from decomp.messages import Signal, Status


class Exponential(PyomoSubproblem):
    """Sells x at the cost exp(x) - 1: the answer to price p is ln p. The second entry needs a nonconvex row."""

    def __init__(self, initial: float | None = None, **options: Any) -> None:
        if initial is not None:
            self.initial_price = np.array([initial, 1.0])
        super().__init__(solver="pounce", **options)

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(-3, 3), initialize=0.5)
        m.z = pyo.Var([1, 2], bounds=(0.1, None), initialize=1.0)
        m.area = pyo.Constraint(expr=m.z[1] * m.z[2] <= 4)
        m.cost = pyo.Expression(expr=pyo.exp(m.x) - 1 + 0.5 * (m.z[1] - 1) ** 2)
        m.coupling = pyo.Expression([0, 1], rule=lambda m, i: m.x if i == 0 else 2 - 1 / m.z[2])
        m.report = pyo.Expression([0], rule=lambda m, i: m.z[1] * m.z[2])
        return m

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        return {0: [model.x]}


def test_nonlinear_block_answers_its_closed_form() -> None:
    block = Exponential()
    assert block.abilities == {"penalty", "evaluate"}
    for price in (2.0, 5.0, 1.0):
        answer = block.solve(Signal(np.array([price, 0.0]), exact=True, id=3))
        assert answer.status is Status.OPTIMAL, answer.message
        assert answer.y[0] == pytest.approx(np.log(price), abs=1e-6)
        assert answer.bound is None
        assert answer.signal_id == 3


def test_nonlinear_penalty_evaluate_and_initial_schedule() -> None:
    block = Exponential(initial=2.0)
    assert block.initial.offer[0] == pytest.approx(np.log(2), abs=1e-6)
    still = block.solve(Signal(np.array([2.0, 1.0])))
    assert still.y == pytest.approx([0, 0], abs=1e-6)
    pulled = block.solve(Signal(np.array([2.0, 1.0]), np.array([1.0, 0.0]), np.array([3.0, 0.0])))
    x = pulled.y[0] + np.log(2)
    assert np.exp(x) - 2 + 3 * (pulled.y[0] - 1) == pytest.approx(0, abs=1e-5)
    held = block.evaluate(np.array([0.5, 0.0]))
    # f = cost - <initial price, raw initial offer>
    paid = 2 * np.log(2) + block.initial.offer[1]
    assert held.y == pytest.approx([0.5, 0], abs=1e-6)
    assert held.cost == pytest.approx(still.cost + np.exp(np.log(2) + 0.5) - 2, abs=1e-5)
    assert still.cost == pytest.approx(1 + 0.5 * (block.value(still.point, "z")[0] - 1) ** 2 - paid, abs=1e-6)
    frozen = block.solve(Signal(np.array([5.0, 1.0]), active=np.array([True, False])))
    assert frozen.y[0] == pytest.approx(0, abs=1e-9)
    assert block.solve(Signal(np.array([5.0, 1.0]))).y[0] == pytest.approx(np.log(2.5), abs=1e-6)


def test_a_nonlinear_block_starts_from_its_state_not_from_the_model() -> None:
    one, two = Exponential(), Exponential()
    price = [Signal(np.array([p, 0.3])) for p in (2.0, 4.0, 3.0)]
    one.solve(price[0])
    saved = one.save()
    assert saved is not None
    expected = one.solve(price[1])
    one.solve(price[2])
    one.load(saved)
    assert np.array_equal(one.solve(price[1]).y, expected.y)
    two.load(saved)
    assert np.array_equal(two.solve(price[1]).y, expected.y)


def test_options_differ_between_the_first_and_later_solves() -> None:
    block = Exponential(solver_options={"max_iter": 200}, later_options={"max_iter": 0})
    assert block.solve(Signal(np.array([2.0, 0.0]))).status is Status.OPTIMAL
    stopped = block.solve(Signal(np.array([9.0, 0.0])))
    assert stopped.status is Status.LIMIT
    assert "pounce" in stopped.message


def test_infeasible_nonlinear_block_is_told_with_its_rows() -> None:
    class Impossible(Exponential):
        def build(self) -> pyo.ConcreteModel:
            m = super().build()
            m.too_far = pyo.Constraint(expr=m.x**2 >= 10)
            return m

    answer = Impossible().solve(Signal(np.array([2.0, 0.0])))
    assert answer.status is Status.INFEASIBLE
    assert "'too_far'" in answer.message
    assert answer.point is None


class Linear(PyomoSubproblem):
    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(2), bounds=(0, 5))
        m.line = pyo.Constraint(expr=m.x[0] + m.x[1] <= 6)
        m.cost = pyo.Expression(expr=2 * m.x[0] + 3 * m.x[1])
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x[0] + m.x[1])
        return m


@pytest.mark.parametrize("price", [1.0, 2.5, 3.5])
def test_pyomos_own_way_to_highs_agrees_with_ours(price: float) -> None:
    asked = Signal(np.array([price]))
    ours, theirs = Linear().solve(asked), Linear(solver="appsi_highs").solve(asked)
    assert theirs.status is Status.OPTIMAL, theirs.message
    assert theirs.y == pytest.approx(ours.y, abs=1e-8)
    assert theirs.cost == pytest.approx(ours.cost, abs=1e-8)


def test_unknown_solvers_and_tangents_are_refused_in_words() -> None:
    answer = Linear(solver="no_such_solver").solve(Signal(np.zeros(1)))
    assert answer.status is Status.ERROR
    assert "no usable solver 'no_such_solver'" in answer.message

    class WithTerm(Linear):
        def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
            return [ConvexTerm.norm(model.x[0], (model.x[1],))]

    assert "constraint of the model" in WithTerm(solver="pounce").solve(Signal(np.zeros(1))).message


def test_initial_schedule_that_does_not_exist_is_explained() -> None:
    class Impossible(Linear):
        initial_price = np.zeros(1)

        def build(self) -> pyo.ConcreteModel:
            m = super().build()
            m.need = pyo.Constraint(expr=m.x[0] + m.x[1] >= 8)
            return m

    for options in ({}, {"solver": "appsi_highs"}):
        block = Impossible(**options)
        answer = block.solve(Signal(np.zeros(1)))
        assert not answer.status.has_point
        assert "initial schedule" in answer.message
        with pytest.raises((ValueError, TatonnementError), match="initial schedule"):
            _ = block.initial
