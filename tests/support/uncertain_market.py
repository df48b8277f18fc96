"""Two units that commit what they give at two nodes before they know their scenario: linear and averse, or by hand."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from closed_form import QuadraticBlock

from benchmarks.monolith import Monolith
from decomp.blocks.compile.compiler import compile_model
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.coordinators import Exchange, Quadratic
from decomp.messages import Coupling, Key, QuadraticModel
from problems.risk import Risk, add_risk, with_value_at_risk

SCENARIOS = ("dull", "fair", "fine")
MORE = (*SCENARIOS, "hot", "wet")
PROB = {"one": (0.2, 0.5, 0.3), "two": (0.6, 0.1, 0.3)}
NEED, SHED_COST = np.array([5.0, 3.5]), 9.0
COST = {  # by unit and scenario: of the machine and of the store's losses
    "one": {"dull": (4.0, 0.5), "fair": (2.0, 0.4), "fine": (1.0, 0.3), "hot": (1.5, 0.1), "wet": (6.0, 0.6)},
    "two": {"dull": (3.0, 1.5), "fair": (3.5, 1.0), "fine": (5.0, 0.2), "hot": (2.5, 0.4), "wet": (4.5, 0.8)},
}
SUN = {"dull": (0.2, 0.0), "fair": (0.8, 0.5), "fine": (1.6, 1.2), "hot": (1.2, 1.6), "wet": (0.1, 0.3)}
LEAST, GREATEST = -100.0, 100.0


class Producer(PyomoSubproblem):
    """y_t = sun used + machine + moved, 0 <= machine <= 3, moved from one step to the other at a cost.

    Scenarios "fair" and "fair 2" are the same.
    """

    def __init__(self, key: Key, risk: Risk):
        self.unit, self.risk, self.weather = key.unit, risk, key.scenario.split()[0]
        super().__init__()

    def build(self) -> pyo.ConcreteModel:
        m, (machine, losses) = pyo.ConcreteModel(), COST[self.unit][self.weather]
        m.sun = pyo.Var([0, 1], bounds=lambda _, t: (0.0, SUN[self.weather][t]))
        m.machine = pyo.Var([0, 1], bounds=(0.0, 3.0))
        m.moved = pyo.Var([0, 1], bounds=(0.0, 1.0))
        m.cost = pyo.Expression(expr=sum(machine * (1 + 0.3 * t) * m.machine[t] + losses * m.moved[t] for t in (0, 1)))
        net = m.moved[1] - m.moved[0]
        m.coupling = pyo.Expression([0, 1], rule=lambda m, t: m.sun[t] + m.machine[t] + (net if t else -net))
        add_risk(m, self.risk, LEAST, GREATEST)
        return m


def network() -> Quadratic:
    """Sum of both units' y_t, and what is shed at SHED_COST, is at least NEED_t."""
    model = QuadraticModel(
        P=np.zeros((4, 4)), q=np.array([0.0, 0.0, SHED_COST, SHED_COST]), A=np.hstack([np.eye(2), np.eye(2)]),
        lo=NEED, hi=np.full(2, np.inf), lb=np.array([-np.inf, -np.inf, 0.0, 0.0]), ub=np.full(4, np.inf),
        z_cols=np.array([0, 1]),
    )  # fmt: skip
    found = Quadratic(model, ["now", "later"], (np.full(2, -4.0), np.full(2, 14.0)), scale=np.full(2, 4.0))
    found.models = [model]  # what `Monolith` reads
    return found


def couplings(risk: Risk, prob=PROB, names=SCENARIOS) -> list[Coupling]:
    return [
        with_value_at_risk(
            Coupling(
                unit, ("now", "later"), np.ones(2), np.array([0, 1]),
                {Key(unit, s): p for s, p in zip(names, prob[unit], strict=True)},
            ),
            risk,
        )
        for unit in prob
    ]  # fmt: skip


def optimum(risk: Risk, prob=PROB, names=SCENARIOS) -> float:
    """Of the one model of all blocks and the network."""
    blocks = couplings(risk, prob, names)
    programs = {key: compile_model(Producer(key, risk).build()) for c in blocks for key in c.prob}
    return Monolith.of(blocks, programs, network()).solved(60.0).optimum


def by_hand(traded: bool):
    """Blocks, coordinator, couplings and optimum of min sum pi_s (a_s/2 y^2 + b_s y), sum of y_t = NEED_t if traded."""
    a = {"one": np.array([1.0, 2.0, 4.0]), "two": np.array([3.0, 1.0, 2.0])}
    b = {"one": np.array([-1.0, 0.0, 3.0]), "two": np.array([2.0, -2.0, 1.0])}
    blocks = {
        Key(unit, s): QuadraticBlock(a[unit][i], b[unit][i], -40.0, 40.0, n=2)
        for unit in PROB
        for i, s in enumerate(SCENARIOS)
    }
    A, B = (np.array([np.array(PROB[unit]) @ given[unit] for unit in PROB]) for given in (a, b))
    price = (NEED + np.sum(B / A)) / np.sum(1 / A) if traded else np.zeros(2)
    best = float(np.sum((price[:, None] - B) * (price[:, None] + B) / (2 * A)))
    node = np.array([0, 1]) if traded else np.full(2, -1)
    coupling = [
        Coupling(
            unit, ("now", "later"), np.ones(2), node,
            {Key(unit, s): p for s, p in zip(SCENARIOS, PROB[unit], strict=True)},
        )
        for unit in PROB
    ]  # fmt: skip
    box = (np.full(2, -80.0), np.full(2, 80.0))
    return blocks, Exchange(["now", "later"], NEED, box) if traded else None, coupling, best
