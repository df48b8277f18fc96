"""The restricted master with whole decisions: what each block decides is chosen among what it has answered.

    min  g(Z) + sum_us pi_s sum_k alpha_usk f_usk
    s.t. sum_k alpha_usk y_usk = z_u,  Z_b = sum of z_u over the units at b
         sum_{k of pattern p} alpha_usk = beta_usp,  sum_p beta_usp = 1,  beta binary,  alpha >= 0

Answers with the same integer decisions are points of one convex set: their averages are answers, too, at most at the
averaged cost. Answers of a block that does not say what it has decided stand each for itself.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from decomp.integer_pattern import UNKNOWN
from decomp.layout import Layout
from decomp.messages import FloatArray, IntArray, QuadraticModel
from decomp.rules.columns import Columns
from decomp.rules.master import node_balance, within

NODES = 200  # of the branch-and-bound tree: a count, not a clock, so that the choice is repeatable
GAP = 5e-4
NEAR = 0.01  # relative to the value of all columns: what costs so much more than the best of its block is left out,
FEW = 400  # but never of the so many that are nearest


def choose(
    layout: Layout, model: QuadraticModel, box: tuple[FloatArray, FloatArray], columns: Columns, price: FloatArray
) -> FloatArray | None:
    """z (M,) of the program above, from the columns that are near the best at the price (N,).

    A solution better than NEAR above the model's bound at this price takes none of the others. None where g is not
    linear, or where nothing was found.
    """
    if not model.linear:
        return None
    columns = columns.only(_near(layout, columns, price))
    part, part_block = _patterns(columns)
    K, p, n_v, M, N = len(part), len(part_block), len(model.q), len(layout.node), len(layout.entry)
    B, n = len(layout.keys), len(layout.count)
    spread = sparse.csr_matrix((np.ones(N), (np.arange(N), layout.entry)), (N, M))
    of_part = sparse.csr_matrix((np.ones(K), (part, np.arange(K))), (p, K))
    of_block = sparse.csr_matrix((np.ones(p), (part_block, np.arange(p))), (B, p))
    balance = node_balance(layout, model)
    A = sparse.bmat(
        [
            [sparse.csr_matrix(model.A), None, None, None],
            [balance[:, :n_v], balance[:, n_v:], None, None],
            [None, -spread, columns.matrix(layout), None],
            [None, None, of_part, -sparse.identity(p)],
            [None, None, None, of_block],
        ],
        format="csr",
    )
    zero, one = np.zeros(n + N + p), np.ones(B)
    lb, ub = within(model, box)
    free = np.full(M, np.inf)
    found = milp(
        np.concatenate([model.q, np.zeros(M), layout.prob[columns.block] * columns.cost, np.zeros(p)]),
        integrality=np.concatenate([np.zeros(n_v + M + K), np.ones(p)]),
        bounds=Bounds(
            np.concatenate([lb, -free, np.zeros(K + p)]), np.concatenate([ub, free, np.full(K, np.inf), np.ones(p)])
        ),
        constraints=LinearConstraint(A, np.concatenate([model.lo, zero, one]), np.concatenate([model.hi, zero, one])),
        options={"mip_rel_gap": GAP, "node_limit": NODES},
    )
    if found.x is None:
        return None
    # the solver's weights sum to 1 and its binaries are whole only within its tolerance
    beta = np.round(found.x[n_v + M + K :])
    alpha = np.maximum(found.x[n_v + M : n_v + M + K], 0.0) * beta[part]
    total = np.bincount(columns.block, alpha, minlength=B)
    if np.any(total <= 0):
        return None
    return layout.mean(np.asarray(columns.matrix(layout) @ (alpha / total[columns.block])))


def _near(layout: Layout, columns: Columns, price: FloatArray) -> IntArray:
    value = columns.values(layout, price)
    least = np.full(len(layout.keys), np.inf)
    np.minimum.at(least, columns.block, value)
    dearer = layout.prob[columns.block] * (value - least[columns.block])
    enough = max(NEAR * abs(float(np.sum(layout.prob * least))), np.sort(dearer)[min(FEW, len(dearer)) - 1])
    return np.flatnonzero(dearer <= enough)


def _patterns(columns: Columns) -> tuple[IntArray, IntArray]:
    """Number (K,) of the set of averageable answers each column belongs to, and the block of each set."""
    number: dict[tuple[int, int, int], int] = {}
    part = np.zeros(len(columns.block), np.int64)
    for k, (block, pattern) in enumerate(zip(columns.block.tolist(), columns.pattern.tolist(), strict=True)):
        alone = k if pattern == UNKNOWN else -1
        part[k] = number.setdefault((block, pattern, alone), len(number))
    return part, np.array([block for block, _, _ in number], np.int64)
