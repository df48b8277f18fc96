"""One block that holds several scenarios of a unit, each a Pyomo model of its own within one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.compile.compiler import columns, missing, scalar_expression
from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.solver_state import Initial
from decomp.errors import InputError
from decomp.messages import FloatArray, IntArray, Response, Status


class ScenarioBundle(PyomoSubproblem):
    """min sum_s share_s f_s(x_s) - <price, y> + penalty term, y_s = y for the scenarios that share the entry's node.

    Offers count from each scenario's own initial schedule, which is found before the bundle is built.

    members       the scenarios' blocks by name
    share         (k,) probability of each within the bundle, sum 1
    nodes         (k, n_u) tree node of each entry in each scenario: equal numbers agree
    kept          numbers of the entries that are the bundle's own entries; all its scenarios agree on them
    report_width  length of the report: the scenarios' reports one after the other, then nan
    """

    def __init__(
        self,
        members: Mapping[str, PyomoSubproblem],
        share: FloatArray,
        nodes: IntArray,
        kept: IntArray,
        report_width: int,
    ) -> None:
        self.members, self.share, self.nodes, self.kept = dict(members), share, nodes, kept
        self.report_width = report_width
        self._terms: list[ConvexTerm] = []
        self._frozen: dict[int, list[Any]] = {}
        self._columns: tuple[int, ...] = ()
        self._reported: tuple[int, ...] = ()
        first = next(iter(self.members.values()))
        weight = np.asarray(first.weight, float)
        super().__init__(
            weight=weight[kept] if weight.ndim else float(weight),
            solver=first.solver,
            solver_options=first.solver_options,
            later_options=first.later_options,
            settings=first.settings,
        )
        self.abilities = frozenset.intersection(  # type: ignore[misc]
            self.abilities, *(member.abilities for member in self.members.values())
        )

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.scenario = pyo.Block(list(self.members))
        offers, reports, cost, order = [], [], 0.0, []
        self._terms, self._frozen = [], {}
        for (name, member), share in zip(self.members.items(), self.share, strict=True):
            origin, paid = _origin(member)  # builds the member's own model, which must not come between these lines
            model = _own_model(member)
            mistakes = missing(model, f"{type(member).__name__} {name}")
            if mistakes:
                raise InputError(mistakes)
            own = _expressions(model.coupling)
            offers.append([e - y0 for e, y0 in zip(own, origin or [0.0] * len(own), strict=True)])
            reports.append(_expressions(model.report) if hasattr(model, "report") else [])
            cost += float(share) * (scalar_expression(model.cost) - paid)
            self._terms += member.convex_terms(model)
            self._freeze(member.frozen(model))
            order.append(columns(model))
            for objective in model.component_data_objects(pyo.Objective, active=True):
                objective.deactivate()
            m.scenario[name].transfer_attributes_from(model)
        self._columns, self._reported = tuple(map(len, order)), tuple(map(len, reports))
        assert [id(v) for v in columns(m)] == [id(v) for part in order for v in part], "points are put together so"
        first = {(s, i): int(np.argmax(self.nodes[:, i] == self.nodes[s, i])) for s, i in np.ndindex(self.nodes.shape)}
        m.agreement = pyo.Constraint(
            [(s, i) for (s, i), leader in first.items() if leader < s],
            rule=lambda _, s, i: offers[s][i] == offers[first[s, i]][i],
        )
        m.cost = pyo.Expression(expr=cost)
        m.coupling = pyo.Expression(range(len(self.kept)), rule=lambda _, j: offers[0][self.kept[j]])
        everything = [e for part in reports for e in part]
        m.report = pyo.Expression(range(len(everything)), rule=lambda _, j: everything[j])
        return m

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return self._terms

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        return self._frozen

    def finished(self, response: Response) -> Response:
        if not response.status.has_point or all(
            type(member).finished is PyomoSubproblem.finished for member in self.members.values()
        ):
            return replace(response, report=self._filled(response.report))
        reports = np.split(response.report, np.cumsum(self._reported)[:-1])
        parts = [
            member.finished(replace(response, y=y, cost=np.nan, bound=None, report=own, point=point)).report
            for (member, y, point), own in zip(self._apart(response), reports, strict=True)
        ]
        return replace(response, report=self._filled(np.concatenate(parts)))

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """The scenarios' own series, as "scenario/name"."""
        found: dict[str, FloatArray] = {}
        if response.point is None:
            return found
        for name, (member, _, point) in zip(self.members, self._apart(response), strict=True):
            origin, paid = _origin(member)
            offer = member.value(point, "coupling")
            y, cost = offer - (origin or np.zeros_like(offer)), float(member.value(point, "cost")[0]) - paid
            own = member.detail(Response(y, cost, status=Status.FEASIBLE, point=point, signal_id=response.signal_id))
            found |= {f"{name}/{series}": values for series, values in own.items()}
        return found

    def _filled(self, report: FloatArray) -> FloatArray:
        return np.append(report, np.full(self.report_width - len(report), np.nan))

    # -- behind it -----------------------------------------------------------------------------------------------------

    def _apart(self, response: Response) -> list[tuple[PyomoSubproblem, FloatArray, FloatArray]]:
        """Each scenario's block, its offer (nan where settled within the bundle) and its point."""
        assert response.point is not None
        y = np.full(self.nodes.shape[1], np.nan)
        y[self.kept] = response.y
        ends = np.cumsum(self._columns)
        points = np.split(response.point[: ends[-1]], ends[:-1])
        return [
            (member, y, np.append(point, np.zeros(member.width - len(point))))
            for member, point in zip(self.members.values(), points, strict=True)
        ]

    def _freeze(self, frozen: Mapping[int, Sequence[Any]]) -> None:
        at = {int(i): j for j, i in enumerate(self.kept)}
        for i, variables in frozen.items():
            if i not in at:
                raise ValueError(f"entry {i} is settled within bundles, variables cannot be frozen with it")
            self._frozen.setdefault(at[i], []).extend(variables)

    def _cold(self, built: Any) -> Any:
        state = super()._cold(built)
        if not self._frozen:
            return state
        points = [member.initial.point[:n] for member, n in zip(self.members.values(), self._columns, strict=True)]
        point = np.concatenate(points)
        point = np.append(point, np.zeros(built.width - len(point)))
        return replace(state, initial=Initial(np.zeros(len(self.kept)), point, 0.0))


def _origin(member: PyomoSubproblem) -> tuple[list[float], float]:
    """The offer a member counts from (nothing where it counts from 0), and what it is worth at the initial price."""
    if member.initial_price is None:
        return [], 0.0
    offer = member.initial.offer
    price = np.nan_to_num(np.asarray(member.initial_price, float), nan=0.0)
    return offer.tolist(), float((np.asarray(member.weight) * price) @ offer)


def _own_model(member: PyomoSubproblem) -> pyo.ConcreteModel:
    """What `build` returns, with the member's own values in the parameters it shares with other blocks."""
    model = member.build()
    for name, values in member.parameters(model).items() if member.template is not None else ():
        parameter = model.find_component(name)
        for index, value in zip(parameter, np.broadcast_to(values, (len(parameter),)).tolist(), strict=True):
            parameter[index] = value
    return model


def _expressions(component: Any) -> list[Any]:
    parts = [component[i] for i in component] if component.is_indexed() else [component]
    return [part.expr if hasattr(part, "expr") else part for part in parts]
