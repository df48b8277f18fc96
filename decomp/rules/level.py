"""A target level for the dual where its best value is unknown: hoped for, reached or lowered."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Level:
    """target = base + delta, kept until half of delta is gained or too many rounds have passed.

    best    largest dual value met
    base    best value when the target was set
    delta   the gain hoped for
    misses  rounds since the target was set

    Goffin and Kiwiel (1999), with rounds counted instead of the path's length, which has a unit.
    """

    best: float
    base: float
    delta: float
    misses: int = 0

    @classmethod
    def at(cls, value: float, delta: float) -> Level:
        """The first level, `delta` above the first value."""
        return cls(value, value, delta)

    @property
    def target(self) -> float:
        return self.base + self.delta

    def after(self, value: float, grow: float, patience: int) -> Level:
        """delta <- grow delta where one round gained half of it, delta / 2 where `patience` rounds did not."""
        best = max(self.best, value)
        if best >= self.base + self.delta / 2:
            return Level(best, best, self.delta * (grow if self.misses == 0 else 1.0))
        if self.misses + 1 >= patience:
            return Level(best, best, self.delta / 2)
        return replace(self, best=best, misses=self.misses + 1)
