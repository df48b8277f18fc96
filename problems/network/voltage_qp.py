"""One step of the optimal power flow: a QP on linearised voltages whose limits are elastic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from decomp.blocks.solve.piqp_call import ACCURACIES, call_piqp
from decomp.messages import FloatArray, IntArray, Status
from problems.network.slack import Slack

V_UNIT = 0.01  # rows and slacks are solved in hundredths of a per unit, the size of what voltages do
DENSE_LIMIT = 150  # columns from which the sparse factorisation is the faster one
ROUNDING_PU = 1e-12  # by so much a limit that has not been asked for may be exceeded
TOLERANCES = (1e-11, 1e-9, 1e-7)  # tried in this order; a looser answer still has to pass the merit test


@dataclass(frozen=True, eq=False)
class Linear:
    """Voltages near a point: |v_s|(x + d) = v_s + slopes_s d[shared] + sum of own_slopes d[own] over the own of s.

    v (S, n) pu;  shared (E,) variables that act in every scenario;  slopes (S, n, E) pu per unit of x
    own (R,) variables that act in one scenario each, scenario (R,) ascending;  own_slopes (R, n)
    """

    v: FloatArray
    shared: IntArray
    slopes: FloatArray
    own: IntArray
    scenario: IntArray
    own_slopes: FloatArray

    def at(self, d: FloatArray) -> FloatArray:
        """(S, n) voltages after a step d (C,)."""
        out = self.v + (self.slopes * d[self.shared]).sum(axis=2)
        np.add.at(out, self.scenario, self.own_slopes * d[self.own, None])
        return out

    def range(self, lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(S, n), (S, n): least and greatest voltages that steps between lo and hi (C,) can lead to."""
        a, b = self.slopes * lo[self.shared], self.slopes * hi[self.shared]
        low, high = self.v + np.minimum(a, b).sum(axis=2), self.v + np.maximum(a, b).sum(axis=2)
        a, b = self.own_slopes * lo[self.own, None], self.own_slopes * hi[self.own, None]
        np.add.at(low, self.scenario, np.minimum(a, b))
        np.add.at(high, self.scenario, np.maximum(a, b))
        return low, high

    def pulled(self, mu: FloatArray, size: int) -> FloatArray:
        """(size,) sum_s slopes' mu_s for every variable."""
        out = np.zeros(size)
        out[self.shared] = (self.slopes * mu[:, :, None]).sum(axis=1).sum(axis=0)
        out[self.own] = (self.own_slopes * mu[self.scenario]).sum(axis=1)
        return out

    def rows(self, scenario: IntArray, bus: IntArray, sign: FloatArray, size: int) -> sparse.csr_matrix:
        """(r, size) slopes of the voltages at the given places, times sign."""
        count, at = len(scenario), np.arange(len(scenario))
        first, last = (np.searchsorted(self.scenario, scenario, side) for side in ("left", "right"))
        many = last - first
        of = np.repeat(at, many)  # every own variable of a row's scenario
        k = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many) + np.repeat(first, many)
        values = [(sign[:, None] * self.slopes[scenario, bus]).ravel(), sign[of] * self.own_slopes[k, bus[of]]]
        rows = [np.repeat(at, len(self.shared)), of]
        cols = [np.tile(self.shared, count), self.own[k]]
        places = (np.concatenate(rows), np.concatenate(cols))
        return sparse.csr_matrix((np.concatenate(values), places), shape=(count, size))


@dataclass(frozen=True, eq=False)
class Step:
    """d (C,); slack (k,) pu; mu (S, n) multipliers, > 0 where raising the voltage helps; value of the objective."""

    d: FloatArray
    slack: FloatArray
    mu: FloatArray
    value: float
    solved: bool


@dataclass(frozen=True, eq=False)
class Hessian:
    """diag(own) plus a positive semidefinite block among the variables `at` (k,): block (k, k)."""

    own: FloatArray
    at: IntArray
    block: FloatArray

    def times(self, d: FloatArray) -> FloatArray:
        """H d."""
        out = self.own * d
        out[self.at] += self.block @ d[self.at]
        return out

    def matrix(self, extra: int) -> sparse.csc_matrix:
        """H with `extra` empty rows and columns behind."""
        size, k = len(self.own) + extra, len(self.at)
        own = np.arange(len(self.own))
        rows = np.concatenate([own, np.repeat(self.at, k)])
        cols = np.concatenate([own, np.tile(self.at, k)])
        values = np.concatenate([self.own, self.block.ravel()])
        return sparse.csc_matrix((values, (rows, cols)), shape=(size, size))


