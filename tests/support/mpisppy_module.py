"""A module in the form mpi-sppy asks for, without mpi-sppy: two seasons, three stages, components named as ours are."""

from __future__ import annotations

from types import SimpleNamespace

import pyomo.environ as pyo

DEMAND = {"wet": 30.0, "dry": 100.0, "fair": 60.0}


def scenario_names_creator(num_scens, start=None):
    return [f"scen{i}" for i in range(start or 0, (start or 0) + num_scens)]


def scenario_creator(name, num_scens=None, sense=pyo.minimize, probability=None, broken=None, integer=False):
    number = int(name.removeprefix("scen"))
    first, second = divmod(number, 3)
    weather = ["wet", "dry", "fair"][first % 3], ["wet", "dry", "fair"][second]
    m = pyo.ConcreteModel()
    m.cost = pyo.Var([0, 1], bounds=(0, 150), domain=pyo.NonNegativeIntegers if integer else pyo.Reals)  # the order
    m.coupling = pyo.Var([0, 1], bounds=lambda m, t: (0, DEMAND[weather[t]]))  # what is sold
    m.stock = pyo.Constraint([0, 1], rule=lambda m, t: sum(m.coupling[k] - m.cost[k] for k in range(t + 1)) <= 0)
    sign = 1 if sense == pyo.minimize else -1
    spent = 4 * m.cost[0] + 5 * m.cost[1] - 9 * (m.coupling[0] + m.coupling[1])
    m.goal = pyo.Objective(expr=sign * spent, sense=sense)
    m._mpisppy_node_list = [
        SimpleNamespace(name="ROOT", cond_prob=1.0, stage=1, nonant_list=[m.cost[0]]),
        SimpleNamespace(name=f"ROOT_{first}", cond_prob=1 / 3, stage=2, nonant_list=[m.cost[1]]),
    ]
    m._mpisppy_probability = "uniform" if probability is None else probability[number]
    if broken == "nodes":
        del m._mpisppy_node_list
    if broken == "objective":
        m.second = pyo.Objective(expr=m.cost[0])
    if broken == "raises":
        raise RuntimeError("no data for this scenario")
    return m
