"""The master problem of cutting-plane rules: the coordinator's own model beside what the blocks have answered so far.

    min  g(Z) + sum_us pi_s [ sum_k alpha_usk (f_usk - <lambda_us, y_usk>) + <lambda_us, z_u> + tau/2 |r_us|^2 ]
    s.t. r_us = z_u - sum_k alpha_usk y_usk,  sum_k alpha_usk = 1,  alpha >= 0,  Z_b = sum of z_u over the units at b

lambda is the stability centre. At the optimum the price that goes with the residual is lambda + tau r. With
`price_range` instead of tau the residual costs price_range |r|: the cutting-plane model itself on a box of prices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from decomp.blocks.solve.piqp import solve
from decomp.layout import Layout
from decomp.messages import FloatArray, IntArray, QuadraticModel
from decomp.rules.columns import Columns

CLEARLY = 1.5  # how much less work the condensed equations have to promise: they stall more often


@dataclass(frozen=True, eq=False)
class MasterPoint:
    """z (M,) requested, offered (M,) = sum_s pi_s sum_k alpha y, price (N,) of the blocks, alpha (K,)."""

    z: FloatArray
    offered: FloatArray
    price: FloatArray
    alpha: FloatArray


def solve_master(
    layout: Layout,
    model: QuadraticModel,
    box: tuple[FloatArray, FloatArray],
    columns: Columns,
    center: FloatArray,
    tau: FloatArray | None,
    price_range: FloatArray | None = None,
) -> MasterPoint:
    """Solve the master around `center` (N,) with tau (M,) or with price_range (M,). Raises NoSolution."""
    n_v, M, K, N = len(model.q), len(layout.node), len(columns.block), len(layout.entry)
    weight = layout.pi * layout.weight[layout.entry]
    e = columns.values(layout, center)
    least = np.full(len(layout.keys), np.inf)
    np.minimum.at(least, columns.block, e)
    alpha_cost = layout.prob[columns.block] * (e - least[columns.block])
    z_cost = np.bincount(layout.entry, weight * center, minlength=M)
    parts = 1 if tau is not None else 2
    if tau is not None:
        curve, r_cost, r_lb = weight * layout.to_blocks(tau), np.zeros(N), np.full(N, -np.inf)
    else:
        assert price_range is not None
        curve, r_cost, r_lb = np.zeros(2 * N), np.tile(weight * layout.to_blocks(price_range), 2), np.zeros(2 * N)
    P = sparse.block_diag([sparse.csc_matrix(model.P), sparse.csc_matrix((M + K, M + K)), sparse.diags(curve)])
    q = np.concatenate([model.q, z_cost, alpha_cost, r_cost])

    spread = sparse.csr_matrix((np.ones(N), (np.arange(N), layout.entry)), (N, M))
    eye = sparse.identity(N)
    residual = eye if parts == 1 else sparse.hstack([eye, -eye])
    coupling = sparse.hstack([sparse.csr_matrix((N, n_v)), -spread, columns.matrix(layout), residual])
    n = len(layout.count)
    balance = sparse.hstack([node_balance(layout, model), sparse.csr_matrix((n, K + parts * N))])
    of_block = sparse.csr_matrix((np.ones(K), (columns.block, np.arange(K))), (len(layout.keys), K))
    B = len(layout.keys)
    convex = sparse.hstack([sparse.csr_matrix((B, n_v + M)), of_block, sparse.csr_matrix((B, parts * N))])
    own = sparse.hstack([sparse.csr_matrix(model.A), sparse.csr_matrix((len(model.lo), M + K + parts * N))])
    A = sparse.vstack([own, balance, convex, coupling], format="csc")
    one, zero = np.ones(len(layout.keys)), np.zeros(n)
    lo = np.concatenate([model.lo, zero, one, np.zeros(N)])
    hi = np.concatenate([model.hi, zero, one, np.zeros(N)])
    v_lb, v_ub = within(model, box)
    free = np.full(M, np.inf)
    lb = np.concatenate([v_lb, -free, np.zeros(K), r_lb])
    ub = np.concatenate([v_ub, free, np.full(K, np.inf), np.full(parts * N, np.inf)])

    found = solve(P, q, A, lo, hi, lb, ub, condensed=few_columns(layout, columns))
    z = found.v[n_v : n_v + M]
    alpha = np.maximum(found.v[n_v + M : n_v + M + K], 0.0)
    alpha /= np.bincount(columns.block, alpha, minlength=len(one))[columns.block]
    offered = np.asarray(columns.matrix(layout) @ alpha)
    if tau is not None:
        price = center + layout.to_blocks(tau) * (layout.to_blocks(z) - offered)
    else:
        price = center - found.rows[-N:] / weight
    return MasterPoint(z, layout.mean(offered), price, alpha)


def few_columns(layout: Layout, columns: Columns) -> bool:
    """Whether a master's linear systems are cheaper with its equations condensed, by estimates of their elimination.

        whole       sum over units of (coupling rows of the unit's scenarios, or its columns + entries if these are
                    fewer)^3: they hang together through z_u
        condensed   sum over blocks of (columns + entries)^3 + sum of (unit entries)^3 of units joined by nodes

    Never without scenarios: there the rows of a unit are those of one block.
    """
    if not np.any(layout.sharers > 1):
        return False
    B, U, n = len(layout.keys), len(layout.couplings), len(layout.count)
    unit = np.repeat(np.arange(U), np.diff(layout.first))
    at = layout.node >= 0
    joins = sparse.coo_matrix((np.ones(int(at.sum())), (unit[at], U + layout.node[at])), (U + n, U + n))
    together = connected_components(joins, directed=False)[1][unit]
    answers = np.bincount(columns.block, minlength=B)
    of_unit = np.repeat(np.arange(U), [len(c.prob) for c in layout.couplings])
    fewer = np.bincount(of_unit, answers, minlength=U) + np.diff(layout.first)
    whole = np.minimum(np.bincount(unit, layout.sharers, minlength=U), fewer)
    condensed = _cubes(answers + np.diff(layout.start)) + _cubes(np.bincount(together))
    return CLEARLY * condensed < _cubes(whole)


def _cubes(sizes: FloatArray | IntArray) -> float:
    return float(np.sum(sizes.astype(float) ** 3))


def within(model: QuadraticModel, box: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Bounds of the model's columns, those of Z also within the box."""
    lb, ub = model.lb.copy(), model.ub.copy()
    lb[model.z_cols] = np.maximum(lb[model.z_cols], box[0])
    ub[model.z_cols] = np.minimum(ub[model.z_cols], box[1])
    return lb, ub


