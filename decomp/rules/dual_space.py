"""The dual as an ordinary concave function of scaled prices: what the rules that only move prices have in common.

All prices stacked, v = (TS, w), and all mismatches g = (Z - Y, ybar - y), with metric m = (weight, pi weight):

    d(v) = sum_us pi_s (f_us - <lambda_us, y_us>) + g(Z) + <TS, Z>,     dd = <g, dv>_m
    reach_i = reference price / width of a mismatch, see `reach`        price per unit of mismatch
    x = sqrt(m / reach) v,   slope = sqrt(m reach) g                    dd = slope . dx

In x a step t moves each price by t reach g, so steps, lengths and angles do not depend on the units of costs,
quantities or time steps, and steps along slopes keep sum_s pi_s w_us = 0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.rules.column_box import at_nodes, given, settled
from decomp.rules.recovery import realisable

LARGEST_LENGTH = 1e4  # a mismatch below 1e-4 of the width is nearly none: the first move shrinks with it
STILL = 1e-7  # a relative change of the slope below which nobody has reacted: what is left is the solvers' rounding
ROUNDING = 1e-10  # of a dual value, relative: less is no loss
GROWTH = 4.0  # of the step while nobody reacts
LARGEST_GROWTH = 100.0  # of the step from one round to the next, whatever curvature was met


@dataclass(frozen=True, eq=False)
class AscentState(State):
    """reach, width (n+N,): price per unit of mismatch, and the size of a mismatch; nan before the first answers where
    an entry has no node. offers (M,): ybar of the last round, none before the first. length: of the last step, 0 before
    the first."""

    reach: FloatArray
    width: FloatArray
    offers: FloatArray = field(default_factory=lambda: np.zeros(0))
    length: float = 0.0


@dataclass(frozen=True, eq=False)
class Point:
    """The dual where it was asked: x, slope (n+N,), value d; ybar (M,) the offers; first_length to begin with."""

    x: FloatArray
    slope: FloatArray
    value: float
    ybar: FloatArray
    first_length: float


@dataclass(frozen=True)
class PriceAscent(UpdateRule):
    """A rule that knows the dual's values and slopes where it asked, and nothing else.

    For the upper bound it proposes its last offers, with what they lack given to the units that have just moved.

    first_step         largest first move of a price, relative to its reference price (`Coordinator.scale`; without a
                       node: cost per quantity in the first answers)
    agreement_penalty  reach of entries without a node, in price per unit of y, by entry name where they differ;
                       None = from the first answers, see `reach`
    start              price before round 0 at every node; None = the neutral price
    """

    first_step: float = 0.1
    agreement_penalty: Constant | None = None
    start: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset()
    reveals: ClassVar[str] = "y, cost"
    memory_of: ClassVar[type[AscentState]] = AscentState

    def __post_init__(self) -> None:
        if self.first_step <= 0:
            raise ValueError("first_step must be positive")

    @abstractmethod
    def move(self, state: Any, here: Point) -> tuple[AscentState, FloatArray, Candidate | None]:
        """The state with what the rule remembers, where to ask next (n+N,), and a point worth realising."""

    def init(self, setup: Setup) -> AscentState:
        price = setup.start_price if self.start is None else np.full(len(setup.nodes), self.start)
        reach, width = at_nodes(setup)
        given(setup.layout, self.agreement_penalty)
        return self.memory_of(setup, price, np.zeros(len(setup.layout.entry)), setup.active, reach, width)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        return (Signals(state.setup.layout, state.block_price(), active=state.block_active(), id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        layout = state.setup.layout
        return Query(state.price, layout.totals(layout.mean(answers[0].y)), np.zeros(len(state.price)))

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AscentState)
        setup, layout = state.setup, state.setup.layout
        ybar = layout.mean(answers[0].y)
        mismatch = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
        g = np.concatenate([mismatch, layout.to_blocks(ybar) - answers[0].y])
        if not len(state.offers):
            reach, width = settled(setup, state.reach, state.width, g, answers[0], self.agreement_penalty)
            state = replace(state, reach=reach, width=width)
        stretch, largest = np.sqrt(state.reach / metric(setup)), float(np.max(np.abs(g) / state.width, initial=0.0))
        here = Point(
            x=np.concatenate([state.price, state.w]) / stretch,
            slope=stretch * metric(setup) * g,
            value=dual_value(state, answers[0], request),
            ybar=ybar,
            first_length=state.length or (self.first_step * min(1 / largest, LARGEST_LENGTH) if largest > 0 else 0.0),
        )
        if np.any(~request.active & (state.price != setup.neutral)):
            after, x, candidate = self._anew(state, here)
        else:
            after, x, candidate = self.move(state, here)
        price, w = np.split(stretch * x, [len(state.price)])
        price = np.where(request.active, price, setup.neutral)
        after = replace(after, price=price, w=w, active=request.active, offers=ybar)
        if len(state.offers):
            latest = realisable(layout, ybar, mismatch, np.abs(ybar - state.offers))
            if candidate is None:
                return after, Candidate(latest)
            candidate = replace(candidate, others=(*candidate.others, latest))
        return after, candidate

    def _anew(self, state: AscentState, here: Point) -> tuple[AscentState, FloatArray, None]:
        """A step without a memory: a row that is no longer needed had a price, and what the dual was worth with it says
        nothing of what it is worth without."""
        after = self.memory_of(state.setup, state.price, state.w, state.active, state.reach, state.width)
        return replace(after, length=here.first_length), here.x + here.first_length * here.slope, None


def metric(setup: Setup) -> FloatArray:
    """(n+N,) weight of each price in the inner product: weight of node rows, pi_s weight of stacked entries."""
    layout = setup.layout
    return np.concatenate([setup.weight, layout.pi * layout.weight[layout.entry]])


def dual_value(state: State, answers: Answers, request: Request) -> float:
    """d = sum_us pi_s (f_us - <lambda_us, y_us>) + g(Z) + <TS, Z> where the answers were asked."""
    layout = state.setup.layout
    blocks = answers.cost - layout.inner(state.block_price(), answers.y)
    return float(np.sum(layout.prob * blocks) + request.cost + np.sum(state.setup.weight * state.price * request.Z))
