"""The series and tariffs one community schedules against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray

_MAY_BE_NEGATIVE = frozenset({"spot_sek_per_kwh", "load_q_kvar"})


@dataclass(frozen=True, eq=False)
class LecData:
    """One day (or more) of a community in one scenario. A series given as one number holds in every step.

    Arguments
        times                            (T,) beginning of each step, real time stamps
        dt_h                             length of a step in h
        spot_sek_per_kwh                 (T,) lambda^e, may be negative
        load_p_kw, load_q_kvar           (T,) the community's own load
        heat_load_kw                     (T,) H^L
        pv_pu                            (T,) AC output of a PV per kWp, inverter losses included, 0..
        grid_tariff_sek_per_kwh          c^e, on imported energy only
        reactive_price_sek_per_kvarh     (T,) c^Q, paid for what is injected, charged for what is drawn
        heat_price_sek_per_kwh           (T,) lambda^h
        heat_peak_sek_per_kw_day         c^{H,var}, per kW of each calendar day's peak of imported heat
        heat_fixed_sek_per_day           c^{H,fix}, per calendar day
        shed_cost_sek_per_kwh            C^LS
        labels                           (T,) what a reader calls each step; by default the clock time of its beginning

    Raises InputError with every series that has the wrong length, is not finite or is negative without sense.
    """

    times: Sequence[datetime]
    dt_h: float
    spot_sek_per_kwh: FloatArray
    load_p_kw: FloatArray
    load_q_kvar: FloatArray
    heat_load_kw: FloatArray
    pv_pu: FloatArray
    reactive_price_sek_per_kvarh: FloatArray
    heat_price_sek_per_kwh: FloatArray
    grid_tariff_sek_per_kwh: float = 0.0
    heat_peak_sek_per_kw_day: float = 0.0
    heat_fixed_sek_per_day: float = 0.0
    shed_cost_sek_per_kwh: float = 100.0
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", tuple(self.times))
        mistakes = [] if self.times else [Mistake("", "time", "times", "there is no time step", "give at least one")]
        object.__setattr__(self, "labels", tuple(self.labels) or _clock_times(self.times))
        if len(self.labels) != self.n:
            mistakes.append(Mistake("", "time", "labels", f"names {len(self.labels)} of {self.n} steps", "name each"))
        for key in (f.name for f in fields(self) if f.type in ("FloatArray", "float")):
            value = np.array(getattr(self, key), float)
            if key in _SERIES:
                if value.shape not in ((), (self.n,)):
                    problem = f"has {value.size} values, the horizon has {self.n} steps"
                    mistakes.append(Mistake("", "series", key, problem, "give one value a step, or one for all"))
                    continue
                value = np.array(np.broadcast_to(value, (self.n,)))
                value.flags.writeable = False
            mistakes += _senseless(key, value)
            object.__setattr__(self, key, value if key in _SERIES else float(value))
        if mistakes:
            raise InputError(mistakes)

    @property
    def n(self) -> int:
        """T, the number of steps."""
        return len(self.times)

    @property
    def steps(self) -> range:
        return range(self.n)

    def derived(self, b: Any, name: str, function: Callable[[LecData], FloatArray]) -> list[Any]:
        """(T,) what a device works out of the series: numbers here, parameters in a model of many scenarios."""
        return list(function(self).tolist())

    def able(self, limit: Callable[[LecData], FloatArray]) -> list[int]:
        """The steps in which a limit worked out of the series lets something through."""
        bound = limit(self)
        return [k for k in self.steps if bound[k] > 0]

    @property
    def days(self) -> tuple[int, ...]:
        """(T,) number of the calendar day each step begins in, from 0: local dates, so a 23-hour day is one day."""
        dates = sorted({t.date() for t in self.times})
        return tuple(dates.index(t.date()) for t in self.times)


_SERIES = frozenset(f.name for f in fields(LecData) if f.type == "FloatArray")
SCENARIO_SERIES = ("spot_sek_per_kwh", "load_p_kw", "load_q_kvar", "heat_load_kw", "pv_pu", "heat_price_sek_per_kwh")


def _senseless(key: str, value: FloatArray) -> list[Mistake]:
    if not np.all(np.isfinite(value)):
        where = f" (first at step {int(np.argmin(np.isfinite(value)))})" if value.ndim else ""
        return [Mistake("", "series", key, f"is not a finite number{where}", "fill the gap in the source")]
    if key == "dt_h" and not value > 0:
        return [Mistake("", "time", key, f"is {value:g} h", "a step takes more than 0 h")]
    if key not in _MAY_BE_NEGATIVE and np.any(value < 0):
        where = f" at step {int(np.argmax(value < 0))}" if value.ndim else ""
        return [Mistake("", "series", key, f"is negative{where}", "give a value of at least 0")]
    return []


def _clock_times(times: Sequence[datetime]) -> tuple[str, ...]:
    """Clock times, with date or UTC offset only where they would be ambiguous."""
    for form in ("%H:%M", "%m-%d %H:%M", "%Y-%m-%d %H:%M%z"):
        labels = tuple(t.strftime(form) for t in times)
        if len(set(labels)) == len(labels):
            return labels
    return tuple(f"step {k}" for k in range(len(times)))
