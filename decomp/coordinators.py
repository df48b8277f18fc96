"""Coordinators that need no physics: nobody, an exchange, a consensus, and any convex quadratic model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decomp.blocks.solve.piqp import NoSolution, solve
from decomp.coordinator import Coordinator, Reports, Warm
from decomp.errors import CoordinatorError
from decomp.messages import FloatArray, IntArray, QuadraticModel, Query, Request

NEAREST = 1e-6  # pull of the offers where prices alone decide: of the reference price, at the far end of the box

KEPT = 1e-9  # relative violation of a row at which a point still keeps it


class Nobody(Coordinator):
    """No nodes at all: the units' scenarios only have to agree (progressive hedging)."""

    abilities = frozenset({"model"})

    def __init__(self) -> None:
        self.nodes = self.groups = ()
        self.weight = self.neutral = self.scale = np.zeros(0)
        self.box = (np.zeros(0), np.zeros(0))

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        return self.evaluate(part, np.zeros(0), reports), warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        nothing = np.zeros(0)
        model = _indicator(np.zeros((0, 0)), nothing, 0)
        return Request(Z=nothing, cost=0.0, active=np.zeros(0, bool), bound=0.0, model=model)


class Quadratic(Coordinator):
    """Any convex quadratic g(Z), given as a QuadraticModel.

    answer    argmin g(Z) + <price, Z> + 1/2 sum weight penalty (Z - center)^2 within the box; where the penalty is 0 a
              pull towards `center` too weak to matter against a price: of all minimisers of a linear g the nearest
              (Mangasarian and Meyer 1979)
    bound     the program's dual value without that pull
    """

    abilities = frozenset({"model"})

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
        self._pull = NEAREST * self.scale / np.maximum(self.box[1] - self.box[0], 1e-300)

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        m, z = self.model, self.model.z_cols
        P, q = m.P.copy(), m.q.copy()
        q[z] += self.weight * (query.price - query.penalty * query.center)
        P[z, z] += self.weight * query.penalty
        lb, ub = m.lb.copy(), m.ub.copy()
        lb[z], ub[z] = np.maximum(lb[z], self.box[0]), np.minimum(ub[z], self.box[1])
        try:
            found = solve(P, q, m.A, m.lo, m.hi, lb, ub)
            near = np.where(query.penalty == 0, self._pull, 0.0)
            P[z, z] += self.weight * near
            q[z] -= self.weight * near * query.center
            v = solve(P, q, m.A, m.lo, m.hi, lb, ub).v if near.any() else found.v
        except NoSolution as error:
            raise CoordinatorError(f"{error}; look at the coordinator's rows and its box") from None
        request = Request(
            Z=v[z],
            cost=float(0.5 * v @ m.P @ v + m.q @ v + m.offset),
            active=np.ones(len(z), bool),
            bound=found.bound + m.offset if query.want_bound and not query.penalty.any() else None,
            model=m if query.want_model else None,
        )
        return request, warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        m = self.model
        lb, ub = m.lb.copy(), m.ub.copy()
        lb[m.z_cols] = ub[m.z_cols] = Z
        all_active = np.ones(len(Z), bool)
        try:
            v = solve(m.P, m.q, m.A, m.lo, m.hi, lb, ub).v
        except NoSolution:
            return Request(Z=Z, cost=np.inf, active=all_active, feasible=False)
        rows = m.A @ v
        outside = np.maximum(m.lo - rows, rows - m.hi)
        # a point that nearly keeps its rows costs less than one that does: it is none
        if np.any(outside > KEPT * (1 + np.abs(rows))):
            return Request(Z=Z, cost=np.inf, active=all_active, feasible=False)
        return Request(Z=Z, cost=float(0.5 * v @ m.P @ v + m.q @ v + m.offset), active=all_active)


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
