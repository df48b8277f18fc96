"""Optimal power flow of one hour: move injections at least cost so that every voltage keeps its limits.

    min  sum_c linear_c u_c + 1/2 quad_c (u_c - center_c)^2 + cost of slack
    s.t. v_min - slack <= |V|(p_s, q_s + effect u) <= v_max + slack         exact AC, every bus and scenario s
         lo <= u <= hi,  slack >= 0                                         paper 1, eqs. (47)-(52)

Successive QP on the exact power flow with exact sensitivities. The merit function is the objective itself, its slack
being the exceedances of the exact flow (an exact penalty; `problems.network.slack`); steps live in a trust region that
the merit function steers, with one second-order correction for the curvature of the voltages. Controls that only a need
can make worthwhile (`reserve`) join when their reduced cost linear - effect dV'mu is negative. The result is a local
optimum: upper voltage limits bend the feasible set inwards, and several PCCs whose prices are nearly in proportion to
their sensitivities then have more than one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from decomp.messages import FloatArray, IntArray
from decomp.parallel.row_tasks import Steps, finished
from problems.network.hour import (
    ALL,
    Around,
    Controls,
    HourProblem,
    NoFlowError,
    around_steps,
    flow_steps_with,
)
from problems.network.power_flow import Flow
from problems.network.row_tasks import do
from problems.network.slack import FEASIBLE_PU, Slack, exceedance
from problems.network.voltage_qp import V_UNIT, Hessian, Linear, Step, solve_step

REST = 1e-11  # predicted decrease, relative to the cost, at which the steps have come to rest
LEAST_RADIUS = 1e-12


@dataclass(frozen=True, eq=False)
class HourSolution:
    """u (C,) kvar; v (S, n) complex; mu (S, n) cost per pu, > 0 where raising the voltage helps.

    slack (S,) pu, the worst exceedance; penalty: what the exceedances cost, cost: that and all else
    pull (S, n) sum_k mu_sk d|V_k|/dq_i per kvar; steps = QPs solved; settled: the steps came to rest
    """

    u: FloatArray
    slack: FloatArray
    v: np.ndarray
    mu: FloatArray
    pull: FloatArray
    penalty: float
    cost: float
    steps: int
    settled: bool

    @property
    def feasible(self) -> bool:
        """All limits are met without slack."""
        return bool(self.slack.max() <= FEASIBLE_PU)


def solve_hour(problem: HourProblem, start: FloatArray, max_steps: int = 200) -> HourSolution:
    """Solve from `start` (C,) kvar (brought into the bounds). Raises NoFlowError where that has no solution."""
    return finished(hour_steps(problem, start, max_steps), partial(do, problem.network))


def hour_steps(
    problem: HourProblem, start: FloatArray, max_steps: int = 200, known: Flow | None = None
) -> Steps[HourSolution]:
    """`solve_hour`; flows and derivatives are work in rows, a scenario each. known: the flow at `start`, if any."""
    controls = problem.controls
    u = np.clip(start, controls.lo, controls.hi)
    at_rest = np.clip(0.0, controls.lo, controls.hi)
    working = ~controls.reserve | (u != at_rest)
    working &= controls.hi > controls.lo
    flow = known if known is not None and np.array_equal(u, start) else (yield from flow_steps_with(problem, u))
    for s in np.flatnonzero(~flow.converged):
        raise NoFlowError(int(s), flow.reason[s])
    none = np.zeros((len(flow.v), 2, flow.v.shape[1]))
    still = (controls.lo == controls.hi) | (_reduced_cost(controls, u, none) >= 0)
    if not working.any() and still.all() and not exceedance(problem.network, flow.v_pu).any():
        return HourSolution(u, np.zeros(len(none)), flow.v, none[:, 0], none[:, 1], 0.0, controls.cost(u), 0, True)
    state = _State(u, flow, 0)
    penalty = 0.0
    while True:
        scale = _scale(controls)
        unit = _cost_unit(controls, np.flatnonzero(working), scale)
        # an exact penalty has to exceed the multipliers; one much larger only costs accuracy
        penalty = min(max(penalty, 1e4 * unit / V_UNIT), problem.most)
        search = _Search(
            problem, np.flatnonzero(working), scale, problem.slack_up_to(penalty), max(unit, 1e-7 * penalty * V_UNIT)
        )
        state, mu, pull, settled = yield from search.run(state, max_steps)
        slack = exceedance(problem.network, state.flow.v_pu)
        short = slack.max() > FEASIBLE_PU and penalty < problem.most
        more = problem.most / penalty if short and problem.slack is None else 1.0
        mu, pull = mu * more, pull * more
        worth = _reduced_cost(controls, state.u, pull) < -1e-9 * (np.abs(controls.linear) + np.abs(pull).max())
        join = worth & ~working & (controls.hi > controls.lo)
        if not settled or not (join.any() or short):
            slack = np.where(slack > FEASIBLE_PU, slack, 0.0)
            paid = problem.slack_up_to(problem.most).cost(problem.network, state.flow.v_pu) if slack.any() else 0.0
            cost = controls.cost(state.u) + paid
            return HourSolution(state.u, slack, state.flow.v, mu, pull[:, 1], paid, cost, state.steps, settled)
        working = working | join
        if short and not join.any():
            penalty = min(100.0 * penalty, problem.most)


@dataclass(frozen=True, eq=False)
class _State:
    u: FloatArray
    flow: Flow
    steps: int


@dataclass(frozen=True, eq=False)
class _Trial:
    step: Step
    u: FloatArray
    flow: Flow
    value: float


def _scale(controls: Controls) -> FloatArray:
    """Kvar that make a variable of size 1."""
    reach = np.maximum(np.abs(controls.lo), np.abs(controls.hi))
    return np.where(reach > 0, reach, 1.0)


def _cost_unit(controls: Controls, columns: IntArray, scale: FloatArray) -> float:
    """A cost of the size of those at stake, by which the QP's objective is divided."""
    d = scale[columns]
    sizes = np.concatenate([np.abs(controls.linear[columns]) * d, controls.quad[columns] * d * d])
    return float(max(sizes.max(initial=0.0), 1e-12))


