"""AC power flow, many injections at once, and its exact sensitivities.

Loads of constant power are injections, loads of constant impedance sit in Ybus.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from decomp.messages import BoolArray, FloatArray, IntArray
from problems.network.feeder import Network

ComplexArray = np.ndarray
DENSE = 80  # real unknowns up to which plain matrices, all at once, are the faster way


@dataclass(frozen=True)
class FlowSettings:
    """tolerance_pu: largest voltage change of the last step; the caps count fixed-point and Newton steps."""

    tolerance_pu: float = 1e-12
    max_fixed_point: int = 60
    max_newton: int = 30


@dataclass(frozen=True, eq=False)
class Flow:
    """Solution of K power flows.

    v          (K, n) complex voltages in per unit; nan where there is no solution
    converged  (K,) False where no solution was found
    reason     (K,) why not, in words; empty where there is one
    steps      (K,) fixed-point and Newton steps taken
    """

    v: ComplexArray
    converged: BoolArray
    reason: tuple[str, ...]
    steps: IntArray

    def rows(self, chosen: BoolArray) -> Flow:
        """The chosen ones (K,) alone."""
        why = tuple(reason for reason, kept in zip(self.reason, chosen, strict=True) if kept)
        return Flow(self.v[chosen], self.converged[chosen], why, self.steps[chosen])

    @property
    def v_pu(self) -> FloatArray:
        """(K, n) voltage magnitudes."""
        return magnitude(self.v)


def magnitude(v: ComplexArray) -> FloatArray:
    """|v|, in real arithmetic."""
    return np.asarray(np.sqrt(v.real**2 + v.imag**2))


def solve(network: Network, p_pu: FloatArray, q_pu: FloatArray, settings: FlowSettings = FlowSettings()) -> Flow:
    """Voltages for the injections p + jq (K, n) in per unit, injected positive; the slack bus's own are ignored.

    Fixed point of the implicit-Zbus method, V_L = Y_LL^-1 (conj(S_L / V_L) - Y_LS V_S), with Y_LL factorised once per
    network; where it does not settle, Newton from the no-load voltages. A column's result does not depend on its
    neighbours, not even in the last bit: a column is frozen when it has converged, products are formed in real
    arithmetic, and Y_LL^-1 is applied one column a call (blocked products round differently by position).
    """
    kernel = kernel_of(network)
    p, q = (np.ascontiguousarray(np.atleast_2d(a)[:, kernel.others], float) for a in (p_pu, q_pu))
    count = len(p)
    vr, vi = np.tile(kernel.no_load.real, (count, 1)), np.tile(kernel.no_load.imag, (count, 1))
    open_ = np.isfinite(p).all(axis=1) & np.isfinite(q).all(axis=1)
    done, steps = np.zeros(count, bool), np.zeros(count, np.int64)
    reason = ["" if ok else "the injections are not finite numbers" for ok in open_]
    last = np.full(count, np.inf)
    trying = open_.copy()
    for k in range(settings.max_fixed_point):
        rows = np.flatnonzero(trying)
        if rows.size == 0:
            break
        a, b, pr, qr = vr[rows], vi[rows], p[rows], q[rows]
        square = a * a + b * b
        new_r, new_i = kernel.voltages((pr * a + qr * b) / square, (pr * b - qr * a) / square)
        da, db = new_r - a, new_i - b
        change = np.sqrt((da * da + db * db).max(axis=1))
        vr[rows], vi[rows] = new_r, new_i
        steps[rows] = k + 1
        good = change <= settings.tolerance_pu
        # a lost column: voltages far below any operating point, or steps that grow
        lost = ~good & (~np.isfinite(change) | (square.min(axis=1) < 0.04) | ((k > 8) & (change > last[rows])))
        last[rows] = change
        done[rows[good]] = True
        trying[rows[good | lost]] = False
    for row in np.flatnonzero(open_ & ~done):
        v, why, left, taken = _newton(kernel, p[row], q[row], settings)
        steps[row] += taken
        done[row] = not why
        if why:
            worst = int(left.argmax())
            where = (
                f"{left[worst] * network.base_kva:.3g} kVA stay unmatched at bus {network.buses[kernel.others[worst]]}"
            )
            reason[row] = f"no power-flow solution: {why}, {where}"
        vr[row], vi[row] = v.real, v.imag
    full = np.empty((count, len(network.buses)), complex)
    full[:, network.slack] = network.slack_v_pu
    full.real[:, kernel.others], full.imag[:, kernel.others] = vr, vi
    full[~done] = np.nan
    return Flow(full, done, tuple(reason), steps)


@dataclass(frozen=True, eq=False)
class Kernel:
    """What is the same for all flows of a network: the reduced Ybus, its factors, the pattern of the Jacobian."""

    y: sparse.csc_matrix  # Y_LL
    source: ComplexArray  # Y_LS V_S
    others: IntArray  # bus numbers without the slack

    @cached_property
    def _factors(self) -> SuperLU:
        symmetric = {"SymmetricMode": True}
        return splu(self.y, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric)

    @cached_property
    def no_load(self) -> ComplexArray:
        """(n-1,) voltages without any injection."""
        return np.asarray(self._factors.solve(-self.source))

    def voltages(self, real: FloatArray, imag: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Y_LL^-1 (I - Y_LS V_S), real and imaginary part, for currents (K, n-1)."""
        m = len(self.others)
        if 2 * m > DENSE:
            moved = np.stack([self._factors.solve(row) for row in real + 1j * imag])
            return moved.real + self.no_load.real, moved.imag + self.no_load.imag
        # a stack of single rows: one product a column, of the same bits wherever it stands
        moved = np.matmul(np.concatenate([real, imag], axis=1)[:, None, :], self._impedance)[:, 0, :]
        return moved[:, :m] + self.no_load.real, moved[:, m:] + self.no_load.imag

    @cached_property
    def _impedance(self) -> FloatArray:
        """(2m, 2m) the transpose of Y_LL^-1 on stacked real and imaginary parts."""
        z = np.asarray(self._factors.solve(np.eye(len(self.others), dtype=complex)))
        return np.ascontiguousarray(np.block([[z.real, -z.imag], [z.imag, z.real]]).T)

    def currents(self, v: ComplexArray) -> ComplexArray:
        """Y_LL V + Y_LS V_S for voltages (n-1,)."""
        return self.y @ v + self.source

    @cached_property
    def _pattern(self) -> tuple[IntArray, IntArray, ComplexArray, IntArray, IntArray, IntArray]:
        """Entries of Y_LL with a full diagonal, and where each of the four Jacobian blocks puts them in CSC order."""
        m = len(self.others)
        y = self.y.tocoo()
        i, j = y.row.astype(np.int64), y.col.astype(np.int64)
        rows, cols = np.concatenate([i, i + m, i, i + m]), np.concatenate([j, j, j + m, j + m])
        order = np.lexsort((rows, cols))
        indptr = np.searchsorted(cols[order], np.arange(2 * m + 1))
        return i, j, y.data, order, rows[order].astype(np.int32), indptr.astype(np.int32)

    def jacobian(self, v: ComplexArray) -> SuperLU:
        """Factors of d(p, q)/d(angle, |v|) at voltages (n-1,), rows and columns stacked p, q and angle, |v|.

        dS/dangle = j diag(V) conj(diag(I) - Y diag(V))
        dS/d|v|   = diag(V) conj(Y diag(V/|V|)) + conj(diag(I)) diag(V/|V|)
        """
        i, j, y, order, rows, indptr = self._pattern
        m = len(v)
        unit, current = v / np.abs(v), self.currents(v)
        angle = -1j * v[i] * np.conj(y * v[j])
        size = v[i] * np.conj(y * unit[j])
        on = i == j
        angle[on] += 1j * (v * np.conj(current))[i[on]]
        size[on] += (np.conj(current) * unit)[i[on]]
        data = np.concatenate([angle.real, angle.imag, size.real, size.imag])[order]
        return splu(sparse.csc_matrix((data, rows, indptr), shape=(2 * m, 2 * m)))

    def jacobians(self, v: ComplexArray) -> FloatArray:
        """(K, 2m, 2m) the same matrices, plain, at voltages (K, m); in real arithmetic, whose bits know no neighbours.

        With w_ij = v_i conj(Y_ij v_j) and S = v conj(I): dS/dangle = -j w + diag(j S), dS/d|v| = (w + diag(S)) / |v_j|.
        """
        g, b = self._plain
        m, on = len(self.others), np.arange(len(self.others))
        # in one order of memory: sums take theirs from it
        vr, vi = np.ascontiguousarray(v.real), np.ascontiguousarray(v.imag)
        size = np.sqrt(vr * vr + vi * vi)
        flow_r = g * vr[:, None, :] - b * vi[:, None, :]  # what flows from j into i
        flow_i = g * vi[:, None, :] + b * vr[:, None, :]
        source_r, source_i = self.source.real, self.source.imag
        wr = vr[:, :, None] * flow_r + vi[:, :, None] * flow_i
        wi = vi[:, :, None] * flow_r - vr[:, :, None] * flow_i
        p = wr.sum(axis=2) + (vr * source_r + vi * source_i)
        q = wi.sum(axis=2) + (vi * source_r - vr * source_i)
        out = np.empty((len(v), 2 * m, 2 * m))
        out[:, :m, :m], out[:, m:, :m], out[:, :m, m:], out[:, m:, m:] = wi, -wr, wr, wi
        out[:, on, on] -= q
        out[:, m + on, on] += p
        out[:, on, m + on] += p
        out[:, m + on, m + on] += q
        out[:, :, m:] /= size[:, None, :]
        return out

    @cached_property
    def _plain(self) -> tuple[FloatArray, FloatArray]:
        y = self.y.toarray()
        return np.ascontiguousarray(y.real), np.ascontiguousarray(y.imag)


