"""The distribution system operator: asks the communities for reactive power so that all voltages keep their limits.

    g(Z) = sum_t dt [ -c^Q_t sum_b Z_tb + sum_s pi_s (C^LS sum_i |shed_tsi| + C^V slack_ts) ], least over shed, slack
    s.t. v_min - slack <= |V|(Z, shed) <= v_max + slack on the exact AC power flow, lo <= Z <= hi,
         shed_i between 0 and the reactive load of bus i                                     paper 1, eqs. (47)-(52)

Z_tb in kvar is what the communities at PCC b inject on top of their initial schedule, positive = injected = raises the
voltage. The neutral price is c^Q; where voltages bind, price = c^Q + X'mu with X = d|V|/dQ and mu their multipliers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from decomp.coordinator import Coordinator, Reports
from decomp.errors import CoordinatorError, InputError
from decomp.messages import BoolArray, Check, FloatArray, IntArray, Key, Query, Request
from problems.dso_inputs import scenarios_of, wrong_arrays, wrong_units
from problems.network import opf
from problems.network.feeder import Network
from problems.network.linear_model import LinearModel
from problems.network.opf import Controls, HourProblem, HourSolution
from problems.network.power_flow import Flow, solve

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NEAREST = 1e-7  # weight, relative to the price, of staying near the offers where prices alone decide
Warm = Mapping[str, np.ndarray] | None


class DsoSettings(BaseModel):
    """The [dso] table of a case file.

    requirement   "resolved": every round the least-cost request at the round's prices
                  "held": (47) is evaluated once at equal neutral signals, min c^Q sum_b |Z_b| + shedding, so that each
                  need goes to the most sensitive PCC; that request is kept while the signals move. It is evaluated
                  again, and can only grow, when the offers meet it and a voltage is still outside its limits
    freeze_p      the net active power of hours with a need stays as first scheduled (the communities keep to it; the
                  flow here always uses the power that they report)
    shed_cost_sek_per_kvarh  C^LS, for each kvarh of reactive load taken off
    voltage_slack_cost_sek_per_pu_h  C^V, for the worst voltage's distance from its limit where nothing else helps; it
                  has to be dearer than any cure: more than C^LS / (least useful dV/dQ in pu per kvar)
    voltage_tolerance_pu  a limit exceeded by no more than this counts as kept when violations are looked for
    price_floor   least reference price for the step functions, SEK/kWh (spot prices may be zero or negative)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requirement: Literal["held", "resolved"]
    freeze_p: bool
    shed_cost_sek_per_kvarh: Positive
    voltage_slack_cost_sek_per_pu_h: Positive = 1e9
    voltage_tolerance_pu: Positive = 1e-6
    price_floor: Positive = 0.01


