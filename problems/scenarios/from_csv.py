"""Scenarios from and to a CSV file: one row for each scenario and step.

    scenario,probability,time,pv_kw,price_usd_per_mwh
    low,0.25,2020-08-16T00:00:00-05:00,0.0,17.48
    ...

A scenario's probability stands in each of its rows. Rows outside the horizon are not used.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.scenarios.scenario_set import Place, ScenarioSet, probability_mistakes
from problems.time_series import TimeAxis, read_csv

KEYS = ("scenario", "probability", "time")


def read_scenarios(
    axis: TimeAxis,
    file: str,
    folder: Path,
    columns: Sequence[str],
    *,
    signed: Collection[str] = (),
    section: str = "scenarios",
    optional: Sequence[str] | None = None,
) -> ScenarioSet:
    """The scenarios of `file` in the order of their first rows, with the series `columns` on the steps of `axis`.

    optional: further series that the file may have; columns of any other name (but `hour`) are then refused. None =
    what else the file holds is not looked at.

    Raises one InputError with everything that is wrong: columns that are not there, time stamps that are none, have no
    offset from UTC or lie between the steps, steps that a scenario lacks or has twice, values that are no finite
    numbers, or negative and not in `signed`, probabilities that are none, differ within a scenario or do not sum to 1.
    """
    place = Place(file, section)
    table = read_csv(folder / file, file, section)
    absent = [c for c in (*KEYS, *columns) if c not in table.columns]
    if absent:
        remedy = f"the file has {', '.join(map(str, table.columns))}"
        raise InputError([place.mistake(c, "no such column", remedy) for c in absent])
    wrong: list[Mistake] = []
    if optional is not None:
        known = [*KEYS, "hour", *columns, *optional]
        for name in (str(c) for c in table.columns if c not in known):
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean '{close[0]}'?" if close else f"the columns are {', '.join(known)}"
            wrong.append(place.mistake(name, "nothing reads a column of this name", remedy))
        columns = [*columns, *(name for name in optional if name in table.columns)]
    step = steps_of(axis, table["time"].tolist(), place, wrong)
    names = tuple(dict.fromkeys(table["scenario"].str.strip()))
    row_of = {name: s for s, name in enumerate(names)}
    scenario = np.array([row_of[name] for name in table["scenario"].str.strip()], np.int64)
    prob = probabilities(names, scenario, numbers(table, "probability"), place, wrong)

    inside = step >= 0
    count = np.zeros((len(names), axis.settings.steps), np.int64)
    np.add.at(count, (scenario[inside], step[inside]), 1)
    for s, name in enumerate(names):
        for kind, steps, remedy in (
            ("has no row for", np.flatnonzero(count[s] == 0), "add the rows or change the horizon"),
            ("has more than one row for", np.flatnonzero(count[s] > 1), "keep one row for each step"),
        ):
            if len(steps):
                problem = (
                    f"scenario {name} {kind} {len(steps)} of the {len(count[s])} steps, first {axis.stamps[steps[0]]}"
                )
                wrong.append(place.mistake("time", problem, remedy))

    series: dict[str, FloatArray] = {}
    for column in columns:
        values = np.zeros(count.shape)
        given = numbers(table, column)
        values[scenario[inside], step[inside]] = given[inside]
        for s, name in enumerate(names):
            bad = np.flatnonzero(~np.isfinite(values[s]))
            below = np.flatnonzero(values[s] < 0) if column not in signed else bad[:0]
            if len(bad):
                problem = f"scenario {name}: {len(bad)} values are not finite numbers, first at {axis.stamps[bad[0]]}"
                wrong.append(place.mistake(column, problem, "fill them in"))
            if len(below):
                problem = f"scenario {name}: {len(below)} values are negative, first at {axis.stamps[below[0]]}"
                wrong.append(place.mistake(column, problem, "this series is >= 0"))
        series[column] = values
    if wrong:
        raise InputError(wrong)
    return ScenarioSet(names, prob, series)


def write_scenarios(scenarios: ScenarioSet, axis: TimeAxis, path: Path) -> None:
    """Writes what `read_scenarios` reads back to the last bit. Raises ValueError: other steps than the axis has."""
    if scenarios.steps != axis.settings.steps:
        raise ValueError(f"the scenarios have {scenarios.steps} steps, the axis has {axis.settings.steps}")
    table = pd.DataFrame(
        {
            "scenario": np.repeat(np.array(scenarios.names, object), scenarios.steps),
            "probability": np.repeat(scenarios.prob, scenarios.steps),
            "time": np.tile(np.array(axis.stamps, object), len(scenarios)),
            **{name: values.ravel() for name, values in scenarios.series.items()},
        }
    )
    table.to_csv(path, index=False, float_format=lambda x: repr(float(x)), lineterminator="\n")


def steps_of(axis: TimeAxis, stamps: list[str], place: Place, wrong: list[Mistake]) -> np.ndarray:
    """Step of each row, -1 where it is outside the horizon or no time; adds to `wrong`."""
    step = np.full(len(stamps), -1, np.int64)
    known: dict[str, int] = {}
    for i, stamp in enumerate(stamps):
        if stamp not in known:
            known[stamp] = -1
            try:
                when = datetime.fromisoformat(stamp.strip())
            except ValueError:
                wrong.append(place.mistake("time", f"not a time stamp: {stamp!r}", "write 2021-04-14T13:00:00+02:00"))
                continue
            if when.tzinfo is None:
                remedy = "write 2021-04-14T13:00:00+02:00"
                wrong.append(place.mistake("time", f"{stamp} has no offset from UTC", remedy))
            elif axis.first <= when < axis.end:
                if (k := axis.index(when)) is not None:
                    known[stamp] = k
                else:
                    problem = f"{stamp} lies between the steps of {axis.settings.step_min} min"
                    wrong.append(place.mistake("time", problem, "resample the file or change time.step_min"))
        step[i] = known[stamp]
    return step


def numbers(table: pd.DataFrame, column: str) -> FloatArray:
    """(rows,) values of a column, NaN where the text is no number. Each text becomes the nearest float."""
    return np.array([number(text) for text in table[column]], np.float64)


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def probabilities(
    names: tuple[str, ...], scenario: np.ndarray, given: FloatArray, place: Place, wrong: list[Mistake]
) -> FloatArray:
    """(S,) probability of each scenario; adds to `wrong`."""
    prob = np.array([given[scenario == s][0] for s in range(len(names))], np.float64)
    for s, name in enumerate(names):
        own = given[scenario == s]
        if np.isfinite(own[0]) and np.any(own != own[0]):
            other = own[own != own[0]][0]
            problem = f"scenario {name} has {own[0]:g} in its first row and {other:g} in another"
            wrong.append(place.mistake("probability", problem, "write the same probability in all rows of a scenario"))
    wrong.extend(probability_mistakes(names, prob, place))
    return prob
