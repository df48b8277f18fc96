"""The time axis of a case and the series that live on it, read from CSV files.

Step k covers [start + k step, start + (k+1) step): time stamps are of the beginning, absolute (with an offset from
UTC), so days of 23 and 25 hours and steps of 15 minutes are nothing special. `label = "end"` only changes the name by
which a step is shown: 13:00-14:00 is then called 14:00. With `zone` the clock and the calendar are those of that place:
time stamps may leave their offset out, and a day is 23 or 25 hours long where the clock is changed.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray


class TimeSettings(BaseModel):
    """Table [time]: when the horizon begins, how long a step is, how many there are, and how a step is called.

    zone  name in the time zone database (Europe/Stockholm) of the place whose calendar days and clock the case follows;
          None = those of the offset that `start` has, all through the horizon
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    start: datetime
    step_min: int = Field(gt=0)
    steps: int = Field(gt=0)
    label: Literal["begin", "end"] = "begin"
    zone: str | None = None

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in available_timezones():
            close = difflib.get_close_matches(zone, available_timezones(), n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ", as Europe/Stockholm"
            raise ValueError(f"'{zone}' is no time zone: give a name of the time zone database{hint}")
        return zone

    @model_validator(mode="after")
    def _begins_somewhere(self) -> Self:
        if self.start.tzinfo is None and self.zone is None:
            raise ValueError("start has no offset from UTC: write 2021-04-14T00:00:00+02:00, or add zone")
        return self

    def instant(self, when: datetime) -> datetime | None:
        """A time of the case in UTC; one without offset is by the zone's clock, None where there is no zone."""
        if when.tzinfo is None:
            if self.zone is None:
                return None
            when = when.replace(tzinfo=ZoneInfo(self.zone))
        return when.astimezone(UTC)


class SeriesColumn(BaseModel):
    """One series: a column of a CSV file that also has a column `time`; the file is relative to the case file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str = Field(min_length=1)
    column: str = Field(min_length=1)


@dataclass(frozen=True)
class TimeAxis:
    """start + k step, k = 0 .. steps - 1."""

    settings: TimeSettings

    @property
    def dt_h(self) -> float:
        return self.settings.step_min / 60.0

    @property
    def step(self) -> timedelta:
        return timedelta(minutes=self.settings.step_min)

    @property
    def first(self) -> datetime:
        """The beginning of the horizon, in UTC."""
        found = self.settings.instant(self.settings.start)
        assert found is not None, "checked by the settings"
        return found

    @property
    def end(self) -> datetime:
        """The end of the horizon, in UTC."""
        return self.first + self.settings.steps * self.step

    @property
    def begins(self) -> tuple[datetime, ...]:
        """By the clock of the zone, or in the offset of the start."""
        settings = self.settings
        place = settings.start.tzinfo if settings.zone is None else ZoneInfo(settings.zone)
        return tuple((self.first + k * self.step).astimezone(place) for k in range(settings.steps))

    @property
    def stamps(self) -> tuple[str, ...]:
        """ISO stamps of the beginnings, as in the CSV files."""
        return tuple(t.isoformat() for t in self.begins)

    @property
    def names(self) -> tuple[str, ...]:
        """Unique names by which the steps are shown: ISO, to the minute, of the beginning or the end."""
        shift = self.step if self.settings.label == "end" else timedelta(0)
        return tuple(
            (t.astimezone(UTC) + shift).astimezone(t.tzinfo).isoformat(timespec="minutes") for t in self.begins
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The clock of the names where it tells the steps apart, else the names."""
        clocks = tuple(clock(name) for name in self.names)
        return clocks if len(set(clocks)) == len(clocks) else self.names

    @property
    def hours(self) -> FloatArray:
        """(T,) hour of the day by which each step is shown; the end of a day is 24, not 0. Grows over several days."""
        shift = self.dt_h if self.settings.label == "end" else 0.0
        first = self.begins[0].hour + self.begins[0].minute / 60.0
        return np.asarray(first + shift + self.dt_h * np.arange(self.settings.steps), np.float64)

    def index(self, when: datetime) -> int | None:
        """The step that begins at `when`, or None."""
        instant = self.settings.instant(when)
        if instant is None:
            return None
        k, rest = divmod(instant - self.first, self.step)
        return k if not rest and 0 <= k < self.settings.steps else None


def clock(name: str) -> str:
    """'14:00' of the name of a step (`TimeAxis.names`)."""
    return name[11:16]


def read_series(
    axis: TimeAxis, series: SeriesColumn, folder: Path, section: str, *, signed: bool = False
) -> FloatArray:
    """(T,) values of one column at the steps of the axis; rows outside the horizon are not used.

    Raises InputError with file, section and column: no such file, not a CSV, no such column, time stamps without
    offset, twice, missing or between the steps, values that are no finite numbers, or below zero and not `signed`.
    """

    def wrong(key: str, problem: str, remedy: str) -> InputError:
        return InputError([Mistake(series.file, section, key, problem, remedy)])

    table = read_csv(folder / series.file, series.file, section)
    absent = [c for c in ("time", series.column) if c not in table.columns]
    if absent:
        raise wrong(absent[0], "no such column", f"the file has {', '.join(map(str, table.columns))}")
    try:
        when = [datetime.fromisoformat(str(t).strip()) for t in table["time"]]
    except ValueError as error:
        raise wrong("time", f"not a time stamp: {error}", "write 2021-04-14T13:00:00+02:00") from None
    if any(t.tzinfo is None for t in when):
        when = _by_the_clock(when, axis.settings.zone, wrong)
    inside = [i for i, t in enumerate(when) if axis.first <= t < axis.end]
    rows = [(k, i) for i in inside if (k := axis.index(when[i])) is not None]
    if len(rows) < len(inside):
        raise wrong(
            "time",
            f"{len(inside) - len(rows)} rows lie between the steps of {axis.settings.step_min} min",
            "resample the file or change time.step_min",
        )
    count = np.bincount([k for k, _ in rows], minlength=axis.settings.steps)
    if np.any(count == 0):
        raise wrong(
            "time",
            f"has {np.count_nonzero(count)} of the {axis.settings.steps} time steps; "
            f"the first that is missing begins {axis.stamps[int(np.argmin(count))]}",
            "add the rows or change time.start, time.step_min, time.steps",
        )
    if np.any(count > 1):
        stamp = axis.stamps[int(np.argmax(count))]
        raise wrong("time", f"{stamp} is there more than once", "keep one row for each time step")
    numbers = pd.to_numeric(table[series.column], errors="coerce").to_numpy(np.float64)
    values: FloatArray = numbers[[i for _, i in sorted(rows)]]
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise wrong(
            series.column, f"{bad.size} values are not finite numbers, first at {axis.stamps[bad[0]]}", "fill them in"
        )
    below = np.flatnonzero(values < 0)
    if below.size and not signed:
        raise wrong(
            series.column, f"{below.size} values are negative, first at {axis.stamps[below[0]]}", "this series is >= 0"
        )
    return values


def _by_the_clock(
    when: Sequence[datetime], zone: str | None, wrong: Callable[[str, str, str], InputError]
) -> list[datetime]:
    """Time stamps without offset as the zone's clock shows them; an hour that comes twice is told by its order."""
    if zone is None:
        remedy = 'write 2021-04-14T13:00:00+02:00, or give the place once: [time] zone = "Europe/Stockholm"'
        raise wrong("time", "time stamps without an offset from UTC", remedy)
    if any(t.tzinfo is not None for t in when):
        raise wrong("time", "some time stamps have an offset from UTC, others have none", "write all of them alike")
    try:
        local = pd.DatetimeIndex(when).tz_localize(zone, ambiguous="infer", nonexistent="raise")
    except Exception as error:  # before its version 3 pandas raises what shares no other base
        problem = f"no times of {zone}: {error}"
        raise wrong("time", problem, "a clock change skips or repeats them: write offsets, 02:00:00+01:00") from None
    return [t.to_pydatetime() for t in local]


def read_csv(path: Path, file: str, section: str) -> pd.DataFrame:
    """The table, all fields as text without spaces around them; fields are separated by `,`, or by `;` where the head
    has no comma: numbers may then have a decimal comma.

    Raises InputError: no such file, empty, binary, cut in the middle of a row, two columns of one name.
    """

    def wrong(problem: str, remedy: str) -> InputError:
        return InputError([Mistake(file, section, "file", problem, remedy)])

    if not path.is_file():
        raise wrong("no such file", f"looked for {path}; file names are relative to the case file")
    raw = path.read_bytes()
    if not raw.strip():
        raise wrong("the file is empty", "it needs a header line and one row for each time step")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise wrong("not a text file", "save it as CSV: UTF-8 text, comma-separated, with a header line")
    head = text.lstrip().partition("\n")[0]
    separator = ";" if ";" in head and "," not in head else ","
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise wrong("the file is empty", "it needs a header line and one row for each time step")
    if len({len(row) for row in rows}) > 1:
        raise wrong(
            "rows of unequal length", "the file may have been cut; every row needs as many fields as the header"
        )
    while rows[0] and not any(row[-1] for row in rows):  # separators at the end of every line
        rows = [row[:-1] for row in rows]
    twice = sorted({name for name in rows[0] if rows[0].count(name) > 1})
    if twice:
        raise wrong(f"columns of the same name: {', '.join(map(repr, twice))}", "give every column a name of its own")
    table = pd.DataFrame(rows[1:], columns=rows[0])
    return table if separator == "," else table.apply(lambda column: _decimal_point(column, wrong))


def _decimal_point(column: pd.Series, wrong: Callable[[str, str], InputError]) -> pd.Series:
    """Numbers of a file separated by `;` with a decimal comma, as text with a decimal point."""
    with_comma = column.str.fullmatch(r"[+-]?\d*,\d+")
    if with_comma.any() and column.str.fullmatch(r"[+-]?\d+\.\d+").any():
        problem = f"column '{column.name}' has numbers with a decimal comma and others with a point"
        raise wrong(problem, "write all of them alike")
    return column.where(~with_comma, column.str.replace(",", "."))
