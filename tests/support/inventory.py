"""Stock over three periods: orders are placed before the demand of the period is known, in a scenario tree.

Stage 0 has one node, the order of period 1 knows the demand of period 0, that of period 2 the demands of 0 and 1.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
from pydantic import BaseModel, ConfigDict, Field

from decomp.blocks.bundling import bundled
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.errors import InputError
from decomp.messages import Coupling
from decomp.problem import Problem
from problems.risk import Risk, add_risk, with_value_at_risk
from problems.scenarios.scenario_set import Place
from problems.scenarios.tree import Node, ScenarioTree, read_tree, scenario_tree

PERIODS = range(3)
ORDERS = ("order 0", "order 1", "order 2")
BUY, HOLD, LACK, MOST = (5.0, 5.7, 9.0), 1.0, 14.0, 90.0
TREE: ScenarioTree = scenario_tree(
    [
        Node("now", "", 1.0),
        Node("low", "now", 0.35), Node("high", "now", 0.65),
        Node("low-calm", "low", 0.2), Node("low-busy", "low", 0.8),
        Node("high-calm", "high", 0.55), Node("high-busy", "high", 0.3), Node("high-wild", "high", 0.15),
    ]
)  # fmt: skip
SECOND = {"calm": 15.0, "busy": 50.0, "wild": 95.0}


def demand(scenario: str) -> tuple[float, float, float]:
    first, second = scenario.split("-")
    return 20.0 if first == "low" else 60.0, SECOND[second], 40.0 if second == "calm" else 75.0


def add_stock(m, orders, demands):
    """Costs of one scenario with these orders."""
    m.kept, m.lacking = pyo.Var(PERIODS, bounds=(0, None)), pyo.Var(PERIODS, bounds=(0, None))

    @m.Constraint(PERIODS)
    def stock(m, t):
        before = m.kept[t - 1] - m.lacking[t - 1] if t else 10.0
        return m.kept[t] - m.lacking[t] == before + orders[t] - demands[t]

    last = 20.0 * m.lacking[2]
    return last + sum(BUY[t] * orders[t] + HOLD * m.kept[t] + LACK * m.lacking[t] for t in PERIODS)


class Stock(PyomoSubproblem):
    """One scenario; y = the orders."""

    def __init__(self, scenario: str, **options):
        self.scenario = scenario
        super().__init__(**options)

    def build(self):
        m = pyo.ConcreteModel()
        m.order = pyo.Var(PERIODS, bounds=(0, MOST))
        m.cost = pyo.Expression(expr=add_stock(m, m.order, demand(self.scenario)))
        m.coupling = pyo.Expression(PERIODS, rule=lambda m, t: m.order[t])
        m.report = pyo.Expression([0], rule=lambda m, _: m.kept[2])
        return m


def stock(tree=TREE):
    """Blocks and coupling: the order of period t agrees among the scenarios that share their node of stage t."""
    prob, sharing = tree.blocks("stock", PERIODS)
    coupling = Coupling("stock", ORDERS, np.ones(3), np.full(3, -1), prob, ("kept",), sharing)
    return (lambda key: Stock(key.scenario)), [coupling]


def extensive_form(tree=TREE):
    """Least expected cost and the orders by node, in one model with a variable for each node of the tree."""
    m = pyo.ConcreteModel()
    nodes = [(t, name) for t in PERIODS for name in tree.nodes[t]]
    m.order = pyo.Var(nodes, bounds=(0, MOST))
    m.scenario = pyo.Block(tree.scenarios)
    cost = 0.0
    for s, name in enumerate(tree.scenarios):
        orders = [m.order[t, tree.nodes[t][tree.node[s, t]]] for t in PERIODS]
        cost += tree.prob[s] * add_stock(m.scenario[name], orders, demand(name))
    m.cost = pyo.Objective(expr=cost)
    pyo.SolverFactory("appsi_highs").solve(m)
    return pyo.value(m.cost), {node: pyo.value(m.order[node]) for node in nodes}


class TreeTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    file: str
    bundle: int = Field(default=1, ge=1)


class Warehouse(Problem):
    """The stock as a case file tells it: [scenarios] names the tree, [risk] is optional."""

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        scenarios: TreeTable
        risk: Risk = Risk(alpha=0.5, beta=0.0)

    coordinator = None

    def __init__(self, settings, folder):
        self.settings = settings
        tree = read_tree(settings.scenarios.file, folder)
        wrong = [name for name in tree.scenarios if name.rpartition("-")[2] not in SECOND]
        if wrong:
            place = Place(settings.scenarios.file)
            raise InputError(
                [place.mistake(name, "has no demand", f"names end in {', '.join(SECOND)}") for name in wrong]
            )
        _, (coupling,) = stock(tree)
        self.bundling = bundled([with_value_at_risk(coupling, settings.risk)], settings.scenarios.bundle)
        self.couplings = self.bundling.couplings

    @classmethod
    def inspect(cls, tables, folder):
        try:
            read_tree(tables["scenarios"]["file"], folder)
        except InputError as error:
            return error.mistakes
        return ()

    def subproblem(self, key):
        return self.bundling.block(key, lambda key: AverseStock(key.scenario, self.settings.risk))

    def summary(self, result):
        return {"scenarios": sum(map(len, self.bundling.members.values()))}


class AverseStock(Stock):
    def __init__(self, scenario, risk):
        self.risk = risk
        super().__init__(scenario)

    def build(self):
        model = super().build()
        add_risk(model, self.risk, 0.0, 6000.0)
        return model
