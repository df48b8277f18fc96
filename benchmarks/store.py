"""Finished work on disk, by content: what a benchmark has done once it does not do again.

The name of a record is made of the run itself (tables, start, limits) and of the source it ran on: the engine, the
problems and the modules of the user's own that its tables name. A change of a rule makes new runs, a change of a figure
does not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.plan import content_key

ROOT = Path(__file__).parents[1]
ON_TOP = ("__main__", "figures", "page", "pool", "report", "store")  # what shows or administers results


class Store:
    """One JSON file a record; written beside and renamed, so that an interruption leaves no half of one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> dict[str, Any] | None:
        """The record, or None; one that cannot be read counts as not done."""
        try:
            record = json.loads((self.folder / f"{key}.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return record if isinstance(record, dict) else None

    def put(self, key: str, record: Mapping[str, Any]) -> None:
        beside = self.folder / f"{key}.{os.getpid()}.tmp"
        beside.write_text(json.dumps(record, default=str))
        beside.replace(self.folder / f"{key}.json")


def run_key(what: Any, limits: Any, tables: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """The name of a record: what was done, under which limits, by which code."""
    own = sorted({name.split(":")[0] for name in _texts(tables) if re.fullmatch(r"[\w.]+:\w+", name)})
    return content_key([what, limits, _engine_source(), [_source_of(module, tuple(folders)) for module in own]])


@cache
def _engine_source() -> str:
    files = [f for package in ("decomp", "problems") for f in sorted((ROOT / package).rglob("*.py"))]
    files += [f for f in sorted((ROOT / "benchmarks").glob("*.py")) if f.stem not in ON_TOP]
    return _hash(files)


def _source_of(module: str, folders: tuple[Path, ...]) -> str:
    """Hash of a user's module; the project's own are in the engine's already."""
    if module.split(".")[0] in ("decomp", "problems", "benchmarks"):
        return module
    path = Path(*module.split(".")).with_suffix(".py")
    found = next((folder / path for folder in folders if (folder / path).is_file()), None)
    if found is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        found = Path(spec.origin) if spec and spec.origin else None
    return f"{module} {_hash([found])}" if found else module


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
