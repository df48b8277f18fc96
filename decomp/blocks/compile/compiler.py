"""From a Pyomo model to arrays, once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.base.component import ActiveComponent
from pyomo.core.expr.visitor import identify_variables
from pyomo.repn import generate_standard_repn
from scipy import sparse

from decomp.blocks.compile.curve import with_curve_columns
from decomp.blocks.compile.fixed import fixed_tangents, with_fixed_tangents
from decomp.blocks.compile.outer_approximation import ConvexTerm, Group, Terms
from decomp.blocks.compile.program import Program
from decomp.errors import InputError, Mistake

UNDERSTOOD = {"Constraint", "Objective", "Block", "Suffix", "ConstraintList", "Piecewise"}
WHOLE = 1e-9  # a bound this far beside a whole number is meant to be it


def columns(model: pyo.ConcreteModel) -> list[Any]:
    """The variables that are decided, in the order they were declared: the order of every point array."""
    found = model.component_data_objects(pyo.Var, active=True, descend_into=True)
    return [v for v in found if not v.fixed]


def compile_model(
    model: pyo.ConcreteModel,
    terms: Sequence[ConvexTerm] = (),
    name: str = "model",
    *,
    fixed: bool = False,
    relax: bool = False,
) -> Program:
    """Arrays of a linear or convex quadratic model with `cost`, `coupling` and, optionally, `report`.

    fixed: the convex terms by the tangents they declare; relax: without integers.
    Raises InputError with every component that is missing, nonlinear or of a kind that has no linear form.
    """
    refuse(model, terms, name, fixed)
    reader = Reader(model, name)
    cost, constant, quad = reader.quadratic("cost", scalar_expression(model.cost))
    coupling, coupling_0 = reader.rows(members(model.coupling))
    report, report_0 = reader.rows(members(model.report) if hasattr(model, "report") else [])
    constraints = list(model.component_data_objects(pyo.Constraint, active=True, descend_into=True))
    A, shift = reader.rows((c.name, c.body) for c in constraints)
    compiled = [reader.term(t) for t in terms]
    integer = reader.integer(relax)
    if reader.mistakes:
        raise InputError(reader.mistakes)
    lo = np.array([-np.inf if c.lb is None else c.lb for c in constraints], float) - shift
    hi = np.array([np.inf if c.ub is None else c.ub for c in constraints], float) - shift
    program = Program(
        cost=cost,
        constant=constant,
        quad=quad,
        A=A,
        row_lo=lo,
        row_hi=hi,
        lb=rounded_up(np.array([-np.inf if v.lb is None else v.lb for v in reader.columns], float), integer),
        ub=rounded_down(np.array([np.inf if v.ub is None else v.ub for v in reader.columns], float), integer),
        integer=integer,
        coupling=coupling,
        coupling_0=coupling_0,
        report=report,
        report_0=report_0,
        row_names=tuple(c.name for c in constraints),
        col_names=tuple(v.name for v in reader.columns),
        terms=Terms(tuple(compiled)),
    )
    check_numbers(program, name)
    if fixed:
        program = with_fixed_tangents(program, fixed_tangents(program.terms, len(program.cost)))
    return with_curve_columns(program) if program.integer.any() else program


def refuse(model: pyo.ConcreteModel, terms: Sequence[ConvexTerm], name: str, fixed: bool) -> None:
    """Raise InputError with every component that is missing or of a kind that has no linear form."""
    mistakes = [*missing(model, name), *foreign(model, name)]
    if fixed:
        remedy = "give ConvexTerm(..., touches=...), or take adaptive tangents"
        mistakes += [
            Mistake(name, "model", t.name, "tangents are to be fixed, but it does not say where they touch", remedy)
            for t in terms
            if not len(t.touches)
        ]
    if mistakes:
        raise InputError(mistakes)


def scalar_expression(cost: Any) -> Any:
    """The expression behind model.cost, which may be an Expression or an Objective."""
    return cost.expr if hasattr(cost, "expr") else cost


def members(component: Any) -> list[tuple[str, Any]]:
    """Name and member of an indexed component, in its order; a scalar is its own only member."""
    if component.is_indexed():
        return [(component[i].name, component[i]) for i in component]
    return [(component.name, component)]


def missing(model: pyo.ConcreteModel, name: str) -> list[Mistake]:
    remedies = {
        "cost": "add model.cost = pyo.Expression(expr=...), the block's own cost to be minimised",
        "coupling": "add model.coupling = pyo.Expression(index, rule=...), what the block offers in each entry",
    }
    found = [
        Mistake(name, "model", part, "build() returned a model without it", remedy)
        for part, remedy in remedies.items()
        if not hasattr(model, part)
    ]
    cost = getattr(model, "cost", None)
    if isinstance(cost, pyo.Objective) and cost.sense == pyo.maximize:
        found.append(Mistake(name, "model", "cost", "it is an objective to be maximised", "give the cost: minus it"))
    return found


def foreign(model: pyo.ConcreteModel, name: str, understood: Set[str] = frozenset(UNDERSTOOD)) -> list[Mistake]:
    """Components in force that are of no kind of `understood`, one of each kind.

    What is never in force of itself (sets, parameters, what transformations leave behind) says nothing of the model:
    where an expression uses it, it is found there.
    """
    kinds = {
        c.ctype.__name__: c.name
        for c in model.component_objects(active=True, descend_into=True)
        if isinstance(c, ActiveComponent) and c.ctype.__name__ not in understood
    }
    return [
        Mistake(name, "model", where, f"a {kind} has no rows of numbers", "transform it first")
        for kind, where in kinds.items()
    ]


def rounded_up(lb: np.ndarray, integer: np.ndarray | bool) -> np.ndarray:
    """Lower bounds, those of integer columns at the least whole number they allow."""
    return np.where(integer, np.ceil(lb - WHOLE), lb)


def rounded_down(ub: np.ndarray, integer: np.ndarray | bool) -> np.ndarray:
    """Upper bounds, those of integer columns at the greatest whole number they allow."""
    return np.where(integer, np.floor(ub + WHOLE), ub)


class Reader:
    """Reads expressions of one model; what cannot be read becomes a mistake."""

    def __init__(self, model: pyo.ConcreteModel, name: str) -> None:
        self.name = name
        self.columns = columns(model)
        self.index = {id(v): j for j, v in enumerate(self.columns)}
        self.mistakes: list[Mistake] = []

    def integer(self, relax: bool) -> np.ndarray:
        """(n,) which columns are whole; a mistake where a domain is neither the reals nor a run of whole numbers."""
        for v in self.columns:
            if not (v.is_continuous() or v.is_integer()):
                problem = f"its domain {v.domain} is neither an interval nor a run of whole numbers"
                self.mistakes.append(Mistake(self.name, "model", v.name, problem, "see with_plain_domains"))
        return np.array([not (relax or v.is_continuous()) for v in self.columns], bool)

    def rows(self, bodies: Iterable[tuple[str, Any]]) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Coefficients (rows, columns) and constants (rows,) of linear expressions."""
        starts, index, value, constant = [0], [], [], []
        for where, body in bodies:
            repn = generate_standard_repn(body, quadratic=False, compute_values=True)
            if repn.nonlinear_expr is not None:
                self.nonlinear(where, "it is not linear")
            for v, coefficient in zip(repn.linear_vars, repn.linear_coefs, strict=True):
                index.append(self.column(where, v))
                value.append(float(coefficient))
            starts.append(len(index))
            constant.append(float(repn.constant))
        matrix = sparse.csr_matrix(
            (np.array(value, float), np.array(index, np.int32), np.array(starts, np.int32)),
            shape=(len(constant), len(self.columns)),
        )
        matrix.sort_indices()
        return matrix, np.array(constant, float)

    def quadratic(self, where: str, body: Any) -> tuple[np.ndarray, float, sparse.csc_matrix | None]:
        """Linear part (n,), constant and symmetric Q of c'x + 1/2 x'Qx."""
        n = len(self.columns)
        repn = generate_standard_repn(body, quadratic=True, compute_values=True)
        if repn.nonlinear_expr is not None:
            self.nonlinear(where, "it is neither linear nor quadratic")
        linear = np.zeros(n)
        for v, coefficient in zip(repn.linear_vars, repn.linear_coefs, strict=True):
            linear[self.column(where, v)] += float(coefficient)
        if not repn.quadratic_vars:
            return linear, float(repn.constant), None
        i = [self.column(where, a) for a, _ in repn.quadratic_vars]
        j = [self.column(where, b) for _, b in repn.quadratic_vars]
        half = sparse.coo_matrix((np.array(repn.quadratic_coefs, float), (i, j)), shape=(n, n))
        quad = sparse.csc_matrix(half + half.T)
        quad.eliminate_zeros()
        if smallest_curvature(quad) < 0:
            self.nonlinear(where, "its quadratic part is not convex")
        return linear, float(repn.constant), quad

    def term(self, term: ConvexTerm) -> Group:
        """Columns of a convex term; arguments that are numbers, parameters or fixed variables keep their value."""
        epigraph = [self.column(term.name, v) for v in sequence(term.epigraph)]
        m = len(epigraph)
        column = np.full((len(term.variables), m), -1, np.int64)
        given = np.zeros((len(term.variables), m))
        for j, argument in enumerate(term.variables):
            parts = sequence(argument)
            if len(parts) not in (1, m):
                self.nonlinear(term.name, f"argument {j} has {len(parts)} members, the epigraph {m}")
                continue
            for i in range(m):
                part = parts[i if len(parts) > 1 else 0]
                if id(part) in self.index:
                    column[j, i] = self.index[id(part)]
                elif hasattr(part, "is_expression_type") and any(identify_variables(part, include_fixed=False)):
                    self.nonlinear(term.name, f"argument {part} is an expression; define a variable equal to it")
                else:
                    given[j, i] = pyo.value(part)
        return Group(
            np.array(epigraph, np.int64), column, given, term.function, term.gradient, term.name, term.touches,
            tolerance=term.tolerance,
        )  # fmt: skip

    def column(self, where: str, v: Any) -> int:
        if id(v) in self.index:
            return self.index[id(v)]
        self.mistakes.append(
            Mistake(self.name, "model", where, f"it uses {v}, which is no free, active variable of the model")
        )
        return 0

    def nonlinear(self, where: str, problem: str) -> None:
        self.mistakes.append(
            Mistake(self.name, "model", where, problem, "declare convex_terms(), or set solver='...' for an NLP solver")
        )


