"""Ergodic averages of what a rule hears, or of what it asks; the rule itself goes on alone.

average_k = sum_j c_j x_j / sum_j c_j,  c_j = (j - begin + 1)^power,  j = begin..k
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Setup, State
from decomp.rules.recovery import realisable
from decomp.rules.wrappers import WrappedState, Wrapper, inside


@dataclass(frozen=True)
class Averaged(Wrapper):
    """begin: the first round that counts; power: 0 = all rounds alike, larger = late rounds more."""

    begin: int = 0
    power: float = 0.0

    def __post_init__(self) -> None:
        if self.begin < 0 or self.power < 0:
            raise ValueError("begin and power must not be negative")

    def part(self, j: int, total: float) -> tuple[float, float]:
        """Share of round j in the average when earlier rounds weigh `total`, and the new total."""
        c = (j - self.begin + 1.0) ** self.power
        return c / (total + c), total + c


@dataclass(frozen=True, eq=False)
class AnswersState(WrappedState):
    """ybar (M,), mismatch (n,): averages so far; total: their weights."""

    ybar: FloatArray
    mismatch: FloatArray
    total: float = 0.0


@dataclass(frozen=True)
class AveragedAnswers(Averaged):
    """Proposes the averaged offers for the upper bound, as they are and plus their averaged mismatch.

    The average of what convex blocks may offer they may offer; the averaged mismatch vanishes even where each round's
    jumps to and fro. Prices are the wrapped rule's. Average answers of integer decisions are no solution.

    needs, reveals: as the rule within. wins when: answers go around the optimum without ending (LP blocks, constant
    steps). Larsson, Patriksson and Stromberg (1999); Gustavsson, Patriksson and Stromberg (2015), the weights.
    """

    def init(self, setup: Setup) -> AnswersState:
        inner = self.rule.init(setup)
        ybar, mismatch = np.zeros(len(setup.layout.node)), np.zeros(len(setup.nodes))
        return AnswersState(setup, inner.price, inner.w, inner.active, inner, ybar, mismatch)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AnswersState)
        inner, candidate = self.rule.update(k, inside(state), answers, request)
        after = replace(state, price=inner.price, w=inner.w, active=inner.active, inner=inner)
        if k < self.begin:
            return after, candidate
        layout = state.setup.layout
        offers = layout.mean(answers[0].y)
        lacking = np.where(request.active, request.Z - layout.totals(offers), 0.0)
        part, total = self.part(k, state.total)
        ybar = state.ybar + part * (offers - state.ybar)
        mismatch = state.mismatch + part * (lacking - state.mismatch)
        after = replace(after, ybar=ybar, mismatch=mismatch, total=total)
        averaged = realisable(layout, ybar, mismatch, np.abs(offers - ybar))
        if candidate is None:
            return after, Candidate(averaged, (ybar,))
        return after, replace(candidate, others=(ybar, *candidate.others, averaged))


@dataclass(frozen=True, eq=False)
class PricesState(WrappedState):
    """price, w are the averages, those of `inner` the rule's own; total: weights of the average."""

    total: float = 0.0


@dataclass(frozen=True)
class AveragedPrices(Averaged):
    """Asks the blocks twice a round: at the average of the rule's prices so far, and at the rule's own price.

    Offers, mismatch and bound of the round are those at the averaged price; the answers to its own price move the
    rule. The dual is concave: its value at the average is no less than the average of the values. A rule around this
    one changes the average, not the rule within: put limits on prices inside.

    needs, reveals: as the rule within; twice the block solves. wins when: prices go around the optimum (LP and MILP
    blocks, constant steps) and solves are cheaper than rounds. Nemirovski and Yudin (1983), section 3.2.
    """

    def init(self, setup: Setup) -> PricesState:
        inner = self.rule.init(setup)
        total = 1.0 if self.begin == 0 else 0.0
        return PricesState(setup, inner.price, inner.w, inner.active, inner, total)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, PricesState)
        own = self.rule.ask(k, state.inner)
        if k <= self.begin:
            return own
        return (Signals(state.setup.layout, state.block_price(), active=state.block_active(), id=k), *own)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, PricesState)
        return self.rule.query(k, state.inner, self._own(k, answers))

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, PricesState)
        inner, candidate = self.rule.update(k, state.inner, self._own(k, answers), request)
        if k + 1 < self.begin:
            return PricesState(inner.setup, inner.price, inner.w, inner.active, inner), candidate
        part, total = self.part(k + 1, state.total)
        price = state.price + part * (inner.price - state.price)
        w = state.w + part * (inner.w - state.w)
        price = np.where(inner.active, price, inner.price)
        return PricesState(inner.setup, price, w, inner.active, inner, total), candidate

    def _own(self, k: int, answers: tuple[Answers, ...]) -> tuple[Answers, ...]:
        """What was answered to the rule's own price."""
        return answers if k <= self.begin else answers[1:]
