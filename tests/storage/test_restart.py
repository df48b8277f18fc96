"""A run that is resumed ends with the files of one that was never interrupted; bad checkpoints are refused."""

from __future__ import annotations

import csv
import errno
import fcntl
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from closed_form import QuadraticBlock, exchange, two_lecs, unit
from farmer import farmer
from mpi_jobs import TIMES, contents
from paths import CASES, ROOT
from resuming import recorded, resumed
from rough_case import CASE, only, rough_case, summary, trouble
from uncertain_market import by_hand

from decomp.case.config import Case, load
from decomp.coordinators import Exchange
from decomp.errors import CheckpointError, TatonnementError
from decomp.messages import Key
from decomp.parallel import worker
from decomp.parallel.ranks import Serial
from decomp.parallel.serialization import flatten, unflatten
from decomp.parallel.vocabulary import Vocabulary, is_kind
from decomp.rules import ADMM, RULES, Newton, ProgressiveHedging
from decomp.rules.penalties import Penalty
from decomp.rules.wrappers import Damped
from decomp.run.engine import run
from decomp.run.options import Execution, Limits, Output, Start
from decomp.run.result_files import GrowingFiles
from decomp.run.stopping import Residual, RunStatus
from decomp.steps import Step, constant
from decomp.storage.checkpoint import CheckpointSettings, Keeper, find_checkpoint
from decomp.storage.folder_lock import taken
from decomp.storage.warm_states import packed, unpacked

MICROGRID = CASES / "ercot_microgrid.toml"
CAMPUS = CASES / "chalmers_undervoltage.toml"
STOCHASTIC = CAMPUS.with_name("chalmers_stochastic.toml")
RULE_TABLES = {
    "dual_ascent": ["rule.step={kind='constant', a=0.1}"],
    "averaged_answers": ["rule.rule={kind='admm'}"],
    "averaged_prices": ["rule.rule={kind='nesterov'}"],
    "damped": ["rule.rule={kind='admm'}", "rule.factor=0.5"],
    "projected": ["rule.rule={kind='admm'}"],
}


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


@pytest.fixture
def rough(tmp_path):
    """The case of units that remember, in a folder of its own."""
    return rough_case(tmp_path)


# -- the same end ------------------------------------------------------------------------------------------------------


def test_a_run_resumed_after_any_round_ends_with_the_same_files(command, rough, tmp_path):
    assert command(rough, "--out", tmp_path / "whole") == 0
    whole, end = contents(tmp_path / "whole"), summary(tmp_path / "whole")
    rounds = len(whole["rows"])
    assert end["status"] == "residual"
    assert rounds > 8
    for done in range(1, rounds, 3):
        folder = only(tmp_path / "whole", tmp_path / f"from{done}", done)
        assert command(rough, "--out", folder, "--resume", folder) == 0
        assert contents(folder) == whole
        told = summary(folder)
        assert {k: told[k] for k in end if k not in TIMES} == {k: end[k] for k in end if k not in TIMES}


@pytest.mark.parametrize("record", ["last", "all"])
def test_a_run_resumed_in_another_folder_leaves_the_first_as_it_is(command, rough, tmp_path, record):
    settings = ("--set", f"run.record='{record}'")
    assert command(rough, "--out", tmp_path / "whole", *settings) == 0
    first = only(tmp_path / "whole", tmp_path / "first", 5)
    before = contents(first)
    assert command(rough, "--out", tmp_path / "second", "--resume", first, *settings) == 0
    assert contents(tmp_path / "second") == contents(tmp_path / "whole")
    assert contents(first) == before


def test_every_round_has_its_offers_where_all_are_recorded(command, rough, tmp_path):
    assert command(rough, "--out", tmp_path / "last") == 0
    assert command(rough, "--out", tmp_path / "all", "--set", "run.record='all'") == 0
    with (tmp_path / "last" / "offers.csv").open(newline="") as file:
        last = list(csv.DictReader(file))
    with (tmp_path / "all" / "offers.csv").open(newline="") as file:
        everything = list(csv.DictReader(file))
    rounds = len(contents(tmp_path / "last")["rows"])
    assert len(everything) == rounds * len(last)
    assert [{k: v for k, v in row.items() if k != "round"} for row in everything[-len(last) :]] == last
    assert {row["round"] for row in everything} == {str(k) for k in range(rounds)}


