"""The volume algorithm: prices by a subgradient method, and a primal solution from the averaged answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from decomp.messages import FloatArray
from decomp.rules.base import Candidate
from decomp.rules.dual_space import AscentState, Point, PriceAscent, metric
from decomp.rules.level import Level
from decomp.rules.recovery import realisable

LEAST_SQUARE = 0.05  # of |slope|^2 at the best point: the least |v|^2 a step is divided by


@dataclass(frozen=True, eq=False)
class VolumeState(AscentState):
    """best, x, steepness: largest dual value met, where, and |slope|^2 there; slope, ybar: averaged mismatch and
    offers; level: the value hoped for; factor: relative length; reds: rounds in a row without a gain."""

    best: float = -np.inf
    steepness: float = 0.0
    x: FloatArray = field(default_factory=lambda: np.zeros(0))
    slope: FloatArray = field(default_factory=lambda: np.zeros(0))
    ybar: FloatArray = field(default_factory=lambda: np.zeros(0))
    level: Level | None = None
    factor: float = 1.0
    reds: int = 0


@dataclass(frozen=True)
class Volume(PriceAscent):
    """x = x_best + f (target - d_best) / |v|^2 v along the mismatch v of the averaged answers.

        ybar_avg <- alpha ybar + (1 - alpha) ybar_avg and the mismatch v likewise; alpha minimises |v| over
        [largest_part / 10, largest_part]
        target is a level above d_best as in `polyak`
        green  d > d_best and slope.v >= 0: f <- 1.1 f;   yellow  d > d_best, slope.v < 0: f as it is
        red    d <= d_best, `reds` times in a row: f <- 0.66 f

    The averaged answers are proposed for the upper bound, as they are and with the averaged mismatch shared out among
    the units of a node: for convex blocks they lie within every block's limits in the end. In scaled prices, see
    `dual_space`.

    needs: nothing beyond an answer to a price. reveals: y, cost. wins when: blocks are LP or MILP, many, and a primal
    point is wanted along with the prices. Barahona and Anbil (2000).
    """

    largest_part: float = 0.9
    reds: int = 5
    patience: int = 3

    memory_of: ClassVar[type[AscentState]] = VolumeState

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.largest_part <= 1:
            raise ValueError("largest_part must lie between 0 and 1")
        if self.reds < 1 or self.patience < 1:
            raise ValueError("reds and patience must be at least 1")

    def move(self, state: Any, here: Point) -> tuple[AscentState, FloatArray, Candidate | None]:
        assert isinstance(state, VolumeState)
        steepness = float(here.slope @ here.slope)
        if state.level is None:
            level = Level.at(here.value, here.first_length * steepness)
            after = replace(state, best=here.value, x=here.x, steepness=steepness, slope=here.slope, ybar=here.ybar)
        else:
            level = state.level.after(here.value, 2.0, self.patience)
            after = self._averaged(self._coloured(state, here), here)
        # averaged mismatches may cancel by chance, which is no reason for a giant's step
        square = max(float(after.slope @ after.slope), LEAST_SQUARE * after.steepness)
        length = after.factor * (level.target - after.best) / square if square > 0 else 0.0
        return (
            replace(after, level=level, length=length),
            after.x + length * after.slope,
            Candidate(_shared_out(after, here), (after.ybar,)),
        )

    def _coloured(self, state: VolumeState, here: Point) -> VolumeState:
        if here.value > state.best:
            green = float(here.slope @ state.slope) >= 0
            factor = min(1.1 * state.factor, 2.0) if green else state.factor
            return replace(
                state, best=here.value, x=here.x, steepness=float(here.slope @ here.slope), reds=0, factor=factor
            )
        if state.reds + 1 >= self.reds:
            return replace(state, reds=0, factor=0.66 * state.factor)
        return replace(state, reds=state.reds + 1)

    def _averaged(self, state: VolumeState, here: Point) -> VolumeState:
        turn = state.slope - here.slope
        square = float(turn @ turn)
        best = float(turn @ state.slope) / square if square > 0 else self.largest_part
        alpha = float(np.clip(best, 0.1 * self.largest_part, self.largest_part))
        return replace(
            state,
            slope=alpha * here.slope + (1 - alpha) * state.slope,
            ybar=alpha * here.ybar + (1 - alpha) * state.ybar,
        )


def _shared_out(state: VolumeState, here: Point) -> FloatArray:
    """(M,) averaged offers plus the averaged mismatch of their node."""
    n = len(state.price)
    mismatch = (state.slope / np.sqrt(state.reach * metric(state.setup)))[:n]
    return realisable(state.setup.layout, state.ybar, mismatch, np.abs(here.ybar - state.ybar))
