"""Cases that installed packages bring with them, by name."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

CASE_GROUP = "tatonnement.cases"  # the entry-point group by which a package names its module of cases


def shipped() -> dict[str, Path]:
    """Case files by name, of all packages that have registered a module that holds some."""
    found: dict[str, Path] = {}
    for entry in entry_points(group=CASE_GROUP):
        folder = Path(str(files(entry.value)))
        found |= {file.stem: file for file in sorted(folder.glob("*.toml")) if _is_case(file)}
    return found


def find_case(name: str) -> Path:
    """A case file as it was given, or the shipped one of that name where there is no such file."""
    given = Path(name)
    return given if given.suffix or given.exists() else shipped().get(name, given)


def _is_case(file: Path) -> bool:
    """Rules and other tables of their own lie beside the cases."""
    return "case" in tomllib.loads(file.read_text(encoding="utf-8"))
