"""SimBench's series of a few days, averaged to the steps of a case."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd

from decomp.errors import InputError, Mistake

SOURCE_STEP_MIN = 15
TABLES = {"load": ("_pload", "_qload"), "renewables": ("",), "powerplants": ("",), "storage": ("_pstor",)}


def profiles_of(net: Any, used: Collection[str], day: date, begin: datetime, step_min: int, days: int) -> pd.DataFrame:
    """time, NAME_p and NAME_q of the profiles `used`, from `day` of SimBench's year 2016 on.

    begin  the time stamp written for the first step: SimBench's figures belong to 2016, dating them anew is a choice
    A profile without reactive part gets none. Raises InputError for a day or a step that the source does not have.
    """
    if step_min <= 0 or step_min % SOURCE_STEP_MIN or 1440 % step_min:
        problem = f"{step_min} min is no step of SimBench's series"
        raise InputError([Mistake("", "import_feeder", "--step", problem, "a multiple of 15 min that divides a day")])
    rows = days * 1440 // SOURCE_STEP_MIN
    columns: dict[str, Any] = {}
    for table, endings in TABLES.items():
        source = net.profiles.get(table)
        if source is None or not any(name + endings[0] in source for name in used):
            continue
        at = pd.to_datetime(source["time"], format="%d.%m.%Y %H:%M")
        first = int(at.searchsorted(pd.Timestamp(day)))
        if first + rows > len(at) or at[first].date() != day:
            problem = f"{day} and {days} days from then on are not in SimBench's year"
            raise InputError([Mistake("", "import_feeder", "--profiles", problem, "give a day of 2016")])
        for name in sorted(used):
            for ending, unit in zip(endings, ("_p", "_q"), strict=False):
                if name + ending in source:
                    part = source[name + ending].iloc[first : first + rows].to_numpy(float)
                    columns[name + unit] = part.reshape(-1, step_min // SOURCE_STEP_MIN).mean(axis=1)
    absent = sorted(name for name in used if f"{name}_p" not in columns)
    if absent:
        problem = f"the grid names profiles that it does not bring: {', '.join(absent)}"
        raise InputError([Mistake("", "import_feeder", "--profiles", problem, "import it without profiles")])
    step = timedelta(minutes=step_min)
    times = [(begin + k * step).isoformat() for k in range(rows * SOURCE_STEP_MIN // step_min)]
    return pd.DataFrame({"time": times, **dict(sorted(columns.items()))})
