"""Coordinators that need no physics: nobody, an exchange, a consensus, and any convex quadratic model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import piqp
from scipy import sparse

from decomp.coordinator import Coordinator, Reports, Warm
from decomp.errors import CoordinatorError
from decomp.messages import FloatArray, IntArray, QuadraticModel, Query, Request


class Nobody(Coordinator):
    """No nodes at all: the units' scenarios only have to agree (progressive hedging)."""

    def __init__(self) -> None:
        self.nodes = self.groups = ()
        self.weight = self.neutral = self.scale = np.zeros(0)
        self.box = (np.zeros(0), np.zeros(0))

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        return self.evaluate(part, np.zeros(0), reports), warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        return Request(Z=np.zeros(0), cost=0.0, active=np.zeros(0, bool), bound=0.0)


class Quadratic(Coordinator):
    """Any convex quadratic g(Z), given as a QuadraticModel.

    answer    argmin g(Z) + <price, Z> + 1/2 sum weight penalty (Z - center)^2 within the box; where the penalty is 0
              the minimiser nearest to `center`, found by a second QP on the optimal face
    bound     the QP's dual value, lowered by what its residual may hide within the box
    """

    def __init__(
        self,
        model: QuadraticModel,
        nodes: Sequence[str],
        box: tuple[FloatArray, FloatArray],
        *,
        weight: FloatArray | None = None,
        neutral: FloatArray | None = None,
        scale: FloatArray | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        n = len(nodes)
        self.nodes, self.groups = tuple(nodes), tuple(nodes if groups is None else groups)
        self.weight = np.ones(n) if weight is None else np.asarray(weight, float)
        self.neutral = np.zeros(n) if neutral is None else np.asarray(neutral, float)
        self.scale = np.ones(n) if scale is None else np.asarray(scale, float)
        self.box = (np.asarray(box[0], float), np.asarray(box[1], float))
        self.model = model

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        m, z = self.model, self.model.z_cols
        P, q = m.P.copy(), m.q.copy()
        q[z] += self.weight * (query.price - query.penalty * query.center)
        P[z, z] += self.weight * query.penalty
        lb, ub = m.lb.copy(), m.ub.copy()
        lb[z], ub[z] = np.maximum(lb[z], self.box[0]), np.minimum(ub[z], self.box[1])
        v, value = _solve(P, q, m.A, m.lo, m.hi, lb, ub)
        free = query.penalty == 0
        if free.any():
            v = self._nearest(P, q, lb, ub, v, value, query.center, free)
        bound = None
        if query.want_bound and free.all():
            bound = value + m.offset
        request = Request(
            Z=v[z],
            cost=float(0.5 * v @ m.P @ v + m.q @ v + m.offset),
            active=np.ones(len(z), bool),
            bound=bound,
            model=m if query.want_model else None,
        )
        return request, warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        m = self.model
        lb, ub = m.lb.copy(), m.ub.copy()
        lb[m.z_cols] = ub[m.z_cols] = Z
        all_active = np.ones(len(Z), bool)
        try:
            v, _ = _solve(m.P, m.q, m.A, m.lo, m.hi, lb, ub)
        except CoordinatorError:
            return Request(Z=Z, cost=np.inf, active=all_active, feasible=False)
        return Request(Z=Z, cost=float(0.5 * v @ m.P @ v + m.q @ v + m.offset), active=all_active)

    def _nearest(
        self,
        P: FloatArray,
        q: FloatArray,
        lb: FloatArray,
        ub: FloatArray,
        v: FloatArray,
        value: float,
        center: FloatArray,
        free: np.ndarray,
    ) -> FloatArray:
        # Minimisers of a convex QP share Pv and q'v: those are the rows of the optimal face.
        m, z = self.model, self.model.z_cols
        A = np.vstack([m.A, P, q])
        face = np.append(P @ v, q @ v)
        slack = 1e-9 * (1 + np.abs(face))
        D = np.zeros_like(P)
        D[z[free], z[free]] = self.weight[free]
        c = np.zeros(len(q))
        c[z[free]] = -self.weight[free] * center[free]
        lo, hi = np.concatenate([m.lo, face - slack]), np.concatenate([m.hi, face + slack])
        return _solve(D, c, A, lo, hi, lb, ub)[0]


class Exchange(Quadratic):
    """g = indicator{sum of Z over a group = demand of the group}: what is offered must equal what is needed.

    One node per commodity and hour with `demand` (n,), or several nodes that share one demand by `groups`.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        demand: FloatArray,
        box: tuple[FloatArray, FloatArray],
        *,
        group_of: IntArray | None = None,
        weight: FloatArray | None = None,
        scale: FloatArray | None = None,
    ) -> None:
        n, demand = len(nodes), np.asarray(demand, float)
        group_of = np.arange(n) if group_of is None else np.asarray(group_of)
        A = np.zeros((len(demand), n))
        A[group_of, np.arange(n)] = 1.0
        super().__init__(_indicator(A, demand, n), nodes, box, weight=weight, scale=scale)


class Consensus(Quadratic):
    """g = indicator{Z_b / n_b equal for all nodes of a group}: units agree on a common value.

    units_at (n,) number of units at each node, so that the common value is the units', not the nodes'.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        box: tuple[FloatArray, FloatArray],
        *,
        group_of: IntArray | None = None,
        units_at: FloatArray | None = None,
        weight: FloatArray | None = None,
    ) -> None:
        n = len(nodes)
        group_of = np.zeros(n, int) if group_of is None else np.asarray(group_of)
        count = np.ones(n) if units_at is None else np.asarray(units_at, float)
        pairs = [(a, b) for g in np.unique(group_of) for a, b in _chain(np.flatnonzero(group_of == g))]
        A = np.zeros((len(pairs), n))
        for row, (a, b) in enumerate(pairs):
            A[row, a], A[row, b] = 1 / count[a], -1 / count[b]
        super().__init__(_indicator(A, np.zeros(len(pairs)), n), nodes, box, weight=weight)


