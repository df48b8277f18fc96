"""One compiled model for many blocks: all their numbers are affine in the values of the model's mutable parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyomo.environ as pyo
from scipy import sparse

from decomp.blocks.compile.compiler import check_numbers, refuse, rounded_down, rounded_up
from decomp.blocks.compile.fixed import fixed_tangents, with_fixed_tangents
from decomp.blocks.compile.outer_approximation import ConvexTerm, Terms
from decomp.blocks.compile.program import Program
from decomp.blocks.compile.symbolic import SymbolicReader
from decomp.blocks.fingerprint import fingerprint
from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray

PARTS = ("cost", "constant", "row_lo", "row_hi", "lb", "ub", "coupling_0", "report_0", "given", "A")


@dataclass(frozen=True, eq=False)
class Varying:
    """The places of one part of the program that follow the parameters, and their stretch among all that do."""

    part: str
    at: np.ndarray
    rows: slice


class Template:
    """A program whose numbers are base + slope theta, theta (p,) the values of all mutable parameters.

    `parameters` in the order of theta. The structure - rows, columns, integers, terms - is the same for every theta.
    confined: (n,) numbers that lower bounds are at least, and upper bounds at most, whatever theta; bounds of integer
    columns are then rounded inwards.
    """

    def __init__(
        self,
        program: Program,
        parameters: Sequence[Any],
        slopes: Mapping[str, sparse.csr_matrix],
        confined: Mapping[str, FloatArray],
    ) -> None:
        self.program, self.parameters = program, tuple(parameters)
        self.sizes = [len(p) for p in self.parameters]
        self.names = [p.name for p in self.parameters]  # worked out anew by Pyomo whenever it is asked
        self.varying: list[Varying] = []
        rows, base, first = [], [], 0
        for part in PARTS:
            at = np.flatnonzero(np.diff(slopes[part].indptr))
            if len(at):
                self.varying.append(Varying(part, at, slice(first, first + len(at))))
                rows.append(slopes[part][at])
                base.append(self._numbers(part)[at])
                first += len(at)
        nothing = sparse.csr_matrix((0, sum(self.sizes)))
        self.slope = sparse.csr_matrix(sparse.vstack([nothing, *rows]))
        self.base = np.concatenate([np.zeros(0), *base])
        self.least, self.most = np.full(first, -np.inf), np.full(first, np.inf)
        self._up = self._down = np.zeros(0, np.int64)  # bounds of integer columns among the values
        for v in self.varying:
            whole = v.rows.start + np.flatnonzero(program.integer[v.at]) if v.part in confined else self._up
            if v.part == "lb":
                self.least[v.rows], self._up = confined["lb"][v.at], whole
            if v.part == "ub":
                self.most[v.rows], self._down = confined["ub"][v.at], whole

    def values_at(self, theta: FloatArray) -> FloatArray:
        """(r,) or (b, r) values of all that follows the parameters, for theta (p,) or (b, p)."""
        if theta.ndim == 1:
            values = self.base + self.slope @ theta
        else:  # one after the other in the order of the matrix, as for one alone
            values = self.base + np.ascontiguousarray((self.slope @ np.ascontiguousarray(theta.T)).T)
        np.clip(values, self.least, self.most, out=values)
        values[..., self._up] = rounded_up(values[..., self._up], True)
        values[..., self._down] = rounded_down(values[..., self._down], True)
        return values

    def program_at(self, theta: FloatArray) -> Program:
        """The program of one block."""
        values, changes = self.values_at(theta), dict[str, Any]()
        for v in self.varying:
            part = self._numbers(v.part).copy()
            part[v.at] = values[v.rows]
            if v.part == "constant":
                changes["constant"] = float(part[0])
            elif v.part == "given":
                terms = self.program.terms
                changes["terms"] = terms.with_given(part.reshape(terms.given.shape))
            elif v.part == "A":
                A = self.program.A
                changes["A"] = sparse.csr_matrix((part, A.indices, A.indptr), shape=A.shape)
            else:
                changes[v.part] = part
        return self.program.variant(**changes) if changes else self.program

    def fingerprint(self, theta: FloatArray) -> bytes | None:
        """Of the program of one block, without writing it out; None where that cannot be told."""
        return None if self._fingerprint is None else fingerprint(self._fingerprint, theta)

    @cached_property
    def _fingerprint(self) -> bytes | None:
        places = [(v.part, v.at) for v in self.varying]
        return fingerprint(self.program.data(), self.base, self.slope, self.least, self.most, places)

    def theta(self, values: Mapping[str, Any], name: str) -> FloatArray:
        """The parameters' values (p,) from arrays or numbers by name; raises InputError with every one that is off."""
        known, mistakes = self.names, []
        for key in sorted(set(values) - set(known)):
            remedy = f"mutable are: {', '.join(known) or 'none'}"
            mistakes.append(Mistake(name, "parameters", key, "the model has no such mutable parameter", remedy))
        parts = []
        for key, size in zip(known, self.sizes, strict=True):
            given = np.asarray(values.get(key, np.nan), float)
            if key not in values:
                mistakes.append(Mistake(name, "parameters", key, "has no value", "parameters() must give one"))
            elif given.shape not in ((), (size,)):
                text = f"has {given.size} values, the model's has {size}"
                mistakes.append(Mistake(name, "parameters", key, text, "give one for each index, or one for all"))
            elif not np.all(np.isfinite(given)):
                mistakes.append(Mistake(name, "parameters", key, "is not a finite number", "look for NaN in the data"))
            else:
                parts.append(np.broadcast_to(given, (size,)))
        if mistakes:
            raise InputError(mistakes)
        return np.concatenate([np.zeros(0), *parts])

    def put(self, theta: FloatArray) -> None:
        """Give the model's own parameters these values, so that its expressions can be evaluated."""
        first = 0
        for p, size in zip(self.parameters, self.sizes, strict=True):
            for index, value in zip(p, theta[first : first + size].tolist(), strict=True):
                p[index] = value
            first += size

    def _numbers(self, part: str) -> FloatArray:
        if part == "constant":
            return np.array([self.program.constant])
        if part == "given":
            return self.program.terms.given.ravel()
        return np.asarray(self.program.A.data if part == "A" else getattr(self.program, part))