_KERNELS: WeakKeyDictionary[Network, Kernel] = WeakKeyDictionary()


def kernel_of(network: Network) -> Kernel:
    """The network's kernel; built at the first use, gone with the network."""
    kernel = _KERNELS.get(network)
    if kernel is None:
        others = np.delete(np.arange(len(network.buses)), network.slack)
        y = network.admittance()
        source = np.asarray(y[others][:, [network.slack]].todense()).ravel() * network.slack_v_pu
        kernel = _KERNELS[network] = Kernel(y[others][:, others].tocsc(), source, others)
    return kernel


def _newton(
    kernel: Kernel, p: FloatArray, q: FloatArray, settings: FlowSettings
) -> tuple[ComplexArray, str, FloatArray, int]:
    """Newton in polar coordinates from the no-load voltages; the step is halved while the mismatch grows.

    Returns voltages, why there is no solution (or ""), the mismatch left at each bus, steps taken.
    """
    v = kernel.no_load.copy()
    m = len(v)

    def mismatch(v: ComplexArray) -> FloatArray:
        s = v * np.conj(kernel.currents(v))
        return np.concatenate([p - s.real, q - s.imag])

    f = mismatch(v)
    for k in range(settings.max_newton):
        try:
            step = kernel.jacobian(v).solve(f)
        except RuntimeError:  # SuperLU: exactly singular
            return v, "the Jacobian is singular", np.hypot(f[:m], f[m:]), k
        scale = 1.0
        while True:
            angle, size = np.angle(v) + scale * step[:m], np.abs(v) + scale * step[m:]
            settled = scale == 1.0 and np.abs(step).max() <= settings.tolerance_pu
            new = size * np.exp(1j * angle)
            f_new = mismatch(new)
            if settled or (np.all(size > 0) and np.linalg.norm(f_new) < np.linalg.norm(f)):
                break
            scale *= 0.5
            if scale < 1e-4:
                return v, "no Newton step brings the mismatch down", np.hypot(f[:m], f[m:]), k
        v, f = new, f_new
        if settled:
            return v, "", np.hypot(f[:m], f[m:]), k + 1
    why = f"Newton did not settle in {settings.max_newton} steps"
    return v, why, np.hypot(f[:m], f[m:]), settings.max_newton
