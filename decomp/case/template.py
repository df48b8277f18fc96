"""A case of one's own, begun from one that runs: its file and the data it names."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_case(source: Path, folder: Path) -> Path:
    """Copy a case file to folder/case.toml, with every file and folder below its own that it names; returns it."""
    folder.mkdir(parents=True)
    text = source.read_text(encoding="utf-8")
    for name in dict.fromkeys(_texts(tomllib.loads(text))):
        named = source.parent / name
        inside = not Path(name).is_absolute() and named.resolve().is_relative_to(source.parent.resolve())
        if not inside or not name.strip("./") or not named.exists():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if named.is_dir():
            shutil.copytree(named, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(named, target)
    file = folder / "case.toml"
    file.write_text(text, encoding="utf-8")
    return file


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
