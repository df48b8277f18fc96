"""The DSO's problem of one hour: which reactive injections may move, at what cost, and what is said of the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray, Query, Request
from decomp.parallel.row_tasks import Steps
from problems.network import hour, opf
from problems.network.feeder import Network
from problems.network.hour import Controls, HourProblem
from problems.network.linear_model import LinearModel
from problems.network.opf import HourSolution
from problems.network.power_flow import Flow
from problems.network.row_tasks import flow_steps
from problems.network.slack import FEASIBLE_PU, BusSlack, exceedance, outside

NO_SHEDDING_KVAR = 1e-3  # what a solver leaves of nothing
OUT, FURTHER_OUT = 1e3, 10.0  # what pushing a voltage out, or further out, costs, in units of slack_cost
NEAREST = 1e-7  # weight, relative to the price, of staying near the offers where prices alone decide


@dataclass(frozen=True, eq=False)
class DsoHour:
    """One time step.

    p_kw, q_kvar  (S, n) injections with the communities' initial schedules, before Z and shedding
    q_load_kvar   (S, n) reactive loads that may be shed, of either sign
    secure        (S,) scenarios whose limits count; the others have none, and keep their share of the cost
    prob (S,); dt_h
    pcc_bus, active, lo, hi  (B,) of every node: its bus, whether it is active power, and its box in kvar or kW
    neutral_price c^Q; reference_price, both per kvarh; shed_cost per kvarh
    slack_cost    per pu h: up to so much is paid for a voltage that can be brought inside its limits, and what remains
                  of it costs so much
    improvement_price  per pu h, the same of a voltage that stays outside all the same
    tolerance_pu  exceedance that counts as none
    remembered    costs of exceedances found before, by what they depend on
    """

    network: Network
    p_kw: FloatArray
    q_kvar: FloatArray
    q_load_kvar: FloatArray
    secure: BoolArray
    prob: FloatArray
    pcc_bus: IntArray
    active: BoolArray
    lo: FloatArray
    hi: FloatArray
    dt_h: float
    neutral_price: float
    reference_price: float
    shed_cost: float
    slack_cost: float
    improvement_price: float
    tolerance_pu: float
    remembered: dict[bytes, BusSlack]

    def flow(self, Z: FloatArray) -> Steps[Flow]:
        """Load flow of every scenario at Z. Raises NoFlowError."""
        p, q = self.p_kw.copy(), self.q_kvar.copy()
        for injected, kind in ((p, self.active), (q, ~self.active)):
            injected[:, self.pcc_bus[kind]] += Z[kind]
        flow = yield from flow_steps(self.network, p / self.network.base_kva, q / self.network.base_kva)
        for s in np.flatnonzero(~flow.converged):
            raise hour.NoFlowError(int(s), flow.reason[s])
        return flow

    def exceedance(self, v_pu: FloatArray) -> FloatArray:
        """(S,) how far the worst voltage of each scenario is outside its limits; 0 where they do not count."""
        return np.where(self.secure, exceedance(self.network, v_pu), 0.0)

    def at(self, Z: FloatArray, mu: FloatArray | None = None) -> Steps[Request]:
        """g at Z: least shedding, and slack where that is not enough.

        mu (S, n) per pu h replaces the multipliers that are reported: those of the choice of Z, which is not made here.
        """
        flow = yield from self.flow(Z)
        if self.exceedance(flow.v_pu).max() <= FEASIBLE_PU and mu is None:
            return self.affine(Z, flow)
        request, _ = yield from self._answered(self._fixed(Z), Z, flow)
        if mu is None:
            return request
        pull = yield from hour.pull_steps(self.network, flow.v, mu)
        return replace(request, info={**request.info, "mu": mu, "nodal_price": self.neutral_price + pull.sum(axis=0)})

    def affine(self, Z: FloatArray, flow: Flow) -> Request:
        """All limits hold at Z: nothing is shed and g is -<c^Q, Z>."""
        n, S = len(self.network.buses), len(self.prob)
        info = {
            "v_pu": flow.v_pu,
            "mu": np.zeros((S, n)),
            "nodal_price": np.full(n, self.neutral_price),
            "shed_kvar": np.zeros((S, n)),
            "outside_pu": np.zeros((S, n)),
            "requirement": Z.copy(),
        }
        sold = Z[~self.active].sum()
        return Request(Z.copy(), float(-self.neutral_price * self.dt_h * sold), np.zeros(len(Z), bool), info=info)

    def resolved(self, query: Query, flow: Flow) -> Steps[tuple[Request, bool]]:
        """argmin g(Z) + <price, Z> + penalty term, and whether the steps came to rest; flow: that of the center."""
        level = max(float(np.abs(query.price).max()), abs(self.neutral_price), self.reference_price)
        quad = self.dt_h * np.where(query.penalty > 0, query.penalty, NEAREST * level / self._reach())
        linear = self.dt_h * (query.price - self._neutral())
        at_pcc = Controls.everywhere(self.pcc_bus, 1.0, linear, quad, query.center, self.lo, self.hi, self.active)
        request, solution = yield from self._answered(at_pcc, query.center, flow)
        return request, solution.settled

    def equal_signals(self, before: FloatArray | None) -> Steps[tuple[FloatArray, FloatArray, bool]]:
        """(Z, mu, settled) of min c^Q sum_b |Z_b| + shedding; no |Z_b| below what was asked `before`.

        Z = up - down, two controls a PCC, so that either direction costs the neutral price. Where the limits cannot be
        kept with what was asked before (the need has turned round), it is asked anew.
        """
        kept = np.zeros(len(self.pcc_bus)) if before is None else before
        problem = self._problem(self._both_ways(kept))
        start = np.where(problem.controls.reserve, 0.0, problem.controls.lo)
        solution = yield from opf.hour_steps(problem, start)
        if not solution.feasible:
            if before is not None:
                return (yield from self.equal_signals(None))
            problem = replace(problem, slack=(yield from self._slack()))
            solution = yield from opf.hour_steps(problem, start)
        up, down = solution.u[: len(kept)], solution.u[len(kept) : 2 * len(kept)]
        return up - down, self._all(solution.mu / self.dt_h), solution.settled

    def with_model(self, query: Query, request: Request, flow: Flow) -> Steps[Request]:
        """Add the bound of min g + <price, Z> and the model of g, both linearised at the offers and their shedding.

        At Z = offers the linearised g is the exact one: a cost there and a bound belong to one problem.
        """
        fixed, at = yield from self._solve(self._fixed(query.center), query.center, flow)
        size = len(self.pcc_bus)
        flat, linear = np.zeros(size), -self.dt_h * self._neutral()
        free = Controls.everywhere(self.pcc_bus, 1.0, linear, flat, query.center, self.lo, self.hi, self.active)
        model = yield from LinearModel.around(replace(self._problem(free), slack=fixed.slack), at.u, at.v)
        return replace(
            request,
            bound=model.bound(self.dt_h * query.price) if query.want_bound else None,
            bound_of="linearised",
            model=model.quadratic(size) if query.want_model else None,
        )

    def _answered(self, at_pcc: Controls, start: FloatArray, flow: Flow) -> Steps[tuple[Request, HourSolution]]:
        """Solve, and say what is sent back; its cost is g(Z), without price and penalty."""
        problem, solution = yield from self._solve(at_pcc, start, flow)
        controls, Z = problem.controls, solution.u[: len(start)].copy()
        shed = np.zeros((len(problem.prob), len(self.network.buses)))
        sheds = np.flatnonzero(controls.reserve)
        np.add.at(shed, (controls.scenario[sheds], controls.bus[sheds]), (controls.effect * solution.u)[sheds])
        cost = -self.neutral_price * self.dt_h * Z[~self.active].sum()
        cost += float(controls.linear[sheds] @ solution.u[sheds])
        cost += solution.penalty
        v_pu = np.abs(solution.v)
        low, high = outside(self.network, v_pu)
        if not self.secure.all():
            flow = yield from self.flow(Z)
            v_pu = self._all(v_pu, flow.v_pu)
        info = {
            "v_pu": v_pu,
            "mu": self._all(solution.mu / self.dt_h),
            "nodal_price": self.neutral_price + solution.pull.sum(axis=0) / self.dt_h,
            "shed_kvar": self._all(shed),
            "outside_pu": self._all(np.maximum(low, high)),
            "requirement": Z,
        }
        feasible = bool(solution.slack.max() <= self.tolerance_pu)
        asked = Request(
            Z, float(cost), np.ones(len(Z), bool), feasible=feasible, info=info, penalty=solution.penalty,
            enough=feasible and float(np.abs(shed).max(initial=0.0)) <= NO_SHEDDING_KVAR,
        )  # fmt: skip
        return asked, solution

    def _fixed(self, Z: FloatArray) -> Controls:
        linear = -self.dt_h * self._neutral()
        return Controls.everywhere(self.pcc_bus, 1.0, linear, np.zeros(len(Z)), Z, Z, Z, self.active)

    def _neutral(self) -> FloatArray:
        """(B,) what a change is worth to g: c^Q; nothing for active power, which the community's own tariff pays."""
        return np.where(self.active, 0.0, self.neutral_price)

    def _reach(self) -> FloatArray:
        """(B,) kvar or kW, how far a node can go."""
        return np.maximum(np.maximum(np.abs(self.lo), np.abs(self.hi)), 1.0)

    def _all(self, of_secure: FloatArray, others: FloatArray | None = None) -> FloatArray:
        """Figures of the scenarios whose limits count, with those of `others` (S, ...) or 0 for the rest."""
        if self.secure.all():
            return of_secure
        full = np.zeros((len(self.prob), *of_secure.shape[1:])) if others is None else others.copy()
        full[self.secure] = of_secure
        return full

    def _problem(self, at_pcc: Controls) -> HourProblem:
        """The given controls first, then shedding at every bus with a reactive load, scenario by scenario."""
        p_kw, q_kvar, prob = self.p_kw[self.secure], self.q_kvar[self.secure], self.prob[self.secure]
        load = self.q_load_kvar[self.secure]
        scenario, bus = np.nonzero((load != 0) & (np.arange(load.shape[1]) != self.network.slack))
        zero = np.zeros(len(bus))
        shed = Controls(
            bus=bus,
            scenario=scenario,
            effect=np.sign(load[scenario, bus]),
            linear=self.dt_h * self.shed_cost * prob[scenario],
            quad=zero,
            center=zero,
            lo=zero,
            hi=np.abs(load[scenario, bus]),
            reserve=np.ones(len(bus), bool),
            active=np.zeros(len(bus), bool),
        )
        slack_cost = self.dt_h * self.slack_cost
        return HourProblem(self.network, p_kw, q_kvar, prob, at_pcc.joined(shed), slack_cost)

    def _both_ways(self, kept: FloatArray) -> Controls:
        """Up and down at each PCC at one price, no less than what is `kept` (B,)."""
        price = self.dt_h * (abs(self.neutral_price) or self.reference_price)
        sides = []
        for effect, limit in ((1.0, self.hi), (-1.0, -self.lo)):
            least = np.maximum(effect * kept, 0.0)
            most = np.where(effect * kept < 0, 0.0, np.maximum(limit, least))
            linear, quad = np.full(len(kept), price), NEAREST * price / self._reach()
            sides.append(Controls.everywhere(self.pcc_bus, effect, linear, quad, least, least, most, self.active))
        return sides[0].joined(sides[1])

    def _solve(self, at_pcc: Controls, Z: FloatArray, flow: Flow) -> Steps[tuple[HourProblem, HourSolution]]:
        """The problem with these controls first and its solution; costs bus by bus where not all can be cured."""
        problem, known = self._problem(at_pcc), flow.rows(self.secure)
        start = np.zeros(len(problem.controls.bus))
        start[: len(Z)] = Z
        solution = yield from opf.hour_steps(problem, start, known=known)
        if not solution.feasible:
            problem = replace(problem, slack=(yield from self._slack()))
            solution = yield from opf.hour_steps(problem, start, known=known)
        return problem, solution

    def _slack(self) -> Steps[BusSlack]:
        """What the voltages outside their limits cost, bus by bus; a property of the hour, whatever is traded in it.

        With nothing moved voltage i of scenario s is outside by rest_si. Up to there its exceedance costs
        slack_cost, beyond it FURTHER_OUT times as much, and OUT times at a voltage that was inside: no voltage
        is pushed out for the sake of others, and one that is outside only where it brings others inside by
        more. Those that stay outside although everything may be moved at these costs cost improvement_price
        instead.
        """
        limits = self.network.v_min_pu, self.network.v_max_pu
        made_from = b"".join(
            np.ascontiguousarray(a, float).tobytes()
            for a in (self.p_kw, self.q_kvar, self.lo, self.hi, self.secure, *limits)
        )
        if made_from in self.remembered:
            return self.remembered[made_from]
        flow = yield from self.flow(np.zeros(len(self.pcc_bus)))
        rest = [np.where(e > FEASIBLE_PU, e, 0.0) for e in outside(self.network, flow.v_pu[self.secure])]
        problem = self._problem(self._both_ways(np.zeros(len(self.pcc_bus))))
        near = np.broadcast_to(problem.slack_cost * problem.prob[:, None], rest[0].shape)
        slack = BusSlack(near, near * np.where(np.maximum(*rest) > 0, FURTHER_OUT, OUT), *rest)
        solution = yield from opf.hour_steps(replace(problem, slack=slack), np.zeros(len(problem.controls.bus)))
        stays = np.maximum(*outside(self.network, np.abs(solution.v))) > self.tolerance_pu
        slack = replace(slack, near=np.where(stays, near * (self.improvement_price / self.slack_cost), near))
        self.remembered.clear()
        self.remembered[made_from] = slack
        return slack
