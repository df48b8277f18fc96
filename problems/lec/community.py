"""A local energy community as a block: it schedules its devices and answers a price for reactive power at its PCC.

Paper 1, eqs. (10)-(46). With the price c^Q everywhere the re-dispatch (45)-(46) is the initial schedule (10): the price
of the hours in which nothing is needed is c^Q, not 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.batches import ResponseBatch
from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.blocks.pyomo_block import Initial, PyomoSubproblem
from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, FloatArray, IntArray, Key, Response, Status
from problems.lec.balances import add_balances
from problems.lec.data import LecData
from problems.lec.device import Series
from problems.lec.open_data import OpenData, WorkedOut, able_steps
from problems.lec.settings import LecSettings
from problems.risk import add_risk

# what the parameters of a model of many scenarios are worked out of the series by
_WORKED_OUT: WeakKeyDictionary[pyo.ConcreteModel, Mapping[str, WorkedOut]] = WeakKeyDictionary()
EXCHANGE_ADVICE = {
    "p_net_kw": "import_max_kw and export_max_kw limit the active power at the PCC",
    "heat_net_kw": "heat_import_max_kw and heat_export_max_kw limit the exchange with the district",
}


class _Same:
    """A thing as a dictionary key: equal to itself alone, and kept alive."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


class LocalEnergyCommunity(PyomoSubproblem):
    """One community in one scenario.

    y[k]    change of the net reactive injection at the PCC in step k against the initial schedule, kvar
    y[T+k]  where active power is a product: change of the net active injection, kW; its neutral price is 0, as f has
            the tariffs for it
    cost    f = energy, fuel, heat, wear, shedding and opportunity cost less c^Q y0 dt: f - <c^Q, y> is eq. (10)
    report  (2T,) net active import in kW of every step, then the reactive injection of the initial schedule in kvar;
            where asked for, (3T,): also the net active import of the initial schedule. Where active power is a product
            the first T are of the initial schedule: the entries say the rest

    Arguments
        name      of the community
        lec       its settings
        trades_p  active power is a product
        freeze_p  net active import of a step stays at its initial value while the coordinator has a need there
        tells_first_import  report the initial schedule's net active import too
        shared    all scenarios of the same settings (the same object) are solved on one model and one solver; devices
                  of one's own must then take what they work out of the series by `data.derived`
        cost_range_sek  least and greatest cost in any scenario, where lec.risk asks for its tail; see `cost_range_sek`
        options   of PyomoSubproblem
    """

    def __init__(
        self,
        name: str,
        lec: LecSettings,
        data: LecData,
        /,
        *,
        freeze_p: bool,
        tells_first_import: bool = False,
        shared: bool = False,
        cost_range_sek: tuple[float, float] | None = None,
        trades_p: bool = False,
        **options: Any,
    ) -> None:
        self.name, self.lec, self.data, self.freeze_p = name, lec, data, freeze_p
        self.tells_first_import = tells_first_import
        self.trades_p = trades_p
        self.risk = lec.risk if lec.risk is not None and lec.risk.averse else None
        self.cost_range_sek = cost_range_sek
        if self.risk is not None and cost_range_sek is None:
            raise ValueError(f"{name} is averse to risk: cost_range_sek is needed")
        self.initial_price = neutral_price(data, trades_p)
        weight = np.full(len(self.initial_price), data.dt_h)
        if self.risk is not None:  # one entry more: the value at risk
            self.initial_price = self.risk.extended(self.initial_price, np.nan)
            weight = self.risk.extended(weight, 1.0)
        self._convex: list[ConvexTerm] = []
        self._first_import: tuple[Initial, FloatArray] | None = None
        if shared:
            kind = (name, freeze_p, tells_first_import, trades_p, cost_range_sek)
            self.template = (_Same(lec), *kind, *able_steps(data))
        super().__init__(weight=weight, **options)

    def build(self) -> pyo.ConcreteModel:
        """Eqs. (10)-(44): a Pyomo block for every device, and the balances between them."""
        model = pyo.ConcreteModel(name=self.name)
        data: Any = self.data
        if self.template is not None:
            data = OpenData(model, self.data)
            _WORKED_OUT[model] = data.functions
        model.device = pyo.Block()
        parts = {}
        for name, device in self.lec.devices.items():
            block = pyo.Block()
            model.device.add_component(name, block)
            parts[name] = device.add(block, data)
        exchange = add_balances(model, self.lec, data, list(parts.values()), self.trades_p)
        model.cost = pyo.Expression(expr=model.exchange_sek + sum(part.cost_sek for part in parts.values()))
        self._convex = [term for part in parts.values() for term in part.convex]

        series: dict[str, Series] = {f"{quantity}_{unit}": values for (quantity, unit), values in exchange.items()}
        for name, part in parts.items():
            given: dict[tuple[str, str], Series | None] = {("p", "kw"): part.p_kw, ("q", "kvar"): part.q_kvar}
            given |= {("heat", "kw"): part.heat_kw, **part.states}
            series |= {f"{what}_{name}_{unit}": values for (what, unit), values in given.items() if values is not None}
        model.series = pyo.Expression(tuple(series), self.data.steps, rule=lambda _, label, k: series[label][k])
        price, dt = data.reactive_price_sek_per_kvarh, self.data.dt_h
        earned = dt * sum(price[k] * model.coupling[k].expr for k in self.data.steps)
        model.day_sek = pyo.Expression(expr=model.cost.expr - earned)
        if self.risk is not None and self.cost_range_sek is not None:
            # the risk is that of the day's cost (10); what is paid for reactive power stays outside, as everywhere
            model.cost.set_value(model.day_sek.expr)
            add_risk(model, self.risk, *self.cost_range_sek)
            model.cost.set_value(model.cost.expr + earned)
        return model

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return self._convex

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        return {k: (model.p_net_kw[k],) for k in self.data.steps} if self.freeze_p else {}

    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, FloatArray]:
        return {name: function(self.data) for name, function in _WORKED_OUT[model].items()}

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Every device's series by name: p, q and heat are what the device gives, import is what the community draws.

        For reactive power and the exchange the initial schedule stands beside the final one, as `..._initial_kvar`;
        sin_phi = Q / S of every device with reactive power, 0 where it is at rest. day_sek, one figure: the cost (10),
        its reactive power at c^Q.
        """
        if response.point is None:
            return {}
        found = self._series(response.point)
        for label, values in self._series(self.initial.point).items():
            if label.startswith(("q_", "p_import")) and label != "q_load_kvar":
                quantity, unit = label.rsplit("_", 1)
                found[f"{quantity}_initial_{unit}"] = values
        for name in self.lec.devices:
            p, q = found.get(f"p_{name}_kw"), found.get(f"q_{name}_kvar")
            if p is not None and q is not None:
                apparent = np.hypot(p, q)
                found[f"sin_phi_{name}"] = np.where(apparent > 1e-9, q / np.maximum(apparent, 1e-9), 0.0)
        return found | {"day_sek": self.value(response.point, "day_sek")}

    def _series(self, point: FloatArray) -> dict[str, FloatArray]:
        labels = list(dict.fromkeys(label for label, _ in self._built.model.series))
        values = self.value(point, "series").reshape(len(labels), self.data.n)
        return dict(zip(labels, values, strict=True))

    def _advice(self, response: Response) -> list[str]:
        """What the devices and limits in a conflict suggest, where not even the first schedule exists."""
        if response.status is not Status.INFEASIBLE or not response.message.startswith("initial schedule"):
            return []
        named = [
            f"{name}: {device.advice()}"
            for name, device in self.lec.devices.items()
            if f"'device.{name}." in response.message and device.advice()
        ]
        return named + [text for variable, text in EXCHANGE_ADVICE.items() if f"'{variable}[" in response.message]

    def finished(self, response: Response) -> Response:
        """The response with the initial injection behind its report, and steps named by the clock in its message."""
        message = response.message
        if message:
            message = re.sub(r"\[(\d+)\]", lambda found: f"[{self.data.labels[int(found[1])]}]", message)
        if not response.status.has_point:
            return replace(response, message="; ".join([message.replace("'device.", "'"), *self._advice(response)]))
        first = self.initial
        told = [response.report, first.offer[: self.data.n]]
        if self.trades_p:
            told[0] = -first.offer[self.data.n : 2 * self.data.n]
        if self.tells_first_import:
            if self._first_import is None or self._first_import[0] is not first:
                self._first_import = (first, self.value(first.point, "report"))
            told.append(self._first_import[1])
        return response.but(message=message, report=np.concatenate(told))

    @classmethod
    def finished_together(cls, blocks: Sequence[LocalEnergyCommunity], answers: ResponseBatch) -> Sequence[Response]:
        if cls.finished is not LocalEnergyCommunity.finished or any(b.trades_p or b.tells_first_import for b in blocks):
            return super().finished_together(blocks, answers)
        first = np.array([block.initial.offer[: block.data.n] for block in blocks])
        return answers.but(report=np.concatenate([answers.report, first], axis=1))


def coupling(
    name: str,
    data: LecData,
    node_rows: IntArray,
    prob: Mapping[Key, float],
    *,
    tells_first_import: bool = False,
) -> Coupling:
    """How the community takes part: one entry a step, at the node rows (T,) of its PCC; (2T,) with active power."""
    first = tuple(f"p_import_initial_kw[{label}]" for label in data.labels) if tells_first_import else ()
    return Coupling(
        unit=name,
        entries=tuple(f"d{what}[{label}]" for what in "QP"[: len(node_rows) // data.n] for label in data.labels),
        weight=np.full(len(node_rows), data.dt_h),
        node=np.asarray(node_rows, np.int64),
        prob=prob,
        report=(
            *(f"p_import_kw[{label}]" for label in data.labels),
            *(f"q_initial_kvar[{label}]" for label in data.labels),
            *first,
        ),
    )


def q_injection_kvar(settings: LecSettings, data: LecData) -> tuple[FloatArray, FloatArray]:
    """(T,), (T,): least and greatest net reactive injection at the PCC: what the devices can give, less the load."""
    limits = [device.q_capability_kvar(data) for device in settings.devices.values()]
    low = sum((low for low, _ in limits), np.zeros(data.n))
    high = sum((high for _, high in limits), np.zeros(data.n))
    return low - data.load_q_kvar, high - data.load_q_kvar


def neutral_price(data: LecData, trades_p: bool) -> FloatArray:
    """(T,) c^Q, at which the re-dispatch is the initial schedule; (2T,), 0 for active power, where it is a product."""
    c_q = data.reactive_price_sek_per_kvarh
    return np.concatenate([c_q, np.zeros(data.n)]) if trades_p else c_q


def p_injection_kw(name: str, settings: LecSettings, data: LecData) -> tuple[FloatArray, FloatArray]:
    """(T,), (T,): least and greatest net active injection at the PCC: devices, less the load that is not shed.

    Raises InputError for every device that does not say what it can do.
    """
    low, high = -data.load_p_kw, np.zeros(data.n)
    mistakes = []
    for device_name, device in settings.devices.items():
        limits = device.p_capability_kw(data)
        if limits is None:
            problem = "does not say how much active power it can give, which a product needs"
            remedy = f"define {type(device).__name__}.p_capability_kw, or trade reactive power only"
            mistakes.append(Mistake("", f"lec.{name}", device_name, problem, remedy))
            continue
        low, high = low + limits[0], high + limits[1]
    if mistakes:
        raise InputError(mistakes)
    if settings.import_max_kw is not None:
        low = np.maximum(low, -settings.import_max_kw)
    if settings.export_max_kw is not None:
        high = np.minimum(high, settings.export_max_kw)
    return low, high


def committed_change_kvar(injections: Iterable[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """(T,), (T,): least and greatest change of injection, from any schedule to any other, possible in all scenarios.

    injections: (least, greatest) of each scenario, as of `q_injection_kvar`.
    """
    given = list(injections)
    return np.max([low - high for low, high in given], axis=0), np.min([high - low for low, high in given], axis=0)


def cost_range_sek(lec: LecSettings, scenarios: Iterable[LecData]) -> tuple[float, float]:
    """Least and greatest cost (10) of a community in any scenario, for the limits of its value at risk.

    What its devices can exchange, bought or sold at lambda^e, c^e, lambda^h and c^Q; at least +-2 of what it costs to
    buy everything. Nothing can cost less where every device says what it can do and none earns more than it exchanges.
    """
    ranges = [_exchange_range_sek(lec, data) for data in scenarios]
    return min(least for least, _ in ranges), max(greatest for _, greatest in ranges)


def _exchange_range_sek(lec: LecSettings, data: LecData) -> tuple[float, float]:
    spot, tariff, heat = data.spot_sek_per_kwh, data.grid_tariff_sek_per_kwh, data.heat_price_sek_per_kwh
    charges = data.heat_peak_sek_per_kw_day * data.heat_load_kw.max() + data.heat_fixed_sek_per_day
    charges, c_q = len(set(data.days)) * float(charges), data.reactive_price_sek_per_kvarh
    bought = data.dt_h * float(
        (np.abs(spot) + tariff) @ data.load_p_kw + heat @ data.heat_load_kw + c_q @ np.abs(data.load_q_kvar)
    )
    able = [device.p_capability_kw(data) for device in lec.devices.values()]
    known = [limits for limits in able if limits is not None]
    drawn = data.load_p_kw - sum((low for low, _ in known), np.zeros(data.n))
    given = sum((high for _, high in known), np.zeros(data.n))
    q_kvar = np.max(np.abs(q_injection_kvar(lec, data)), axis=0)
    ends = [
        spot * x + tariff * np.maximum(x, 0.0) for x in (drawn, -given, np.zeros(data.n))
    ]  # convex in what is drawn
    sold = data.dt_h * float(np.sum(np.min(ends, axis=0)) - heat.sum() * lec.heat_export_max_kw - c_q @ q_kvar)
    most = data.dt_h * float(np.sum(np.max(ends, axis=0)) + heat @ data.heat_load_kw)
    most += data.dt_h * float((c_q + np.maximum(spot, 0.0)) @ q_kvar)
    enough = 2.0 * (bought + charges)
    return min(-enough, sold), max(enough, most + charges)
