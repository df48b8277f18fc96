"""A block from a Pyomo model: the user writes build(), the rest is done here."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.batches import ResponseBatch
from decomp.blocks.compile.outer_approximation import ConvexTerm, Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.blocks.solve.backends import COMPILED, find_backend
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.interface import Backend, Built, Options, abilities_of
from decomp.blocks.solve.solver_state import BlockSettings, Initial
from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray, Response, Signal, Status
from decomp.subproblem import Arrays, Subproblem

__all__ = ["BlockSettings", "ConvexTerm", "Initial", "PyomoSubproblem"]


class PyomoSubproblem(Subproblem):
    """One (unit, scenario) as a Pyomo model: min f(x) - <price, y> + penalty term, y = model.coupling.

    A subclass writes `build()`. The model has `cost` (a linear or convex quadratic Expression), `coupling` (an indexed
    Expression; its order is the order of the entries) and, where the coordinator needs something that nobody
    prices, `report` (an indexed Expression). The model is built and compiled when it is first needed.

    Thousands of scenarios: what differs between them goes into mutable Params, `parameters` gives their values, and
    `template` is the same for all blocks whose model is otherwise the same. It is then built once on a rank, all these
    blocks use one solver object, and a block holds no more than its values and its basis. The answers are the same to
    the last bit as with an object for each. Bounds, right-hand sides, costs and coefficients of constraints may follow
    the Params, affinely.

    weight          (n_u,) or one number: weights of the inner product; None = 1
    solver          "highs" (compiled, warm, with bounds), or the name of any Pyomo solver ("ipopt", "pounce",
                    "appsi_highs", or "module:name" where a module must be imported to register it): for NLP models,
                    with the bounds of mixed-integer solvers that report them; or a backend that a package gives (entry
                    point `tatonnement.solvers`)
    solver_options  passed on to the solver
    later_options   options from the second solve on; None = the same
    settings        tolerances and the way integers are treated
    convex          the user's word that a nonlinear model is convex: its answers then come with bounds, in which what
                    the solver has left over is counted (see `decomp.blocks.solve.tangent_bound`)
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
        solver: str = COMPILED,
        solver_options: Options | None = None,
        later_options: Options | None = None,
        settings: BlockSettings | None = None,
        convex: bool = False,
    ) -> None:
        self.weight, self.convex = 1.0 if weight is None else weight, convex
        self.solver, self.settings = solver, settings or BlockSettings()
        self.solver_options, self.later_options = solver_options, later_options
        self._state: Any = None
        if type(self).abilities is PyomoSubproblem.abilities:  # what a subclass declares is taken as it is
            self.abilities = abilities_of(self.backend) | ({"bound"} if convex else set())  # type: ignore[misc]
        wrong = self.backend.refused_options({**(solver_options or {}), **(later_options or {})})
        if wrong:
            raise InputError(
                Mistake(
                    type(self).__name__, "solver_options", name, f"{solver} refuses it", "see the list of its options"
                )
                for name in wrong
            )

    @property
    def backend(self) -> Backend:
        """What solves the block, see `decomp.blocks.solve.interface`."""
        return find_backend(self.solver)

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
        text = self.backend.refusal()
        if text or not self.backend.looks_inside():
            return text
        built = self._try(None)
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
        except Exception:  # its first answer says so
            return None
        return id(shared) if shared is not None and shared.batches else None

    @classmethod
    def solve_together(cls, blocks: Sequence[PyomoSubproblem], signals: Sequence[Signal]) -> Sequence[Response]:
        """All answers; blocks that their template cannot solve in a batch are solved alone."""
        shared = blocks[0]._built.shared
        assert shared is not None
        answers, states = shared.solve([b._built for b in blocks], [b._state for b in blocks], signals)
        for block, state in zip(blocks, states, strict=True):
            block._state = state
        if isinstance(answers, ResponseBatch):
            return cls.finished_together(blocks, answers)
        return [
            block.solve(signal) if answer is None else block.finished(answer)
            for block, signal, answer in zip(blocks, signals, answers, strict=True)
        ]

    @classmethod
    def finished_together(cls, blocks: Sequence[Any], answers: ResponseBatch) -> Sequence[Response]:
        """What `finished` makes of several blocks' answers; override both where it can be done for all at once."""
        if cls.finished is PyomoSubproblem.finished:
            return answers
        return [block.finished(answer) for block, answer in zip(blocks, answers, strict=True)]

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Values of every variable of the model, by the name of its component; override it to tell less, or other."""
        built = self._try(None)
        if isinstance(built, Response) or response.point is None:
            return {}
        at = {id(v): j for j, v in enumerate(built.columns)}
        found = {}
        for component in built.model.component_objects(pyo.Var, active=True):
            parts = [component[i] for i in component]
            columns = [at.get(id(part), -1) for part in parts]
            fixed = np.array([np.nan if part.value is None else float(part.value) for part in parts])
            found[component.name] = np.where(np.array(columns) >= 0, response.point[columns], fixed)
        return found

    def evaluate(self, y: FloatArray) -> Response:
        built = self._try(None)
        if isinstance(built, Response):
            return self.finished(built)
        response, after = built.backend.evaluate(np.asarray(y, float), self._warm(built))
        if self._state is not None:
            self._state = after
        return self.finished(response)

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        return self._built.backend.convex_program(self._warm(self._built), active)

    def fingerprint(self) -> bytes | None:
        """Of the block's numbers and the schedule offers count from; None where its backend cannot tell them."""
        built = self._try(None)
        identity = None if isinstance(built, Response) else built.backend.identity()
        if identity is None:
            return None
        origin = None if self.initial_price is None else (self.initial_price, self.initial.offer)
        return fingerprint(*identity, self.settings, origin)

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
        known = getattr(self._state, "initial", None)
        if known is not None:
            return known  # type: ignore[no-any-return]
        initial, self._state, message = built.backend.initial(self._warm(built))
        if initial is None:
            raise ValueError(f"{type(self).__name__} has no initial schedule: {message or 'initial_price is None'}")
        return initial

    @property
    def program(self) -> Program:
        """The block's model as arrays. Raises ValueError where its solver has none."""
        if not isinstance(self._built.backend, CompiledBlock):
            raise ValueError(f"the solver {self.solver} has no arrays of it")
        return self._built.backend.program

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
            built.shared.put(built.theta)
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
        return self.backend.build(self)
