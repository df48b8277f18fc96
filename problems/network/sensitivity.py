"""How voltage magnitudes answer to injections: exact derivatives at a power-flow solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray
from problems.network.feeder import Network
from problems.network.power_flow import DENSE, ComplexArray, Kernel, kernel_of


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
        """(B, B) sum_k weights_k d^2|v_k| / du_a du_b, u = q, or p where `active` (B,), injected at each of `buses`."""
        kernel = kernel_of(self.network)
        x = self._solve(buses, lower=True)
        if active is not None and active.any():
            x[:, active] = self._solve(buses[active], lower=False)
        return _curvature(kernel, self.v[None, kernel.others], x[None], self._adjoint(weights)[None])[0]

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


@dataclass(frozen=True, eq=False)
class Derivatives:
    """What K solutions say of D directions, each a bus and a kind of power: row k depends on solution k alone.

    slopes  (K, n, D) d|v| in pu per pu
    pulls   (K, 2, n) sum_b mu_b d|v_b|/dp_i, then .../dq_i
    bend    (K, F, F) sum_b mu_b d^2|v_b| among the first F directions; 0 where mu is
    """

    slopes: FloatArray
    pulls: FloatArray
    bend: FloatArray


def derivatives(
    network: Network, v: ComplexArray, mu: FloatArray, buses: IntArray, active: BoolArray, curved: int
) -> Derivatives:
    """The derivatives at solutions v (K, n), with weights mu (K, n), along `buses` (D,), p where `active`, else q.

    curved  F: the bend is wanted among so many of the first directions
    """
    kernel, (count, n), size = kernel_of(network), v.shape, len(buses)
    m = len(kernel.others)
    slopes, pulls, bend = np.zeros((count, n, size)), np.zeros((count, 2, n)), np.zeros((count, curved, curved))
    inverse = _inverses(kernel, v[:, kernel.others])
    weighted = np.flatnonzero(mu.any(axis=1))
    if inverse is None:
        for k, one in enumerate(sensitivities(network, v)):
            slopes[k] = one.dv(buses, active)
        for k in weighted.tolist():
            one = sensitivity(network, v[k])
            pulls[k], bend[k] = one.pulls(mu[k]), one.curvature(mu[k], buses[:curved], active[:curved])
        return Derivatives(slopes, pulls, bend)
    row_of = np.full(n, -1)
    row_of[kernel.others] = np.arange(m)
    inside = np.flatnonzero(row_of[buses] >= 0)
    x = np.zeros((count, 2 * m, size))
    x[:, :, inside] = inverse[:, :, row_of[buses[inside]] + np.where(active[inside], 0, m)]
    slopes[:, kernel.others] = x[:, m:]
    if len(weighted):
        weights = np.ascontiguousarray(mu[weighted][:, kernel.others])
        adjoint = np.matmul(weights[:, None, :], inverse[weighted][:, m:, :])[:, 0, :]
        for kind in (0, 1):
            pulls[weighted[:, None], kind, kernel.others] = adjoint[:, kind * m : (kind + 1) * m]
        if curved:
            dx = np.ascontiguousarray(x[weighted][:, :, :curved])
            bend[weighted] = _curvature(kernel, np.ascontiguousarray(v[weighted][:, kernel.others]), dx, adjoint)
    return Derivatives(slopes, pulls, bend)


def _curvature(kernel: Kernel, v: ComplexArray, x: FloatArray, adjoint: FloatArray) -> FloatArray:
    """(K, B, B) sum_k mu_k d^2|v_k| along x (K, 2m, B) = d(angle, |v|), with adjoint (K, 2m) = J^-T (0, mu).

    With x = (angle, |v|), J dx/du = e, adjoint l: the sum is -l' d^2(p, q)[dx_a, dx_b].
    With l = lp - j lq, W = d|v|/|v| + j dangle, D = diag(v) W, k = l conj(I) + Y' conj(l v):
    l' d^2(p, q) = Re[W' diag(k v) W - Re(W)' diag(k v) Re(W) + D' diag(l) conj(Y D) + (D' diag(l) conj(Y D))'].
    """
    m = len(kernel.others)
    found = np.empty((len(v), x.shape[2], x.shape[2]))
    for i, (volts, dx, both) in enumerate(zip(v, x, adjoint, strict=True)):
        l = both[:m] - 1j * both[m:]
        W = dx[m:] / np.abs(volts)[:, None] + 1j * dx[:m]
        D = volts[:, None] * W
        k = (l * np.conj(kernel.currents(volts)) + kernel.y.T @ np.conj(l * volts)) * volts
        cross = D.T @ (l[:, None] * np.conj(kernel.y @ D))
        second = W.T @ (k[:, None] * W) - W.real.T @ (k[:, None] * W.real) + cross + cross.T
        found[i] = -second.real
    return found


def _inverses(kernel: Kernel, v: ComplexArray) -> FloatArray | None:
    """(K, 2m, 2m) J^-1 at voltages (K, m); None where the sparse factors are the better way."""
    if 2 * len(kernel.others) > DENSE:
        return None
    try:
        return np.asarray(np.linalg.inv(kernel.jacobians(v)), np.float64)
    except np.linalg.LinAlgError:  # the sparse factors may still tell a singular one from an ill-scaled one
        return None


def sensitivity(network: Network, v: ComplexArray) -> Sensitivity:
    """The derivatives at a solution v (n,) of the power flow."""
    return sensitivities(network, v[None, :])[0]


def sensitivities(network: Network, v: ComplexArray) -> list[Sensitivity]:
    """The derivatives at each of the solutions v (K, n); none depends on its neighbours."""
    kernel = kernel_of(network)
    inside = np.ascontiguousarray(v[:, kernel.others])
    inverse = _inverses(kernel, inside)
    factors: list[Factors] = (
        [kernel.jacobian(row) for row in inside] if inverse is None else [Inverse(matrix) for matrix in inverse]
    )
    return [Sensitivity(network, row, f) for row, f in zip(v, factors, strict=True)]
