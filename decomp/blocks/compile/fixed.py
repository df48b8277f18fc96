"""Convex terms by tangents that are settled beforehand: rows of the program like any other.

They touch where the term says (`ConvexTerm.touches`). The program stays a lower bound, for a tangent of a convex
function lies below it; how far it is off is known beforehand and does not change from round to round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Group, Terms
from decomp.blocks.compile.program import Program
from decomp.messages import FloatArray


@dataclass(frozen=True, eq=False)
class FixedTangents:
    """Rows A x >= level + share given of all settled tangents; given (M, k) of the terms, flattened.

    share says what arguments that are numbers do to the level: f is convex in them, too.
    """

    A: sparse.csr_matrix
    level: FloatArray
    share: sparse.csr_matrix
    names: tuple[str, ...]


def fixed_tangents(terms: Terms, n: int) -> FixedTangents:
    """t - sum_j f_j(p) x_j >= f(p) - sum_j f_j(p) p_j at every touch p of every term that has some."""
    A, share = _Rows(), _Rows()
    level: list[float] = []
    names: list[str] = []
    width = terms.column.shape[1]
    for group, rows in terms.by_group():
        value, slope = _at_touches(group)
        for term in range(rows.start, rows.stop):
            decided = terms.column[term, : slope.shape[1]] >= 0
            for f, g, p in zip(value, slope, group.touches, strict=True):
                columns = terms.column[term, : len(g)][decided]
                A.add([int(terms.epigraph[term]), *columns.tolist()], [1.0, *(-g[decided]).tolist()])
                share.add((term * width + np.flatnonzero(~decided)).tolist(), g[~decided].tolist())
                level.append(float(f - g @ p))
                names.append(group.name)
    return FixedTangents(A.matrix(n), np.array(level), share.matrix(len(terms) * width), tuple(names))


def with_fixed_tangents(program: Program, tangents: FixedTangents) -> Program:
    """The program with these rows; terms that have touches need no more tangents."""
    more = len(tangents.level)
    level = tangents.level + tangents.share @ program.terms.given.ravel()
    return replace(
        program,
        A=sparse.csr_matrix(sparse.vstack([program.A, tangents.A])),
        row_lo=np.concatenate([program.row_lo, level]),
        row_hi=np.concatenate([program.row_hi, np.full(more, np.inf)]),
        row_names=program.row_names + tangents.names,
        terms=Terms(tuple(replace(g, settled=len(g.touches) > 0) for g in program.terms.groups)),
    )


def _at_touches(group: Group) -> tuple[FloatArray, FloatArray]:
    """f (T,) and its gradient (T, k) where the tangents touch."""
    if not len(group.touches):
        return np.zeros(0), np.zeros((0, len(group.column)))
    points = np.asarray(group.touches, float)
    slopes = np.column_stack([np.broadcast_to(s, len(points)) for s in group.gradient(*points.T)])
    return np.asarray(group.function(*points.T), float), slopes


class _Rows:
    """Rows of a sparse matrix, one after the other; columns of a row in order."""

    def __init__(self) -> None:
        self.start, self.index, self.value = [0], list[int](), list[float]()

    def add(self, index: list[int], value: list[float]) -> None:
        order = np.argsort(index, kind="stable")
        self.index += [index[i] for i in order]
        self.value += [value[i] for i in order]
        self.start.append(len(self.index))

    def matrix(self, width: int) -> sparse.csr_matrix:
        parts = np.array(self.value, float), np.array(self.index, np.int32), np.array(self.start, np.int32)
        return sparse.csr_matrix(parts, shape=(len(self.start) - 1, width))
