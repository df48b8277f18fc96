"""The time file: which columns and rows belong to which period."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decomp.errors import InputError
from decomp.messages import IntArray
from problems.smps.core import Core, nearest
from problems.smps.lines import Line, Reading


@dataclass(frozen=True, eq=False)
class Stages:
    """periods: names, the first stage first; column (n,), row (m,): number of the stage of each, from 0."""

    periods: tuple[str, ...]
    column: IntArray
    row: IntArray


def read_stages(source: Reading, core: Core) -> Stages:
    """The stages of a time file: by the first column and row of each period, or every column and row by name.

    Raises InputError with every mistake, each with its line; one is a row that holds a column of a later stage.
    """
    found: Stages | None = None
    explicit, given = False, dict[str, dict[str, tuple[str, int]]]()
    for head, below in source.sections():
        section = head.fields[0].upper()
        if section == "PERIODS":
            explicit = len(head.fields) > 1 and head.fields[1].upper() == "EXPLICIT"
            if not explicit:
                found = _implicit(source, core, below, head)
            else:
                given["PERIODS"] = {line.fields[0]: ("", line.number) for line in below if line.fields}
        elif explicit and section in ("ROWS", "COLUMNS"):
            given[section] = _by_name(source, below)
        elif section not in ("TIME", "ENDATA"):
            source.note(head, f"unknown section {section}", "TIME, PERIODS, ENDATA; ROWS and COLUMNS where explicit")
    if explicit:
        found = _explicit(source, core, given)
    elif found is None and not source.mistakes:
        source.note(source.lines[-1].number if source.lines else 1, "there is no section PERIODS")
    if found is not None and not source.mistakes:
        source.section = "PERIODS"
        for i, j in core.A:
            if found.column[j] > found.row[i]:
                source.note(
                    1,
                    f"row '{core.rows[i]}' of period {found.periods[found.row[i]]} holds column '{core.columns[j]}' of "
                    f"the later period {found.periods[found.column[j]]}",
                    "give the row to the later period",
                )
    if source.mistakes or found is None:
        raise InputError(source.mistakes)
    return found


def _implicit(source: Reading, core: Core, below: Sequence[Line], head: Line) -> Stages | None:
    columns, order = list(core.columns), list(core.order)
    starts: list[tuple[int, int, str]] = []
    for line in below:
        if len(line.fields) != 3:
            source.note(line, f"{len(line.fields)} fields", "the first column, the first row and the name of a period")
            continue
        column, row, period = line.fields
        for name, known, what in ((column, columns, "column"), (row, order, "row")):
            if name not in known:
                source.note(line, f"the core file has no {what} '{name}'", nearest(name, known))
        if column not in columns or row not in order:
            continue
        start = columns.index(column), order.index(row), period
        if starts and (start[0] <= starts[-1][0] or start[1] <= starts[-1][1]):
            source.note(line, f"period {period} begins before the one above it", "give the periods in their order")
        if any(period == p for *_, p in starts):
            source.note(line, f"period {period} is given more than once")
        starts.append(start)
    if not starts:
        source.note(head, "there is no period")
        return None
    if starts[0][0] != 0:
        source.note(below[0], f"column '{columns[0]}' belongs to no period", "the first period begins with it")
    column_stage = np.searchsorted([c for c, *_ in starts], np.arange(len(columns)), side="right") - 1
    at = {name: i for i, name in enumerate(order)}
    rows = np.array([at[name] for name in core.rows], np.int64)
    row_stage = np.searchsorted([r for _, r, _ in starts], rows, side="right") - 1
    return Stages(tuple(p for *_, p in starts), column_stage, np.maximum(row_stage, 0))


def _by_name(source: Reading, below: Sequence[Line]) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for line in below:
        if len(line.fields) != 2:
            source.note(line, f"{len(line.fields)} fields", "a name and its period")
        elif line.fields[0] in found:
            source.note(line, f"'{line.fields[0]}' is given more than once")
        else:
            found[line.fields[0]] = line.fields[1], line.number
    return found


def _explicit(source: Reading, core: Core, given: dict[str, dict[str, tuple[str, int]]]) -> Stages | None:
    periods = list(given.get("PERIODS", {})) or list(
        dict.fromkeys(period for table in given.values() for period, _ in table.values())
    )
    stages = []
    for section, names, every in (("COLUMNS", core.columns, core.columns), ("ROWS", core.rows, core.order)):
        source.section, table = section, given.get(section, {})
        for name, (period, number) in table.items():
            if name not in every:
                source.note(number, f"the core file has no '{name}'", nearest(name, every))
            if period not in periods:
                source.note(number, f"there is no period '{period}'", nearest(period, periods))
        absent = [name for name in names if name not in table]
        for name in absent:
            source.note(1, f"'{name}' has no period", "add a line for it")
        stages.append([periods.index(table[name][0]) if table.get(name, ("",))[0] in periods else 0 for name in names])
    return Stages(tuple(periods), np.array(stages[0], np.int64), np.array(stages[1], np.int64))
