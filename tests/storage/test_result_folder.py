"""A run replaces what a run of the same case has left in its folder, and nothing else; no link leads it elsewhere."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from pathlib import Path

import pytest
from paths import ROOT

from decomp.parallel.ranks import Serial


@pytest.fixture(scope="module")
def command():
    """mpi_run.main on this process alone."""
    spec = importlib.util.spec_from_file_location("mpi_run", ROOT / "mpi_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main(Serial(), [*map(str, arguments), "--quiet"])


@pytest.fixture(autouse=True)
def clean_logging(monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def summary(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("name", ["notes.txt", "prices.csv", "result.json", ".hidden"])
def test_a_folder_with_files_of_something_else_is_refused_without_force(command, tiny, tmp_path, capsys, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    assert command(tiny, "--out", out) == 2
    assert f"holds files of something else ({name})" in capsys.readouterr().err
    assert contents(out) == {name: b"mine"}
    assert command(tiny, "--out", out, "--force") == 0
    assert summary(out)["status"] == "residual"


def test_the_results_of_another_case_are_refused_and_with_force_do_not_mix(command, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(tiny, "--out", out) == 0
    (out / "old.csv").write_text("a table of the problem's\n")
    told = summary(out)
    (out / "result.json").write_text(json.dumps({**told, "files": [*told["files"], "old.csv", "../outside.txt"]}))
    (tmp_path / "outside.txt").write_text("kept")
    before, other = contents(out), ("--set", "case.title='Another'")
    assert command(tiny, "--out", out, *other) == 2
    assert "another case, 'Two units share a demand'" in capsys.readouterr().err
    assert contents(out) == before
    assert command(tiny, "--out", out, *other, "--force") == 0
    assert not (out / "old.csv").exists()
    assert (tmp_path / "outside.txt").read_text() == "kept"


def test_the_same_case_again_replaces_its_own_files_and_no_other(command, tiny, tmp_path):
    out = tmp_path / "out"
    assert command(tiny, "--out", out, "--set", "unit.coal.writes='first.csv'") == 0
    (out / "notes.txt").write_text("mine")
    assert (out / "first.csv").exists()
    assert command(tiny, "--out", out, "--set", "unit.coal.writes='second.csv'") == 0
    assert not (out / "first.csv").exists()
    assert {"second.csv", "notes.txt", "prices.csv", "result.json"} <= set(contents(out))
    assert not {name for name in contents(out) if ".before" in name or "unfinished" in name}
    assert {"second.csv", "prices.csv", "offers.csv"} <= set(summary(out)["files"])
    assert "notes.txt" not in summary(out)["files"]


def test_a_refused_run_leaves_the_results_before_it_as_they_were(command, tiny, tmp_path):
    out = tmp_path / "out"
    assert command(tiny, "--out", out) == 0
    before = contents(out)
    text = (tmp_path / "tiny_market.py").read_text().replace('"evaluate", "penalty"', '"evaluate"')
    (tmp_path / "weak_market.py").write_text(text)
    tiny.write_text(tiny.read_text().replace("tiny_market:", "weak_market:"))
    told = json.dumps(
        {**summary(out), "case": {"case": {**summary(out)["case"]["case"], "problem": "weak_market:Market"}}}
    )
    (out / "result.json").write_text(told)
    assert command(tiny, "--out", out, "--rule", "admm", "--set", "rule.penalty=1") == 2
    assert contents(out) == {**before, "result.json": told.encode()}


def test_the_summary_says_that_a_run_goes_until_all_else_is_written(command, tiny, tmp_path):
    out = tmp_path / "out"
    assert command(tiny, "--out", out, "--set", "unit.coal.writes='seen.csv'") == 0
    seen = json.loads((out / "seen.csv").read_text())
    assert seen["status"] == "running"
    assert seen["case"]["case"]["title"] == summary(out)["case"]["case"]["title"]
    assert summary(out)["status"] == "residual"


@pytest.mark.parametrize("name", ["prices.csv", "result.json.unfinished", "figures/x.png", "checkpoints", ".running"])
@pytest.mark.parametrize("target", ["file", "nothing", "folder"])
def test_no_link_is_written_through(command, tiny, tmp_path, capsys, name, target):
    out, outside = tmp_path / "out", tmp_path / "outside"
    assert command(tiny, "--out", out) == 0
    outside.mkdir()
    (outside / "file").write_text("kept")
    aim = {"file": outside / "file", "nothing": outside / "nothing", "folder": outside}[target]
    (out / name).parent.mkdir(exist_ok=True)
    shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)
    (out / name).symlink_to(aim)
    code = command(tiny, "--out", out)
    if name != ".running":  # which is replaced as it is, before anything is looked at
        assert code == 2
        assert "is a symbolic link" in capsys.readouterr().err
        assert command(tiny, "--out", out, "--force") == 0
    assert contents(outside) == {"file": b"kept"}
    assert not (out / name).is_symlink()


def test_a_link_that_comes_while_the_run_goes_is_not_followed(command, tiny, tmp_path):
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    assert command(tiny, "--out", out, "--set", f"unit.coal.links='{outside}'") == 0
    assert contents(outside) == {}
    assert not any(path.is_symlink() for path in out.iterdir())


def test_an_empty_name_is_no_folder(command, tiny, monkeypatch, tmp_path, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert command(tiny, "--out", "") == 2
    assert "is empty" in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())
