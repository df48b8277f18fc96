"""Checkpoints: everything that changes during a run, written down so that it can go on elsewhere.

    FOLDER/round-000012/manifest.json   round, identity of the case, SHA-256 of the other files; written last
                        root.npz        rule state, coordinator's and certificate's memory, rounds so far
                        blocks-0003.npz warm states of the blocks that lay on rank 3

A checkpoint is written beside, synced to disk and renamed: there is a whole one or none. The one before is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from decomp.errors import CheckpointError
from decomp.parallel.serialization import LARGEST, NOT_UNDERSTOOD, flatten, unflatten
from decomp.parallel.vocabulary import Vocabulary
from decomp.storage.provenance import differences

log = logging.getLogger(__name__)

FORMAT = 2
MANIFEST, ROOT = "manifest.json", "root.npz"
BLOCKS = re.compile(r"blocks-\d{4,}\.npz")
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError)


@dataclass(frozen=True)
class CheckpointSettings:
    """The [checkpoint] table: how often, and how many are kept.

    every_rounds   after every so many rounds; 0 = not by rounds
    every_minutes  at the end of the first round after so many minutes; 0 = not by the clock
    keep           so many of the newest stay

    One is also written when a run ends by a signal, a limit or a failure.
    """

    every_rounds: int = 0
    every_minutes: float = 10.0
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every_rounds < 0 or self.every_minutes < 0:
            raise ValueError("every_rounds and every_minutes must not be negative; 0 = never for that reason")
        if self.keep < 1:
            raise ValueError("keep must be at least 1; 2 keeps the one before the newest, too")


class Keeper:
    """Writes the checkpoints of one run into `folder`; identity tells which case and versions they belong to.

    resumed  the round the run was resumed at from this folder, None for a run from the start or from elsewhere: then
             checkpoints that lie in the folder are another run's, and are moved to FOLDER.before
    """

    def __init__(
        self, folder: Path, settings: CheckpointSettings, identity: Mapping[str, Any], resumed: int | None = None
    ) -> None:
        self.folder, self.settings, self.identity = folder, settings, identity
        self.newest = resumed
        self._foreign = resumed is None
        self._written = time.monotonic()

    def due(self, done: int) -> bool:
        """Is it time for one after `done` rounds?"""
        s = self.settings
        by_rounds = s.every_rounds > 0 and done % s.every_rounds == 0
        return by_rounds or (s.every_minutes > 0 and time.monotonic() - self._written >= 60 * s.every_minutes)

    def save(
        self,
        done: int,
        content: Any,
        shared: Mapping[str, Any],
        vocabulary: Vocabulary,
        save_blocks: Callable[[Path], Mapping[str, str]],
    ) -> str:
        """Write the checkpoint after `done` rounds; returns what went wrong, "" if nothing: a run goes on without."""
        beside = self.folder / ".unfinished"
        self._written = time.monotonic()
        try:
            self._make_room(beside)
            structure, arrays = flatten(content, shared, vocabulary)
            told = np.frombuffer(json.dumps(structure).encode(), np.uint8)
            written = {str(i): array for i, array in enumerate(arrays)}
            files = {ROOT: write_arrays(beside / ROOT, {**written, "structure": told}), **save_blocks(beside)}
            self._write_manifest(beside / MANIFEST, done, files)
            _sync(beside)
            self._into_place(beside, done)
        except (OSError, CheckpointError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            text = f"no checkpoint after round {done - 1}: {error}"
            log.warning("%s%s", text, "" if self.newest is None else "; the one before is untouched")
            return text
        self.newest = done
        return ""

    def _make_room(self, beside: Path) -> None:
        if self._foreign and any(self.folder.glob("round-*")):
            before = self.folder.with_name(self.folder.name + ".before")
            shutil.rmtree(before, ignore_errors=True)
            self.folder.rename(before)
            log.warning("checkpoints of an earlier run were moved to %s", before)
        self._foreign = False
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)

    def _write_manifest(self, path: Path, done: int, files: Mapping[str, str]) -> None:
        content = {"format": FORMAT, "rounds": done, "identity": self.identity, "files": dict(files)}
        with path.open("w", encoding="utf-8") as file:
            json.dump({"sha256": _digest(content), "content": content}, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())

    def _into_place(self, beside: Path, done: int) -> None:
        place = self.folder / _name(done)
        if place.exists():  # resumed before it, because it is damaged
            shutil.rmtree(place)
        beside.rename(place)
        _sync(self.folder)
        found = sorted(self.folder.glob("round-*"))
        # what lies beyond the round that was just written has been found damaged when the run was resumed
        for old in [f for f in found if f.name > place.name] + [f for f in found if f.name <= place.name][
            : -self.settings.keep
        ]:
            shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been found whole: its folder, the number of rounds in it and its block files."""

    folder: Path
    rounds: int
    block_files: tuple[str, ...]

    def content(self, shared: Mapping[str, Any], vocabulary: Vocabulary) -> Any:
        """What was given to `Keeper.save`. Raises CheckpointError."""
        arrays = read_arrays(self.folder / ROOT)
        try:
            structure = json.loads(arrays.pop("structure").tobytes())
            numbered = {int(i): array for i, array in arrays.items()}
        except NOT_UNDERSTOOD as error:
            raise CheckpointError(f"{self.folder / ROOT} is not understood: {type(error).__name__}: {error}") from error
        return unflatten(structure, numbered, shared, vocabulary)


