"""Analytical target cascading: targets from above, responses from below, a penalty that ramps up until they meet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.admm import ADMM, AdmmState
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.rules.penalties import Groups


@dataclass(frozen=True, eq=False)
class AtcState(AdmmState):
    """gap: |t - y| at the last move of the multipliers, ramp: how far the penalty has grown; one value per group."""

    gap: FloatArray | None = None
    ramp: FloatArray | None = None


@dataclass(frozen=True)
class ATC(UpdateRule):
    """Augmented Lagrangian target cascading with a quadratic penalty ramp.

        minimise f - <lambda, y - t> + (rho/2)|t - y|^2 below, g with the same terms above; `inner` rounds in turn, then
        lambda += rho (t - y);   rho *= growth  unless  |t - y| <= reduction |t - y| of the time before

    The literature's v is -lambda and its 2 w^2 is rho; with inner = 1 it is the alternating direction form. The ramp
    ends at `most` times the start value: beyond, targets would only follow the responses.

    penalty, agreement_penalty, penalty_factor, start as in ADMM; the penalty only has to start low enough

    needs: blocks that take a target and a penalty. reveals: y. wins when: nothing is known of the right penalty but
    that the start is too small, and a feasible point early counts more than the last digit.
    Kim, Michelena and Papalambros (2003); Tosserams, Etman, Papalambros and Rooda (2006).
    """

    penalty: Constant | None = None
    growth: float = 1.5
    reduction: float = 0.7
    most: float = 100.0
    inner: int = 1
    agreement_penalty: Constant | None = None
    penalty_factor: float = 1.0
    start: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"penalty"})
    reveals: ClassVar[str] = "y"

    def __post_init__(self) -> None:
        if self.growth < 1 or self.most < 1:
            raise ValueError("growth and most must be at least 1: the penalty only ramps up")
        if not 0 < self.reduction <= 1:
            raise ValueError("reduction must be above 0 and at most 1")
        if self.inner < 1:
            raise ValueError("inner must be at least 1 round")
        self._admm()

    def _admm(self) -> ADMM:
        return ADMM(
            penalty=self.penalty,
            agreement_penalty=self.agreement_penalty,
            penalty_factor=self.penalty_factor,
            start=self.start,
            first_round="free",
            relaxation=1.0,
            adapt="fixed",
            anderson=0,
        )

    def init(self, setup: Setup) -> AtcState:
        ramp = np.ones(Groups(setup.layout, np.ones(len(setup.layout.node), bool)).number)
        return AtcState(**vars(self._admm().init(setup)), ramp=ramp)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        return self._admm().ask(k, state)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        return self._admm().query(k, state, answers)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AtcState)
        assert state.ramp is not None
        after, candidate = self._admm().update(k, state, answers, request)
        assert isinstance(after, AtcState)
        setup, layout = state.setup, state.setup.layout
        if (k + 1) % self.inner:
            price = np.where(request.active, state.price, setup.neutral)
            return replace(after, price=price, w=state.w), candidate
        on = layout.to_units(request.active.astype(float), 1.0) > 0
        apart = layout.to_blocks(after.target) - answers[0].y
        gap = np.sqrt(Groups(layout, on)(np.ones_like(apart), apart**2))
        slow = np.zeros(len(gap), bool) if state.gap is None else gap > self.reduction * state.gap
        ramp = np.where(slow, np.minimum(state.ramp * self.growth, self.most), state.ramp)
        return replace(after, gap=gap, ramp=ramp, penalty=after.penalty.times(layout, ramp / state.ramp)), candidate
