"""The core file: one scenario's mathematical program in MPS, fixed or free."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray
from problems.smps.lines import INFINITE, Line, Reading

KINDS = {"N", "E", "L", "G"}
BOUNDS = {"UP", "LO", "FX", "FR", "MI", "PL", "BV", "LI", "UI"}
WITHOUT_VALUE = {"FR", "MI", "PL", "BV"}
REFUSED = {
    "QUADOBJ": "a quadratic objective", "QMATRIX": "a quadratic objective", "QSECTION": "a quadratic objective",
    "QCMATRIX": "quadratic rows", "CSECTION": "cones", "SOS": "special ordered sets", "INDICATORS": "indicators",
    "SETS": "special ordered sets", "USERCUTS": "cuts", "LAZYCONS": "lazy constraints",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Core:
    """min cost'x + constant subject to rows of the kinds E, L, G (with ranges) and lb <= x <= ub.

    kind (m,) letters; rhs (m,); span (m,) the number in RANGES, nan = none; A {(row, column): value} as in the
    file; maximise: the file says so, and cost and constant are those of the file; order: rows as in the file, with the
    objective and free rows among them, for time files that name them.
    """

    name: str
    objective: str
    rows: tuple[str, ...]
    kind: tuple[str, ...]
    columns: tuple[str, ...]
    integer: BoolArray
    cost: FloatArray
    constant: float
    A: Mapping[tuple[int, int], float]
    rhs: FloatArray
    span: FloatArray
    lb: FloatArray
    ub: FloatArray
    maximise: bool
    order: tuple[str, ...]
    rhs_name: str = "RHS"
    bound_name: str = "BND"


@dataclass
class _Parts:
    """What the sections fill in."""

    name: str = ""
    objective: str = ""
    free: set[str] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)  # E, L, G
    order: list[str] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)
    integer: list[bool] = field(default_factory=list)
    cost: dict[int, float] = field(default_factory=dict)
    A: dict[tuple[int, int], float] = field(default_factory=dict)
    rhs: dict[str, float] = field(default_factory=dict)
    span: dict[str, float] = field(default_factory=dict)
    bounds: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)  # section -> the name of its set
    maximise: bool = False


def read_core(source: Reading) -> Core:
    """The program of a core file. Raises InputError with every mistake, each with its line."""
    parts = _Parts()
    seen: set[str] = set()
    for head, below in source.sections():
        section = head.fields[0].upper()
        if section in seen:
            source.note(head, f"a second section {section}", "put its lines into the first")
        seen.add(section)
        if section == "NAME":
            parts.name = " ".join(head.fields[1:])
        elif section in ("OBJSENSE", "OBJSENSEMAX"):
            _sense(source, parts, head, below)
        elif section == "OBJSENSEMIN":
            parts.maximise = False
        elif section in READERS:
            READERS[section](source, parts, below)
        elif section in REFUSED:
            source.note(head, f"{REFUSED[section]} cannot be read", "linear and mixed-integer linear programs can")
        elif section != "OBJECT":
            source.note(head, f"unknown section {section}", f"known: NAME, OBJSENSE, {', '.join(READERS)}, ENDATA")
    source.section = ""
    for needed in ("ROWS", "COLUMNS"):
        if needed not in seen:
            source.note(source.lines[-1].number if source.lines else 1, f"there is no section {needed}")
    if seen >= {"ROWS", "COLUMNS"} and not parts.objective:
        source.note(1, "there is no objective", "give one row the kind N")
    if source.mistakes:
        raise InputError(source.mistakes)
    core = _core(parts)
    for j in np.flatnonzero(core.lb > core.ub):
        source.mistakes.append(
            Mistake(source.name, "BOUNDS", core.columns[j], f"its bounds cross: {core.lb[j]:g} > {core.ub[j]:g}")
        )
    if source.mistakes:
        raise InputError(source.mistakes)
    return core


def nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else ""


def _sense(source: Reading, parts: _Parts, head: Line, below: list[Line]) -> None:
    words = [*head.fields[1:], *(f for line in below for f in line.fields)]
    if head.fields[0].upper() == "OBJSENSEMAX":
        words = ["MAX"]
    if len(words) != 1 or words[0].upper() not in ("MAX", "MAXIMIZE", "MAXIMISE", "MIN", "MINIMIZE", "MINIMISE"):
        source.note(head, f"'{' '.join(words)}' is no sense", "MAX or MIN")
        return
    parts.maximise = words[0].upper().startswith("MAX")


def _rows(source: Reading, parts: _Parts, below: list[Line]) -> None:
    for line in below:
        if len(line.fields) != 2 or line.fields[0].upper() not in KINDS:
            source.note(line, f"'{' '.join(line.fields)}' is no row", "write its kind (N, E, L or G) and its name")
            continue
        kind, name = line.fields[0].upper(), line.fields[1]
        if name in parts.kinds or name in parts.free or name == parts.objective:
            source.note(line, f"row '{name}' is given more than once")
            continue
        parts.order.append(name)
        if kind != "N":
            parts.kinds[name] = kind
        elif parts.objective:
            parts.free.add(name)  # rows without a limit say nothing
        else:
            parts.objective = name


def _columns(source: Reading, parts: _Parts, below: list[Line]) -> None:
    whole, last = False, ""
    number = {name: i for i, name in enumerate(parts.kinds)}
    for line in below:
        f = line.fields
        if "'MARKER'" in f or (len(f) == 3 and f[1].strip("'") == "MARKER"):
            kind = f[-1].strip("'").upper()
            if kind not in ("INTORG", "INTEND"):
                source.note(line, f"unknown marker {kind}", "'INTORG' or 'INTEND'")
            elif (kind == "INTORG") == whole:
                source.note(line, f"{kind} where integers have {'' if whole else 'not '}begun")
            whole = kind == "INTORG"
            continue
        if len(f) not in (3, 5):
            source.note(line, f"{len(f)} fields", "a column, and one or two pairs of a row and a number")
            continue
        name = f[0]
        if name != last:
            if name in parts.columns:
                source.note(line, f"column '{name}' goes on after another one", "keep the lines of a column together")
            else:
                parts.columns[name] = len(parts.columns)
                parts.integer.append(whole)
            last = name
        j = parts.columns[name]
        for row, text in zip(f[1::2], f[2::2], strict=True):
            value = source.value(line, text)
            if value is None or row in parts.free:
                continue
            if row == parts.objective:
                twice = j in parts.cost
                parts.cost[j] = value
            elif row in number:
                twice = (number[row], j) in parts.A
                parts.A[number[row], j] = value
            else:
                source.note(line, f"there is no row '{row}'", nearest(row, parts.order))
                continue
            if abs(value) >= INFINITE:
                source.note(line, f"the coefficient {text} is not finite")
            if twice:
                source.note(line, f"column '{name}' has a second number in row '{row}'")


def _pairs(source: Reading, parts: _Parts, below: list[Line], section: str, into: dict[str, float]) -> None:
    for line in below:
        f = line.fields
        named = len(f) % 2 == 1
        if len(f) not in (2, 3, 4, 5):
            source.note(line, f"{len(f)} fields", "the set's name, and one or two pairs of a row and a number")
            continue
        if not _one_set(source, parts, line, section, f[0] if named else ""):
            continue
        for row, text in zip(f[named::2], f[named + 1 :: 2], strict=True):
            value = source.value(line, text)
            if value is None or row in parts.free:
                continue
            if row not in parts.kinds and row != parts.objective:
                source.note(line, f"there is no row '{row}'", nearest(row, parts.order))
            elif row == parts.objective and section == "RANGES":
                source.note(line, "the objective has no range")
            elif row in into:
                source.note(line, f"row '{row}' has a second number")
            elif abs(value) >= INFINITE and section == "RHS":
                source.note(line, f"the right-hand side {text} is not finite", "leave the row out, or make it N")
            else:
                into[row] = value


def _one_set(source: Reading, parts: _Parts, line: Line, section: str, name: str) -> bool:
    """Files may hold several sets of right-hand sides, ranges or bounds; which one is meant they do not say."""
    if parts.sets.setdefault(section, name) == name:
        return True
    source.note(line, f"a second set '{name}' beside '{parts.sets[section]}'", "keep the one that is meant")
    return False


def _rhs(source: Reading, parts: _Parts, below: list[Line]) -> None:
    _pairs(source, parts, below, "RHS", parts.rhs)


def _ranges(source: Reading, parts: _Parts, below: list[Line]) -> None:
    _pairs(source, parts, below, "RANGES", parts.span)


def _bounds(source: Reading, parts: _Parts, below: list[Line]) -> None:
    for line in below:
        found = bound_of(source, line, line.fields, parts.columns)
        if found is None:
            continue
        kind, name, column, value = found
        if _one_set(source, parts, line, "BOUNDS", name):
            parts.bounds.setdefault(parts.columns[column], []).append((kind, value))


def bound_of(
    source: Reading, line: Line, f: tuple[str, ...], columns: Mapping[str, int]
) -> tuple[str, str, str, float] | None:
    """Kind, name of the set ("" = none), column and value of a line of bounds; None, noted, where it is none."""
    kind = f[0].upper()
    if kind == "SC":
        return source.note(line, "semi-continuous columns cannot be read", "write them with a binary column")
    if kind not in BOUNDS:
        return source.note(line, f"unknown kind of bound '{f[0]}'", f"known: {', '.join(sorted(BOUNDS))}")
    rest = list(f[1:])
    if kind in WITHOUT_VALUE and len(rest) in (2, 3) and rest[0] in columns and rest[-1] not in columns:
        rest = rest[:1]  # a number that says nothing
    elif kind in WITHOUT_VALUE and len(rest) == 3:
        rest = rest[:2]
    if kind not in WITHOUT_VALUE:
        if len(rest) not in (2, 3):
            return source.note(line, f"{len(f)} fields", "its kind, the set's name, a column and a number")
        value = source.value(line, rest.pop())
        if value is None:
            return None
    else:
        value = 0.0
    if len(rest) not in (1, 2):
        return source.note(line, f"{len(f)} fields", "its kind, the set's name and a column")
    column = rest[-1]
    if column not in columns:
        return source.note(line, f"there is no column '{column}'", nearest(column, columns))
    return kind, rest[0] if len(rest) == 2 else "", column, value


READERS = {"ROWS": _rows, "COLUMNS": _columns, "RHS": _rhs, "RANGES": _ranges, "BOUNDS": _bounds}


def bounded(kind: str, value: float, lb: float, ub: float) -> tuple[float, float, bool | None]:
    """Bounds after one more line of BOUNDS, and whether it makes the column integer (None: it does not say)."""
    limit = value if abs(value) < INFINITE else float(np.copysign(np.inf, value))
    if kind in ("UP", "UI"):
        return lb, limit, True if kind == "UI" else None
    if kind in ("LO", "LI"):
        return limit, ub, True if kind == "LI" else None
    if kind == "FX":
        return limit, limit, None
    if kind == "FR":
        return -np.inf, np.inf, None
    if kind == "MI":
        return -np.inf, ub, None
    if kind == "PL":
        return lb, np.inf, None
    return 0.0, 1.0, True  # BV


def sides(kind: str, rhs: FloatArray, span: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper limit of a row with right-hand sides (..) and ranges (..), nan = none.

    G: [b, b + |r|], L: [b - |r|, b], E: [b, b + r] for r >= 0, else [b + r, b].
    """
    given = ~np.isnan(span)
    size = np.where(given, span, np.inf)
    if kind == "E":
        step = np.where(given, span, 0.0)
        return rhs + np.minimum(step, 0.0), rhs + np.maximum(step, 0.0)
    if kind == "G":
        return rhs + 0.0, rhs + np.abs(size)
    return rhs - np.abs(size), rhs + 0.0


