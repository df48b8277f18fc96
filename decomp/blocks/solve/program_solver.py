"""From a question to its outcome: integers decided or fixed, tangents added until no convex term is violated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from decomp.blocks.compile.program import Program
from decomp.blocks.solve.bounds import dual_bound
from decomp.blocks.solve.explain import diagnose
from decomp.blocks.solve.highs_lp import DUAL, PRIMAL, Options, WarmLinear
from decomp.blocks.solve.highs_mip import solve_mixed
from decomp.blocks.solve.highs_simplex import BASIC
from decomp.blocks.solve.qp_attempts import KNOWN, USABLE
from decomp.blocks.solve.qp_block import Quadratic
from decomp.blocks.solve.scaling import Scaled
from decomp.blocks.solve.solver_state import BlockSettings, WarmState
from decomp.messages import FloatArray, Status

LIMIT_TEXT = "the solver reached its time or iteration limit without a feasible point; raise time_limit_s"
HELD = 1e-7  # the solvers hold rows to within this: no tangent can be met closer
ROUNDING = 1e-9  # a limiting term holds to within this, relative to 1 and its value
FITS = 1e-9  # a row without columns holds to within this, relative to the offers
HOLDS = 1e-6  # share of its term from which a multiplier says that a tangent holds
BEYOND = (
    "beyond the solver's means: it knows the optimum to {:.1g} of the objective's terms, asked for is {:.0g}; look at "
    "the scale of the model's coefficients and bounds"
)
TANGENT_TEXT = "convex terms still violated beyond tangent_tol after tangent_rounds rounds"


@dataclass(frozen=True, eq=False)
class Question:
    """min 1/2 x'Qx + cost'x + constant + 1/2 sum_i stiffness_i (coupling_i x - target_i)^2 within lb <= x <= ub.

    mip_gap    relative gap a mixed-integer solve may leave, where it is above that of the settings
    has_point  the block has returned a point before: it is not infeasible, whatever a solver says
    careful    an answer was in doubt: from a cold start, mixed-integer solves without presolve
    """

    program: Program
    cost: FloatArray
    constant: float
    lb: FloatArray
    ub: FloatArray
    stiffness: FloatArray | None = None
    target: FloatArray | None = None
    mip_gap: float | None = None
    has_point: bool = False
    careful: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """A solved question: point, proven lower bound, the warm state after it, why there is no point; multipliers.

    true: the point with every epigraph variable raised to its function, where that has been worked out already
    """

    status: Status
    x: FloatArray
    bound: float | None
    state: WarmState
    message: str = ""
    row_dual: FloatArray = field(default_factory=lambda: np.zeros(0))
    pool_dual: FloatArray = field(default_factory=lambda: np.zeros(0))
    true: FloatArray | None = None


class ProgramSolver:
    """Answers questions about programs of one structure: the same matrix pattern, terms and integers.

    Warm states go in and come out; solver objects are kept to save work.

    A convex term t >= f whose t a row, a bound or an offer holds is no cost that could be corrected afterwards: where t
    is below f the point breaks a limit, and its cost is none of a feasible point. Such a term's tangents are lifted by
    its tolerance d, t >= tangent + d, and tangents are added until they are closer than d to f where it matters: then
    t >= f, and the point is feasible. Bounds are those of weak duality over the tangents themselves, so that what the
    lifts cost stands in the gap. Where a program has no point that keeps d away from its limits, none is lifted: its
    points keep these limits to within d, as a solver keeps rows.
    """

    def __init__(
        self, program: Program, settings: BlockSettings, first_options: Options, later_options: Options,
        lifted: bool = True,
    ) -> None:  # fmt: skip
        self.settings = settings
        given = program.terms.tolerance
        limiting = program.limiting & program.terms.open
        asked = np.where(np.isnan(given), settings.tangent_tol, given)
        self.tolerance = np.where(limiting, np.maximum(asked, HELD), asked)
        self.lift = np.where(limiting & lifted, self.tolerance, 0.0)
        self.limiting = limiting
        self._bare: ProgramSolver | None = None
        self.integer = np.flatnonzero(program.integer)
        self.first_options, self.later_options = first_options, later_options
        self.scaled = Scaled.of(program, self.lift)
        self.quadratic = Quadratic(program, self.scaled)
        self.warm = WarmLinear(self.scaled, settings.fresh_every)
        self.forms: dict[bytes, Any] = {}  # matrices of penalised solves in a batch
        self._with_offer: tuple[ProgramSolver, Program] | None = None

    def with_offer(self, program: Program, offer: FloatArray, names: tuple[str, ...]) -> tuple[ProgramSolver, Program]:
        """The program with coupling x = offer, and what solves it; done once for all programs with the same matrix."""
        if self._with_offer is None or program.A is not self.scaled.base:
            fixed = program.with_rows(program.coupling, offer, names)
            solver = ProgramSolver(fixed, self.settings, self.first_options, self.first_options)
            if program.A is self.scaled.base:
                self._with_offer = solver, fixed
            return solver, fixed
        solver, fixed = self._with_offer
        return solver, fixed.variant(
            cost=program.cost,
            constant=program.constant,
            row_lo=np.concatenate([program.row_lo, offer]),
            row_hi=np.concatenate([program.row_hi, offer]),
            lb=program.lb,
            ub=program.ub,
            coupling_0=program.coupling_0,
            report_0=program.report_0,
            terms=program.terms,
            row_names=program.row_names + names,
        )

    def answer(self, question: Question, state: WarmState, exact: bool) -> Outcome:
        """Continuous programs at once; with integers: decide them when new or asked, then the continuous program."""
        if not len(self.integer):
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
        program = question.program
        s = self.settings
        bound, settled = None, False
        cost = question.cost.copy()
        cost[program.curve] = 1.0
        allowed = self._errors(program, cost)
        answer = None
        rel_gap = max(s.mip_rel_gap, question.mip_gap or 0.0)
        presolve = not question.careful
        for _ in range(s.tangent_rounds):
            data = program, self.scaled, cost, question.lb, question.ub, state.pool, s.mip_abs_gap, rel_gap, options
            answer = solve_mixed(*data, s.mip_max_nodes, s.time_limit_s, presolve)
            if presolve and answer.status not in (Status.OPTIMAL, Status.FEASIBLE, Status.LIMIT):
                presolve = False  # its word alone proves nothing
                answer = solve_mixed(*data, s.mip_max_nodes, s.time_limit_s, presolve)
            if not answer.status.has_point:
                return self._explained(answer.status, question, state, whole=True)
            if answer.bound is not None:
                bound = answer.bound if bound is None else max(bound, answer.bound)
            terms = program.terms
            violated = terms.violated(answer.x, allowed)
            if not len(violated):
                settled = True
                break
            state = state.with_tangents(terms.tangents(terms.arguments(answer.x), violated))
        assert answer is not None
        whole = answer.x[self.integer]
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
        if not len(question.cost):
            return self._constant(question, state)
        if question.careful:
            state = state.after(basis=None)
        lb, ub = question.lb, question.ub
        if state.whole is not None:
            lb, ub = lb.copy(), ub.copy()
            lb[self.integer] = ub[self.integer] = state.whole
        fixed = question if state.whole is None else replace(question, lb=lb, ub=ub)
        program = question.program
        curved = program.quad is not None or question.stiffness is not None
        terms, strategy = program.terms, PRIMAL
        tolerance = self._errors(program, program.cost)
        lifted = self.lift > 0
        for round_ in range(self.settings.tangent_rounds):
            step = self._curved_step(fixed, state) if curved else self._linear_step(fixed, state, strategy)
            if not step.status.has_point:
                if step.status is Status.INFEASIBLE and self.lift.any():
                    return self._without_lifts(program)._continuous(question, state.after(basis=None))
                return replace(step, state=state) if step.message else self._explained(step.status, fixed, state)
            state = step.state
            if not terms.open.any():
                return self._finished(fixed, step, None)
            values = terms.values(terms.arguments(step.x))
            short = values - step.x[terms.epigraph]
            allowed = np.where(lifted, ROUNDING * (1.0 + np.abs(values)), tolerance)
            violated = np.flatnonzero(terms.open & (short > allowed))
            if not len(violated):
                return self._finished(fixed, step, terms.lifted(step.x, values))
            if round_ + 1 < self.settings.tangent_rounds:
                more = terms.more_tangents(step.x, violated, state.pool, step.pool_dual, tolerance)
                state = state.with_tangents(more)
                strategy = DUAL  # a cut leaves the basis dual feasible
        return replace(self._finished(fixed, step, None), status=Status.FEASIBLE, message=TANGENT_TEXT)

    def _errors(self, program: Program, cost: FloatArray) -> FloatArray:
        """(M,) how far tangents may be below each term where it matters: its tolerance, over its cost if it is none of
        the limiting ones."""
        price = np.where(self.limiting, 1.0, np.abs(cost[program.terms.epigraph]))
        with np.errstate(divide="ignore"):
            return np.asarray(self.tolerance / price)

    def _without_lifts(self, program: Program) -> ProgramSolver:
        """The same without lifts, for programs that have no point away from their limits."""
        if self._bare is None:
            self._bare = ProgramSolver(program, self.settings, self.first_options, self.later_options, lifted=False)
        return self._bare

    def _constant(self, question: Question, state: WarmState) -> Outcome:
        """A program without columns: its rows hold or they do not."""
        program = question.program
        room = FITS * np.maximum(1.0, np.abs(program.coupling_0).max(initial=0.0))
        if np.any(program.row_lo > room) or np.any(program.row_hi < -room):
            return self._explained(Status.INFEASIBLE, question, state)
        bound = question.constant if question.stiffness is None else None
        return Outcome(Status.OPTIMAL, np.zeros(0), bound, state, row_dual=np.zeros(len(program.row_lo)))

    def _finished(self, q: Question, step: Outcome, true: FloatArray | None) -> Outcome:
        """The last step with its bound, where no penalty is in the objective, and the state one solve later."""
        pool, bound = step.state.pool, None
        if q.stiffness is None:
            bound = dual_bound(
                q.program, q.cost, q.constant, q.lb, q.ub, step.x, step.row_dual, pool, step.pool_dual
            )  # fmt: skip
        state = self._tidied(q.program, step.state, step.pool_dual)
        return Outcome(step.status, step.x, bound, state, step.message, step.row_dual, step.pool_dual, true)

    def _tidied(self, program: Program, state: WarmState, pool_dual: FloatArray) -> WarmState:
        """The state one solve later; where the pool has outgrown its terms, without the tangents idle for longest.

        They go when there are twice as many as are to stay, so that the solver's rows are seldom written anew. A
        tangent that the basis holds stays, or it would be no basis.
        """
        if not len(state.pool):
            return state
        # a term's multipliers sum to its weight; an interior point leaves a trace on every tangent
        share = HOLDS * program.term_weight[state.pool.term]
        idle = np.where(pool_dual > share, 0, state.idle + 1)
        most = math.ceil(self.settings.tangents_per_term * len(program.terms))
        state = state.after(idle=idle)
        if state.basis is None or len(state.pool) <= 2 * most:
            return state
        m = len(program.row_names)
        binding = state.basis.rows[m:] != BASIC
        newest_first = np.arange(len(idle), 0, -1)
        keep = binding.copy()
        keep[np.lexsort((newest_first, idle, ~binding))[:most]] = True
        return replace(state, pool=state.pool.only(keep), idle=idle[keep], basis=state.basis.keeping(m, keep))

    def _linear_step(self, q: Question, state: WarmState, strategy: int) -> Outcome:
        options = self.first_options if state.basis is None else self.later_options
        limit = self.settings.time_limit_s
        a = self.warm.solve(q.program, q.cost, q.lb, q.ub, state.pool, state.basis, strategy, options, limit)
        after = state.after(basis=a.basis) if a.status.has_point else state
        return Outcome(a.status, a.x, None, after, row_dual=a.row_dual, pool_dual=a.pool_dual)

    def _curved_step(self, q: Question, state: WarmState) -> Outcome:
        used, ub, program = np.ones(len(state.pool), bool), q.ub, q.program
        if len(program.curve):
            used, ub = ~np.isin(program.terms.epigraph, program.curve)[state.pool.term], q.ub.copy()
            ub[program.curve] = 0.0
        a = self.quadratic.solve(program, q.cost, q.lb, ub, state.pool.only(used), q.stiffness, q.target)
        pool_dual = np.zeros(len(used))
        if a.status.has_point:
            pool_dual[used] = a.pool_dual
        status, text = a.status, BEYOND.format(a.off, KNOWN) if a.off > KNOWN else ""
        if status.has_point and a.off > USABLE:
            status = Status.ERROR
        return Outcome(status, a.x, None, state, text, row_dual=a.row_dual, pool_dual=pool_dual)

    def _value(self, question: Question, outcome: Outcome) -> float:
        """The question's objective at the outcome's point, convex terms exact."""
        program = question.program
        x = program.lifted(outcome.x)
        value = program.objective(x) - program.constant + question.constant
        value += float((question.cost - program.cost) @ x)
        if question.stiffness is not None and question.target is not None:
            value += 0.5 * float(question.stiffness @ (program.coupling @ x - question.target) ** 2)
        return value

    def _worth_it(self) -> float:
        """Gains below this are the tolerances of the two solves, not better integers."""
        return 10 * self.settings.mip_abs_gap + (self.settings.tangent_tol if len(self.scaled.terms) else 0.0)

    def _explained(self, status: Status, question: Question, state: WarmState, whole: bool = False) -> Outcome:
        text = LIMIT_TEXT
        if status is not Status.LIMIT:
            program = question.program
            weight = np.zeros(len(program.coupling_0)) if question.stiffness is None else question.stiffness
            none = whole and status is Status.INFEASIBLE and not question.has_point
            ray = status is Status.UNBOUNDED
            status, text = diagnose(program, question.cost, question.lb, question.ub, state.pool, weight > 0, none, ray)
        return Outcome(status, np.zeros(0), None, state, message=text)
