"""Real mpiexec: ranks killed or signalled, runs resumed on other numbers of ranks, blocks that fail."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from mpi_jobs import arguments, contents, finished, mpiexec, rounds_in, started, wait_for
from paths import SUPPORT
from rough_case import only, rough_case, summary, trouble

BLOCKS = 5  # of the rough market: two units, and one with three scenarios

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Path:
    return rough_case(tmp_path_factory.mktemp("rough"))


@pytest.fixture(scope="module")
def whole(case) -> Path:
    """A run on one rank that nobody disturbs."""
    return finished(1, case, case.parent / "whole")


def processes(case: Path) -> list[int]:
    """Process ids of the ranks, in the order in which they were started."""
    return sorted(int(p.name) for p in (case.parent / "pids").iterdir())


def ranks_in(phase: str, case: Path) -> int:
    """How many ranks have begun to read the case ("READ"), or to build a block ("BUILD")."""
    told = [p.read_text() for p in (case.parent / "pids").glob("*")]
    return len(told) if phase == "READ" else sum(map(bool, told))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 5, BLOCKS + 2])
def test_any_number_of_ranks_gives_the_same_files(tmp_path, case, whole, ranks):
    assert contents(finished(ranks, case, tmp_path)) == contents(whole)


@pytest.mark.parametrize(
    ("ranks", "victim", "then"),
    [
        (3, -1, 2),
        pytest.param(2, 0, BLOCKS + 2, marks=pytest.mark.slow),
        pytest.param(5, 2, 3, marks=pytest.mark.slow),
        pytest.param(BLOCKS + 2, -1, 1, marks=pytest.mark.slow),
        pytest.param(1, 0, 5, marks=pytest.mark.slow),
    ],
)
def test_a_killed_rank_ends_the_job_which_goes_on_elsewhere(tmp_path, case, whole, ranks, victim, then):
    enough = random.Random(ranks).randint(2, 8)
    job = started(ranks, case, tmp_path, 0.05)
    wait_for(lambda: rounds_in(tmp_path) >= enough, 60)
    pids = processes(case)
    assert len(pids) == ranks
    os.kill(pids[victim], signal.SIGKILL)
    job.communicate(timeout=30)
    assert job.returncode != 0
    wait_for(lambda: not any(map(alive, pids)), 30)
    assert summary(tmp_path)["status"] == "running"
    assert rounds_in(tmp_path) >= enough
    finished(then, case, tmp_path, "--resume", str(tmp_path))
    assert contents(tmp_path) == contents(whole)
    assert summary(tmp_path)["ranks"] == then


@pytest.mark.parametrize(
    ("number", "target"),
    [
        (signal.SIGTERM, -1),
        pytest.param(signal.SIGUSR1, "launcher", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "launcher", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_between_two_blocks_and_the_run_goes_on(tmp_path, case, whole, number, target):
    job = started(2, case, tmp_path, 0.4, "--set", "checkpoint.every_rounds=0")
    wait_for(lambda: rounds_in(tmp_path) >= 2, 60)
    began = time.monotonic()
    os.kill(job.pid if target == "launcher" else processes(case)[target], number)
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 0, out
    assert time.monotonic() - began < 0.4 + 5
    told = summary(tmp_path)
    assert (told["status"], told["reason"]) == ("interrupted", "a signal asked to stop")
    rounds = told["iterations"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"round-{rounds:06d}"]
    assert contents(tmp_path)["rows"] == contents(whole)["rows"][:rounds]
    finished(3, case, tmp_path, "--resume", str(tmp_path))
    assert contents(tmp_path) == contents(whole)


@pytest.mark.parametrize(
    ("phase", "number", "target"),
    [
        ("BUILD", signal.SIGTERM, -1),
        pytest.param("READ", signal.SIGTERM, "launcher", marks=pytest.mark.slow),
        pytest.param("READ", signal.SIGINT, "launcher", marks=pytest.mark.slow),
        pytest.param("READ", signal.SIGINT, 0, marks=pytest.mark.slow),
        pytest.param("BUILD", signal.SIGINT, "launcher", marks=pytest.mark.slow),
        pytest.param("BUILD", signal.SIGUSR1, 0, marks=pytest.mark.slow),
    ],
)
def test_a_signal_before_the_first_round_ends_the_job_quietly(tmp_path, case, phase, number, target):
    # a rank that is asked alone waits until the others have read
    seconds = 1.5 if phase == "BUILD" else 4.0 if target == 0 else 30.0
    job = started(2, case, tmp_path / "out", 0.0, **{phase: seconds})
    wait_for(lambda: ranks_in(phase, case) == 2, 60)
    began = time.monotonic()
    os.kill(job.pid if target == "launcher" else processes(case)[target], number)
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 0, out
    assert time.monotonic() - began < 4.0 + 5
    assert "asked to stop" in out
    assert "Traceback" not in out
    if phase == "READ":
        assert not (tmp_path / "out").exists()
    else:
        assert (summary(tmp_path / "out")["status"], summary(tmp_path / "out")["iterations"]) == ("interrupted", 0)


def test_a_second_run_into_the_same_folder_is_refused_and_the_first_goes_on(tmp_path, case, whole):
    job = started(2, case, tmp_path, 0.3)
    wait_for(lambda: rounds_in(tmp_path) >= 1, 60)
    second = mpiexec(2, *arguments(case, tmp_path, "--resume", str(tmp_path)))
    assert second.returncode == 2
    assert "another run writes there" in second.stderr
    assert job.poll() is None
    seen = rounds_in(tmp_path)
    wait_for(lambda: rounds_in(tmp_path) > seen, 30)
    job.send_signal(signal.SIGTERM)
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 0, out
    rounds = summary(tmp_path)["iterations"]
    assert contents(tmp_path)["rows"] == contents(whole)["rows"][:rounds]


def test_a_time_limit_does_not_wait_for_a_long_round(tmp_path, case):
    job = started(2, case, tmp_path, 2.0, "--set", "run.time_limit_s=3.0")
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 0, out
    told = summary(tmp_path)
    assert told["status"] == "time_limit"
    assert told["wall_time_s"] < 3 + 2 + 5
    assert told["iterations"] == 0  # a round of this takes six seconds


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_blocks_that_move_change_no_byte(tmp_path, case, monkeypatch, ranks):
    monkeypatch.setenv("ROUGH_DELAY_S", "0.02")
    monkeypatch.setenv("ROUGH_DELAYED", "u0 u2 u4")  # more of them on the root than on any other rank
    more = ("--set", "market.units=5", "--set", "run.max_rounds=12")
    alone = case.parent / "unmoved"
    if not alone.exists():
        finished(1, case, alone, *more)
    done = mpiexec(ranks, *arguments(case, tmp_path, *more, "--set", "run.rebalance_every=2"))
    assert done.returncode == 0, done.stderr
    assert "blocks moved" in done.stderr
    assert contents(tmp_path) == contents(alone)


@pytest.mark.slow
def test_a_rank_killed_while_it_wrote_a_checkpoint_costs_the_rounds_since_the_one_before(tmp_path, case, whole):
    cut = only(whole, tmp_path, 4)
    newest = cut / "checkpoints" / "round-000007"
    shutil.copytree(whole / "checkpoints" / newest.name, newest)
    (file,) = newest.glob("blocks-*.npz")
    os.truncate(file, file.stat().st_size // 2)
    begun = cut / "checkpoints" / ".unfinished"
    begun.mkdir()
    (begun / "root.npz").write_bytes((newest / "root.npz").read_bytes()[:100])
    (begun / "blocks-0001.npz").write_bytes(b"")
    done = mpiexec(3, *arguments(case, cut, "--resume", str(cut)))
    assert done.returncode == 0, done.stderr
    assert f"{file.name} does not have its checksum" in done.stderr
    assert contents(cut) == contents(whole)
    assert not begun.exists()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_held_block_is_held_alike_on_any_number_of_ranks(tmp_path, case, ranks):
    more = trouble("infeasible", 6, "run.on_failure='hold'")
    alone = case.parent / "held"
    if not alone.exists():
        finished(1, case, alone, *more)
    finished(ranks, case, tmp_path, *more)
    assert contents(tmp_path) == contents(alone)
    assert [row["round"] for row in contents(tmp_path)["rows"] if row["stale_blocks"]] == ["3", "4", "5", "6"]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_where_the_blocks_lie_changes_no_byte(tmp_path, seed):
    for ranks, how in ((1, ""), (3, f"shuffle-{seed}")):
        done = mpiexec(ranks, SUPPORT / "mpi_program.py", tmp_path / str(ranks), how)
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "3") == contents(tmp_path / "1")
