"""Reads a Pyomo model whose mutable parameters stay open: every number as base + slope theta."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr import MaxExpression, MinExpression
from pyomo.core.expr.visitor import ExpressionReplacementVisitor, identify_variables
from pyomo.repn import generate_standard_repn
from scipy import sparse

from decomp.blocks.compile.compiler import Reader, members, scalar_expression, sequence, smallest_curvature
from decomp.blocks.compile.outer_approximation import ConvexTerm, Group, Terms
from decomp.errors import Mistake
from decomp.messages import FloatArray

REMEDY = "give what is worked out from the data as a mutable parameter of its own"


@dataclass(frozen=True, eq=False)
class Affine:
    """Numbers value (r,) + slope (r, p) theta."""

    value: FloatArray
    slope: sparse.csr_matrix


@dataclass(frozen=True, eq=False)
class _Sum:
    """constant + sum_j (coefficient_j + slope_j theta) x_j + slope theta; slopes by number of the parameter."""

    constant: float
    constant_slope: dict[int, float]
    linear: dict[int, float]
    linear_slope: dict[int, dict[int, float]]
    quadratic: list[tuple[int, int, float]]


class SymbolicReader(Reader):
    """A reader in whose eyes a mutable parameter is a variable beside the columns."""

    def __init__(self, model: pyo.ConcreteModel, name: str) -> None:
        super().__init__(model, name)
        found = model.component_objects(pyo.Param, active=True, descend_into=True)
        self.parameters = [p for p in found if p.mutable]
        self.count = sum(len(p) for p in self.parameters)
        self._stand_ins = pyo.VarList()
        self._stand_ins.construct()
        self._replaced: dict[int, Any] = {}
        self._number: dict[int, int] = {}
        self._members = [p[index] for p in self.parameters for index in p]  # ids must not be used again
        for number, member in enumerate(self._members):
            stand_in = self._stand_ins.add()
            self._replaced[id(member)] = stand_in
            self._number[id(stand_in)] = number
        self._open = ExpressionReplacementVisitor(
            substitute=self._replaced, descend_into_named_expressions=True, remove_named_expressions=True
        )
        self._given: list[tuple[int, int, int, dict[int, float]]] = []  # term group, argument, member, slopes
        self._groups = 0

    # -- expressions ---------------------------------------------------------------------------------------------------

    def _read(self, where: str, body: Any, quadratic: bool = False) -> _Sum:
        expression = body
        if hasattr(body, "is_expression_type"):
            expression = self._open.walk_expression(body)
        repn = generate_standard_repn(expression, quadratic=True, compute_values=True)
        out = _Sum(float(repn.constant), {}, {}, {}, [])
        if repn.nonlinear_expr is not None:
            self.nonlinear(where, "it is not linear, or not affine in the mutable parameters")
            return out
        for v, coefficient in zip(repn.linear_vars, repn.linear_coefs, strict=True):
            into, at = out.linear, self._number.get(id(v))
            if at is not None:
                into = out.constant_slope
            else:
                at = self.column(where, v)
            into[at] = into.get(at, 0.0) + float(coefficient)
        for (a, b), coefficient in zip(repn.quadratic_vars, repn.quadratic_coefs, strict=True):
            i, j = self._number.get(id(a)), self._number.get(id(b))
            if i is not None and j is not None:
                self.mistakes.append(
                    Mistake(self.name, "model", where, "it multiplies mutable parameters with each other", REMEDY)
                )
            elif i is None and j is None:
                if not quadratic:
                    self.nonlinear(where, "it is not linear")
                out.quadratic.append((self.column(where, a), self.column(where, b), float(coefficient)))
            else:
                at, parameter = (self.column(where, b), i) if i is not None else (self.column(where, a), j)
                assert parameter is not None
                out.linear.setdefault(at, 0.0)
                slope = out.linear_slope.setdefault(at, {})
                slope[parameter] = slope.get(parameter, 0.0) + float(coefficient)
        return out

    def matrix(self, bodies: Iterable[tuple[str, Any]]) -> tuple[sparse.csr_matrix, sparse.csr_matrix, Affine]:
        """Coefficients (r, n), the slopes (nnz, p) of the stored ones, and the constants (r,) of linear expressions."""
        start, index, value, slopes, sums = [0], list[int](), list[float](), list[dict[int, float]](), list[_Sum]()
        for where, body in bodies:
            s = self._read(where, body)
            for column in sorted(s.linear):
                index.append(column)
                value.append(s.linear[column])
                slopes.append(s.linear_slope.get(column, {}))
            start.append(len(index))
            sums.append(s)
        parts = np.array(value, float), np.array(index, np.int32), np.array(start, np.int32)
        A = sparse.csr_matrix(parts, shape=(len(sums), len(self.columns)))
        constants = Affine(np.array([s.constant for s in sums], float), self._slopes([s.constant_slope for s in sums]))
        return A, self._slopes(slopes), constants

    def plain_rows(self, where: str, component: Any) -> tuple[sparse.csr_matrix, Affine]:
        """Rows whose coefficients follow no parameter; their constants may."""
        matrix, slopes, constants = self.matrix(members(component) if component is not None else [])
        if slopes.nnz:
            problem = "a coefficient follows a mutable parameter"
            remedy = "define a variable equal to the product by a constraint"
            self.mistakes.append(Mistake(self.name, "model", where, problem, remedy))
        return matrix, constants

    def objective(self, where: str, component: Any) -> tuple[Affine, Affine, sparse.csc_matrix | None]:
        """Linear part (n,), constant (1,) and symmetric Q of c'x + 1/2 x'Qx."""
        n, s = len(self.columns), self._read(where, scalar_expression(component), quadratic=True)
        linear = np.zeros(n)
        linear[list(s.linear)] = list(s.linear.values())
        cost = Affine(linear, self._slopes([s.linear_slope.get(j, {}) for j in range(n)]))
        constant = Affine(np.array([s.constant]), self._slopes([s.constant_slope]))
        if not s.quadratic:
            return cost, constant, None
        i, j, value = zip(*s.quadratic, strict=True)
        half = sparse.coo_matrix((np.array(value, float), (i, j)), shape=(n, n))
        quad = sparse.csc_matrix(half + half.T)
        quad.eliminate_zeros()
        if smallest_curvature(quad) < 0:
            self.nonlinear(where, "its quadratic part is not convex")
        return cost, constant, quad

    def sides(self, ends: Iterable[tuple[str, Any]], absent: float) -> Affine:
        """Bounds (r,), which are numbers or expressions of parameters; None = absent."""
        value, slopes = [], []
        for where, end in ends:
            if end is None or not hasattr(end, "is_expression_type"):
                value.append(absent if end is None else float(end))
                slopes.append(dict[int, float]())
                continue
            s = self._read(where, end)
            value.append(s.constant)
            slopes.append(s.constant_slope)
        return Affine(np.array(value, float), self._slopes(slopes))

    def bounds(self, ends: Iterable[tuple[str, Any]], absent: float) -> tuple[Affine, FloatArray]:
        """Bounds (r,), and the numbers that their variables' domains confine them to: absent where they do not."""
        own, domain = [], []
        for where, end in ends:
            numbers: list[float] = []
            if isinstance(end, MaxExpression | MinExpression):
                # the tighter of the user's bound and the domain's, see pyomo's Var.lower and Var.upper
                numbers = [float(a) for a in end.args if not hasattr(a, "is_expression_type")]
                others = [a for a in end.args if hasattr(a, "is_expression_type")]
                end = others[0] if len(others) == 1 else end
            domain.append(numbers[0] if numbers else absent)
            own.append((where, end))
        return self.sides(own, absent), np.array(domain, float)

    # -- convex terms --------------------------------------------------------------------------------------------------

    def term(self, term: ConvexTerm) -> Group:
        """As without parameters; arguments that are expressions of parameters follow them."""
        numbers: list[Any] = []
        m = len(sequence(term.epigraph))
        for j, argument in enumerate(term.variables):
            parts = sequence(argument)
            values = list(parts)
            for i, part in enumerate(parts):
                if not hasattr(part, "is_expression_type") or id(part) in self.index:
                    continue
                if any(identify_variables(part, include_fixed=False)):
                    continue  # the mistake is the base class's to tell
                s = self._read(term.name, part)
                values[i] = s.constant
                for member in [i] if len(parts) > 1 else range(m):
                    self._given.append((self._groups, j, member, s.constant_slope))
            numbers.append(values)
        self._groups += 1
        return super().term(replace(term, variables=numbers))

    def given(self, terms: Terms) -> sparse.csr_matrix:
        """Slopes (M k, p) of the numbers in the terms."""
        slopes = [dict[int, float]() for _ in range(terms.given.size)]
        first = [rows.start for _, rows in terms.by_group()]
        for group, argument, member, slope in self._given:
            slopes[(first[group] + member) * terms.given.shape[1] + argument] = slope
        return self._slopes(slopes)

    def _slopes(self, rows: list[dict[int, float]]) -> sparse.csr_matrix:
        start = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int32)
        index = np.array([number for r in rows for number in sorted(r)], np.int32)
        value = np.array([r[number] for r in rows for number in sorted(r)], float)
        return sparse.csr_matrix((value, index, start), shape=(len(rows), self.count))