def test_a_run_at_its_last_round_goes_on_when_it_is_allowed_more(command, rough, tmp_path, capsys):
    assert command(rough, "--out", tmp_path / "whole") == 0
    assert command(rough, "--out", tmp_path / "cut", "--set", "run.max_rounds=6") == 0
    assert summary(tmp_path / "cut")["status"] == "iteration_limit"
    assert command(rough, "--out", tmp_path / "none", "--resume", tmp_path / "cut", "--set", "run.max_rounds=6") == 2
    assert "raise run.max_rounds" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert command(rough, "--out", tmp_path / "cut", "--resume", tmp_path / "cut") == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_round_cut_short_leaves_no_trace():
    blocks, market, coupling = exchange()
    solved = []

    class Counted(QuadraticBlock):
        def solve(self, signal):
            solved.append(signal.id)
            return super().solve(signal)

    blocks[Key("a")] = Counted(1.0)
    result = run(
        blocks, market, ADMM(0.1), coupling=coupling, stop=[Residual(1e-9, 1e-9)], limits=Limits(50),
        execution=Execution(interrupted=lambda: len(solved) == 4),
    )  # fmt: skip
    assert solved == [0, 1, 2, 3]  # the other block was not asked any more
    assert (result.status, len(result.rows), result.block_solves) == ("interrupted", 3, 6)
    for key in blocks:
        assert result.details[key]["y"] == result.answers[key].y


def test_blocks_asked_together_do_not_keep_a_signal_waiting(monkeypatch):
    monkeypatch.setattr(worker, "BATCH_S", 0.1)
    solved = []

    class Slow(QuadraticBlock):
        batch_key = "slow"

        def solve(self, signal):
            time.sleep(0.03)
            solved.append(signal.id)
            return super().solve(signal)

    coupling = [unit(f"u{i:02d}", (0,), (1.0,)) for i in range(60)]
    blocks = {Key(f"u{i:02d}"): Slow(1.0) for i in range(60)}
    market = Exchange(["a"], np.array([3.0]), (np.array([-9.0]), np.array([9.0])))
    result = run(
        blocks,
        market,
        ADMM(0.1),
        coupling=coupling,
        stop=[],
        limits=Limits(9),
        execution=Execution(interrupted=lambda: len(solved) >= 2),
    )
    assert (result.status, len(result.rows)) == ("interrupted", 0)
    assert 2 <= len(solved) <= 4  # one alone, then as many as take a tenth of a second


def test_a_last_point_that_nobody_can_value_costs_no_result(monkeypatch):
    blocks, market, coupling = exchange()
    told: list[object] = []
    finds = market.evaluate

    def evaluate(*asked):
        if len(told) == 2:
            raise TatonnementError("no flow at these offers")
        return finds(*asked)

    monkeypatch.setattr(market, "evaluate", evaluate)
    result = run(
        blocks, market, ADMM(0.1), coupling=coupling, stop=[], limits=Limits(50),
        output=Output(callbacks=[told.append]),
        execution=Execution(interrupted=lambda: len(told) == 2),
    )  # fmt: skip
    assert (result.status, len(result.rows), result.objective) == ("interrupted", 2, None)
    assert set(result.details) == set(blocks)


def test_a_run_in_circles_is_seen_by_the_run_that_takes_it_up(tmp_path):
    def circle(rounds, resume=None):
        blocks, network, coupling = two_lecs()
        return run(
            blocks, network, RULES["dual_ascent"](Step(constant, {"a": 15.0})), coupling=coupling, stop=[],
            limits=Limits(rounds),
            output=Output(keeper=Keeper(tmp_path, CheckpointSettings(every_rounds=5), {})),
            start=Start(checkpoint=resume),
        )  # fmt: skip

    whole = circle(100)
    assert "repeat every 2 rounds" in whole.reason
    assert 2 < len(whole.rows) < 20
    circle(len(whole.rows) - 2)
    again = circle(100, find_checkpoint(tmp_path, {}))
    assert (again.reason, len(again.rows)) == (whole.reason, len(whole.rows))


# -- before the first round --------------------------------------------------------------------------------------------


