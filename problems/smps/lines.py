"""The lines of an MPS-like file: sections, fields, and where each stands."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from decomp.errors import InputError, Mistake

Format = Literal["auto", "free", "fixed"]
FIXED = ((1, 3), (4, 12), (14, 22), (24, 36), (39, 47), (49, 61))  # columns of the six fields, counted from 0
INFINITE = 1e20  # numbers of this size mean no limit, as in HiGHS


@dataclass(frozen=True)
class Line:
    """One line: its number, counted from 1, and its fields; a head begins in the first column and opens a section."""

    number: int
    head: bool
    fields: tuple[str, ...]


@dataclass
class Reading:
    """One file being read: its lines, and the mistakes found in them.

    name   as the user named it, for texts
    fixed  fields lie in fixed columns, and names may hold spaces
    """

    name: str
    lines: tuple[Line, ...]
    fixed: bool
    section: str = ""
    mistakes: list[Mistake] = field(default_factory=list)

    def note(self, line: Line | int, problem: str, remedy: str = "") -> Any:
        """Note a mistake of a line of the present section; None, for callers that have nothing to return then."""
        number = line if isinstance(line, int) else line.number
        self.mistakes.append(Mistake(self.name, self.section, f"line {number}", problem, remedy))

    def sections(self) -> Iterator[tuple[Line, list[Line]]]:
        """Each head with the lines below it. A file that does not end with ENDATA is noted: it may be cut."""
        head, below = None, list[Line]()
        for line in self.lines:
            if not line.head:
                below.append(line)
                continue
            if head is not None:
                self.section = head.fields[0].upper()
                yield head, below
            elif below:
                self.note(below[0], "stands before the first section", "sections begin in the first column")
            head, below = line, []
            if line.fields[0].upper() == "ENDATA":
                return
        if head is not None:
            self.section = head.fields[0].upper()
            yield head, below
        self.section = ""
        last = self.lines[-1].number if self.lines else 1
        self.note(last, "the file ends without ENDATA", "add that line if the file is complete; it may have been cut")

    def value(self, line: Line, text: str) -> float | None:
        """A number, also with the exponent D of Fortran; None, noted, where it is none."""
        try:
            value = float(text.replace("D", "E").replace("d", "e"))
        except ValueError:
            value = math.nan
        if math.isnan(value) or "_" in text:
            self.note(line, f"'{text}' is not a number")
            return None
        return value


def reading(file: Path, name: str, form: Format, *, fixed: bool = False) -> Reading:
    """The lines of a file. In "auto", fields are parted by spaces unless `fixed`, or unless names in ROWS hold spaces.

    Raises InputError where the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        remedy = "paths start at the case file's folder; .tim and .sto lie beside the core file unless they are named"
        raise InputError([Mistake(name, "", "", f"cannot be read ({file}): {why}", remedy)]) from error
    raw = [
        (number, line.rstrip())
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.startswith("*")
    ]
    fixed = form == "fixed" or (form == "auto" and (fixed or _spaced(raw)))
    return Reading(name, tuple(_line(number, line, fixed) for number, line in raw), fixed)


def _line(number: int, text: str, fixed: bool) -> Line:
    head = not text[0].isspace()
    if head or not fixed:
        return Line(number, head, tuple(text.split()))
    return Line(number, head, tuple(part for a, b in FIXED if (part := text.expandtabs()[a:b].strip())))


def _spaced(raw: list[tuple[int, str]]) -> bool:
    """Do names of rows hold spaces? Then fields must lie in fixed columns."""
    inside = False
    for _, line in raw:
        if not line[0].isspace():
            inside = line.split()[0].upper() == "ROWS"
        elif inside and len(line.split()) > 2:
            return True
    return False
