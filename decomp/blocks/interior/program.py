"""The coordinator's model as programs that offer -Z, one for each independent part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.scaling import tangent_matrix
from decomp.messages import FloatArray, IntArray, QuadraticModel


def with_tangents(program: Program, pool: Pool) -> Program:
    """The program with the pool's tangents as rows instead of its convex terms: a relaxation of it."""
    if not len(program.terms):
        return program
    A = sparse.csr_matrix(sparse.vstack([program.A, tangent_matrix(program.terms, pool, len(program.cost))]))
    return replace(
        program,
        A=A,
        row_lo=np.concatenate([program.row_lo, pool.level]),
        row_hi=np.concatenate([program.row_hi, np.full(len(pool), np.inf)]),
        row_names=program.row_names + tuple(f"tangent {i}" for i in range(len(pool))),
        terms=Terms(),
    )


def coordinator_program(model: QuadraticModel, box: tuple[FloatArray, FloatArray]) -> list[tuple[Program, IntArray]]:
    """Programs min 1/2 v'Pv + q'v, lo <= A v <= hi with coupling -v[z_cols], and the node rows of each.

    box: bounds of Z beside the model's own. Columns that no row and no quadratic cost ties together are apart.
    """
    P, A = sparse.csr_matrix(model.P), sparse.csr_matrix(model.A)
    lb, ub = model.lb.copy(), model.ub.copy()
    lb[model.z_cols] = np.maximum(lb[model.z_cols], box[0])
    ub[model.z_cols] = np.minimum(ub[model.z_cols], box[1])
    ties = abs(P) + abs(A.T) @ abs(A)
    count, label = connected_components(ties, directed=False)
    row_label = np.full(A.shape[0], -1)
    coo = A.tocoo()
    row_label[coo.row] = label[coo.col]
    found = []
    owner = label[model.z_cols]
    for part in range(count):
        columns, rows = np.flatnonzero(label == part), np.flatnonzero(row_label == part)
        nodes = np.flatnonzero(owner == part)
        position = np.searchsorted(columns, model.z_cols[nodes])
        m = len(nodes)
        coupling = sparse.csr_matrix((-np.ones(m), (np.arange(m), position)), (m, len(columns)))
        program = Program(
            cost=model.q[columns], constant=0.0, quad=sparse.csc_matrix(P[columns][:, columns]),
            A=sparse.csr_matrix(A[rows][:, columns]), row_lo=model.lo[rows], row_hi=model.hi[rows],
            lb=lb[columns], ub=ub[columns], integer=np.zeros(len(columns), bool), coupling=coupling,
            coupling_0=np.zeros(m), report=sparse.csr_matrix((0, len(columns))), report_0=np.zeros(0),
            row_names=(), col_names=(), terms=Terms(),
        )  # fmt: skip
        found.append((program, nodes))
    return found
