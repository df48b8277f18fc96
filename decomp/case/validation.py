"""Turn the tables of a case file into settings, and collect every mistake instead of stopping at the first."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from decomp.case.registry import NotFound, Registry, did_you_mean
from decomp.errors import Mistake

Place = tuple[str | int, ...]  # keys and array positions from the top of the file
UNKNOWN = "unknown key"
Builder = Callable[[Any, Place, "MistakeCollector"], Any]  # builds an object from its table; None after a mistake


class MistakeCollector:
    """The mistakes found so far.

    file      the case file as the user named it
    came_from where values came from that are not in the file: path -> "--set rule.step.c1=0.5"
    """

    def __init__(self, file: str, came_from: Mapping[Place, str] | None = None) -> None:
        self.file = file
        self.came_from = dict(came_from or {})
        self.mistakes: list[Mistake] = []

    def add(self, path: Place, problem: str, remedy: str = "") -> None:
        """Note a mistake at `path`, its last element being the key."""
        section, key = (path[:-1], path[-1:]) if len(path) > 1 else (path, ())
        self._add(path, section, key, problem, remedy)

    def add_of_table(self, path: Place, problem: str, remedy: str = "") -> None:
        """Note a mistake that several keys of the table at `path` make together."""
        self._add(path, path, (), problem, remedy)

    def told(self, path: Place) -> bool:
        """Is a mistake of the value at `path` noted, or that nobody knows what it belongs to?"""
        whole = dotted(path)
        for m in self.mistakes:
            place = ".".join(filter(None, (m.section, m.key)))
            if place == whole or (m.problem.startswith(UNKNOWN) and whole.startswith(f"{place}.")):
                return True
        return False

    def adopt(self, mistakes: Iterable[Mistake]) -> None:
        """Take over mistakes found elsewhere; one without a file is a mistake of this file's tables."""
        for mistake in mistakes:
            path = (*mistake.section.split("."), *([mistake.key] if mistake.key else []))
            self.mistakes.append(mistake if mistake.file else replace(mistake, file=self._origin(path)))

    def _add(self, path: Place, section: Place, key: Place, problem: str, remedy: str) -> None:
        self.mistakes.append(Mistake(self._origin(path), dotted(section), dotted(key), problem, remedy))

    def _origin(self, path: Place) -> str:
        above = (path[:n] for n in range(len(path), 0, -1))
        return next((self.came_from[place] for place in above if place in self.came_from), self.file)


def dotted(path: Place) -> str:
    """lec.LEC2.pv[0]"""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def not_finite(value: Any, path: Place = ()) -> Iterator[Place]:
    """Paths of all nan and inf below `value`."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from not_finite(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from not_finite(item, (*path, i))


def from_dataclass(
    cls: type, table: Any, path: Place, collector: MistakeCollector, parts: Mapping[type, Builder]
) -> Any:
    """An object of the dataclass `cls` from its table, or None after a mistake.

    A field whose type is a key of `parts` is built by that builder; any other is checked against its annotation,
    strictly: a number in quotes is no number. Fields without a default must be in the table.
    """
    if not isinstance(table, Mapping):
        return collector.add(path, f"is {_shown(table)}, not a table", f"write it as [{dotted(path)}]")
    before = len(collector.mistakes)
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    _refuse_unknown(table, fields, path, collector)
    values = {}
    for name, field in fields.items():
        here = (*path, name)
        if name in table:
            build = _builder(hints[name], parts)
            values[name] = (
                build(table[name], here, collector) if build else checked(hints[name], table[name], here, collector)
            )
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            collector.add(here, "is missing", f"add {name} = ... ({_in_words(hints[name])}); it has no default")
    if len(collector.mistakes) > before or any(True for _ in not_finite(table)):  # nan is told where all of them are
        return None
    try:
        return cls(**values)
    except ValueError as error:
        return collector.add_of_table(path, str(error))


def constants(
    function: Callable[..., Any], given: int, table: Any, path: Place, collector: MistakeCollector
) -> dict[str, Any] | None:
    """The constants of a function from its table: all its arguments after the first `given`, each a number or a table
    of numbers. None after a mistake."""
    before = len(collector.mistakes)
    arguments = list(inspect.signature(function).parameters.values())[given:]
    named = {a.name: a for a in arguments if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)}
    if not any(a.kind is a.VAR_KEYWORD for a in arguments):
        _refuse_unknown(table, named, path, collector)
    for name, argument in named.items():
        if name not in table and argument.default is argument.empty:
            collector.add((*path, name), "is missing", f"add {name} = ... (a number, or a table of numbers)")
    values = {
        name: checked(float | dict[str, float], value, (*path, name), collector)
        for name, value in table.items()
        if name != "kind"
    }
    return values if len(collector.mistakes) == before else None


def find(
    registry: Registry,
    table: Any,
    path: Place,
    collector: MistakeCollector,
    folders: Sequence[Any],
    default: str = "",
) -> Any:
    """What the table's `kind` names, or None after a mistake."""
    if not isinstance(table, Mapping):
        remedy = f'write it as a table: {dotted(path[-1:])} = {{kind = "..."}}'
        return collector.add(path, f"is {_shown(table)}, not a table", remedy)
    kind = table.get("kind", default)
    if not isinstance(kind, str) or not kind:
        remedy = f"one of {', '.join(registry.known)}, or 'module:name'"
        return collector.add((*path, "kind"), "is missing" if not kind else f"is {_shown(kind)}, not a name", remedy)
    try:
        return registry.find(kind, folders)
    except NotFound as error:
        return collector.add((*path, "kind"), error.problem, error.remedy)