def test_a_signal_while_the_case_is_read_ends_quietly(command, rough, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROUGH_SIGNAL_AT", "reading")
    assert command(rough, "--out", tmp_path / "deep" / "out") == 0
    assert "asked to stop while the case was read: nothing was computed" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()


def test_a_signal_while_blocks_are_built_leaves_the_rest_unbuilt(command, rough, tmp_path, monkeypatch):
    monkeypatch.setenv("ROUGH_SIGNAL_AT", "building u1/0")
    assert command(rough, "--out", tmp_path / "out") == 0
    told = summary(tmp_path / "out")
    assert (told["status"], told["reason"], told["iterations"]) == ("interrupted", "a signal asked to stop", 0)
    (built,) = (rough.parent / "pids").iterdir()
    assert built.read_text() == "u1/0"
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("record", ["last", "all"])
def test_a_run_that_is_stopped_before_it_is_resumed_stays_as_it_was(command, rough, tmp_path, monkeypatch, record):
    settings = ("--set", f"run.record='{record}'")
    assert command(rough, "--out", tmp_path / "whole", *settings) == 0
    cut = only(tmp_path / "whole", tmp_path / "cut", 5)
    before = contents(cut)
    with monkeypatch.context() as asked:
        asked.setenv("ROUGH_SIGNAL_AT", "building u1/0")
        assert command(rough, "--out", cut, "--resume", cut, *settings) == 0
    assert "not gone on, and is as it was after round 4" in summary(cut)["reason"]
    assert contents(cut) == before
    assert command(rough, "--out", cut, "--resume", cut, *settings) == 0
    assert contents(cut) == contents(tmp_path / "whole")


# -- every rule is resumed --------------------------------------------------------------------------------------------


def campus_run(rule: str, rounds: int, folder: Path, resume: Path | None = None) -> dict:
    own = rule == "transactive"  # the case's own
    texts = ["stop={}", *RULE_TABLES.get(rule, ())]
    return case_run(load(CAMPUS, texts, None if own else rule), rounds, folder, resume)


def case_run(case: Case, rounds: int, folder: Path, resume: Path | None = None) -> dict:
    p = case.problem
    return recorded(
        (p.subproblem, p.coordinator, p.couplings), case.rule, folder, rounds, resume, case.identity,
        start=case.start,
    )  # fmt: skip


def resumed_on_the_campus(rule: str, folder: Path, rounds: int, at: Sequence[int]) -> None:
    resumed(partial(campus_run, rule, rounds), folder, at)


@pytest.mark.parametrize("name", ["at nodes", "alone"])
def test_newton_is_resumed(tmp_path, name):
    *problem, _ = by_hand(name == "at nodes")

    def started(folder, resume=None):
        return recorded(problem, Newton(), folder, 6, resume)

    resumed(started, tmp_path, [1, 2, 3])


def test_progressive_hedging_is_resumed(tmp_path):
    def started(folder, resume=None):
        make, coupling = farmer()
        return recorded((make, None, coupling), ProgressiveHedging(), folder, 20, resume)

    resumed(started, tmp_path, [1, 4, 13])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_progressive_hedging_of_committed_bids_is_resumed(tmp_path):
    case = load(MICROGRID, ["market.stage='committed'", "stop={}"], "progressive_hedging")
    resumed(partial(case_run, case, 5), tmp_path, [2])


def test_the_bundle_on_the_campus_is_resumed(tmp_path):
    resumed_on_the_campus("bundle", tmp_path, 4, [2])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rule", sorted(set(RULES) - {"newton", "progressive_hedging", "value_at_risk"}))
def test_every_rule_on_the_campus_is_resumed(tmp_path, rule):
    resumed_on_the_campus(rule, tmp_path, 6, [1, 4])


@pytest.mark.slow
def test_new_solver_objects_and_blocks_asked_alone_change_no_byte(tmp_path, monkeypatch):
    texts = ["scenarios.count=3", "scenarios.sample=30", "solver.tangents='fixed'", "solver.integers='relax'"]

    def files(name, *more):
        return case_run(load(STOCHASTIC, [*texts, *more], "admm"), 3, tmp_path / name)

    together = files("together")
    monkeypatch.setattr(worker, "MOST_IN_BATCH", 1)
    assert files("alone") == together
    assert files("fresh", "solver.fresh_every=1") == together


# -- blocks that fail --------------------------------------------------------------------------------------------------


SAID = {
    "raise": "ZeroDivisionError: a community without heat",
    "infeasible": "its fuse has blown",
    "nan": "not finite",
    "limit": "its solver ran out of time",
}


@pytest.mark.parametrize("kind", SAID)
def test_a_failing_block_is_held_and_marked_until_it_answers_again(command, rough, tmp_path, kind):
    assert command(rough, "--out", tmp_path / "stop", *trouble(kind, 6)) == 1
    stopped = summary(tmp_path / "stop")
    assert stopped["status"] == "failed"
    assert "block u1/0" in stopped["reason"]
    assert SAID[kind] in stopped["reason"]
    assert stopped["iterations"] == 3
    assert command(rough, "--out", tmp_path / "hold", *trouble(kind, 6, "run.on_failure='hold'")) == 0
    held = summary(tmp_path / "hold")
    assert (held["status"], held["stale_blocks"]) == ("residual", [])
    rows = contents(tmp_path / "hold")["rows"]
    assert [row["round"] for row in rows if row["stale_blocks"]] == ["3", "4", "5", "6"]
    assert rows[3]["stale_blocks"] == "u1/0; u1/1; u1/2"
    assert rows[3]["lower_bound"] == ""  # a certificate was due
    assert rows[7]["lower_bound"] != ""


def test_a_block_that_never_recovers_fails_the_run_and_is_stale_in_the_files(command, rough, tmp_path):
    texts = (
        "trouble={unit='u2', kind='raise', first=3, last=999}", "run.on_failure='hold'",
        "run.max_rounds=60",  # enough for the others to come to terms with the held one: that is no success
    )  # fmt: skip
    assert command(rough, "--out", tmp_path / "out", *(a for text in texts for a in ("--set", text))) == 1
    told = summary(tmp_path / "out")
    assert told["status"] == "failed"
    assert "block u2/0 has not answered since round 3: ZeroDivisionError" in told["reason"]
    assert told["lower_bound"] is None
    assert told["stale_blocks"] == ["u2/0"]
    assert float(contents(tmp_path / "out")["rows"][-1]["mismatch"]) < 1e-4
    with (tmp_path / "out" / "offers.csv").open(newline="") as file:
        assert {row["unit"]: row["stale"] for row in csv.DictReader(file)} == {"u0": "0", "u1": "0", "u2": "1"}


def test_an_answer_that_a_held_block_did_not_give_proves_nothing(command, rough, tmp_path):
    texts = ("trouble={unit='u1', kind='unproven', first=0, last=999}", "run.on_failure='hold'")
    assert command(rough, "--out", tmp_path / "held", *(a for text in texts for a in ("--set", text))) == 0
    told = summary(tmp_path / "held")
    assert (told["status"], told["lower_bound"], told["gap"]) == ("residual", None, None)
    assert not any(row["lower_bound"] for row in contents(tmp_path / "held")["rows"])
    # one that recovers is proven of again, its share of the neutral bound included
    texts = ("trouble={unit='u1', kind='unproven', first=0, last=5}", "run.on_failure='hold'")
    assert command(rough, "--out", tmp_path / "back", *(a for text in texts for a in ("--set", text))) == 0
    assert summary(tmp_path / "back")["gap_coordination"] is not None


def test_a_failed_run_goes_on_with_its_block_held(command, rough, tmp_path):
    hold = ("--set", "run.on_failure='hold'")
    assert command(rough, "--out", tmp_path / "whole", *trouble("raise", 6), *hold) == 0
    assert command(rough, "--out", tmp_path / "cut", *trouble("raise", 6)) == 1
    assert command(rough, "--out", tmp_path / "cut", *trouble("raise", 6), *hold, "--resume", tmp_path / "cut") == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_block_without_a_first_answer_cannot_be_held(command, rough, tmp_path):
    texts = ("trouble={unit='u1', kind='raise', first=0, last=3}", "run.on_failure='hold'")
    assert command(rough, "--out", tmp_path / "out", *(a for text in texts for a in ("--set", text))) == 1
    assert "block u1/0" in summary(tmp_path / "out")["reason"]


# -- checkpoints that must not be used ---------------------------------------------------------------------------------


def test_every_damaged_byte_is_refused_or_harmless(command, rough, tmp_path):
    assert command(rough, "--out", tmp_path / "whole") == 0
    whole, identity = contents(tmp_path / "whole"), load(rough).identity
    rng = np.random.default_rng(1)
    place = only(tmp_path / "whole", tmp_path / "cut", 5) / "checkpoints" / "round-000005"
    refused = 0
    for path in sorted(place.iterdir()):
        good = path.read_bytes()
        for at in [0, len(good) - 1, *rng.integers(0, len(good), 40)]:
            path.write_bytes(good[:at] + bytes([good[at] ^ 0x15]) + good[at + 1 :])
            try:
                found = find_checkpoint(place.parent, identity)
            except CheckpointError:
                refused += 1
            else:  # white space of the manifest
                assert path.name == "manifest.json"
                assert found.rounds == 5
        path.write_bytes(good[: len(good) // 2])
        with pytest.raises(CheckpointError):
            find_checkpoint(place.parent, identity)
        path.unlink()
        with pytest.raises(CheckpointError):
            find_checkpoint(place.parent, identity)
        path.write_bytes(good)
    assert refused > 100
    assert command(rough, "--out", tmp_path / "cut", "--resume", tmp_path / "cut") == 0
    assert contents(tmp_path / "cut") == whole


def test_the_one_before_a_damaged_checkpoint_is_used(command, rough, tmp_path, caplog):
    assert command(rough, "--out", tmp_path / "whole") == 0
    whole = contents(tmp_path / "whole")
    cut = only(tmp_path / "whole", tmp_path / "cut", 4)
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "round-000007", cut / "checkpoints" / "round-000007")
    (cut / "checkpoints" / "round-000007" / "root.npz").write_bytes(b"nothing")
    assert command(rough, "--out", cut, "--resume", cut, "--set", "checkpoint.keep=2") == 0
    assert "root.npz does not have its checksum" in caplog.text
    assert contents(cut) == whole
    assert not (cut / "checkpoints" / "round-000007").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("rule.penalty=0.4", "rule.penalty was 0.3, is 0.4"),
        ("rule={kind='subgradient', start=1.0, final=1.0}", "rule.kind was"),
        ("market.units=4", "market.units was 3, is 4"),
        ("stop.residual.price=1e-3", "stop.residual.price"),
        ("run.record='all'", "run.record was not there"),
    ],
)
def test_a_checkpoint_of_another_case_is_refused(command, rough, tmp_path, capsys, change, told):
    assert command(rough, "--out", tmp_path / "cut", "--set", "run.max_rounds=4") == 0
    code = command(rough, "--out", tmp_path / "new", "--resume", tmp_path / "cut", "--set", change)
    said = capsys.readouterr().err
    if "subgradient" not in change or "mistake" not in said:
        assert told in said
    assert code == 2
    assert not (tmp_path / "new").exists()


