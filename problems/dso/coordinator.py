"""The distribution system operator: asks the communities for reactive power so that all voltages keep their limits.

    g(Z) = sum_t dt [ -c^Q_t sum_b Z_tb + sum_s pi_s (C^LS sum_i |shed_tsi| + sum_i C_tsi(slack_tsi)) ], least over shed
    and slack,
    s.t. v_min - slack_i <= |V_i|(Z, shed) <= v_max + slack_i on the exact AC power flow, lo <= Z <= hi,
         shed_i between 0 and the reactive load of bus i                                     paper 1, eqs. (47)-(52)

Every bus and side has a slack of its own. Its cost C is an exact penalty: where all voltages can be brought inside
their limits for no more than C^V per pu h, none is left outside. Otherwise nothing pushes a voltage out that was
inside, nor further out, and little is paid for a voltage that stays outside whatever is done (`_slack` in hour.py).

Z_tb in kvar is what the communities at PCC b inject on top of their initial schedule, positive = injected = raises the
voltage. The neutral price is c^Q; where voltages bind, price = c^Q + X'mu with X = d|V|/dQ and mu their multipliers.

With products = ["p", "q"] Z also holds changes of active injection against the initial schedule in kW, positive =
injected = raises the voltage (and relieves the lines). g values them at 0: what a kWh is worth its community pays and
is paid by its own tariff, in f. So their neutral price is 0, at which the re-dispatch is the initial schedule, and
where voltages bind their price is X'mu with X = d|V|/dP, per kWh on top of that tariff. Since every movement of P is
then an entry with a price, the flow at Z is that of the initial schedules plus Z, and the dual bound needs no freeze_p.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from decomp.coordinator import Coordinator, Reports
from decomp.errors import CoordinatorError, InputError
from decomp.messages import BoolArray, Check, FloatArray, IntArray, Key, Query, Request
from decomp.parallel.row_tasks import Found, Steps, Work, finished
from problems.dso.hour import DsoHour
from problems.dso.inputs import scenarios_of, wrong_arrays, wrong_units
from problems.dso.reports import Reader, kept_secure
from problems.dso.settings import DsoSettings
from problems.network.feeder import Network
from problems.network.hour import NoFlowError
from problems.network.power_flow import solve
from problems.network.row_tasks import do
from problems.network.slack import BusSlack, exceedance

log = logging.getLogger(__name__)
Warm = Mapping[str, np.ndarray] | None


class DSO(Coordinator):
    """Node rows are (time, PCC), time-major, named bus2@2021-04-14T13:00+02:00; part i is time step i.

    With products = ["p", "q"] every step has its nodes of reactive power, then those of active power, named
    bus2:p@2021-04-14T13:00+02:00.

    network, settings
    pcc              unit -> bus name; units at one bus share its node
    probabilities    of every block; the scenario label s of the DSO is made of all units' blocks s, and a unit with a
                     single scenario takes part in all of them
    p_load_kw, q_load_kvar  (T, n_bus) loads other than the communities' own, or (T, S, n_bus) by scenario
    times, dt_h      names of the steps, length of a step
    neutral_price    (T,) c^Q, SEK/kvarh
    reference_price  (T,) lambda_e, SEK/kWh
    box              unit -> (lo, hi), each (T,) kvar: change of injection from any schedule to any other
    injection        block -> (lo, hi), each (T,) kvar: the least and greatest net injection at its PCC; with the
                     initial injection that it reports it narrows the box to what it can still do. None: not known
    box_p, injection_p  the same for active power, kW; needed where it is a product. The active power that a block
                     reports first is then that of its initial schedule too
    A block reports (2T,): net active import in kW of every step, then injected reactive power in kvar of its initial
    schedule; with secure_share < 1 also (3T,) the initial schedule's net active import. Raises InputError with every
    mistake.
    """

    abilities = frozenset({"model"})
    linearises = True
    shares_work = True

    def __init__(
        self,
        *,
        network: Network,
        settings: DsoSettings,
        pcc: Mapping[str, str],
        probabilities: Mapping[Key, float],
        p_load_kw: FloatArray,
        q_load_kvar: FloatArray,
        times: Sequence[str],
        dt_h: float,
        neutral_price: FloatArray,
        reference_price: FloatArray,
        box: Mapping[str, tuple[FloatArray, FloatArray]],
        injection: Mapping[Key, tuple[FloatArray, FloatArray]] | None = None,
        box_p: Mapping[str, tuple[FloatArray, FloatArray]] | None = None,
        injection_p: Mapping[Key, tuple[FloatArray, FloatArray]] | None = None,
    ) -> None:
        self.network, self.settings = network, settings
        margin = settings.margin_pu
        self._asked = replace(network, v_min_pu=network.v_min_pu + margin, v_max_pu=network.v_max_pu - margin)
        self.times, self.dt_h = tuple(times), dt_h
        self.p_load_kw, self.q_load_kvar = np.asarray(p_load_kw, float), np.asarray(q_load_kvar, float)
        self.neutral_price = np.asarray(neutral_price, float)
        steps, n = len(self.times), len(network.buses)
        count = max((sum(key.unit == u for key in probabilities) for u in pcc), default=1)
        loads = {
            name: (load, (steps, n) if load.ndim < 3 else (steps, count, n))
            for name, load in (("p_load_kw", self.p_load_kw), ("q_load_kvar", self.q_load_kvar))
        }
        shapes: dict[str, tuple[object, tuple[int, ...]]] = {
            **loads,
            "neutral_price": (neutral_price, (steps,)),
            "reference_price": (reference_price, (steps,)),
        }
        boxes, limits = {"box": box}, {"injection": dict(injection or {})}
        if settings.trades_p:
            boxes["box_p"], limits["injection_p"] = box_p or {}, dict(injection_p or {})
        named: list[tuple[str, tuple[FloatArray, FloatArray]]] = [
            *((f"{name}.{u}", sides) for name, given in boxes.items() for u, sides in given.items()),
            *((f"{name}.{key}", sides) for name, of in limits.items() for key, sides in of.items()),
        ]
        for name, sides in named:
            shapes |= {f"{name}.{i}": (side, (steps,)) for i, side in zip(("lo", "hi"), sides, strict=True)}
        mistakes = wrong_arrays(shapes)
        for name, given in boxes.items():
            mistakes += wrong_units(network, pcc, probabilities, given, name)
        if mistakes:
            raise InputError(mistakes)
        self.scenarios, self.prob, self._keys = scenarios_of(pcc, probabilities)
        self.units = tuple(sorted(pcc))
        self.unit_bus = np.array([network.bus(pcc[u]) for u in self.units], np.int64)
        self.pcc_bus: IntArray = np.unique(self.unit_bus)
        names = [network.buses[b] for b in self.pcc_bus]
        products = [f"bus{name}{end}" for end in ("", ":p")[: len(boxes)] for name in names]
        self.nodes = tuple(f"{product}@{time}" for time in self.times for product in products)
        self.groups = tuple(product for _ in self.times for product in products)
        count = len(products)
        self.node_bus = np.tile(self.pcc_bus, len(boxes))
        self.node_active: BoolArray = np.arange(count) >= len(names)
        self.weight = np.full(steps * count, dt_h)
        self.neutral = np.where(np.tile(self.node_active, steps), 0.0, np.repeat(self.neutral_price, count))
        self.scale = np.repeat(np.maximum(np.asarray(reference_price, float), settings.price_floor), count)
        lo, hi = np.zeros((steps, count)), np.zeros((steps, count))
        for k, given in enumerate(boxes.values()):
            for u, bus in zip(self.units, self.unit_bus, strict=True):
                column = k * len(names) + int(np.searchsorted(self.pcc_bus, bus))
                lo[:, column] += given[u][0]
                hi[:, column] += given[u][1]
        self.box = (lo.ravel(), hi.ravel())
        free = (np.full(steps, -np.inf), np.full(steps, np.inf))
        self._limits = [  # each (S, U, 2, T): reactive injection, then active where it is a product
            np.array([[of.get(key, free) for key in keys] for keys in self._keys]) for of in limits.values()
        ]
        self._reader = Reader(self._keys, (2 if settings.secure_share >= 1 else 3) * steps, {})
        self._remembered: dict[int, dict[bytes, BusSlack]] = {}  # costs of exceedances, by step and what they hang on
        self._chosen: tuple[bytes, BoolArray] | None = None  # the last choice and what it was made from

    def with_bundles(self, bundles: Mapping[Key, Sequence[Key]]) -> DSO:
        """The same DSO where blocks are bundles: block -> its scenarios, whose reports come one after the other."""
        same = copy(self)
        same._reader = Reader(self._keys, self._reader.width, bundles)
        return same

    def parts(self) -> tuple[IntArray, ...]:
        count = len(self.node_bus)
        return tuple(np.arange(t * count, (t + 1) * count) for t in range(len(self.times)))

    def rows(self, bus: str, product: Literal["p", "q"] = "q") -> IntArray:
        """(T,) node rows of a PCC."""
        at = (self.node_bus == self.network.bus(bus)) & (self.node_active == (product == "p"))
        return np.flatnonzero(np.tile(at, len(self.times)))

    def initially_active(self) -> BoolArray:
        return np.zeros(len(self.nodes), bool)

    def voltages(self, Z: FloatArray, reports: Reports) -> FloatArray:
        """(T, S, n_bus) voltage magnitudes at Z (all rows), by one batched flow. Raises CoordinatorError."""
        steps, count, base = len(self.times), len(self.scenarios), self.network.base_kva
        told = self._reader.read(reports)
        per_step = [self._injections(t, told) for t in range(steps)]
        p, q = (np.concatenate([step[i] for step in per_step]) for i in (0, 1))
        moved = np.repeat(Z.reshape(steps, -1), count, axis=0)
        for injected, kind in ((p, self.node_active), (q, ~self.node_active)):
            injected[:, self.node_bus[kind]] += moved[:, kind]
        flow = solve(self.network, p / base, q / base)
        for bad in np.flatnonzero(~flow.converged):
            raise self._no_flow(int(bad) // count, int(bad) % count, flow.reason[bad])
        return flow.v_pu.reshape(steps, count, -1)

    def secure(self, reports: Reports) -> BoolArray:
        """(S,) the scenarios whose voltage limits count. Raises CoordinatorError.

        Without secure_share all of them; else those left out have the largest exceedance, over buses and steps, with
        the initial schedules that the blocks report: the same in every round.
        """
        if self.settings.secure_share >= 1:
            return np.ones(len(self.scenarios), bool)
        return self._secure(self._reader.read(reports))

    def _secure(self, told: FloatArray) -> BoolArray:
        steps, count = len(self.times), len(self.scenarios)
        if self.settings.secure_share >= 1:
            return np.ones(count, bool)
        first = np.concatenate([told[:, :, 2 * steps :], told[:, :, steps : 2 * steps]], axis=2)
        made_from = first.tobytes()
        if self._chosen is None or self._chosen[0] != made_from:
            per_step = [self._injections(t, first) for t in range(steps)]
            p, q = (np.concatenate([step[i] for step in per_step]) / self.network.base_kva for i in (0, 1))
            flow = solve(self.network, p, q)
            worst = np.where(flow.converged, exceedance(self.network, flow.v_pu), np.inf)
            self._chosen = (
                made_from,
                kept_secure(
                    worst.reshape(steps, count).max(axis=0),
                    self.prob,
                    self.settings.secure_share,
                    self.settings.voltage_tolerance_pu,
                ),
            )
        return self._chosen[1]

    def steps(self, what: str, part: int, question: tuple[Any, ...], reports: Reports) -> Steps[Any]:
        """The answer of a part; power flows and their derivatives are work in rows, a scenario each."""
        if what == "answer":
            query, warm = question
            return self._answer(part, query, warm, reports)
        (Z,) = question
        return self._evaluate(part, Z, reports) if what == "evaluate" else self._check(part, Z, reports)

    def do(self, work: Work) -> Found:
        return do(self.network, work)

    def check(self, part: int, Z: FloatArray, reports: Reports) -> Check:
        """A load flow at Z; no shedding."""
        return finished(self._check(part, Z, reports), self.do)

    def _check(self, part: int, Z: FloatArray, reports: Reports) -> Steps[Check]:
        with self._named(part):
            hour = self._hour(part, reports)
            flow = yield from hour.flow(Z)
        v_pu = flow.v_pu
        inside = np.minimum(v_pu - self.network.v_min_pu, self.network.v_max_pu - v_pu)
        inside[:, self.network.slack] = np.inf  # its voltage is given
        inside[~hour.secure] = np.inf
        s, bus = np.unravel_index(int(inside.argmin()), inside.shape)
        where = f"bus {self.network.buses[bus]}, {self.times[part]}" + self._scenario(int(s))
        margin = float(inside[s, bus])
        return Check(margin >= -self.settings.voltage_tolerance_pu, margin, float(v_pu[s, bus]), where)

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        """Load flow at the offers first; an hour whose voltages have never left their limits asks for nothing.

        `warm` is None until the hour has a need, and never again (hours join, none leaves); then {"active"}, and with
        "held" also the requirement (B,) and its multipliers mu (S, n).
        """
        return finished(self._answer(part, query, warm, reports), self.do)

    def _answer(self, part: int, query: Query, warm: Warm, reports: Reports) -> Steps[tuple[Request, Warm]]:
        with self._named(part):
            hour = self._hour(part, reports)
            flow = yield from hour.flow(query.center)
            violated = bool(hour.exceedance(flow.v_pu).max() > self.settings.voltage_tolerance_pu)
            if not violated and warm is None:
                request = hour.affine(query.center, flow)
            elif self.settings.requirement == "held":
                warm = yield from self._held(part, hour, query.center, violated, warm)
                request = yield from hour.at(warm["requirement"], warm["mu"])
            else:
                warm = {"active": np.array(True)}
                request, settled = yield from self._tightened(hour).resolved(query, flow)
                self._warn_unsettled(part, settled)
                if self.settings.margin_pu > 0:  # its cost is that of the limits themselves
                    request = yield from hour.at(request.Z, request.info["mu"])
            if query.want_bound or query.want_model:
                request = yield from hour.with_model(query, request, flow)
                if not (self.settings.freeze_p or self.settings.trades_p):
                    request = replace(request, bound=None)
        return request, warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        """g at Z: the least shedding, and the least slack where shedding is not enough."""
        return finished(self._evaluate(part, Z, reports), self.do)

    def _evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Steps[Request]:
        with self._named(part):
            return (yield from self._hour(part, reports).at(Z))

    def _held(
        self, t: int, hour: DsoHour, offers: FloatArray, violated: bool, warm: Warm
    ) -> Steps[Mapping[str, np.ndarray]]:
        """The requirement to keep: evaluated where there is none yet, and again where it is met but not enough."""
        if warm is not None:
            before = warm["requirement"]
            # met: within a thousandth of the request, or a millionth of what the PCC can do
            missing = np.sign(before) * (before - offers)
            short = missing > 1e-3 * np.abs(before) + 1e-6 * np.maximum(hour.hi, -hour.lo)
            if not violated or short.any():
                return warm
        Z, mu, settled = yield from self._tightened(hour).equal_signals(None if warm is None else warm["requirement"])
        self._warn_unsettled(t, settled)
        return {"active": np.array(True), "requirement": Z, "mu": mu}

    def _tightened(self, hour: DsoHour) -> DsoHour:
        """The same hour with the limits that requests are made for."""
        return replace(hour, network=self._asked) if self.settings.margin_pu > 0 else hour

    def _warn_unsettled(self, t: int, settled: bool) -> None:
        if not settled:
            log.warning("%s: the DSO's optimisation did not come to rest; its best point is used", self.times[t])

    def _hour(self, t: int, reports: Reports) -> DsoHour:
        settings, rows = self.settings, self.parts()[t]
        told = self._reader.read(reports)
        p_kw, q_kvar = self._injections(t, told)
        least, most = self._reachable(t, told)
        return DsoHour(
            network=self.network,
            p_kw=p_kw,
            q_kvar=q_kvar,
            q_load_kvar=np.broadcast_to(self.q_load_kvar[t], q_kvar.shape),
            secure=self._secure(told),
            prob=self.prob,
            pcc_bus=self.node_bus,
            active=self.node_active,
            lo=np.minimum(np.maximum(self.box[0][rows], least), 0.0),
            hi=np.maximum(np.minimum(self.box[1][rows], most), 0.0),
            dt_h=self.dt_h,
            neutral_price=float(self.neutral_price[t]),
            reference_price=float(self.scale[rows[0]]),
            shed_cost=settings.shed_cost_sek_per_kvarh,
            slack_cost=settings.voltage_slack_cost_sek_per_pu_h,
            improvement_price=settings.voltage_improvement_sek_per_pu_h,
            tolerance_pu=settings.voltage_tolerance_pu,
            remembered=self._remembered.setdefault(t, {}),
        )

    def _reachable(self, t: int, told: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(B,), (B,): the change of injection that the units at each node can still make, in every scenario."""
        sides = np.zeros((len(self.scenarios), 2, len(self.node_bus)))
        for u, bus in enumerate(self.unit_bus):
            firsts = (told[:, u, None, len(self.times) + t], -told[:, u, None, t])
            for k, (limits, first) in enumerate(zip(self._limits, firsts, strict=False)):
                column = k * len(self.pcc_bus) + np.searchsorted(self.pcc_bus, bus)
                sides[:, :, column] += limits[:, u, :, t] - first
        return sides[:, 0].max(axis=0), sides[:, 1].min(axis=0)

    def _injections(self, t: int, told: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(S, n) kW and kvar injected at step t: minus the loads, minus the units' import, plus their first Q."""
        shape = (len(self.scenarios), len(self.network.buses))
        p = np.broadcast_to(-self.p_load_kw[t], shape).copy()
        q = np.broadcast_to(-self.q_load_kvar[t], shape).copy()
        for u, bus in enumerate(self.unit_bus):
            p[:, bus] -= told[:, u, t]
            q[:, bus] += told[:, u, len(self.times) + t]
        return p, q

    @contextmanager
    def _named(self, t: int) -> Iterator[None]:
        """Give a flow without solution its time and its scenario."""
        try:
            yield
        except NoFlowError as error:
            raise self._no_flow(t, error.scenario, error.reason) from None

    def _no_flow(self, t: int, s: int, reason: str) -> CoordinatorError:
        return CoordinatorError(
            f"{self.times[t]}{self._scenario(s)}: {reason}. The feeder cannot carry the loads of that hour: look "
            "at them (kW, kvar), at the lines' R_ohm, X_ohm and length_factor, and at base_kv"
        )

    def _scenario(self, s: int) -> str:
        return f", scenario {self.scenarios[s]}" if len(self.scenarios) > 1 else ""
