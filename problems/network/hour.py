"""One hour of the network: injections that may be moved, the exact flow with them, voltages linearised around it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from decomp.errors import CoordinatorError
from decomp.messages import BoolArray, FloatArray, IntArray
from problems.network.feeder import Network
from problems.network.power_flow import Flow, solve
from problems.network.sensitivity import Sensitivity, sensitivities
from problems.network.voltage_qp import Linear

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
    """What may be moved, C injections of effect_c u_c kvar, or kW where active.

    bus (C,) number; scenario (C,) or ALL; effect (C,) +-1; linear (C,) cost per kvar; quad, center (C,); lo, hi (C,)
    kvar, finite; reserve (C,) True: rests at the bound nearest to 0 unless a voltage needs it;
    active (C,) True: active power
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
    active: BoolArray

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
        active: BoolArray | None = None,
    ) -> Controls:
        """Controls that act in every scenario and are no reserve; reactive unless told otherwise."""
        size = len(bus)
        none = np.zeros(size, bool)
        kind = none if active is None else active
        return cls(bus, np.full(size, ALL), np.full(size, effect), linear, quad, center, lo, hi, none, kind)

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


def exceedance(network: Network, v_pu: FloatArray) -> FloatArray:
    """(S,) how far the worst voltage of each row of v_pu (S, n) is outside its limits, 0 if none is."""
    worst = np.maximum(network.v_min_pu - v_pu, v_pu - network.v_max_pu).max(axis=1)
    return np.where(worst > DEAD_BAND_PU, worst, 0.0)


def flow_with(problem: HourProblem, u: FloatArray) -> Flow:
    """The exact flow of every scenario with the controls at u."""
    controls, base = problem.controls, problem.network.base_kva
    p, q = problem.p_kw.copy(), problem.q_kvar.copy()
    moved, everywhere = controls.effect * u, controls.scenario == ALL
    for injected, kind in ((p, controls.active), (q, ~controls.active)):
        for c in np.flatnonzero(everywhere & kind):
            injected[:, controls.bus[c]] += moved[c]
        own = np.flatnonzero(~everywhere & kind)
        np.add.at(injected, (controls.scenario[own], controls.bus[own]), moved[own])
    return solve(problem.network, p / base, q / base)


def pull_of(network: Network, v: np.ndarray, mu: FloatArray) -> FloatArray:
    """(S, n) sum_k mu_sk d|V_k|/dq_i per kvar, at the voltages v (S, n)."""
    return np.stack([e.pull(m) for e, m in zip(sensitivities(network, v), mu, strict=True)]) / network.base_kva


def acting(controls: Controls, columns: IntArray, count: int) -> list[IntArray]:
    """For each of `count` scenarios the places among `columns` of the controls that act in it, ascending."""
    scenario = controls.scenario[columns]
    everywhere, order = np.flatnonzero(scenario == ALL), np.argsort(scenario, kind="stable")
    ends = np.searchsorted(scenario[order], np.arange(count + 1))
    return [np.sort(np.concatenate([everywhere, order[a:b]])) for a, b in pairwise(ends)]


def linearise(
    problem: HourProblem, flow: Flow, columns: IntArray, scale: FloatArray
) -> tuple[Linear, list[Sensitivity]]:
    """Voltages around a flow, as functions of the controls `columns`, x = u / scale."""
    controls, base = problem.controls, problem.network.base_kva
    place, exact = acting(controls, columns, len(flow.v)), sensitivities(problem.network, flow.v)
    slopes = []
    for at, derivative in zip(place, exact, strict=True):
        chosen = columns[at]
        slopes.append(
            derivative.dv(controls.bus[chosen], controls.active[chosen])
            * (controls.effect[chosen] * scale[chosen] / base)
        )
    return Linear(flow.v_pu, tuple(place), tuple(slopes)), exact
