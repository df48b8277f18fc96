"""The campus market under real mpiexec: the same bytes on any number of ranks, on warm and on fresh solver objects."""

from __future__ import annotations

import json
import signal
import time

import pytest
from mpi_jobs import contents, mpiexec, rounds_in, started, wait_for
from paths import ROOT

CASE = ROOT / "problems" / "cases" / "chalmers_undervoltage.toml"
FLEET = CASE.with_name("fleet_100k.toml")
STOCHASTIC = CASE.with_name("chalmers_stochastic.toml")  # many scenarios of a unit, asked together

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The case on one rank."""
    out = tmp_path_factory.mktemp("campus") / "1"
    done = mpiexec(1, ROOT / "mpi_run.py", CASE, "--out", out, "--quiet")
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(("ranks", "fresh"), [(2, 0), (3, 0), (5, 0), (2, 2)])
def test_campus_run_is_identical_on_any_number_of_ranks(tmp_path, alone, ranks, fresh):
    done = mpiexec(
        ranks, ROOT / "mpi_run.py", CASE, "--out", tmp_path, "--quiet", "--set", f"solver.fresh_every={fresh}"
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == contents(alone)
    assert json.loads((tmp_path / "result.json").read_text())["ranks"] == ranks


@pytest.mark.parametrize("case", [CASE, pytest.param(STOCHASTIC, marks=pytest.mark.slow)])
def test_a_signal_ends_a_round_within_a_solve(tmp_path, case):
    more = ("--set", "stop={}", "--set", "run.max_rounds=100000", "--set", "certificate.every=1")
    job = started(2, case, tmp_path, 0.0, *more)
    wait_for(lambda: rounds_in(tmp_path) >= 1, 100)
    asked = time.monotonic()
    job.send_signal(signal.SIGTERM)
    out, _ = job.communicate(timeout=60)
    assert time.monotonic() - asked < 1 + 5  # no solve of these takes a second
    assert job.returncode == 0, out
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "interrupted"
    assert any((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_community_without_a_schedule_is_named_on_any_number_of_ranks(tmp_path, ranks):
    done = mpiexec(
        ranks, ROOT / "mpi_run.py", CASE, "--out", tmp_path, "--quiet",
        "--set", "lec.LEC1.boiler_chp.boiler_min_kw=900", "--set", "lec.LEC1.boiler_chp.boiler_max_kw=1000",
    )  # fmt: skip
    assert done.returncode == 1
    assert "LEC1" in done.stdout
    assert "boiler" in done.stdout
    assert "LEC2" not in done.stdout
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("ranks", [1, 3])
def test_network_without_a_power_flow_is_explained(tmp_path, ranks):
    done = mpiexec(ranks, ROOT / "mpi_run.py", CASE, "--out", tmp_path, "--quiet", "--set", "network.base_kv=2.0")
    assert done.returncode == 1
    assert "lines" in done.stdout
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("units", "scenarios"), [(12, 3), (50, 20)])
def test_a_fleet_is_identical_on_one_and_two_ranks(tmp_path, units, scenarios):
    sizes = (f"fleet.units={units}", f"scenarios.count={scenarios}", "run.max_rounds=3", "run.rebalance_every=1")
    more = [a for text in sizes for a in ("--set", text)]
    for ranks in (1, 2):
        done = mpiexec(ranks, ROOT / "mpi_run.py", FLEET, "--out", tmp_path / str(ranks), "--quiet", *more, timeout=400)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    told = json.loads((tmp_path / "2" / "result.json").read_text())
    assert (told["ranks"], told["subproblems"], told["iterations"]) == (2, units * scenarios, 3)
