"""Asynchronous rounds under real mpiexec: the synchronous run where all are waited for, and not held up where not."""

from __future__ import annotations

import csv
import itertools
import logging
import runpy
from pathlib import Path

import pytest
from mpi_jobs import arguments, contents, finished, mpiexec
from paths import ROOT
from rough_case import rough_case, summary

from decomp.parallel.ranks import Serial

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(180)]

ALL = ("--set", "asynchronous.wait=1.0")
# a checkpoint or a certificate calls everybody in: none but the last
SOME = (
    "--set", "asynchronous={wait=0.4, max_stale=8, damping=0.7}", "--set", "checkpoint.every_rounds=0",
    "--set", "certificate.every=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    return rough_case(tmp_path_factory.mktemp("rough"))


@pytest.mark.parametrize("ranks", [3, pytest.param(2, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)])
def test_waiting_for_all_is_the_synchronous_run(tmp_path, case, ranks):
    finished(1, case, tmp_path / "plain")
    finished(ranks, case, tmp_path / "all", *ALL)
    assert contents(tmp_path / "all") == contents(tmp_path / "plain")
    assert summary(tmp_path / "all")["reproducible"] is True


def test_a_slow_block_does_not_stop_the_others(tmp_path, case):
    slow = ("--set", "trouble={unit='u2', kind='slow', first=2, last=2, seconds=4.0}")
    more = ("--set", "asynchronous.max_stale=1000", "--set", "run.max_rounds=2000")
    done = mpiexec(3, *arguments(case, tmp_path, *SOME, *slow, *more))
    assert done.returncode == 0, done.stdout + done.stderr
    told, rows = summary(tmp_path), contents(tmp_path)["rows"]
    assert told["reproducible"] is False
    assert told["status"] == "residual"
    # while the slow block was at it, the others went on
    assert sum(int(row["late_blocks"]) > 0 for row in rows) > 10
    with (tmp_path / "iterations.csv").open(newline="") as file:
        assert sum(float(row["wall_time_s"]) < 4.0 for row in csv.DictReader(file)) > 10
    # the end is said of answers to one price, and what is proven of a complete sweep
    assert rows[-1]["late_blocks"] == "0"
    assert told["lower_bound"] <= told["upper_bound"] + 1e-7
    assert told["gap"] < 1e-3


def test_a_held_block_says_why_also_when_its_answer_is_late(tmp_path, case, monkeypatch):
    monkeypatch.setenv("ROUGH_DELAY_S", "0.02")  # so that a round is over before its rank has come to it
    more = (
        "--set", "trouble={unit='u7', kind='raise', first=3, last=999999}", "--set", "run.on_failure='hold'",
        "--set", "market.units=8", "--set", "run.max_rounds=40", "--set", "asynchronous.max_stale=20",
    )  # fmt: skip
    done = mpiexec(3, *arguments(case, tmp_path, *SOME, *more))
    assert done.returncode == 1, done.stdout + done.stderr
    told = summary(tmp_path)
    assert told["stale_blocks"] == ["u7/0"]
    assert "block u7/0 has not answered since round" in told["reason"]
    assert told["reason"].endswith("ZeroDivisionError: a community without heat")
    assert "u7/0 is represented by its last good answer: ZeroDivisionError" in done.stderr


def test_no_answer_is_older_than_allowed(tmp_path, case):
    slow = ("--set", "trouble={unit='u2', kind='slow', first=2, last=99, seconds=1.0}")
    more = (
        "--set",
        "run.max_rounds=11",
        "--set",
        "stop={}",
        "--set",
        "certificate.every=0",
        "--set",
        "run.record='all'",
    )
    done = mpiexec(3, *arguments(case, tmp_path, *SOME, *slow, *more, "--set", "asynchronous.max_stale=2"))
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "offers.csv").open(newline="") as file:
        seen = [row["y"] for row in csv.DictReader(file) if (row["unit"], row["entry"]) == ("u2", "a")]
    same = [len(list(run)) for _, run in itertools.groupby(seen)]
    # an answer to the question of round q stands in until round q + 2 at the latest
    assert 2 <= max(same) <= 3


def test_the_root_alone_is_refused(tmp_path, case, capsys, monkeypatch):
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    main = runpy.run_path(str(ROOT / "mpi_run.py"))["main"]
    assert main(Serial(), arguments(case, tmp_path / "out", *ALL)[1:]) == 2
    assert "needs at least 2 ranks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_rules_that_need_answers_to_one_price_are_refused(tmp_path, case):
    done = mpiexec(2, *arguments(case, tmp_path / "out", "--rule", "bundle", *SOME))
    assert done.returncode == 2
    assert "asynchronous.wait below 1" in done.stderr
    assert not (tmp_path / "out").exists()
