"""Names of units and scenarios as parts of file names: what a file system would refuse is refused before a run."""

from __future__ import annotations

from collections.abc import Iterable

from decomp.errors import Mistake
from decomp.messages import Coupling

LONGEST = 200  # bytes; most file systems take 255, and something stands before and after a name
FORBIDDEN = "/\\"


def trouble(name: str) -> str:
    """Why no file can have this name in its own; "" = it can."""
    if not name.strip() or name.strip(".") == "":
        return "is empty" if not name.strip() else "is a folder to the file system"
    found = [c for c in name if c in FORBIDDEN or ord(c) < 32 or ord(c) == 127]
    if found:
        return f"holds {found[0]!r}, which no file name can"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "holds a character that is none"
    return f"has {size} bytes, file names take {LONGEST}" if size > LONGEST else ""


def unwritable(couplings: Iterable[Coupling]) -> list[Mistake]:
    """The names of units and scenarios that cannot be part of a file name."""
    remedy = "use letters, digits, '-' and '_'"
    units = {c.unit: None for c in couplings}
    found = [
        Mistake("", "case", "problem", f"the name of unit {unit[:60]!r} {trouble(unit)}", remedy)
        for unit in units
        if trouble(unit)
    ]
    scenarios = {key.scenario: key.unit for c in couplings for key in c.prob}
    found += [
        Mistake("", "case", "problem", f"the name of scenario {name[:60]!r} of unit '{unit}' {trouble(name)}", remedy)
        for name, unit in scenarios.items()
        if trouble(name)
    ]
    return found
