"""Questions to several blocks of one size and their answers, a block a row; single ones are made when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from decomp.integer_pattern import CONVEX
from decomp.messages import BoolArray, FloatArray, Response, Signal


@dataclass(frozen=True, eq=False)
class SignalBatch(Sequence[Signal]):
    """b signals as rows: price (b, n), target, penalty and active (b, n) or None for all."""

    price: FloatArray
    target: FloatArray | None = None
    penalty: FloatArray | None = None
    active: BoolArray | None = None
    exact: bool = False
    id: int = 0
    mip_gap: float | None = None

    @classmethod
    def of(cls, signals: Sequence[Signal]) -> SignalBatch | None:
        """The signals as rows; None where they are not of one size and kind."""
        if isinstance(signals, SignalBatch):
            return signals
        first, shape = signals[0], signals[0].price.shape
        columns: list[Any] = []
        for name in ("price", "target", "penalty", "active"):
            values = [getattr(s, name) for s in signals]
            if all(v is None for v in values):
                columns.append(None)
            elif any(v is None or np.shape(v) != shape for v in values):
                return None
            else:
                columns.append(np.array(values))
        kind = first.exact, first.id, first.mip_gap
        if any((s.exact, s.id, s.mip_gap) != kind for s in signals):
            return None
        price, target, penalty, active = columns
        return cls(price, target, penalty, active, *kind)

    def __len__(self) -> int:
        return len(self.price)

    @overload
    def __getitem__(self, i: int) -> Signal: ...
    @overload
    def __getitem__(self, i: slice) -> SignalBatch: ...
    def __getitem__(self, i: int | slice) -> Signal | SignalBatch:
        cut = [None if a is None else a[i] for a in (self.price, self.target, self.penalty, self.active)]
        kind: Any = SignalBatch if isinstance(i, slice) else Signal
        made: Signal | SignalBatch = kind(*cut, self.exact, self.id, self.mip_gap)
        return made


@dataclass(frozen=True, eq=False)
class ResponseBatch(Sequence[Response]):
    """b optimal answers without integers as rows: y (b, n), cost (b,), bound (b,) nan = none, report (b, m), point."""

    y: FloatArray
    cost: FloatArray
    bound: FloatArray
    report: FloatArray
    point: FloatArray
    signal_id: int = 0
    solve_time: float = 0.0
    pattern: int = CONVEX

    def __len__(self) -> int:
        return len(self.y)

    @overload
    def __getitem__(self, i: int) -> Response: ...
    @overload
    def __getitem__(self, i: slice) -> list[Response]: ...
    def __getitem__(self, i: int | slice) -> Response | list[Response]:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        bound = float(self.bound[i])
        return Response(
            self.y[i], float(self.cost[i]), None if math.isnan(bound) else bound, report=self.report[i],
            pattern=self.pattern, point=self.point[i], signal_id=self.signal_id, solve_time=self.solve_time,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Response]:
        return (self[i] for i in range(len(self)))

    def but(self, **changes: Any) -> ResponseBatch:
        """The same answers with other values."""
        return replace(self, **changes)
