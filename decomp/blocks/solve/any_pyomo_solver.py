"""A block solved by any Pyomo solver: for nonlinear models, and for solvers we know nothing of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.common.modeling import unique_component_name
from pyomo.opt import TerminationCondition as End

from decomp.blocks.compile.compiler import WHOLE, columns, missing, scalar_expression
from decomp.blocks.compile.domains import with_plain_domains
from decomp.blocks.compile.outer_approximation import ConvexTerm, Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.interface import BlockModel, Built, Capability, Options, frozen_of, price_of, weight_of
from decomp.blocks.solve.pyomo_solvers import find_solver, lower_bound_of, refused, reports_bounds, runs_highs, unusable
from decomp.blocks.solve.solver_state import Initial
from decomp.blocks.solve.tangent_bound import tangent_bound
from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray, IntArray, Response, Signal, Status
from decomp.subproblem import Arrays

STATUS_OF = {
    **dict.fromkeys((End.optimal, End.locallyOptimal, End.globallyOptimal), Status.OPTIMAL),
    **dict.fromkeys((End.feasible,), Status.FEASIBLE),
    **dict.fromkeys((End.infeasible, End.infeasibleOrUnbounded), Status.INFEASIBLE),
    End.unbounded: Status.UNBOUNDED,
    **dict.fromkeys((End.maxTimeLimit, End.maxIterations, End.maxEvaluations), Status.LIMIT),
}
MOST_NAMES = 5
CONTRADICTS = 1e-6  # relative: a bound so far above a point is none
INTEGRAL = 1e-5  # share of max(1, |x|): the coarsest that solvers call a whole number


@dataclass(frozen=True, eq=False)
class StartState:
    """All the next answer depends on: the start point, the initial schedule, the active entries, first solve or not."""

    point: FloatArray
    first: bool = True
    initial: Initial | None = None
    active: BoolArray | None = None


class AnyPyomoSolver:
    """Any model that a Pyomo solver takes, from a start point; with bounds where the solver reports them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.capabilities = frozenset({Capability.DUAL_BOUND} if reports_bounds(name) else ())

    def refusal(self) -> str:
        return unusable(self.name)

    def looks_inside(self) -> bool:
        return False

    def refused_options(self, options: Options) -> list[str]:
        return []

    def build(self, block: BlockModel) -> Built:
        name = type(block).__name__
        model = with_plain_domains(block.build(), name)
        order = columns(model)
        size = len(model.coupling) if hasattr(model, "coupling") else 0
        solver = SolverBlock(
            model, order, tuple(block.convex_terms(model)), weight_of(block, size), self.name,
            initial_price=price_of(block), frozen=frozen_of(block, model, order),
            first_options=block.solver_options, later_options=block.later_options, name=name,
            convex=getattr(block, "convex", False),
        )  # fmt: skip
        return Built(model, order, len(order), solver)


