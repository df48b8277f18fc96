"""A turbine that may be switched off: on, start and stop of each step, and reserve from a turbine that is off.

Paper 2's turbines always run. Section 2.2.4 there lets non-spinning reserve come from units that are off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyomo.environ as pyo
from pydantic import BaseModel, ConfigDict

from problems.microgrid.unit import Size


class Commitment(BaseModel):
    """Table [mt.NAME.commitment].

    start_usd             each time it is started
    min_up_h, min_down_h  once started (stopped) it stays so for so long, or to the end of the horizon
    on_at_first           it runs before the first step
    quick_start_mw        most non-spinning reserve it can sell while it is off; 0 = none. It is started where that is
                          called: then it gives p_min_mw at least
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_usd: Size = 0.0
    min_up_h: Size = 0.0
    min_down_h: Size = 0.0
    on_at_first: bool = True
    quick_start_mw: Size = 0.0

    def add(self, b: pyo.Block, steps: Sequence[int], dt_h: float, p_min_mw: float) -> States:
        """Binaries b.on, and b.starts, b.stops in 0..1, on_k - on_{k-1} = starts_k - stops_k; offline reserve."""
        b.on = pyo.Var(steps, domain=pyo.Binary)
        b.starts = pyo.Var(steps, domain=pyo.Binary)
        b.stops = pyo.Var(steps, bounds=(0.0, 1.0))
        quick: Any = dict.fromkeys(steps, 0.0)
        offline: Any = dict.fromkeys(steps, 0.0)

        def before(k: int) -> Any:
            return b.on[k - 1] if k else float(self.on_at_first)

        @b.Constraint(steps)
        def switched(b: pyo.Block, k: int) -> object:
            return b.on[k] - before(k) == b.starts[k] - b.stops[k]

        @b.Constraint(steps)
        def started_or_stopped(b: pyo.Block, k: int) -> object:
            return b.starts[k] + b.stops[k] <= 1.0

        @b.Constraint(steps)
        def stays_on(b: pyo.Block, k: int) -> object:
            first = max(0, k - max(_steps(self.min_up_h, dt_h), 1) + 1)
            return sum(b.starts[i] for i in range(first, k + 1)) <= b.on[k]

        @b.Constraint(steps)
        def stays_off(b: pyo.Block, k: int) -> object:
            first = max(0, k - max(_steps(self.min_down_h, dt_h), 1) + 1)
            return sum(b.stops[i] for i in range(first, k + 1)) <= 1.0 - b.on[k]

        if self.quick_start_mw > 0:
            b.ready = pyo.Var(steps, domain=pyo.Binary)
            b.offline_mw = pyo.Var(steps, bounds=(0.0, self.quick_start_mw))
            quick, offline = b.ready, b.offline_mw

            @b.Constraint(steps)
            def ready_only_while_off(b: pyo.Block, k: int) -> object:
                return b.ready[k] + b.on[k] <= 1.0

            @b.Constraint(steps)
            def offline_at_most(b: pyo.Block, k: int) -> object:
                return b.offline_mw[k] <= self.quick_start_mw * b.ready[k]

            @b.Constraint(steps)
            def offline_at_least(b: pyo.Block, k: int) -> object:
                return b.offline_mw[k] >= p_min_mw * b.ready[k]

        on = {k: b.on[k] for k in steps}
        return States(on, {k: before(k) for k in steps}, dict(b.starts), dict(b.stops), quick, offline)


@dataclass(frozen=True, eq=False)
class States:
    """By step: on (1 or 0), on in the step before, starts, stops, ready to be started, and reserve of one that is off.

    One that always runs is on, never starts or stops, and has no reserve while off: numbers in place of variables.
    """

    on: Any
    before: Any
    starts: Any
    stops: Any
    ready: Any
    offline_mw: Any

    @classmethod
    def always_on(cls, steps: Sequence[int]) -> States:
        one, none = dict.fromkeys(steps, 1.0), dict.fromkeys(steps, 0.0)
        return cls(one, one, none, none, none, none)


def _steps(hours: float, dt_h: float) -> int:
    return int(-(-hours // dt_h))
