"""The linear system of a block's Newton step, factorised once a round.

    [ Q + Theta_x + rho    A'                          ] [ dx  ]   [ b_x ]
    [ A                   -(Theta_r + rho)^-1 - delta  ] [ dnu ] = [ b_r ]

Slacks of the rows are eliminated; rho and delta are the regularisation. Offers move by dy = C dx; with V = K^-1 [C; 0]'

    d = K^-1 b + V dlambda,    dlambda = H (dy - link - C K^-1 b),    H = (C V_x + delta)^-1

The factorisation is SuperLU's in an elimination order of our own without pivoting, which a quasi-definite matrix
allows (Vanderbei, 1995): bounded columns first, whose pivots Theta + rho are never small, then minimum degree. Rows
first would pivot on -delta where a row is an equality, and lose all digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import SuperLU, splu

from decomp.messages import BoolArray, FloatArray, IntArray

DENSEST = 30  # a bounded column in more rows than that is left to the minimum degree
OPTIONS = {"SymmetricMode": True, "Equil": False}


@dataclass(frozen=True, eq=False)
class Kkt:
    """Pattern of K in elimination order: where the changing diagonal lies in its data, and the order itself."""

    n: int
    m: int
    order: IntArray
    matrix: sparse.csc_matrix
    diagonal: IntArray
    fixed_diagonal: FloatArray

    @classmethod
    def of(cls, Q: sparse.csr_matrix, A: sparse.csr_matrix, bounded: BoolArray, fixed: BoolArray) -> Kkt:
        """Q (n, n), A (m, n) scaled; fixed columns keep a unit pivot and nothing else."""
        m, n = A.shape
        free = sparse.diags(np.where(fixed, 0.0, 1.0))
        Q, A = sparse.csr_matrix(free @ Q @ free), sparse.csr_matrix(A @ free)
        off = sparse.csr_matrix(Q - sparse.diags(Q.diagonal()))
        K = sparse.csc_matrix(sparse.bmat([[off, A.T], [A, None]])) if m else sparse.csc_matrix(off)
        K.eliminate_zeros()
        order = _order(K, n, bounded)
        inverse = np.empty(n + m, np.int64)
        inverse[order] = np.arange(n + m)
        coo = K.tocoo()
        row = np.concatenate([inverse[coo.row], np.arange(n + m)])
        col = np.concatenate([inverse[coo.col], np.arange(n + m)])
        marked = np.concatenate([coo.data, np.zeros(n + m)])
        # every diagonal entry is stored once, behind the others of its place: sums of duplicates keep them apart
        matrix = sparse.csc_matrix((marked, (row, col)), (n + m, n + m))
        matrix.sort_indices()
        columns = np.repeat(np.arange(n + m), np.diff(matrix.indptr))
        diagonal = np.flatnonzero(matrix.indices == columns)
        return cls(n, m, order, matrix, diagonal, Q.diagonal())

    def factor(self, C: sparse.csr_matrix, theta: FloatArray, theta_r: FloatArray, reg: float) -> Factor:
        """theta (n,) nan where the column is fixed; theta_r (m,) inf where the row is an equation.

        Raises LinAlgError where the factorisation breaks down.
        """
        first = np.where(np.isnan(theta), 1.0, self.fixed_diagonal + theta + reg)
        inverse_r = 1.0 / (theta_r + reg)
        data = self.matrix.data.copy()
        data[self.diagonal] = np.concatenate([first, -inverse_r - reg])[self.order]
        K = sparse.csc_matrix((data, self.matrix.indices, self.matrix.indptr), self.matrix.shape)
        try:
            lu = splu(K, permc_spec="NATURAL", diag_pivot_thresh=0.0, options=OPTIONS)
        except RuntimeError as error:  # an exactly singular factor
            raise LinAlgError(str(error)) from error
        right = np.zeros((self.n + self.m, C.shape[0]))
        right[: self.n] = C.T.toarray()
        right[: self.n][np.isnan(theta)] = 0.0
        factor = Factor(self.order, lu, inverse_r, np.zeros((0, 0)), np.zeros((0, 0)))
        V = factor.solve(right) if C.shape[0] else right
        if not np.isfinite(V).all():
            raise LinAlgError("a factor is not finite")
        G = np.asarray(C @ V[: self.n])
        G = 0.5 * (G + G.T) + reg * np.eye(len(G))
        return Factor(self.order, lu, inverse_r, V, _inverse(G))


@dataclass(frozen=True, eq=False)
class Factor:
    """K factorised: V (n + m, n_u) and H (n_u, n_u) of the module's text; inverse_r (m,) = (Theta_r + rho)^-1."""

    order: IntArray
    lu: SuperLU
    inverse_r: FloatArray
    V: FloatArray
    H: FloatArray

    def solve(self, b: FloatArray) -> FloatArray:
        """K^-1 b."""
        x = np.empty_like(b)
        x[self.order] = self.lu.solve(np.asfortranarray(b[self.order]))
        return x


def _inverse(G: FloatArray) -> FloatArray:
    """Inverse of a positive definite matrix by a Cholesky factor of it with a unit diagonal. Raises LinAlgError."""
    if not len(G):
        return G
    if not np.all(np.diag(G) > 0):
        raise LinAlgError("a block's response to its price is not positive")
    d = 1 / np.sqrt(np.diag(G))
    L = np.linalg.cholesky(G * d[:, None] * d[None, :] + 1e-14 * np.eye(len(G)))
    half = np.linalg.solve(L, np.diag(d))
    return np.asarray(half.T @ half)


def _order(K: sparse.csc_matrix, n: int, bounded: BoolArray) -> IntArray:
    """Bounded columns first, then the minimum degree of what their elimination leaves."""
    pattern = sparse.csr_matrix((np.ones(K.nnz), K.indices, K.indptr), K.shape)
    alone = np.diff(pattern[:n, :n].indptr) == 0
    first = np.flatnonzero(bounded & alone & (np.diff(pattern.indptr)[:n] <= DENSEST))
    rest = np.setdiff1d(np.arange(K.shape[0]), first)
    if not len(rest):
        return first
    B = pattern[rest][:, first]
    return np.concatenate([first, rest[_minimum_degree(pattern[rest][:, rest] + B @ B.T)]])


def _minimum_degree(K: sparse.spmatrix) -> IntArray:
    """SuperLU's minimum degree order of K + K'."""
    n = K.shape[0]
    A = sparse.csc_matrix(K)
    A.data = np.ones(len(A.data))
    A = sparse.csc_matrix(A + A.T + sparse.identity(n) * (2.0 * n))
    lu = splu(A, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.argsort(lu.perm_c)
