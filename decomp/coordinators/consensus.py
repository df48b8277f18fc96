"""Agreement on common values, with a cost of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from decomp.coordinator import Reports
from decomp.coordinators.arguments import Arguments
from decomp.coordinators.convex_cost import ConvexCost
from decomp.coordinators.quadratic import KEPT, Quadratic
from decomp.coordinators.rows import Numbers
from decomp.messages import FloatArray, IntArray, QuadraticModel, Request


class Consensus(Quadratic):
    """Units agree on a common value x_g of each group of nodes, which may cost something itself.

        g(Z) = sum_g l1_g |x_g - center_g| + 1/2 l2_g (x_g - center_g)^2 + h_g(x_g),  Z_b = n_b x_g,  low <= x <= high

    Arguments
        nodes, box    names (n,), and limits of Z: each (n,), or one number
        group_of      (n,) number of each node's group; None = all nodes are one group
        units_at      (n,) number n_b of units at each node, so that the common value is the units', not the nodes'
        l1, l2        (groups,) >= 0, in cost per unit and per unit^2; lasso: l1, ridge: l2
        center        (groups,) what the costs count from; None = 0
        low, high     (groups,) limits of the common value; None = none
        convex        a `ConvexCost` of the common values (groups,), beside l1 and l2
        weight, scale, neutral, groups   as in `Coordinator`

    Boyd et al. (2011), sections 7.1 and 8.2. Raises InputError with every argument that is wrong.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        box: Sequence[Numbers],
        *,
        group_of: IntArray | Sequence[int] | None = None,
        units_at: Numbers | None = None,
        l1: Numbers | None = None,
        l2: Numbers | None = None,
        center: Numbers | None = None,
        low: Numbers | None = None,
        high: Numbers | None = None,
        convex: ConvexCost | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        names = read.names("nodes", nodes)
        n = len(names)
        group = np.zeros(n, np.int64) if group_of is None else read.groups("group_of", group_of, n)
        group = np.unique(group, return_inverse=True)[1] if len(group) else group
        G = int(group.max(initial=-1)) + 1
        count = read.optional("units_at", units_at, n, 1.0)
        if np.any(count <= 0):
            read.wrong("units_at", "must be positive", "give the number of units at each node")
        limits = read.box(box, n)
        l1_g = read.optional("l1", l1, G, 0.0, least=0.0)
        l2_g = read.optional("l2", l2, G, 0.0, least=0.0)
        center_g = read.optional("center", center, G, 0.0)
        low_g = read.optional("low", low, G, -np.inf, infinite=True)
        high_g = read.optional("high", high, G, np.inf, infinite=True)
        read.ordered("low", low_g, "high", high_g)
        metric = read.optional("weight", weight, n, 1.0, least=0.0)
        if np.any(metric <= 0):
            read.wrong("weight", "must be positive")
        reference = read.optional("scale", scale, n, 1.0)
        if np.any(reference <= 0):
            read.wrong("scale", "must be positive", "give a price worth speaking of, for each node or for all")
        start = read.optional("neutral", neutral, n, 0.0)
        if groups is not None and len(groups) != n:
            read.wrong("groups", f"has {len(groups)} labels for {n} nodes", "give one for each node")
        if convex is not None and not isinstance(convex, ConvexCost):
            read.wrong("convex", f"is {convex!r}", "give ConvexCost(value, gradient, curvature)")
        read.done()
        self.group, self.count, self.first = group, count, np.unique(group, return_index=True)[1]
        self.l1, self.l2, self.center, self.low, self.high = l1_g, l2_g, center_g, low_g, high_g
        super().__init__(
            self._program(n, G), names, limits, weight=metric, neutral=start, scale=reference, groups=groups,
            convex=convex, columns=n + np.arange(G),
        )  # fmt: skip

    def _program(self, n: int, G: int) -> QuadraticModel:
        """Columns: Z, x, and t >= |x - center| where that costs."""
        at = np.flatnonzero(self.l1)
        k = len(at)
        link = sparse.csr_matrix((-self.count, (np.arange(n), self.group)), (n, G))
        pick = sparse.csr_matrix((np.ones(k), (np.arange(k), at)), (k, G))
        t = sparse.identity(k, format="csr")
        A = sparse.bmat(
            [
                [sparse.identity(n, format="csr"), link, sparse.csr_matrix((n, k))],
                [sparse.csr_matrix((k, n)), pick, t],
                [sparse.csr_matrix((k, n)), -pick, t],
            ],
            format="csr",
        )
        c = self.center
        free = np.full(n, np.inf)
        return QuadraticModel(
            P=sparse.diags(np.concatenate([np.zeros(n), self.l2, np.zeros(k)]), format="csc"),
            q=np.concatenate([np.zeros(n), -self.l2 * c, self.l1[at]]),
            A=A,
            lo=np.concatenate([np.zeros(n), c[at], -c[at]]),
            hi=np.concatenate([np.zeros(n), np.full(2 * k, np.inf)]),
            lb=np.concatenate([-free, self.low, np.zeros(k)]),
            ub=np.concatenate([free, self.high, np.full(k, np.inf)]),
            z_cols=np.arange(n),
            offset=0.5 * float(self.l2 @ c**2),
        )

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        each = Z / self.count
        x = each[self.first]
        active = np.ones(len(Z), bool)
        apart = np.abs(each - x[self.group]) > KEPT * (1 + np.abs(each))
        outside = np.maximum(self.low - x, x - self.high) > KEPT * (1 + np.abs(x))
        if np.any(apart) or np.any(outside):
            return Request(Z=Z, cost=np.inf, active=active, feasible=False)
        off = x - self.center
        cost = float(self.l1 @ np.abs(off) + 0.5 * self.l2 @ off**2)
        if self.convex is not None:
            cost += self.convex.total(x)
        return Request(Z=Z, cost=cost, active=active, feasible=bool(np.isfinite(cost)))

    def _start(self, center: FloatArray) -> FloatArray:
        sizes = np.bincount(self.group)
        mean = np.bincount(self.group, np.clip(center, *self.box) / self.count) / np.maximum(sizes, 1)
        return np.clip(mean, self.low, self.high)
