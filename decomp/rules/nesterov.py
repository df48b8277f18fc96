"""Accelerated dual ascent: Nesterov's momentum, started anew where it points the wrong way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from decomp.messages import FloatArray
from decomp.rules.base import Candidate
from decomp.rules.dual_space import GROWTH, LARGEST_GROWTH, ROUNDING, STILL, AscentState, Point, PriceAscent


@dataclass(frozen=True, eq=False)
class NesterovState(AscentState):
    """x: last point without momentum; z, slope: where the dual was last asked (all (n+N,), none before round 0);
    guessed: no curvature was met yet; theta: the momentum's counter; values of the last
    points kept; best of all values, where, and the slope there."""

    x: FloatArray = field(default_factory=lambda: np.zeros(0))
    z: FloatArray = field(default_factory=lambda: np.zeros(0))
    slope: FloatArray = field(default_factory=lambda: np.zeros(0))
    guessed: bool = True
    theta: float = 1.0
    values: tuple[float, ...] = ()
    best: float = -np.inf
    best_x: FloatArray = field(default_factory=lambda: np.zeros(0))
    best_slope: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Nesterov(PriceAscent):
    """A step from where the momentum has carried the prices; the step length follows the curvature met.

        x+     = z + t slope(z)
        z+     = x+ + beta (x+ - x),  beta = (theta - 1) / theta+,  theta+ = (1 + sqrt(1 + 4 theta^2)) / 2
        theta  = 1 (no momentum) where slope(z).(x+ - x) < 0: the move was downhill
        t      = min(growth t, |z - z_last| / |slope - slope_last|); fourfold where nobody reacted

    A point worse than the last `memory` ones is not kept: back to the best one, without momentum and with t / 4.
    In scaled prices, see `dual_space`.

    growth  how much t may grow from round to round after the first curvature was met
    memory  how many values a point is compared with

    needs: nothing beyond an answer to a price. reveals: y, cost. wins when: answers are smooth in the price and node
    rows react very differently. On LP and MILP blocks it does not converge.
    Nesterov (1983); O'Donoghue and Candes (2015), the restart by slopes; Malitsky and Mishchenko (2020), the length.
    """

    growth: float = 1.5
    memory: int = 8

    memory_of: ClassVar[type[AscentState]] = NesterovState

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.growth < 1:
            raise ValueError("growth must be at least 1")
        if self.memory < 1:
            raise ValueError("memory must be at least 1")

    def move(self, state: Any, here: Point) -> tuple[AscentState, FloatArray, Candidate | None]:
        assert isinstance(state, NesterovState)
        if state.values and here.value < min(state.values) - ROUNDING * abs(min(state.values)):
            return self._back(state)
        if not state.values:
            length, last, guessed = here.first_length, here.x, True
        else:
            length, guessed = self._length(state, here)
            last = state.x
        x = here.x + length * here.slope
        theta = 1.0 if float(here.slope @ (x - last)) < 0 else state.theta
        larger = float(1 + np.sqrt(1 + 4 * theta**2)) / 2
        after = replace(
            state,
            x=x,
            z=here.x,
            slope=here.slope,
            length=length,
            guessed=guessed,
            theta=larger,
            values=(*state.values, here.value)[-self.memory :],
        )
        if here.value > state.best:
            after = replace(after, best=here.value, best_x=here.x, best_slope=here.slope)
        return after, x + (theta - 1) / larger * (x - last), None

    def _back(self, state: NesterovState) -> tuple[AscentState, FloatArray, None]:
        z, slope, length = state.best_x, state.best_slope, state.length / GROWTH
        x = z + length * slope
        return replace(state, x=x, z=z, slope=slope, length=length, theta=1.0, values=(state.best,)), x, None

    def _length(self, state: NesterovState, here: Point) -> tuple[float, bool]:
        moved = float(np.linalg.norm(here.x - state.z))
        turned = float(np.linalg.norm(here.slope - state.slope))
        if turned <= STILL * np.linalg.norm(state.slope):
            return GROWTH * state.length, state.guessed
        growth = LARGEST_GROWTH if state.guessed else self.growth
        return min(growth * state.length, moved / turned), False
