"""Blocks of any stochastic program written as SMPS files have the same optimum when they are read back."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from paths import SUPPORT
from smps_files import THREE_CORE, THREE_STOCH, THREE_TIME, case_file, write_farmer, write_files, write_lands

from decomp.api import solve_case
from decomp.case.config import load
from problems.smps.files import read_smps
from problems.smps.from_blocks import smps_of
from problems.smps.model import stochastic_program
from problems.smps.scenarios import all_scenarios
from problems.smps.writer import write_smps


def again(problem, folder):
    return write_smps(folder, "again", *smps_of(problem))[0]


@pytest.mark.parametrize("make", [write_lands, write_farmer, None])
def test_a_program_of_smps_files_comes_back(tmp_path, make):
    core = write_files(tmp_path, THREE_CORE, THREE_TIME, THREE_STOCH) if make is None else make(tmp_path)
    before = load(case_file(tmp_path, core, "bundle = 2")).problem.unbundled().program
    files = read_smps(again(load(tmp_path / "case.toml").problem, tmp_path / "written"))
    after = stochastic_program(files.elements, all_scenarios(files.stochastic))
    assert len(after.stages.periods) == len(before.stages.periods)
    order = [before.scenarios.names.index(name) for name in after.scenarios.names]
    np.testing.assert_array_equal(after.scenarios.prob, before.scenarios.prob[order])
    for s, as_before in enumerate(order):
        one, two = before.program(as_before), after.program(s)
        np.testing.assert_array_equal(one.A.toarray(), two.A.toarray())
        for name in ("cost", "row_lo", "row_hi", "lb", "ub", "integer"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    node = before.scenarios.node[order]
    same = node[:, None] == node[None]
    np.testing.assert_array_equal(after.scenarios.node[:, None] == after.scenarios.node[None], same)


def test_a_module_for_mpi_sppy_becomes_smps_files(tmp_path):
    shutil.copy(SUPPORT / "mpisppy_module.py", tmp_path)
    text = case_file(tmp_path, tmp_path).read_text().replace('problem = "smps"', 'problem = "mpisppy"')
    text = text.replace(f'[smps]\nfile = "{tmp_path}"', '[mpisppy]\nmodule = "mpisppy_module"\ncount = 9')
    (tmp_path / "module.toml").write_text(text.replace("count = 9", "count = 9\nbundle = 9\nkwargs = {integer = true}"))
    expected = solve_case(tmp_path / "module.toml", out=tmp_path / "one").summary
    core = again(load(tmp_path / "module.toml").problem, tmp_path / "written")
    found = solve_case(case_file(tmp_path, core, "bundle = 9"), out=tmp_path / "two").summary
    assert found["smps"]["stages"] == 3
    assert found["smps"]["integer_columns"] == 2
    assert found["objective"] == pytest.approx(expected["objective"], rel=1e-6)


def test_what_files_cannot_hold_is_said(tmp_path):
    problem = load(case_file(tmp_path, write_lands(tmp_path))).problem
    problem.couplings = (*problem.couplings, *problem.couplings)
    problem.unbundled = lambda: problem
    with pytest.raises(ValueError, match="one unit"):
        smps_of(problem)