class SolverBlock:
    """min cost - <price, coupling> + 1/2 <penalty (coupling - target), coupling - target>, built once, parameters set.

    The variables start from the warm state's point, never from what an earlier solve left behind.
    """

    def __init__(
        self,
        model: pyo.ConcreteModel,
        columns: Sequence[Any],
        terms: Sequence[ConvexTerm],
        weight: FloatArray,
        solver: str,
        *,
        initial_price: FloatArray | None,
        frozen: Mapping[int, IntArray],
        first_options: Options | None,
        later_options: Options | None,
        name: str,
        convex: bool = False,
    ) -> None:
        mistakes = missing(model, name)
        if terms:
            remedy = "write it as a constraint of the model"
            mistakes.append(Mistake(name, "class", "convex_terms", f"{solver} takes no tangents", remedy))
        self.solver: Any = find_solver(solver)
        if self.solver is None:
            mistakes.append(Mistake(name, "block", "solver", unusable(solver)))
        else:
            mistakes += refused(model, self.solver, solver, name)
        whole = [v.name for v in columns if not v.is_continuous()]
        if convex and whole:
            mistakes.append(Mistake(name, "block", "convex", f"'{whole[0]}' must be whole", "leave convex out"))
        if mistakes:
            raise InputError(mistakes)
        self.model, self.columns, self.weight, self.name, self.convex = model, columns, weight, solver, convex
        self._reported: float | None = None
        self.initial_price = None if initial_price is None else np.nan_to_num(initial_price, nan=0.0)
        self.measured = np.ones(len(weight)) if initial_price is None else np.where(np.isnan(initial_price), 0.0, 1.0)
        self.frozen = frozen
        self.first_options = dict(first_options or {})
        self.later_options = self.first_options if later_options is None else dict(later_options)
        if runs_highs(solver):
            # all HiGHS objects of a process must agree on their threads
            self.first_options = {"threads": 1, **self.first_options}
            self.later_options = {"threads": 1, **self.later_options}
        self.cost = scalar_expression(model.cost)
        coupling = model.coupling
        self.coupling = [coupling[i] for i in coupling] if coupling.is_indexed() else [coupling]
        report = getattr(model, "report", None)
        self.report = [] if report is None else [report[i] for i in report] if report.is_indexed() else [report]
        self.whole = [v for v in columns if not v.is_continuous()]
        self._round_bounds()
        self.conflict = self._crossed()
        self._add_objective()

    def _round_bounds(self) -> None:
        """Bounds of whole variables rounded inwards: not every solver does so itself."""
        for v in self.whole:
            if v.lb is not None:
                v.setlb(math.ceil(v.lb - WHOLE))
            if v.ub is not None:
                v.setub(math.floor(v.ub + WHOLE))

    def _crossed(self) -> str:
        """Constraints and variables whose lower side exceeds the upper one, in words."""
        rows = self.model.component_data_objects(pyo.Constraint, active=True)
        sides = [(one.name, one.lb, one.ub) for one in (*self.columns, *rows)]
        crossed = [f"'{n}' ({lo:.6g} > {hi:.6g})" for n, lo, hi in sides if None not in (lo, hi) and lo > hi]
        if not crossed:
            return ""
        return f"no feasible solution: the lower bound exceeds the upper bound of {', '.join(crossed[:MOST_NAMES])}"

    def _add_objective(self) -> None:
        model, entries = self.model, range(len(self.coupling))
        for objective in model.component_data_objects(pyo.Objective, active=True):
            objective.deactivate()
        block = pyo.Block()
        model.add_component(unique_component_name(model, "signal"), block)
        block.worth = pyo.Param(entries, mutable=True, initialize=0.0)
        block.stiffness = pyo.Param(entries, mutable=True, initialize=0.0)
        block.target = pyo.Param(entries, mutable=True, initialize=0.0)
        paid = sum(block.worth[i] * self.coupling[i] for i in entries)
        pull = sum(block.stiffness[i] / 2 * (self.coupling[i] - block.target[i]) ** 2 for i in entries)
        block.priced = pyo.Objective(expr=self.cost - paid)
        block.penalised = pyo.Objective(expr=self.cost - paid + pull)
        block.fixed_offer = pyo.Constraint(entries, rule=lambda b, i: self.coupling[i] == b.target[i])
        block.penalised.deactivate()
        block.fixed_offer.deactivate()
        self.signal = block

    def cold(self) -> StartState:
        return StartState(np.array([np.nan if v.value is None else float(v.value) for v in self.columns]))

    def arrays(self, state: StartState) -> Arrays:
        out = {"point": state.point, "first": np.array([state.first])}
        if state.active is not None:
            out["active"] = state.active
        if state.initial is not None:
            out["initial_offer"], out["initial_point"] = state.initial.offer, state.initial.point
            out["initial_cost"] = np.array([state.initial.cost])
        return out

    def from_arrays(self, arrays: Arrays) -> StartState:
        initial = None
        if "initial_point" in arrays:
            initial = Initial(arrays["initial_offer"], arrays["initial_point"], float(arrays["initial_cost"][0]))
        return StartState(np.array(arrays["point"]), bool(arrays["first"][0]), initial, arrays.get("active"))

    def identity(self) -> None:
        """Nothing is known of its numbers."""
        return None

    def convex_program(self, state: StartState, active: BoolArray | None) -> tuple[Program, Pool]:
        raise ValueError(f"its model is not compiled (solver = {self.name!r})")

    def initial(self, state: StartState) -> tuple[Initial | None, StartState, str]:
        """The schedule at the initial price, solved for when there is none yet; None and why without one."""
        after, failed = self._prepared(state)
        return after.initial, after, "" if failed is None else failed.message

    def _prepared(self, state: StartState) -> tuple[StartState, Response | None]:
        """The state with the initial schedule in it, or the answer that says why there is none."""
        if self.initial_price is None or state.initial is not None:
            return state, None
        response, after = self._run(state, self.initial_price, None, None, None, None)
        if not response.status.has_point or response.point is None:
            return state, self._failed(response.status, f"initial schedule: {response.message}")
        return replace(after, initial=Initial(self.measured * response.y, response.point, response.cost)), None

    def solve(self, signal: Signal, state: StartState) -> tuple[Response, StartState]:
        """The solver's answer to a signal; with a bound where the solver has proven one, or the model is convex."""
        n = len(self.coupling)
        for name in ("price", "target", "penalty", "active"):
            value = getattr(signal, name)
            if value is not None and (value.shape != (n,) or not np.all(np.isfinite(value))):
                return self._failed(Status.ERROR, f"the signal's {name} is not {n} finite numbers"), state
        state, failed = self._prepared(state)
        if failed is not None:
            return replace(failed, signal_id=signal.id), state
        initial, state = state.initial, replace(state, active=signal.active)
        origin = np.zeros(n) if initial is None else initial.offer
        penalised = signal.target is not None and signal.penalty is not None and bool(np.any(signal.penalty > 0))
        stiffness = self.weight * signal.penalty if penalised and signal.penalty is not None else None
        target = origin + signal.target if penalised and signal.target is not None else None
        response, state = self._run(state, signal.price, stiffness, target, None, signal.active)
        if response.bound is not None and initial is not None and self.initial_price is not None:
            # counted from the initial schedule: its worth comes off the cost, its offer off what is paid for
            moved = float((self.weight * (signal.price - self.initial_price)) @ initial.offer)
            response = replace(response, bound=response.bound + moved)
        return replace(self._shifted(response, initial), signal_id=signal.id), state

    def evaluate(self, y: FloatArray, state: StartState) -> tuple[Response, StartState]:
        """min f with the offers fixed at y; the state is the one before."""
        ready, failed = self._prepared(state)
        return (failed if failed is not None else self._evaluated(y, ready)), state

    def _evaluated(self, y: FloatArray, state: StartState) -> Response:
        initial = state.initial
        raw = y if initial is None else y + initial.offer
        response, _ = self._run(state, np.zeros(len(y)), None, None, raw, state.active)
        return self._shifted(response, initial)

    def _shifted(self, response: Response, initial: Initial | None) -> Response:
        if initial is None or self.initial_price is None or not response.status.has_point:
            return response
        paid = float((self.weight * self.initial_price) @ initial.offer)
        return replace(response, y=response.y - initial.offer, cost=response.cost - paid)

    def _run(
        self,
        state: StartState,
        price: FloatArray,
        stiffness: FloatArray | None,
        target: FloatArray | None,
        fixed_offer: FloatArray | None,
        active: BoolArray | None,
    ) -> tuple[Response, StartState]:
        begin = time.perf_counter()
        s = self.signal
        for i in range(len(self.coupling)):
            s.worth[i] = float(self.weight[i] * price[i])
            s.stiffness[i] = 0.0 if stiffness is None else float(stiffness[i])
            s.target[i] = (
                float(fixed_offer[i]) if fixed_offer is not None else 0.0 if target is None else float(target[i])
            )
        (s.priced.deactivate, s.priced.activate)[stiffness is None]()
        (s.penalised.activate, s.penalised.deactivate)[stiffness is None]()
        (s.fixed_offer.activate, s.fixed_offer.deactivate)[fixed_offer is None]()
        for v, x in zip(self.columns, state.point, strict=True):
            v.set_value(None if np.isnan(x) else float(x), skip_validation=True)
        fixed = self._freeze(state, active)
        status, message = self._call(self.first_options if state.first else self.later_options)
        for v in fixed:
            v.unfix()
        if not status.has_point:
            return self._failed(status, message), state
        point = np.array([np.nan if v.value is None else float(v.value) for v in self.columns])
        y = np.array([pyo.value(e, exception=False) for e in self.coupling], float)
        cost = pyo.value(self.cost, exception=False)
        report = np.array([pyo.value(e, exception=False) for e in self.report], float)
        if cost is None or not np.all(np.isfinite(np.concatenate([y, report, [cost]]))):
            return self._failed(Status.ERROR, f"{self.name} returned a point at which the model has no value"), state
        bound = None
        if stiffness is None and fixed_offer is None:
            bound = self._bound(status, {id(v) for v in fixed})
        response = Response(y, float(cost), bound, status, report, point=point, solve_time=time.perf_counter() - begin)
        return response, replace(state, point=point, first=False)

    def _bound(self, status: Status, fixed: Set[int]) -> float | None:
        """Proven lower bound of the priced objective; none that lies above the point itself."""
        value = float(pyo.value(self.signal.priced))
        found = self._reported
        if self.convex and status is Status.OPTIMAL:
            rows = [c for c in self.model.component_data_objects(pyo.Constraint, active=True)]
            found = tangent_bound(self.signal.priced.expr, rows, [v for v in self.columns if id(v) not in fixed])
        if found is None or not math.isfinite(found) or found > value + CONTRADICTS * (1 + abs(value)):
            return None
        return min(found, value)

    def _freeze(self, state: StartState, active: BoolArray | None) -> list[Any]:
        if active is None or state.initial is None:
            return []
        kept = [j for i, columns in self.frozen.items() if active[i] for j in columns]
        for j in kept:
            self.columns[j].fix(float(state.initial.point[j]))
        return [self.columns[j] for j in kept]

    def _call(self, options: Options) -> tuple[Status, str]:
        """Run the solver; whatever it raises is an answer too."""
        self._reported = None
        if self.conflict:
            return Status.INFEASIBLE, self.conflict
        if all(v.fixed for v in self.columns):  # nothing to decide, which not every solver takes
            short = self._worst_rows()
            return (Status.INFEASIBLE, f"no feasible solution{short}") if short else (Status.OPTIMAL, "")
        try:
            result = self.solver.solve(self.model, load_solutions=False, options=dict(options))
            status = STATUS_OF.get(result.solver.termination_condition, Status.ERROR)
            if status.has_point:
                if reports_bounds(self.name):
                    self._reported = lower_bound_of(result)
                self._load(result)
                return self._relaxed() or (status, "")
        except Exception as error:  # solvers raise whatever they like; that is an answer and does not end the run
            return Status.ERROR, f"{self.name} failed: {error}"
        said = f"{self.name} ended with '{result.solver.termination_condition}'"
        detail = getattr(result.solver, "message", None)
        return status, said + (f" ({detail})" if detail else "") + (
            self._worst_rows() if status is Status.INFEASIBLE else ""
        )

    def _load(self, result: Any) -> None:
        if hasattr(self.solver, "load_vars"):
            self.solver.load_vars()
        else:
            self.model.solutions.load_from(result)

    def _relaxed(self) -> tuple[Status, str] | None:
        """Has the solver left integrality out? Then its answer is none."""
        away = [
            v for v in self.whole if not v.fixed and abs(v.value - round(v.value)) > INTEGRAL * max(1, abs(v.value))
        ]
        if not away:
            return None
        values = ", ".join(f"'{v.name}' = {v.value:.6g}" for v in away[:MOST_NAMES])
        return (
            Status.ERROR,
            f"{self.name} has relaxed variables that must be whole: {values}; take a solver for integers",
        )

    def _worst_rows(self) -> str:
        """Constraints and bounds violated most at the start point: a nonlinear model has no elastic proof."""
        short = []
        rows = self.model.component_data_objects(pyo.Constraint, active=True)
        for one, expression in [*((c, c.body) for c in rows), *((v, v) for v in self.columns)]:
            body = pyo.value(expression, exception=False)
            if body is not None:
                lower, upper = (body if side is None else side for side in (one.lb, one.ub))
                short.append((max(lower - body, body - upper, 0.0), one.name))
        worst = [f"'{name}' by {by:.6g}" for by, name in sorted(short, reverse=True)[:MOST_NAMES] if by > 1e-6]
        return f"; missed most at the start point: {', '.join(worst)}" if worst else ""

    def _failed(self, status: Status, message: str) -> Response:
        return Response(np.full(len(self.coupling), np.nan), np.nan, status=status, message=message)
