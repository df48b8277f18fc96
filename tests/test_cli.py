"""The command line: what it prints, what it writes, and the exit code it leaves, on one rank and on several."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from paths import ROOT
from rich.console import Console

from decomp.parallel.ranks import Serial
from decomp.run.console import RoundTable, clock_where_enough
from decomp.run.result import Row, UnitPrice

MPIEXEC = Path(sys.executable).parent / "mpiexec"


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
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def launch(ranks: int, *arguments: object, python: tuple[str, ...] = ("-m", "mpi4py")) -> subprocess.CompletedProcess:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, *python, str(ROOT / "mpi_run.py"), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env=environment, cwd=ROOT, check=False,
    )  # fmt: skip


def test_a_run_shows_its_rounds_and_writes_its_files(command, tiny, capsys):
    out = tiny.parent / "deep" / "out"
    assert command(tiny, "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "Two units share a demand: 2 blocks on 1 rank, rule dual_ascent(step = constant(a = 0.5)"
    )
    assert lines[1].split()[:2] == ["round", "mismatch"]
    assert "EUR coal" in lines[1]
    assert lines[2].split()[0] == "0"
    assert lines[-4].startswith("residual after ")
    cost = re.match(r"cost(?: at the \w+)? ([\d.]+), lower bound", lines[-3])
    assert lines[-2].startswith("schedules, tables and figures are of the best point found, not proven")
    assert float(cost[1]) == pytest.approx(15.0, abs=1e-4)
    assert all(name in lines[-1] for name in ("result.json", "iterations.csv", "prices.csv", "offers.csv"))
    result = json.loads((out / "result.json").read_text())
    assert result["status"] == "residual"
    assert result["upper_bound"] == pytest.approx(15.0, abs=1e-4)  # slopes 1 and 2, demands 3 and 6
    assert result["hours"] == 2
    assert result["case"]["rule"] == {"kind": "dual_ascent", "step": {"kind": "constant", "a": 0.5}}
    rows = list(csv.DictReader((out / "iterations.csv").read_text().splitlines()))
    assert len(rows) == result["iterations"] == sum(line.split()[0].isdigit() for line in lines)


def test_quiet_prints_only_the_end(command, tiny, capsys):
    assert command(tiny, "--out", tiny.parent / "out", "--quiet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("residual after")
    assert not any(line.split()[:1] == ["round"] for line in lines)


def test_a_log_has_plain_lines_that_are_never_wrapped(command, tiny, capsys):
    text = tiny.read_text() + "".join(f"[unit.a_unit_with_a_rather_long_name_{i}]\nslope = 3.0\n" for i in range(3))
    tiny.write_text(text)
    assert command(tiny, "--out", tiny.parent / "out", "--set", "run.max_rounds=3") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    rounds = [line for line in printed.splitlines() if re.match(r" +\d+ ", line)]
    assert len(rounds) == 3
    assert min(map(len, rounds)) > 160
    assert len({len(line) for line in rounds}) == 1


def test_set_and_rule_reach_the_run_and_its_record(command, tiny):
    out = tiny.parent / "out"
    assert command(tiny, "--out", out, "--rule", "admm", "--set", "rule.penalty=1", "--set", "unit.gas.slope=4") == 0
    case = json.loads((out / "result.json").read_text())["case"]
    assert (case["rule"], case["unit"]["gas"]) == ({"kind": "admm", "penalty": 1}, {"slope": 4})


def test_bad_input_is_listed_and_nothing_written(command, tiny, capsys):
    out = tiny.parent / "out"
    assert command(tiny, "--out", out, "--set", "market.steps=5", "--set", "rule.step.kind=exponental") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("2 mistakes in the input:\n")
    assert "did you mean 'exponential'?" in told.err
    assert not out.exists()


def test_a_rule_the_case_cannot_serve_is_refused_before_anything_is_written(command, tiny, capsys):
    text = (tiny.parent / "tiny_market.py").read_text()
    (tiny.parent / "tiny_market.py").write_text(text.replace('"evaluate", "penalty"', '"evaluate"'))
    out = tiny.parent / "out"
    assert command(tiny, "--out", out, "--rule", "admm", "--set", "rule.penalty=1") == 2
    assert "refused: rule ADMM needs blocks with penalty" in capsys.readouterr().err
    assert not out.exists()


def test_an_output_that_is_a_file_is_bad_input(command, tiny, capsys):
    assert command(tiny, "--out", tiny) == 2
    assert "is a file; give a folder" in capsys.readouterr().err


def test_wrong_arguments_are_bad_input_and_help_is_not(command, capsys):
    assert command("case.toml") == 2
    assert "--out" in capsys.readouterr().err
    assert command("--help") == 0


def test_a_failed_run_says_so_and_leaves_its_record(command, tiny, capsys):
    out = tiny.parent / "out"
    assert command(tiny, "--out", out, "--set", "unit.gas.breaks=true") == 1
    result = json.loads((out / "result.json").read_text())
    assert result["status"] == "failed"
    assert result["reason"] == "block gas/0: its fuse has blown"
    assert "failed after 0 rounds: block gas/0: its fuse has blown" in capsys.readouterr().out


def test_several_processes_without_mpi_are_told(command, tiny, capsys, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    assert command(tiny, "--out", tiny.parent / "out") == 2
    assert "the launcher started 4 processes, but this one finds itself alone" in capsys.readouterr().err
    assert not (tiny.parent / "out").exists()


def test_it_runs_where_mpi4py_is_not_installed(tiny):
    program = "import sys; sys.modules['mpi4py'] = None; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    program = f"import sys; sys.argv = sys.argv[1:]; {program}"
    arguments = [ROOT / "mpi_run.py", tiny, "--out", tiny.parent / "out", "--quiet"]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, timeout=60, check=False)
    assert ended.returncode == 0
    assert json.loads((tiny.parent / "out" / "result.json").read_text())["versions"]["numpy"]


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_bad_input_is_told_once_on_any_number_of_ranks(tiny, ranks):
    out = tiny.parent / "out"
    ended = launch(ranks, tiny, "--out", out, "--set", "unit.gas.slope=-1", "--set", "rule.step.aa=1")
    assert ended.returncode == 2
    assert ended.stderr.count("mistakes in the input") == 1
    assert "Abort" not in ended.stderr + ended.stdout
    assert ended.stdout == ""
    assert not out.exists()


@pytest.mark.mpi
@pytest.mark.parametrize("python", [("-m", "mpi4py"), ()], ids=["-m mpi4py", "plain"])
def test_a_failed_run_leaves_its_record_and_no_rank_behind(tiny, python):
    out = tiny.parent / "out"
    ended = launch(3, tiny, "--out", out, "--set", "unit.gas.breaks=true", python=python)
    assert ended.returncode == 1
    assert "Abort" not in ended.stderr + ended.stdout
    assert json.loads((out / "result.json").read_text())["reason"] == "block gas/0: its fuse has blown"


@pytest.mark.mpi
def test_wrong_arguments_are_told_once(tiny):
    ended = launch(2, tiny)
    assert ended.returncode == 2
    assert ended.stderr.count("Missing option '--out'") == 1


def row(**changes) -> Row:
    prices = (UnitPrice("LEC1", "14:00", 0.16), UnitPrice("LEC2", "17:00", 0.141))
    base = Row(
        round=3, worst=0.949312, worst_at="bus 7, 17:00", violation=7e-4, mismatch=10.35, mismatch_at="bus2 14:00",
        spread=0.0, spread_at="", multiplier_sum=0.0, multiplier_sum_at="",
        primal_residual=1.0, dual_residual=1.0, primal_relative=0.1, dual_relative=0.2,
        price_residual=0.1, cost=10650.123456, lower_bound=None,
        upper_bound=None, gap=None, gap_coordination=None, block_solves=8, unit_prices=prices, wall_time_s=1.5,
        solver_time_s=1.0,
    )  # fmt: skip
    return replace(base, **changes)


def shown(*rows: Row, terminal: bool, labels=None) -> list[str]:
    stream = io.StringIO()
    table = RoundTable(Console(file=stream, force_terminal=terminal, width=60, highlight=False), labels or {})
    for one in rows:
        table(one)
    return stream.getvalue().splitlines()


def test_rows_line_up_under_their_heads():
    later = row(round=12, cost=9.5, worst=1.05, mismatch=0.0, violation=0.0)
    lines = shown(row(), later, terminal=False, labels={"worst": "voltage pu", "price": "SEK/kvarh"})
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert [re.search(text, line).end() for text, line in zip(("round", "3", "12"), lines, strict=True)] == [5, 5, 5]
    assert "SEK/kvarh LEC2" in lines[0]
    for part in ("0.949312", "bus 7, 17:00", "10.3", "0.16 at 14:00", "0.141 at 17:00", "10650.123", "1.50"):
        assert part in lines[1]


def test_a_terminal_shows_violations_in_red_and_a_log_does_not():
    assert "\x1b[31m" in shown(row(), terminal=True)[1]
    assert "\x1b[31m" not in shown(row(violation=0.0), terminal=True)[1]
    assert not any("\x1b" in line for line in shown(row(), terminal=False))


def test_of_many_units_the_largest_price_is_shown():
    prices = tuple(UnitPrice(f"u{i:02d}", "h0", (-1.0) ** i * i) for i in range(20))
    line = shown(row(unit_prices=prices), terminal=False)[1]
    assert "-19 at u19 h0" in line
    assert "u18" not in line


def test_the_clock_is_enough_within_a_day_and_not_beyond():
    hours = [f"bus2@2021-04-{14 + h // 24}T{h % 24:02d}:00+02:00" for h in range(1, 26)]
    assert clock_where_enough(hours[:24])("bus 7, 2021-04-14T17:00+02:00") == "bus 7, 17:00"
    assert clock_where_enough(hours)(hours[0]) == hours[0]
    assert clock_where_enough(["feeder"])("feeder") == "feeder"
    table = RoundTable(Console(file=(stream := io.StringIO()), width=60), {}, clock_where_enough(hours[:24]))
    table(row(worst_at="bus 7, 2021-04-14T17:00+02:00", unit_prices=(UnitPrice("LEC1", hours[3], 0.5),)))
    assert "bus 7, 17:00" in stream.getvalue()
    assert "0.5 at bus2@04:00" in stream.getvalue()


def test_folder_below_a_file_is_refused_before_the_run(command, tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("here")
    assert command(tiny, "--out", tmp_path / "file" / "below") == 2
    assert "is a file; give a folder" in capsys.readouterr().err