def _core(parts: _Parts) -> Core:
    n, rows = len(parts.columns), list(parts.kinds)
    integer = np.array(parts.integer, bool)
    lb, ub = np.zeros(n), np.full(n, np.inf)
    for j in range(n):
        if integer[j] and j not in parts.bounds:
            ub[j] = 1.0  # integers by a marker, without a bound, are binary: as HiGHS and CPLEX have it
        given = parts.bounds.get(j, ())
        for kind, value in given:
            lb[j], ub[j], whole = bounded(kind, value, lb[j], ub[j])
            integer[j] |= bool(whole)
        if ub[j] < 0 and lb[j] == 0 and all(kind in ("UP", "UI") for kind, _ in given):
            lb[j] = -np.inf  # nobody has set the 0: as CPLEX, Gurobi and SCIP have it
    cost = np.zeros(n)
    cost[list(parts.cost)] = list(parts.cost.values())
    return Core(
        name=parts.name,
        objective=parts.objective,
        rows=tuple(rows),
        kind=tuple(parts.kinds.values()),
        columns=tuple(parts.columns),
        integer=integer,
        cost=cost,
        constant=-parts.rhs.get(parts.objective, 0.0) + 0.0,
        A=parts.A,
        rhs=np.array([parts.rhs.get(row, 0.0) for row in rows]),
        span=np.array([parts.span.get(row, np.nan) for row in rows]),
        lb=lb,
        ub=ub,
        maximise=parts.maximise,
        order=tuple(parts.order),
        rhs_name=parts.sets.get("RHS") or "RHS",
        bound_name=parts.sets.get("BOUNDS") or "BND",
    )
