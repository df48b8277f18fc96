"""A block's model as plain arrays, in the units the user wrote it in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Terms
from decomp.messages import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Program:
    """min 1/2 x'Qx + cost'x + constant,  row_lo <= A x <= row_hi,  lb <= x <= ub,  x_j integer where integer_j.

    Beside the rows stand the convex terms x_t >= f(x_1..x_k). What the block offers is coupling x + coupling_0 (n_u,),
    what it tells without a price is report x + report_0 (m,). Free bounds are +-inf; Q is symmetric, None = linear.
    `curve`: columns that stand for the quadratic cost in mixed-integer solves.
    """

    cost: FloatArray
    constant: float
    quad: sparse.csc_matrix | None
    A: sparse.csr_matrix
    row_lo: FloatArray
    row_hi: FloatArray
    lb: FloatArray
    ub: FloatArray
    integer: BoolArray
    coupling: sparse.csr_matrix
    coupling_0: FloatArray
    report: sparse.csr_matrix
    report_0: FloatArray
    row_names: tuple[str, ...]
    col_names: tuple[str, ...]
    terms: Terms
    curve: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))

    def objective(self, x: FloatArray) -> float:
        """1/2 x'Qx + cost'x + constant."""
        curved = 0.0 if self.quad is None else 0.5 * float(x @ (self.quad @ x))
        return float(np.sum(self.cost * x)) + curved + self.constant

    def offer(self, x: FloatArray) -> FloatArray:
        """The coupling values of a point (n_u,)."""
        return np.asarray(self.coupling @ x + self.coupling_0)

    def offer_and_report(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Both at once."""
        both, n = self._outputs @ x, len(self.coupling_0)
        return both[:n] + self.coupling_0, both[n:] + self.report_0

    @cached_property
    def _outputs(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(sparse.vstack([self.coupling, self.report]))

    def lifted(self, x: FloatArray) -> FloatArray:
        """The point with every epigraph variable raised to its function: what the point truly costs."""
        return self.terms.lifted(x, self.terms.values(self.terms.arguments(x))) if len(self.terms) else x

    @cached_property
    def coupling_t(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.coupling.T)

    @cached_property
    def A_t(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.A.T)

    @cached_property
    def term_weight(self) -> FloatArray:
        """Cost of one unit of each epigraph variable: |cost|, and 1 more where a row, bound or offer holds it too."""
        return np.abs(self.cost[self.terms.epigraph]) + (self._coupled | np.isfinite(self.ub))[self.terms.epigraph]

    @cached_property
    def limiting(self) -> BoolArray:
        """(M,) the terms whose epigraph variable a row, an upper bound or an offer holds: below the function it is no
        error of the cost but a limit that is broken."""
        held = (self._coupled | np.isfinite(self.ub))[self.terms.epigraph]
        return np.asarray(held & ~np.isin(self.terms.epigraph, self.curve))

    @cached_property
    def _coupled(self) -> BoolArray:
        coupled = np.zeros(len(self.cost), bool)
        for matrix in (self.A, self.coupling, self.quad):
            if matrix is not None:
                coupled[matrix.tocoo().col] = True
        return coupled

    def variant(self, **changes: Any) -> Program:
        """The same structure with other numbers; what depends on the matrices alone is not worked out again."""
        other = object.__new__(Program)
        other.__dict__.update({name: self.__dict__[name] for name in _FIELDS})
        other.__dict__.update(changes)
        other.__dict__.update(coupling_t=self.coupling_t, _coupled=self._coupled, _outputs=self._outputs)
        if "A" not in changes:
            other.__dict__["A_t"] = self.A_t
        return other

    def data(self) -> tuple[Any, ...]:
        """All its numbers, without the names."""
        values = [getattr(self, name) for name in _FIELDS if name not in ("row_names", "col_names", "terms")]
        return (*values, self.terms.data())

    def with_rows(self, A: sparse.csr_matrix, value: FloatArray, names: tuple[str, ...]) -> Program:
        """The same program with more rows A x = value."""
        return replace(
            self,
            A=sparse.csr_matrix(sparse.vstack([self.A, A])),
            row_lo=np.concatenate([self.row_lo, value]),
            row_hi=np.concatenate([self.row_hi, value]),
            row_names=self.row_names + names,
        )


_FIELDS = tuple(f.name for f in fields(Program))
