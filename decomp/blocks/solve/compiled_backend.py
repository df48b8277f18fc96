"""Blocks as compiled programs: one of its own, or a place in a template that many blocks share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.batches import ResponseBatch, SignalBatch
from decomp.blocks.compile.compiler import columns, compile_model
from decomp.blocks.compile.domains import with_plain_domains
from decomp.blocks.compile.program import Program
from decomp.blocks.compile.template import Template, compile_template
from decomp.blocks.solve.batch_data import PenalisedQuery
from decomp.blocks.solve.batched_lp import BatchQuery, LinearBatch
from decomp.blocks.solve.batched_qp import may_be_batched, solve_penalised
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.highs_lp import refused_options
from decomp.blocks.solve.highs_simplex import Basis, faulty_version
from decomp.blocks.solve.interface import BlockModel, Built, Capability, Options, frozen_of, price_of, weight_of
from decomp.blocks.solve.program_solver import ProgramSolver
from decomp.blocks.solve.solver_state import BlockSettings
from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray, Response, Signal

Compiled = list[CompiledBlock]


@dataclass(frozen=True, eq=False)
class Shared:
    """What the blocks of one template on this rank have in common."""

    model: pyo.ConcreteModel | None  # of blocks that were given as arrays there is none
    columns: list[Any]
    template: Template
    frozen: Mapping[int, IntArray]
    solver: ProgramSolver
    linear: LinearBatch | None
    penalised: bool

    @property
    def batches(self) -> bool:
        return self.linear is not None or self.penalised

    def put(self, theta: FloatArray) -> None:
        self.template.put(theta)

    def solve(
        self, built: Sequence[Built], states: Sequence[Any], signals: Sequence[Signal]
    ) -> tuple[ResponseBatch | Sequence[Response | None], Sequence[Any]]:
        """All answers; None for blocks without a warm state, and where a block's data do not allow a batch."""
        rows = SignalBatch.of(signals)
        blocks = [one.backend for one in built if isinstance(one.backend, CompiledBlock)]
        if rows is not None and rows.target is None and self.linear is not None:
            query = self._query(built, blocks, states, rows)
            if query is not None:
                return self._linear(blocks, states, rows, *self.linear.solve(query))
        return self._penalised(built, blocks, states, signals)

    def _query(
        self, built: Sequence[Built], blocks: Compiled, states: Sequence[Any], rows: SignalBatch
    ) -> BatchQuery | None:
        """Its blocks at these prices; None where one of them has to be solved alone."""
        weight = np.array([block.weight for block in blocks])
        if rows.price.shape != weight.shape or not np.isfinite(rows.price).all():
            return None
        if self.solver.warm.solver is None or any(state is None or state.basis is None for state in states):
            return None
        fixed = {}
        if self.frozen and rows.active is not None:
            kept = ((i, blocks[i].kept(states[i], active)) for i, active in enumerate(rows.active))
            fixed = {i: columns for i, columns in kept if len(columns)}
        return BatchQuery(
            np.array([one.theta for one in built]), weight * rows.price,
            np.array([block.paid(state) for block, state in zip(blocks, states, strict=True)]),
            np.array([block.origin(state) for block, state in zip(blocks, states, strict=True)]),
            states, fixed, rows.id,
        )  # fmt: skip

    def _linear(
        self,
        blocks: Compiled,
        states: Sequence[Any],
        rows: SignalBatch,
        answers: ResponseBatch,
        bases: Sequence[Basis | None],
    ) -> tuple[ResponseBatch | Sequence[Response | None], Sequence[Any]]:
        """Answers and new states; none where there is no basis, and where a bound contradicts a point."""
        bounds, after, alone = answers.bound.copy(), list(states), set[int]()
        for i, (block, basis) in enumerate(zip(blocks, bases, strict=True)):
            if basis is None:
                alone.add(i)
                continue
            state = block.signalled(states[i], None if rows.active is None else rows.active[i])
            state = block.with_point(state.after(basis=basis), answers.y[i], float(answers.cost[i]))
            bound = block.checked(answers[i], state, block.weight * rows.price[i])
            if bound is None and not np.isnan(bounds[i]):
                alone.add(i)
                continue
            bounds[i], after[i] = np.nan if bound is None else bound, state
        answers = answers.but(bound=bounds)
        if not alone:
            return answers, after
        return [None if i in alone else answer for i, answer in enumerate(answers)], after

    def _penalised(
        self, built: Sequence[Built], blocks: Compiled, states: Sequence[Any], signals: Sequence[Signal]
    ) -> tuple[Sequence[Response | None], Sequence[Any]]:
        queries: dict[int, PenalisedQuery] = {}
        for i, (one, block, state, signal) in enumerate(zip(built, blocks, states, signals, strict=True)):
            if self.penalised and state is not None and block.may_be_batched(signal, state):
                assert one.theta is not None
                queries[i] = block.penalised_query(signal, state, one.theta)
        answers: list[Response | None] = [None] * len(blocks)
        after = list(states)
        found = solve_penalised(self.template, self.solver, list(queries.values())) if queries else []
        for i, solved in zip(queries, found, strict=True):
            if solved is not None:
                response, state = solved
                answers[i], after[i] = response, blocks[i].with_point(state, response.y, response.cost)
        return answers, after