def test_changed_data_and_other_versions_are_told(command, tiny, capsys, monkeypatch):
    cut, more = tiny.parent / "cut", ("--set", "run.max_rounds=4", "--set", "checkpoint.every_rounds=1")
    assert command(tiny, "--out", cut, *more) == 0
    (tiny.parent / "demand.csv").write_text("demand\n3\n7\n")
    assert command(tiny, "--out", cut, "--resume", cut) == 2
    assert "the file demand.csv has changed" in capsys.readouterr().err
    (tiny.parent / "demand.csv").write_text("demand\n3\n6\n")
    monkeypatch.setattr("decomp.storage.provenance.version", lambda name: "0.0.1")
    assert command(tiny, "--out", cut, "--resume", cut) == 2
    assert "numpy was" in capsys.readouterr().err


def test_what_may_change_may(command, rough, tmp_path):
    assert command(rough, "--out", tmp_path / "whole") == 0
    assert command(rough, "--out", tmp_path / "cut", "--set", "run.max_rounds=4") == 0
    texts = (
        "run.max_rounds=150", "run.time_limit_s=100", "run.on_failure='hold'", "checkpoint.keep=1",
        "checkpoint.every_rounds=3", "checkpoint.every_minutes=1", "case.title='again'", "case.about='more'",
    )  # fmt: skip
    more = [a for text in texts for a in ("--set", text)]
    assert command(rough, "--out", tmp_path / "cut", "--resume", tmp_path / "cut", *more) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_no_checkpoint_is_told(command, rough, tmp_path, capsys):
    assert command(rough, "--out", tmp_path / "out", "--resume", tmp_path / "nowhere") == 2
    assert "holds no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_an_earlier_run_are_moved_not_mixed(command, rough, tmp_path):
    for _ in range(2):
        assert command(rough, "--out", tmp_path / "out", "--set", "run.max_rounds=4") == 0
    assert len(list((tmp_path / "out" / "checkpoints.before").iterdir())) == 4
    assert command(rough, "--out", tmp_path / "out", "--set", "checkpoint.keep=2") == 0
    assert len(list((tmp_path / "out" / "checkpoints").iterdir())) == 2


