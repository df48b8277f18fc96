"""Convex terms that limit: points keep them, bounds are of the terms themselves, what lies between is in the gap."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.pyomo_block import BlockSettings, ConvexTerm, PyomoSubproblem
from decomp.messages import Signal, Status


class Disc(PyomoSubproblem):
    """max 3 x + 4 y within |(x, y)| <= radius: 5 radius at (3, 4) radius / 5. What is offered is x."""

    def __init__(self, radius=10.0, tolerance=None, at_least=-20.0, whole=False, **settings):
        self.radius, self.tolerance, self.at_least, self.whole = radius, tolerance, at_least, whole
        super().__init__(settings=BlockSettings(**settings))

    def build(self):
        model = pyo.ConcreteModel()
        model.x = pyo.Var(bounds=(self.at_least, 20.0))
        model.y = pyo.Var(bounds=(-20.0, 20.0))
        model.s = pyo.Var(bounds=(0.0, self.radius))
        model.n = pyo.Var(bounds=(0, 3), domain=pyo.Integers if self.whole else pyo.Reals)
        model.few = pyo.Constraint(expr=model.n <= 1.5)
        model.cost = pyo.Expression(expr=-3 * model.x - 4 * model.y - model.n)
        model.coupling = pyo.Expression([0], rule=lambda m, _: m.x)
        return model

    def convex_terms(self, model):
        def slopes(x, y):
            s = np.hypot(x, y)
            return [x / s, y / s]

        return [ConvexTerm(model.s, (model.x, model.y), np.hypot, slopes, "disc", tolerance=self.tolerance)]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("whole", [False, True])
def test_a_point_is_inside_and_its_bound_outside(tolerance, whole):
    block = Disc(tolerance=tolerance, whole=whole)
    answer = block.solve(Signal(np.zeros(1), exact=True))
    best = -50.0 - (1.0 if whole else 1.5)
    x, y = (block.value(answer.point, name)[0] for name in ("x", "y"))
    assert answer.status is Status.OPTIMAL
    assert np.hypot(x, y) <= 10.0 + 1e-9
    assert answer.cost >= best - 1e-7
    assert answer.bound <= best + 1e-7
    assert answer.cost - answer.bound <= 15 * max(tolerance, 1e-7) + 2e-6
    realised = block.evaluate(np.array([6.0]))
    assert realised.cost >= best - 1e-7, "y = 8 exactly is the most"


def test_the_tolerance_is_the_settings_where_the_term_has_none():
    gaps = []
    for tolerance in (1e-2, 1e-5):
        answer = Disc(tangent_tol=tolerance).solve(Signal(np.zeros(1), exact=True))
        gaps.append(answer.cost - answer.bound)
    assert gaps[0] > 1e-2 > 1e-4 > gaps[1]


def test_a_block_without_room_before_its_limit_still_answers():
    """x >= 10 leaves the one point (10, 0): nothing stays away from the limit."""
    block = Disc(at_least=10.0, tolerance=1e-5)
    answer = block.solve(Signal(np.zeros(1), exact=True))
    assert answer.status is Status.OPTIMAL
    assert answer.bound <= -30.0 - 1.5 + 1e-6
    x, y = (block.value(answer.point, name)[0] for name in ("x", "y"))
    assert np.hypot(x, y) <= 10.0 + 1e-5 + 1e-7
    beyond = Disc(at_least=10.1, tolerance=1e-5).solve(Signal(np.zeros(1)))
    assert beyond.status is Status.INFEASIBLE
