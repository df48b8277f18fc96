"""How voltage magnitudes answer to injections: exact derivatives at a power-flow solution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import SuperLU

from decomp.messages import FloatArray, IntArray
from problems.network.feeder import Network
from problems.network.power_flow import ComplexArray, kernel_of


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Derivatives at one solution v (n,): with J = d(p, q)/d(angle, |v|), d|v|/dq is the lower right block of J^-1."""

    network: Network
    factors: SuperLU

    def dv_dq(self, buses: IntArray) -> FloatArray:
        """(n, len(buses)) d|v|/dq in pu per pu, q injected at each of `buses`. A slack bus's row and column are 0."""
        return self._columns(buses, lower=True)

    def dv_dp(self, buses: IntArray) -> FloatArray:
        """(n, len(buses)) d|v|/dp in pu per pu, p injected at each of `buses`."""
        return self._columns(buses, lower=False)

    def pull(self, weights: FloatArray) -> FloatArray:
        """(n,) sum_k weights_k d|v_k|/dq_i for every bus i, by one transposed solve."""
        others = kernel_of(self.network).others
        right = np.concatenate([np.zeros(len(others)), weights[others]])
        out = np.zeros(len(self.network.buses))
        out[others] = self.factors.solve(right, trans="T")[len(others) :]
        return out

    def _columns(self, buses: IntArray, lower: bool) -> FloatArray:
        others = kernel_of(self.network).others
        m = len(others)
        row_of = np.full(len(self.network.buses), -1)
        row_of[others] = np.arange(m)
        rows = row_of[np.asarray(buses, int)]
        right = np.zeros((2 * m, len(rows)))
        inside = np.flatnonzero(rows >= 0)
        right[rows[inside] + (m if lower else 0), inside] = 1.0
        out = np.zeros((len(self.network.buses), len(rows)))
        if len(rows):
            out[others] = self.factors.solve(right)[m:]
        return out


def sensitivity(network: Network, v: ComplexArray) -> Sensitivity:
    """The derivatives at a solution v (n,) of the power flow."""
    kernel = kernel_of(network)
    return Sensitivity(network, kernel.jacobian(v[kernel.others]))
