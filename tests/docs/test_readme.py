"""The recipes of README.md work as they stand: its files are written out and its commands run."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import re
import shlex
import tomllib

import numpy as np
import pytest
from paths import ROOT
from scipy.optimize import LinearConstraint, minimize

from decomp.parallel.ranks import Serial
from decomp.rules import RULES
from decomp.run.certificate import CertificateSettings
from decomp.run.options import Limits
from decomp.run.stopping import CRITERIA, RunStatus
from decomp.steps import STEPS

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|toml) (\S+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^    python mpi_run\.py (my_case\.toml .*)$", README, re.MULTILINE)


def lines_of_code(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def mpi_run():
    spec = importlib.util.spec_from_file_location("mpi_run", ROOT / "mpi_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def least_cost() -> float:
    """min 1/2 |d - p1 - p2|^2 + 1/4 (|p1|^2 + |p2|^2), power and stores within limits, as one problem by SLSQP."""
    demand, power_kw, capacity_kwh = np.array([2, 8, 3, 6]), (1.5, 2.5), (5.0, 8.0)

    def cost(x):
        p = x.reshape(2, 4)
        return float(((demand - p.sum(0)) ** 2).sum() / 2 + (p**2).sum() / 4)

    taken = np.kron(np.eye(2), np.tril(np.ones((4, 4))))  # from each store, up to each hour
    end = np.array([3, 7])
    half = np.repeat(np.array(capacity_kwh) / 2, 4)
    limits = [
        LinearConstraint(np.delete(taken, end, 0), -np.delete(half, end), np.delete(half, end)),
        LinearConstraint(taken[end], 0, 0),
    ]
    bounds = [(-w, w) for w in power_kw for _ in demand]
    best = minimize(cost, np.zeros(8), bounds=bounds, constraints=limits, tol=1e-12)
    assert best.success
    return float(best.fun)


def test_the_recipes_are_as_short_as_promised():
    assert set(FILES) == {
        "my_step.py", "my_rule.toml", "my_battery.py", "my_supplier.py", "my_market.py", "my_case.toml",
    }  # fmt: skip
    assert lines_of_code(FILES["my_step.py"]) == 3
    assert lines_of_code(FILES["my_battery.py"]) <= 20
    assert lines_of_code(FILES["my_supplier.py"]) <= 25


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_reach_the_optimum_and_prove_it(folder, mpi_run, monkeypatch, command):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    arguments = shlex.split(command)
    assert mpi_run.main(Serial(), arguments) == 0
    result = json.loads((folder / arguments[arguments.index("--out") + 1] / "result.json").read_text())
    assert result["status"] == "certified"
    assert result["objective"] == pytest.approx(least_cost(), rel=1e-4)
    assert result["lower_bound"] <= least_cost() + 1e-6


def test_both_commands_are_found():
    assert len(COMMANDS) == 2
    assert sum("--rule my_rule.toml" in command for command in COMMANDS) == 1


def test_files_and_folders_the_readme_names_are_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_status_of_a_run_is_explained():
    assert [status for status in RunStatus if f"`{status}`" not in README] == []


def test_the_case_files_page_is_right():
    page = (ROOT / "docs" / "case_file.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(\.\./([^)]+)\)", page)
    assert [link for link in links if not (ROOT / link).exists()] == []
    settings = [f.name for table in (CertificateSettings, Limits) for f in dataclasses.fields(table)]
    assert [name for name in settings if f"`{name}`" not in page] == []
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert {"case", "rule", "start", "stop", "certificate", "run"} == set(tomllib.loads(example[1]))


def test_kinds_are_listed_with_their_settings(mpi_run, capsys):
    assert mpi_run.main(Serial(), ["--kinds"]) == 0
    text = capsys.readouterr().out
    for name in (*RULES, *STEPS, *CRITERIA):
        assert re.search(rf"^  {name}: \w.+", text, re.MULTILINE), name
    exponential = text[text.index("  exponential:") :].splitlines()[1]
    assert exponential.strip() == "c1 (required), c2 (required), c3 (required), c4 (required)"
    assert "quantity (required), price (required)" in text