def solve_step(
    gradient: FloatArray,
    hessian: Hessian,
    lo: FloatArray,
    hi: FloatArray,
    linear: Linear,
    v_min: FloatArray,
    v_max: FloatArray,
    elastic: Slack,
) -> Step:
    """min g'd + 1/2 d'Hd + w't  s.t.  v_min - E t <= v + slopes d <= v_max + E t, lo <= d <= hi, 0 <= t <= most.

    g = gradient, lo, hi (C,), bounds finite; v_min, v_max (n,) pu; w, E, most: the columns of `elastic`.
    Only rows that some d within the bounds brings to their limit are asked for, and of the scenarios only those that
    the answer would violate without: first the worst at d = 0, then all that the answer to these violates, until none
    is. So the answer is that of the full problem.
    """
    count, n = linear.v.shape
    low, high = linear.range(lo, hi)
    under, over = np.nonzero(low < v_min), np.nonzero(high > v_max)
    scenario, bus = (np.concatenate([under[i], over[i]]) for i in (0, 1))
    sign = np.repeat([1.0, -1.0], [len(under[0]), len(over[0])])
    limit = np.where(sign > 0, v_min[bus], v_max[bus])

    def missing(v: FloatArray) -> FloatArray:
        return np.asarray(sign * (limit - v[scenario, bus]))

    asked = np.zeros(count, bool)
    short = missing(linear.v)
    for side in (1.0, -1.0):
        of_side = np.flatnonzero(sign == side)
        asked[scenario[of_side[np.argmax(short[of_side])]] if len(of_side) else []] = True
    while True:
        at = np.flatnonzero(asked[scenario])
        d, slack, paid, z, solved = _answer(
            gradient, hessian, lo, hi, linear, scenario[at], bus[at], sign[at], short[at], elastic
        )
        violated = np.zeros(count, bool)
        violated[scenario[missing(linear.at(d)) > ROUNDING_PU]] = True
        if not (violated & ~asked).any():
            break
        asked |= violated
    mu = np.zeros((count, n))
    np.add.at(mu, (scenario[at], bus[at]), sign[at] * z)
    return Step(d, slack, mu, float(gradient @ d + 0.5 * hessian.times(d) @ d) + paid, solved)


def _answer(
    gradient: FloatArray,
    hessian: Hessian,
    lo: FloatArray,
    hi: FloatArray,
    linear: Linear,
    scenario: IntArray,
    bus: IntArray,
    sign: FloatArray,
    short: FloatArray,
    elastic: Slack,
) -> tuple[FloatArray, FloatArray, float, FloatArray, bool]:
    """The step with these rows, sign (slopes d) + E t >= short: d, t (k,), its cost, multipliers (r,), solved."""
    size = len(gradient)
    if len(short) == 0 and not hessian.block.any():
        return _without_rows(gradient, hessian.own, lo, hi), short, 0.0, short, True
    weight, most, E = elastic.columns(scenario, bus, sign)
    A = sparse.hstack([linear.rows(scenario, bus, sign, size) / V_UNIT, E], format="csc")
    c = np.concatenate([gradient, weight * V_UNIT])
    lb, ub = np.concatenate([lo, np.zeros(len(most))]), np.concatenate([hi, most / V_UNIT])
    x, z, solved = _piqp(hessian.matrix(len(most)), c, A, short / V_UNIT, lb, ub)
    t = np.clip(x[size:] * V_UNIT, 0.0, most)
    return np.clip(x[:size], lo, hi), t, float(weight @ t), z / V_UNIT, solved


def _without_rows(gradient: FloatArray, hessian: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
    """The separable box QP: -gradient/hessian within the bounds, a bound where there is no curvature, 0 where flat."""
    curved = hessian > 0
    d = np.where(gradient > 0, lo, np.where(gradient < 0, hi, 0.0))
    return np.clip(np.where(curved, -gradient / np.where(curved, hessian, 1.0), d), lo, hi)


def _piqp(
    H: sparse.csc_matrix, c: FloatArray, A: sparse.csc_matrix, b: FloatArray, lb: FloatArray, ub: FloatArray
) -> tuple[FloatArray, FloatArray, bool]:
    """min 1/2 x'Hx + c'x, A x >= b, lb <= x <= ub; returns x, the rows' multipliers (>= 0), solved.

    A fresh setup each time: the answer depends on the problem alone.
    """
    dense = len(c) <= DENSE_LIMIT
    free = np.full(len(b), np.inf)
    x, z = np.zeros(len(c)), np.zeros(len(b))
    P = H.toarray(order="F") if dense else H
    G = A.toarray(order="F") if dense else A
    for tolerance in TOLERANCES:
        ended = call_piqp((P, c, None, None, G, b, free, lb, ub), dict.fromkeys(ACCURACIES, tolerance), dense=dense)
        if np.all(np.isfinite(ended.x)):
            x, z = ended.x, ended.lower
        if ended.status is Status.OPTIMAL:
            return x, np.maximum(z, 0.0), True
    return x, np.maximum(z, 0.0), False
