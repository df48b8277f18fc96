"""Penalised solves in any unit: the same answer, to 1e-9 of the objective, or a sentence with the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve import qp_attempts
from decomp.messages import Signal, Status

DRAWN = np.random.default_rng(3)
HOURS = 6
PRICE, LOAD = DRAWN.uniform(-0.02, 0.2, HOURS), DRAWN.uniform(1, 5, HOURS)
TARGET, PENALTY = -2.0, 0.05


class House(PyomoSubproblem):
    """A load and, perhaps, a store; power in the model in 1 / power kW, offers in 1 / offer kW, costs in 1 / money."""

    def __init__(self, store: bool, power: float = 1.0, offer: float = 1.0, money: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.store, self.power, self.offer, self.money = store, power, offer, money

    def build(self) -> pyo.ConcreteModel:
        k, hours = self.power, range(HOURS)
        m = pyo.ConcreteModel()
        m.g = pyo.Var(hours, bounds=(-10 * k, 10 * k))
        cost = sum(PRICE[t] * m.g[t] / k for t in hours)
        if self.store:
            m.c = pyo.Var(hours, bounds=(0, 4 * k))
            m.d = pyo.Var(hours, bounds=(0, 4 * k))
            m.e = pyo.Var(hours, bounds=(0, 12 * k))
            m.balance = pyo.Constraint(hours, rule=lambda m, t: m.g[t] + m.d[t] == m.c[t] + LOAD[t] * k)
            m.state = pyo.Constraint(
                hours, rule=lambda m, t: m.e[t] == (m.e[t - 1] if t else 6 * k) + 0.95 * m.c[t] - m.d[t] / 0.95
            )
            cost += sum(0.001 * (m.c[t] + m.d[t]) / k for t in hours)
        m.cost = pyo.Expression(expr=cost * self.money)
        m.coupling = pyo.Expression(hours, rule=lambda m, t: -m.g[t] / k * self.offer)
        return m


class Template(House):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.template = self.store, self.power, self.offer, self.money

    def build(self) -> pyo.ConcreteModel:
        m = super().build()
        m.none = pyo.Param(initialize=0.0, mutable=True)
        m.shift = pyo.Constraint(expr=m.g[0] >= m.none - 10 * self.power)
        return m

    def parameters(self, model: pyo.ConcreteModel) -> dict[str, float]:
        return {"none": 0.0}


def objective(block: House, y: np.ndarray, cost: float) -> float:
    """In kW and the first unit of money."""
    return cost / block.money + PENALTY / 2 * float(np.sum((y / block.offer - TARGET) ** 2))


def signal(block: House) -> Signal:
    penalty = PENALTY * block.money / block.offer**2
    return Signal(np.zeros(HOURS), np.full(HOURS, TARGET * block.offer), np.full(HOURS, penalty))


def exact(store: bool) -> float:
    """By the unit in which all numbers are near 1."""
    block = House(store)
    answer = block.solve(signal(block))
    if not store:
        free = np.clip(TARGET + PRICE / PENALTY, -10, 10)
        assert answer.y == pytest.approx(free, abs=1e-8)
    return objective(block, answer.y, answer.cost)


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("unit", ["power", "offer", "money"])
@pytest.mark.parametrize("exponent", [-8, -6, -3, 3, 5, 6, 7, 8])
def test_the_unit_does_not_change_the_answer(store: bool, unit: str, exponent: int) -> None:
    right = exact(store)
    for cls in (House, Template):
        block = cls(store, **{unit: 10.0**exponent})
        first = block.solve(signal(block))
        assert first.status is Status.OPTIMAL, first.message
        assert first.message == ""
        assert objective(block, first.y, first.cost) == pytest.approx(right, rel=1e-9, abs=1e-9)


def test_blocks_solved_in_a_batch_have_the_same_bits_in_any_unit() -> None:
    blocks = [Template(True, power=1e7) for _ in range(3)]
    alone = [block.solve(signal(block)) for block in blocks]
    together = Template.solve_together(blocks, [signal(block) for block in blocks])
    for a, b in zip(alone, together, strict=True):
        assert a.y.tobytes() == b.y.tobytes()
        assert a.cost == b.cost


def test_what_is_beyond_the_solver_is_said_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    block = House(True)
    monkeypatch.setattr(qp_attempts, "misses", lambda *_: (3e-8, 3e-8))
    rough = block.solve(signal(block))
    assert rough.status is Status.OPTIMAL
    assert "beyond the solver's means: it knows the optimum to 3e-08" in rough.message
    monkeypatch.setattr(qp_attempts, "misses", lambda *_: (3e-4, 3e-4))
    none = block.solve(signal(block))
    assert none.status is Status.ERROR
    assert "3e-04" in none.message or "0.0003" in none.message
