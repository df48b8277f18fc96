"""Dual ascent with Polyak's step: as long as the distance to the best value asks for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from decomp.messages import FloatArray
from decomp.rules.base import Candidate
from decomp.rules.dual_space import AscentState, Point, PriceAscent
from decomp.rules.level import Level


@dataclass(frozen=True, eq=False)
class PolyakState(AscentState):
    """level: the value hoped for, None before round 0; direction (n+N,): last direction gone."""

    level: Level | None = None
    direction: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Polyak(PriceAscent):
    """x += theta (target - d) / |s|^2 s along the slope s; the target is a level above the best value met.

        target = d* where `optimum` gives it, else d_best + delta, kept until half of delta is gained
        delta  <- grow delta    when one round gained that half
        delta  <- delta / 2     when `patience` rounds did not
        delta  =  first_length |s|^2 in round 0: no price moves further than `first_step` allows

    In scaled prices, see `dual_space`.

    theta     relative length, 0 < theta < 2
    optimum   the best dual value, where it is known (a comparison, a repetition); else a level is used
    grow      how delta grows when the target was reached
    patience  rounds a target may be missed before it is lowered

    needs: nothing beyond an answer to a price. reveals: y, cost. wins when: the best value is nearly known, or answers
    jump so that curvature says nothing; slow, but steady. Polyak (1969); the level: Goffin and
    Kiwiel (1999).
    """

    theta: float = 1.0
    optimum: float | None = None
    grow: float = 2.0
    patience: int = 2

    memory_of: ClassVar[type[AscentState]] = PolyakState

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.theta < 2:
            raise ValueError("theta must lie between 0 and 2: beyond 2 steps lead away from the optimum")
        if self.grow < 1:
            raise ValueError("grow must be at least 1")
        if self.patience < 1:
            raise ValueError("patience must be at least 1")

    def move(self, state: Any, here: Point) -> tuple[AscentState, FloatArray, Candidate | None]:
        assert isinstance(state, PolyakState)
        direction = self.direction(here.slope, state.direction)
        square = float(direction @ direction)
        if state.level is None:
            level = Level.at(here.value, here.first_length * float(here.slope @ here.slope))
        else:
            level = state.level.after(here.value, self.grow, self.patience)
        target = level.target if self.optimum is None else self.optimum
        length = self.theta * max(target - here.value, 0.0) / square if square > 0 else 0.0
        return replace(state, level=level, direction=direction, length=length), here.x + length * direction, None

    def direction(self, slope: FloatArray, last: FloatArray) -> FloatArray:
        """Where to go from here, when the last round went along `last` (empty before round 0)."""
        return slope
