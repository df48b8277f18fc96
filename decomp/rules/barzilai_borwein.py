"""Dual ascent with Barzilai and Borwein's step: the last move tells how curved the dual is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from decomp.messages import FloatArray
from decomp.rules.base import Candidate
from decomp.rules.dual_space import GROWTH, LARGEST_GROWTH, ROUNDING, STILL, AscentState, Point, PriceAscent


@dataclass(frozen=True, eq=False)
class BarzilaiBorweinState(AscentState):
    """The last accepted point (none before round 0) and the values of the last accepted points."""

    x: FloatArray = field(default_factory=lambda: np.zeros(0))
    slope: FloatArray = field(default_factory=lambda: np.zeros(0))
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class BarzilaiBorwein(PriceAscent):
    """x += t slope with the step that would be Newton's if the dual were round, and a guard that is not monotone.

        dx = x - x_last,  ds = slope - slope_last,  c = -dx.ds > 0
        long = dx.dx / c,   short = c / ds.ds;      t = short if short < choice long, else long
        accepted if d >= min(the last `memory` values accepted); if not, back to the last accepted point with
        t between t/10 and t/2, where the slope along the move vanishes

    In scaled prices, see `dual_space`. Where nobody reacted to a move (ds = 0) t grows fourfold,
    and never more than a hundredfold in a round.

    choice  below which ratio short / long the short step is taken; 0 = always long
    memory  how many values the guard looks back on; 1 = every accepted round improves the dual

    needs: nothing beyond an answer to a price. reveals: y, cost. wins when: answers are smooth in the price and only
    prices may be sent; no constant to tune. Where the slope jumps it stalls: on LP and MILP blocks, and beside a
    coordinator whose own cost is linear, such as shedding at a price; what the offers leave open is paid at that price.
    Barzilai and Borwein (1988); Raydan (1997), the guard; Zhou, Gao and Dai (2006), the choice.
    """

    choice: float = 0.5
    memory: int = 8

    memory_of: ClassVar[type[AscentState]] = BarzilaiBorweinState

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.choice <= 1:
            raise ValueError("choice must lie between 0 (always the long step) and 1 (always the short one)")
        if self.memory < 1:
            raise ValueError("memory must be at least 1")

    def move(self, state: Any, here: Point) -> tuple[AscentState, FloatArray, Candidate | None]:
        assert isinstance(state, BarzilaiBorweinState)
        if not state.values:
            after = replace(state, x=here.x, slope=here.slope, values=(here.value,), length=here.first_length)
            return after, here.x + here.first_length * here.slope, None
        dx, ds = here.x - state.x, here.slope - state.slope
        curvature = -float(dx @ ds)
        floor = min(state.values)
        if here.value < floor - ROUNDING * abs(floor):
            length = _shorter(state.length, dx, curvature, state.slope)
            return replace(state, length=length), state.x + length * state.slope, None
        length = self._length(state, dx, ds, curvature) or here.first_length
        values = (*state.values, here.value)[-self.memory :]
        after = replace(state, x=here.x, slope=here.slope, values=values, length=length)
        return after, here.x + length * here.slope, None

    def _length(self, state: BarzilaiBorweinState, dx: FloatArray, ds: FloatArray, curvature: float) -> float:
        if np.linalg.norm(ds) <= STILL * np.linalg.norm(state.slope) or curvature <= 0:
            return GROWTH * state.length
        long, short = float(dx @ dx) / curvature, curvature / float(ds @ ds)
        return min(short if short < self.choice * long else long, LARGEST_GROWTH * state.length)


def _shorter(length: float, dx: FloatArray, curvature: float, slope: FloatArray) -> float:
    """Where the slope along the refused move vanishes, between a tenth and a half of it."""
    best = length * float(dx @ slope) / curvature if curvature > 0 else 0.0
    return float(np.clip(best, 0.1 * length, 0.5 * length))