def sequence(value: Any) -> list[Any]:
    """The members of an indexed component or a sequence; anything else is its own only member."""
    if hasattr(value, "is_indexed") and value.is_indexed():
        return [value[i] for i in value]
    return list(value) if isinstance(value, Sequence | np.ndarray) else [value]


def smallest_curvature(quad: sparse.csc_matrix) -> float:
    """Least eigenvalue of Q over its connected parts, rounded to 0 where it is rounding."""
    count, label = sparse.csgraph.connected_components(quad, directed=False)
    diagonal = quad.diagonal()
    least = float(diagonal.min(initial=0.0))
    size = np.bincount(label, minlength=count)
    for part in np.flatnonzero(size > 1):
        members = np.flatnonzero(label == part)
        least = min(least, float(np.linalg.eigvalsh(quad[members][:, members].toarray())[0]))
    return 0.0 if least > -1e-9 * max(1.0, float(np.abs(quad.data).max(initial=0.0))) else least


def check_numbers(program: Program, name: str) -> None:
    """Raise InputError with the coefficients and bounds that are no numbers."""
    figures = {
        "cost": program.cost,
        "constraints": program.A.data,
        "coupling": program.coupling.data,
        "report": program.report.data,
    }
    mistakes = [
        Mistake(name, "model", where, "a coefficient is not a finite number", "look for NaN in the data")
        for where, values in figures.items()
        if not np.all(np.isfinite(values))
    ]
    for names, lo, hi in (
        (program.row_names, program.row_lo, program.row_hi),
        (program.col_names, program.lb, program.ub),
    ):
        wrong = np.isnan(lo) | np.isnan(hi)
        mistakes += [
            Mistake(name, "model", names[i], "a bound is not a number", "look for NaN in the data")
            for i in np.flatnonzero(wrong)[:5]
        ]
    if mistakes:
        raise InputError(mistakes)
