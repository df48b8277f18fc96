"""Stochastic programs in SMPS files: known optima, the one model of all scenarios, bundles, samples, writing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from mpi_jobs import contents, finished
from scipy.optimize import Bounds, LinearConstraint, milp
from smps_files import THREE_CORE, THREE_STOCH, THREE_TIME, case_file, write_files, write_lands

from decomp.api import solve_case
from decomp.blocks.program_block import bundled_program
from decomp.case.config import load
from decomp.errors import InputError
from decomp.storage.provenance import differences
from problems.smps.files import read_smps
from problems.smps.model import stochastic_program
from problems.smps.scenarios import all_scenarios
from problems.smps.writer import write_smps


def one_model(program) -> float:
    """The optimum of all scenarios in one model, by scipy."""
    s = program.scenarios
    stage = program.stages.column[program.entries]
    members = {name: program.program(i) for i, name in enumerate(s.names)}
    whole, _ = bundled_program(members, s.prob, s.node[:, stage], np.arange(0))
    found = milp(
        whole.cost, integrality=whole.integer.astype(int), bounds=Bounds(whole.lb, whole.ub),
        constraints=LinearConstraint(whole.A, whole.row_lo, whole.row_hi), options={"mip_rel_gap": 1e-9},
    )  # fmt: skip
    assert found.success, found.message
    return float(found.fun) + whole.constant


def of_files(core):
    files = read_smps(core)
    return stochastic_program(files.elements, all_scenarios(files.stochastic))


def three_stages(folder):
    return write_files(folder, THREE_CORE, THREE_TIME, THREE_STOCH)


def test_lands_finds_its_published_optimum(tmp_path):
    result = solve_case(case_file(tmp_path, write_lands(tmp_path)), out=tmp_path / "out")
    assert result.summary["status"] == "certified"
    assert result.summary["objective"] == pytest.approx(397.751333, abs=5e-6)
    with (tmp_path / "out" / "solution.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27 * 16
    x = {row["column"]: float(row["value"]) for row in rows if row["scenario"] == "01"}
    assert sum(x[f"X{i}"] for i in range(1, 5)) >= 14 - 1e-6
    invested = {float(row["value"]) for row in rows if row["column"] == "X1"}
    assert max(invested) - min(invested) <= 1e-7  # decided before the demand is known


@pytest.mark.parametrize("bundle", [1, 2, 5, 16])
def test_three_stages_agree_with_the_one_model(tmp_path, bundle):
    core = three_stages(tmp_path)
    expected = one_model(of_files(core))
    result = solve_case(case_file(tmp_path, core, f"bundle = {bundle}"), out=tmp_path / "out")
    assert result.summary["status"] == "certified"
    assert result.summary["objective"] == pytest.approx(expected, rel=1e-6)


def test_every_rule_that_keeps_bounds_agrees(tmp_path):
    core = three_stages(tmp_path)
    expected = one_model(of_files(core))
    result = solve_case(
        case_file(tmp_path, core), out=tmp_path / "ph", rule="progressive_hedging",
        set={"run.max_rounds": 200, "stop.gap.tolerance": 1e-4},
    )  # fmt: skip
    assert result.summary["objective"] == pytest.approx(expected, rel=2e-4)
    assert result.summary["lower_bound"] <= expected * (1 + 1e-9)


def test_integers_and_a_maximised_objective(tmp_path):
    core = THREE_CORE.replace("ROWS", "OBJSENSE\n    MAX\nROWS", 1).replace("COST      1", "COST      -1")
    core = core.replace("BOUNDS\n", "BOUNDS\n UI BND       B1        5.0\n UI BND       W1        9.0\n")
    core = core.replace(" UP BND       B1        5.0\n", "")
    random = THREE_STOCH.replace("COST      14.0", "COST      -14.0").replace("COST      20.0", "COST      -20.0")
    path = write_files(tmp_path, core, THREE_TIME, random)
    program = of_files(path)
    assert program.core.integer.sum() == 2
    expected = one_model(program)
    result = solve_case(case_file(tmp_path, path, "bundle = 4"), out=tmp_path / "out")
    assert result.summary["objective"] == pytest.approx(expected, rel=1e-6)
    assert result.summary["smps"]["maximised_objective"] == -result.summary["objective"]


@pytest.mark.parametrize("make", [write_lands, three_stages])
def test_what_is_written_is_read_back_the_same(tmp_path, make):
    before = of_files(make(tmp_path))
    after = of_files(write_smps(tmp_path / "again", "copy", before.elements, before.scenarios)[0])
    assert after.core.A == before.core.A
    for name in ("cost", "rhs", "span", "lb", "ub", "integer"):
        np.testing.assert_array_equal(getattr(after.core, name), getattr(before.core, name))
    np.testing.assert_array_equal(after.scenarios.prob, before.scenarios.prob)
    for s in range(len(before.scenarios.names)):
        one, two = before.program(s), after.program(s)
        np.testing.assert_array_equal(one.A.toarray(), two.A.toarray())
        for name in ("cost", "row_lo", "row_hi", "lb", "ub"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    same = before.scenarios.node[:, None] == before.scenarios.node[None]
    np.testing.assert_array_equal(after.scenarios.node[:, None] == after.scenarios.node[None], same)


def test_a_sample_is_its_seed(tmp_path):
    core = write_lands(tmp_path)
    one, two, other = (
        load(case_file(tmp_path, core, "scenarios = 40", f"seed = {seed}")).problem for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.program.theta, two.program.theta)
    assert not np.array_equal(one.program.theta, other.program.theta)
    assert len(one.couplings[0].prob) == 40
    assert set(one.program.scenarios.prob.tolist()) == {1 / 40}


def test_a_checkpoint_belongs_to_the_files_beside_the_core_file(tmp_path):
    case = case_file(tmp_path, write_lands(tmp_path))
    before = load(case).identity
    assert load(case).identity == before
    text = (tmp_path / "LandS.sto").read_text()
    (tmp_path / "LandS.sto").write_text(text.replace("DEMAND1 7", "DEMAND1 8"))
    assert differences(before, load(case).identity) == ["the file LandS.sto has changed"]


def test_mistakes_of_the_tables_are_told(tmp_path):
    core = write_lands(tmp_path)
    with pytest.raises(InputError, match=r"\[smps\].*scenarios and seed belong together"):
        load(case_file(tmp_path, core, "scenarios = 40"))
    with pytest.raises(InputError, match=r"\[smps\] scenarios: 2 numbers for 2 stages"):
        load(case_file(tmp_path, core, "scenarios = [4, 3]", "seed = 1"))


def test_a_template_answers_as_each_program_alone(tmp_path):
    problem = load(case_file(tmp_path, three_stages(tmp_path))).problem
    from decomp.blocks.program_block import ProgramBlock
    from decomp.messages import Signal

    rng = np.random.default_rng(0)
    for key, s in problem.keys.items():
        price = rng.normal(size=len(problem.program.entries))
        shared = problem.subproblem(key).solve(Signal(price))
        alone = ProgramBlock(problem.program.program(s), problem.block_settings).solve(Signal(price))
        assert shared.cost - price @ shared.y == pytest.approx(alone.cost - price @ alone.y, rel=1e-9)
        assert shared.bound == pytest.approx(alone.bound, rel=1e-9)


@pytest.mark.mpi
def test_the_files_are_the_same_on_any_number_of_ranks(tmp_path):
    case = case_file(tmp_path, three_stages(tmp_path), "bundle = 2")
    first = contents(finished(1, case, tmp_path / "1"))
    for ranks in (2, 3):
        out = finished(ranks, case, tmp_path / str(ranks))
        assert contents(out) == first
        assert (out / "solution.csv").read_bytes() == (tmp_path / "1" / "solution.csv").read_bytes()
    assert json.loads((tmp_path / "1" / "result.json").read_text())["status"] == "certified"