def node_balance(layout: Layout, model: QuadraticModel) -> sparse.csr_matrix:
    """(n, n_v + M): Z_b - sum of z_u over the units at b, to be 0."""
    at, n = np.flatnonzero(layout.node >= 0), len(layout.count)
    gather = sparse.csr_matrix((np.ones(len(at)), (layout.node[at], at)), (n, len(layout.node)))
    pick = sparse.csr_matrix((np.ones(n), (np.arange(n), model.z_cols)), (n, len(model.q)))
    return sparse.hstack([pick, -gather], format="csr")


def split_price(layout: Layout, price: FloatArray, neutral: FloatArray) -> tuple[FloatArray, FloatArray]:
    """TS (n,) = sum_s pi_s lambda_us, averaged over the units of a node, neutral where there is none; w (N,) the rest.

    price (N,) of the blocks. At a master's optimum the units of a node agree on TS up to rounding.
    """
    unit = layout.mean(price)
    node = layout.totals(unit) / np.maximum(layout.count, 1)
    return np.where(layout.count > 0, node, neutral), price - layout.to_blocks(unit)


def coordinator_value(model: QuadraticModel, box: tuple[FloatArray, FloatArray], worth: FloatArray) -> float:
    """min_Z g(Z) + worth'Z (worth = weight * TS) within the box, from below."""
    q = model.q.copy()
    q[model.z_cols] += worth
    lb, ub = within(model, box)
    return solve(model.P, q, model.A, model.lo, model.hi, lb, ub).bound + model.offset