def test_a_run_resumed_elsewhere_leaves_the_checkpoints_found_there(command, rough, tmp_path):
    assert command(rough, "--out", tmp_path / "other", "--set", "run.max_rounds=7") == 0
    assert command(rough, "--out", tmp_path / "first", "--set", "run.max_rounds=3") == 0
    again = ("--out", tmp_path / "other", "--resume", tmp_path / "first", "--set", "run.max_rounds=5")
    assert command(rough, *again) == 0
    assert (tmp_path / "other" / "checkpoints.before" / "round-000007").is_dir()
    assert sorted(f.name for f in (tmp_path / "other" / "checkpoints").iterdir()) == ["round-000004", "round-000005"]


# -- two runs, one folder ----------------------------------------------------------------------------------------------


def test_a_folder_in_which_another_run_writes_is_refused_and_left_alone(command, rough, tmp_path, capsys):
    assert command(rough, "--out", tmp_path / "out", "--set", "run.max_rounds=4") == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with taken(tmp_path / "out"):
        assert command(rough, "--out", tmp_path / "out") == 2
        assert command(rough, "--out", tmp_path / "out", "--resume", tmp_path / "out") == 2
        assert f"another run writes there: process {os.getpid()} on " in capsys.readouterr().err
        found = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
        assert json.loads(found.pop(tmp_path / "out" / ".running"))["process"] == os.getpid()
        assert found.pop(tmp_path / "out" / ".running.lock") == b""
        assert found == before
    assert command(rough, "--out", tmp_path / "out", "--resume", tmp_path / "out") == 0
    assert not list((tmp_path / "out").glob(".running*"))


