"""The feeder: buses and branches in per unit, and how they are read from a case file's tables.

Per unit: power on base_kva (three-phase), voltage on base_kv (line to line), Z_base = 1000 base_kv^2 / base_kva in ohm.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import networkx as nx
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import sparse

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, eq=False)
class Network:
    """A balanced network with one slack bus; every other bus takes a given power.

    buses          (n,) names
    from_bus, to_bus  (m,) bus numbers of each branch
    r_pu, x_pu     (m,) series impedance; g_pu, b_pu (m,) total shunt admittance, half at either end
    ratio, shift_rad  (m,) transformer ratio and phase shift at the from side (1 and 0 for a line)
    shunt_g_pu, shunt_b_pu  (n,) admittance to earth at each bus, b > 0 for a capacitor
    slack, slack_v_pu  number of the slack bus and the voltage it holds, angle 0
    v_min_pu, v_max_pu  (n,) voltage limits
    """

    buses: tuple[str, ...]
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    g_pu: FloatArray
    b_pu: FloatArray
    ratio: FloatArray
    shift_rad: FloatArray
    shunt_g_pu: FloatArray
    shunt_b_pu: FloatArray
    base_kva: float
    slack: int
    slack_v_pu: float
    v_min_pu: FloatArray
    v_max_pu: FloatArray

    def __post_init__(self) -> None:
        n, m = len(self.buses), len(self.from_bus)
        for name in ("to_bus", "r_pu", "x_pu", "g_pu", "b_pu", "ratio", "shift_rad"):
            if np.shape(getattr(self, name)) != (m,):
                raise ValueError(f"{name} needs one value for each of the {m} branches")
        for name in ("shunt_g_pu", "shunt_b_pu", "v_min_pu", "v_max_pu"):
            if np.shape(getattr(self, name)) != (n,):
                raise ValueError(f"{name} needs one value for each of the {n} buses")

    def bus(self, name: str) -> int:
        """Number of a bus. Raises KeyError with the known names."""
        try:
            return self.buses.index(name)
        except ValueError:
            raise KeyError(f"no bus '{name}'; the network has {', '.join(self.buses[:40])}") from None

    def admittance(self) -> sparse.csc_matrix:
        """Ybus (n, n) in per unit.

        With t = ratio e^{j shift} at the from side, y = 1/(r + jx) and s = (g + jb)/2:
        Y_ff += (y + s)/|t|^2, Y_ft -= y/conj(t), Y_tf -= y/t, Y_tt += y + s.
        """
        n = len(self.buses)
        y = 1.0 / (self.r_pu + 1j * self.x_pu)
        half = 0.5 * (self.g_pu + 1j * self.b_pu)
        t = self.ratio * np.exp(1j * self.shift_rad)
        f, k, every = self.from_bus, self.to_bus, np.arange(n)
        values = [(y + half) / np.abs(t) ** 2, -y / np.conj(t), -y / t, y + half]
        values.append(self.shunt_g_pu + 1j * self.shunt_b_pu)
        rows, cols = np.concatenate([f, f, k, k, every]), np.concatenate([f, k, f, k, every])
        return sparse.coo_matrix((np.concatenate(values), (rows, cols)), shape=(n, n)).tocsc()


class NetworkSettings(BaseModel):
    """The [network] table of a case file.

    lines          CSV with from, to, length_km, R_ohm, X_ohm, B_S (whole line), optionally ratio and shift_deg
    buses          CSV with bus, optionally shunt_G_S and shunt_B_S
    length_factor  makes lines longer: {"1-4" = 18} multiplies R, X and B of line 1-4
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lines: str
    buses: str
    base_kva: Positive
    base_kv: Positive
    slack_bus: str
    slack_v_pu: Positive
    v_min_pu: Positive
    v_max_pu: Positive
    length_factor: dict[str, Positive] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _limits_in_order(self) -> NetworkSettings:
        if self.v_min_pu >= self.v_max_pu:
            raise ValueError(f"v_min_pu = {self.v_min_pu} must be below v_max_pu = {self.v_max_pu}")
        return self


