"""The restricted master with whole answers: one collected answer a block, for blocks whose average is no answer."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from decomp.layout import Layout
from decomp.messages import FloatArray, QuadraticModel
from decomp.rules.master import Columns, node_balance, within

NODES = 200  # of the branch-and-bound tree: a count, not a clock, so that the choice is repeatable
GAP = 1e-3


def choose(
    layout: Layout, model: QuadraticModel, box: tuple[FloatArray, FloatArray], columns: Columns
) -> FloatArray | None:
    """ybar (M,) of  min g(Z) + sum_u sum_k alpha_uk f_uk,  sum_k alpha_uk = 1, alpha whole, Z_b = sum of y at b.

    None where g is not linear, where units have several scenarios (their answers need not agree), or where no choice of
    answers suits the coordinator.
    """
    if np.any(model.P) or len(layout.keys) != len(layout.couplings):
        return None
    K, n_v, M = len(columns.block), len(model.q), len(layout.node)
    Y = columns.matrix(layout).tocsr()
    balance = node_balance(layout, model)
    of_block = sparse.csr_matrix((np.ones(K), (columns.block, np.arange(K))), (len(layout.keys), K))
    A = sparse.vstack(
        [
            sparse.hstack([sparse.csr_matrix(model.A), sparse.csr_matrix((len(model.lo), K))]),
            sparse.hstack([balance[:, :n_v], balance[:, n_v:] @ Y]),
            sparse.hstack([sparse.csr_matrix((len(layout.keys), n_v)), of_block]),
        ],
        format="csr",
    )
    zero, one = np.zeros(len(layout.count)), np.ones(len(layout.keys))
    lb, ub = within(model, box)
    found = milp(
        np.concatenate([model.q, columns.cost]),
        integrality=np.concatenate([np.zeros(n_v), np.ones(K)]),
        bounds=Bounds(np.concatenate([lb, np.zeros(K)]), np.concatenate([ub, np.ones(K)])),
        constraints=LinearConstraint(A, np.concatenate([model.lo, zero, one]), np.concatenate([model.hi, zero, one])),
        options={"mip_rel_gap": GAP, "node_limit": NODES},
    )
    if found.x is None:
        return None
    chosen = np.round(found.x[n_v:])
    return np.asarray(Y @ chosen) if chosen.sum() == len(layout.keys) and Y.shape[0] == M else None
