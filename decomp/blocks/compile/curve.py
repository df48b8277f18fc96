"""A quadratic cost as convex terms, for the mixed-integer solves: there is no mixed-integer quadratic solver here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Function, Gradient, Group, Terms
from decomp.blocks.compile.program import Program
from decomp.messages import FloatArray


def with_curve_columns(program: Program) -> Program:
    """One more column t >= 1/2 x'Qx for each connected part of Q; the quadratic cost itself stays.

    Continuous solves take Q as it is and leave the new columns out; mixed-integer solves take the columns at cost 1 and
    leave Q out. Both are the same program up to the tolerance of the tangents.
    """
    if program.quad is None:
        return program
    count, label = sparse.csgraph.connected_components(program.quad, directed=False)
    size = np.bincount(label, minlength=count)
    diagonal = program.quad.diagonal()
    single = np.array([j for j in range(len(label)) if size[label[j]] == 1 and diagonal[j] > 0], np.int64)
    parts = [np.flatnonzero(label == part) for part in np.flatnonzero(size > 1)]
    n = len(program.cost)
    more = len(single) + len(parts)
    groups = [_group(np.arange(n, n + len(single)), single[None, :], diagonal[single])] if len(single) else []
    for i, columns in enumerate(parts):
        dense = program.quad[columns][:, columns].toarray()
        groups.append(_group(np.array([n + len(single) + i]), columns[:, None], dense))

    def wider(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
        return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], n + more))

    quad = program.quad.tocoo()
    return replace(
        program,
        cost=np.concatenate([program.cost, np.zeros(more)]),
        quad=sparse.csc_matrix((quad.data, (quad.row, quad.col)), shape=(n + more, n + more)),
        A=wider(program.A),
        lb=np.concatenate([program.lb, np.zeros(more)]),
        ub=np.concatenate([program.ub, np.full(more, np.inf)]),
        integer=np.concatenate([program.integer, np.zeros(more, bool)]),
        coupling=wider(program.coupling),
        report=wider(program.report),
        col_names=program.col_names + tuple(f"cost, quadratic part {i}" for i in range(more)),
        terms=Terms((*program.terms.groups, *groups)),
        curve=np.arange(n, n + more),
    )


def _group(epigraph: np.ndarray, column: np.ndarray, curvature: FloatArray) -> Group:
    """Terms 1/2 c x^2 for a vector of curvatures (m,), or one term 1/2 x'Qx for a matrix (k, k)."""
    function, gradient = _diagonal(curvature) if curvature.ndim == 1 else _dense(curvature)
    return Group(epigraph, column, np.zeros(column.shape), function, gradient, "cost, quadratic part")


def _diagonal(curvature: FloatArray) -> tuple[Function, Gradient]:
    def value(x: FloatArray) -> FloatArray:
        return curvature * x * x / 2

    def slope(x: FloatArray) -> Sequence[FloatArray]:
        return [curvature * x]

    return value, slope


def _dense(quad: FloatArray) -> tuple[Function, Gradient]:
    def value(*x: FloatArray) -> FloatArray:
        point = np.array(x)
        return np.einsum("im,ij,jm->m", point, quad, point) / 2

    def slope(*x: FloatArray) -> Sequence[FloatArray]:
        return list(quad @ np.array(x))

    return value, slope