def _chain(members: IntArray) -> list[tuple[int, int]]:
    return list(zip(members[:-1].tolist(), members[1:].tolist(), strict=True))


def _indicator(A: FloatArray, rhs: FloatArray, n: int) -> QuadraticModel:
    free = np.full(n, np.inf)
    return QuadraticModel(np.zeros((n, n)), np.zeros(n), A, rhs, rhs, -free, free, np.arange(n))


def _solve(
    P: FloatArray, q: FloatArray, A: FloatArray, lo: FloatArray, hi: FloatArray, lb: FloatArray, ub: FloatArray
) -> tuple[FloatArray, float]:
    """min 1/2 v'Pv + q'v over lo <= Av <= hi, lb <= v <= ub; returns the minimiser and a lower bound of the value.

    Bound: for any multiplier y of the rows, min_v 1/2 v'Pv + (q + A'y)'v - support(y) with 1/2 v'Pv replaced by its
    tangent at v* is below the optimum; the remaining gradient is paid at the worse end of the variable's bounds.
    """
    solver = piqp.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-10
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = 1e-10
    solver.settings.max_iter = 500
    eye = sparse.identity(len(q), format="csc")
    G = sparse.vstack([sparse.csc_matrix(A), eye], format="csc")
    low, high = np.concatenate([lo, lb]), np.concatenate([hi, ub])
    equal = low == high
    bounded = ~equal & (np.isfinite(low) | np.isfinite(high))
    solver.setup(sparse.csc_matrix(P), q, G[equal], low[equal], G[bounded], low[bounded], high[bounded])
    status = solver.solve()
    if status != piqp.PIQP_SOLVED:
        raise CoordinatorError(f"the coordinator's quadratic model has no solution ({status}); check its box and rows")
    r = solver.result
    v = np.clip(np.asarray(r.x), lb, ub)
    dual = np.zeros(len(low))
    dual[equal] = r.y
    dual[bounded] = np.asarray(r.z_u) - np.asarray(r.z_l)
    rows = dual[: len(lo)]
    rows = np.where(((rows > 0) & ~np.isfinite(hi)) | ((rows < 0) & ~np.isfinite(lo)), 0.0, rows)
    gradient = P @ v + q + A.T @ rows
    ends = np.where(gradient > 0, lb, ub)
    linear = np.where(np.abs(gradient) < 1e-12, 0.0, gradient * np.where(np.isfinite(ends), ends, v))
    support = np.where(rows > 0, rows * np.where(np.isfinite(hi), hi, 0.0), rows * np.where(np.isfinite(lo), lo, 0.0))
    return v, float(-0.5 * v @ P @ v + linear.sum() - support.sum())
