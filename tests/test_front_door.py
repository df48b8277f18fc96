"""The package `tatonnement`: its names, runs from Python, result folders, the command, the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyomo.environ as pyo
import pytest
from click.testing import CliRunner
from paths import ROOT

import tatonnement as tt
from decomp.case.shipped import shipped
from decomp.cli import tatonnement
from problems.lec.devices import known_devices

BIN = Path(sys.executable).parent


class Plant(tt.PyomoSubproblem):
    """1/2 slope y^2 for an offer within 0 and 10."""

    def __init__(self, slope: float) -> None:
        self.slope = slope
        super().__init__()

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.y = pyo.Var(bounds=(0, 10))
        m.cost = pyo.Expression(expr=0.5 * self.slope * m.y**2)
        m.coupling = pyo.Expression(["now"], rule=lambda m, i: m.y)
        return m


def market():
    slopes = {"coal": 1.0, "gas": 2.0}
    coupling = [tt.Coupling(u, ("now",), np.ones(1), np.array([0]), {tt.Key(u): 1.0}) for u in slopes]
    need = tt.Exchange(("grid",), np.array([3.0]), box=(np.zeros(1), np.full(1, 20.0)))
    return {tt.Key(u): Plant(s) for u, s in slopes.items()}, need, coupling


@pytest.mark.parametrize("rule", ["bundle", "interior_point", tt.Auto()])
def test_a_run_from_python_shares_the_demand_by_slope(rule):
    blocks, need, coupling = market()
    result = tt.run(
        blocks, need, rule, coupling=coupling, stop=[tt.Gap(1e-6, 0.0, "total")],
        certificate=tt.CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == "certified"
    assert result.objective == pytest.approx(3.0, rel=1e-5)  # y = 2 and 1 at the price 2
    assert result.offers["coal", "0", "now"] == pytest.approx(2.0, abs=1e-2)
    assert result.node_prices.columns.tolist() == ["grid"]
    assert len(result.iterations) == len(result.node_prices)


def test_a_run_can_be_stepped_and_left():
    blocks, need, coupling = market()
    seen = []
    for round in tt.iterate(blocks, need, "bundle", coupling=coupling):
        seen.append(round.k)
        if len(seen) == 3:
            break
    assert seen == [0, 1, 2]


def test_an_unknown_rule_is_refused_with_the_known_ones():
    blocks, need, coupling = market()
    with pytest.raises(tt.InputError, match="unknown rule 'bundel'; did you mean 'bundle'"):
        tt.run(blocks, need, "bundel", coupling=coupling)


def test_every_public_name_is_there():
    for name in tt.__all__:
        assert getattr(tt, name) is not None
    assert tt.__version__
    with pytest.raises(AttributeError, match="has no 'nothing'"):
        tt.nothing  # noqa: B018


def test_a_shipped_case_is_solved_by_name_and_read_back(tmp_path):
    result = tt.solve_case("chalmers_undervoltage", out=tmp_path / "out", set={"run.max_rounds": 3})
    assert result.status == "iteration_limit"
    again = tt.load_result(tmp_path / "out")
    pd.testing.assert_frame_equal(result.prices, again.prices)
    assert again.iterations.index.tolist() == [0, 1, 2]
    assert str(again.voltages.index.tz) == "UTC+02:00"
    assert {"v_after_pu", "v_before_pu"} <= set(again.voltages.columns)
    assert set(again.schedules) == {"LEC1", "LEC2"}
    assert again.offers.loc[("LEC1", "0"), "y"].abs().max() > 1
    with pytest.raises(tt.InputError, match=r"result\.json"):
        tt.load_result(tmp_path)


def test_without_a_folder_nothing_is_left():
    result = tt.solve_case("chalmers_undervoltage", set={"run.max_rounds": 1})
    assert not result.folder.exists()
    assert len(result.voltages) > 0


def test_devices_are_registered_under_their_names():
    listed = CliRunner().invoke(tatonnement, ["list", "devices"])
    assert listed.exit_code == 0
    assert [line.split(":")[0].strip() for line in listed.output.splitlines()] == list(known_devices())


@pytest.mark.parametrize("sort", ["rules", "steps", "stops", "coordinators", "problems"])
def test_every_sort_is_listed(sort):
    listed = CliRunner().invoke(tatonnement, ["list", sort])
    assert listed.exit_code == 0
    assert listed.output.count("\n") >= 2


def test_cases_are_listed_and_rules_beside_them_are_not():
    listed = CliRunner().invoke(tatonnement, ["cases"])
    assert [line.split()[0] for line in listed.output.splitlines()] == sorted(shipped())
    assert "admm_chalmers" not in shipped()


def test_a_misspelt_command_is_answered_with_the_nearest():
    told = CliRunner().invoke(tatonnement, ["chek", "case.toml"])
    assert told.exit_code == 2
    assert "did you mean 'check'" in told.output


def test_check_tells_blocks_or_all_mistakes():
    told = CliRunner().invoke(tatonnement, ["check", "chalmers_undervoltage"])
    assert told.exit_code == 0
    assert "units 2, blocks 2, offers 48, prices 48" in told.output
    wrong = CliRunner().invoke(
        tatonnement, ["check", "chalmers_undervoltage", "--set", "rule.kind='admn'", "--set", "run.max_rounds=-1"]
    )
    assert wrong.exit_code == 2
    assert "2 mistakes" in wrong.output
    assert "did you mean 'admm'" in wrong.output


def test_a_new_case_runs_at_once(tmp_path):
    made = CliRunner().invoke(tatonnement, ["new", str(tmp_path / "mine")])
    assert made.exit_code == 0, made.output
    result = tt.solve_case(tmp_path / "mine" / "case.toml", set={"run.max_rounds": 1})
    assert result.iterations.index.tolist() == [0]
    assert CliRunner().invoke(tatonnement, ["new", str(tmp_path / "mine")]).exit_code == 2


def test_help_loads_no_solver_and_no_table_library():
    code = (
        "import sys; sys.argv = ['tatonnement', '--help']; from decomp.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'highspy', 'pandas', 'matplotlib', 'numpy', 'pyomo', 'mpi4py'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.splitlines()[-1] == "[]"


@pytest.mark.mpi
def test_two_ranks_need_no_module_of_mpi4py_and_end_together(tmp_path):
    command = [BIN / "mpiexec", "-n", "2", BIN / "tatonnement", "run", "chalmers_undervoltage", "--out", tmp_path / "o"]
    done = subprocess.run(
        [*map(str, command), "--set", "run.max_rounds=2"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "2 blocks on 2 ranks" in done.stdout
    wrong = subprocess.run(
        [*map(str, command), "--rule", "admn"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert wrong.returncode == 2
    assert wrong.stderr.count("did you mean 'admm'") == 1


@pytest.mark.mpi
def test_a_rank_that_raises_ends_the_job(tmp_path):
    (tmp_path / "fails.py").write_text(
        "import tatonnement as tt\nranks = tt.find_ranks()\n"
        "if ranks.rank == 1: raise ZeroDivisionError('rank 1')\nranks.agree(None)\n"
    )
    done = subprocess.run(
        [str(BIN / "mpiexec"), "-n", "2", sys.executable, "fails.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "ZeroDivisionError: rank 1" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_runs_a_shipped_case_and_a_users_own_from_another_folder(tmp_path):
    """In an environment of its own that sees this one's libraries, but not the checkout."""

    def pip(*words):
        subprocess.run([str(BIN / "python"), "-m", "pip", "wheel", "--quiet", *map(str, words)], check=True)

    pip("--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
        assert tops == {"tatonnement", "decomp", "problems"}
        assert "problems/cases/chalmers/lines.csv" in archive.namelist()
        archive.extractall(tmp_path / "site")
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    own["PYTHONPATH"] = str(tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir()
    run = [sys.executable, "-m", "tatonnement"]
    for ranks, words in ((1, ["run", "chalmers_undervoltage"]), (2, ["run", "mine/case.toml"])):
        if ranks == 2:
            subprocess.run([*run, "new", "mine"], cwd=work, env=own, check=True)
        command = [str(BIN / "mpiexec"), "-n", str(ranks), *run, *words, "--out", f"out{ranks}", "--quiet"]
        subprocess.run(command, cwd=work, env=own, check=True, timeout=200)
        assert (work / f"out{ranks}" / "prices.csv").exists()
    where = subprocess.run(
        [sys.executable, "-c", "import tatonnement; print(tatonnement.__file__)"],
        cwd=work, env=own, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(tmp_path / "site") in where.stdout
    assert (work / "out1" / "prices.csv").read_bytes() == (work / "out2" / "prices.csv").read_bytes()
