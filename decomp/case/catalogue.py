"""What a case file can name, read from the things themselves so that the list is never out of date."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from decomp.case.config import described
from decomp.rules import RULES
from decomp.run.stopping import CRITERIA
from decomp.steps import STEPS


def kinds() -> str:
    """Every rule, step and criterion: its name, its settings with their defaults, and what it does."""
    sections: dict[str, Mapping[str, Any]] = {"[rule] kind": RULES, "[rule.step] kind": STEPS, "[stop.KIND]": CRITERIA}
    return "\n\n".join("\n".join([where, *_entries(known)]) for where, known in sections.items())


def section(sort: str) -> str:
    """One sort of things a case file can name; problems, coordinators and devices as packages register them."""
    own: dict[str, Mapping[str, Any]] = {"rules": RULES, "steps": STEPS, "stops": CRITERIA}
    if sort in own:
        return "\n".join(_entries(own[sort]))
    found = {entry.name: entry.load() for entry in entry_points(group=f"tatonnement.{sort}")}
    lines = [f"  {name}: {(inspect.getdoc(thing) or '').splitlines()[0]}" for name, thing in sorted(found.items())]
    return "\n".join(lines) or f"  no installed package registers {sort}"


def _entries(known: Mapping[str, Any]) -> Iterator[str]:
    for name, thing in known.items():
        yield f"  {name}: {(inspect.getdoc(thing) or '').splitlines()[0]}"
        settings = list(_settings(thing))
        if settings:
            yield f"      {', '.join(settings)}"


def _settings(thing: Any) -> Iterator[str]:
    if isinstance(thing, type):
        for field in dataclasses.fields(thing):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            yield _setting(field.name, default, default is dataclasses.MISSING)
        return
    for parameter in list(inspect.signature(thing).parameters.values())[2:]:  # all but the round and the scale
        yield _setting(parameter.name, parameter.default, parameter.default is parameter.empty)


def _setting(name: str, default: Any, required: bool) -> str:
    if required:
        return f"{name} (required)"
    shown = described(default, type(default).__name__) if dataclasses.is_dataclass(default) else default
    return f"{name} (optional)" if shown is None else f"{name} = {shown}"
