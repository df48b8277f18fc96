"""One scenario of a module written for mpi-sppy, as a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.base.indexed_component_slice import IndexedComponent_slice

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.solver_state import BlockSettings
from decomp.messages import FloatArray, Response

Make = Callable[[str], pyo.ConcreteModel]
OURS = ("cost", "coupling", "report")


class NoScenario(Exception):
    """The model is no scenario of mpi-sppy: what is wrong, and the remedy."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Outline:
    """What a scenario says of itself beside its model.

    prob      its probability; None = "uniform"
    nodes     name of each of its tree nodes but the leaf, the root first
    entries   names of the variables each of them decides
    maximise  its objective is to be maximised
    """

    prob: float | None
    nodes: tuple[str, ...]
    entries: tuple[tuple[str, ...], ...]
    maximise: bool


def outline(model: pyo.ConcreteModel) -> Outline:
    """What the attributes that mpi-sppy reads say. Raises NoScenario."""
    given = getattr(model, "_mpisppy_probability", "uniform")
    if given is not None and not isinstance(given, str):
        given = float(given)
        if not 0 <= given <= 1:
            raise NoScenario(f"_mpisppy_probability is {given!r}", "give a number from 0 to 1, or 'uniform'")
    elif given not in (None, "uniform"):
        raise NoScenario(f"_mpisppy_probability is {given!r}", "give a number from 0 to 1, or 'uniform'")
    nodes = node_list(model)
    return Outline(
        given if isinstance(given, float) else None,
        tuple(node.name for node in nodes),
        tuple(tuple(v.name for v in decided(model, node)) for node in nodes),
        objective(model).sense == pyo.maximize,
    )


def node_list(model: pyo.ConcreteModel) -> list[Any]:
    """The nodes, in the order of their stages. Raises NoScenario."""
    nodes = getattr(model, "_mpisppy_node_list", None)
    if not nodes:
        raise NoScenario("it has no _mpisppy_node_list", "scenario_creator attaches it, see mpi-sppy's documentation")
    return sorted(nodes, key=lambda node: node.stage)


def decided(model: pyo.ConcreteModel, node: Any) -> list[Any]:
    """The variables on which the scenarios of a node agree; those the extensive form ties beside them, too.

    Surrogates are left out: they follow from the others, and agree where these do.
    """
    surrogates = {id(v) for v in getattr(node, "surrogate_vardatas", ())}
    known = getattr(node, "nonant_vardata_list", None)
    own = members(model, node.nonant_list) if known is None else list(known)
    more = getattr(node, "nonant_ef_suppl_vardata_list", None)
    if more is None:
        more = members(model, getattr(node, "nonant_ef_suppl_list", None))
    found = {id(v): v for v in [*own, *more] if id(v) not in surrogates}
    return list(found.values())


def members(model: pyo.ConcreteModel, listed: Any) -> list[Any]:
    """Variables of a list of Vars, their members and slices."""
    if listed is None:
        return []
    found: list[Any] = []
    for one in listed if isinstance(listed, Sequence) else [listed]:
        if isinstance(one, IndexedComponent_slice):  # it answers to every name, so it cannot be asked what it is
            found += list(one)
        else:
            found += [one[i] for i in one] if one.is_indexed() else [one]
    return found


def objective(model: pyo.ConcreteModel) -> Any:
    """The model's active objective. Raises NoScenario where there is not exactly one."""
    found = list(model.component_data_objects(pyo.Objective, active=True, descend_into=True))
    if len(found) != 1:
        raise NoScenario(f"it has {len(found)} active objectives", "leave one active")
    return found[0]


class MpiSppyScenario(PyomoSubproblem):
    """A scenario's model with its objective as the cost and its nonanticipative variables as the offer.

    make      builds the model of a scenario by its name
    decides   which variables are the offer: a function of the model; None = those of its nodes
    """

    def __init__(
        self,
        name: str,
        make: Make,
        *,
        decides: Callable[[pyo.ConcreteModel], Sequence[Any]] | None = None,
        solver: str = "highs",
        solver_options: Mapping[str, Any] | None = None,
        settings: BlockSettings | None = None,
    ) -> None:
        self.scenario, self.make, self.decides = name, make, decides
        super().__init__(solver=solver, solver_options=solver_options or None, settings=settings)

    def build(self) -> pyo.ConcreteModel:
        model = self.make(self.scenario)
        goal = objective(model)
        if self.decides is None:
            offer = [v for node in node_list(model) for v in decided(model, node)]
        else:
            offer = list(self.decides(model))
        for name in OURS:  # the user's own components of these names keep everything but the name
            own = model.component(name)
            if own is not None:
                model.del_component(own)
                model.add_component(f"{name}_", own)
        sign = -1.0 if goal.sense == pyo.maximize else 1.0
        goal.deactivate()
        model.cost = pyo.Expression(expr=sign * goal.expr)
        model.coupling = pyo.Expression(range(len(offer)), rule=lambda _, i: offer[i])
        return model

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Every variable of the scenario, by its name."""
        if response.point is None:
            return {}
        point = np.asarray(response.point)
        return {v.name: point[j : j + 1] for j, v in enumerate(self._built.columns)}
