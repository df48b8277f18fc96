"""How voltage magnitudes answer to injections: exact derivatives at a power-flow solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray
from problems.network.feeder import Network
from problems.network.power_flow import ComplexArray, kernel_of

DENSE = 80  # rows of the Jacobian up to which plain matrices, all at once, are the faster way


class Factors(Protocol):
    """What solves with the Jacobian, SuperLU's way."""

    def solve(self, right: FloatArray, trans: Literal["N", "T"] = "N") -> FloatArray:
        """J^-1 right, or J^-T right."""
        ...


@dataclass(frozen=True, eq=False)
class Inverse:
    """J^-1 as a plain matrix."""

    matrix: FloatArray

    def solve(self, right: FloatArray, trans: Literal["N", "T"] = "N") -> FloatArray:
        return np.asarray((self.matrix if trans == "N" else self.matrix.T) @ right)


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Derivatives at one solution v (n,): with J = d(p, q)/d(angle, |v|), d|v|/dq is the lower right block of J^-1."""

    network: Network
    v: ComplexArray
    factors: Factors

    def dv_dq(self, buses: IntArray) -> FloatArray:
        """(n, len(buses)) d|v|/dq in pu per pu, q injected at each of `buses`. A slack bus's row and column are 0."""
        return self._columns(buses, lower=True)

    def dv_dp(self, buses: IntArray) -> FloatArray:
        """(n, len(buses)) d|v|/dp in pu per pu, p injected at each of `buses`."""
        return self._columns(buses, lower=False)

    def dv(self, buses: IntArray, active: BoolArray) -> FloatArray:
        """(n, C) d|v| in pu per pu of p (active) or q injected at each of `buses` (C,)."""
        out = np.zeros((len(self.network.buses), len(buses)))
        for kind, slopes in ((True, self.dv_dp), (False, self.dv_dq)):
            at = np.flatnonzero(active == kind)
            if len(at):
                out[:, at] = slopes(buses[at])
        return out

    def pull(self, weights: FloatArray) -> FloatArray:
        """(n,) sum_k weights_k d|v_k|/dq_i for every bus i, by one transposed solve."""
        return self.pulls(weights)[1]

    def pulls(self, weights: FloatArray) -> FloatArray:
        """(2, n) sum_k weights_k d|v_k|/dp_i, then .../dq_i, for every bus i."""
        others = kernel_of(self.network).others
        out = np.zeros((2, len(self.network.buses)))
        out[:, others] = self._adjoint(weights).reshape(2, len(others))
        return out

    def curvature(self, weights: FloatArray, buses: IntArray, active: BoolArray | None = None) -> FloatArray:
        """(B, B) sum_k weights_k d^2|v_k| / du_a du_b, u = q, or p where `active` (B,), injected at each of `buses`.

        With x = (angle, |v|), J dx/du = e, adjoint l = J^-T (0, weights): the sum is -l' d^2(p, q)[dx_a, dx_b].
        With l = lp - j lq, W = d|v|/|v| + j dangle, D = diag(v) W, k = l conj(I) + Y' conj(l v):
        l' d^2(p, q) = Re[W' diag(k v) W - Re(W)' diag(k v) Re(W) + D' diag(l) conj(Y D) + (D' diag(l) conj(Y D))'].
        """
        kernel = kernel_of(self.network)
        m, v = len(kernel.others), self.v[kernel.others]
        x = self._solve(buses, lower=True)
        if active is not None and active.any():
            x[:, active] = self._solve(buses[active], lower=False)
        adjoint = self._adjoint(weights)
        l = adjoint[:m] - 1j * adjoint[m:]
        W = x[m:] / np.abs(v)[:, None] + 1j * x[:m]
        D = v[:, None] * W
        k = (l * np.conj(kernel.currents(v)) + kernel.y.T @ np.conj(l * v)) * v
        cross = D.T @ (l[:, None] * np.conj(kernel.y @ D))
        second = W.T @ (k[:, None] * W) - W.real.T @ (k[:, None] * W.real) + cross + cross.T
        return -second.real

    def _adjoint(self, weights: FloatArray) -> FloatArray:
        others = kernel_of(self.network).others
        return self.factors.solve(np.concatenate([np.zeros(len(others)), weights[others]]), trans="T")

    def _columns(self, buses: IntArray, lower: bool) -> FloatArray:
        others = kernel_of(self.network).others
        out = np.zeros((len(self.network.buses), len(buses)))
        out[others] = self._solve(buses, lower)[len(others) :]
        return out

    def _solve(self, buses: IntArray, lower: bool) -> FloatArray:
        """(2m, B) d(angle, |v|)/dq (lower) or /dp for injections at `buses`."""
        others = kernel_of(self.network).others
        m = len(others)
        row_of = np.full(len(self.network.buses), -1)
        row_of[others] = np.arange(m)
        rows = row_of[np.asarray(buses, int)]
        right = np.zeros((2 * m, len(rows)))
        inside = np.flatnonzero(rows >= 0)
        right[rows[inside] + (m if lower else 0), inside] = 1.0
        return self.factors.solve(right) if len(rows) else right


def sensitivity(network: Network, v: ComplexArray) -> Sensitivity:
    """The derivatives at a solution v (n,) of the power flow."""
    return sensitivities(network, v[None, :])[0]


def sensitivities(network: Network, v: ComplexArray) -> list[Sensitivity]:
    """The derivatives at each of the solutions v (K, n); none depends on its neighbours."""
    kernel = kernel_of(network)
    inside = v[:, kernel.others]
    factors: list[Factors] = []
    if 2 * len(kernel.others) <= DENSE:
        try:
            factors = [Inverse(matrix) for matrix in np.linalg.inv(kernel.jacobians(inside))]
        except np.linalg.LinAlgError:  # the sparse factors may still tell a singular one from an ill-scaled one
            factors = []
    factors = factors or [kernel.jacobian(row) for row in inside]
    return [Sensitivity(network, row, f) for row, f in zip(v, factors, strict=True)]
