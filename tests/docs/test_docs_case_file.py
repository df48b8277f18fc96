"""The page about the case file has every key of the engine's tables, with its default."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from paths import ROOT
from pydantic_core import PydanticUndefined

from decomp.case.config import ENGINE_TABLES, RunSettings, Title
from decomp.case.warm_start import StartSettings
from decomp.parallel.asynchronous import AsynchronousSettings
from decomp.run.certificate import CertificateSettings
from decomp.storage.checkpoint import CheckpointSettings
from problems.market.settings import SolverSettings
from problems.microgrid.settings import SolverSettings as MicrogridSolver

PAGE = (ROOT / "docs" / "case_file.md").read_text(encoding="utf-8")
TABLES = {
    "case": Title, "run": RunSettings, "start": StartSettings, "certificate": CertificateSettings,
    "checkpoint": CheckpointSettings, "asynchronous": AsynchronousSettings,
}  # fmt: skip


def on_the_page(table: str) -> dict[str, str]:
    """The keys of a table, with what its second column says of the default."""
    section = PAGE.partition(f"\n### [{table}]\n")[2].partition("\n### ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.MULTILINE))


def said(default: Any) -> str:
    if default in (dataclasses.MISSING, PydanticUndefined):
        return "required"
    return "none" if default is None else f"`{json.dumps(default)}`"


@pytest.mark.parametrize("table", TABLES)
def test_every_key_has_its_row_and_its_default(table):
    assert on_the_page(table) == {f.name: said(f.default) for f in dataclasses.fields(TABLES[table])}


def test_every_key_of_the_solvers_has_its_row_and_its_default():
    fields = {**SolverSettings.model_fields, **MicrogridSolver.model_fields}
    assert on_the_page("solver") == {name: said(f.default) for name, f in fields.items()}


def test_every_table_of_the_engine_is_on_the_page():
    assert {*TABLES, "rule", "stop"} == set(ENGINE_TABLES)
    assert [name for name in ENGINE_TABLES if f"[{name}" not in PAGE] == []