def compile_template(
    model: pyo.ConcreteModel,
    terms: Sequence[ConvexTerm] = (),
    name: str = "model",
    *,
    fixed: bool = False,
    relax: bool = False,
) -> Template:
    """Arrays of a model as affine functions of its mutable parameters.

    Bounds, right-hand sides, costs, coefficients of constraints and the numbers in convex terms may follow them; the
    coefficients of coupling, report and quadratic costs may not. Raises InputError with everything that cannot.
    """
    refuse(model, terms, name, fixed)
    reader = SymbolicReader(model, name)
    n, p = len(reader.columns), reader.count
    cost, constant, quad = reader.objective("cost", model.cost)
    coupling, coupling_0 = reader.plain_rows("coupling", model.coupling)
    report, report_0 = reader.plain_rows("report", model.report if hasattr(model, "report") else None)
    constraints = list(model.component_data_objects(pyo.Constraint, active=True, descend_into=True))
    A, data, shift = reader.matrix((c.name, c.body) for c in constraints)
    lo = reader.sides([(c.name, c.lower) for c in constraints], -np.inf)
    hi = reader.sides([(c.name, c.upper) for c in constraints], np.inf)
    lb, least = reader.bounds([(v.name, v.lower) for v in reader.columns], -np.inf)
    ub, most = reader.bounds([(v.name, v.upper) for v in reader.columns], np.inf)
    integer = reader.integer(relax)
    groups = tuple(reader.term(t) for t in terms)
    if reader.mistakes:
        raise InputError(reader.mistakes)
    program = Program(
        cost=cost.value,
        constant=float(constant.value[0]),
        quad=quad,
        A=A,
        row_lo=lo.value - shift.value,
        row_hi=hi.value - shift.value,
        # what follows the parameters is confined when they are known
        lb=np.where(np.diff(lb.slope.indptr) > 0, lb.value, rounded_up(np.maximum(lb.value, least), integer)),
        ub=np.where(np.diff(ub.slope.indptr) > 0, ub.value, rounded_down(np.minimum(ub.value, most), integer)),
        integer=integer,
        coupling=coupling,
        coupling_0=coupling_0.value,
        report=report,
        report_0=report_0.value,
        row_names=tuple(c.name for c in constraints),
        col_names=tuple(v.name for v in reader.columns),
        terms=Terms(groups),
    )
    _check_structure(program, name)
    given = reader.given(program.terms)
    slopes = {
        "cost": cost.slope, "constant": constant.slope, "row_lo": lo.slope - shift.slope,
        "row_hi": hi.slope - shift.slope, "lb": lb.slope, "ub": ub.slope, "coupling_0": coupling_0.slope,
        "report_0": report_0.slope, "given": given, "A": data,
    }  # fmt: skip
    # a side that is absent follows nothing
    slopes["row_lo"] = _where(np.isfinite(program.row_lo), slopes["row_lo"])
    slopes["row_hi"] = _where(np.isfinite(program.row_hi), slopes["row_hi"])
    if fixed:
        tangents = fixed_tangents(program.terms, n)
        program = with_fixed_tangents(program, tangents)
        none = sparse.csr_matrix((len(tangents.level), p))
        slopes["row_lo"] = sparse.csr_matrix(sparse.vstack([slopes["row_lo"], tangents.share @ given]))
        slopes["row_hi"] = sparse.csr_matrix(sparse.vstack([slopes["row_hi"], none]))
        slopes["A"] = sparse.csr_matrix(sparse.vstack([data, sparse.csr_matrix((tangents.A.nnz, p))]))
    for matrix in slopes.values():
        matrix.eliminate_zeros()
    return Template(program, reader.parameters, slopes, {"lb": least, "ub": most})


def _where(keep: np.ndarray, matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    return sparse.csr_matrix(sparse.diags_array(keep.astype(float)) @ matrix)


def _check_structure(program: Program, name: str) -> None:
    check_numbers(program, name)
    if program.quad is not None and program.integer.any():
        problem = "a quadratic cost with integers cannot serve many blocks at once"
        raise InputError([Mistake(name, "model", "cost", problem, "leave `template` out, or set milp = 'relax'")])
