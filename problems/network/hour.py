"""One hour of the network: injections that may be moved, the exact flow with them, voltages linearised around it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from decomp.errors import CoordinatorError
from decomp.messages import BoolArray, FloatArray, IntArray
from decomp.parallel.row_tasks import Steps, finished
from problems.network.feeder import Network
from problems.network.power_flow import ComplexArray, Flow, magnitude
from problems.network.row_tasks import derivative_steps, do, flow_steps
from problems.network.slack import BusSlack, Slack, WorstSlack
from problems.network.voltage_qp import Linear

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
    """p_kw, q_kvar (S, n) net injections before any control; prob (S,).

    slack_cost per pu of the worst exceedance of each scenario; slack: what exceedances cost instead, bus by bus
    """

    network: Network
    p_kw: FloatArray
    q_kvar: FloatArray
    prob: FloatArray
    controls: Controls
    slack_cost: float
    slack: BusSlack | None = None

    @property
    def most(self) -> float:
        """The greatest cost of an exceedance per pu, in a scenario of probability 1."""
        return self.slack_cost if self.slack is None else float((self.slack.far / self.prob[:, None]).max())

    def slack_up_to(self, penalty: float) -> Slack:
        """What exceedances cost, none more than `penalty` per pu in a scenario of probability 1."""
        weight = min(penalty, self.most) * self.prob
        return WorstSlack(weight) if self.slack is None else self.slack.at_most(weight)


def flow_with(problem: HourProblem, u: FloatArray) -> Flow:
    """The exact flow of every scenario with the controls at u."""
    return finished(flow_steps_with(problem, u), partial(do, problem.network))


def flow_steps_with(problem: HourProblem, u: FloatArray) -> Steps[Flow]:
    """`flow_with` as work in rows."""
    controls, base = problem.controls, problem.network.base_kva
    p, q = problem.p_kw.copy(), problem.q_kvar.copy()
    moved, everywhere = controls.effect * u, controls.scenario == ALL
    for injected, kind in ((p, controls.active), (q, ~controls.active)):
        for c in np.flatnonzero(everywhere & kind):
            injected[:, controls.bus[c]] += moved[c]
        own = np.flatnonzero(~everywhere & kind)
        np.add.at(injected, (controls.scenario[own], controls.bus[own]), moved[own])
    return flow_steps(problem.network, p / base, q / base)


def pull_steps(network: Network, v: ComplexArray, mu: FloatArray) -> Steps[FloatArray]:
    """(S, n) sum_k mu_sk d|V_k|/dq_i per kvar, at the voltages v (S, n)."""
    none = np.zeros(0, np.int64)
    found = yield from derivative_steps(v, mu, none, none.astype(bool), 0)
    return np.asarray(found.pulls[:, 1] / network.base_kva)


@dataclass(frozen=True, eq=False)
class Around:
    """A point and how voltages answer near it.

    linear  voltages as functions of the controls `columns`, x = u / scale
    pulls   (S, 2, n) sum_k mu_sk d|V_k|/dp_i, then .../dq_i, per kW and kvar
    bend    (F, F) sum_s sum_k mu_sk d^2|V_sk| among the controls of `columns` that are no reserve, per kvar^2
    """

    linear: Linear
    pulls: FloatArray
    bend: FloatArray


def around_steps(
    problem: HourProblem, v: ComplexArray, columns: IntArray, scale: FloatArray, mu: FloatArray
) -> Steps[Around]:
    """Linearise at voltages v (S, n), with multipliers mu (S, n) for pulls and bend."""
    controls, base = problem.controls, problem.network.base_kva
    free = columns[~controls.reserve[columns]]
    order = np.concatenate([free, columns[controls.reserve[columns]]])
    # directions are few: a bus and a kind of power each, however many scenarios have a reserve there
    number: dict[tuple[int, bool], int] = {}
    direction = np.zeros(len(controls.bus), np.int64)
    for c, bus, active in zip(
        order.tolist(), controls.bus[order].tolist(), controls.active[order].tolist(), strict=True
    ):
        direction[c] = number.setdefault((bus, active), len(number))
    buses, active_ = (np.array([key[i] for key in number], kind) for i, kind in ((0, np.int64), (1, bool)))
    curved = int(direction[free].max(initial=-1)) + 1
    found = yield from derivative_steps(v, mu, buses, active_, curved)
    everywhere = controls.scenario[columns] == ALL
    shared, own = np.flatnonzero(everywhere), np.flatnonzero(~everywhere)
    own = own[np.argsort(controls.scenario[columns[own]], kind="stable")]
    per_unit = controls.effect * scale / base
    a, b = columns[shared], columns[own]
    slopes = found.slopes[:, :, direction[a]] * per_unit[a]
    own_slopes = found.slopes[controls.scenario[b], :, direction[b]] * per_unit[b, None]
    linear = Linear(magnitude(v), shared, slopes, own, controls.scenario[b], own_slopes)
    scenarios = np.arange(len(v))[:, None]
    effect = controls.effect[free] * ((controls.scenario[free] == ALL) | (controls.scenario[free] == scenarios))
    bend = found.bend[:, direction[free][:, None], direction[free]] * effect[:, :, None] * effect[:, None, :]
    return Around(linear, found.pulls / base, bend.sum(axis=0) / base**2)
