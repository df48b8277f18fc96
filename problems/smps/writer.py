"""Write a stochastic program as SMPS files; what `read_smps` reads back is the same to the last digit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from problems.smps.core import Core
from problems.smps.elements import Elements, Place
from problems.smps.scenarios import Scenarios
from problems.smps.stages import Stages

ENDLESS = "1e+30"  # no limit, where a line has to have a number


def write_smps(folder: Path, name: str, elements: Elements, scenarios: Scenarios) -> tuple[Path, Path, Path]:
    """Write name.cor, name.tim and name.sto, in free format, with a list of scenarios; the three files.

    Raises ValueError for names that hold spaces: fields are parted by them.
    """
    core, stages = elements.core, elements.stages
    names = [*core.rows, *core.columns, *stages.periods, *scenarios.names, core.objective]
    spaced = [one for one in names if len(one.split()) != 1]
    if spaced:
        raise ValueError(f"'{spaced[0]}' holds a space, or nothing: fields of the files are parted by spaces")
    folder.mkdir(parents=True, exist_ok=True)
    files = (
        (f"{name}.cor", _core_lines(core, name)),
        (f"{name}.tim", _time_lines(core, stages, name)),
        (f"{name}.sto", _scenario_lines(elements, scenarios, name)),
    )
    for file, lines in files:
        (folder / file).write_text("".join(f"{line}\n" for line in (*lines, "ENDATA")), encoding="utf-8")
    return folder / files[0][0], folder / files[1][0], folder / files[2][0]


def _core_lines(core: Core, name: str) -> Iterator[str]:
    yield f"NAME {name}"
    if core.maximise:
        yield from ("OBJSENSE", " MAX")
    yield "ROWS"
    kind = dict(zip(core.rows, core.kind, strict=True))
    for row in core.order:
        if row in kind or row == core.objective:
            yield f" {kind.get(row, 'N')} {row}"
    yield "COLUMNS"
    below: dict[int, list[tuple[str, float]]] = {}
    for (i, j), value in core.A.items():
        below.setdefault(j, []).append((core.rows[i], value))
    whole = False
    for j, column in enumerate(core.columns):
        if bool(core.integer[j]) != whole:
            whole = not whole
            yield f" MARKER 'MARKER' '{'INTORG' if whole else 'INTEND'}'"
        entries = below.get(j, [])
        if core.cost[j] != 0 or not entries:
            yield f" {column} {core.objective} {float(core.cost[j])!r}"
        yield from (f" {column} {row} {float(value)!r}" for row, value in entries)
    if whole:
        yield " MARKER 'MARKER' 'INTEND'"
    yield "RHS"
    if core.constant != 0:
        yield f" {core.rhs_name} {core.objective} {-core.constant!r}"
    yield from (f" {core.rhs_name} {row} {float(b)!r}" for row, b in zip(core.rows, core.rhs, strict=True) if b != 0)
    if not np.isnan(core.span).all():
        yield "RANGES"
        given = ((row, r) for row, r in zip(core.rows, core.span, strict=True) if not math.isnan(r))
        yield from (f" RNG {row} {float(r)!r}" for row, r in given)
    yield "BOUNDS"
    for j, column in enumerate(core.columns):
        yield from _bounds(core, j, f"{core.bound_name} {column}")


def _bounds(core: Core, j: int, where: str) -> Iterator[str]:
    lb, ub = float(core.lb[j]), float(core.ub[j])
    if lb == ub:
        yield f" FX {where} {lb!r}"
        return
    if lb == -math.inf:
        yield f" MI {where}"
    elif lb != 0 or ub < 0:
        yield f" LO {where} {lb!r}"
    if ub != math.inf:
        yield f" UP {where} {ub!r}"
    elif core.integer[j]:
        yield f" PL {where}"


def _time_lines(core: Core, stages: Stages, name: str) -> Iterator[str]:
    yield f"TIME {name}"
    yield "PERIODS EXPLICIT"
    yield from (f" {period}" for period in stages.periods)
    yield "ROWS"
    yield from (f" {row} {stages.periods[k]}" for row, k in zip(core.rows, stages.row, strict=True))
    yield "COLUMNS"
    yield from (f" {column} {stages.periods[k]}" for column, k in zip(core.columns, stages.column, strict=True))


def _scenario_lines(elements: Elements, scenarios: Scenarios, name: str) -> Iterator[str]:
    """Each scenario after the first branches from the one above with which it shares most."""
    yield f"STOCH {name}"
    yield "SCENARIOS DISCRETE"
    node, value = scenarios.node, scenarios.value
    periods = elements.stages.periods
    words = [_words(elements, place) for place in elements.number]
    for s, scenario in enumerate(scenarios.names):
        shared = np.sum(np.cumprod(node[:s] == node[s], axis=1), axis=1)
        parent = int(np.argmax(shared)) if s else -1
        stage = int(shared[parent]) if s else 1
        before = np.array(elements.base) if parent < 0 else value[parent]
        root = "ROOT" if parent < 0 else scenarios.names[parent]
        yield f" SC {scenario} {root} {float(scenarios.prob[s])!r} {periods[min(stage, len(periods) - 1)]}"
        for k in np.flatnonzero(~((value[s] == before) | (np.isnan(value[s]) & np.isnan(before)))):
            yield f" {words[k]} {_number(float(value[s, k]))}"


def _words(elements: Elements, place: Place) -> str:
    core = elements.core
    column = core.columns[place.j] if place.j >= 0 else ""
    row = core.rows[place.i] if place.i >= 0 else core.objective
    return {
        "cost": f"{column} {row}", "A": f"{column} {row}", "constant": f"{core.rhs_name} {row}",
        "rhs": f"{core.rhs_name} {row}", "span": f"RNG {row}", "lb": f"LO {core.bound_name} {column}",
        "ub": f"UP {core.bound_name} {column}",
    }[place.kind]  # fmt: skip


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else ENDLESS if value > 0 else f"-{ENDLESS}"
