"""What a block becomes of its model: a program of its own, a place in a template, or something a solver is handed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.batches import SignalBatch
from decomp.blocks.compile.compiler import columns, compile_model
from decomp.blocks.compile.domains import with_plain_domains
from decomp.blocks.compile.program import Program
from decomp.blocks.compile.template import Template, compile_template
from decomp.blocks.solve.any_pyomo_solver import SolverBlock
from decomp.blocks.solve.batched_lp import Asked, Together
from decomp.blocks.solve.batched_qp import may_be_batched
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.highs_simplex import faulty_version
from decomp.blocks.solve.program_solver import ProgramSolver
from decomp.blocks.solve.solver_state import Initial
from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray, Response, Signal
from decomp.subproblem import Arrays

if TYPE_CHECKING:
    from decomp.blocks.pyomo_block import PyomoSubproblem


class Backend(Protocol):
    """What answers for the block: a compiled program, or any Pyomo solver. States go in and come out."""

    def cold(self) -> Any: ...
    def initial(self, state: Any) -> tuple[Initial | None, Any, str]: ...
    def solve(self, signal: Signal, state: Any) -> tuple[Response, Any]: ...
    def evaluate(self, y: FloatArray, state: Any) -> tuple[Response, Any]: ...
    def arrays(self, state: Any) -> Arrays: ...
    def from_arrays(self, arrays: Arrays) -> Any: ...


@dataclass(frozen=True, eq=False)
class Built:
    """The model, its variables in point order, the length of a point (a backend may append) and the backend.

    shared, theta: where the block has a template, what its blocks have in common, and this block's parameters.
    """

    model: pyo.ConcreteModel
    columns: list[Any]
    width: int
    backend: Backend
    shared: Shared | None = None
    theta: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Shared:
    """What the blocks of one template on this rank have in common."""

    model: pyo.ConcreteModel
    columns: list[Any]
    template: Template
    frozen: Mapping[int, IntArray]
    solver: ProgramSolver
    together: Together | None
    pulled: bool

    def question(self, built: Sequence[Built], states: Sequence[Any], rows: SignalBatch) -> Asked | None:
        """Its blocks at these prices, as one question; None where one of them must be asked alone."""
        backends = [one.backend for one in built if isinstance(one.backend, CompiledBlock)]
        weight = np.array([backend.weight for backend in backends])
        if rows.price.shape != weight.shape or not np.isfinite(rows.price).all():
            return None
        if self.solver.warm.solver is None or any(state is None or state.basis is None for state in states):
            return None
        held = {}
        if self.frozen and rows.active is not None:
            kept = ((i, backends[i].kept(states[i], active)) for i, active in enumerate(rows.active))
            held = {i: columns for i, columns in kept if len(columns)}
        return Asked(
            np.array([one.theta for one in built]), weight * rows.price,
            np.array([backend.paid(state) for backend, state in zip(backends, states, strict=True)]),
            np.array([backend.origin(state) for backend, state in zip(backends, states, strict=True)]),
            states, held, rows.id,
        )  # fmt: skip


# lives as long as one of the blocks
SHARED: WeakValueDictionary[Hashable, Shared] = WeakValueDictionary()


def build(block: PyomoSubproblem) -> Built:
    """The block's model, compiled where HiGHS is to answer. Raises InputError with all that is wrong with it."""
    if block.template is not None and block.solver == "highs":
        return _from_template(block)
    model = with_plain_domains(block.build(), type(block).__name__)
    order = columns(model)
    terms = tuple(block.convex_terms(model))
    frozen = _frozen(block, model, order)
    if block.solver != "highs":
        size = len(model.coupling) if hasattr(model, "coupling") else 0
        outside = SolverBlock(
            model, order, terms, _weight(block, size), block.solver, initial_price=_price(block), frozen=frozen,
            first_options=block.solver_options, later_options=block.later_options, name=type(block).__name__,
        )  # fmt: skip
        return Built(model, order, len(order), outside)
    program = compile_model(model, terms, type(block).__name__, **_manner(block))
    _refuse_integers(program, type(block).__name__)
    backend = CompiledBlock(
        program, _weight(block, len(program.coupling_0)), block.settings, initial_price=_price(block), frozen=frozen,
        first_options=block.solver_options, later_options=block.later_options,
    )  # fmt: skip
    return Built(model, order, len(program.cost), backend)


def _from_template(block: PyomoSubproblem) -> Built:
    name = type(block).__name__
    key = (type(block), block.template, block.settings, repr(block.solver_options), repr(block.later_options))
    shared = SHARED.get(key)
    if shared is None:
        model = with_plain_domains(block.build(), name, open_bounds=True)
        order = columns(model)
        template = compile_template(model, tuple(block.convex_terms(model)), name, **_manner(block))
        _refuse_integers(template.program, name)
        first = dict(block.solver_options or {})
        later = first if block.later_options is None else dict(block.later_options)
        solver = ProgramSolver(template.program, block.settings, first, later)
        SHARED[key] = shared = Shared(
            model,
            order,
            template,
            _frozen(block, model, order),
            solver,
            Together.of(template, solver),
            may_be_batched(template, solver),
        )
    template, theta = shared.template, shared.template.theta(block.parameters(shared.model), name)
    backend = CompiledBlock(
        partial(template.program_at, theta), _weight(block, len(template.program.coupling_0)), block.settings,
        initial_price=_price(block), frozen=shared.frozen, first_options=block.solver_options,
        later_options=block.later_options, solver=shared.solver, data=partial(template.fingerprint, theta),
    )  # fmt: skip
    return Built(shared.model, shared.columns, len(template.program.cost), backend, shared, theta)


def _refuse_integers(program: Program, name: str) -> None:
    """Raise InputError where the installed HiGHS cannot be trusted with the program's integers."""
    if program.integer.any() and faulty_version():
        where = program.col_names[int(np.argmax(program.integer))]
        raise InputError([Mistake(name, "model", where, "it must be whole", faulty_version())])


def _manner(block: PyomoSubproblem) -> dict[str, bool]:
    return {"fixed": block.settings.tangents == "fixed", "relax": block.settings.milp == "relax"}


def _price(block: PyomoSubproblem) -> FloatArray | None:
    return None if block.initial_price is None else np.asarray(block.initial_price, float)


def _frozen(block: PyomoSubproblem, model: pyo.ConcreteModel, order: list[Any]) -> dict[int, IntArray]:
    number = {id(v): j for j, v in enumerate(order)}
    return {
        i: np.array([number[id(v)] for v in variables if id(v) in number], np.int64)
        for i, variables in block.frozen(model).items()
    }


def _weight(block: PyomoSubproblem, size: int) -> FloatArray:
    weight = np.asarray(block.weight, float)
    if weight.ndim and weight.shape != (size,):
        problem = f"weight has {weight.size} values, model.coupling {size} entries"
        raise InputError([Mistake(type(block).__name__, "block", "weight", problem, "give one for each entry")])
    return np.broadcast_to(weight, (size,)).copy()
