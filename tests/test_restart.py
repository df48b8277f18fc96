"""A run that is taken up again ends with the files of one that was never interrupted; bad checkpoints are refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
from pathlib import Path

import pytest

from decomp.ranks import Serial

ROOT = Path(__file__).parents[1]
CAMPUS = ROOT / "problems" / "cases" / "chalmers_undervoltage.toml"
TIMES = ("wall_time_s", "solver_time_s")


@pytest.fixture(scope="module")
def command():
    """mpi_run.main on this process alone."""
    spec = importlib.util.spec_from_file_location("mpi_run", ROOT / "mpi_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main(Serial(), [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def clean_logging(monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


def contents(folder: Path) -> dict:
    """What must not depend on interruptions; iterations.csv without its measured times."""
    with (folder / "iterations.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    return {"rows": rows, **{n: (folder / n).read_bytes() for n in ("prices.csv", "offers.csv")}}


def summary(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


EVERY = ("--set", "checkpoint.every_rounds=1", "--set", "checkpoint.keep=100", "--quiet")
