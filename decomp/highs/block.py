"""A compiled block: how a signal becomes solves, and solves become an answer with a bound."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from decomp.highs.bounds import dual_bound
from decomp.highs.explain import diagnose
from decomp.highs.linear import BASIC, DUAL, PRIMAL, Options, WarmLinear
from decomp.highs.mixed import solve_mixed
from decomp.highs.program import Program
from decomp.highs.quadratic import Quadratic
from decomp.highs.scaling import Scaled
from decomp.highs.state import BlockSettings, Initial, WarmState
from decomp.messages import BoolArray, FloatArray, IntArray, Response, Signal, Status
from decomp.subproblem import Arrays

LIMIT_TEXT = "the solver reached its time or iteration limit without a feasible point; raise time_limit_s"
TANGENT_TEXT = "convex terms still violated beyond tangent_tol after tangent_rounds rounds"


@dataclass(frozen=True, eq=False)
class Question:
    """min 1/2 x'Qx + cost'x + constant + 1/2 sum_i stiffness_i (coupling_i x - target_i)^2 within lb <= x <= ub."""

    cost: FloatArray
    constant: float
    lb: FloatArray
    ub: FloatArray
    stiffness: FloatArray | None = None
    target: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """A solved question: point, proven lower bound, and the warm state after it."""

    status: Status
    x: FloatArray
    bound: float | None
    state: WarmState
    pool_dual: FloatArray = field(default_factory=lambda: np.zeros(0))
    message: str = ""


class CompiledBlock:
    """Solves one program for signals. Warm states go in and come out; `solve` and `evaluate` keep nothing else.

    weight (n_u,) of the inner product; initial_price (n_u,) or None; frozen: columns that keep their initial value
    while an entry is active; options of the first HiGHS solve and of the later ones.
    """

    def __init__(
        self,
        program: Program,
        weight: FloatArray,
        settings: BlockSettings,
        *,
        initial_price: FloatArray | None = None,
        frozen: Mapping[int, IntArray] | None = None,
        first_options: Options | None = None,
        later_options: Options | None = None,
    ) -> None:
        self.program, self.weight, self.settings = program, weight, settings
        self.scaled = Scaled.of(program)
        self.initial_price, self.frozen = initial_price, dict(frozen or {})
        self.first_options = dict(first_options or {})
        self.later_options = self.first_options if later_options is None else dict(later_options)
        self.quadratic = Quadratic(program, self.scaled)
        self.warm = WarmLinear(program, self.scaled, settings.fresh_every)

    def cold(self) -> WarmState:
        """The state before the first solve."""
        pool = self.program.terms.first_tangents(self.program.lb, self.program.ub)
        return WarmState(pool, np.zeros(len(pool), np.int64))

    def arrays(self, state: WarmState) -> Arrays:
        return state.arrays()

    def from_arrays(self, arrays: Arrays) -> WarmState:
        return WarmState.from_arrays(arrays, self.program.terms)

    def initial(self, state: WarmState) -> tuple[Initial | None, WarmState, str]:
        """The schedule at the initial price, solved for when there is none yet; None and why without one."""
        outcome = self.prepared(state)
        return outcome.state.initial, outcome.state, outcome.message

    def prepared(self, state: WarmState) -> Outcome:
        """The state with the initial schedule in it, where the block has an initial price."""
        if self.initial_price is None or state.initial is not None:
            return Outcome(Status.OPTIMAL, np.zeros(0), None, state)
        outcome = self._answer(self._question(state, self.initial_price, None), state, exact=True)
        if outcome.status.has_point:
            x = self.program.lifted(outcome.x)
            initial = Initial(self.program.offer(x), x, self.program.objective(x))
            outcome = replace(outcome, state=replace(outcome.state, initial=initial))
        return outcome

    def solve(self, signal: Signal, state: WarmState) -> tuple[Response, WarmState]:
        """argmin f - <price, y> + 1/2 <penalty (y - target), y - target>; the bound where it is proven."""
        begin = time.perf_counter()
        problem = self._wrong(signal)
        if problem:
            return self._failed(Status.ERROR, problem, signal, begin), state
        ready = self.prepared(state)
        if not ready.status.has_point:
            return self._failed(ready.status, f"initial schedule: {ready.message}", signal, begin), state
        state = replace(ready.state, active=signal.active)
        question = self._question(state, signal.price, signal.active)
        if signal.target is not None and signal.penalty is not None and np.any(signal.penalty > 0):
            question = replace(
                question,
                stiffness=self.weight * signal.penalty,
                target=signal.target + self._origin(state) - self.program.coupling_0,
            )
        outcome = self._answer(question, state, signal.exact)
        if not outcome.status.has_point:
            return self._failed(outcome.status, outcome.message, signal, begin), outcome.state
        revised = state.whole is not None and outcome.state.whole is not state.whole
        response = self._response(outcome, signal.id, begin)
        return replace(response, revised=revised and self.settings.milp == "fix"), outcome.state

    def evaluate(self, y: FloatArray, state: WarmState) -> Response:
        """min f with the offers fixed at y; the integers are those held, or chosen anew where they do not allow y."""
        begin = time.perf_counter()
        if y.shape != self.weight.shape or not np.all(np.isfinite(y)):
            text = f"cannot be evaluated at {y}: it is not {len(self.weight)} finite numbers"
            return self._failed(Status.ERROR, text, None, begin)
        ready = self.prepared(state)
        if not ready.status.has_point:
            return self._failed(ready.status, f"initial schedule: {ready.message}", None, begin)
        state = ready.state
        entries = tuple(f"offer {i} = {value:.6g}" for i, value in enumerate(y))
        held = self.program.with_rows(self.program.coupling, y + self._origin(state) - self.program.coupling_0, entries)
        fixed = CompiledBlock(held, self.weight, self.settings, frozen=self.frozen, first_options=self.first_options)
        question = self._question(state, np.zeros(len(y)), state.active)
        start = replace(state, basis=None)
        outcome = fixed._answer(question, start, False)
        if not outcome.status.has_point:
            return self._failed(outcome.status, outcome.message, None, begin)
        return replace(self._response(replace(outcome, state=state), 0, begin), bound=None)

    # -- from the signal to a question ---------------------------------------------------------------------------------

    def _wrong(self, signal: Signal) -> str:
        for name in ("price", "target", "penalty", "active"):
            value = getattr(signal, name)
            if value is None:
                continue
            if value.shape != self.weight.shape:
                return f"the signal's {name} has {value.size} entries, the block offers {len(self.weight)}"
            if not np.all(np.isfinite(value)):
                return f"the signal's {name} is not finite in entry {int(np.flatnonzero(~np.isfinite(value))[0])}"
        if signal.penalty is not None and np.any(signal.penalty < 0):
            return "the signal's penalty is negative: the block's problem is not convex"
        return ""

    def _origin(self, state: WarmState) -> FloatArray:
        return np.zeros(len(self.weight)) if state.initial is None else state.initial.offer

    def _paid(self, state: WarmState) -> float:
        """<initial_price, y0>: what the initial offer is worth, taken off the cost."""
        if self.initial_price is None or state.initial is None:
            return 0.0
        return float((self.weight * self.initial_price) @ state.initial.offer)

    def _question(self, state: WarmState, price: FloatArray, active: BoolArray | None) -> Question:
        worth = self.weight * price
        constant = self.program.constant - self._paid(state)
        constant -= float(worth @ (self.program.coupling_0 - self._origin(state)))
        lb, ub = self.program.lb, self.program.ub
        if active is not None and state.initial is not None and self.frozen:
            keep = [columns for i, columns in self.frozen.items() if active[i]]
            if keep:
                held = np.concatenate(keep)
                lb, ub = lb.copy(), ub.copy()
                lb[held] = ub[held] = state.initial.point[held]
        return Question(self.program.cost - self.program.coupling_t @ worth, constant, lb, ub)

    # -- solving a question --------------------------------------------------------------------------------------------

    def _answer(self, question: Question, state: WarmState, exact: bool) -> Outcome:
        """Continuous programs at once; with integers: decide them when new or asked, then the continuous program."""
        if not self.program.integer.any():
            return self._continuous(question, state)
        decide = exact or state.whole is None or self.settings.milp == "each_round"
        before = self._continuous(question, state) if state.whole is not None else None
        if not decide and before is not None:
            return replace(before, bound=None) if before.status.has_point else self._decided(question, before.state)
        if before is None or not before.status.has_point:
            return self._decided(question, state)
        after = self._decided(question, before.state)
        bound = after.bound
        if after.status.has_point and self._value(question, after) < self._value(question, before) - self._worth_it():
            return after
        return replace(before, bound=bound)

    def _decided(self, question: Question, state: WarmState) -> Outcome:
        """Integers from a mixed-integer solve (without penalty), then the continuous program with them fixed."""
        options = self.first_options if state.basis is None else self.later_options
        s, weight = self.settings, self.program.term_weight
        bound, settled = None, False
        cost = question.cost.copy()
        cost[self.program.curve] = 1.0
        weight = weight + np.isin(self.program.terms.epigraph, self.program.curve)
        answer = None
        for _ in range(s.tangent_rounds):
            answer = solve_mixed(
                self.program,
                self.scaled,
                cost,
                question.lb,
                question.ub,
                state.pool,
                s.mip_abs_gap,
                s.mip_rel_gap,
                options,
                s.time_limit_s,
            )
            if not answer.status.has_point:
                return self._explained(answer.status, question, state, whole=True)
            if answer.bound is not None:
                bound = answer.bound if bound is None else max(bound, answer.bound)
            violated = self.program.terms.violated(answer.x, weight, s.tangent_tol)
            if not len(violated):
                settled = True
                break
            terms = self.program.terms
            state = state.with_tangents(terms.tangents(terms.arguments(answer.x), violated))
        assert answer is not None
        whole = answer.x[self.program.integer]
        outcome = self._continuous(question, replace(state, whole=whole))
        if question.stiffness is not None or bound is None:
            return replace(outcome, bound=None)
        status = max(outcome.status, answer.status) if outcome.status.has_point else outcome.status
        return replace(
            outcome,
            bound=bound + question.constant,
            status=status,
            message=outcome.message or ("" if settled else TANGENT_TEXT),
        )

    def _continuous(self, question: Question, state: WarmState) -> Outcome:
        """The program with its integers fixed; tangents are added until no term is violated."""
        lb, ub = question.lb, question.ub
        if state.whole is not None:
            lb, ub = lb.copy(), ub.copy()
            lb[self.program.integer] = ub[self.program.integer] = state.whole
        fixed = replace(question, lb=lb, ub=ub)
        curved = self.program.quad is not None or question.stiffness is not None
        weight, strategy = self.program.term_weight, PRIMAL
        for _ in range(self.settings.tangent_rounds):
            step = self._curved_step(fixed, state) if curved else self._linear_step(fixed, state, strategy)
            if not step.status.has_point:
                return self._explained(step.status, fixed, state)
            state = step.state
            violated = self.program.terms.violated(step.x, weight, self.settings.tangent_tol)
            if not len(violated):
                return replace(step, state=self._tidied(step.state, step.pool_dual))
            more = self.program.terms.more_tangents(
                step.x, violated, state.pool, step.pool_dual, weight, self.settings.tangent_tol
            )
            state = state.with_tangents(more)
            strategy = DUAL  # a cut leaves the basis dual feasible
        return replace(step, status=Status.FEASIBLE, message=TANGENT_TEXT)

    def _tidied(self, state: WarmState, pool_dual: FloatArray) -> WarmState:
        """The state one solve later; where the pool has outgrown its terms, without the tangents idle for longest.

        They go when there are twice as many as are to stay, so that the solver's rows are seldom written anew. A
        tangent that the basis holds stays, or it would be no basis.
        """
        idle = np.where(pool_dual > 0, 0, state.idle + 1)
        most = math.ceil(self.settings.tangents_per_term * len(self.program.terms))
        state = replace(state, idle=idle)
        if state.basis is None or len(state.pool) <= 2 * most:
            return state
        m = len(self.program.row_names)
        held = state.basis.codes()[1][m:] != int(BASIC)
        newest_first = np.arange(len(idle), 0, -1)
        keep = held.copy()
        keep[np.lexsort((newest_first, idle, ~held))[:most]] = True
        return replace(state, pool=state.pool.only(keep), idle=idle[keep], basis=state.basis.keeping(m, keep))

    def _linear_step(self, q: Question, state: WarmState, strategy: int) -> Outcome:
        options = self.first_options if state.basis is None else self.later_options
        a = self.warm.solve(
            q.cost, q.lb, q.ub, state.pool, state.basis, strategy, options, self.settings.time_limit_s
        )  # fmt: skip
        if not a.status.has_point:
            return Outcome(a.status, a.x, None, state)
        bound = dual_bound(
            self.program, q.cost, q.constant, q.lb, q.ub, a.x, a.row_dual, state.pool, a.pool_dual
        )  # fmt: skip
        return Outcome(a.status, a.x, bound, replace(state, basis=a.basis), a.pool_dual)

    def _curved_step(self, q: Question, state: WarmState) -> Outcome:
        used, ub = np.ones(len(state.pool), bool), q.ub
        if len(self.program.curve):
            used, ub = ~np.isin(self.program.terms.epigraph, self.program.curve)[state.pool.term], q.ub.copy()
            ub[self.program.curve] = 0.0
        a = self.quadratic.solve(q.cost, q.lb, ub, state.pool.only(used), q.stiffness, q.target)
        if not a.status.has_point:
            return Outcome(a.status, a.x, None, state)
        pool_dual = np.zeros(len(used))
        pool_dual[used] = a.pool_dual
        bound = None
        if q.stiffness is None:
            bound = dual_bound(
                self.program, q.cost, q.constant, q.lb, q.ub, a.x, a.row_dual, state.pool, pool_dual
            )  # fmt: skip
        return Outcome(a.status, a.x, bound, state, pool_dual)

    # -- from solves to an answer --------------------------------------------------------------------------------------

    def _value(self, question: Question, outcome: Outcome) -> float:
        """The question's objective at the outcome's point, convex terms exact."""
        x = self.program.lifted(outcome.x)
        value = self.program.objective(x) - self.program.constant + question.constant
        value += float((question.cost - self.program.cost) @ x)
        if question.stiffness is not None and question.target is not None:
            value += 0.5 * float(question.stiffness @ (self.program.coupling @ x - question.target) ** 2)
        return value

    def _worth_it(self) -> float:
        """Gains below this are the tolerances of the two solves, not better integers."""
        return 10 * self.settings.mip_abs_gap + (self.settings.tangent_tol if len(self.program.terms) else 0.0)

    def _response(self, outcome: Outcome, signal_id: int, begin: float) -> Response:
        x = self.program.lifted(outcome.x)
        return Response(
            y=self.program.offer(x) - self._origin(outcome.state),
            cost=self.program.objective(x) - self._paid(outcome.state),
            bound=outcome.bound,
            status=outcome.status,
            report=self.program.told(x),
            message=outcome.message,
            point=x,
            signal_id=signal_id,
            solve_time=time.perf_counter() - begin,
        )

    def _explained(self, status: Status, question: Question, state: WarmState, whole: bool = False) -> Outcome:
        text = LIMIT_TEXT
        if status is not Status.LIMIT:
            held = np.zeros(len(self.weight)) if question.stiffness is None else question.stiffness
            status, text = diagnose(self.program, question.cost, question.lb, question.ub, state.pool, held > 0, whole)
        return Outcome(status, np.zeros(0), None, state, message=text)

    def _failed(self, status: Status, message: str, signal: Signal | None, begin: float) -> Response:
        return Response(
            y=np.full(len(self.weight), np.nan),
            cost=np.nan,
            status=status,
            message=message,
            signal_id=0 if signal is None else signal.id,
            solve_time=time.perf_counter() - begin,
        )
