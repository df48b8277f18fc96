"""A stochastic program as arrays: one template for all scenarios, and each scenario's numbers in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from decomp.blocks.compile.compiler import rounded_down, rounded_up
from decomp.blocks.compile.outer_approximation import Terms
from decomp.blocks.compile.program import Program
from decomp.blocks.compile.template import PARTS, Template
from decomp.messages import FloatArray, IntArray
from problems.smps.core import Core, sides
from problems.smps.elements import Elements, Place
from problems.smps.scenarios import Scenarios
from problems.smps.stages import Stages


@dataclass(frozen=True, eq=False)
class StochasticProgram:
    """min sum_s pi_s c_s'x_s with A_s x_s within its sides, x_s within its bounds, and stage k of x_s the same in all
    scenarios that share their node of stage k.

    template  all scenarios' programs; its parameters are the numbers that differ
    like      a program of its structure with numbers of the right size, for the solver's scaling
    theta     (S, p) the parameters of each scenario
    entries   (n_u,) columns that are decided before everything is known: those of all stages but the last
    """

    core: Core
    stages: Stages
    elements: Elements
    scenarios: Scenarios
    template: Template
    like: Program
    theta: FloatArray
    entries: IntArray

    def program(self, s: int) -> Program:
        """The program of scenario number s."""
        return self.template.program_at(self.theta[s])


class _Numbers:
    """The template's parameters: so many numbers, under a name."""

    name = "scenario"

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True, eq=False)
class _Part:
    """Some numbers of one part of the program in every scenario: at (r,), values (S, r)."""

    part: str
    at: IntArray
    values: FloatArray


def stochastic_program(elements: Elements, scenarios: Scenarios, *, relax: bool = False) -> StochasticProgram:
    """Put core, stages and scenarios together; relax: without integers. What is to be maximised changes sign."""
    core, stages = elements.core, elements.stages
    positions = list(core.A) + [(p.i, p.j) for p in elements.number if p.kind == "A" and (p.i, p.j) not in core.A]
    m, n = len(core.rows), len(core.columns)
    i, j = np.array(positions, np.int64).reshape(-1, 2).T
    order = np.lexsort((j, i))
    data = np.array([core.A.get(at, 0.0) for at in positions], float)[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=m))])
    A = sparse.csr_matrix((data, j[order].astype(np.int32), starts.astype(np.int32)), shape=(m, n))
    stored = {positions[k]: at for at, k in enumerate(order.tolist())}
    entries = np.flatnonzero(stages.column < len(stages.periods) - 1)
    sign = -1.0 if core.maximise else 1.0
    integer = core.integer & (not relax)
    row_lo, row_hi = all_sides(core)
    base = Program(
        cost=sign * core.cost + 0.0,
        constant=sign * core.constant + 0.0,
        quad=None,
        A=A,
        row_lo=row_lo,
        row_hi=row_hi,
        lb=rounded_up(core.lb, integer),
        ub=rounded_down(core.ub, integer),
        integer=integer,
        coupling=sparse.csr_matrix(
            (np.ones(len(entries)), (np.arange(len(entries)), entries)), shape=(len(entries), n)
        ),
        coupling_0=np.zeros(len(entries)),
        report=sparse.csr_matrix((0, n)),
        report_0=np.zeros(0),
        row_names=core.rows,
        col_names=core.columns,
        terms=Terms(()),
    )
    parts = list(_parts(elements, scenarios, stored, sign))
    like, base = _with(base, parts, largest=True), _with(base, parts, largest=False)
    return _assembled(elements, scenarios, like, base, _varying(parts), entries)


def _parts(
    elements: Elements, scenarios: Scenarios, stored: dict[tuple[int, int], int], sign: float
) -> Iterator[_Part]:
    """The random numbers as numbers of the program."""
    core, value = elements.core, scenarios.value
    for part, factor in (("cost", sign), ("A", 1.0), ("lb", 1.0), ("ub", 1.0)):
        found = [(p, k) for p, k in elements.number.items() if p.kind == part]
        if found:
            at = [stored[p.i, p.j] if part == "A" else p.j for p, _ in found]
            yield _Part(part, np.array(at, np.int64), factor * value[:, [k for _, k in found]] + 0.0)
    for place, k in elements.number.items():
        if place.kind == "constant":
            yield _Part("constant", np.zeros(1, np.int64), -sign * value[:, [k]] + 0.0)
    random = {p: k for p, k in elements.number.items() if p.kind in ("rhs", "span")}
    for i in sorted({p.i for p in random}):
        columns = []
        for kind, held in (("rhs", core.rhs), ("span", core.span)):
            known = random.get(Place(kind, i, -1))
            columns.append(np.full(len(value), held[i]) if known is None else value[:, known])
        for part, side in zip(("row_lo", "row_hi"), sides(core.kind[i], *columns), strict=True):
            if np.isfinite(side).all():
                yield _Part(part, np.array([i]), side[:, None])


