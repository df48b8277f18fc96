"""Which numbers of the core program are random, by the names a stochastic file gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from problems.smps.core import BOUNDS, WITHOUT_VALUE, Core, bound_of, bounded, nearest
from problems.smps.lines import INFINITE, Line, Reading
from problems.smps.stages import Stages


class Place(NamedTuple):
    """Where a random number stands: "cost" of column j, "constant", "A" of row i and column j, "rhs" or "span" of row
    i, "lb" or "ub" of column j; -1 = none."""

    kind: str
    i: int
    j: int


@dataclass
class Elements:
    """The random numbers in the order in which they are first named.

    number  place -> its position among them
    places  in the order of their positions
    base    what the core file says there
    stage   from which stage on it can be known: that of its row or column; costs may be known later
    """

    core: Core
    stages: Stages
    number: dict[Place, int] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    base: list[float] = field(default_factory=list)
    stage: list[int] = field(default_factory=list)
    columns: dict[str, int] = field(init=False)
    rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.columns = {name: j for j, name in enumerate(self.core.columns)}
        self.rows = {name: i for i, name in enumerate(self.core.rows)}

    def read(self, source: Reading, line: Line, fields: tuple[str, ...]) -> list[tuple[int, float]] | None:
        """Positions and values of "column row value [row value]", "RHS row value ..." or "UP BND column value"."""
        kind = fields[0].upper() if fields else ""
        known = fields and (fields[0] in self.columns or fields[0] == self.core.rhs_name)
        if kind in BOUNDS and not known:
            return self._bound(source, line, fields)
        if len(fields) not in (3, 5):
            text = "a column (or RHS), and one or two pairs of a row and a number"
            source.note(line, f"'{' '.join(fields)}' cannot be read", text)
            return None
        found: list[tuple[int, float]] = []
        for row, text in zip(fields[1::2], fields[2::2], strict=True):
            place, value = self._place(source, line, fields[0], row), source.value(line, text)
            if value is not None and abs(value) >= INFINITE:
                source.note(line, f"{text} is not finite")
            if place is not None and value is not None:
                found.append((self.position(place), value))
        return found or None

    def is_cost(self, position: int) -> bool:
        """Is it a number of the objective? What a decision costs may show after it is taken."""
        return self.places[position].kind in ("cost", "constant")

    def combined(self, position: int, value: float, manner: str) -> float:
        """The number itself, where a file gives what is added to the core's, or what it is multiplied by."""
        base = self.base[position]
        return base + value if manner == "ADD" else base * value if manner == "MULTIPLY" else value

    def name(self, position: int) -> str:
        """The place in the words of the files."""
        place = self.places[position]
        column = self.core.columns[place.j] if place.j >= 0 else ""
        row = self.core.rows[place.i] if place.i >= 0 else self.core.objective
        return {
            "cost": f"{column} {row}", "A": f"{column} {row}", "constant": f"{self.core.rhs_name} {row}",
            "rhs": f"{self.core.rhs_name} {row}", "span": f"range of {row}", "lb": f"lower bound of {column}",
            "ub": f"upper bound of {column}",
        }[place.kind]  # fmt: skip

    # -- behind it -----------------------------------------------------------------------------------------------------

    def _place(self, source: Reading, line: Line, first: str, row: str) -> Place | None:
        side = first not in self.columns
        if side and first.upper() not in ("RHS", "RANGES", "RNG", self.core.rhs_name.upper()):
            near = nearest(first, [*self.columns, self.core.rhs_name])
            source.note(line, f"'{first}' is neither a column nor the right-hand side {self.core.rhs_name}", near)
            return None
        if row != self.core.objective and row not in self.rows:
            source.note(line, f"the core file has no row '{row}'", nearest(row, [*self.rows, self.core.objective]))
            return None
        if side and first.upper() in ("RANGES", "RNG"):
            if row == self.core.objective:
                source.note(line, "the objective has no range")
                return None
            return Place("span", self.rows[row], -1)
        if row == self.core.objective:
            return Place("constant", -1, -1) if side else Place("cost", -1, self.columns[first])
        return Place("rhs", self.rows[row], -1) if side else Place("A", self.rows[row], self.columns[first])

    def _bound(self, source: Reading, line: Line, fields: tuple[str, ...]) -> list[tuple[int, float]] | None:
        found = bound_of(source, line, fields, self.columns)
        if found is None:
            return None
        kind, _, column, value = found
        j = self.columns[column]
        if kind in WITHOUT_VALUE or kind in ("UI", "LI"):
            source.note(line, f"a bound of the kind {kind} cannot be random", "UP, LO or FX")
            return None
        lb, ub, _ = bounded(kind, value, float(self.core.lb[j]), float(self.core.ub[j]))
        out = []
        if kind in ("LO", "FX"):
            out.append((self.position(Place("lb", -1, j)), lb))
        if kind in ("UP", "FX"):
            out.append((self.position(Place("ub", -1, j)), ub))
        return out

    def position(self, place: Place) -> int:
        """The place's position; one that is new becomes the last."""
        if place not in self.number:
            self.number[place] = len(self.base)
            self.places.append(place)
            self.base.append(self._base(place))
            self.stage.append(self._stage(place))
        return self.number[place]

    def _base(self, place: Place) -> float:
        kind, i, j = place
        core = self.core
        if kind == "A":
            return core.A.get((i, j), 0.0)
        if kind == "constant":
            return -core.constant + 0.0  # as a right-hand side of the objective
        return float({"cost": core.cost, "lb": core.lb, "ub": core.ub, "rhs": core.rhs, "span": core.span}[kind][
            i if kind in ("rhs", "span") else j
        ])  # fmt: skip

    def _stage(self, place: Place) -> int:
        rows = self.stages.row[place.i] if place.i >= 0 else -1
        columns = self.stages.column[place.j] if place.j >= 0 else -1
        return int(max(rows, columns))
