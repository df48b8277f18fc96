"""`auto`: the rule that fits what the blocks can do and the coordinator tells; it says what it picked and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import Query, Request
from decomp.rules.admm import ADMM
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.rules.bundle import Bundle
from decomp.rules.columns import Held
from decomp.rules.interior_point import InteriorPoint
from decomp.rules.newton import Newton
from decomp.rules.progressive_hedging import ProgressiveHedging
from decomp.rules.value_at_risk import ValueAtRisk, only_tails

log = logging.getLogger(__name__)

MANY = 20  # entries that only agree: answers to prices tell of each of them a corner a round, answers near the mean all


@dataclass(frozen=True, eq=False)
class AutoState(State):
    """inner: the state of the rule that was picked; which one that is follows from the setup."""

    inner: State

    def held(self) -> Held | None:
        return self.inner.held()


@dataclass(frozen=True)
class Auto(UpdateRule):
    """Newton where blocks return dy/dprice, the bundle where they return costs with bounds, else ADMM.

    Where scenarios share a value-at-risk and nothing else, that in closed form.
    Where scenarios have to agree, on more than MANY entries or on any that a node prices, the interior point if blocks
    say that they are convex; else, on more than MANY and nobody coordinates, progressive hedging.

    needs: what the picked rule needs. reveals: as the picked rule. wins when: you do not want to choose.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    reveals: ClassVar[str] = "as the rule it picks"

    @property
    def uses(self) -> frozenset[str]:
        return frozenset({"sensitivity"})

    def pick(
        self,
        abilities: frozenset[str],
        coordinator: frozenset[str],
        agreeing: int = 0,
        tails: bool = False,
        at_nodes: bool = False,
    ) -> tuple[UpdateRule, str]:
        """The rule and the reason. agreeing: entries of the largest unit, where no node prices any; tails: each of them
        is a value-at-risk; at_nodes: scenarios agree on entries that nodes price."""
        if tails and "bound" in abilities:
            return ValueAtRisk(), "scenarios share a value-at-risk and nothing else"
        if "model" not in coordinator:
            return ADMM(), "the coordinator answers, but gives no model of its own"
        if "sensitivity" in abilities:
            return Newton(), "all blocks return dy/dprice"
        if {"kkt", "bound", "convex"} <= abilities and agreeing > MANY:
            return InteriorPoint(), f"nobody coordinates, {agreeing} entries have to agree, and all blocks are convex"
        if {"kkt", "bound", "convex"} <= abilities and at_nodes:
            return InteriorPoint(), "scenarios agree on what nodes price, and all blocks are convex"
        if "penalty" in abilities and agreeing > MANY:
            return ProgressiveHedging(), f"nobody coordinates, and {agreeing} entries have to agree over scenarios"
        if "bound" in abilities:
            return Bundle(speculative=2), "all blocks return costs with proven bounds, not all dy/dprice"
        return ADMM(), "blocks return their offers only"

    def init(self, setup: Setup) -> AutoState:
        rule, reason = self._picked(setup)
        if setup.abilities:
            log.info("auto picks %s: %s", rule, reason)
        inner = rule.init(setup)
        return AutoState(setup, inner.price, inner.w, inner.active, inner)

    def _picked(self, setup: Setup) -> tuple[UpdateRule, str]:
        layout = setup.layout
        at_nodes = bool(np.any((layout.node >= 0) & (layout.sharers > 1)))
        return self.pick(setup.abilities, setup.coordinator, _agreeing(setup), only_tails(layout), at_nodes)

    def goes_on_unbounded(self, setup: Setup) -> bool:
        return self._picked(setup)[0].unbounded_goes_on

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, AutoState)
        return self._picked(state.setup)[0].ask(k, state.inner)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, AutoState)
        return self._picked(state.setup)[0].query(k, state.inner, answers)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AutoState)
        inner, candidate = self._picked(state.setup)[0].update(k, state.inner, answers, request)
        return replace(state, price=inner.price, w=inner.w, active=inner.active, inner=inner), candidate


def _agreeing(setup: Setup) -> int:
    """Entries of the unit that has most of those on which several blocks agree; 0 where a node prices one."""
    layout = setup.layout
    if np.any(layout.node >= 0):
        return 0
    shared = np.concatenate([[0], np.cumsum(layout.sharers > 1)])
    return int(np.max(np.diff(shared[layout.first]), initial=0))
