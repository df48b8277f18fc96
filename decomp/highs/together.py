"""Blocks of one template asked together: what is not the solver's work is done for all of them at once.

Every answer has the bits it has when its block is asked alone: sums run in the same order, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decomp.highs.bounds import REACH, RESIDUAL
from decomp.highs.linear import Basis
from decomp.highs.program import Program
from decomp.highs.solving import ProgramSolver
from decomp.highs.state import WarmState
from decomp.highs.template import Template
from decomp.messages import FloatArray, IntArray, Response


@dataclass(frozen=True, eq=False)
class Asked:
    """One block: its parameters (p,), weight and price (n_u,), the offset of its cost, its state and what it holds."""

    theta: FloatArray
    worth: FloatArray
    paid: float
    state: WarmState
    held: IntArray
    signal_id: int


@dataclass(frozen=True, eq=False)
class _Numbers:
    """The programs of b blocks, one a row: what follows the parameters or the price."""

    cost: FloatArray
    constant: FloatArray
    lb: FloatArray
    ub: FloatArray
    lo: FloatArray
    hi: FloatArray
    given: FloatArray
    coupling_0: FloatArray
    report_0: FloatArray


def possible(template: Template, solver: ProgramSolver) -> bool:
    """Can blocks of this template be asked together? Linear, no integers, settled tangents, one matrix for all."""
    program, s = template.program, solver.settings
    plain = program.quad is None and not len(solver.integer) and not program.terms.open.any()
    return plain and s.time_limit_s is None and s.fresh_every == 0 and all(v.part != "A" for v in template.varying)


def ready(solver: ProgramSolver, state: WarmState | None) -> bool:
    """Has the block been solved before, and does the solver hold the template's matrix?"""
    return state is not None and state.basis is not None and solver.warm.solver is not None


def solve_together(
    template: Template, solver: ProgramSolver, asked: Sequence[Asked]
) -> list[tuple[Response, WarmState] | None]:
    """Answers and states of all blocks; None for a block that must be asked alone (the solver found no optimum)."""
    program, b = template.program, len(asked)
    worth = np.array([a.worth for a in asked])
    n = _numbers(template, np.array([a.theta for a in asked]), asked)
    cost = n.cost - _product(program.coupling_t, worth)
    bases = [a.state.basis for a in asked]
    x, dual, after = _solved(template, solver, cost, n, bases, [a.held for a in asked])
    initial = [a.state.initial for a in asked]
    origin = np.array([np.zeros(worth.shape[1]) if i is None else i.offer for i in initial])
    paid = np.array([a.paid for a in asked])
    constant = n.constant - paid
    constant = constant - np.sum(worth * (n.coupling_0 - origin), axis=1)
    bound = _bounds(program, cost, constant, n, x, dual)
    true = _lifted(program, n.given, x)
    offer = _product(program.coupling, true) + n.coupling_0 - origin
    told = _product(program.report, true) + n.report_0
    value = np.sum(n.cost * true, axis=1) + n.constant - paid
    out: list[tuple[Response, WarmState] | None] = []
    for i in range(b):
        basis = after[i]
        if basis is None:
            out.append(None)
            continue
        proven = None if np.isnan(bound[i]) else float(bound[i])
        response = Response(
            y=offer[i], cost=float(value[i]), bound=proven, report=told[i], point=true[i], signal_id=asked[i].signal_id
        )
        out.append((response, asked[i].state.after(basis=basis)))
    return out


def _numbers(template: Template, theta: FloatArray, asked: Sequence[Asked]) -> _Numbers:
    program, b = template.program, len(asked)
    values = template.base + _product(template.slope, theta)
    given = program.terms.given.ravel()
    base = {
        "cost": program.cost, "constant": np.array([program.constant]), "lb": program.lb, "ub": program.ub,
        "row_lo": program.row_lo, "row_hi": program.row_hi, "given": given,
        "coupling_0": program.coupling_0, "report_0": program.report_0,
    }  # fmt: skip
    full = {part: np.tile(value, (b, 1)) for part, value in base.items()}
    for v in template.varying:
        full[v.part][:, v.at] = values[:, v.rows]
    for i, a in enumerate(asked):
        if len(a.held) and a.state.initial is not None:
            full["lb"][i, a.held] = full["ub"][i, a.held] = a.state.initial.point[a.held]
    return _Numbers(
        full["cost"], full["constant"][:, 0], full["lb"], full["ub"], full["row_lo"], full["row_hi"],
        full["given"].reshape(b, *program.terms.given.shape), full["coupling_0"], full["report_0"],
    )  # fmt: skip