def read_network(settings: NetworkSettings, folder: Path) -> Network:
    """The feeder of a case file; CSV names are relative to `folder`.

    Raises InputError with every mistake found in both files.
    """
    mistakes: list[Mistake] = []
    bus_rows = _table(folder, settings.buses, "buses", ("bus",), mistakes)
    line_rows = _table(folder, settings.lines, "lines", ("from", "to", "length_km", "R_ohm", "X_ohm", "B_S"), mistakes)
    if mistakes:
        raise InputError(mistakes)

    place = _Place(settings.buses, mistakes)
    names = [row["bus"] for row in bus_rows]
    for i, row in enumerate(bus_rows):
        if names.index(row["bus"]) != i:
            place.add(i, "bus", f"bus '{row['bus']}' is there twice", "give every bus a name of its own")
    shunt_g = [place.number(i, row, "shunt_G_S", 0.0) for i, row in enumerate(bus_rows)]
    shunt_b = [place.number(i, row, "shunt_B_S", 0.0) for i, row in enumerate(bus_rows)]
    if settings.slack_bus not in names:
        known = f"it has {', '.join(names[:40])}"
        mistakes.append(Mistake(settings.buses, "network", "slack_bus", f"no bus '{settings.slack_bus}'", known))

    lines = _Place(settings.lines, mistakes)
    factors, used = dict(settings.length_factor), set()
    graph = nx.Graph()
    graph.add_nodes_from(names)
    columns: list[tuple[float, ...]] = []
    for i, row in enumerate(line_rows):
        ends = (row["from"], row["to"])
        for key, end in zip(("from", "to"), ends, strict=True):
            if end not in names:
                lines.add(i, key, f"no bus '{end}' in {settings.buses}", "add the bus or correct the line")
        if ends[0] == ends[1]:
            lines.add(i, "to", f"the line joins bus '{ends[0]}' to itself", "a line needs two different buses")
        labels = {f"{ends[0]}-{ends[1]}", f"{ends[1]}-{ends[0]}"} & factors.keys()
        used |= labels
        factor = math.prod(factors[label] for label in labels)
        r, x, b = (lines.number(i, row, key) * factor for key in ("R_ohm", "X_ohm", "B_S"))
        if r < 0 or x < 0 or r + x == 0:
            lines.add(i, "R_ohm, X_ohm", f"{r:g} + j{x:g} ohm is no impedance of a line", "R, X >= 0, not both zero")
        if lines.number(i, row, "length_km") <= 0:
            lines.add(i, "length_km", f"{row['length_km']} km is not positive", "give the length in km")
        ratio = lines.number(i, row, "ratio", 1.0)
        if ratio <= 0:
            lines.add(i, "ratio", f"{ratio:g} is not positive", "1 for a line, near 1 for a transformer")
        columns.append((r, x, b, ratio, math.radians(lines.number(i, row, "shift_deg", 0.0))))
        if set(ends) <= set(names):
            graph.add_edge(*ends)
    for label in sorted(factors.keys() - used):
        known = ", ".join(f"{row['from']}-{row['to']}" for row in line_rows[:40])
        remedy = f"lines are {known}"
        mistakes.append(Mistake(settings.lines, "network.length_factor", label, "no such line", remedy))
    if settings.slack_bus in names:
        for name in sorted(set(names) - nx.node_connected_component(graph, settings.slack_bus), key=names.index):
            problem = f"bus '{name}' is not connected to the slack bus '{settings.slack_bus}'"
            place.add(names.index(name), "bus", problem, f"add a line to it in {settings.lines} or take the bus out")
    if mistakes:
        raise InputError(mistakes)

    r, x, b, ratio, shift = np.array(columns, float).T
    z_base = 1000.0 * settings.base_kv**2 / settings.base_kva
    n = len(names)
    return Network(
        buses=tuple(names),
        from_bus=np.array([names.index(row["from"]) for row in line_rows], np.int64),
        to_bus=np.array([names.index(row["to"]) for row in line_rows], np.int64),
        r_pu=r / z_base,
        x_pu=x / z_base,
        g_pu=np.zeros_like(r),
        b_pu=b * z_base,
        ratio=ratio,
        shift_rad=shift,
        shunt_g_pu=np.array(shunt_g) * z_base,
        shunt_b_pu=np.array(shunt_b) * z_base,
        base_kva=settings.base_kva,
        slack=names.index(settings.slack_bus),
        slack_v_pu=settings.slack_v_pu,
        v_min_pu=np.full(n, settings.v_min_pu),
        v_max_pu=np.full(n, settings.v_max_pu),
    )


@dataclass(frozen=True)
class _Place:
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
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
        self.add(i, column, f"'{row[column]}' is not a finite number", "write a number with a decimal point")
        return 1.0 if default is None else default


def _table(folder: Path, name: str, key: str, needed: tuple[str, ...], mistakes: list[Mistake]) -> list[dict[str, Any]]:
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
