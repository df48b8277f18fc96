"""A network as a linear voltage band with shedding: one quadratic model for each hour."""

from __future__ import annotations

import numpy as np

from decomp.blocks.solve.piqp import NoSolution, solve
from decomp.coordinator import Coordinator, Reports, Warm
from decomp.coordinators import Quadratic
from decomp.messages import Check, FloatArray, IntArray, QuadraticModel, Query, Request


class VoltageBand(Coordinator):
    """g(Z) = sum_h min { cost sum_b |s_b| : v_min <= V0_h + X (Z_h + s) <= v_max }; hours are independent parts.

    X (n, n) per cent per kvar; V0 (H, n) per cent; box: least and greatest kvar the units can give at each PCC (n,);
    cost of shedding per kvarh; scale: reference price. Node rows lie hour by hour.
    """

    abilities = frozenset({"model"})

    def __init__(
        self,
        X: FloatArray,
        V0: FloatArray,
        v_min: float,
        v_max: float,
        cost: float,
        box: tuple[FloatArray, FloatArray],
        scale: float,
    ) -> None:
        H, n = V0.shape
        self.X, self.V0, self.v_min, self.v_max = X, V0, v_min, v_max
        self.nodes = tuple(f"pcc{b:02d} h{h:02d}" for h in range(H) for b in range(n))
        self.groups = tuple(f"pcc{b:02d}" for _ in range(H) for b in range(n))
        self.weight, self.neutral = np.ones(H * n), np.zeros(H * n)
        self.scale = np.full(H * n, scale)
        self.box = (np.tile(box[0], H), np.tile(box[1], H))
        self.models = tuple(self._model(V, cost) for V in V0)
        self._hours = [
            Quadratic(model, self.nodes[h * n : (h + 1) * n], box, scale=np.full(n, scale))
            for h, model in enumerate(self.models)
        ]

    def _model(self, V: FloatArray, cost: float) -> QuadraticModel:
        """v = (Z, s up, s down)."""
        n, free = len(V), np.full(len(V), np.inf)
        none = np.zeros(n)
        return QuadraticModel(
            P=np.zeros((3 * n, 3 * n)),
            q=np.concatenate([none, np.full(2 * n, cost)]),
            A=np.hstack([self.X, self.X, -self.X]),
            lo=self.v_min - V,
            hi=self.v_max - V,
            lb=np.concatenate([-free, none, none]),
            ub=np.full(3 * n, np.inf),
            z_cols=np.arange(n),
        )

    def parts(self) -> tuple[IntArray, ...]:
        return tuple(np.arange(len(self.nodes)).reshape(self.V0.shape))

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        return self._hours[part].answer(0, query, reports, warm)

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        """The least shedding at Z: a program in s alone, where a fixed Z would leave columns without an interior."""
        active, n, model = np.ones(len(Z), bool), len(Z), self.models[part]
        if self.check(part, Z, reports).violation == 0:
            return Request(Z=Z, cost=0.0, active=active)
        moved, lb, ub = self.X @ Z, np.zeros(2 * n), np.full(2 * n, np.inf)
        none, A = np.zeros((2 * n, 2 * n)), np.hstack([self.X, -self.X])
        try:
            found = solve(none, model.q[n:], A, model.lo - moved, model.hi - moved, lb, ub)
        except NoSolution:
            return Request(Z=Z, cost=np.inf, active=active, feasible=False)
        return Request(Z=Z, cost=float(model.q[n:] @ found.v), active=active)

    def check(self, part: int, Z: FloatArray, reports: Reports) -> Check:
        """The voltages at Z without shedding."""
        V = self.V0[part] + self.X @ Z
        beyond = np.maximum(self.v_min - V, V - self.v_max)
        worst = int(np.argmax(beyond))
        where = self.nodes[int(self.parts()[part][worst])]
        return Check(bool(beyond[worst] <= 0), -float(beyond[worst]), float(V[worst]), where)
