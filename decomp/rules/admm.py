"""The alternating direction method of multipliers: sharing, exchange, consensus; relaxed, adaptive, accelerated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.anderson import Memory, accelerate
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.rules.penalties import Penalty, Seen, balance, cost_proportional, kept, per_entry, spectral, start_sigma
from decomp.rules.recovery import realisable, slopes


@dataclass(frozen=True, eq=False)
class AdmmState(State):
    """target (M,): where each unit is asked to be; the penalties in use; what the first and the last round showed; what
    the accelerator remembers; begun (M,): the first rho of the entries without a node."""

    target: FloatArray
    penalty: Penalty
    first: Seen | None = None
    seen: Seen | None = None
    memory: Memory | None = None
    begun: FloatArray | None = None


@dataclass(frozen=True)
class ADMM(UpdateRule):
    """Price and target together, one penalty sigma per node row.

        y_us  = argmin f - <TS + w, y> + rho_u/2 |y - t_u|^2            rho_u = n_b sigma_b
        y~_us = alpha y_us + (1 - alpha) t_u,   Y~ = sum_u ybar~_u
        Z     = argmin g + <TS, Z> + sigma/2 |Z - Y~|^2
        t_u   = ybar~_u + (Z_b - Y~_b) / n_b
        TS   += sigma (Z - Y~);   w_us += rho_u (ybar~_u - y~_us)

    n_b units share node b; alpha = `relaxation` where the round carried a penalty, 1 where it did not. The three forms
    of the literature are one iteration with the penalty given differently: "sharing": `penalty` is sigma of the node;
    "exchange" and "consensus": `penalty` is rho of the block, sigma = rho / n_b. Entries without a node only agree
    over scenarios (t_u = ybar~_u): progressive hedging. Rows where the coordinator has no need carry no penalty: there
    g is affine and the neutral price is exact; they get theirs from the round on in which a need appears.

    penalty            per node row, in price per unit of y; None = reference price over box width, see `start_sigma`
    agreement_penalty  rho of entries without a node; by entry name where they differ; None = from the costs and the
                       spread of the first round, see `cost_proportional` (only then are costs looked at)
    penalty_factor     on whatever the penalties are
    first_round        "penalised": towards `target` 0 from round 0 on; "free": round 0 without penalty
    relaxation         alpha in [1, 2)
    adapt              "fixed", "balanced" (relative residuals) or "spectral" (curvatures), in the first `settle_rounds`
    anderson           rounds the accelerator remembers, on (t, lambda / rho), after `settle_rounds`; 0 = none. The
                       penalties are frozen while it is on; they move when it has to take back a leap
    unit_cost          cost of one unit of an entry without a node, by entry name where they differ, for the start of
                       its penalty; None = estimated

    None stands for the textbook's iteration where a penalty is given (fixed, penalised, alpha = 1, no accelerator) and
    for what finds its own penalty where none is (balanced, free, alpha = 1.6, memory of 10).

    needs: blocks that take a target and a penalty. reveals: y. wins when: blocks show only their offers; without a
    penalty given it forgives a start value wrong by a factor of 100.
    Boyd et al. (2011), sections 3.4.3 and 7.2-7.3; Rockafellar and Wets (1991).
    """

    penalty: Constant | None = None
    form: Literal["sharing", "exchange", "consensus"] = "sharing"
    agreement_penalty: Constant | None = None
    first_round: Literal["penalised", "free"] | None = None
    start: float | None = None
    relaxation: float | None = None
    adapt: Literal["fixed", "balanced", "spectral"] | None = None
    anderson: int | None = None
    settle_rounds: int = 10
    penalty_factor: float = 1.0
    unit_cost: Constant | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"penalty"})
    reveals: ClassVar[str] = "y"

    def __post_init__(self) -> None:
        if self.relaxation is not None and not 1 <= self.relaxation < 2:
            raise ValueError("relaxation must be at least 1 and below 2")
        if self.settle_rounds < 0 or (self.anderson or 0) < 0:
            raise ValueError("settle_rounds and anderson must not be negative")
        if self.penalty_factor <= 0:
            raise ValueError("penalty_factor must be positive")

    @property
    def found(self) -> bool:
        """The rule has to find its penalties itself."""
        return self.penalty is None and self.agreement_penalty is None

    def init(self, setup: Setup) -> AdmmState:
        layout = setup.layout
        price = setup.start_price if self.start is None else np.full(len(setup.nodes), self.start)
        given = self.agreement_penalty
        alone = np.zeros(len(layout.node)) if given is None else per_entry(setup, "agreement_penalty", given)
        if self.unit_cost is not None:
            per_entry(setup, "unit_cost", self.unit_cost)
        return AdmmState(
            setup,
            price,
            np.zeros(len(layout.entry)),
            setup.active,
            np.zeros(len(layout.node)),
            Penalty(self._sigma(setup), self.penalty_factor * alone),
        )

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, AdmmState)
        layout, price, active = state.setup.layout, state.block_price(), state.block_active()
        rho = self._asked(k, state)
        if not rho.any():
            return (Signals(layout, price, active=active, id=k),)
        return (Signals(layout, price, layout.to_blocks(state.target), layout.to_blocks(rho), active, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, AdmmState)
        layout = state.setup.layout
        return Query(state.price, layout.totals(layout.mean(self._relaxed(k, state, answers))), state.penalty.sigma)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AdmmState)
        setup, layout, penalty = state.setup, state.setup.layout, state.penalty
        if self.agreement_penalty is None and k == 0 and np.any(layout.node < 0):
            unit_cost = None if self.unit_cost is None else per_entry(setup, "unit_cost", self.unit_cost)
            alone = cost_proportional(layout, answers[0], unit_cost, self.penalty_factor)
            penalty = Penalty(penalty.sigma, alone)
        y = self._relaxed(k, state, answers)
        ybar = layout.mean(y)
        mismatch = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
        target = ybar + layout.to_units(mismatch / np.maximum(layout.count, 1))
        begun = penalty.alone if state.begun is None else state.begun
        price = np.where(request.active, state.price + penalty.sigma * mismatch, setup.neutral)
        # the agreement is kept in every row, also where the coordinator has no need
        w = state.w + layout.to_blocks(penalty.rho(layout)) * (layout.to_blocks(ybar) - y)
        after = replace(state, price=price, w=w, active=request.active, target=target, penalty=penalty, begun=begun)
        seen = self._seen(k, state, after, answers[0])
        after = replace(after, first=state.first or seen, seen=seen)
        candidate = self._candidate(state, after, request)
        if k < self.settle_rounds:
            return replace(after, penalty=self._next_penalty(k, state, after)), candidate
        leapt = self._accelerated(state, after)
        if leapt.memory is not None and not len(leapt.memory.points):
            # a leap was taken back: the penalties it was frozen with may be to blame
            leapt = replace(leapt, penalty=self._next_penalty(k, state, after))
        return leapt, candidate

    # -- penalties ---------------------------------------------------------------------------------------------------

    def _sigma(self, setup: Setup) -> FloatArray:
        penalty = start_sigma(setup) if self.penalty is None else setup.by_node("penalty", self.penalty)
        if np.any(penalty <= 0):
            raise ValueError("penalty must be positive at every node")
        in_form = self.form == "sharing" or self.penalty is None
        return self.penalty_factor * (penalty if in_form else penalty / np.maximum(setup.layout.count, 1))

    def _asked(self, k: int, state: AdmmState) -> FloatArray:
        """(M,) penalty of each unit entry in round k; 0 where no need and a single scenario."""
        layout = state.setup.layout
        first = self.first_round or ("free" if self.found else "penalised")
        if k == 0 and first == "free":
            return np.zeros(len(layout.node))
        return np.where(kept(layout, state.active), state.penalty.rho(layout), 0.0)

    def _relaxed(self, k: int, state: AdmmState, answers: tuple[Answers, ...]) -> FloatArray:
        layout, y = state.setup.layout, answers[0].y
        relaxation = (1.6 if self.found else 1.0) if self.relaxation is None else self.relaxation
        alpha = layout.to_blocks(np.where(self._asked(k, state) > 0, relaxation, 1.0))
        return alpha * y + (1 - alpha) * layout.to_blocks(state.target)

    def _seen(self, k: int, state: AdmmState, after: AdmmState, answers: Answers) -> Seen:
        layout, y = state.setup.layout, answers.y
        pull = layout.to_blocks(self._asked(k, state)) * (layout.to_blocks(state.target) - y)
        return Seen(y, state.block_price() + pull, after.target, after.block_price())

    def _candidate(self, state: AdmmState, after: AdmmState, request: Request) -> Candidate:
        layout, now, before = state.setup.layout, after.seen, state.seen
        assert now is not None
        ybar = layout.mean(now.y)
        mismatch = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
        slope = np.zeros_like(ybar)
        if before is not None:
            slope = slopes(layout, now.y - before.y, now.y_price - before.y_price)
        return Candidate(realisable(layout, ybar, mismatch, slope))

    def _next_penalty(self, k: int, state: AdmmState, after: AdmmState) -> Penalty:
        layout, penalty, now = state.setup.layout, after.penalty, after.seen
        adapt = self.adapt or ("balanced" if self.found else "fixed")
        on = self._asked(k, state) > 0
        if adapt == "fixed" or now is None or state.seen is None or after.first is None or not on.any():
            return penalty
        rho = penalty.rho(layout)
        if adapt == "balanced":
            factor = balance(layout, rho, state.target, after.first, now, on)
        else:
            factor = spectral(layout, rho, state.seen, now, on)
        after_all = penalty.times(layout, factor)
        return after_all if after.begun is None else after_all.bounded(after.begun)

    # -- acceleration ------------------------------------------------------------------------------------------------

    def _accelerated(self, state: AdmmState, after: AdmmState) -> AdmmState:
        depth = (10 if self.found else 0) if self.anderson is None else self.anderson
        if not depth:
            return after
        setup, layout = state.setup, state.setup.layout
        rho = np.where(kept(layout, after.active), after.penalty.rho(layout), 0.0)
        inverse = np.where(rho > 0, 1.0, 0.0) / np.where(rho > 0, rho, 1.0)
        at_node = np.where(after.active, setup.weight, 0.0) / after.penalty.sigma
        metric = np.concatenate(
            [layout.share * layout.weight * rho, at_node, layout.pi * layout.to_blocks(layout.weight * inverse)],
        )
        same = state.memory is not None and np.array_equal(state.active, after.active)
        memory = state.memory if same and state.memory is not None else Memory.empty(len(metric))
        found, memory = accelerate(memory, _stacked(state), _stacked(after), metric, depth)
        target, price, w = np.split(found, [len(after.target), len(after.target) + len(after.price)])
        return replace(
            after,
            target=target,
            price=np.where(after.active, price, setup.neutral),
            w=w - layout.to_blocks(layout.mean(w)),
            memory=memory,
        )


def _stacked(state: AdmmState) -> FloatArray:
    return np.concatenate([state.target, state.price, state.w])
