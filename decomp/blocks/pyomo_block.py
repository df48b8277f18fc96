"""A block from a Pyomo model: the user writes build(), the rest is done here."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.batches import ResponseBatch, SignalBatch
from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.blocks.solve.backend import Built, build
from decomp.blocks.solve.batch_data import Asked
from decomp.blocks.solve.batched_qp import pull_together
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.highs_lp import Options, refused_options
from decomp.blocks.solve.highs_simplex import Basis, faulty_version
from decomp.blocks.solve.pyomo_solvers import unusable
from decomp.blocks.solve.solver_state import BlockSettings, Initial
from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray, Response, Signal, Status
from decomp.subproblem import Arrays, Subproblem

__all__ = ["BlockSettings", "ConvexTerm", "Initial", "PyomoSubproblem"]


class PyomoSubproblem(Subproblem):
    """One (unit, scenario) as a Pyomo model: min f(x) - <price, y> + penalty term, y = model.coupling.

    A subclass writes `build()`. The model has `cost` (a linear or convex quadratic Expression), `coupling` (an indexed
    Expression; its order is the order of the entries) and, where the coordinator must be told something that nobody
    prices, `report` (an indexed Expression). The model is built and compiled when it is first needed.

    Thousands of scenarios: what differs between them goes into mutable Params, `parameters` gives their values, and
    `template` is the same for all blocks whose model is otherwise the same. It is then built once on a rank, all these
    blocks use one solver object, and a block holds no more than its values and its basis. The answers are the same to
    the last bit as with an object for each. Bounds, right-hand sides, costs and coefficients of constraints may follow
    the Params, affinely.

    weight          (n_u,) or one number: weights of the inner product; None = 1
    solver          "highs" (compiled, warm, with bounds), or the name of any Pyomo solver ("ipopt", "pounce",
                    "appsi_highs", or "module:name" where a module must be imported to register it): for NLP models, no
                    bounds
    solver_options  passed on to the solver
    later_options   options from the second solve on; None = the same
    settings        tolerances and the way integers are treated
    initial_price   (n_u,) set by a subclass whose offers count from the schedule at these prices; nan where an entry
                    counts from 0 all the same (a value-at-risk). None = offers are what `coupling` says
    """

    abilities = frozenset({"penalty", "bound", "evaluate", "kkt"})
    initial_price: FloatArray | None = None
    template: Hashable | None = None

    def __init__(
        self,
        *,
        weight: FloatArray | float | None = None,
        solver: str = "highs",
        solver_options: Options | None = None,
        later_options: Options | None = None,
        settings: BlockSettings | None = None,
    ) -> None:
        self.weight = 1.0 if weight is None else weight
        self.solver, self.settings = solver, settings or BlockSettings()
        self.solver_options, self.later_options = solver_options, later_options
        self._state: Any = None
        if solver != "highs":
            self.abilities = frozenset({"penalty", "evaluate"})  # type: ignore[misc]
            return
        wrong = refused_options({**(solver_options or {}), **(later_options or {})})
        if wrong:
            raise InputError(
                Mistake(
                    type(self).__name__, "solver_options", name, "HiGHS refuses it", "see the list of HiGHS options"
                )
                for name in wrong
            )

    # -- what a user writes --------------------------------------------------------------------------------------------

    def build(self) -> pyo.ConcreteModel:
        """The model with `cost`, `coupling` and optionally `report`."""
        raise InputError(
            [
                Mistake(
                    type(self).__name__, "class", "build", "it is not defined", "def build(self) -> pyo.ConcreteModel"
                )
            ]
        )

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        """Terms epigraph >= function(variables), met by tangents to within settings.tangent_tol."""
        return ()

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        """Variables that keep their initial value while entry i is active in the signal. Needs `initial_price`."""
        return {}

    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, Any]:
        """This block's values of the template's mutable Params, by name: one for each index, in order."""
        return {}

    def finished(self, response: Response) -> Response:
        """The answer as it leaves the block: a report with more in it, a message in the words of the case."""
        return response

    def refusal(self) -> str:
        if self.solver != "highs":
            return unusable(self.solver)
        if not faulty_version():
            return ""
        built = self._try(None)  # only a faulty version makes it worth while to look inside beforehand
        return built.message if isinstance(built, Response) else ""

    # -- the block -----------------------------------------------------------------------------------------------------

    def solve(self, signal: Signal) -> Response:
        built = self._try(signal)
        if isinstance(built, Response):
            return self.finished(built)
        response, self._state = built.backend.solve(signal, self._warm(built))
        return self.finished(response)

    @property
    def batch_key(self) -> Hashable | None:
        try:
            shared = self._built.shared
        except Exception:  # it is told when the block is asked
            return None
        return None if shared is None or (shared.together is None and not shared.pulled) else id(shared)

    @classmethod
    def solve_together(cls, blocks: Sequence[PyomoSubproblem], signals: Sequence[Signal]) -> Sequence[Response]:
        """All answers; blocks without a warm state, and questions their template cannot be asked together, alone."""
        shared, rows = blocks[0]._built.shared, SignalBatch.of(signals)
        assert shared is not None
        if rows is not None and rows.target is None and shared.together is not None:
            asked = shared.question([b._built for b in blocks], [b._state for b in blocks], rows)
            if asked is not None:
                answers, bases = shared.together.solve(asked)
                return cls._answered(blocks, signals, rows, answers, bases)
        pulled: dict[int, Asked] = {}
        for i, (block, signal) in enumerate(zip(blocks, signals, strict=True)):
            backend, state, theta = block._built.backend, block._state, block._built.theta
            assert isinstance(backend, CompiledBlock)
            assert theta is not None
            if shared.pulled and state is not None and backend.may_be_batched(signal, state):
                pulled[i] = backend.asked(signal, state, theta)
        out: dict[int, Response] = {}
        found = pull_together(shared.template, shared.solver, list(pulled.values())) if pulled else []
        for i, one in zip(pulled, found, strict=True):
            if one is not None:
                backend = blocks[i]._built.backend
                assert isinstance(backend, CompiledBlock)
                out[i], state = one
                blocks[i]._state = backend.with_point(state, out[i].y, out[i].cost)
        for i, (block, signal) in enumerate(zip(blocks, signals, strict=True)):
            out[i] = block.finished(out[i]) if i in out else block.solve(signal)
        return [out[i] for i in range(len(blocks))]

    @classmethod
    def _answered(
        cls,
        blocks: Sequence[PyomoSubproblem],
        signals: Sequence[Signal],
        rows: SignalBatch,
        answers: ResponseBatch,
        bases: list[Basis | None],
    ) -> Sequence[Response]:
        """The answers as they leave the blocks, with new states; those without a basis are solved alone, and those
        whose bound contradicts a point."""
        bounds = answers.bound.copy()
        for i, (block, basis) in enumerate(zip(blocks, bases, strict=True)):
            if basis is None:
                continue
            backend = block._built.backend
            assert isinstance(backend, CompiledBlock)
            state = backend.signalled(block._state, None if rows.active is None else rows.active[i])
            after = backend.with_point(state.after(basis=basis), answers.y[i], float(answers.cost[i]))
            bound = backend.checked(answers[i], after, backend.weight * rows.price[i])
            if bound is None and not np.isnan(bounds[i]):
                bases[i] = None
                continue
            bounds[i] = np.nan if bound is None else bound
            block._state = after
        answers = answers.but(bound=bounds)
        if None not in bases:
            return cls.finished_together(blocks, answers)
        return [
            block.solve(signal) if basis is None else block.finished(answer)
            for block, signal, answer, basis in zip(blocks, signals, answers, bases, strict=True)
        ]

    @classmethod
    def finished_together(cls, blocks: Sequence[Any], answers: ResponseBatch) -> Sequence[Response]:
        """What `finished` makes of several blocks' answers; override both where it can be done for all at once."""
        if cls.finished is PyomoSubproblem.finished:
            return answers
        return [block.finished(answer) for block, answer in zip(blocks, answers, strict=True)]

    def evaluate(self, y: FloatArray) -> Response:
        built = self._try(None)
        if isinstance(built, Response):
            return self.finished(built)
        response, after = built.backend.evaluate(np.asarray(y, float), self._warm(built))
        if self._state is not None:
            self._state = after
        return self.finished(response)

    def convex_program(self, active: BoolArray | None) -> Program:
        backend = self._built.backend
        if not isinstance(backend, CompiledBlock):
            raise ValueError(f"its model is not compiled (solver = {self.solver!r})")
        return backend.convex_program(self._warm(self._built), active)

    def fingerprint(self) -> bytes | None:
        """Of the compiled arrays and the schedule offers count from. None where a solver other than HiGHS answers, and
        where variables are frozen: what the block can do then depends on the coordinator's needs, too."""
        if self.solver != "highs":
            return None
        backend = self._built.backend
        assert isinstance(backend, CompiledBlock)
        if backend.frozen:
            return None
        origin = None if self.initial_price is None else (self.initial_price, self.initial.offer)
        return fingerprint(backend.program.data(), backend.weight, self.settings, origin)

    def save(self) -> Arrays | None:
        return None if self._state is None else self._built.backend.arrays(self._state)

    def load(self, arrays: Arrays) -> None:
        self._state = self._built.backend.from_arrays(arrays)

    def mark(self) -> Any:
        return self._state  # never changed in place

    def reset(self, mark: Any) -> None:
        self._state = mark

    @property
    def initial(self) -> Initial:
        """The schedule offers are measured from: raw offer (n_u,), point and cost. Raises ValueError without one."""
        built = self._built
        held = getattr(self._state, "initial", None)
        if held is not None:
            return held  # type: ignore[no-any-return]
        initial, self._state, message = built.backend.initial(self._warm(built))
        if initial is None:
            raise ValueError(f"{type(self).__name__} has no initial schedule: {message or 'initial_price is None'}")
        return initial

    @property
    def width(self) -> int:
        """Length of a point of this block."""
        return self._built.width

    def value(self, point: FloatArray | None, component: Any) -> FloatArray:
        """Values of a Var, Expression or Constraint body of the model (or its name) at a point, in component order."""
        built = self._built
        if point is None or len(point) != built.width:
            raise ValueError(f"a point of this block has {built.width} values, as in Response.point")
        if built.shared is not None and built.theta is not None:
            built.shared.template.put(built.theta)
        if isinstance(component, str):
            name, component = component, built.model.find_component(component)
            if component is None:
                raise KeyError(f"the model has no component '{name}'")
        for v, x in zip(built.columns, point, strict=False):
            v.set_value(float(x), skip_validation=True)
        parts = [component[i] for i in component] if component.is_indexed() else [component]
        return np.array([pyo.value(p, exception=False) for p in parts], float)

    # -- behind it -----------------------------------------------------------------------------------------------------

    def _warm(self, built: Built) -> Any:
        return self._cold(built) if self._state is None else self._state

    def _cold(self, built: Built) -> Any:
        return built.backend.cold()

    def _try(self, signal: Signal | None) -> Built | Response:
        """The compiled block, or the answer that says why there is none."""
        try:
            return self._built
        except InputError as error:
            n = 0 if signal is None else len(signal.price)
            return Response(np.full(n, np.nan), np.nan, status=Status.ERROR, message=str(error))

    @cached_property
    def _built(self) -> Built:
        return build(self)
