"""Limits on what the units do together: any linear rows, and the classic forms of them.

    g(Z) = sum_b weight_b (cost_b Z_b + 1/2 curvature_b Z_b^2) + h(Z) + sum_r phi_r((A Z)_r)

    phi_r(a) = shortage_r max(lo_r - a, 0) + excess_r max(a - hi_r, 0)

A side without a cost (None, or inf) is a limit that is kept: phi_r is infinite beyond it. Prices have the sign of what
is scarce, for the price is paid per unit of y: a row that must be reached (`AtLeast`) pays 0 up to its shortage cost; a
row that must not be passed (`Capacity`) pays 0 down to minus its excess cost, so that using it costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from decomp.coordinator import Reports
from decomp.coordinators.arguments import Arguments
from decomp.coordinators.convex_cost import ConvexCost
from decomp.coordinators.quadratic import KEPT, Quadratic, model_of_nodes
from decomp.messages import FloatArray, IntArray, QuadraticModel, Request

Numbers = FloatArray | Sequence[float] | float


class Rows(Quadratic):
    """lo <= A Z <= hi, hard or at a cost beside it, and any convex cost of Z itself; A may be a scipy.sparse matrix.

    Arguments
        A, lo, hi      (m, n) coefficients; (m,) limits, None, -inf or inf where there is none, equal for an equation
        cost           (n,) cost per unit of Z_b and of weight; None = 0
        nodes, box     names (n,), and what the units can do: lower and upper limits of Z, each (n,) or one number
        curvature      (n,) >= 0, of a quadratic cost per unit^2 and weight; convex: a `ConvexCost` h(Z), unweighted
        shortage_cost, excess_cost   (m,) > 0, per unit of a row below lo or above hi; None or inf = never
        weight, scale, neutral, groups   as in `Coordinator`; neutral: minus `cost` where it is not given

    Evaluates g in closed form. Raises InputError with every argument that is wrong.
    """

    def __init__(
        self,
        A: Any,
        lo: Numbers | None = None,
        hi: Numbers | None = None,
        cost: Numbers | None = None,
        *,
        nodes: Sequence[str],
        box: Sequence[Numbers],
        curvature: Numbers | None = None,
        convex: ConvexCost | None = None,
        shortage_cost: Numbers | None = None,
        excess_cost: Numbers | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        names = read.names("nodes", nodes)
        n = len(names)
        matrix = read.matrix("A", A, n)
        m = matrix.shape[0]
        below = read.optional("lo", lo, m, -np.inf, infinite=True)
        above = read.optional("hi", hi, m, np.inf, infinite=True)
        read.ordered("lo", below, "hi", above)
        self._set_up(
            read, names, matrix, below, above, box, cost, curvature, convex,
            read.optional("shortage_cost", shortage_cost, m, np.inf, infinite=True, least=0.0),
            read.optional("excess_cost", excess_cost, m, np.inf, infinite=True, least=0.0),
            weight, scale, neutral, groups,
        )  # fmt: skip

    def _set_up(
        self,
        read: Arguments,
        nodes: tuple[str, ...],
        A: sparse.csr_matrix,
        lo: FloatArray,
        hi: FloatArray,
        box: Any,
        cost: Any,
        curvature: Any,
        convex: ConvexCost | None,
        shortage: FloatArray,
        excess: FloatArray,
        weight: Any,
        scale: Any,
        neutral: Any,
        groups: Any,
    ) -> None:
        """The program behind the arguments; a column for each side of a row that may be passed."""
        n = len(nodes)
        limits = read.box(box, n)
        metric = read.optional("weight", weight, n, 1.0, least=0.0)
        if np.any(metric <= 0):
            read.wrong("weight", "must be positive")
        price = read.optional("cost", cost, n, 0.0)
        curve = read.optional("curvature", curvature, n, 0.0, least=0.0)
        reference = read.optional("scale", scale, n, 1.0)
        if np.any(reference <= 0):
            read.wrong("scale", "must be positive", "give a price worth speaking of, for each node or for all")
        start = -price if neutral is None else read.vector("neutral", neutral, n)
        if groups is not None and len(groups) != n:
            read.wrong("groups", f"has {len(groups)} labels for {n} nodes", "give one for each node")
        if convex is not None and not isinstance(convex, ConvexCost):
            read.wrong("convex", f"is {convex!r}", "give ConvexCost(value, gradient, curvature)")
        read.done()
        self.A, self.lo, self.hi, self.shortage, self.excess = A, lo, hi, shortage, excess
        soft_lo, soft_hi = np.isfinite(lo) & np.isfinite(shortage), np.isfinite(hi) & np.isfinite(excess)
        model = model_of_nodes(A, lo, hi, n, metric * price)
        model = replace(model, P=sparse.diags(metric * curve, format="csc"))
        model = _with_slack(model, soft_lo, shortage, 1.0)
        model = _with_slack(model, soft_hi, excess, -1.0)
        super().__init__(
            model, nodes, limits, weight=metric, neutral=start, scale=reference, groups=groups, convex=convex,
            columns=np.arange(n),
        )  # fmt: skip
        self._cost, self._curve = metric * price, metric * curve

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        rows = np.asarray(self.A @ Z)
        short, over = np.maximum(self.lo - rows, 0.0), np.maximum(rows - self.hi, 0.0)
        active = np.ones(len(Z), bool)
        kept = KEPT * (1 + np.abs(rows))
        beyond = (np.isinf(self.shortage) & (short > kept)) | (np.isinf(self.excess) & (over > kept))
        if np.any(beyond):
            return Request(Z=Z, cost=np.inf, active=active, feasible=False)
        cost = float(self._cost @ Z + 0.5 * self._curve @ Z**2)
        for amount, price in ((short, self.shortage), (over, self.excess)):
            paid = np.isfinite(price)
            cost += float(price[paid] @ amount[paid])
        if self.convex is not None:
            cost += self.convex.total(Z)
        return Request(Z=Z, cost=cost, active=active, feasible=bool(np.isfinite(cost)))


def _with_slack(model: QuadraticModel, soft: np.ndarray, price: FloatArray, sign: float) -> QuadraticModel:
    """One more column s >= 0 for each soft row: A v + sign s within its limits, at its price."""
    at = np.flatnonzero(soft)
    k, n, m = len(at), len(model.q), len(model.lo)
    if not k:
        return model
    column = sparse.csr_matrix((np.full(k, sign), (at, np.arange(k))), (m, k))
    return replace(
        model,
        P=sparse.block_diag([model.P, sparse.csc_matrix((k, k))], format="csc"),
        q=np.concatenate([model.q, price[at]]),
        A=sparse.hstack([model.A, column], format="csr"),
        lb=np.concatenate([model.lb, np.zeros(k)]),
        ub=np.concatenate([model.ub, np.full(k, np.inf)]),
        z_cols=np.arange(n)[model.z_cols],
    )


class _Sums(Rows):
    """Limits on sums of Z over groups of nodes; the costs of passing them count with the weight of the nodes."""

    def _of_sums(
        self,
        read: Arguments,
        nodes: Any,
        count: int,
        limits: tuple[FloatArray, FloatArray],
        group_of: Any,
        shortage_cost: Any,
        excess_cost: Any,
        more: dict[str, Any],
    ) -> None:
        names = read.names("nodes", nodes)
        n = len(names)
        group = read.groups("group_of", group_of, n, count)
        weight = read.optional("weight", more.get("weight"), n, 1.0)
        of_row: FloatArray = np.ones(count)
        if len(group) == n and n:
            of_row[group] = weight
            if np.any(of_row[group] != weight):
                read.wrong("weight", "differs between nodes of one group", "nodes that share a limit share a weight")
        A = sparse.csr_matrix((np.ones(n), (group, np.arange(n))), (count, n))
        shortage = read.optional("shortage_cost", shortage_cost, count, np.inf, infinite=True, least=0.0)
        excess = read.optional("excess_cost", excess_cost, count, np.inf, infinite=True, least=0.0)
        self._set_up(
            read, names, A, *limits, more["box"], more["cost"], more["curvature"], more["convex"], of_row * shortage,
            of_row * excess, more["weight"], more["scale"], more["neutral"], more["groups"],
        )  # fmt: skip


def _count(read: Arguments, group_of: Any, nodes: Any, *limits: Any) -> int:
    """Number of limits: as many as are given, else as many as there are groups, or nodes."""
    given = [np.size(limit) for limit in limits if np.ndim(limit) == 1]
    if given:
        return max(given)
    try:
        return len(nodes) if group_of is None else int(np.max(group_of, initial=-1)) + 1
    except (TypeError, ValueError):
        return 1


class Exchange(_Sums):
    """sum of Z over a group = demand of the group: what is offered must equal what is needed, or be paid for.

    One node per commodity and hour with `demand` (n,), or several nodes that share one demand: `group_of` (n,) has the
    number of each node's demand. shortage_cost, excess_cost: per unit and weight; other arguments as in `Rows`.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        demand: Numbers,
        box: Sequence[Numbers],
        *,
        group_of: IntArray | Sequence[int] | None = None,
        shortage_cost: Numbers | None = None,
        excess_cost: Numbers | None = None,
        cost: Numbers | None = None,
        curvature: Numbers | None = None,
        convex: ConvexCost | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        count = _count(read, group_of, nodes, demand)
        need = read.vector("demand", demand, count)
        more: dict[str, Any] = {"box": box, "cost": cost, "curvature": curvature, "convex": convex, "weight": weight}
        more |= {"scale": scale, "neutral": neutral, "groups": groups}
        self._of_sums(read, nodes, count, (need, need), group_of, shortage_cost, excess_cost, more)


