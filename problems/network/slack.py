"""Voltages outside their limits: how far, and what that costs where they cannot be brought inside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import sparse

from decomp.messages import FloatArray, IntArray
from problems.network.feeder import Network

FEASIBLE_PU = 1e-9  # an exceedance below this counts as none
DEAD_BAND_PU = 1e-11  # rounding of the flow, kept out of the merit function


def outside(network: Network, v_pu: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(S, n), (S, n): how far each voltage lies below its lower and above its upper limit, 0 inside."""
    low, high = network.v_min_pu - v_pu, v_pu - network.v_max_pu
    return np.where(low > DEAD_BAND_PU, low, 0.0), np.where(high > DEAD_BAND_PU, high, 0.0)


def exceedance(network: Network, v_pu: FloatArray) -> FloatArray:
    """(S,) how far the worst voltage of each row of v_pu (S, n) is outside its limits, 0 if none is."""
    low, high = outside(network, v_pu)
    return np.asarray(np.maximum(low, high).max(axis=1))


class Slack(Protocol):
    """The convex cost of voltages outside their limits, in columns t >= 0 of rows +-(v + slopes d) + E t >= +-limit."""

    def cost(self, network: Network, v_pu: FloatArray) -> float:
        """Of the voltages v_pu (S, n)."""

    def columns(
        self, scenario: IntArray, bus: IntArray, sign: FloatArray
    ) -> tuple[FloatArray, FloatArray, sparse.csc_matrix]:
        """Cost per pu (k,), upper bound in pu (k,), E (r, k) for rows of lower (sign 1) and upper limits (sign -1)."""

    def scaled(self, factor: float) -> Slack:
        """All costs times a factor."""


@dataclass(frozen=True)
class WorstSlack:
    """sum_s weight_s max_i exceedance_si: an exact penalty wherever all voltages can be brought inside; weight (S,)."""

    weight: FloatArray

    def cost(self, network: Network, v_pu: FloatArray) -> float:
        return float(self.weight @ exceedance(network, v_pu))

    def columns(
        self, scenario: IntArray, bus: IntArray, sign: FloatArray
    ) -> tuple[FloatArray, FloatArray, sparse.csc_matrix]:
        of, column = np.unique(scenario, return_inverse=True)
        places = (np.arange(len(scenario)), column)
        shape = (len(scenario), len(of))
        return self.weight[of], np.full(len(of), np.inf), sparse.csc_matrix((np.ones(len(scenario)), places), shape)

    def scaled(self, factor: float) -> WorstSlack:
        return WorstSlack(factor * self.weight)


@dataclass(frozen=True)
class BusSlack:
    """sum_si near_si min(e_si, rest_si) + far_si max(e_si - rest_si, 0), for each bus and side; e = exceedance.

    near, far (S, n) cost per pu, near <= far; low, high (S, n) pu: rest, the exceedances with nothing moved. So an
    improvement of a voltage is worth `near`, and one that pushes another voltage out, or further out, costs `far`.
    """

    near: FloatArray
    far: FloatArray
    low: FloatArray
    high: FloatArray

    def cost(self, network: Network, v_pu: FloatArray) -> float:
        total = 0.0
        for e, rest in zip(outside(network, v_pu), (self.low, self.high), strict=True):
            total += float(np.sum(self.near * np.minimum(e, rest) + self.far * np.maximum(e - rest, 0.0)))
        return total

    def columns(
        self, scenario: IntArray, bus: IntArray, sign: FloatArray
    ) -> tuple[FloatArray, FloatArray, sparse.csc_matrix]:
        near, far, rest = self.near[scenario, bus], self.far[scenario, bus], self.rest(scenario, bus, sign)
        two = np.flatnonzero((rest > 0) & (near < far))
        rows = np.concatenate([two, np.arange(len(scenario))])
        cost, upper = np.concatenate([near[two], far]), np.concatenate([rest[two], np.full(len(scenario), np.inf)])
        shape = (len(scenario), len(rows))
        return cost, upper, sparse.csc_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape)

    def rest(self, scenario: IntArray, bus: IntArray, sign: FloatArray) -> FloatArray:
        """(r,) exceedance with nothing moved."""
        return np.where(sign > 0, self.low[scenario, bus], self.high[scenario, bus])

    def scaled(self, factor: float) -> BusSlack:
        return replace(self, near=factor * self.near, far=factor * self.far)

    def at_most(self, cost: FloatArray) -> BusSlack:
        """No more than cost (S,) per pu."""
        return replace(self, near=np.minimum(self.near, cost[:, None]), far=np.minimum(self.far, cost[:, None]))

    def of(self, scenarios: IntArray) -> BusSlack:
        """The given scenarios only."""
        return BusSlack(self.near[scenarios], self.far[scenarios], self.low[scenarios], self.high[scenarios])

    def dual(self, mu: FloatArray) -> tuple[FloatArray, float]:
        """Multipliers mu (S, n) brought to |mu| <= far, and min over the slack of cost(t) - |mu| t, at most 0."""
        mu = np.clip(mu, -self.far, self.far)
        rest = np.where(mu > 0, self.low, self.high)
        return mu, -float(np.sum(np.maximum(np.abs(mu) - self.near, 0.0) * rest))
