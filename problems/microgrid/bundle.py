"""Several scenarios of a microgrid as one block: its bids are equal in all of them by construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.blocks.pyomo_block import BlockSettings, PyomoSubproblem
from decomp.blocks.solve.interface import Capability
from decomp.messages import FloatArray, Response
from problems.microgrid.block import MicrogridScenario, abilities
from problems.microgrid.data import MicrogridData
from problems.microgrid.unit import AlgebraicTerm


class ScenarioBundle(PyomoSubproblem):
    """min sum_s p_s f_s(x_s) - <price, y>,  y_s(x_s) = y for all s of the bundle.

    Fewer, larger blocks need fewer rounds, and their bounds are tighter: within a bundle nothing is relaxed. With all
    scenarios in one bundle it is the extensive form. With HiGHS the convex pieces are met by tangents and the answer
    has a proven bound; for any other Pyomo solver they are written as constraints.

    Arguments
        blocks   the scenarios by name
        prob     of each within the bundle; they sum to 1
        n        number of coupling entries;  weight (n,) of them
        options  of PyomoSubproblem
    """

    def __init__(
        self,
        blocks: Mapping[str, MicrogridScenario],
        prob: Mapping[str, float],
        weight: FloatArray,
        settings: BlockSettings,
        **options: Any,
    ) -> None:
        self.blocks, self.prob, self.n = dict(blocks), dict(prob), len(weight)
        self._convex: list[ConvexTerm] = []
        super().__init__(weight=weight, settings=settings, **options)
        given = self.abilities
        self.abilities = frozenset.intersection(*(abilities(block.microgrid, given) for block in blocks.values()))  # type: ignore[misc]

    def build(self) -> pyo.ConcreteModel:
        model = pyo.ConcreteModel(name="bundle")
        model.y = pyo.Var(range(self.n))
        model.scenario = pyo.Block(list(self.blocks))
        self._convex = []
        for name, block in self.blocks.items():
            inner = block.build()
            self._convex += block.convex_terms(inner)
            model.scenario[name].transfer_attributes_from(inner)
        model.agree = pyo.ConstraintList()
        for name in self.blocks:
            for i, expression in enumerate(model.scenario[name].coupling.values()):
                model.agree.add(expression == model.y[i])
        model.cost = pyo.Expression(expr=sum(p * model.scenario[name].cost for name, p in self.prob.items()))
        model.coupling = pyo.Expression(range(self.n), rule=lambda m, i: m.y[i])
        if Capability.TANGENTS not in self.backend.capabilities:
            add_exact(model, self._convex)
        return model

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return self._convex if Capability.TANGENTS in self.backend.capabilities else ()

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """The series of every scenario, "<scenario>/" before the name that `MicrogridScenario.detail` gives them."""
        if response.point is None:
            return {}
        found: dict[str, FloatArray] = {}
        for name in self.blocks:
            series = self._built.model.scenario[name].series
            values = self.value(response.point, series)
            labels = list(dict.fromkeys(label for label, _ in series))
            rows = values.reshape(len(labels), -1)
            found |= {f"{name}/{label}": row for label, row in zip(labels, rows, strict=True)}
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Variables and constraints of the model, tangents not counted."""
        rows = sum(1 for _ in self._built.model.component_data_objects(pyo.Constraint, active=True))
        return len(self._built.columns), rows


def dealt(data: MicrogridData, k: int) -> list[tuple[str, ...]]:
    """The scenarios in bundles of k (some of k - 1): sorted by what their weather is worth, then dealt out like cards.

    Each bundle so gets good and bad weather; alike scenarios together would leave what they disagree on between
    bundles, where the bound is weak.
    """
    worth = data.energy_usd_per_mwh * np.sum(list(data.available_mw.values()), axis=0)
    order = np.argsort(worth.sum(axis=1), kind="stable")
    count = -(-len(order) // k)
    return [tuple(data.names[s] for s in sorted(order[first::count])) for first in range(count)]


def add_exact(model: pyo.ConcreteModel, terms: Sequence[ConvexTerm]) -> None:
    """Write convex terms as constraints `model.exact`."""
    model.exact = pyo.ConstraintList()
    for term in terms:
        assert isinstance(term, AlgebraicTerm)
        for t, *x in zip(term.epigraph, *term.variables, strict=True):
            model.exact.add(term.exact(t, *x))
