"""A network from two CSV tables, lines and buses, in ohm and siemens; every mistake in them at once."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.network.feeder import Network


@dataclass(frozen=True)
class Tables:
    """What is known beside the two files.

    base_kv        of the buses without a base_kv of their own; None = every bus has one
    length_factor  multiplies R, X, G and B of a line: {"1-4": 18}
    """

    lines: str
    buses: str
    base_kva: float
    base_kv: float | None
    slack_bus: str
    slack_v_pu: float
    v_min_pu: float
    v_max_pu: float
    length_factor: Mapping[str, float] = field(default_factory=dict)


def read_tables(tables: Tables, folder: Path) -> tuple[Network, FloatArray]:
    """The network and its base_kv (n,); CSV names are relative to `folder`.

    lines  from, to, R_ohm, X_ohm, B_S; optionally length_km, G_S, ratio, shift_deg, and kind: a "transformer" may have
           a negative part of an equivalent star. All refer to the base voltage of the to bus
    buses  bus; optionally base_kv, shunt_G_S, shunt_B_S
    Raises InputError with every mistake found in both files.
    """
    mistakes: list[Mistake] = []
    bus_rows = read_rows(folder, tables.buses, "buses", ("bus",), mistakes)
    line_rows = read_rows(folder, tables.lines, "lines", ("from", "to", "R_ohm", "X_ohm", "B_S"), mistakes)
    if mistakes:
        raise InputError(mistakes)

    place = Place(tables.buses, mistakes)
    names = [row["bus"] for row in bus_rows]
    number = {name: i for i, name in reversed(list(enumerate(names)))}
    for i, row in enumerate(bus_rows):
        if number[row["bus"]] != i:
            place.add(i, "bus", f"bus '{row['bus']}' is there twice", "give every bus a name of its own")
    shunt_g = np.array([place.number(i, row, "shunt_G_S", 0.0) for i, row in enumerate(bus_rows)])
    shunt_b = np.array([place.number(i, row, "shunt_B_S", 0.0) for i, row in enumerate(bus_rows)])
    base_kv = np.array([place.positive(i, row, "base_kv", tables.base_kv) for i, row in enumerate(bus_rows)])
    if tables.slack_bus not in number:
        known = f"it has {', '.join(names[:40])}"
        mistakes.append(Mistake(tables.buses, "network", "slack_bus", f"no bus '{tables.slack_bus}'", known))

    lines = Place(tables.lines, mistakes)
    factors, used = dict(tables.length_factor), set()
    graph = nx.Graph()
    graph.add_nodes_from(names)
    columns: list[tuple[float, ...]] = []
    for i, row in enumerate(line_rows):
        ends = (row["from"], row["to"])
        for key, end in zip(("from", "to"), ends, strict=True):
            if end not in number:
                lines.add(i, key, f"no bus '{end}' in {tables.buses}", "add the bus or correct the line")
        if ends[0] == ends[1]:
            lines.add(i, "to", f"the line joins bus '{ends[0]}' to itself", "a line needs two different buses")
        labels = {f"{ends[0]}-{ends[1]}", f"{ends[1]}-{ends[0]}"} & factors.keys()
        used |= labels
        factor = math.prod(factors[label] for label in labels)
        r, x, b = (lines.number(i, row, key) * factor for key in ("R_ohm", "X_ohm", "B_S"))
        g = lines.number(i, row, "G_S", 0.0) * factor
        transformer = row.get("kind") == "transformer"
        if (r == 0 and x == 0) or (min(r, x) < 0 and not transformer):
            remedy = "neither negative (but for a transformer's star), not both zero"
            lines.add(i, "R_ohm, X_ohm", f"{r:g} + j{x:g} ohm is no impedance of a line", remedy)
        if "length_km" in row and lines.number(i, row, "length_km") <= 0:
            lines.add(i, "length_km", f"{row['length_km']} km is not positive", "give the length in km")
        ratio = lines.number(i, row, "ratio", 1.0)
        if ratio <= 0:
            lines.add(i, "ratio", f"{ratio:g} is not positive", "1 for a line, near 1 for a transformer")
        columns.append((r, x, g, b, ratio, math.radians(lines.number(i, row, "shift_deg", 0.0))))
        if set(ends) <= number.keys():
            graph.add_edge(*ends)
    for label in sorted(factors.keys() - used):
        known = ", ".join(f"{row['from']}-{row['to']}" for row in line_rows[:40])
        remedy = f"lines are {known}"
        mistakes.append(Mistake(tables.lines, "network.length_factor", label, "no such line", remedy))
    if tables.slack_bus in number:
        reached = nx.node_connected_component(graph, tables.slack_bus)
        for name in sorted(set(names) - reached, key=number.__getitem__):
            problem = f"bus '{name}' is not connected to the slack bus '{tables.slack_bus}'"
            place.add(number[name], "bus", problem, f"add a line to it in {tables.lines} or take the bus out")
    if mistakes:
        raise InputError(mistakes)

    r, x, g, b, ratio, shift = np.array(columns, float).T
    from_bus, to_bus = (np.array([number[row[end]] for row in line_rows], np.int64) for end in ("from", "to"))
    z_bus = 1000.0 * base_kv**2 / tables.base_kva
    z = z_bus[to_bus]
    network = Network(
        buses=tuple(names),
        from_bus=from_bus,
        to_bus=to_bus,
        r_pu=r / z,
        x_pu=x / z,
        g_pu=g * z,
        b_pu=b * z,
        ratio=ratio,
        shift_rad=shift,
        shunt_g_pu=shunt_g * z_bus,
        shunt_b_pu=shunt_b * z_bus,
        base_kva=tables.base_kva,
        slack=number[tables.slack_bus],
        slack_v_pu=tables.slack_v_pu,
        v_min_pu=np.full(len(names), tables.v_min_pu),
        v_max_pu=np.full(len(names), tables.v_max_pu),
    )
    return network, base_kv


@dataclass(frozen=True)
class Place:
    """Where in a CSV a mistake is."""

    file: str
    mistakes: list[Mistake]

    def add(self, i: int, column: str, problem: str, remedy: str) -> None:
        self.mistakes.append(Mistake(self.file, "network", f"line {i + 2}, {column}", problem, remedy))

    def number(self, i: int, row: Mapping[str, str], column: str, default: float | None = None) -> float:
        """The cell as a finite number; a harmless 1 (or the default) and a mistake where it is none."""
        if column not in row and default is not None:
            return default
        try:
            value = float(row[column])
        except (KeyError, ValueError):
            value = math.nan
        if math.isfinite(value):
            return value
        self.add(i, column, f"'{row.get(column, '')}' is not a finite number", "write a number with a decimal point")
        return 1.0 if default is None else default

    def positive(self, i: int, row: Mapping[str, str], column: str, default: float | None) -> float:
        """The cell as a number above 0."""
        value = self.number(i, row, column, default)
        if value > 0:
            return value
        self.add(i, column, f"{value:g} is not positive", "give a number above 0")
        return 1.0


def read_rows(
    folder: Path, name: str, key: str, needed: tuple[str, ...], mistakes: list[Mistake]
) -> list[dict[str, Any]]:
    """Rows of a CSV as dicts of stripped strings; what makes the file unreadable goes to `mistakes`."""

    def wrong(problem: str, remedy: str) -> list[dict[str, Any]]:
        mistakes.append(Mistake(name, "network", key, problem, remedy))
        return []

    path = folder / name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return wrong(f"there is no file {path}", "file names are relative to the case file's folder")
    except UnicodeDecodeError:
        return wrong("the file is not text", "save the table as CSV in UTF-8")
    except OSError as error:
        return wrong(f"the file cannot be read ({error.strerror})", "check its permissions")
    if "\0" in text:
        return wrong("the file is not text", "save the table as CSV in UTF-8")
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if any(row)]
    if len(rows) < 2:
        return wrong("the file has no rows" if rows else "the file is empty", f"it needs columns {', '.join(needed)}")
    head = rows[0]
    if missing := [column for column in needed if column not in head]:
        return wrong(f"column {', '.join(missing)} is missing", f"it has {', '.join(head)}")
    for i, row in enumerate(rows[1:]):
        if len(row) != len(head):
            problem = f"line {i + 2} has {len(row)} cells, the head has {len(head)}"
            wrong(problem, "the file may be cut off, or a name with a comma needs quotes")
    return [dict(zip(head, row, strict=False)) for row in rows[1:] if len(row) == len(head)]