def find_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """The newest whole checkpoint in `folder`; damaged ones are passed over with a warning.

    Raises CheckpointError where there is none, and where the newest whole one belongs to another case or version.
    """
    found = sorted(folder.glob("round-*"), reverse=True)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint")
    reasons = []
    for place in found:
        try:
            content = _verified(place)
        except CheckpointError as error:
            log.warning("checkpoint %s is passed over: %s", place, error)
            reasons.append(f"{place.name}: {error}")
            continue
        foreign = differences(content["identity"], identity)
        if foreign:
            raise CheckpointError(f"{place} belongs to another run: {'; '.join(foreign)}")
        return Checkpoint(place, content["rounds"], tuple(sorted(set(content["files"]) - {ROOT})))
    raise CheckpointError(f"{folder} holds no whole checkpoint: {'; '.join(reasons)}")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays as npz, synced to disk; returns the SHA-256 of what can be read back."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    return _hash(path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, without pickle, none larger than what is there of it. Raises CheckpointError."""
    try:
        with path.open("rb") as opened, zipfile.ZipFile(opened) as entries:
            _refuse_promises(entries)
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise CheckpointError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _refuse_promises(entries: zipfile.ZipFile) -> None:
    """Raises ValueError where an array says that it is larger than what is there of it: memory is asked for first."""
    for entry in entries.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} is compressed, which no checkpoint is")
        with entries.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            if dtype.hasobject:
                raise ValueError(f"{entry.filename} is an array of objects")
            if math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
                raise ValueError(f"{entry.filename} has the shape {shape}, which is not its size")


def _verified(place: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        content = manifest["content"]
        if manifest["sha256"] != _digest(content):
            raise CheckpointError(f"{MANIFEST} does not have its checksum")
        if content["format"] != FORMAT:
            raise CheckpointError(f"its format is {content['format']}, this version reads {FORMAT}")
        if type(content["rounds"]) is not int or not 0 < content["rounds"] < LARGEST:
            raise CheckpointError(f"it says that it was written after {content['rounds']!r} rounds")
        strange = [name for name in content["files"] if name != ROOT and not BLOCKS.fullmatch(name)]
        if strange or ROOT not in content["files"]:
            raise CheckpointError(f"{MANIFEST} names {', '.join(strange) or 'no ' + ROOT}, which no checkpoint does")
        for name, digest in content["files"].items():
            if _hash(place / name) != digest:
                raise CheckpointError(f"{name} does not have its checksum")
    except (OSError, *NOT_UNDERSTOOD) as error:
        raise CheckpointError(f"cannot be read: {type(error).__name__}: {error}") from error
    return dict(content)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """The names in a folder are on disk only when the folder itself is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _name(done: int) -> str:
    return f"round-{done:06d}"
