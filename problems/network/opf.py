"""Optimal power flow of one hour: move reactive injections at least cost so that every voltage keeps its limits.

    min  sum_c linear_c u_c + 1/2 quad_c (u_c - center_c)^2 + slack_cost sum_s prob_s slack_s
    s.t. v_min - slack_s <= |V|(p_s, q_s + effect u) <= v_max + slack_s    exact AC, every bus and scenario s
         lo <= u <= hi,  slack >= 0                                         paper 1, eqs. (47)-(52)

Successive QP on the exact power flow with exact sensitivities. The merit function is the objective itself, its slack
being the worst exceedance of the exact flow (an exact penalty); steps live in a trust region that the merit function
steers, with one second-order correction for the curvature of the voltages. Controls that only a need can make
worthwhile (`reserve`) join when their reduced cost linear - effect dV'mu is negative.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from decomp.errors import CoordinatorError
from decomp.messages import BoolArray, FloatArray, IntArray
from problems.network.feeder import Network
from problems.network.power_flow import Flow, solve
from problems.network.sensitivity import Sensitivity, sensitivity
from problems.network.voltage_qp import V_UNIT, Linear, Step, solve_step

FEASIBLE_PU = 1e-9  # an exceedance below this counts as none
DEAD_BAND_PU = 1e-11  # rounding of the flow, kept out of the merit function
ALL = -1


class NoFlowError(CoordinatorError):
    """A scenario has no power-flow solution."""

    def __init__(self, scenario: int, reason: str) -> None:
        self.scenario, self.reason = scenario, reason
        super().__init__(f"scenario {scenario}: {reason}")


@dataclass(frozen=True, eq=False)
class Controls:
    """What may be moved, C reactive injections of effect_c u_c kvar.

    bus (C,) number; scenario (C,) or ALL; effect (C,) +-1; linear (C,) cost per kvar; quad, center (C,); lo, hi (C,)
    kvar, finite; reserve (C,) True: rests at the bound nearest to 0 unless a voltage needs it
    """

    bus: IntArray
    scenario: IntArray
    effect: FloatArray
    linear: FloatArray
    quad: FloatArray
    center: FloatArray
    lo: FloatArray
    hi: FloatArray
    reserve: BoolArray

    @classmethod
    def everywhere(
        cls,
        bus: IntArray,
        effect: float,
        linear: FloatArray,
        quad: FloatArray,
        center: FloatArray,
        lo: FloatArray,
        hi: FloatArray,
    ) -> Controls:
        """Controls that act in every scenario and are no reserve."""
        size = len(bus)
        none = np.zeros(size, bool)
        return cls(bus, np.full(size, ALL), np.full(size, effect), linear, quad, center, lo, hi, none)

    def joined(self, other: Controls) -> Controls:
        """These controls, then the others."""
        names = [field.name for field in fields(self)]
        return Controls(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def cost(self, u: FloatArray) -> float:
        """Objective without slack."""
        return float(self.linear @ u + 0.5 * (self.quad * (u - self.center)) @ (u - self.center))


@dataclass(frozen=True, eq=False)
class HourProblem:
    """p_kw, q_kvar (S, n) net injections before any control; prob (S,); slack_cost per pu."""

    network: Network
    p_kw: FloatArray
    q_kvar: FloatArray
    prob: FloatArray
    controls: Controls
    slack_cost: float


@dataclass(frozen=True, eq=False)
class HourSolution:
    """u (C,) kvar; slack (S,) pu; v (S, n) complex; mu (S, n) cost per pu, > 0 where raising the voltage helps.

    pull (S, n) sum_k mu_sk d|V_k|/dq_i per kvar; cost with slack; steps = QPs solved; settled: the steps came to rest
    """

    u: FloatArray
    slack: FloatArray
    v: np.ndarray
    mu: FloatArray
    pull: FloatArray
    cost: float
    steps: int
    settled: bool

    @property
    def feasible(self) -> bool:
        """All limits are met without slack."""
        return bool(self.slack.max() <= FEASIBLE_PU)


def exceedance(network: Network, v_pu: FloatArray) -> FloatArray:
    """(S,) how far the worst voltage of each row of v_pu (S, n) is outside its limits, 0 if none is."""
    worst = np.maximum(network.v_min_pu - v_pu, v_pu - network.v_max_pu).max(axis=1)
    return np.where(worst > DEAD_BAND_PU, worst, 0.0)


def flow_with(problem: HourProblem, u: FloatArray) -> Flow:
    """The exact flow of every scenario with the controls at u."""
    controls, base = problem.controls, problem.network.base_kva
    q = problem.q_kvar.copy()
    for s in range(len(q)):
        acts = np.flatnonzero((controls.scenario == ALL) | (controls.scenario == s))
        np.add.at(q[s], controls.bus[acts], (controls.effect * u)[acts])
    return solve(problem.network, problem.p_kw / base, q / base)


def pull_of(network: Network, v: np.ndarray, mu: FloatArray) -> FloatArray:
    """(S, n) sum_k mu_sk d|V_k|/dq_i per kvar, at the voltages v (S, n)."""
    return np.stack([sensitivity(network, a).pull(m) for a, m in zip(v, mu, strict=True)]) / network.base_kva


def linearise(
    problem: HourProblem, flow: Flow, columns: IntArray, scale: FloatArray
) -> tuple[Linear, list[Sensitivity]]:
    """Voltages around a flow, as functions of the controls `columns`, x = u / scale."""
    controls, base = problem.controls, problem.network.base_kva
    place, slopes, exact = [], [], []
    for s in range(len(flow.v)):
        at = np.flatnonzero((controls.scenario[columns] == ALL) | (controls.scenario[columns] == s))
        chosen = columns[at]
        derivative = sensitivity(problem.network, flow.v[s])
        place.append(at)
        slopes.append(derivative.dv_dq(controls.bus[chosen]) * (controls.effect[chosen] * scale[chosen] / base))
        exact.append(derivative)
    return Linear(flow.v_pu, tuple(place), tuple(slopes)), exact


def solve_hour(problem: HourProblem, start: FloatArray, max_steps: int = 200) -> HourSolution:
    """Solve from `start` (C,) kvar (brought into the bounds). Raises NoFlowError where that has no solution."""
    controls = problem.controls
    u = np.clip(start, controls.lo, controls.hi)
    at_rest = np.clip(0.0, controls.lo, controls.hi)
    working = ~controls.reserve | (u != at_rest)
    working &= controls.hi > controls.lo
    flow = flow_with(problem, u)
    for s in np.flatnonzero(~flow.converged):
        raise NoFlowError(int(s), flow.reason[s])
    state = _State(u, flow, 0)
    penalty = 0.0
    while True:
        scale = _scale(controls)
        unit = _cost_unit(controls, np.flatnonzero(working), scale)
        # an exact penalty has to exceed the multipliers; one much larger only costs accuracy
        penalty = min(max(penalty, 1e4 * unit / V_UNIT), problem.slack_cost)
        state, step, exact, settled = _converge(problem, state, np.flatnonzero(working), scale, penalty, max_steps)
        slack = exceedance(problem.network, state.flow.v_pu)
        short = slack.max() > FEASIBLE_PU and penalty < problem.slack_cost
        mu = step.mu * (problem.slack_cost / penalty if short else 1.0)
        pull = np.stack([e.pull(m) for e, m in zip(exact, mu, strict=True)]) / problem.network.base_kva
        worth = _reduced_cost(controls, state.u, pull) < -1e-9 * (np.abs(controls.linear) + np.abs(pull).max())
        join = worth & ~working & (controls.hi > controls.lo)
        if not settled or not (join.any() or short):
            slack = np.where(slack > FEASIBLE_PU, slack, 0.0)
            cost = controls.cost(state.u) + problem.slack_cost * float(problem.prob @ slack)
            return HourSolution(state.u, slack, state.flow.v, mu, pull, cost, state.steps, settled)
        working = working | join
        if short and not join.any():
            penalty = min(100.0 * penalty, problem.slack_cost)


@dataclass(frozen=True, eq=False)
class _State:
    u: FloatArray
    flow: Flow
    steps: int


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
    """(C,) slope of the Lagrangian in each control."""
    every = pull.sum(axis=0)[controls.bus]
    own = pull[np.maximum(controls.scenario, 0), controls.bus]
    gain = controls.effect * np.where(controls.scenario == ALL, every, own)
    return controls.linear + controls.quad * (u - controls.center) - gain


def _converge(
    problem: HourProblem, state: _State, columns: IntArray, scale: FloatArray, penalty: float, max_steps: int
) -> tuple[_State, Step, list[Sensitivity], bool]:
    """Successive QP in the controls `columns` with a given penalty, until the QP predicts no decrease."""
    controls, network = problem.controls, problem.network
    d = scale[columns]
    weight = penalty * problem.prob
    unit = max(_cost_unit(controls, columns, scale), 1e-7 * penalty * V_UNIT)
    curve = controls.quad[columns] * d * d / unit

    def merit(u: FloatArray, flow: Flow) -> float:
        if not flow.converged.all():
            return np.inf
        return controls.cost(u) + float(weight @ exceedance(network, flow.v_pu))

    radius, value, steps = 1.0, merit(state.u, state.flow), state.steps
    linear, exact = linearise(problem, state.flow, columns, scale)
    while True:
        u = state.u
        lo = np.maximum((controls.lo - u)[columns] / d, -radius)
        hi = np.minimum((controls.hi - u)[columns] / d, radius)

        def trial(
            around: Linear, u: FloatArray = u, box: tuple[FloatArray, FloatArray] = (lo, hi)
        ) -> tuple[Step, FloatArray, Flow, float]:
            slope = (controls.linear + controls.quad * (u - controls.center))[columns] * d / unit
            step = solve_step(slope, curve, *box, around, network.v_min_pu, network.v_max_pu, weight / unit)
            new = u.copy()
            new[columns] = np.clip(u[columns] + step.d * d, controls.lo[columns], controls.hi[columns])
            flow = flow_with(problem, new)
            return step, new, flow, merit(new, flow)

        step, new, flow, new_value = trial(linear)
        steps += 1
        predicted = value - controls.cost(u) - step.value * unit
        at_rest = predicted <= 1e-11 * max(abs(value), unit)
        if at_rest or steps >= max_steps or radius < 1e-12:
            if new_value <= value:
                state = _State(new, flow, steps)
                linear, exact = linearise(problem, flow, columns, scale)
            return replace(state, steps=steps), replace(step, mu=step.mu * unit), exact, at_rest
        gain = (value - new_value) / predicted
        if gain < 0.25 and flow.converged.all():
            # second-order correction: the same slopes through the voltages that the step really reached
            moved = [v - g @ step.d[c] for v, c, g in zip(flow.v_pu, linear.columns, linear.slopes, strict=True)]
            other_step, other, other_flow, other_value = trial(replace(linear, v=np.stack(moved)))
            steps += 1
            if other_value < new_value:
                step, new, flow, new_value = other_step, other, other_flow, other_value
                gain = (value - new_value) / predicted
        if gain >= 0.05:
            state, value = _State(new, flow, steps), new_value
            linear, exact = linearise(problem, flow, columns, scale)
        if gain < 0.25:
            radius = 0.25 * min(radius, float(np.abs(step.d).max(initial=0.0)))
        elif gain > 0.75:
            radius = min(2.0 * radius, 2.0)
