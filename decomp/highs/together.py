"""Blocks of one template asked together: what is not the solver's work is done for all of them at once.

Every answer has the bits it has when its block is asked alone: sums run in the same order, however many there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from decomp.highs.bounds import REACH, RESIDUAL
from decomp.highs.linear import Basis
from decomp.highs.numbers import Asked, Numbers, lifted, numbers_of, origins, product
from decomp.highs.program import Program
from decomp.highs.solving import ProgramSolver
from decomp.highs.state import WarmState
from decomp.highs.template import Template
from decomp.messages import FloatArray, IntArray, Response
from decomp.pattern import CONVEX


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
    program, begin = template.program, time.perf_counter()
    worth = np.array([a.worth for a in asked])
    n = numbers_of(template, np.array([a.theta for a in asked]), asked)
    cost = n.cost - product(program.coupling_t, worth)
    bases = [a.state.basis for a in asked]
    x, dual, after = _solved(template, solver, cost, n, bases, [a.held for a in asked])
    origin = origins(asked, worth.shape[1])
    paid = np.array([a.paid for a in asked])
    constant = n.constant - paid
    constant = constant - np.sum(worth * (n.coupling_0 - origin), axis=1)
    bound = _bounds(program, cost, constant, n, x, dual)
    true = lifted(program, n.given, x)
    offer = product(program.coupling, true) + n.coupling_0 - origin
    told = product(program.report, true) + n.report_0
    value = np.sum(n.cost * true, axis=1) + n.constant - paid
    each = (time.perf_counter() - begin) / len(asked)
    out: list[tuple[Response, WarmState] | None] = []
    for i, (a, basis, cost_i, bound_i) in enumerate(zip(asked, after, value.tolist(), bound.tolist(), strict=True)):
        if basis is None:
            out.append(None)
            continue
        proven = None if math.isnan(bound_i) else bound_i
        response = Response(
            offer[i], cost_i, proven, report=told[i], pattern=CONVEX, point=true[i], signal_id=a.signal_id,
            solve_time=each,
        )  # fmt: skip
        out.append((response, a.state.after(basis=basis)))
    return out


def _solved(
    template: Template,
    solver: ProgramSolver,
    cost: FloatArray,
    n: Numbers,
    bases: Sequence[Basis | None],
    held: Sequence[IntArray],
) -> tuple[FloatArray, FloatArray, list[Basis | None]]:
    """Points (b, n) and multipliers of the rows (b, m) in the program's own units, and the bases."""
    program, scaled, warm = template.program, solver.scaled, solver.warm
    warm.prepare(program, solver.later_options)
    places = template.places(np.concatenate([*held, np.zeros(0, np.int64)]))
    at = (places.cost, places.bounds, places.rows)
    columns, bounds, rows = at

    def of(i: int) -> list[FloatArray]:
        """All numbers of one block, as the solver is to hold them."""
        inverse = warm.inverse
        return [
            cost[i] * scaled.column, n.lb[i] * inverse, n.ub[i] * inverse, n.lo[i] * scaled.row, n.hi[i] * scaled.row
        ]  # fmt: skip

    passed = [
        cost[:, columns] * scaled.column[columns], n.lb[:, bounds] * warm.inverse[bounds],
        n.ub[:, bounds] * warm.inverse[bounds], n.lo[:, rows] * scaled.row[rows], n.hi[:, rows] * scaled.row[rows],
    ]  # fmt: skip
    parts = [np.ascontiguousarray(p) for p in passed]
    x, dual = np.zeros((len(cost), len(scaled.column))), np.zeros((len(cost), len(scaled.row)))
    warm.pass_numbers(*of(0))  # also where these blocks are all alike
    after = [
        warm.again(at, numbers, basis, solver.later_options, x[i], dual[i])
        for i, (basis, *numbers) in enumerate(zip(bases, *parts, strict=True))
    ]
    warm.held = of(-1)
    return x * scaled.column, dual * scaled.row, after


def _bounds(
    program: Program, cost: FloatArray, constant: FloatArray, n: Numbers, x: FloatArray, dual: FloatArray
) -> FloatArray:
    """As `dual_bound`, for each row; nan where nothing is proven."""
    side = np.where(dual > 0, n.lo, n.hi)
    used = np.where(np.isfinite(side), dual, 0.0)
    worth = np.multiply(side, used, out=np.zeros_like(used), where=used != 0)
    reduced = cost - product(program.A_t, used)
    end = np.where(reduced > 0, n.lb, n.ub)
    end[reduced == 0] = 0.0
    is_open = np.isinf(end)
    bound = constant + worth.sum(axis=1) + np.where(is_open, 0.0, reduced * np.where(is_open, 0.0, end)).sum(axis=1)
    if is_open.any():
        rest = np.where(is_open, np.abs(reduced), 0.0)
        bound = bound - REACH * (rest * np.maximum(1.0, np.abs(x))).sum(axis=1)
        bound[np.any(rest > RESIDUAL * np.maximum(1.0, np.abs(cost)), axis=1)] = np.nan
    return np.where(np.isfinite(bound), bound, np.nan)
