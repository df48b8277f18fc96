"""Blocks of one template solved in a batch: what is not the solver's work is done for all of them at once.

Every answer has the bits it has when its block is solved alone: sums run in the same order, however many there are. All
is in the solver's units, which are powers of two of the model's: no product there has other digits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from decomp.blocks.batches import ResponseBatch
from decomp.blocks.compile.template import Template
from decomp.blocks.solve.batch_data import product
from decomp.blocks.solve.bounds import of_columns, of_rows
from decomp.blocks.solve.highs_simplex import Basis, Pair
from decomp.blocks.solve.program_solver import ProgramSolver
from decomp.blocks.solve.solver_state import WarmState
from decomp.messages import FloatArray, IntArray

SCALED = ("cost", "row_lo", "row_hi", "lb", "ub")


@dataclass(frozen=True, eq=False)
class BatchQuery:
    """b blocks at a price: parameters (b, p), weight times price (b, n_u), offset of the cost (b,), where offers are
    measured from (b, n_u), warm states; columns fixed at their initial values, by place."""

    theta: FloatArray
    worth: FloatArray
    paid: FloatArray
    origin: FloatArray
    states: Sequence[WarmState]
    fixed: dict[int, IntArray]
    signal_id: int


class LinearBatch:
    """What all blocks of a template have in common, and how they are answered."""

    def __init__(self, template: Template, solver: ProgramSolver) -> None:
        program, scaled = template.program, solver.scaled
        self.template, self.solver, self.column = template, solver, scaled.column
        self.inverse = 1.0 / scaled.column
        column, row = (scaled.column, self.inverse), scaled.row
        unit = {"cost": column[0], "lb": column[1], "ub": column[1], "row_lo": row, "row_hi": row}
        self.same = {part: getattr(program, part) * unit[part] for part in SCALED}
        self.same |= {
            "constant": np.array([program.constant]), "given": program.terms.given.ravel(),
            "coupling_0": program.coupling_0, "report_0": program.report_0,
        }  # fmt: skip
        factor = np.ones(len(template.base))
        for v in template.varying:
            if v.part in SCALED:
                factor[v.rows] = unit[v.part][v.at]
        self.base, self.slope = template.base * factor, _times(template.slope, factor)
        self.least, self.most = template.least * factor, template.most * factor
        self.priced = _times(program.coupling_t, scaled.column)
        self.A_t = sparse.csr_matrix(scaled.rows.A.T)
        self.outputs = sparse.csr_matrix(sparse.vstack([program.coupling, program.report]))

    @classmethod
    def of(cls, template: Template, solver: ProgramSolver) -> LinearBatch | None:
        """None where blocks of this template cannot be solved in a batch: it must be linear, without integers, with
        settled tangents and one matrix for all, and have columns."""
        program, s = template.program, solver.settings
        plain = program.quad is None and not len(solver.integer) and not program.terms.open.any() and len(program.cost)
        one = all(v.part != "A" for v in template.varying)
        return cls(template, solver) if plain and one and s.time_limit_s is None and s.fresh_every == 0 else None

    def solve(self, query: BatchQuery) -> tuple[ResponseBatch, list[Basis | None]]:
        """Answers and bases of all blocks; no basis for a block that has to be solved alone (no optimum was found)."""
        begin, program, warm = time.perf_counter(), self.template.program, self.solver.warm
        n = self._numbers(query)
        cost = n["cost"] - product(self.priced, query.worth)
        bounds, sides = (n["lb"], n["ub"]), (n["row_lo"], n["row_hi"])
        bases = [state.basis for state in query.states]
        x, dual, after = warm.sweep(program, cost, _alike(bounds), _alike(sides), bases, self.solver.later_options)
        constant = n["constant"][:, 0]
        total = constant - query.paid - np.sum(query.worth * (n["coupling_0"] - query.origin), axis=1)
        bound = of_columns(*of_rows(self.A_t, cost, total, sides, dual), cost, bounds, x, self.column)
        self._lift(n["given"], x)
        value = np.sum(n["cost"] * x, axis=1) + constant - query.paid
        true, width = x * self.column, len(program.coupling_0)
        outputs = product(self.outputs, true)
        offer = outputs[:, :width] + n["coupling_0"] - query.origin
        report = outputs[:, width:] + n["report_0"]
        each = (time.perf_counter() - begin) / len(after)
        return ResponseBatch(offer, value, bound, report, true, query.signal_id, each), after

    def _numbers(self, query: BatchQuery) -> dict[str, FloatArray]:
        """Each part of the programs (b, ..), one row where it is the same in all."""
        b = len(query.theta)
        values = np.clip(self.base + product(self.slope, query.theta), self.least, self.most)
        several = {v.part for v in self.template.varying} | ({"lb", "ub"} if query.fixed else set())
        full = {part: np.tile(value, (b, 1)) if part in several else value[None] for part, value in self.same.items()}
        for v in self.template.varying:
            full[v.part][:, v.at] = values[:, v.rows]
        for i, fixed in query.fixed.items():
            initial = query.states[i].initial
            assert initial is not None
            full["lb"][i, fixed] = full["ub"][i, fixed] = initial.point[fixed] * self.inverse[fixed]
        return full

    def _lift(self, given: FloatArray, x: FloatArray) -> None:
        """Raise the epigraph variables of the points x (b, n), in the solver's units, to their functions."""
        terms, column = self.template.program.terms, self.template.program.terms.column
        if not len(terms):
            return
        at = x[:, column] * self.column[column]
        if not (column >= 0).all():
            at = np.where(column >= 0, at, given.reshape(-1, *column.shape))
        values = terms.values(np.ascontiguousarray(at)) * self.inverse[terms.epigraph]
        for j in range(len(x)) if not terms.distinct else ():
            np.maximum.at(x[j], terms.epigraph, values[j])
        if terms.distinct:
            x[:, terms.epigraph] = np.maximum(x[:, terms.epigraph], values)


def _alike(pair: Pair) -> Pair:
    """Both with as many rows."""
    if len(pair[0]) == len(pair[1]):
        return pair
    rows = max(len(part) for part in pair)
    first, second = (np.ascontiguousarray(np.broadcast_to(part, (rows, part.shape[1]))) for part in pair)
    return first, second


def _times(matrix: sparse.csr_matrix, factor: FloatArray) -> sparse.csr_matrix:
    """Each row times its factor, the stored entries in their order: it is that of the sums."""
    data = matrix.data * np.repeat(factor, np.diff(matrix.indptr))
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
