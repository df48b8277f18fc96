"""Dantzig-Wolfe decomposition, Kelley's cutting planes: the bundle without its proximal term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.errors import RefusedError
from decomp.layout import Answers, Signals
from decomp.messages import Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.rules.master import Columns, solve_master, split_price


@dataclass(frozen=True, eq=False)
class DantzigWolfeState(State):
    """columns: all answers so far; z (n,) the master's request."""

    columns: Columns
    z: np.ndarray | None


@dataclass(frozen=True)
class DantzigWolfe(UpdateRule):
    """lambda+ = multiplier of the coupling rows of the restricted master; tau -> infinity of the bundle.

    min g(Z) + sum_us pi_s sum_k alpha_usk f_usk + <range, |r|>,  r_us = z_u - sum_k alpha_usk y_usk

    The first masters have too few columns to meet r = 0: a residual costs price_range, which keeps the prices within
    the reference price times `price_range` of where the run began.

    price_range      largest distance of a price from its start, in reference prices
    agreement_range  the same for entries that only agree over scenarios, in their own price

    needs: bounds. reveals: y, cost. wins when: few prices and few kinds of answers; the bundle is steadier.
    Dantzig and Wolfe (1960), Kelley (1960).
    """

    price_range: Constant = 100.0
    agreement_range: float = 1e4

    needs: ClassVar[frozenset[str]] = frozenset({"bound"})
    reveals: ClassVar[str] = "y, cost"

    def init(self, setup: Setup) -> DantzigWolfeState:
        if np.any(setup.by_node("price_range", self.price_range) <= 0) or self.agreement_range <= 0:
            raise ValueError("price_range and agreement_range must be positive")
        w = np.zeros(len(setup.layout.entry))
        return DantzigWolfeState(setup, setup.start_price, w, setup.active, Columns.none(), None)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        price, active = state.block_price(), state.block_active()
        return (Signals(state.setup.layout, price, active=active, exact=True, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, DantzigWolfeState)
        layout = state.setup.layout
        center = layout.totals(layout.mean(answers[0].y)) if state.z is None else state.z
        return Query(state.price, center, np.zeros_like(center), want_bound=True, want_model=True)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, DantzigWolfeState)
        setup, layout, model = state.setup, state.setup.layout, request.model
        if model is None:
            raise RefusedError("rule DantzigWolfe needs a coordinator that gives its own model; admm does not")
        columns = state.columns.plus(answers[0])
        reach = setup.by_node("price_range", self.price_range) * setup.scale
        price_range = layout.to_units(reach, self.agreement_range)
        start = layout.to_blocks(layout.to_units(setup.start_price))
        point = solve_master(layout, model, setup.box, columns, start, None, price_range)
        price, w = split_price(layout, point.price, setup.neutral)
        price = np.where(request.active, price, setup.neutral)
        state = replace(state, price=price, w=w, active=request.active, columns=columns, z=layout.totals(point.z))
        return state, Candidate(point.z, (point.offered,), point.z - point.offered)
