"""Dual ascent with any step function; with the exponential step it is the rule of paper 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.steps import Step


@dataclass(frozen=True)
class DualAscent(UpdateRule):
    """TS_b += a_k (Z_b - Y_b) where the coordinator has a need; elsewhere TS_b stays neutral.

    The price rises where more is requested than offered. Agreement over scenarios: w_us += a_k (ybar_u - y_us).
    Paper 1, eqs. (8)-(9), with a_k = c1 lambda_e (c2 + c3 exp(c4 k)).

    step            step of each node row
    agreement_step  step of entries that only agree over scenarios
    proximal        sigma in the coordinator's question only: keeps a linear request from jumping between units
    start           price before round 0 at every node; None = the neutral price

    needs: nothing beyond an answer to a price. reveals: y. wins when: blocks may show nothing but their offers, their
    answers are smooth in the price, and the step is near 1 / (slope of the offers).
    """

    step: Step
    agreement_step: Step | None = None
    proximal: Constant = 0.0
    start: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset()
    reveals: ClassVar[str] = "y"

    def init(self, setup: Setup) -> State:
        layout = setup.layout
        if self.agreement_step is None and np.any((layout.node < 0) & (layout.sharers > 1)):
            raise ValueError("entries that only agree over scenarios need a step of their own: add agreement_step")
        price = setup.start_price if self.start is None else np.full(len(setup.nodes), self.start)
        setup.by_node("proximal", self.proximal)
        self.step(0, setup.scale, setup.groups)
        return State(setup, price, np.zeros(len(layout.entry)), setup.active)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        return (Signals(state.setup.layout, state.block_price(), active=state.block_active(), id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        layout = state.setup.layout
        offers = layout.totals(layout.mean(answers[0].y))
        return Query(state.price, offers, state.setup.by_node("proximal", self.proximal))

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        setup, layout = state.setup, state.setup.layout
        ybar = layout.mean(answers[0].y)
        a = self.step(k, setup.scale, setup.groups)
        price = np.where(request.active, state.price + a * (request.Z - layout.totals(ybar)), setup.neutral)
        w = state.w + self._agreement(k, setup, a) * (layout.to_blocks(ybar) - answers[0].y)
        return replace(state, price=price, w=w, active=request.active), None

    def _agreement(self, k: int, setup: Setup, a: FloatArray) -> FloatArray:
        layout = setup.layout
        alone = 0.0 if self.agreement_step is None else float(self.agreement_step(k, np.ones(1), ("",))[0])
        return layout.to_blocks(layout.to_units(a, alone))