def _solved(
    template: Template,
    solver: ProgramSolver,
    cost: FloatArray,
    n: _Numbers,
    bases: Sequence[Basis | None],
    held: Sequence[IntArray],
) -> tuple[FloatArray, FloatArray, list[Basis | None]]:
    """Points (b, n) and multipliers of the rows (b, m) in the program's own units, and the bases."""
    program, scaled, warm = template.program, solver.scaled, solver.warm
    warm.prepare(program, solver.later_options)
    places = template.places(np.concatenate([*held, np.zeros(0, np.int64)]))
    at = (places.cost, places.bounds, places.rows)
    scaled_cost = cost * scaled.column
    lb, ub = n.lb * warm.inverse, n.ub * warm.inverse
    lo, hi = n.lo * scaled.row, n.hi * scaled.row
    x, dual = np.zeros((len(cost), len(scaled.column))), np.zeros((len(cost), len(scaled.row)))
    after: list[Basis | None] = []
    bounds, rows = places.bounds, places.rows
    passed = [scaled_cost[:, places.cost], lb[:, bounds], ub[:, bounds], lo[:, rows], hi[:, rows]]
    parts = [np.ascontiguousarray(p) for p in passed]
    warm.pass_numbers(scaled_cost[0], lb[0], ub[0], lo[0], hi[0])  # also where these blocks are all alike
    for i, basis in enumerate(bases):
        after.append(warm.again(at, [p[i] for p in parts], basis, solver.later_options, x[i], dual[i]))
    warm.held = [scaled_cost[-1], lb[-1], ub[-1], lo[-1], hi[-1]]
    return x * scaled.column, dual * scaled.row, after


def _bounds(
    program: Program, cost: FloatArray, constant: FloatArray, n: _Numbers, x: FloatArray, dual: FloatArray
) -> FloatArray:
    """As `dual_bound`, for each row; nan where nothing is proven."""
    side = np.where(dual > 0, n.lo, n.hi)
    used = np.where(np.isfinite(side), dual, 0.0)
    worth = np.multiply(side, used, out=np.zeros_like(used), where=used != 0)
    reduced = cost - _product(program.A_t, used)
    end = np.where(reduced > 0, n.lb, n.ub)
    end[reduced == 0] = 0.0
    is_open = np.isinf(end)
    bound = constant + worth.sum(axis=1) + np.where(is_open, 0.0, reduced * np.where(is_open, 0.0, end)).sum(axis=1)
    if is_open.any():
        rest = np.where(is_open, np.abs(reduced), 0.0)
        bound = bound - REACH * (rest * np.maximum(1.0, np.abs(x))).sum(axis=1)
        bound[np.any(rest > RESIDUAL * np.maximum(1.0, np.abs(cost)), axis=1)] = np.nan
    return np.where(np.isfinite(bound), bound, np.nan)


def _lifted(program: Program, given: FloatArray, x: FloatArray) -> FloatArray:
    """Every point with its epigraph variables raised to their functions."""
    terms = program.terms
    if not len(terms):
        return x
    arguments = np.where(terms.column >= 0, x[:, terms.column], given)
    values = terms.values(np.ascontiguousarray(arguments))
    return np.array([terms.lifted(point, value) for point, value in zip(x, values, strict=True)])


def _product(matrix: object, rows: FloatArray) -> FloatArray:
    """(matrix @ row) for each of the rows; one after the other in the order of the matrix, as for one alone."""
    return np.ascontiguousarray((matrix @ np.ascontiguousarray(rows.T)).T)  # type: ignore[operator]
