"""The dual as an ordinary concave function of scaled prices: what the rules that only move prices have in common.

All prices stacked, v = (TS, w), and all mismatches g = (Z - Y, ybar - y), with metric m = (weight, pi weight):

    d(v) = sum_us pi_s (f_us - <lambda_us, y_us>) + g(Z) + <TS, Z>,     dd = <g, dv>_m
    reach_i = reference price / width of what may be offered            price per unit of mismatch
    x = sqrt(m / reach) v,   slope = sqrt(m reach) g                    dd = slope . dx

In x a step t moves each price by t reach g, so steps, lengths and angles do not depend on the units of costs,
quantities or time steps, and steps along slopes keep sum_s pi_s w_us = 0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule

LARGEST_LENGTH = 1e4  # a mismatch below 1e-4 of the width is nearly none: the first move shrinks with it
STILL = 1e-7  # a relative change of the slope below which nobody has reacted: what is left is the solvers' rounding
ROUNDING = 1e-10  # of a dual value, relative: less is no loss
GROWTH = 4.0  # of the step while nobody reacts
LARGEST_GROWTH = 100.0  # of the step from one round to the next, whatever curvature was met


@dataclass(frozen=True, eq=False)
class AscentState(State):
    """reach, width (n+N,): price per unit of mismatch, and the size of a mismatch; nan before the first answers where
    an entry has no node. offers (M,): ybar of the last round, none before the first."""

    reach: FloatArray
    width: FloatArray
    offers: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Point:
    """The dual where it was asked: x, slope (n+N,), value d; ybar (M,) the offers, mismatch (n,) what they lack;
    first_length a step to begin with."""

    x: FloatArray
    slope: FloatArray
    value: float
    ybar: FloatArray
    mismatch: FloatArray
    first_length: float


@dataclass(frozen=True)
class PriceAscent(UpdateRule):
    """A rule that knows the dual's values and slopes where it asked, and nothing else.

    first_step         largest first move of a price, relative to its reference price (`Coordinator.scale`; without a
                       node: cost per quantity in the first answers)
    agreement_penalty  reach of entries without a node, in price per unit of y, by entry name where they differ;
                       None = E|f| / (weight E|y|^2) of the first answers
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
        reach, width = _at_nodes(setup)
        _given(setup.layout, self.agreement_penalty)
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
        state = _completed(state, answers[0], self.agreement_penalty)
        stretch = np.sqrt(state.reach / metric(state.setup))
        here = _observed(state, stretch, answers[0], request, self.first_step)
        after, x, candidate = self.move(state, here)
        n = len(state.price)
        price, w = np.split(stretch * x, [n])
        price = np.where(request.active, price, state.setup.neutral)
        after = replace(after, price=price, w=w, active=request.active, offers=here.ybar)
        if candidate is None and len(state.offers):
            moved = here.ybar - state.offers
            candidate = Candidate(shared_out(state.setup.layout, here.ybar, here.mismatch, moved))
        return after, candidate


def metric(setup: Setup) -> FloatArray:
    """(n+N,) weight of each price in the inner product: weight of node rows, pi_s weight of stacked entries."""
    layout = setup.layout
    return np.concatenate([setup.weight, layout.pi * layout.weight[layout.entry]])


def dual_value(state: State, answers: Answers, request: Request) -> float:
    """d = sum_us pi_s (f_us - <lambda_us, y_us>) + g(Z) + <TS, Z> where the answers were asked."""
    layout = state.setup.layout
    blocks = answers.cost - layout.inner(state.block_price(), answers.y)
    return float(np.sum(layout.prob * blocks) + request.cost + np.sum(state.setup.weight * state.price * request.Z))


def _observed(state: AscentState, stretch: FloatArray, answers: Answers, request: Request, first_step: float) -> Point:
    setup, layout = state.setup, state.setup.layout
    ybar = layout.mean(answers.y)
    mismatch = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
    g = np.concatenate([mismatch, layout.to_blocks(ybar) - answers.y])
    largest = float(np.max(np.abs(g) / state.width, initial=0.0))
    return Point(
        x=np.concatenate([state.price, state.w]) / stretch,
        slope=stretch * metric(setup) * g,
        value=dual_value(state, answers, request),
        ybar=ybar,
        mismatch=mismatch,
        first_length=first_step * min(1 / largest, LARGEST_LENGTH) if largest > 0 else 0.0,
    )


def shared_out(layout: Layout, ybar: FloatArray, mismatch: FloatArray, moved: FloatArray) -> FloatArray:
    """ybar_u + mismatch_b share_u, (M,): the mismatch goes to the units in the measure in which they have moved.

    A unit at one of its limits did not move, and is not asked to; where a price has moved the others, their share is
    that of their slopes, which keeps marginal costs equal. Units that all stood still share alike.
    """
    moved = np.abs(moved)
    total = layout.to_units(layout.totals(moved))
    alike = layout.to_units(1 / np.maximum(layout.count, 1))
    share = np.where(total > 0, moved / np.where(total > 0, total, 1.0), alike)
    return ybar + layout.to_units(mismatch) * share


def _at_nodes(setup: Setup) -> tuple[FloatArray, FloatArray]:
    """reach and width of node rows, and of the agreement of entries that feed them (there n_b units share a row)."""
    layout = setup.layout
    if np.any(setup.scale <= 0) or not np.all(np.isfinite(setup.scale)):
        raise ValueError("the coordinator's scale (reference price) must be positive at every node")
    width = setup.box[1] - setup.box[0]
    known = np.isfinite(width) & (width > 0)
    width = np.where(known, width, np.max(width[known], initial=0.0) or 1.0)
    reach = setup.scale / width
    shared = layout.to_units(reach * layout.count, np.nan)
    return (
        np.concatenate([reach, layout.to_blocks(shared)]),
        np.concatenate([width, layout.to_blocks(layout.to_units(width, np.nan))]),
    )


def _completed(state: AscentState, answers: Answers, agreement_penalty: Constant | None) -> AscentState:
    """reach and width of the entries without a node, from the first answers; the first round only."""
    layout = state.setup.layout
    if not np.isnan(state.reach).any():
        return state
    size, cost = layout.mean(np.abs(answers.y)), layout.mean(np.abs(answers.cost)[layout.block])
    size = np.where(size > 0, size, np.max(size, initial=0.0) or 1.0)
    given = _given(layout, agreement_penalty)
    reach = np.where(cost > 0, cost, 1.0) / (layout.weight * size**2) if given is None else given
    n = len(state.price)
    reach = np.concatenate([np.zeros(n), layout.to_blocks(reach)])
    size = np.concatenate([np.zeros(n), layout.to_blocks(size)])
    alone = np.isnan(state.reach)
    return replace(state, reach=np.where(alone, reach, state.reach), width=np.where(alone, size, state.width))


def _given(layout: Layout, penalty: Constant | None) -> FloatArray | None:
    """(M,) the reach given for entries without a node; 1 for the others."""
    if penalty is None:
        return None
    names = [name for c in layout.couplings for name in c.entries]
    alone = {name for name, node in zip(names, layout.node, strict=True) if node < 0}
    if isinstance(penalty, (int, float)):
        penalty = dict.fromkeys(alone, float(penalty))
    missing = sorted(alone - set(penalty))
    if missing:
        raise ValueError(f"agreement_penalty has no value for {', '.join(missing)}")
    if any(penalty[name] <= 0 for name in alone):
        raise ValueError("agreement_penalty must be positive")
    return np.array([penalty[name] if name in alone else 1.0 for name in names])
