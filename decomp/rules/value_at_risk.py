"""Blocks that have nothing but a value-at-risk in common: it follows from their costs in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from decomp.layout import Answers, Layout, Signals
from decomp.messages import BoolArray, FloatArray, Query, Request
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.rules.bundle import Bundle
from decomp.rules.columns import Held

ROUNDS = 2  # one at the neutral price, one at the multipliers


@dataclass(frozen=True, eq=False)
class ValueAtRiskState(State):
    """v (M,): the values at risk found; inner: the state of the rule that goes on where blocks were not alone."""

    v: FloatArray
    inner: State | None = None

    def held(self) -> Held | None:
        return None if self.inner is None else self.inner.held()


@dataclass(frozen=True)
class ValueAtRisk(UpdateRule):
    """min sum_s pi_s [(1 - beta) f_s + beta (v + [f_s - v]+ / (1 - alpha))]: every f_s is least on its own.

    At the price 0 a block of one scenario offers v_s = f_s. Then

        v = the alpha-quantile of the f_s
        lambda_s = beta where f_s < v,  beta - beta / (1 - alpha) where f_s > v,  and sum_s pi_s lambda_s = 0

    are the optimum and its multipliers (Rockafellar and Uryasev (2000), theorem 1): one round gives the point, the next
    proves it. Blocks of several scenarios offer the value-at-risk of their own; there it is a start, from which the
    bundle goes on.

    needs: every unit's only entry is a value-at-risk whose level and weight the coupling tells. reveals: y.
    wins when: scenarios share a CVaR and no decision.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"bound"})
    reveals: ClassVar[str] = "y, cost"
    rest: UpdateRule = field(default_factory=lambda: Bundle(speculative=2))

    def init(self, setup: Setup) -> ValueAtRiskState:
        if not only_tails(setup.layout):
            raise ValueError("value_at_risk: some entry is no value-at-risk (its coupling has no level for it)")
        layout = setup.layout
        return ValueAtRiskState(
            setup, setup.start_price, np.zeros(len(layout.entry)), setup.active, np.zeros(len(layout.node))
        )

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, ValueAtRiskState)
        if state.inner is not None:
            return self.rest.ask(k - ROUNDS, state.inner)
        return (Signals(state.setup.layout, state.block_price(), active=state.block_active(), exact=True, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, ValueAtRiskState)
        if state.inner is not None:
            return self.rest.query(k - ROUNDS, state.inner, answers)
        layout = state.setup.layout
        return Query(state.price, layout.totals(layout.mean(answers[0].y)), np.zeros(len(state.price)))

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, ValueAtRiskState)
        if state.inner is not None:
            inner, candidate = self.rest.update(k - ROUNDS, state.inner, answers, request)
            return replace(state, price=inner.price, w=inner.w, active=inner.active, inner=inner), candidate
        if k + 1 < ROUNDS:
            v, w = quantiles(state.setup.layout, answers[0].y)
            return replace(state, v=v, w=w), Candidate(v)
        inner = self.rest.init(state.setup)
        return replace(state, inner=inner), Candidate(state.v)


def only_tails(layout: Layout) -> bool:
    """Every entry is a value-at-risk of which level and weight are known."""
    levels = levels_of(layout)
    return bool(len(levels)) and bool(np.all(np.isfinite(levels) & np.isfinite(layout.scale)))


def levels_of(layout: Layout) -> FloatArray:
    """(M,) level alpha of the entries that are a value-at-risk, else nan."""
    every = [
        np.full(len(c.entries), np.nan) if c.level is None else np.asarray(c.level, float) for c in layout.couplings
    ]
    return np.concatenate([*every, np.zeros(0)])[layout.declared]


def quantiles(layout: Layout, offers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(M,) quantile of the offers (N,) that agree on each entry, and their multipliers (N,), whose mean is 0."""
    v, w = np.zeros(len(layout.node)), np.zeros(len(offers))
    for i, (alpha, beta) in enumerate(zip(levels_of(layout), layout.scale, strict=True)):
        at = np.flatnonzero(layout.entry == i)
        y, part = offers[at], layout.part[at]
        order = np.argsort(y, kind="stable")
        first = int(np.searchsorted(np.cumsum(part[order]), alpha - 1e-12))
        v[i] = y[order[min(first, len(order) - 1)]]
        edge: BoolArray = y == v[i]
        w[at] = np.where(y > v[i], beta - beta / (1.0 - alpha), beta)
        w[at[edge]] = -float(part[~edge] @ w[at[~edge]]) / float(part[edge].sum())
    return v, w
