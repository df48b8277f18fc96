"""A compiled block: how a signal becomes a question to the solvers, and their outcome an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.blocks.solve.batch_data import PenalisedQuery
from decomp.blocks.solve.highs_lp import Options
from decomp.blocks.solve.known_points import MOST_CONTINUOUS, KnownPoints
from decomp.blocks.solve.program_solver import Outcome, ProgramSolver, Question
from decomp.blocks.solve.solver_state import BlockSettings, Initial, WarmState
from decomp.integer_pattern import pattern_of
from decomp.messages import BoolArray, FloatArray, IntArray, Response, Signal, Status
from decomp.subproblem import Arrays

_NOTHING = np.zeros(0, np.int64)
CONTRADICTION = (
    "the solver's lower bound {:.9g} lies above a point of this block, also without presolve and from a cold start; no "
    "bound is given. Look at the scale of the model's coefficients, and at the version of HiGHS"
)


class CompiledBlock:
    """Solves one program for signals. Warm states go in and come out; `solve` and `evaluate` keep nothing else.

    program may be a function that gives it: many blocks of one template then hold no arrays of their own, and share the
    `solver` they are given. Their answers are the same as with a solver each.

    weight (n_u,) of the inner product; initial_price (n_u,) or None, nan where an entry counts from 0 all the same;
    frozen: columns that keep their initial value while an entry is active; options of the first HiGHS solve and of the
    later ones; data: a digest of what distinguishes the block's data, None = it is worked out from the program.
    """

    def __init__(
        self,
        program: Program | Callable[[], Program],
        weight: FloatArray,
        settings: BlockSettings,
        *,
        initial_price: FloatArray | None = None,
        frozen: Mapping[int, IntArray] | None = None,
        first_options: Options | None = None,
        later_options: Options | None = None,
        solver: ProgramSolver | None = None,
        data: Callable[[], bytes | None] | None = None,
    ) -> None:
        self._program, self.weight, self.settings = program, weight, settings
        self.initial_price = None if initial_price is None else np.nan_to_num(initial_price, nan=0.0)
        self.measured = np.ones(len(weight)) if initial_price is None else np.where(np.isnan(initial_price), 0.0, 1.0)
        self.frozen = {} if frozen is None else frozen
        self._paid: tuple[Initial | None, float] = (None, 0.0)
        self.first_options = dict(first_options or {})
        self.later_options = self.first_options if later_options is None else dict(later_options)
        self.data = data
        self.solver = solver or ProgramSolver(self.program, settings, self.first_options, self.later_options)

    @property
    def program(self) -> Program:
        return self._program if isinstance(self._program, Program) else self._program()

    @property
    def whole(self) -> bool:
        """Are there integer decisions?"""
        return len(self.solver.integer) > 0

    def cold(self) -> WarmState:
        """The state before the first solve."""
        program = self.program
        pool = program.terms.first_tangents(program.lb, program.ub)
        return WarmState(pool, np.zeros(len(pool), np.int64))

    def arrays(self, state: WarmState) -> Arrays:
        out, data = dict(state.arrays()), self._data()
        if data is None or "points_cost" not in out:
            return {name: value for name, value in out.items() if not name.startswith("points_")}
        return out | {"points_of": np.frombuffer(data, np.int8)}

    def from_arrays(self, arrays: Arrays) -> WarmState:
        """The state; without its points where they are of other data than this block's."""
        state, data = WarmState.from_arrays(arrays, self.program.terms), self._data()
        same = data is not None and "points_of" in arrays and arrays["points_of"].tobytes() == data
        return state if same else state.after(points=None)

    def identity(self) -> tuple[Any, ...] | None:
        """The program's numbers and the weights; None where variables are frozen: what the block can do then depends on
        the coordinator's needs, too."""
        return None if self.frozen else (self.program.data(), self.weight)

    def _data(self) -> bytes | None:
        """Which data the block has, see `fingerprint`; None where that cannot be told."""
        return self.data() if self.data is not None else fingerprint(self.program.data(), self.weight)

    def initial(self, state: WarmState) -> tuple[Initial | None, WarmState, str]:
        """The schedule at the initial price, solved for when there is none yet; None and why without one."""
        outcome = self.prepared(state)
        return outcome.state.initial, outcome.state, outcome.message

    def prepared(self, state: WarmState) -> Outcome:
        """The state with the initial schedule in it, where the block has an initial price."""
        if self.initial_price is None or state.initial is not None:
            return Outcome(Status.OPTIMAL, np.zeros(0), None, state)
        program = self.program
        outcome = self.solver.answer(self._question(program, state, self.initial_price, None), state, exact=True)
        if outcome.status.has_point:
            x = program.lifted(outcome.x)
            initial = Initial(self.measured * program.offer(x), x, program.objective(x))
            outcome = replace(outcome, state=replace(outcome.state, initial=initial))
        return outcome

    def solve(self, signal: Signal, state: WarmState) -> tuple[Response, WarmState]:
        """argmin f - <price, y> + 1/2 <penalty (y - target), y - target>; the bound where it is proven."""
        begin = time.perf_counter()
        problem = self.wrong(signal)
        if problem:
            return self._failed(Status.ERROR, problem, signal, begin), state
        ready = self.prepared(state)
        if not ready.status.has_point:
            return self._failed(ready.status, f"initial schedule: {ready.message}", signal, begin), state
        program, state = self.program, ready.state
        state = self.signalled(state, signal.active)
        question = self._question(program, state, signal.price, signal.active)
        if signal.target is not None and signal.penalty is not None and np.any(signal.penalty > 0):
            question = replace(
                question,
                stiffness=self.weight * signal.penalty,
                target=signal.target + self.origin(state) - program.coupling_0,
            )
        known = state.points is not None and len(state.points) > 0
        question = replace(question, mip_gap=signal.mip_gap, has_point=known)
        worth = self.weight * signal.price
        response, after = self._answered(program, question, state, signal, begin)
        bound = self.checked(response, after, worth)
        if bound is None and response.bound is not None:
            # the bound lies above a point: one of the solver's two words is wrong
            again, later = self._answered(
                program, replace(question, careful=True), state.after(points=after.points), signal, begin
            )
            if again.status.has_point:
                response, after = again, later
            bound = self.checked(response, after, worth)
            if bound is None and response.bound is not None:
                response = response.but(message=CONTRADICTION.format(response.bound))
        return response if bound == response.bound else response.but(bound=bound), after

    def _answered(
        self, program: Program, question: Question, state: WarmState, signal: Signal, begin: float
    ) -> tuple[Response, WarmState]:
        outcome = self.solver.answer(question, state, exact=signal.exact)
        if not outcome.status.has_point:
            return self._failed(outcome.status, outcome.message, signal, begin), outcome.state
        revised = state.whole is not None and outcome.state.whole is not state.whole
        revised = revised and self.settings.milp == "fix"
        response = self._response(program, outcome, signal.id, begin, revised)
        return response, self.with_point(outcome.state, response.y, response.cost)

    def checked(self, response: Response, state: WarmState, worth: FloatArray) -> float | None:
        """The answer's bound where it lies above none of the state's points, see `Known.allows`; else None."""
        if response.bound is None or state.points is None:
            return response.bound
        known = state.points.least(worth)
        return response.bound if known is None else known.allows(response.bound, self.settings.mip_abs_gap)

    def with_point(self, state: WarmState, y: FloatArray, cost: float) -> WarmState:
        """The state with one more point that the block has returned."""
        points = KnownPoints.none(len(y)) if state.points is None else state.points
        most = None if self.whole else MOST_CONTINUOUS
        more = points.plus(y, cost, most)
        return state if more is points else state.after(points=more)

    def signalled(self, state: WarmState, active: BoolArray | None) -> WarmState:
        """The state at a signal. Where other variables keep their initial value, other points are feasible."""
        if state.active is active:
            return state
        points = state.points
        if self.frozen and points is not None and state.initial is not None:
            same = np.array_equal(self.kept(state, state.active), self.kept(state, active))
            points = points if same else None
        return state.after(active=active, points=points)

    def evaluate(self, y: FloatArray, state: WarmState) -> tuple[Response, WarmState]:
        """min f with the offers fixed at y; the integers are the block's, or chosen anew where they do not allow y."""
        begin = time.perf_counter()
        if y.shape != self.weight.shape or not np.all(np.isfinite(y)):
            text = f"cannot be evaluated at {y}: it is not {len(self.weight)} finite numbers"
            return self._failed(Status.ERROR, text, None, begin), state
        ready = self.prepared(state)
        if not ready.status.has_point:
            return self._failed(ready.status, f"initial schedule: {ready.message}", None, begin), state
        program, state = self.program, ready.state
        entries = tuple(offer_name(program, i) for i in range(len(y)))
        solver, fixed = self.solver.with_offer(program, y + self.origin(state) - program.coupling_0, entries)
        question = self._question(fixed, state, np.zeros(len(y)), state.active)
        start = replace(state, basis=None)
        outcome = solver.answer(question, start, exact=False)
        if not outcome.status.has_point:
            return self._failed(outcome.status, outcome.message, None, begin), state
        response = self._response(program, replace(outcome, state=state), 0, begin, False).but(bound=None)
        return response, self.with_point(state, response.y, response.cost)

    def convex_program(self, state: WarmState, active: BoolArray | None) -> tuple[Program, Pool]:
        """The program as seen from outside: offers and cost counted from the initial schedule, frozen columns fixed;
        and the tangents of its convex terms found so far. Raises ValueError where it has integers."""
        ready = self.prepared(state)
        if not ready.status.has_point:
            raise ValueError(f"initial schedule: {ready.message}")
        program, state = self.program, ready.state
        if program.integer.any():
            raise ValueError(
                "it has integers, which no interior point keeps: milp = 'relax' relaxes them, or take bundle"
            )
        lb, ub, kept = program.lb, program.ub, self.kept(state, active)
        if len(kept) and state.initial is not None:
            lb, ub = lb.copy(), ub.copy()
            lb[kept] = ub[kept] = state.initial.point[kept]
        seen = program.variant(
            lb=lb,
            ub=ub,
            coupling_0=program.coupling_0 - self.origin(state),
            constant=program.constant - self.paid(state),
        )
        return seen, state.pool

    # -- from the signal to a question ---------------------------------------------------------------------------------

    def penalised_query(self, signal: Signal, state: WarmState, theta: FloatArray) -> PenalisedQuery:
        """The penalised solve as one of a batch."""
        state = self.signalled(state, signal.active)
        stiffness = None if signal.penalty is None else self.weight * signal.penalty
        return PenalisedQuery(
            theta, self.weight * signal.price, self.paid(state), state, self.kept(state, signal.active), signal.id,
            stiffness, signal.target,
        )  # fmt: skip

    def fits(self, signal: Signal) -> bool:
        """Finite values of the right length: what `wrong` says in words, for most questions."""
        values = [signal.price, signal.target, signal.penalty]
        given = [v for v in values if v is not None]
        fit = all(v.shape == self.weight.shape for v in [*given, signal.active] if v is not None)
        fit = fit and all(bool(np.isfinite(v).all()) for v in given)
        return fit and (signal.penalty is None or bool((signal.penalty >= 0).all()))

    def may_be_batched(self, signal: Signal, state: WarmState) -> bool:
        """A penalised solve that can be batched: nothing of the state is missing, and no tangents are in it."""
        if signal.target is None or signal.penalty is None or not self.fits(signal) or len(state.pool):
            return False
        return bool(signal.penalty.any()) and (self.initial_price is None or state.initial is not None)

    def wrong(self, signal: Signal) -> str:
        """What is wrong with a signal; "" where all is well."""
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

    def origin(self, state: WarmState) -> FloatArray:
        return np.zeros(len(self.weight)) if state.initial is None else state.initial.offer

    def paid(self, state: WarmState) -> float:
        """<initial_price, y0>: what the initial offer is worth, taken off the cost."""
        if self.initial_price is None or state.initial is None:
            return 0.0
        if self._paid[0] is not state.initial:  # it is the same all through a run
            self._paid = state.initial, float((self.weight * self.initial_price) @ state.initial.offer)
        return self._paid[1]

    def _question(self, program: Program, state: WarmState, price: FloatArray, active: BoolArray | None) -> Question:
        worth = self.weight * price
        constant = program.constant - self.paid(state)
        constant -= float(np.sum(worth * (program.coupling_0 - self.origin(state))))
        lb, ub, fixed = program.lb, program.ub, self.kept(state, active)
        if len(fixed) and state.initial is not None:
            lb, ub = lb.copy(), ub.copy()
            lb[fixed] = ub[fixed] = state.initial.point[fixed]
        return Question(program, program.cost - program.coupling_t @ worth, constant, lb, ub)

    def kept(self, state: WarmState, active: BoolArray | None) -> IntArray:
        """Columns that keep their initial value while the active entries are."""
        if active is None or state.initial is None or not self.frozen:
            return _NOTHING
        keep = [columns for i, columns in self.frozen.items() if active[i]]
        return np.concatenate(keep) if keep else _NOTHING

    # -- from the outcome to an answer ---------------------------------------------------------------------------------

    def _response(self, program: Program, outcome: Outcome, signal_id: int, begin: float, revised: bool) -> Response:
        x = program.lifted(outcome.x) if outcome.true is None else outcome.true
        offer, report = program.offer_and_report(x)
        return Response(
            y=offer - self.origin(outcome.state),
            cost=program.objective(x) - self.paid(outcome.state),
            bound=outcome.bound,
            status=outcome.status,
            report=report,
            pattern=pattern_of(x[program.integer]),
            revised=revised,
            message=outcome.message,
            point=x,
            signal_id=signal_id,
            solve_time=time.perf_counter() - begin,
        )

    def _failed(self, status: Status, message: str, signal: Signal | None, begin: float) -> Response:
        return Response(
            y=np.full(len(self.weight), np.nan),
            cost=np.nan,
            status=status,
            message=message,
            signal_id=0 if signal is None else signal.id,
            solve_time=time.perf_counter() - begin,
        )


def offer_name(program: Program, i: int) -> str:
    """The entry in words: its number, and the variable where it is one."""
    row = program.coupling
    at = slice(row.indptr[i], row.indptr[i + 1])
    alone = at.stop - at.start == 1 and row.data[at.start] == 1.0
    return f"offer {i} ({program.col_names[row.indices[at.start]]})" if alone else f"offer {i}"