def _reduced_cost(controls: Controls, u: FloatArray, pull: FloatArray) -> FloatArray:
    """(C,) slope of the Lagrangian in each control; pull (S, 2, n) as of `Sensitivity.pulls`."""
    kind = np.where(controls.active, 0, 1)
    every = pull.sum(axis=0)[kind, controls.bus]
    own = pull[np.maximum(controls.scenario, 0), kind, controls.bus]
    gain = controls.effect * np.where(controls.scenario == ALL, every, own)
    return controls.linear + controls.quad * (u - controls.center) - gain


def _convex(block: FloatArray) -> FloatArray:
    """The nearest positive semidefinite matrix: over-voltage limits bend the other way, there the radius decides."""
    values, vectors = np.linalg.eigh(0.5 * (block + block.T))
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


@dataclass(frozen=True, eq=False)
class _Search:
    """Successive QP in the controls `columns`; in the QPs costs are divided by `unit`."""

    problem: HourProblem
    columns: IntArray
    scale: FloatArray
    elastic: Slack
    unit: float

    def merit(self, u: FloatArray, flow: Flow) -> float:
        if not flow.converged.all():
            return np.inf
        return self.problem.controls.cost(u) + self.elastic.cost(self.problem.network, flow.v_pu)

    def curvature(self, near: Around) -> Hessian:
        """Own costs, and what the bent limits add to the Lagrangian among the controls that are no reserve."""
        controls, d = self.problem.controls, self.scale[self.columns]
        free = np.flatnonzero(~controls.reserve[self.columns])
        block = -near.bend * np.outer(d[free], d[free])
        return Hessian(controls.quad[self.columns] * d * d / self.unit, free, _convex(block))

    def near(self, flow: Flow, mu: FloatArray) -> Steps[Around]:
        """Linearise at a flow."""
        return around_steps(self.problem, flow.v, self.columns, self.scale, mu)

    def trial(self, u: FloatArray, around: Linear, curve: Hessian, radius: float) -> Steps[_Trial]:
        """Solve the QP around u and see what the exact flow makes of its answer."""
        controls, network, columns = self.problem.controls, self.problem.network, self.columns
        d = self.scale[columns]
        lo = np.maximum((controls.lo - u)[columns] / d, -radius)
        hi = np.minimum((controls.hi - u)[columns] / d, radius)
        slope = (controls.linear + controls.quad * (u - controls.center))[columns] * d / self.unit
        limits = (network.v_min_pu, network.v_max_pu)
        step = solve_step(slope, curve, lo, hi, around, *limits, self.elastic.scaled(1.0 / self.unit))
        new = u.copy()
        new[columns] = np.clip(u[columns] + step.d * d, controls.lo[columns], controls.hi[columns])
        flow = yield from flow_steps_with(self.problem, new)
        return _Trial(step, new, flow, self.merit(new, flow))

    def run(self, state: _State, max_steps: int) -> Steps[tuple[_State, FloatArray, FloatArray, bool]]:
        """Until the QP predicts no decrease: the point, its multipliers, their pulls, whether it came to rest."""
        u, flow, steps = state.u, state.flow, state.steps
        radius, value = 1.0, self.merit(u, flow)
        near = yield from self.near(flow, np.zeros(flow.v.shape))
        curve = self.curvature(near)
        while True:
            best = yield from self.trial(u, near.linear, curve, radius)
            steps += 1
            length = float(np.abs(best.step.d).max(initial=0.0))
            predicted = value - self.problem.controls.cost(u) - best.step.value * self.unit
            at_rest = predicted <= REST * max(abs(value), self.unit)
            if at_rest or steps >= max_steps or radius < LEAST_RADIUS:
                mu = best.step.mu * self.unit
                if best.value <= value:
                    u, flow = best.u, best.flow
                near = yield from self.near(flow, mu)
                # a step that only a small radius keeps short is no rest
                settled = at_rest and (radius >= 1e-3 or length < 0.9 * radius)
                return _State(u, flow, steps), mu, near.pulls, settled
            if value - best.value < 0.25 * predicted and best.flow.converged.all():
                # second-order correction: the same slopes through the voltages that the step really reached
                still = replace(near.linear, v=np.zeros_like(near.linear.v)).at(best.step.d)
                other = yield from self.trial(u, replace(near.linear, v=best.flow.v_pu - still), curve, radius)
                steps += 1
                best = other if other.value < best.value else best
            gain = (value - best.value) / predicted
            if gain >= 0.05:
                u, flow, value = best.u, best.flow, best.value
                near = yield from self.near(flow, best.step.mu)
                curve = self.curvature(near)
            if gain < 0.25:
                radius = 0.25 * min(radius, length)
            elif gain > 0.75:
                radius = min(2.0 * radius, 2.0)
