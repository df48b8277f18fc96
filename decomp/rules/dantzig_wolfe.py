"""Dantzig-Wolfe decomposition, Kelley's cutting planes: the bundle without its proximal term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.layout import Answers
from decomp.messages import QuadraticModel, Request
from decomp.rules.base import Candidate, Constant, Setup, State
from decomp.rules.columns import Columns, Held
from decomp.rules.diving import recovering
from decomp.rules.master import coordinator_value, solve_master, split_price
from decomp.rules.with_model import ModelRule, ModelState


@dataclass(frozen=True, eq=False)
class DantzigWolfeState(ModelState):
    """columns: all answers so far."""

    columns: Columns

    def held(self) -> Held:
        return Held(self.columns, self.price, self.w)


@dataclass(frozen=True)
class DantzigWolfe(ModelRule):
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
        nothing = Held(Columns.none(), setup.start_price, np.zeros(len(setup.layout.entry)))
        held = setup.held or nothing
        return DantzigWolfeState(setup, setup.start_price, held.w, setup.active, None, held.columns)

    def improve(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request, model: QuadraticModel
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, DantzigWolfeState)
        setup, layout = state.setup, state.setup.layout
        columns = state.columns.plus(answers[0])
        reach = setup.by_node("price_range", self.price_range) * setup.scale
        price_range = layout.to_units(reach, self.agreement_range)
        start = layout.to_blocks(layout.to_units(setup.start_price))
        point = solve_master(layout, model, setup.box, columns, start, None, price_range)
        price, w = split_price(layout, point.price, setup.neutral)
        price = np.where(request.active, price, setup.neutral)
        answered = state.price
        state = replace(state, price=price, w=w, active=request.active, columns=columns, z=layout.totals(point.z))
        at, after = setup.weight * answered, setup.weight * price
        modelled = columns.model_value(layout, layout.to_blocks(layout.to_units(price)) + w)
        modelled += coordinator_value(model, setup.box, after)
        proven = answers[0].expected_bound() + coordinator_value(model, setup.box, at)
        return state, Candidate(
            point.z,
            (point.offered,),
            point.z - point.offered,
            expected=max(modelled - proven, 0.0),
            averaged=float(np.sum(layout.prob[columns.block] * point.alpha * columns.cost)),
            recover=recovering(setup, model, columns, layout.to_blocks(layout.to_units(price)) + w),
        )
