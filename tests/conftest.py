"""What several test modules share: a small case in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from paths import SUPPORT

CASE = """
[case]
title = "Two units share a demand"
problem = "tiny_market:Market"

[rule]
kind = "dual_ascent"
[rule.step]
kind = "constant"
a = 0.5

[stop.residual]
quantity = 1e-6
price = 1e-6

[certificate]
every = 0

[run]
max_rounds = 200

[market]
demand = "demand.csv"
steps = 2

[unit.coal]
slope = 1.0
[unit.gas]
slope = 2.0
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A right case file: slopes 1 and 2, demands 3 and 6 -> prices 2 and 4, cost 15."""
    shutil.copy(SUPPORT / "tiny_market.py", tmp_path)
    (tmp_path / "demand.csv").write_text("demand\n3\n6\n")
    case = tmp_path / "case.toml"
    case.write_text(CASE)
    return case