def checked(hint: Any, value: Any, path: Place, collector: MistakeCollector) -> Any:
    """`value` as the annotation `hint` wants it, or None after a mistake."""
    adapter = TypeAdapter(hint, config=None if _is_model(hint) else ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_json(_json(value), strict=True, extra="forbid")
    except ValidationError as error:
        _note(error, value, path, collector, hint)
        return None


def from_model(
    model: type[BaseModel],
    table: Mapping[str, Any],
    collector: MistakeCollector,
    engine_tables: Sequence[str],
    folders: Sequence[Any] = (),
) -> Any:
    """The problem's settings from all tables that are not the engine's, or None after a mistake.

    folders: where modules of the user's own lie; validators find them as `info.context["folders"]`.
    """
    try:
        return model.model_validate_json(_json(table), strict=True, extra="forbid", context={"folders": folders})
    except ValidationError as error:
        _note(error, table, (), collector, model, engine_tables)
        return None


def _note(
    error: ValidationError,
    data: Any,
    path: Place,
    collector: MistakeCollector,
    hint: Any,
    also: Sequence[str] = (),
) -> None:
    """Every finding of pydantic as a mistake. A value that fits no member of a union is told once, not per member."""
    found: dict[Place, list[tuple[str, str]]] = {}
    for finding in error.errors(include_url=False):
        place = _place(finding["loc"], data, finding["type"] == "missing")
        found.setdefault(place, []).append(_told(finding, place, hint, also))
    for place, told in found.items():
        problems = list(dict.fromkeys(problem for problem, _ in told))
        remedies = list(dict.fromkeys(remedy for _, remedy in told if remedy))
        collector.add((*path, *place), " or ".join(problems), "; ".join(remedies))


def _told(finding: Any, place: Place, hint: Any, also: Sequence[str]) -> tuple[str, str]:
    kind, key = finding["type"], str(place[-1]) if place else ""
    if kind == "missing":
        return "is missing", f"add {key} = ..." if len(place) > 1 else f"add [{key}] or {key} = ..."
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = [*_keys(hint, place[:-1]), *(also if len(place) == 1 else ())]
        return f"{UNKNOWN} '{key}'", f"{did_you_mean(key, known)}known: {', '.join(known)}" if known else ""
    if kind in ("value_error", "assertion_error"):
        return str(finding["ctx"]["error"]), ""
    text = finding["msg"].removeprefix("Input ").replace("valid dictionary", "table").replace("an object", "a table")
    return f"{text}, it is {_shown(finding['input'])}", ""


def _place(loc: Sequence[str | int], data: Any, missing: bool) -> Place:
    """Pydantic's loc without what is not in the file: the names of union members."""
    place: list[str | int] = []
    for item in loc:
        inside = item in data if isinstance(data, Mapping) else isinstance(data, list) and item in range(len(data))
        if inside:
            place.append(item)
            data = data[item]
    if missing:
        place.append(loc[-1])
    return tuple(place)


def _keys(hint: Any, place: Place) -> list[str]:
    """Keys that are legal at `place` below a value annotated with `hint`."""
    members = [m for m in _members(hint) if m is not type(None)]
    if place:
        inner = [_inside(m, place[0]) for m in members]
        return list(dict.fromkeys(key for m in inner if m is not None for key in _keys(m, place[1:])))
    return list(
        dict.fromkeys(
            info.alias or name
            for m in members
            if isinstance(m, type) and issubclass(m, BaseModel)
            for name, info in m.model_fields.items()
        )
    )


def _inside(hint: Any, item: str | int) -> Any:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        fields = {info.alias or name: info.annotation for name, info in hint.model_fields.items()}
        return fields.get(str(item))
    arguments = typing.get_args(hint)
    if not arguments:
        return None
    return arguments[0] if isinstance(item, int) else arguments[-1]  # list[X], tuple[X, ...]; dict[str, X]


def _members(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is typing.Annotated:
        return _members(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [m for argument in typing.get_args(hint) for m in _members(argument)]
    return [hint]


def _builder(hint: Any, parts: Mapping[type, Builder]) -> Builder | None:
    for member in _members(hint):
        for base, builder in parts.items():
            if isinstance(member, type) and issubclass(member, base):
                return builder
    return None


def _refuse_unknown(
    table: Mapping[str, Any], known: Mapping[str, Any], path: Place, collector: MistakeCollector
) -> None:
    for name in table:
        if name not in known and name != "kind":
            remedy = f"{did_you_mean(name, known)}known: {', '.join(known)}" if known else "leave it out"
            collector.add((*path, name), f"{UNKNOWN} '{name}'", remedy)


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and (issubclass(hint, BaseModel) or dataclasses.is_dataclass(hint))


def _in_words(hint: Any) -> str:
    return " or ".join(getattr(m, "__name__", str(m)) for m in _members(hint))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _json(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot come from a TOML file")
