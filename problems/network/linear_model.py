"""The hour's problem with voltages linearised at a point: a bound that is proven, and the model itself.

min linear'u + slack_cost sum_s prob_s t_s
s.t. v_min - t_s <= v_s + G_s (u - u0) <= v_max + t_s,  lo <= u <= hi,  t >= 0
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray, QuadraticModel
from problems.network.hour import ALL, HourProblem, flow_with, linearise
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
        size = len(u0)
        around, _ = linearise(problem, flow_with(problem, u0), np.arange(size), np.ones(size))
        return cls(problem, u0, around)

    @cached_property
    def _needed(self) -> BoolArray:
        """(S,) scenarios in which a voltage can reach a limit while the reserves rest.

        Elsewhere a reserve costs something and is no use, so it rests in an optimum, and no row is kept there.
        """
        problem, controls = self.problem, self.problem.controls
        rests = self._resting
        lo, hi = np.where(rests, 0.0, controls.lo), np.where(rests, 0.0, controls.hi)
        network, needed = problem.network, np.zeros(len(problem.prob), bool)
        for s, (g, columns) in enumerate(zip(self.linear.slopes, self.linear.columns, strict=True)):
            base = self.linear.v[s] - g @ self.u0[columns]
            a, b = g * lo[columns], g * hi[columns]
            low, high = base + np.minimum(a, b).sum(axis=1), base + np.maximum(a, b).sum(axis=1)
            needed[s] = bool(np.any(low < network.v_min_pu + ROUNDING) or np.any(high > network.v_max_pu - ROUNDING))
        return needed

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

        For any multipliers mu with sum_n |mu_sn| <= w_s (w_s = slack_cost prob_s):
        min >= c'u0 + sum mu+ (v_min - v) - sum mu- (v_max - v) + sum_c min_d (c - sum_s G_s'mu_s)_c d_c,
        d_c in [lo, hi] - u0.
        mu comes from an interior-point solve and is scaled to satisfy the condition, so the bound holds however
        exact that solve was. A first solve with a smaller slack cost is better conditioned and enough where no slack
        is needed; the better bound counts.
        """
        controls = self.problem.controls
        c = controls.linear.copy()
        c[: len(price)] += price
        lo, hi = controls.lo - self.u0, controls.hi - self.u0
        stake = float((np.abs(c) * np.maximum(np.abs(lo), np.abs(hi))).max(initial=0.0)) or 1.0
        full = self.problem.slack_cost * self.problem.prob
        network, at, kept = self.problem.network, np.flatnonzero(self._needed), self._kept
        limits = (network.v_min_pu, network.v_max_pu)
        scale = np.maximum(np.maximum(np.abs(controls.lo), np.abs(controls.hi)), 1e-9)
        slopes = tuple(self.linear.slopes[s] * scale[self.linear.columns[s]] for s in at)
        columns = tuple(np.searchsorted(kept, self.linear.columns[s]) for s in at)
        around, d = Linear(self.linear.v[at], columns, slopes), scale[kept]
        flat = Hessian(np.zeros_like(d), np.zeros(0, np.int64), np.zeros((0, 0)))
        mu, bounds = np.zeros_like(self.linear.v), []
        for weight in (np.minimum(full, 1e4 * stake / V_UNIT), full):
            step = solve_step(
                c[kept] * d / stake, flat, lo[kept] / d, hi[kept] / d, around, *limits, weight[at] / stake
            )
            mu[at] = step.mu * stake
            bounds.append(self._dual_value(c, mu, lo, hi, full))
            if step.solved and step.slack.max(initial=0.0) <= 1e-9:
                break
        return max(bounds)

    def _dual_value(self, c: FloatArray, mu: FloatArray, lo: FloatArray, hi: FloatArray, weight: FloatArray) -> float:
        total = np.abs(mu).sum(axis=1)
        mu = mu * np.minimum(1.0, weight / np.where(total > 0, total, 1.0))[:, None]
        network, v = self.problem.network, self.linear.v
        terms = np.maximum(mu, 0) * (network.v_min_pu - v) - np.maximum(-mu, 0) * (network.v_max_pu - v)
        reduced = c.copy()
        for s, (g, columns) in enumerate(zip(self.linear.slopes, self.linear.columns, strict=True)):
            reduced[columns] -= g.T @ mu[s]
        parts = np.concatenate([c * self.u0, terms.ravel(), np.minimum(reduced * lo, reduced * hi)])
        # rounding of this sum, on the safe side
        return float(parts.sum() - 1e-15 * len(parts) * np.abs(parts).sum())

    def quadratic(self, z_count: int) -> QuadraticModel:
        """The model as arrays, v = [u, t]; the first z_count columns are Z.

        Rows that can never bind are left out, and with them the slack and the reserves of scenarios that have none.
        """
        problem, controls, kept = self.problem, self.problem.controls, self._kept
        at = np.flatnonzero(self._needed)
        size, count = len(kept), len(at)
        network = problem.network
        blocks, low = [np.zeros((0, size + count))], [np.zeros(0)]
        for i, s in enumerate(at):
            g, columns = self.linear.slopes[s], self.linear.columns[s]
            base = self.linear.v[s] - g @ self.u0[columns]
            ends = g * controls.lo[columns], g * controls.hi[columns]
            under = base + np.minimum(*ends).sum(axis=1) < network.v_min_pu
            over = base + np.maximum(*ends).sum(axis=1) > network.v_max_pu
            for rows, sign, limit in ((under, 1.0, network.v_min_pu), (over, -1.0, network.v_max_pu)):
                block = np.zeros((int(rows.sum()), size + count))
                block[:, np.searchsorted(kept, columns)] = sign * g[rows]
                block[:, size + i] = 1.0
                blocks.append(block)
                low.append(sign * (limit - base)[rows])
        A, lo = np.concatenate(blocks), np.concatenate(low)
        return QuadraticModel(
            P=np.zeros((size + count, size + count)),
            q=np.concatenate([controls.linear[kept], problem.slack_cost * problem.prob[at]]),
            A=A,
            lo=lo,
            hi=np.full(len(lo), np.inf),
            lb=np.concatenate([controls.lo[kept], np.zeros(count)]),
            ub=np.concatenate([controls.hi[kept], np.full(count, np.inf)]),
            z_cols=np.arange(z_count),
        )
