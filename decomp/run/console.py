"""What a run shows while it runs: one line a round, aligned on a terminal and in a log, and the problem's tables."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.text import Text

from decomp.run.certificate import Certificate
from decomp.run.result import Result, Row, UnitPrice

LOG_WIDTH = 160  # of tables where there is no terminal to ask; lines of rounds are never wrapped
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?(?:[+-]\d\d:\d\d|Z)?")
MOST_UNITS = 6  # price columns; with more units the one furthest from zero is shown


@dataclass(frozen=True)
class Column:
    """One column of the table of rounds: its head, its least width, and its text in a row."""

    head: str
    width: int
    text: Callable[[Row], str]

    @property
    def wide(self) -> int:
        return max(self.width, len(self.head))


@dataclass
class RoundTable:
    """Callback of a run: writes the heads before the first row and one line for each row.

    labels  what the problem calls "worst", "mismatch", "price" and "cost", with units
    scenarios  units have several: how far these are from agreeing is shown, with what is proven
    short   makes names of nodes and entries fit for a column
    """

    console: Console
    labels: Mapping[str, str] = field(default_factory=dict)
    short: Callable[[str], str] = str
    scenarios: bool = False
    _columns: tuple[Column, ...] = ()

    def __call__(self, row: Row) -> None:
        if not self._columns:
            self._columns = columns(row, self.labels, self.short, self.scenarios)
            self._line([c.head for c in self._columns], "bold")
        # a violated limit is what the reader looks for
        self._line([c.text(row) for c in self._columns], "red" if row.violation > 0 else "")

    def _line(self, cells: Sequence[str], style: str) -> None:
        padded = (cell.rjust(c.wide) for cell, c in zip(cells, self._columns, strict=True))
        text = Text("  ".join(padded), style=style)
        self.console.print(text, soft_wrap=True)


def columns(
    first: Row, labels: Mapping[str, str], short: Callable[[str], str], scenarios: bool = False
) -> tuple[Column, ...]:
    """The columns of a run whose first row is `first`; their widths fit it and stay.

    Where the coordinator has no limit by a name there is no worst one to show: what is proven stands there instead.
    """
    price = labels.get("price", "price")
    if len(first.unit_prices) <= MOST_UNITS:
        prices = [_of_unit(i, price, p, short) for i, p in enumerate(first.unit_prices)]
    else:
        prices = [Column(f"largest {price}", 24, lambda row: short(_largest(row)))]
    if not first.worst_at and "worst" not in labels:
        spread = Column("spread", 9, lambda row: f"{row.spread:.3g}")
        at = Column("at", max(len(short(first.spread_at)), 12), lambda row: short(row.spread_at) or "-")
        return (
            Column("round", 5, lambda row: str(row.round)),
            Column(labels.get("mismatch", "mismatch"), 9, lambda row: f"{row.mismatch:.3g}"),
            *((spread, at) if scenarios else ()),
            *(prices if first.unit_prices and not (scenarios and first.spread == first.mismatch) else ()),
            Column(labels.get("cost", "cost"), 13, lambda row: f"{row.cost:.8g}"),
            Column("lower bound", 13, lambda row: _number(row.lower_bound, ".8g")),
            Column("upper bound", 13, lambda row: _number(row.upper_bound, ".8g")),
            Column("gap", 8, lambda row: _number(row.gap, ".2e")),
            Column("seconds", 7, lambda row: f"{row.wall_time_s:.2f}"),
        )
    return (
        Column("round", 5, lambda row: str(row.round)),
        Column(labels.get("worst", "worst"), 9, lambda row: f"{row.worst:.7g}" if math.isfinite(row.worst) else "-"),
        Column("at", max(len(short(first.worst_at)), 12), lambda row: short(row.worst_at) or "-"),
        Column(labels.get("mismatch", "mismatch"), 9, lambda row: f"{row.mismatch:.3g}"),
        *prices,
        Column(labels.get("cost", "cost"), 11, lambda row: f"{row.cost:.8g}"),
        Column("seconds", 7, lambda row: f"{row.wall_time_s:.2f}"),
    )


def _of_unit(i: int, price: str, first: UnitPrice, short: Callable[[str], str]) -> Column:
    def text(row: Row) -> str:
        p = row.unit_prices[i]
        return f"{p.price:.5g} at {short(p.entry)}"

    return Column(f"{price} {first.unit}", len(short(first.entry)) + 12, text)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _largest(row: Row) -> str:
    p = max(row.unit_prices, key=lambda p: abs(p.price))
    return f"{p.price:.5g} at {p.unit} {p.entry}"


def clock_where_enough(names: Sequence[str]) -> Callable[[str], str]:
    """Cuts time stamps down to the clock if those in `names` span less than a day: then the clock tells them apart."""
    times = [datetime.fromisoformat(stamp) for name in names for stamp in STAMP.findall(name)]
    if not times or max(times) - min(times) >= timedelta(days=1):
        return str
    return lambda text: STAMP.sub(lambda stamp: stamp[0][11:16], text)


def console_for(stream: IO[str] | None = None) -> Console:
    """A console on `stream` (standard output): as wide as the terminal, or plain and wide in a log."""
    stream = stream or sys.stdout
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=stream, highlight=False, width=LOG_WIDTH, no_color=True, force_terminal=False)


def first_line(title: str, blocks: int, ranks: int, rule: str, libraries: Sequence[str] = ()) -> str:
    """Case, blocks, ranks and rule, and the versions of the libraries that decide the last digits."""
    versions = "".join(f", {library}" for library in libraries)
    return f"{title}: {_count(blocks, 'block')} on {_count(ranks, 'rank')}, rule {rule}{versions}"


def last_lines(result: Result, files: Sequence[Path], folder: Path) -> str:
    """How the run ended, what is proven, and where the files are."""
    lines = [f"{result.status} after {_count(len(result.rows), 'round')}: {result.reason}"]
    certificate = result.certificate
    if result.objective is not None:
        penalty = f" and a penalty of {result.penalty:.8g} for limits that are not met" if result.penalty > 0 else ""
        lines.append(f"cost {result.objective - result.penalty:.8g}{penalty}{_proven(certificate)}")
    elif certificate is not None and certificate.upper_bound is not None:
        # the offers themselves cannot be realised, what was asked for can
        lines.append(f"cost at the {certificate.recovered} {certificate.upper_bound:.8g}{_proven(certificate)}")
    if result.point:
        lines.append(f"schedules, tables and figures are of {result.point}")
    names = ", ".join(str(f.relative_to(folder)) if f.is_relative_to(folder) else str(f) for f in files)
    lines.append(f"{folder}: {names}")
    return "\n".join(lines)


def _proven(c: Certificate | None) -> str:
    if c is None or c.lower_bound is None:
        return ", no lower bound"
    gaps = [
        f"{name} {value:.2e}"
        for name, value in (("gap", c.gap), ("gap_coordination", c.gap_coordination))
        if value is not None
    ]
    return f", lower bound {c.lower_bound:.8g} of the {c.bound_of} problem" + "".join(f", {gap}" for gap in gaps)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
