"""How soon a service has to be there once it is called, and for how long it must last: the market's rules.

Paper 2 asks for neither; markets do. ERCOT's products differ by little else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pyomo.environ as pyo
from pydantic import BaseModel, ConfigDict, Field

Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]
UPWARD = ("regulation_up", "spinning", "nonspinning")


class Delivery(BaseModel):
    """Table [market.delivery]. None = not asked, as in paper 2.

    <service>_within_min  all of it is there so many minutes after the call: a unit with ramps cannot sell more than it
                          can ramp until then, services that have to be there sooner counted with it
    <service>_for_h       an upward service that is called lasts so long: stores must hold the energy, and load that is
                          switched off must be able to stay off
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    regulation_up_within_min: Minutes | None = None
    regulation_down_within_min: Minutes | None = None
    spinning_within_min: Minutes | None = None
    nonspinning_within_min: Minutes | None = None
    regulation_up_for_h: Hours | None = None
    spinning_for_h: Hours | None = None
    nonspinning_for_h: Hours | None = None

    def windows(self) -> list[tuple[float, tuple[str, ...]]]:
        """(minutes, the upward services that have to be there by then), soonest first."""
        of = {name: getattr(self, f"{name}_within_min") for name in UPWARD}
        ends = sorted({minutes for minutes in of.values() if minutes is not None})
        return [(end, tuple(n for n, m in of.items() if m is not None and m <= end)) for end in ends]

    @property
    def lasts(self) -> bool:
        return any(getattr(self, f"{name}_for_h") is not None for name in UPWARD)

    def energy_mwh(self, offers: Mapping[str, Any], k: int, dt_h: float) -> Any:
        """What step k takes where everything is called: E dt + sum_i r_i max(dt, the time that service i lasts)."""
        held = sum(max(getattr(self, f"{name}_for_h") or 0.0, dt_h) * offers[name][k] for name in UPWARD)
        return dt_h * offers["energy"][k] + held


def add_ramp_limits(
    b: pyo.Block, steps: Sequence[int], upward: Mapping[str, Any], down: Any, delivery: Delivery,
    ramp_mw_per_h: tuple[float, float],
) -> None:  # fmt: skip
    """sum_{i there by tau} r_i <= ramp_up tau, and r_down <= ramp_down tau.

    upward: variables or expressions by service and step; ramp_mw_per_h: upwards and downwards
    """
    windows = delivery.windows()
    up, below = ramp_mw_per_h

    @b.Constraint(range(len(windows)), steps)
    def reserve_can_be_ramped(b: pyo.Block, i: int, k: int) -> object:
        minutes, names = windows[i]
        return sum(upward[name][k] for name in names) <= up * minutes / 60.0

    soon = delivery.regulation_down_within_min

    @b.Constraint(steps if soon is not None else ())
    def regulation_down_can_be_ramped(b: pyo.Block, k: int) -> object:
        assert soon is not None
        return down[k] <= below * soon / 60.0
