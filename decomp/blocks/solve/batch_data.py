"""The numbers of many blocks of one template at once, a block a row; sums run in the order they have for one alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decomp.blocks.compile.program import Program
from decomp.blocks.compile.template import Template
from decomp.blocks.solve.solver_state import WarmState
from decomp.messages import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class PenalisedQuery:
    """One block: its parameters (p,), weight and price (n_u,), the offset of its cost, its state and its fixed columns.

    stiffness, target (n_u,): of the penalty on the offer without its constant; None = none
    """

    theta: FloatArray
    worth: FloatArray
    paid: float
    state: WarmState
    fixed: IntArray
    signal_id: int
    stiffness: FloatArray | None = None
    target: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Numbers:
    """The programs of b blocks, one a row: what follows the parameters; A (b, nnz), None = the same in all."""

    cost: FloatArray
    constant: FloatArray
    lb: FloatArray
    ub: FloatArray
    lo: FloatArray
    hi: FloatArray
    given: FloatArray
    coupling_0: FloatArray
    report_0: FloatArray
    A: FloatArray | None


def numbers_of(template: Template, theta: FloatArray, queries: Sequence[PenalisedQuery]) -> Numbers:
    """The programs with parameters theta (b, p); fixed columns have the block's initial point for bounds."""
    program, b = template.program, len(queries)
    values = template.values_at(theta)
    given = program.terms.given.ravel()
    base = {
        "cost": program.cost, "constant": np.array([program.constant]), "lb": program.lb, "ub": program.ub,
        "row_lo": program.row_lo, "row_hi": program.row_hi, "given": given,
        "coupling_0": program.coupling_0, "report_0": program.report_0,
    }  # fmt: skip
    if any(v.part == "A" for v in template.varying):
        base["A"] = np.asarray(program.A.data)
    several = {v.part for v in template.varying}
    if any(len(a.fixed) for a in queries):
        several |= {"lb", "ub"}
    full = {
        part: np.tile(value, (b, 1)) if part in several else np.broadcast_to(value, (b, len(value)))
        for part, value in base.items()
    }
    for v in template.varying:
        full[v.part][:, v.at] = values[:, v.rows]
    for i, a in enumerate(queries):
        if len(a.fixed) and a.state.initial is not None:
            full["lb"][i, a.fixed] = full["ub"][i, a.fixed] = a.state.initial.point[a.fixed]
    return Numbers(
        full["cost"], full["constant"][:, 0], full["lb"], full["ub"], full["row_lo"], full["row_hi"],
        full["given"].reshape(b, *program.terms.given.shape), full["coupling_0"], full["report_0"], full.get("A"),
    )  # fmt: skip


def origins(queries: Sequence[PenalisedQuery], width: int) -> FloatArray:
    """Where each block's offer is measured from (b, n_u)."""
    initial = [a.state.initial for a in queries]
    return np.array([np.zeros(width) if i is None else i.offer for i in initial])


def lifted(program: Program, given: FloatArray, x: FloatArray) -> FloatArray:
    """Every point with its epigraph variables raised to their functions."""
    terms = program.terms
    if not len(terms):
        return x
    arguments = np.where(terms.column >= 0, x[:, terms.column], given)
    values = terms.values(np.ascontiguousarray(arguments))
    return np.array([terms.lifted(point, value) for point, value in zip(x, values, strict=True)])


def product(matrix: object, rows: FloatArray) -> FloatArray:
    """(matrix @ row) for each of the rows; one after the other in the order of the matrix, as for one alone."""
    return np.ascontiguousarray((matrix @ np.ascontiguousarray(rows.T)).T)  # type: ignore[operator]
