"""Deflected subgradient: a direction that does not turn back on the last one."""

from __future__ import annotations

from dataclasses import dataclass

from decomp.messages import FloatArray
from decomp.rules.polyak import Polyak


@dataclass(frozen=True)
class DeflectedSubgradient(Polyak):
    """Polyak's step along slope and last direction together, so that the path zigzags less.

        s = slope + b s_last,   b = -deflection slope.s_last / |s_last|^2 where slope.s_last < 0, else 0

    With deflection >= 1 the angle to the last direction is never obtuse. In scaled prices, see `dual_space`.

    deflection  0 = Polyak's rule; 1 = s orthogonal to s_last; 1.5 as its authors advise

    needs: nothing beyond an answer to a price. reveals: y, cost. wins when: successive slopes contradict each other
    (narrow ridges of the dual, LP blocks). Camerini, Fratta and Maffioli (1975).
    """

    deflection: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.deflection < 2:
            raise ValueError("deflection must lie between 0 (none) and 2")

    def direction(self, slope: FloatArray, last: FloatArray) -> FloatArray:
        square = float(last @ last) if len(last) else 0.0
        back = float(slope @ last) if square > 0 else 0.0
        turned = slope - self.deflection * back / square * last if back < 0 else slope
        # a target too high has carried us over the ridge: turned around for good, the deflection would lead away
        return turned if float(slope @ turned) >= 0.1 * float(slope @ slope) else slope
