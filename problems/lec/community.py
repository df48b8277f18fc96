"""A local energy community as a block: it schedules its devices and answers a price for reactive power at its PCC.

Paper 1, eqs. (10)-(46). With the price c^Q everywhere the re-dispatch (45)-(46) is the initial schedule (10): the price
of the hours in which nothing is needed is c^Q, not 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from decomp.pyomo_block import PyomoSubproblem

from decomp.highs.tangents import ConvexTerm
from decomp.messages import Coupling, FloatArray, IntArray, Key, Response, Signal
from problems.lec.balances import add_balances
from problems.lec.data import LecData
from problems.lec.device import Series
from problems.lec.settings import LecSettings


class LocalEnergyCommunity(PyomoSubproblem):
    """One community in one scenario.

    y[k]    change of the net reactive injection at the PCC in step k against the initial schedule, kvar
    cost    f = energy, fuel, heat, wear, shedding and opportunity cost less c^Q y0 dt: f - <c^Q, y> is eq. (10)
    report  (2T,) net active import in kW of every step, then the reactive injection of the initial schedule in kvar

    Arguments
        name      of the community; its model's components are shown under it
        freeze_p  net active import of a step stays at its initial value while the coordinator has a need there
        options   of PyomoSubproblem
    """

    def __init__(self, name: str, settings: LecSettings, data: LecData, *, freeze_p: bool, **options: Any) -> None:
        self.name, self.settings, self.data, self.freeze_p = name, settings, data, freeze_p
        self._convex: list[ConvexTerm] = []
        self._series: dict[str, pyo.Expression] = {}
        super().__init__(weight=np.full(data.n, data.dt_h), **options)

    @property
    def initial_price(self) -> FloatArray:
        """(T,) c^Q: the initial schedule is the answer to it."""
        return self.data.reactive_price_sek_per_kvarh

    def build(self) -> pyo.ConcreteModel:
        """Eqs. (10)-(44): a Pyomo block for every device, and the balances between them."""
        model = pyo.ConcreteModel(name=self.name)
        model.device = pyo.Block()
        parts = {}
        for name, device in self.settings.devices.items():
            block = pyo.Block()
            model.device.add_component(name, block)
            parts[name] = device.add(block, self.data)
        exchange = add_balances(model, self.settings, self.data, list(parts.values()))
        model.cost = pyo.Expression(expr=model.exchange_sek + sum(part.cost_sek for part in parts.values()))
        self._convex = [term for part in parts.values() for term in part.convex]

        model.series = pyo.Block()
        for (quantity, unit), values in exchange.items():
            self._series[f"{quantity}_{unit}"] = _series(model.series, f"{quantity}_{unit}", values)
        for name, part in parts.items():
            given: dict[tuple[str, str], Series | None] = {
                ("p", "kw"): part.p_kw,
                ("q", "kvar"): part.q_kvar,
                ("heat", "kw"): part.heat_kw,
                **part.states,
            }
            for (quantity, unit), values in given.items():
                if values is not None:
                    label = f"{quantity}_{name}_{unit}"
                    self._series[label] = _series(model.series, label, values)
        return model

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return self._convex

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        return {k: (model.p_net_kw[k],) for k in self.data.steps} if self.freeze_p else {}

    def solve(self, signal: Signal) -> Response:
        return self._told(super().solve(signal))

    def evaluate(self, y: FloatArray) -> Response:
        return self._told(super().evaluate(y))

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Every device's series by name: p, q and heat are what the device gives, import is what the community draws.

        For reactive power and the exchange the initial schedule stands beside the final one, as `..._initial_kvar`;
        sin_phi = Q / S of every device with reactive power, 0 where it is at rest.
        """
        if response.point is None:
            return {}
        found: dict[str, FloatArray] = {}
        for label, component in self._series.items():
            found[label] = np.asarray(self.value(response.point, component), float)
            if label.startswith(("q_", "p_import")):
                quantity, unit = label.rsplit("_", 1)
                found[f"{quantity}_initial_{unit}"] = np.asarray(self.value(self.initial.point, component), float)
        for name in self.settings.devices:
            p, q = found.get(f"p_{name}_kw"), found.get(f"q_{name}_kvar")
            if p is not None and q is not None:
                apparent = np.hypot(p, q)
                found[f"sin_phi_{name}"] = np.where(apparent > 1e-9, q / np.maximum(apparent, 1e-9), 0.0)
        return found

    def _told(self, response: Response) -> Response:
        """The response with the initial injection behind its report, and steps named by the clock in its message."""
        message = re.sub(r"\[(\d+)\]", lambda found: f"[{self.data.labels[int(found[1])]}]", response.message)
        if not response.status.has_point:
            return replace(response, message=message)
        return replace(response, message=message, report=np.concatenate([response.report, self.initial.y]))


def coupling(
    name: str, settings: LecSettings, data: LecData, node_rows: IntArray, prob: Mapping[Key, float]
) -> Coupling:
    """How the community takes part: one entry a step, at the node rows (T,) of its PCC."""
    return Coupling(
        unit=name,
        entries=tuple(f"dQ[{label}]" for label in data.labels),
        weight=np.full(data.n, data.dt_h),
        node=np.asarray(node_rows, np.int64),
        prob=prob,
        report=(
            *(f"p_import_kw[{label}]" for label in data.labels),
            *(f"q_initial_kvar[{label}]" for label in data.labels),
        ),
    )


def q_capability_kvar(settings: LecSettings, data: LecData) -> tuple[FloatArray, FloatArray]:
    """(T,), (T,): least and greatest change of reactive injection, from any schedule to any other."""
    limits = [device.q_capability_kvar(data) for device in settings.devices.values()]
    width = sum((high - low for low, high in limits), np.zeros(data.n))
    return -width, width


def _series(block: pyo.Block, name: str, values: Sequence[Any]) -> pyo.Expression:
    block.add_component(name, pyo.Expression(range(len(values)), rule=lambda _, k: values[k]))
    return block.component(name)