class DSO(Coordinator):
    """Node rows are (time, PCC), time-major, named bus2@2021-04-14T13:00+02:00; part i is time step i.

    network, settings
    pcc              unit -> bus name; units at one bus share its node
    probabilities    of every block; the scenario label s of the DSO is made of all units' blocks s, and a unit with a
                     single scenario takes part in all of them
    p_load_kw, q_load_kvar  (T, n_bus) loads other than the communities' own
    times, dt_h      names of the steps, length of a step
    neutral_price    (T,) c^Q, SEK/kvarh
    reference_price  (T,) lambda_e, SEK/kWh
    box              unit -> (lo, hi), each (T,) kvar
    A block reports (2T,): net active import in kW of every step, then injected reactive power in kvar of its initial
    schedule. Raises InputError with every mistake.
    """

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
    ) -> None:
        self.network, self.settings = network, settings
        self.times, self.dt_h = tuple(times), dt_h
        self.p_load_kw, self.q_load_kvar = np.asarray(p_load_kw, float), np.asarray(q_load_kvar, float)
        self.neutral_price = np.asarray(neutral_price, float)
        steps, n = len(self.times), len(network.buses)
        shapes: dict[str, tuple[object, tuple[int, ...]]] = {
            "p_load_kw": (p_load_kw, (steps, n)),
            "q_load_kvar": (q_load_kvar, (steps, n)),
            "neutral_price": (neutral_price, (steps,)),
            "reference_price": (reference_price, (steps,)),
        }
        shapes |= {f"box.{u}.{i}": (side, (steps,)) for u in box for i, side in zip(("lo", "hi"), box[u], strict=True)}
        mistakes = wrong_arrays(shapes) + wrong_units(network, pcc, probabilities, box)
        if mistakes:
            raise InputError(mistakes)
        self.scenarios, self.prob, self._keys = scenarios_of(pcc, probabilities)
        self.units = tuple(sorted(pcc))
        self.unit_bus = np.array([network.bus(pcc[u]) for u in self.units], np.int64)
        self.pcc_bus: IntArray = np.unique(self.unit_bus)
        names = [network.buses[b] for b in self.pcc_bus]
        self.nodes = tuple(f"bus{name}@{time}" for time in self.times for name in names)
        self.groups = tuple(f"bus{name}" for _ in self.times for name in names)
        count = len(names)
        self.weight = np.full(steps * count, dt_h)
        self.neutral = np.repeat(self.neutral_price, count)
        self.scale = np.repeat(np.maximum(np.asarray(reference_price, float), settings.price_floor), count)
        lo, hi = np.zeros((steps, count)), np.zeros((steps, count))
        for u, bus in zip(self.units, self.unit_bus, strict=True):
            column = int(np.searchsorted(self.pcc_bus, bus))
            lo[:, column] += box[u][0]
            hi[:, column] += box[u][1]
        self.box = (lo.ravel(), hi.ravel())

    def parts(self) -> tuple[IntArray, ...]:
        count = len(self.pcc_bus)
        return tuple(np.arange(t * count, (t + 1) * count) for t in range(len(self.times)))

    def initially_active(self) -> BoolArray:
        return np.zeros(len(self.nodes), bool)

    def voltages(self, Z: FloatArray, reports: Reports) -> FloatArray:
        """(T, S, n_bus) voltage magnitudes at Z (all rows), by one batched flow. Raises CoordinatorError."""
        steps, count = len(self.times), len(self.scenarios)
        per_step = [self._injections(t, Z[rows], reports) for t, rows in enumerate(self.parts())]
        p, q = (np.concatenate([step[i] for step in per_step]) for i in (0, 1))
        flow = solve(self.network, p / self.network.base_kva, q / self.network.base_kva)
        for bad in np.flatnonzero(~flow.converged):
            raise self._no_flow(int(bad) // count, int(bad) % count, flow.reason[bad])
        return flow.v_pu.reshape(steps, count, -1)

    def check(self, part: int, Z: FloatArray, reports: Reports) -> Check:
        """A load flow at Z; no shedding."""
        v_pu = self._flow(part, Z, reports).v_pu
        outside = np.maximum(self.network.v_min_pu - v_pu, v_pu - self.network.v_max_pu)
        s, bus = np.unravel_index(int(outside.argmax()), outside.shape)
        where = f"bus {self.network.buses[bus]}, {self.times[part]}"
        if len(self.scenarios) > 1:
            where += f", scenario {self.scenarios[s]}"
        violation = max(float(outside[s, bus]), 0.0)
        return Check(violation <= self.settings.voltage_tolerance_pu, violation, float(v_pu[s, bus]), where)

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        """Load flow at the offers first; an hour whose voltages have never left their limits asks for nothing.

        `warm` keeps whether the hour has ever had a need (hours join, none leaves) and the held requirement with its
        multipliers: {"active": (), "requirement": (B,), "mu": (S, n)}, the last two with "held" only.
        """
        center = query.center
        flow = self._flow(part, center, reports)
        violation = opf.exceedance(self.network, flow.v_pu).max()
        violated = bool(violation > self.settings.voltage_tolerance_pu)
        if not violated and warm is None:
            request = self._affine(part, center, flow)
        elif self.settings.requirement == "held":
            warm = self._held(part, center, reports, violated, warm)
            request = self._at(part, warm["requirement"], reports, warm["mu"])
        else:
            warm = {"active": np.array(True)} if warm is None else warm
            problem = self._problem(part, reports, self._priced(part, query))
            solution = self._solve(part, problem, center)
            Z = solution.u[: len(center)]
            request = self._request(part, problem, solution, Z, active=True)
        if query.want_bound or query.want_model:
            request = self._with_model(part, query, reports, request)
        return request, warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        """g at Z: the least shedding, and the least slack where shedding is not enough."""
        request = self._at(part, Z, reports, None)
        return replace(request, active=np.full(len(Z), bool(request.info["shed_kvar"].any() or not request.feasible)))

    def _affine(self, t: int, Z: FloatArray, flow: Flow) -> Request:
        """All limits hold at Z: nothing is shed and g is -<c^Q, Z>."""
        n, count, price = len(self.network.buses), len(self.scenarios), self.neutral_price[t]
        info = {
            "v_pu": flow.v_pu,
            "mu": np.zeros((count, n)),
            "nodal_price": np.full(n, price),
            "shed_kvar": np.zeros((count, n)),
            "slack_pu": np.zeros(count),
            "requirement": Z.copy(),
        }
        return Request(Z.copy(), float(-price * self.dt_h * Z.sum()), np.zeros(len(Z), bool), info=info)

    def _at(self, t: int, Z: FloatArray, reports: Reports, mu: FloatArray | None) -> Request:
        """g at a given Z; with `mu` given, these multipliers are reported instead of those of the shedding."""
        flow = self._flow(t, Z, reports)
        if opf.exceedance(self.network, flow.v_pu).max() <= opf.FEASIBLE_PU and mu is None:
            return self._affine(t, Z, flow)
        fixed = self._problem(t, reports, self._fixed(t, Z))
        request = self._request(t, fixed, self._solve(t, fixed, Z), Z, active=True)
        if mu is None:
            return request
        pull = opf.pull_of(self.network, flow.v, mu * self.dt_h)
        info = {**request.info, "mu": mu, "nodal_price": self.neutral_price[t] + pull.sum(axis=0) / self.dt_h}
        return replace(request, info=info)

    def _held(
        self, t: int, offers: FloatArray, reports: Reports, violated: bool, warm: Warm
    ) -> Mapping[str, np.ndarray]:
        """The requirement to keep: evaluated where there is none yet, and again where it is met but not enough."""
        before = None if warm is None else warm["requirement"]
        if before is not None:
            # 0.1 % of the request, or what moves a voltage by less than anybody looks at
            short = np.sign(before) * (before - offers) > 1e-3 * np.abs(before) + 1e-6 * self._reach(t)
            if not violated or short.any():
                assert warm is not None
                return warm
        problem = self._problem(t, reports, self._equal_signals(t, before))
        solution = self._solve(t, problem, np.zeros(len(offers)) if before is None else before)
        B = len(offers)
        Z = solution.u[:B] - solution.u[B : 2 * B]
        return {"active": np.array(True), "requirement": Z, "mu": solution.mu / self.dt_h}

    def _reach(self, t: int) -> FloatArray:
        """(B,) kvar, how far a PCC can go."""
        rows = self.parts()[t]
        return np.maximum(np.maximum(np.abs(self.box[0][rows]), np.abs(self.box[1][rows])), 1.0)

    def _priced(self, t: int, query: Query) -> Controls:
        """One control a PCC at the query's price, with the penalty or a small pull towards the offers."""
        rows = self.parts()[t]
        level = max(float(np.abs(query.price).max()), abs(self.neutral_price[t]), self.scale[rows[0]])
        quad = np.where(query.penalty > 0, query.penalty, NEAREST * level / self._reach(t))
        linear = query.price - self.neutral_price[t]
        lo, hi = self.box[0][rows], self.box[1][rows]
        return Controls.everywhere(self.pcc_bus, 1.0, self.dt_h * linear, self.dt_h * quad, query.center, lo, hi)

    def _equal_signals(self, t: int, before: FloatArray | None) -> Controls:
        """Two controls a PCC, up and down, each at the neutral price; none below what was asked `before`."""
        rows = self.parts()[t]
        kept = np.zeros(len(rows)) if before is None else before
        price = self.dt_h * (abs(self.neutral_price[t]) or self.scale[rows[0]])
        sides = []
        for effect, limit in ((1.0, self.box[1][rows]), (-1.0, -self.box[0][rows])):
            least = np.maximum(effect * kept, 0.0)
            most = np.where(effect * kept < 0, 0.0, np.maximum(limit, least))
            linear, quad = np.full(len(rows), price), NEAREST * price / self._reach(t)
            sides.append(Controls.everywhere(self.pcc_bus, effect, linear, quad, least, least, most))
        return sides[0].joined(sides[1])

    def _fixed(self, t: int, Z: FloatArray) -> Controls:
        """The PCCs held at Z, at the neutral price."""
        linear = np.full(len(Z), -self.dt_h * self.neutral_price[t])
        return Controls.everywhere(self.pcc_bus, 1.0, linear, np.zeros(len(Z)), Z, Z, Z)

    def _problem(self, t: int, reports: Reports, at_pcc: Controls) -> HourProblem:
        """The hour's problem: the given controls first, then shedding at every bus with a reactive load."""
        p, q = self._injections(t, np.zeros(len(self.pcc_bus)), reports)
        load = self.q_load_kvar[t]
        bus = np.flatnonzero((load != 0) & (np.arange(len(load)) != self.network.slack))
        S, size = len(self.scenarios), len(bus)
        scenario = np.repeat(np.arange(S), size)
        bus = np.tile(bus, S)
        zero = np.zeros(S * size)
        shed = Controls(
            bus,
            scenario,
            np.sign(load[bus]),
            self.dt_h * self.settings.shed_cost_sek_per_kvarh * self.prob[scenario],
            zero,
            zero,
            zero,
            np.abs(load[bus]),
            np.ones(S * size, bool),
        )
        slack_cost = self.dt_h * self.settings.voltage_slack_cost_sek_per_pu_h
        return HourProblem(self.network, p, q, self.prob, at_pcc.joined(shed), slack_cost)

    def _solve(self, t: int, problem: HourProblem, Z: FloatArray) -> HourSolution:
        start = np.zeros(len(problem.controls.bus))
        start[: len(Z)] = Z
        try:
            return opf.solve_hour(problem, start)
        except opf.NoFlowError as error:
            raise self._no_flow(t, error.scenario, error.reason) from None

    def _request(self, t: int, problem: HourProblem, solution: HourSolution, Z: FloatArray, active: bool) -> Request:
        """What is sent back; its cost is g(Z), without price and penalty."""
        n, S, controls = len(self.network.buses), len(self.scenarios), problem.controls
        shed = np.zeros((S, n))
        sheds = np.flatnonzero(controls.reserve)
        np.add.at(shed, (controls.scenario[sheds], controls.bus[sheds]), (controls.effect * solution.u)[sheds])
        price = self.neutral_price[t]
        cost = -price * self.dt_h * Z.sum() + float(controls.linear[sheds] @ solution.u[sheds])
        cost += problem.slack_cost * float(self.prob @ solution.slack)
        info = {
            "v_pu": np.abs(solution.v),
            "mu": solution.mu / self.dt_h,
            "nodal_price": price + solution.pull.sum(axis=0) / self.dt_h,
            "shed_kvar": shed,
            "slack_pu": solution.slack,
            "requirement": Z.copy(),
        }
        feasible = bool(solution.slack.max() <= self.settings.voltage_tolerance_pu)
        return Request(Z.copy(), float(cost), np.full(len(Z), active), feasible=feasible, info=info)

    def _with_model(self, t: int, query: Query, reports: Reports, request: Request) -> Request:
        """Add the bound of min g + <price, Z> and the model of g, both linearised at the offers and their shedding.

        At Z = offers the linearised g is the exact one, so that a cost there and a bound are of one problem.
        """
        rows = self.parts()[t]
        fixed = self._problem(t, reports, self._fixed(t, query.center))
        solution = self._solve(t, fixed, query.center)
        B = len(rows)
        free = self._priced(t, query)
        plain = replace(free, linear=fixed.controls.linear[:B], quad=np.zeros(B))
        problem = self._problem(t, reports, plain)
        model = LinearModel.at(problem, solution.u)
        return replace(
            request,
            bound=model.bound(self.dt_h * query.price) if query.want_bound else None,
            bound_of="linearised",
            model=model.quadratic(B) if query.want_model else None,
        )

    def _injections(self, t: int, Z: FloatArray, reports: Reports) -> tuple[FloatArray, FloatArray]:
        """(S, n) kW and kvar injected at step t: minus the loads, minus the units' import, plus their Q and Z."""
        steps, S = len(self.times), len(self.scenarios)
        p, q = np.tile(-self.p_load_kw[t], (S, 1)), np.tile(-self.q_load_kvar[t], (S, 1))
        for s, keys in enumerate(self._keys):
            for key, bus in zip(keys, self.unit_bus, strict=True):
                report = reports.get(key)
                if report is None or len(report) != 2 * steps:
                    got = "none" if report is None else f"{len(report)} figures"
                    need = f"{2 * steps}: net active import in kW, then injected kvar, of every step"
                    raise CoordinatorError(f"block {key} reported {got}; the DSO's load flow needs {need}")
                p[s, bus] -= report[t]
                q[s, bus] += report[steps + t]
        q[:, self.pcc_bus] += Z
        return p, q

    def _flow(self, t: int, Z: FloatArray, reports: Reports) -> Flow:
        p, q = self._injections(t, Z, reports)
        flow = solve(self.network, p / self.network.base_kva, q / self.network.base_kva)
        for s in np.flatnonzero(~flow.converged):
            raise self._no_flow(t, int(s), flow.reason[s])
        return flow

    def _no_flow(self, t: int, s: int, reason: str) -> CoordinatorError:
        where = self.times[t] + (f", scenario {self.scenarios[s]}" if len(self.scenarios) > 1 else "")
        return CoordinatorError(
            f"{where}: {reason}. The feeder cannot carry the loads of that hour: look at them (kW, kvar), at "
            "the lines' R_ohm, X_ohm and length_factor, and at base_kv"
        )
