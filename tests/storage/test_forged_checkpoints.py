"""Whoever can write into a result folder can forge a checkpoint with right checksums: nothing in it is executed."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import SUPPORT

from decomp.case.config import load
from decomp.errors import CheckpointError, RefusedError
from decomp.run.engine import run
from decomp.run.options import Output, Start
from decomp.run.result_files import GrowingFiles
from decomp.storage.checkpoint import MANIFEST, ROOT, Checkpoint, CheckpointSettings, Keeper, find_checkpoint

STOPPED, ROUNDS = 3, 6
CASE = """
[case]
title = "Units that remember"
problem = "rough_market:Market"
[rule]
kind = "auto"
[run]
max_rounds = 6
[certificate]
every = 2
[market]
units = 3
"""
NAMES = (
    "os:system", "os.system", "builtins:eval", "subprocess:Popen", "subprocess.Popen", "steps.Step", "admm.ADMM",
    "pathlib:Path", "", ":", "a" * 10_000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 10**30, 1e308, "", "x", [], {}, [[]], {"array": 10**9}, {"array": "0"}, {"array": -1},
    {"scalar": 0}, {"shared": "nothing"}, {"shared": "setup"}, {"tuple": []}, {"dict": [[1]]}, {"list": None},
    {"dict": [[{"list": []}, 1]]},
)  # fmt: skip


def case(folder: Path) -> Any:
    return load(folder / "case.toml")


def go(folder: Path, rounds: int, resume: Checkpoint | None = None) -> Any:
    """Run the case in `folder`, or go on from a checkpoint."""
    read = load(folder / "case.toml", [f"run.max_rounds={rounds}"])
    keeper = Keeper(folder / "checkpoints", CheckpointSettings(every_rounds=1, keep=1), read.identity)
    return run(
        read.problem.subproblem, read.problem.coordinator, read.rule, coupling=read.problem.couplings, stop=read.stop,
        limits=read.limits, certificate=read.certificate,
        output=Output(files=GrowingFiles(folder), keeper=keeper),
        start=Start(checkpoint=resume),
    )  # fmt: skip


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    for name in ("rough_market.py", "closed_form.py"):
        shutil.copy(SUPPORT / name, folder)
    (folder / "case.toml").write_text(CASE)
    go(folder, STOPPED)
    return folder


@pytest.fixture
def forged(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "forged"))


def only_checkpoint(folder: Path) -> Path:
    (found,) = (folder / "checkpoints").glob("round-*")
    return found


def seal(place: Path, change: Callable[[dict[str, Any]], None] = lambda content: None) -> None:
    """Give every file, and the manifest, their right checksums."""
    content = json.loads((place / MANIFEST).read_text())["content"]
    for name in content["files"]:
        content["files"][name] = hashlib.sha256((place / name).read_bytes()).hexdigest()
    change(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (place / MANIFEST).write_text(json.dumps({"sha256": digest, "content": content}))


def arrays_of(place: Path) -> dict[str, np.ndarray]:
    with np.load(place / ROOT) as file:
        return {name: file[name] for name in file.files}


def structure_of(arrays: dict[str, np.ndarray]) -> Any:
    return json.loads(arrays["structure"].tobytes())


def put(place: Path, arrays: dict[str, np.ndarray], structure: Any) -> None:
    text = np.frombuffer(json.dumps(structure).encode(), np.uint8)
    np.savez(place / ROOT, **{**arrays, "structure": text})
    seal(place)


def go_on(folder: Path) -> Any:
    read = load(folder / "case.toml", [f"run.max_rounds={ROUNDS}"])
    return go(folder, ROUNDS, find_checkpoint(folder / "checkpoints", read.identity))


def tables(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from tables(inner)


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from spots(inner)


def test_a_checkpoint_sealed_anew_is_resumed(forged):
    place = only_checkpoint(forged)
    arrays = arrays_of(place)
    put(place, arrays, structure_of(arrays))
    assert len(go_on(forged).rows) == ROUNDS


def test_no_rule_no_step_and_no_function_is_written_down(stopped):
    told = list(tables(structure_of(arrays_of(only_checkpoint(stopped)))))
    assert not any("function" in table for table in told)
    kinds = {table["class"] for table in told if "class" in table}
    assert "auto.AutoState" in kinds
    assert not any("Step" in kind or ":" in kind for kind in kinds)


def test_a_command_in_place_of_the_rule_is_refused(forged, tmp_path):
    """The state of `auto` once named the rule it had picked; its step was called, whatever function that was."""
    marker, place = tmp_path / "marker", only_checkpoint(forged)
    arrays = arrays_of(place)
    structure = structure_of(arrays)
    auto = next(t for t in tables(structure) if t.get("class") == "auto.AutoState")
    for function in ({"function": "os:spawnv"}, {"class": "os:spawnv", "fields": {}}, "os:spawnv"):
        words = {"list": [shutil.which("touch"), str(marker)]}
        step = {"class": "steps.Step", "fields": {"function": function, "constants": {"dict": [["args", words]]}}}
        auto["fields"]["rule"] = {"class": "dual_ascent.DualAscent", "fields": {"step": step}}
        put(place, arrays, structure)
        with pytest.raises(CheckpointError):
            go_on(forged)
        assert not marker.exists()


class Starts:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


def test_a_pickle_is_not_read(forged, tmp_path):
    place = only_checkpoint(forged)
    arrays = arrays_of(place)
    held = np.empty(1, object)
    held[0] = Starts(tmp_path / "marker")
    put(place, {**arrays, "0": held}, structure_of(arrays))
    with pytest.raises(CheckpointError, match="array of objects"):
        go_on(forged)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_says_it_is_huge_takes_no_memory(forged, method):
    place = only_checkpoint(forged)
    arrays = arrays_of(place)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(place / ROOT, "w", method) as file:
        for name, value in arrays.items():
            with file.open(f"{name}.npy", "w") as entry:
                entry.write(head.getvalue()) if name == "0" else np.lib.format.write_array(entry, value)
    seal(place)
    with pytest.raises(CheckpointError, match=r"which is not its size|compressed"):
        go_on(forged)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(rounds=-3), "after -3 rounds"),
        (lambda c: c.update(rounds=True), "after True rounds"),
        (lambda c: c.update(rounds=2), "does not hold the 2 rounds"),
        (lambda c: c["files"].update({"../../outside.npz": ""}), "names ../../outside.npz"),
        (lambda c: c["files"].pop(ROOT), "names no root.npz"),
    ],
)
def test_a_manifest_that_lies_is_refused(forged, change, words):
    seal(only_checkpoint(forged), change)
    with pytest.raises(CheckpointError, match=words):
        go_on(forged)


@pytest.mark.parametrize(
    ("kind", "field", "value", "words"),
    [
        ("result.Round", "k", "three", r"Round\.k is a str where int belongs"),
        ("result.Round", "node_price", {"list": [1.0]}, r"Round\.node_price is a list"),
        ("recorder.RoundsSoFar", "rows", {"dict": []}, "other columns"),
        ("layout.Answers", "layout", None, r"Answers\.layout is a NoneType"),
        ("auto.AutoState", "setup", {"shared": "layout"}, r"AutoState\.setup is a Layout"),
        ("recorder.RoundsSoFar", "final", None, "does not hold the 3 rounds"),
    ],
)
def test_fields_are_what_their_annotations_say(forged, kind, field, value, words):
    place = only_checkpoint(forged)
    arrays = arrays_of(place)
    structure = structure_of(arrays)
    next(t for t in tables(structure) if t.get("class") == kind)["fields"][field] = value
    put(place, arrays, structure)
    with pytest.raises(CheckpointError, match=words):
        go_on(forged)


def drawn(structure: Any, draw: random.Random) -> Any:
    """One drawn place of the structure is something else."""
    container, key = draw.choice(list(spots(structure)))
    named = [t for t in tables(structure) if {"class", "named", "enum"} & set(t)]
    if draw.random() < 0.5:
        table = draw.choice(named)
        table[next(word for word in ("class", "named", "enum") if word in table)] = draw.choice(NAMES)
    else:
        kind = {draw.choice(["function", "class", "enum", "named"]): draw.choice(NAMES), "fields": {}, "value": 1}
        container[key] = copy.deepcopy(draw.choice([*VALUES, kind]))
    return structure


def test_drawn_changes_are_refused_in_words_or_harmless(forged):
    place = only_checkpoint(forged)
    arrays, draw, refused = arrays_of(place), random.Random(1), 0
    whole = Path(shutil.copytree(place, forged / "whole"))
    for _ in range(150):
        shutil.rmtree(forged / "checkpoints")
        shutil.copytree(whole, place)
        put(place, arrays, drawn(structure_of(arrays), draw))
        try:
            go_on(forged)
        except (CheckpointError, RefusedError):
            refused += 1
    assert refused > 75
