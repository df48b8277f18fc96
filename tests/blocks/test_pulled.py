"""Blocks of one template pulled together: the same to the last bit as one by one, and only what can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.pyomo_block import BlockSettings, PyomoSubproblem
from decomp.messages import Response, Signal, Status

ENTRIES = 3


class Plant(PyomoSubproblem):
    """Quadratic cost, a row that is an equation in some scenarios, a column without room in others, an offer with two
    variables and a constant."""

    template = "plant"

    def __init__(self, scenario: int, **options: Any) -> None:
        rng = np.random.default_rng(scenario)
        self.values = {
            "slope": 1 + rng.random(ENTRIES),
            "least": np.array([4.0 if scenario % 2 else 2.0]),
            "room": np.array([0.0 if scenario % 3 == 2 else 3.0]),
            "yields": 0.5 + rng.random(ENTRIES),
        }
        super().__init__(weight=np.array([1.0, 0.5, 2.0]), **options)

    def build(self) -> pyo.ConcreteModel:
        m, t = pyo.ConcreteModel(), range(ENTRIES)
        m.slope, m.yields = (pyo.Param(t, mutable=True, initialize=1.0) for _ in range(2))
        m.least, m.room = (pyo.Param(mutable=True, initialize=3.0) for _ in range(2))
        m.x, m.z = pyo.Var(t, bounds=(0, 5)), pyo.Var(t, bounds=(0, m.room))
        m.sum = pyo.Constraint(expr=(m.least, sum(m.x[i] for i in t), 4.0))
        m.grow = pyo.Constraint(t, rule=lambda m, i: m.yields[i] * m.x[i] + m.z[i] >= 0.5)
        m.cost = pyo.Expression(expr=sum(m.slope[i] * m.x[i] + 0.1 * m.x[i] ** 2 + 2 * m.z[i] for i in t) + m.room)
        m.coupling = pyo.Expression(t, rule=lambda m, i: m.x[i] - 0.5 * m.z[i] + m.slope[i])
        m.report = pyo.Expression(t, rule=lambda m, i: m.z[i] + 1.0)
        return m

    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, Any]:
        return self.values


class Measured(Plant):
    """Offers count from the schedule at a price; one variable keeps its value while its entry has a need."""

    template = "measured"
    initial_price = np.array([1.0, np.nan, 2.0])

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Any]:
        return {0: [model.x[0]], 2: [model.z[1]]}


def pulls(count: int, question: int) -> list[Signal]:
    rng = np.random.default_rng(question)
    active = np.array([question % 2 == 0, True, False])
    return [
        Signal(rng.normal(size=ENTRIES), 3 * rng.random(ENTRIES), np.array([0.3, 0.0, 2.0]), active, id=question)
        for _ in range(count)
    ]


def same_bits(a: Response, b: Response) -> bool:
    assert a.status is b.status is Status.OPTIMAL
    same = all(np.array_equal(getattr(a, part), getattr(b, part)) for part in ("y", "point", "report"))
    return same and (a.cost, a.bound, a.pattern, a.signal_id) == (b.cost, b.bound, b.pattern, b.signal_id)


@pytest.mark.parametrize("kind", [Plant, Measured])
def test_blocks_pulled_together_answer_to_the_bit_as_one_by_one(
    kind: type[Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, alone = [kind(s) for s in range(7)], [kind(s) for s in range(7)]
    for block, signal in zip([*together, *alone], 2 * pulls(7, 0), strict=True):
        block.solve(signal)
    for question in range(1, 5):
        signals = pulls(7, question)
        expected = [block.solve(signal) for block, signal in zip(alone, signals, strict=True)]
        with monkeypatch.context() as patch:
            patch.setattr(kind, "solve", None)  # none is asked alone
            some = kind.solve_together(together[:3], signals[:3])
            answers = [*some, *kind.solve_together(together[3:], signals[3:])]
        assert all(same_bits(a, b) for a, b in zip(answers, expected, strict=True))


def test_integers_are_not_pulled_together_and_their_blocks_keep_no_company() -> None:
    class Switch(Plant):
        template = "switch"

        def build(self) -> pyo.ConcreteModel:
            model = super().build()
            model.x[0].domain = pyo.Integers
            model.cost.expr = model.slope[0] * model.x[0]
            return model

    assert Switch(0).batch_key is None
    assert Switch(0, settings=BlockSettings(milp="relax")).batch_key is not None


def test_a_block_without_an_answer_says_why_and_the_others_answer() -> None:
    blocks = [Plant(s) for s in range(3)]
    blocks[1].values = {**blocks[1].values, "least": np.array([4.5])}
    signals = pulls(3, 1)
    for block, signal in zip(blocks, signals, strict=True):
        block.solve(signal)
    answers = Plant.solve_together(blocks, signals)
    assert [a.status.has_point for a in answers] == [True, False, True]
    assert answers[1].message == blocks[1].solve(signals[1]).message != ""


def test_a_negative_penalty_is_refused_for_its_block_alone() -> None:
    blocks, signals = [Plant(s) for s in range(2)], pulls(2, 1)
    for block, signal in zip(blocks, signals, strict=True):
        block.solve(signal)
    wrong = Signal(signals[0].price, signals[0].target, -np.ones(ENTRIES))
    answers = Plant.solve_together(blocks, [wrong, signals[1]])
    assert "negative" in answers[0].message
    assert answers[1].status is Status.OPTIMAL