def shared_of(
    template: Template,
    like: Program,
    settings: BlockSettings,
    *,
    first_options: Options | None = None,
    later_options: Options | None = None,
    model: Any = None,
    order: Sequence[Any] = (),
    frozen: Mapping[int, IntArray] | None = None,
) -> Shared:
    """What the blocks of a template share; like: a program of its structure whose numbers the scaling is chosen by."""
    solver = ProgramSolver(like, settings, dict(first_options or {}), dict(later_options or {}))
    return Shared(
        model, list(order), template, frozen or {}, solver, LinearBatch.of(template, solver),
        may_be_batched(template, solver),
    )  # fmt: skip


# lives as long as one of the blocks
SHARED: WeakValueDictionary[Hashable, Shared] = WeakValueDictionary()


class CompiledBackend:
    """Linear and mixed-integer programs by HiGHS, convex quadratic ones by PIQP, warm and with bounds."""

    capabilities = frozenset(
        {Capability.WARM_BASIS, Capability.DUAL_BOUND, Capability.BATCH, Capability.TANGENTS, Capability.KKT}
    )

    def refusal(self) -> str:
        return ""

    def looks_inside(self) -> bool:
        return bool(faulty_version())

    def refused_options(self, options: Options) -> list[str]:
        return refused_options(options)

    def build(self, block: BlockModel) -> Built:
        if block.template is not None:
            return _from_template(block)
        name = type(block).__name__
        model = with_plain_domains(block.build(), name)
        order = columns(model)
        program = compile_model(model, tuple(block.convex_terms(model)), name, **_manner(block))
        refuse_integers(program, name)
        compiled = CompiledBlock(
            program, weight_of(block, len(program.coupling_0)), block.settings, initial_price=price_of(block),
            frozen=frozen_of(block, model, order), first_options=block.solver_options,
            later_options=block.later_options,
        )  # fmt: skip
        return Built(model, order, len(program.cost), compiled)


def _from_template(block: BlockModel) -> Built:
    name = type(block).__name__
    key = (type(block), block.template, block.settings, repr(block.solver_options), repr(block.later_options))
    shared = SHARED.get(key)
    if shared is None:
        model = with_plain_domains(block.build(), name, open_bounds=True)
        order = columns(model)
        template = compile_template(model, tuple(block.convex_terms(model)), name, **_manner(block))
        refuse_integers(template.program, name)
        later = block.solver_options if block.later_options is None else block.later_options
        frozen = frozen_of(block, model, order)
        SHARED[key] = shared = shared_of(
            template, template.program, block.settings, first_options=block.solver_options, later_options=later,
            model=model, order=order, frozen=frozen,
        )  # fmt: skip
    template, theta = shared.template, shared.template.theta(block.parameters(shared.model), name)
    backend = CompiledBlock(
        partial(template.program_at, theta), weight_of(block, len(template.program.coupling_0)), block.settings,
        initial_price=price_of(block), frozen=shared.frozen, first_options=block.solver_options,
        later_options=block.later_options, solver=shared.solver, data=partial(template.fingerprint, theta),
    )  # fmt: skip
    return Built(shared.model, shared.columns, len(template.program.cost), backend, shared, theta)


def refuse_integers(program: Program, name: str) -> None:
    """Raise InputError where the installed HiGHS cannot be trusted with the program's integers."""
    if program.integer.any() and faulty_version():
        where = program.col_names[int(np.argmax(program.integer))]
        raise InputError([Mistake(name, "model", where, "it must be whole", faulty_version())])


def _manner(block: BlockModel) -> dict[str, bool]:
    return {"fixed": block.settings.tangents == "fixed", "relax": block.settings.milp == "relax"}