def test_what_a_dead_run_has_left_behind_keeps_nobody_out(command, rough, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    dies = (
        "import os, sys; from pathlib import Path; from decomp.storage.folder_lock import taken; "
        "held = taken(Path(sys.argv[1])); held.__enter__(); os.kill(os.getpid(), 9)"
    )
    dead = subprocess.run([sys.executable, "-c", dies, str(out)], cwd=ROOT, timeout=60, check=False)
    assert dead.returncode == -9
    assert json.loads((out / ".running").read_text())["host"]
    assert command(rough, "--out", out, "--set", "run.max_rounds=4") == 0


def test_a_file_system_without_locks_costs_a_warning(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with taken(tmp_path), taken(tmp_path):
        pass
    assert "make sure that no other run writes there" in caplog.text


# -- folders and disks -------------------------------------------------------------------------------------------------


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
from decomp.parallel.ranks import Serial
sys.exit(runpy.run_path("mpi_run.py")["main"](Serial(), sys.argv[1:]))
"""


def launched(*arguments: object, file_size: int) -> subprocess.CompletedProcess:
    """A run in a process of its own, which may write no file longer than `file_size`."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED.format(size=file_size), *map(str, arguments), "--quiet"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_a_folder_that_takes_nothing_is_found_before_the_run(command, rough, tmp_path, capsys):
    assert command(rough, "--out", "/proc/nowhere") == 2
    assert "/proc" in capsys.readouterr().err
    done = launched(rough, "--out", tmp_path / "deep" / "out", file_size=1000)
    assert done.returncode == 2
    assert "nothing can be written there" in done.stderr
    assert not (tmp_path / "deep").exists()


def test_a_disk_that_fills_up_costs_no_good_checkpoint(command, rough, tmp_path):
    grow = ("--set", "trouble={unit='u1', kind='grow', first=5, last=999}")
    done = launched(rough, "--out", tmp_path / "full", *grow, file_size=3 << 20)
    assert done.returncode == 0, done.stderr
    assert "no checkpoint after round 5" in done.stderr
    assert "the one before is untouched" in done.stderr
    checkpoints = sorted(p.name for p in (tmp_path / "full" / "checkpoints").iterdir())
    assert checkpoints == [f"round-{k:06d}" for k in range(1, 6)]
    whole = contents(tmp_path / "full")
    assert command(rough, "--out", tmp_path / "full", *grow, "--resume", tmp_path / "full") == 0
    assert contents(tmp_path / "full") == whole


# -- plain values ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    x: np.ndarray
    note: str | None = None


OURS = Vocabulary.of(Inner)  # and what this module imports


def test_plain_values_come_back_as_they_were():
    a = np.array([1.0, -0.0, np.nan, np.inf])
    value = {
        "a": (Inner(a), [1, 2.5, None, True, np.float64(0.1)], frozenset({"b", "a"})),
        3: {"nested": RunStatus.SECURE, "bytes": b"\x00\xff", "int": np.int64(7)},
        "same": a,
    }
    structure, arrays = flatten(value, {}, OURS)
    back = unflatten(json.loads(json.dumps(structure)), dict(enumerate(arrays)), {}, OURS)
    inner, numbers, names = back["a"]
    assert inner.x.tobytes() == a.tobytes()
    assert back["same"] is inner.x
    assert numbers == [1, 2.5, None, True, np.float64(0.1)]
    assert [type(x) for x in numbers] == [int, float, type(None), bool, np.float64]
    assert names == frozenset({"a", "b"})
    assert back[3] == value[3]
    assert isinstance(back[3]["nested"], RunStatus)


def test_what_is_no_plain_value_is_named():
    with pytest.raises(CheckpointError, match=r"state\['f'\]\[1\] is of type function"):
        flatten({"f": lambda: None}, {}, OURS)
    with pytest.raises(CheckpointError, match="array of objects"):
        flatten(np.array([None]), {}, OURS)
    for acts in (constant, Step(constant, {"a": 1.0}), ADMM()):
        with pytest.raises(CheckpointError, match="cannot be written down"):
            flatten(acts, {}, OURS)


def test_only_data_has_a_name():
    for acts in (Step, ADMM, ProgressiveHedging, Residual, Serial):
        assert not is_kind(acts)
        assert OURS.name_of(acts) is None
    assert OURS.name_of(Inner) == "test_restart.Inner"


def test_what_a_rule_within_a_rule_writes_has_a_name():
    assert Vocabulary.of(Damped).name_of(Penalty) is None
    assert Vocabulary.of(Damped(ADMM())).name_of(Penalty) == "penalties.Penalty"


def test_states_of_blocks_of_any_shape_come_back():
    rng = np.random.default_rng(0)
    states = [
        {"a": rng.normal(size=(2, 3)), "flag": np.array([True, False])},
        None,
        {"a": np.zeros((0, 3)), "n": np.array(5)},
        {},
        {"a": np.arange(3), "flag": np.array([], bool)},
    ]
    numbers = [3, 4, 7, 8, 9]
    found = dict(unpacked(packed(numbers, states), [3, 4, 7, 8, 9]))
    assert sorted(found) == [3, 7, 8, 9]
    for b, state in zip(numbers, states, strict=True):
        for name, value in (state or {}).items():
            assert found[b][name].dtype == value.dtype
            assert np.array_equal(found[b][name], value)
            assert found[b][name].shape == value.shape
    assert dict(unpacked(packed(numbers, states), [1])) == {}


# -- long runs ---------------------------------------------------------------------------------------------------------


def bytes_a_round(case_file: Path, folder: Path, first: int, rounds: int) -> float:
    """What a run that writes everything holds at its end beyond what it held after `first` rounds, per round."""
    rule = "rule={kind='dual_ascent', step={kind='inverse', a=0.1, b=1.0}}"
    case = load(case_file, ["stop={}", rule, f"run.max_rounds={rounds}", "certificate.every=50"])
    held = {}

    def look(row):
        if row.round + 1 in (first, rounds):
            held[row.round + 1] = tracemalloc.get_traced_memory()[0]

    keeper = Keeper(folder / "checkpoints", CheckpointSettings(every_rounds=45), case.identity)
    tracemalloc.start()
    result = run(
        case.problem.subproblem, case.problem.coordinator, case.rule, coupling=case.problem.couplings, stop=case.stop,
        limits=case.limits, certificate=case.certificate,
        output=Output([look], GrowingFiles(folder), keeper),
    )  # fmt: skip
    tracemalloc.stop()
    assert len(result.rows) == rounds
    return (held[rounds] - held[first]) / (rounds - first)


def test_500_rounds_hold_a_row_and_the_prices_of_each_and_nothing_else(rough, tmp_path):
    rough.write_text(CASE.replace("units = 3", "units = 1"))
    assert bytes_a_round(rough, tmp_path, 100, 500) < 3000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_3000_rounds_of_many_units_hold_no_more(rough, tmp_path):
    rough.write_text(CASE.replace("units = 3", "units = 20"))
    # 20 units: a name, a place and a price of each in every row
    assert bytes_a_round(rough, tmp_path, 1000, 3000) < 3000 + 20 * 200
