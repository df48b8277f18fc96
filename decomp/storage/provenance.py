"""What a checkpoint belongs to: the case as run, the files it names, and the versions that decide the last bits."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

VERSIONS = ("tatonnement", "numpy", "scipy", "highspy", "piqp", "pyomo")
# what may differ when a run is resumed: how long it may go on, how often it is saved, what a failing block does
MAY_CHANGE = (
    "case.title", "case.about", "run.max_rounds", "run.time_limit_s", "run.on_failure", "run.rebalance_every",
    "run.columns",
    "checkpoint.every_rounds", "checkpoint.every_minutes", "checkpoint.keep",
)  # fmt: skip


def identity(tables: Mapping[str, Any], folder: Path, more: Iterable[Path] = ()) -> dict[str, Any]:
    """Of a case with these tables, whose relative paths start at `folder`: settings, files and versions, as text.

    more: files that belong to the case although its tables do not name them.
    """
    settings = dict(_leaves(tables))
    texts = {text: text.rpartition(":")[2] for text in settings.values() if isinstance(text, str)}
    files = {text: _content(folder / name) for text, name in sorted(texts.items()) if name.strip("./ ")}
    files |= {file.name: _content(file) for file in more}
    return {
        "settings": {k: json.dumps(v, default=_iso) for k, v in settings.items() if k not in MAY_CHANGE},
        "files": {name: found for name, found in files.items() if found},
        "versions": {"machine": platform.machine(), **{name: _version(name) for name in VERSIONS}},
    }


def differences(written: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, what has changed between two identities; empty for the same."""
    told = []
    for part, what in (("settings", ""), ("files", "the file "), ("versions", "")):
        before, after = written.get(part, {}), now.get(part, {})
        for name in sorted(set(before) | set(after)):
            if before.get(name) == after.get(name):
                continue
            if part == "files":
                told.append(f"{what}{name} has changed")
            else:
                told.append(f"{name} was {before.get(name, 'not there')}, is {after.get(name, 'not there')}")
    return told


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for i, item in enumerate(value):
            yield from _leaves(item, f"{path}[{i}]")
    else:
        yield path, value


def _content(path: Path) -> str:
    """SHA-256 of a file, or of the files right in a folder with their names; "" where there is none."""
    try:
        files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    except (OSError, ValueError):
        return ""  # a text that is no path
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
