"""Rules around a rule: prices within limits, moves made smaller. They compose; averages are in `averaging`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.rules.columns import Held


@dataclass(frozen=True, eq=False)
class WrappedState(State):
    """inner: the wrapped rule's state; its prices are those of this state, see `Wrapper`."""

    inner: State

    def held(self) -> Held | None:
        return self.inner.held()


@dataclass(frozen=True)
class Wrapper(UpdateRule):
    """Delegates everything to `rule` and changes the prices it comes to.

    The changed prices are handed back into the wrapped state, so that the rule goes on from where the blocks are really
    asked; what a rule remembers of earlier rounds is its own. In a case file the wrapped rule is [rule.rule].
    """

    rule: UpdateRule

    # read on the object: what a wrapper needs is what the rule in it needs
    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return self.rule.needs

    @property
    def needs_of_coordinator(self) -> frozenset[str]:  # type: ignore[override]
        return self.rule.needs_of_coordinator

    @property
    def uses(self) -> frozenset[str]:
        return self.rule.uses

    @property
    def reveals(self) -> str:  # type: ignore[override]
        return self.rule.reveals

    def changed(self, before: State, after: State) -> State:
        """The wrapped rule's state `after` its update, with prices changed."""
        return after

    def init(self, setup: Setup) -> WrappedState:
        inner = self.rule.init(setup)
        return WrappedState(inner.setup, inner.price, inner.w, inner.active, inner)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        return self.rule.ask(k, inside(state))

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        return self.rule.query(k, inside(state), answers)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        inner, candidate = self.rule.update(k, inside(state), answers, request)
        inner = self.changed(state, inner)
        return WrappedState(inner.setup, inner.price, inner.w, inner.active, inner), candidate


def inside(state: State) -> State:
    """The wrapped rule's state, with the prices of the wrapper's."""
    assert isinstance(state, WrappedState)
    return replace(state.inner, price=state.price, w=state.w, active=state.active)


@dataclass(frozen=True)
class Projected(Wrapper):
    """TS_b = min(max(TS_b, floor), cap) after every update, wherever the coordinator has a need.

    floor, cap  in price per unit of y, by group where they differ; None = no limit on that side. A bound proven at a
                limited price is a bound; but where the right price lies outside, the gap stays open.

    needs, reveals: as the rule within. wins when: prices are known to have a sign, or what may be paid is limited.
    Projected subgradients: Polyak (1969).
    """

    floor: Constant | None = None
    cap: Constant | None = None

    def init(self, setup: Setup) -> WrappedState:
        floor, cap = self._limits(setup)
        if np.any(floor > cap):
            worst = setup.groups[int(np.argmax(floor - cap))]
            raise ValueError(f"floor lies above cap for {worst}; no price is left")
        state = super().init(setup)
        inner = replace(state.inner, price=np.clip(state.price, floor, cap))
        return replace(state, price=inner.price, inner=inner)

    def changed(self, before: State, after: State) -> State:
        limited = np.clip(after.price, *self._limits(after.setup))
        return replace(after, price=np.where(after.active, limited, after.price))

    def _limits(self, setup: Setup) -> tuple[FloatArray, FloatArray]:
        floor = setup.by_node("floor", -np.inf if self.floor is None else self.floor)
        return floor, setup.by_node("cap", np.inf if self.cap is None else self.cap)


@dataclass(frozen=True)
class Damped(Wrapper):
    """TS <- TS + factor (TS' - TS), w likewise: of the move the rule wanted only a part, or more than all of it.

    factor  between 0 and 2; 1 = the rule itself. Rows that have just become active or neutral follow the rule.

    needs, reveals: as the rule within. wins when: a rule overshoots (answers that jump, rounds that overlap).
    """

    factor: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.factor < 2:
            raise ValueError("factor must lie between 0 and 2")

    def changed(self, before: State, after: State) -> State:
        price = before.price + self.factor * (after.price - before.price)
        w = before.w + self.factor * (after.w - before.w)
        return replace(after, price=np.where(after.active, price, after.price), w=w)
