"""The case of units that remember: written to a folder, disturbed, and cut at a checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from paths import SUPPORT

CASE = """
[case]
title = "Units that remember"
problem = "rough_market:Market"
[rule]
kind = "admm"
penalty = 0.3
[stop.residual]
quantity = 1e-4
price = 1e-4
[certificate]
every = 4
[run]
max_rounds = 200
[checkpoint]
every_rounds = 1
keep = 100
[market]
units = 3
"""


def rough_case(folder: Path) -> Path:
    shutil.copy(SUPPORT / "rough_market.py", folder)
    (folder / "case.toml").write_text(CASE)
    return folder / "case.toml"


def summary(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def only(source: Path, target: Path, rounds: int) -> Path:
    """A result folder with nothing but the checkpoint after so many rounds, as a run that was killed leaves it."""
    name = f"round-{rounds:06d}"
    shutil.copytree(source / "checkpoints" / name, target / "checkpoints" / name)
    for grown in ("iterations.csv", "prices.csv", "offers.csv"):
        shutil.copy(source / grown, target)
    return target


def trouble(kind: str, last: int, *more: str) -> list[str]:
    texts = (f"trouble={{unit='u1', kind='{kind}', first=3, last={last}}}", *more)
    return [a for text in texts for a in ("--set", text)]
