"""The hour's problem with voltages linearised at a point: a bound that is proven, and the model itself.

min linear'u + cost of slack
s.t. v_min - slack <= v_s + G_s (u - u0) <= v_max + slack,  lo <= u <= hi,  slack >= 0

The slack is the worst exceedance of each scenario at slack_cost, or every bus's own, see `HourProblem.slack`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray, QuadraticModel
from decomp.parallel.row_tasks import Steps, finished
from problems.network.hour import ALL, HourProblem, around_steps, flow_steps_with
from problems.network.power_flow import ComplexArray
from problems.network.row_tasks import do
from problems.network.slack import Slack, WorstSlack
from problems.network.voltage_qp import V_UNIT, Hessian, Linear, solve_step

ROUNDING = 1e-12  # pu, of these sums: on the side of keeping a row


@dataclass(frozen=True, eq=False)
class LinearModel:
    """problem: the hour; u0 (C,): where it is linearised; linear: voltages around u0 per kvar of each control."""

    problem: HourProblem
    u0: FloatArray
    linear: Linear

    @classmethod
    def at(cls, problem: HourProblem, u0: FloatArray) -> LinearModel:
        """Linearise with the exact flow and sensitivities at u0."""
        return finished(cls.steps(problem, u0), partial(do, problem.network))

    @classmethod
    def steps(cls, problem: HourProblem, u0: FloatArray) -> Steps[LinearModel]:
        """`at`, flows and derivatives as work in rows."""
        flow = yield from flow_steps_with(problem, u0)
        return (yield from cls.around(problem, u0, flow.v))

    @classmethod
    def around(cls, problem: HourProblem, u0: FloatArray, v: ComplexArray) -> Steps[LinearModel]:
        """`steps` where the voltages v (S, n) at u0 are known."""
        every, per_unit = np.arange(len(u0)), np.ones(len(u0))
        near = yield from around_steps(problem, v, every, per_unit, np.zeros(v.shape))
        return cls(problem, u0, near.linear)

    @cached_property
    def _at_zero(self) -> Linear:
        """The same voltages, as functions of u itself."""
        return replace(self.linear, v=self.linear.at(-self.u0))

    @cached_property
    def _needed(self) -> BoolArray:
        """(S,) scenarios in which a voltage can reach a limit while the reserves rest.

        Elsewhere a reserve costs something and is no use, so it rests in an optimum, and no row is kept there.
        """
        controls, network, rests = self.problem.controls, self.problem.network, self._resting
        low, high = self._at_zero.range(np.where(rests, 0.0, controls.lo), np.where(rests, 0.0, controls.hi))
        near = (low < network.v_min_pu + ROUNDING) | (high > network.v_max_pu - ROUNDING)
        return np.asarray(near.any(axis=1))

    @cached_property
    def _resting(self) -> BoolArray:
        """(C,) reserves of one scenario whose rest is 0 and whose use costs something."""
        controls = self.problem.controls
        own = controls.reserve & (controls.scenario != ALL)
        return own & (controls.lo == 0) & (controls.linear >= 0) & (controls.quad == 0)

    @cached_property
    def _kept(self) -> IntArray:
        """Controls of the model: all but the reserves that rest for good."""
        scenario = np.maximum(self.problem.controls.scenario, 0)
        return np.flatnonzero(~self._resting | self._needed[scenario])

    def bound(self, price: FloatArray) -> float:
        """Lower bound of the model's least cost with `price` (cost per kvar) added to its first len(price) controls.

        For any multipliers mu with sum_n |mu_sn| <= w_s (w_s = slack_cost prob_s), or |mu_sn| <= far_sn bus by bus:
        min >= c'u0 + sum mu+ (v_min - v) - sum mu- (v_max - v) + sum_c min_d (c - sum_s G_s'mu_s)_c d_c
               - sum max(|mu| - near, 0) rest,   d_c in [lo, hi] - u0; the last sum bus by bus only.
        mu comes from an interior-point solve and is scaled to satisfy the condition, so the bound holds however
        exact that solve was. A first solve with a smaller slack cost is better conditioned and enough where no slack
        is needed; the better bound counts.
        """
        controls = self.problem.controls
        c = controls.linear.copy()
        c[: len(price)] += price
        lo, hi = controls.lo - self.u0, controls.hi - self.u0
        stake = float((np.abs(c) * np.maximum(np.abs(lo), np.abs(hi))).max(initial=0.0)) or 1.0
        network, at, kept = self.problem.network, np.flatnonzero(self._needed), self._kept
        limits = (network.v_min_pu, network.v_max_pu)
        scale = np.maximum(np.maximum(np.abs(controls.lo), np.abs(controls.hi)), 1e-9)
        around, d = self._of_needed(scale), scale[kept]
        flat = Hessian(np.zeros_like(d), np.zeros(0, np.int64), np.zeros((0, 0)))
        mu, bounds = np.zeros_like(self.linear.v), []
        for penalty in (1e4 * stake / V_UNIT, np.inf):
            elastic = self._elastic(at, penalty).scaled(1.0 / stake)
            step = solve_step(c[kept] * d / stake, flat, lo[kept] / d, hi[kept] / d, around, *limits, elastic)
            mu[at] = step.mu * stake
            bounds.append(self._dual_value(c, mu, lo, hi))
            if step.solved and step.slack.max(initial=0.0) <= 1e-9:
                break
        return max(bounds)

    def _elastic(self, at: IntArray, penalty: float) -> Slack:
        """What exceedances of the scenarios `at` cost, none more than penalty per pu, whatever the probability."""
        problem, most = self.problem, np.full(len(at), penalty)
        if problem.slack is None:
            return WorstSlack(np.minimum(problem.slack_cost * problem.prob[at], most))
        return problem.slack.of(at).at_most(most)

    def _dual_value(self, c: FloatArray, mu: FloatArray, lo: FloatArray, hi: FloatArray) -> float:
        if self.problem.slack is None:
            total, weight = np.abs(mu).sum(axis=1), self.problem.slack_cost * self.problem.prob
            mu, of_slack = mu * np.minimum(1.0, weight / np.where(total > 0, total, 1.0))[:, None], 0.0
        else:
            mu, of_slack = self.problem.slack.dual(mu)
        network, v = self.problem.network, self.linear.v
        terms = np.maximum(mu, 0) * (network.v_min_pu - v) - np.maximum(-mu, 0) * (network.v_max_pu - v)
        reduced = c.copy()
        reduced -= self.linear.pulled(mu, len(c))
        parts = np.concatenate([c * self.u0, terms.ravel(), np.minimum(reduced * lo, reduced * hi), [of_slack]])
        # rounding of this sum, on the safe side
        return float(parts.sum() - 1e-15 * len(parts) * np.abs(parts).sum())

    def quadratic(self, z_count: int) -> QuadraticModel:
        """The model as arrays, v = [u, t]; the first z_count columns are Z.

        Rows that can never bind are left out, and with them the slack and the reserves of scenarios that have none.
        """
        problem, controls, kept = self.problem, self.problem.controls, self._kept
        at, network = np.flatnonzero(self._needed), problem.network
        size, count = len(kept), len(at)
        zero = replace(self._of_needed(np.ones(len(controls.lo))), v=self._at_zero.v[at])
        low, high = zero.range(controls.lo[kept], controls.hi[kept])
        under, over = low < network.v_min_pu, high > network.v_max_pu
        # scenario by scenario, lower limits first
        side, bus = np.nonzero(np.stack([under, over], axis=1).reshape(2 * count, under.shape[1]))
        scenario, sign = side // 2, np.where(side % 2 == 0, 1.0, -1.0)
        weight, most, E = self._elastic(at, np.inf).columns(scenario, bus, sign)
        A = np.hstack([zero.rows(scenario, bus, sign, size).toarray(), E.toarray()])
        width = A.shape[1]
        lo = sign * (np.where(sign > 0, network.v_min_pu[bus], network.v_max_pu[bus]) - zero.v[scenario, bus])
        return QuadraticModel(
            P=np.zeros((width, width)),
            q=np.concatenate([controls.linear[kept], weight]),
            A=A,
            lo=lo,
            hi=np.full(len(lo), np.inf),
            lb=np.concatenate([controls.lo[kept], np.zeros(len(most))]),
            ub=np.concatenate([controls.hi[kept], most]),
            z_cols=np.arange(z_count),
        )

    def _of_needed(self, scale: FloatArray) -> Linear:
        """Voltages of the needed scenarios as functions of the kept controls, x = u / scale."""
        linear, at, kept = self.linear, np.flatnonzero(self._needed), self._kept
        of = np.flatnonzero(self._needed[linear.scenario])
        own = linear.own[of]
        return Linear(
            v=linear.v[at],
            shared=np.searchsorted(kept, linear.shared),
            slopes=linear.slopes[at] * scale[linear.shared],
            own=np.searchsorted(kept, own),
            scenario=np.searchsorted(at, linear.scenario[of]),
            own_slopes=linear.own_slopes[of] * scale[own, None],
        )
