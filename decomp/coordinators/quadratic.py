"""Nobody at all, and any convex quadratic model: what the other coordinators are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from decomp.blocks.solve.piqp import DENSE, NoSolution, solve
from decomp.coordinator import Coordinator, Reports, Warm
from decomp.coordinators.convex_cost import ConvexCost, expanded, minimum, with_diagonal
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
        model = model_of_nodes(np.zeros((0, 0)), nothing, nothing, 0)
        return Request(Z=nothing, cost=0.0, active=np.zeros(0, bool), bound=0.0, model=model)


class Quadratic(Coordinator):
    """Any convex quadratic g(Z), given as a QuadraticModel; and, beside it, a separable convex cost by functions.

    answer    argmin g(Z) + <price, Z> + 1/2 sum weight penalty (Z - center)^2 within the box; where the penalty is 0 a
              pull towards `center` too weak to matter against a price: of all minimisers of a linear g the nearest
              (Mangasarian and Meyer 1979)
    bound     the program's dual value without that pull
    model     as given; a cost by functions is expanded to second order at `center`

    convex, columns  a `ConvexCost` of v[columns], the node rows' own columns where it does not say which
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
        convex: ConvexCost | None = None,
        columns: IntArray | None = None,
    ) -> None:
        n = len(nodes)
        self.nodes, self.groups = tuple(nodes), tuple(nodes if groups is None else groups)
        self.weight = np.ones(n) if weight is None else np.asarray(weight, float)
        self.neutral = np.zeros(n) if neutral is None else np.asarray(neutral, float)
        self.scale = np.ones(n) if scale is None else np.asarray(scale, float)
        self.box = (np.asarray(box[0], float), np.asarray(box[1], float))
        self.model = _stored(model)
        self.convex, self.columns = convex, self.model.z_cols if columns is None else np.asarray(columns, np.int64)
        self._pull = NEAREST * self.scale / np.maximum(self.box[1] - self.box[0], 1e-300)

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        m, z = self.model, self.model.z_cols
        q = m.q.copy()
        q[z] += self.weight * (query.price - query.penalty * query.center)
        P = with_diagonal(m.P, z, self.weight * query.penalty) if query.penalty.any() else m.P
        lb, ub = m.lb.copy(), m.ub.copy()
        lb[z], ub[z] = np.maximum(lb[z], self.box[0]), np.minimum(ub[z], self.box[1])
        asked = replace(m, P=P, q=q, lb=lb, ub=ub)
        try:
            v, bound = self._least(asked, query.center)
            near = np.where(query.penalty == 0, self._pull, 0.0)
            if near.any() and self.convex is None:
                q = q.copy()
                q[z] -= self.weight * near * query.center
                v, _ = self._least(replace(asked, P=with_diagonal(P, z, self.weight * near), q=q), query.center)
        except NoSolution as error:
            raise CoordinatorError(f"{error}; look at the coordinator's rows and its box") from None
        request = Request(
            Z=v[z],
            cost=self._value(v),
            active=np.ones(len(z), bool),
            bound=bound if query.want_bound and not query.penalty.any() else None,
            model=self._told(query.center) if query.want_model else None,
        )
        return request, warm

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        m, z = self.model, self.model.z_cols
        all_active = np.ones(len(Z), bool)
        nothing = Request(Z=Z, cost=np.inf, active=all_active, feasible=False)
        if np.any(np.maximum(m.lb[z] - Z, Z - m.ub[z]) > KEPT * (1 + np.abs(Z))):
            return nothing
        if len(m.q) == len(z):  # nothing is left to decide
            v = np.empty(len(z))
            v[z] = Z
        else:
            lb, ub = m.lb.copy(), m.ub.copy()
            lb[z] = ub[z] = Z
            try:
                v, _ = self._least(replace(m, lb=lb, ub=ub), Z)
            except NoSolution:
                return nothing
        rows = m.A @ v
        outside = np.maximum(m.lo - rows, rows - m.hi)
        # a point that nearly keeps its rows costs less than one that does: it is none
        if np.any(outside > KEPT * (1 + np.abs(rows))):
            return nothing
        cost = self._value(v)
        return Request(Z=Z, cost=cost, active=all_active) if np.isfinite(cost) else nothing

    def _least(self, asked: QuadraticModel, center: FloatArray) -> tuple[FloatArray, float]:
        """Minimiser of a program with this one's rows, and a proven lower bound."""
        if self.convex is None:
            found = solve(asked.P, asked.q, asked.A, asked.lo, asked.hi, asked.lb, asked.ub)
            return found.v, found.bound + asked.offset
        return minimum(asked, self.convex, self.columns, self._start(center))

    def _start(self, center: FloatArray) -> FloatArray:
        """Where to begin: values of the columns with a cost by functions, near the offers."""
        m = self.model
        lb, ub = m.lb.copy(), m.ub.copy()
        lb[m.z_cols], ub[m.z_cols] = np.maximum(lb[m.z_cols], self.box[0]), np.minimum(ub[m.z_cols], self.box[1])
        v = np.zeros(len(m.q))
        v[m.z_cols] = center
        return np.clip(v, lb, ub)[self.columns]

    def _value(self, v: FloatArray) -> float:
        m = self.model
        value = float(0.5 * v @ (m.P @ v) + m.q @ v + m.offset)
        return value if self.convex is None else value + self.convex.total(v[self.columns])

    def _told(self, center: FloatArray) -> QuadraticModel:
        if self.convex is None:
            return self.model
        return expanded(self.model, self.convex, self.columns, self._start(center))


def model_of_nodes(
    A: FloatArray | sparse.spmatrix, lo: FloatArray, hi: FloatArray, n: int, cost: FloatArray | None = None
) -> QuadraticModel:
    """min cost'Z over lo <= A Z <= hi, nothing but Z being decided."""
    free = np.full(n, np.inf)
    q = np.zeros(n) if cost is None else cost
    return QuadraticModel(sparse.csc_matrix((n, n)), q, A, lo, hi, -free, free, np.arange(n))


def _stored(model: QuadraticModel) -> QuadraticModel:
    """Small models as plain arrays, which are solved faster; large ones sparse."""
    P, A = sparse.csc_matrix(model.P), sparse.csr_matrix(model.A)
    return replace(model, P=P.toarray(), A=A.toarray()) if len(model.q) <= DENSE else replace(model, P=P, A=A)
