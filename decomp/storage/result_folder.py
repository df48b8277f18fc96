"""Whose a result folder is: a run replaces what a run of the same case has left there, and nothing else.

`result.json` tells the case and the files of the run that has the folder; while a run goes, its status is `running`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

SUMMARY = "result.json"
RUNNING = "running"
ASIDE = ".before"  # where the files of the run before lie until this one has begun
OWN = (".running", ".running.lock", ".room", ASIDE)  # of any run, and of no case
CHECKPOINTS = ("checkpoints", "checkpoints.before")  # a run that starts anew moves them itself
UPFRONT = ("iterations.csv", "prices.csv", "offers.csv")


class ResultFolder:
    """The folder that a run of a case with these tables writes into.

    force    take a folder that holds something else, and remove the links in it
    resumed  the run goes on from a checkpoint in this folder: then it is its own, whatever the case is called now
    """

    def __init__(self, path: Path, tables: Mapping[str, Any], *, force: bool = False, resumed: bool = False) -> None:
        self.path, self.tables, self.force, self.resumed = path, tables, force, resumed
        self._kept: bytes | None = None  # result.json of the run before
        self.before: list[str] = []  # the files of the run before
        self._ended = False

    def trouble(self) -> str:
        """Why nothing may be written there, with the remedy; "" = it may. Raises OSError."""
        if self.force:
            return ""
        links = self._links()
        if links:
            return f"{links[0]} is a symbolic link, and nothing is written through one; remove it, or add --force"
        found = sorted(entry.name for entry in os.scandir(self.path) if entry.name not in OWN)
        if not found or self.resumed:
            return ""
        owner = _owner(_summary(self.path / SUMMARY))
        remedy = "give another folder, or add --force to write there all the same"
        if owner is None:
            return f"it holds files of something else ({', '.join(found[:3])}{', ...' if found[3:] else ''}); {remedy}"
        if owner != _owner({"case": self.tables}):
            return f"it holds the results of another case, '{owner[0]}'; {remedy}"
        return ""

    def begin(self) -> None:
        """Mark the folder as that of a run which goes; put the files of the run before aside. Raises OSError."""
        for link in self._links() if self.force else ():
            link.unlink()
        before = self.path / SUMMARY
        self._kept = before.read_bytes() if before.exists() else None
        self.before = [name for name in _files(_summary(before)) if (self.path / name).is_file()]
        if not self.resumed:
            shutil.rmtree(self.path / ASIDE, ignore_errors=True)
            _move(self.before, self.path, self.path / ASIDE)
        write_json(
            before,
            {
                "status": RUNNING,
                "reason": "the run has not ended; if none is going on, it died: --resume goes on from its checkpoint",
                "case": self.tables,
                "files": sorted({*UPFRONT, *self.before}),
            },
        )

    def give_back(self) -> None:
        """The run was refused before it did anything: all is as it was. Nothing to do where it has ended."""
        if self._ended:
            return
        summary, aside = self.path / SUMMARY, self.path / ASIDE
        with contextlib.suppress(OSError):
            if not self.resumed:
                _move(self.before, aside, self.path)
                shutil.rmtree(aside, ignore_errors=True)
            kept = self._kept
            if kept is None:
                summary.unlink(missing_ok=True)
            else:
                replace(summary, lambda file: file.write(kept))

    def remove_links(self) -> None:
        """Before others write into the folder: a link that has come into it since is removed, and not followed."""
        for link in self._links():
            link.unlink()

    def end(self, written: Iterable[Path]) -> list[str]:
        """These are the files of the run, beside result.json; what the run before has left of its own goes."""
        names = sorted({os.path.relpath(file, self.path) for file in written} - {SUMMARY})
        for name in set(self.before) - set(names) if self.resumed else ():
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / ASIDE, ignore_errors=True)
        self._ended = True
        return names

    def _links(self) -> list[Path]:
        """Links in the folder and, of what a run has there, in the folders below."""
        found, waiting = [], [self.path]
        while waiting:
            for entry in os.scandir(waiting.pop()):
                if entry.is_symlink():
                    found.append(Path(entry.path))
                elif entry.is_dir() and (entry.name in CHECKPOINTS or entry.name == "figures"):
                    waiting.append(Path(entry.path))
        return sorted(found)


def opened(path: Path, mode: str, **how: Any) -> IO[Any]:
    """Open a file for writing that is no symbolic link. Raises OSError."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | _NO_LINK, 0o666), **how)


def replace(path: Path, write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file beside and put it in place: there is the old one or the new one, and no link is followed."""
    beside = path.with_name(path.name + ".unfinished")
    beside.unlink(missing_ok=True)
    with opened(beside, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    return beside.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write plain values as JSON, dates as text."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    return replace(path, lambda file: file.write(text.encode(errors="backslashreplace")))


_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def _summary(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _owner(summary: Mapping[str, Any]) -> tuple[str, str] | None:
    """Title and problem of the case; None where it is no summary of a run."""
    case = summary.get("case")
    head = case.get("case") if isinstance(case, Mapping) else None
    if not isinstance(head, Mapping):
        return None
    return str(head.get("title")), str(head.get("problem"))


def _files(summary: Mapping[str, Any]) -> list[str]:
    """The files of a run by its summary: names below the folder, none that leads out of it."""
    found = summary.get("files")
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else list(UPFRONT)
    return [n for n in names if n and not os.path.isabs(n) and ".." not in Path(n).parts and n != SUMMARY]


def _move(names: Iterable[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).rename(target / name)