class Capacity(_Sums):
    """sum of Z over a group <= limit: what several units use of one thing; each node has a limit, or shares one.

    group_of (n,) has the number of each node's limit where they are shared. excess_cost: per unit above the limit and
    weight, None = never. The price paid per unit of y is 0 where the limit is not reached, below 0 where it is.
    Other arguments as in `Rows`.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        limit: Numbers,
        box: Sequence[Numbers],
        *,
        group_of: IntArray | Sequence[int] | None = None,
        excess_cost: Numbers | None = None,
        cost: Numbers | None = None,
        curvature: Numbers | None = None,
        convex: ConvexCost | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        count = _count(read, group_of, nodes, limit)
        hi = read.vector("limit", limit, count, infinite=True)
        more: dict[str, Any] = {"box": box, "cost": cost, "curvature": curvature, "convex": convex, "weight": weight}
        more |= {"scale": scale, "neutral": neutral, "groups": groups}
        self._of_sums(read, nodes, count, (np.full(count, -np.inf), hi), group_of, None, excess_cost, more)


class AtLeast(_Sums):
    """sum of Z over a group >= need: the price is 0 where more is offered than needed, never below.

    group_of (n,) has the number of each node's need where they are shared. shortage_cost: per unit below the need and
    weight, the highest price there can be; None = the need must be met. Other arguments as in `Rows`.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        need: Numbers,
        box: Sequence[Numbers],
        *,
        group_of: IntArray | Sequence[int] | None = None,
        shortage_cost: Numbers | None = None,
        cost: Numbers | None = None,
        curvature: Numbers | None = None,
        convex: ConvexCost | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        count = _count(read, group_of, nodes, need)
        lo = read.vector("need", need, count, infinite=True)
        more: dict[str, Any] = {"box": box, "cost": cost, "curvature": curvature, "convex": convex, "weight": weight}
        more |= {"scale": scale, "neutral": neutral, "groups": groups}
        self._of_sums(read, nodes, count, (lo, np.full(count, np.inf)), group_of, shortage_cost, None, more)


class Band(_Sums):
    """lo <= sum of Z over a group <= hi, each side kept, or passed at a cost per unit and weight.

    Arguments as in `AtLeast` and `Capacity`.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        lo: Numbers,
        hi: Numbers,
        box: Sequence[Numbers],
        *,
        group_of: IntArray | Sequence[int] | None = None,
        shortage_cost: Numbers | None = None,
        excess_cost: Numbers | None = None,
        cost: Numbers | None = None,
        curvature: Numbers | None = None,
        convex: ConvexCost | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        count = _count(read, group_of, nodes, lo, hi)
        below = read.vector("lo", lo, count, infinite=True)
        above = read.vector("hi", hi, count, infinite=True)
        read.ordered("lo", below, "hi", above)
        more: dict[str, Any] = {"box": box, "cost": cost, "curvature": curvature, "convex": convex, "weight": weight}
        more |= {"scale": scale, "neutral": neutral, "groups": groups}
        self._of_sums(read, nodes, count, (below, above), group_of, shortage_cost, excess_cost, more)