def all_sides(core: Core) -> tuple[FloatArray, FloatArray]:
    """Lower and upper limits (m,) of the core's rows."""
    lo, hi = np.zeros(len(core.rows)), np.zeros(len(core.rows))
    kinds = np.array(core.kind)
    for kind in ("E", "L", "G"):
        at = kinds == kind
        lo[at], hi[at] = sides(kind, core.rhs[at], core.span[at])
    return lo, hi


def _with(program: Program, parts: Sequence[_Part], *, largest: bool) -> Program:
    """The first scenario's numbers, or of each the one of the largest size over the scenarios."""
    numbers = {name: np.array(getattr(program, name), float) for name in ("cost", "row_lo", "row_hi", "lb", "ub")}
    numbers |= {"constant": np.array([program.constant]), "A": program.A.data.copy()}
    for part in parts:
        which = np.argmax(np.abs(part.values), axis=0) if largest else np.zeros(len(part.at), np.int64)
        numbers[part.part][part.at] = part.values[which, np.arange(len(part.at))]
    A = sparse.csr_matrix((numbers.pop("A"), program.A.indices, program.A.indptr), shape=program.A.shape)
    constant = float(numbers.pop("constant")[0])
    return program.variant(A=A, constant=constant, **numbers)


def _varying(parts: Sequence[_Part]) -> dict[str, tuple[IntArray, FloatArray]]:
    """By part of the program: the places that differ, in order, and their values (S, r)."""
    found: dict[str, tuple[IntArray, FloatArray]] = {}
    for name in PARTS:
        own = [part for part in parts if part.part == name]
        if not own:
            continue
        at, values = np.concatenate([p.at for p in own]), np.hstack([p.values for p in own])
        differs = np.flatnonzero(np.any(values != values[0], axis=0))
        differs = differs[np.argsort(at[differs], kind="stable")]
        found[name] = at[differs], values[:, differs]
    return found


def _assembled(
    elements: Elements, scenarios: Scenarios, like: Program, base: Program,
    varying: dict[str, tuple[IntArray, FloatArray]], entries: IntArray,
) -> StochasticProgram:  # fmt: skip
    """Varying numbers are 0 + theta: what a scenario's file says, to the last digit."""
    p = sum(len(at) for at, _ in varying.values())
    sizes = {"constant": 1, "coupling_0": len(entries), "report_0": 0, "given": 0, "A": base.A.nnz}
    slopes, first, changes = {}, 0, {}
    for name in PARTS:
        at, _ = varying.get(name, (np.zeros(0, np.int64), np.zeros((0, 0))))
        size = sizes.get(name, len(base.row_lo) if name.startswith("row") else len(base.cost))
        slopes[name] = sparse.csr_matrix((np.ones(len(at)), (at, np.arange(first, first + len(at)))), shape=(size, p))
        first += len(at)
        if not len(at):
            continue
        if name == "constant":
            changes[name] = 0.0
        elif name == "A":
            data = base.A.data.copy()
            data[at] = 0.0
            changes[name] = sparse.csr_matrix((data, base.A.indices, base.A.indptr), shape=base.A.shape)
        else:
            numbers = getattr(base, name).copy()
            numbers[at] = 0.0
            changes[name] = numbers
    if "A" not in varying:
        like = like.variant(A=base.A)
    open_bounds = {"lb": np.full(len(base.lb), -np.inf), "ub": np.full(len(base.ub), np.inf)}
    program = base.variant(**changes) if changes else base
    template = Template(program, [_Numbers(p)], slopes, open_bounds)
    theta = np.hstack([np.zeros((len(scenarios.names), 0)), *(values for _, values in varying.values())])
    return StochasticProgram(elements.core, elements.stages, elements, scenarios, template, like, theta, entries)
