"""The points a block has returned, against which each of its bounds is checked.

A lower bound of min f - <price, y> lies above no point: bound <= cost_k - <price, y_k> for every k. What does not hold
there is wrong, whatever the solver says of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decomp.messages import FloatArray

ROUNDING = 1e-9  # relative to the terms of a value: no more than rounding
TRUST = 1e-6  # ... and the most that tolerances of the solvers explain
MOST_CONTINUOUS = 8  # bounds of linear programs are worked out here: the newest points are enough to check them


@dataclass(frozen=True)
class Known:
    """The least value of the known points at a price, and the sum of the sizes of its terms."""

    value: float
    size: float

    def allows(self, bound: float, absolute: float) -> float | None:
        """The bound, no higher than the value where it exceeds that by tolerances; None where it contradicts it."""
        above = bound - self.value
        if above <= ROUNDING * self.size:
            return bound
        return self.value if above <= TRUST * self.size + absolute else None


@dataclass(frozen=True, eq=False)
class KnownPoints:
    """Offers y (k, n_u) and their true costs (k,), none twice, the newest last."""

    y: FloatArray
    cost: FloatArray

    @classmethod
    def none(cls, width: int) -> KnownPoints:
        return cls(np.zeros((0, width)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.cost)

    def plus(self, y: FloatArray, cost: float, most: int | None) -> KnownPoints:
        """With one more point; of more than `most` without the first ones."""
        same = self.cost == cost
        if same.any() and (self.y[same] == y).all(axis=1).any():
            return self
        first = 0 if most is None else max(0, len(self.cost) + 1 - most)
        return KnownPoints(np.concatenate([self.y[first:], y[None]]), np.append(self.cost[first:], cost))

    def least(self, worth: FloatArray) -> Known | None:
        """Of cost - <worth, y>, worth (n_u,) weight times price; None without a point."""
        if not len(self.cost):
            return None
        paid = self.y @ worth
        k = int(np.argmin(self.cost - paid))
        return Known(float(self.cost[k] - paid[k]), float(abs(self.cost[k]) + np.abs(worth) @ np.abs(self.y[k])))
