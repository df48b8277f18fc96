"""Blocks of one template with a penalty, solved in a batch: only the solver's own work is done block by block.

Every answer has the bits it has when its block is solved alone: the solver is given the same numbers in the same
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from decomp.blocks.compile.template import Template
from decomp.blocks.solve.batch_data import Numbers, PenalisedQuery, lifted, numbers_of, origins, product
from decomp.blocks.solve.program_solver import ProgramSolver
from decomp.blocks.solve.qp_attempts import KNOWN, solved
from decomp.blocks.solve.qp_block import Quadratic, bordered, stacked
from decomp.blocks.solve.solver_state import WarmState
from decomp.integer_pattern import CONVEX
from decomp.messages import FloatArray, IntArray, Response, Status

MOST_FORMS = 16  # blocks whose equations or fixed columns differ have matrices of another form


def may_be_batched(template: Template, solver: ProgramSolver) -> bool:
    """Can penalised solves of this template be batched? No integers, settled tangents."""
    program = template.program
    continuous = not len(solver.integer) and not len(program.curve) and len(program.cost) > 0
    return continuous and not program.terms.open.any() and bool(program.A.has_sorted_indices)


def solve_penalised(
    template: Template, solver: ProgramSolver, queries: Sequence[PenalisedQuery]
) -> list[tuple[Response, WarmState] | None]:
    """Answers and states of all blocks; None for a block that must be solved alone (its optimum is not known)."""
    program, scaled = template.program, solver.scaled
    worth = np.array([a.worth for a in queries])
    n = numbers_of(template, np.array([a.theta for a in queries]), queries)
    origin, paid = origins(queries, worth.shape[1]), np.array([a.paid for a in queries])
    stiffness = np.array([a.stiffness for a in queries])
    target = np.array([a.target for a in queries]) + origin - n.coupling_0
    cost = n.cost - product(program.coupling_t, worth)
    x = _solved(solver, n, cost * scaled.column, stiffness, target)
    true = lifted(program, n.given, np.clip(x * scaled.column, n.lb, n.ub))
    offer = product(program.coupling, true) + n.coupling_0 - origin
    report = product(program.report, true) + n.report_0
    curved = np.zeros(len(queries))
    if program.quad is not None:
        curved = np.array([0.5 * float(point @ (program.quad @ point)) for point in true])
    value = np.sum(n.cost * true, axis=1) + curved + n.constant - paid
    out: list[tuple[Response, WarmState] | None] = []
    for i, known in enumerate(np.all(np.isfinite(x), axis=1).tolist()):
        response = Response(
            y=offer[i], cost=float(value[i]), report=report[i], pattern=CONVEX, point=true[i],
            signal_id=queries[i].signal_id,
        )  # fmt: skip
        out.append((response, queries[i].state) if known else None)
    return out


class _Form:
    """The matrices of all blocks whose equations, inequalities and pinned columns are the same; values go in place."""

    def __init__(self, quadratic: Quadratic, equal: IntArray, open_: IntArray, fixed: IntArray) -> None:
        A, link, n = quadratic.scaled.rows.A, quadratic.link, quadratic.n
        self.equal, self.open, self.fixed = equal, open_, fixed
        self.rest = np.concatenate([np.ones(len(fixed)), link.data])
        # numbered entries show where each value ends up
        rows = sparse.csr_matrix((np.arange(A.nnz, dtype=float), A.indices, A.indptr), shape=A.shape)
        number = A.nnz + np.arange(len(self.rest), dtype=float)
        starts = np.arange(len(fixed) + 1)
        pins = sparse.csr_matrix((number[: len(fixed)], fixed, starts), shape=(len(fixed), n))
        link = sparse.csr_matrix((number[len(fixed) :], link.indices, link.indptr), shape=link.shape)
        self.E = stacked([rows[equal], pins, link], n + quadratic.offers)
        self.G = stacked([rows[open_]], n + quadratic.offers)
        self.e_from, self.g_from = self.E.data.astype(np.int64), self.G.data.astype(np.int64)
        self.P, self.curved = bordered(quadratic.quad, np.zeros(quadratic.offers)), quadratic.quad.nnz

    def data(
        self, linear: FloatArray, stiffness: FloatArray, A: FloatArray, rows: FloatArray, columns: FloatArray
    ) -> tuple[Any, ...]:
        """What the solver is set up with; rows (2, m), columns (2, n): the lower and the upper sides."""
        entries, more = np.concatenate([A, self.rest]), len(stiffness)
        self.E.data, self.G.data = entries[self.e_from], entries[self.g_from]
        self.P.data[self.curved :] = stiffness
        right = np.concatenate([rows[0, self.equal], columns[0, self.fixed], np.zeros(more)])
        sides = np.empty((2, columns.shape[1] + more))
        sides[:, : columns.shape[1]] = columns
        sides[:, columns.shape[1] :] = sides[:, self.fixed] = [[-np.inf], [np.inf]]
        return self.P, linear, self.E, right, self.G, rows[0, self.open], rows[1, self.open], sides[0], sides[1]


def _solved(
    solver: ProgramSolver, n: Numbers, cost: FloatArray, stiffness: FloatArray, target: FloatArray
) -> FloatArray:
    """Points (b, n) in scaled units; nan where the optimum is not known."""
    scaled, width = solver.scaled, cost.shape[1]
    A = scaled.rows.A.data[None] if n.A is None else scaled.entries(n.A)
    rows = np.stack([n.lo * scaled.row, n.hi * scaled.row], axis=1)
    columns = np.stack([n.lb / scaled.column, n.ub / scaled.column], axis=1)
    linear = np.concatenate([cost, -stiffness * target], axis=1)
    crossed = np.any(rows[:, 0] > rows[:, 1], axis=1) | np.any(n.lb > n.ub, axis=1)
    equal, pinned = rows[:, 0] == rows[:, 1], n.lb == n.ub
    open_ = (rows[:, 0] < rows[:, 1]) & np.isfinite(rows).any(axis=1)
    kinds = np.concatenate([equal, open_, pinned], axis=1)
    x, forms = np.full(cost.shape, np.nan), solver.forms
    for i in np.flatnonzero(~crossed).tolist():
        kind = kinds[i].tobytes()
        if kind not in forms:
            if len(forms) >= MOST_FORMS:
                forms.clear()
            parts = (np.flatnonzero(part[i]) for part in (equal, open_, pinned))
            forms[kind] = _Form(solver.quadratic, *parts)
        data = forms[kind].data(linear[i], stiffness[i], A[i if len(A) > 1 else 0], rows[i], columns[i])
        answer = solved(data)
        if answer.status is Status.OPTIMAL and answer.doubt <= KNOWN:
            x[i] = answer.x[:width]
    return x
