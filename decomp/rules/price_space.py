"""Newton's system of all participants in the space of prices: what the root of an interior point solves.

Unknowns: prices T (n,) of the nodes' balance, offers ybar (M,) agreed over a unit's scenarios, requests Z (n,). A
participant with curvature H and right side t answers dlambda = H dy - t. From the leaves to the root:

    unit   H_u = sum_s pi_s H_us,  H_u dybar_u = (T - sum_s pi_s lambda_us) + sum_s pi_s t_us + E' dT
    part   H_p dy_p = (T - lambda_p) + t_p + dT,  dZ = -dy_p
    node   S dT = -(sum_u ybar_u - Z) - E y0 - z0,   S = sum_u E H_u^-1 E' + sum_p H_p^-1

E adds unit entries up at their nodes; y0 and z0 are the answers at dT = 0. Up to DENSE prices S is one dense matrix.
Beyond, its diagonal blocks between nodes that parts tie together (the network of an hour) are factorised alone, and the
rest, what units tie over the hours, is left to conjugate gradients with these blocks as preconditioner: a unit that
ties its hours by few rows adds as few iterations (Hestenes and Stiefel, 1952; Axelsson, 1994, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from decomp.layout import Layout
from decomp.messages import FloatArray, IntArray

DENSE = 3000  # prices up to which one dense factor is the fastest
TOLERANCE = 1e-11
ITERATIONS = 400
Piece = tuple[IntArray, FloatArray]  # node rows, a matrix between them
SHIFTS = (0.0, 1e-14, 1e-12, 1e-10, 1e-8)


@dataclass(frozen=True, eq=False)
class Residuals:
    """lack (M,) = T - sum_s pi_s lambda, part_lack = T - lambda_p, balance (n,) = sum ybar - Z."""

    lack: FloatArray
    part_lack: FloatArray
    balance: FloatArray

    def none(self) -> Residuals:
        return Residuals(np.zeros_like(self.lack), np.zeros_like(self.part_lack), np.zeros_like(self.balance))


class PriceSpace:
    """The factorised system. hessians: H of every block in key order; of every part with its node rows."""

    def __init__(
        self, layout: Layout, hessians: Sequence[FloatArray], parts: Sequence[FloatArray], rows: Sequence[IntArray]
    ) -> None:
        self.layout = layout
        n = len(layout.count)
        self.rows = np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)
        sums = [np.zeros((m, m)) for m in np.diff(layout.first)]
        unit = np.repeat(np.arange(len(layout.couplings)), [len(c.prob) for c in layout.couplings])
        for b, H in enumerate(hessians):
            own = layout.entry[layout.start[b] : layout.start[b + 1]] - layout.first[unit[b]]
            sums[unit[b]][np.ix_(own, own)] += layout.prob[b] * H
        self.units = [Cholesky(H) for H in sums]
        pieces: list[Piece] = []
        for u, factor in enumerate(self.units):
            nodes = layout.node[layout.first[u] : layout.first[u + 1]]
            own = np.flatnonzero(nodes >= 0)
            if len(own):
                pieces.append((nodes[own], factor.inverse()[np.ix_(own, own)]))
        self.parts = [Cholesky(H) for H in parts]
        pieces += [(at, factor.inverse()) for factor, at in zip(self.parts, rows, strict=True)]
        self.root: Cholesky | Grouped = Cholesky(_sum(n, pieces)) if n <= DENSE else Grouped(n, pieces, rows)

    def solve(self, t: FloatArray, part_t: FloatArray, residuals: Residuals) -> tuple[FloatArray, ...]:
        """dT (n,), dybar (M,), and dy of the parts, whose dZ is its negative; t (N,) of the blocks."""
        layout = self.layout
        mean = np.bincount(layout.entry, layout.pi * t, minlength=len(layout.node))
        y0 = _solve(self.units, residuals.lack + mean)
        z0 = _solve(self.parts, residuals.part_lack + part_t)
        right = -residuals.balance - layout.totals(y0)
        right[self.rows] -= z0
        dT = self.root.solve(right)
        return dT, y0 + _solve(self.units, layout.to_units(dT)), z0 + _solve(self.parts, dT[self.rows])


def _sum(n: int, pieces: Sequence[Piece]) -> FloatArray:
    """(n, n) the sum of matrices between some of the nodes."""
    S = np.zeros((n, n))
    for at, matrix in pieces:
        np.add.at(S, np.ix_(at, at), matrix)
    return S


class Grouped:
    """S with its blocks between the nodes of a group factorised, solved by conjugate gradients.

    groups: the node rows of each, apart from each other. Where the iterations do not come to TOLERANCE, S is factorised
    as a whole after all. Raises LinAlgError.
    """

    def __init__(self, n: int, pieces: Sequence[Piece], groups: Sequence[IntArray]) -> None:
        self.n, self.pieces = n, pieces
        missing = np.setdiff1d(np.arange(n), np.concatenate([np.zeros(0, np.int64), *groups]))
        self.groups = [*groups, *(np.array([i]) for i in missing)]
        none: list[FloatArray] = [np.zeros(0)]
        row, col, value = (
            np.concatenate([z.astype(kind) for z in each])
            for each, kind in (
                (none + [np.repeat(at, len(at)) for at, _ in pieces], np.int64),
                (none + [np.tile(at, len(at)) for at, _ in pieces], np.int64),
                (none + [np.ravel(matrix) for _, matrix in pieces], float),
            )
        )
        self.S = sparse.csr_matrix((value, (row, col)), (n, n))
        self.factors = [Cholesky(self.S[at][:, at].toarray()) for at in self.groups]
        self.scale = np.sqrt(self.S.diagonal())
        self._whole: Cholesky | None = None

    def solve(self, b: FloatArray) -> FloatArray:
        """S^-1 b; the residual is measured in units of the square roots of the diagonal of S."""
        if self._whole is None:
            found = self._iterated(b)
            if found is not None:
                return found
            self._whole = Cholesky(_sum(self.n, self.pieces))
        return self._whole.solve(b)

    def _iterated(self, b: FloatArray) -> FloatArray | None:
        x, r = np.zeros(self.n), b.copy()
        enough = TOLERANCE * float(np.linalg.norm(b / self.scale))
        z = self._preconditioned(r)
        direction, before = z, float(r @ z)
        for _ in range(ITERATIONS):
            if float(np.linalg.norm(r / self.scale)) <= enough:
                return x
            image = self.S @ direction
            curvature = float(direction @ image)
            if not curvature > 0:
                return None
            step = before / curvature
            x, r = x + step * direction, r - step * image
            z = self._preconditioned(r)
            now = float(r @ z)
            direction, before = z + now / before * direction, now
        return None

    def _preconditioned(self, r: FloatArray) -> FloatArray:
        out = np.empty(self.n)
        for at, factor in zip(self.groups, self.factors, strict=True):
            out[at] = factor.solve(r[at])
        return out


class Cholesky:
    """Dense Cholesky factor of a matrix scaled to a unit diagonal. Raises LinAlgError."""

    def __init__(self, H: FloatArray) -> None:
        H = 0.5 * (H + H.T)
        if not (np.isfinite(H).all() and np.all(np.diag(H) > 0)):
            raise LinAlgError("a diagonal is not positive")
        self.d = 1 / np.sqrt(np.diag(H))
        H = H * self.d[:, None] * self.d[None, :]
        self.factor: Any = None
        for shift in SHIFTS if len(H) else ():
            try:
                self.factor = cho_factor(H + shift * np.eye(len(H)), lower=True, check_finite=False)
                return
            except LinAlgError:
                continue
        if len(H):
            raise LinAlgError("no Cholesky factor")

    def solve(self, b: FloatArray) -> FloatArray:
        if self.factor is None:
            return b
        return np.asarray(self.d * cho_solve(self.factor, self.d * b, check_finite=False))

    def inverse(self) -> FloatArray:
        if self.factor is None:
            return np.zeros((0, 0))
        return np.asarray(self.d[:, None] * cho_solve(self.factor, np.diag(self.d), check_finite=False))


def _solve(factors: Sequence[Cholesky], right: FloatArray) -> FloatArray:
    """Block-diagonal system of consecutive dense factors."""
    out, at = np.empty(len(right)), 0
    for factor in factors:
        end = at + len(factor.d)
        out[at:end] = factor.solve(right[at:end])
        at = end
    return out
