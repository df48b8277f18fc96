"""Modules written for mpi-sppy: their known optima, and the extensive form that mpi-sppy itself makes of them."""

from __future__ import annotations

import shutil

import numpy as np
import pyomo.environ as pyo
import pytest
from mpi_jobs import contents, finished
from paths import SUPPORT

from decomp.api import solve_case
from decomp.case.config import load
from decomp.errors import InputError
from problems.mpisppy.scenario import members


def case_file(folder, *lines, more=""):
    shutil.copy(SUPPORT / "mpisppy_module.py", folder)
    text = "\n".join(
        (
            '[case]\ntitle = "test"\nproblem = "mpisppy"\n[mpisppy]', *lines,
            '[rule]\nkind = "bundle"\n[stop.gap]\ntolerance = 1e-7\nfloor = 1e-7\nmeasure = "total"',
            "[certificate]\nevery = 1\n[run]\nmax_rounds = 60\n", more,
        )
    )  # fmt: skip
    (folder / "case.toml").write_text(text)
    return folder / "case.toml"


OWN = ('module = "mpisppy_module"', "count = 9")


def own_optimum(integer=False):
    """Two seasons in one model."""
    from mpisppy_module import DEMAND

    kinds = ["wet", "dry", "fair"]
    m = pyo.ConcreteModel()
    m.first = pyo.Var(bounds=(0, 150))
    m.second = pyo.Var(kinds, bounds=(0, 150))
    m.s1 = pyo.Var(kinds, bounds=lambda m, a: (0, DEMAND[a]))
    m.s2 = pyo.Var(kinds, kinds, bounds=lambda m, a, b: (0, DEMAND[b]))
    m.stock1 = pyo.Constraint(kinds, kinds, rule=lambda m, a, b: m.s1[a] <= m.first)
    m.stock2 = pyo.Constraint(kinds, kinds, rule=lambda m, a, b: m.s1[a] + m.s2[a, b] <= m.first + m.second[a])
    m.goal = pyo.Objective(
        expr=4 * m.first
        + sum(5 * m.second[a] - 9 * m.s1[a] for a in kinds) / 3
        - sum(9 * m.s2[a, b] for a in kinds for b in kinds) / 9
    )
    pyo.SolverFactory("appsi_highs").solve(m)
    return float(pyo.value(m.goal))


@pytest.mark.parametrize("bundle", [1, 3])
def test_three_stages_without_mpi_sppy(tmp_path, bundle):
    result = solve_case(case_file(tmp_path, *OWN, f"bundle = {bundle}"), out=tmp_path / "out")
    assert result.summary["status"] == "certified"
    assert result.summary["objective"] == pytest.approx(own_optimum(), rel=1e-6)
    solution = (tmp_path / "out" / "solution.csv").read_text().splitlines()
    assert solution[0] == "scenario,variable,value"
    assert len(solution) == 1 + 9 * 4


def test_an_objective_to_be_maximised_changes_its_sign(tmp_path):
    result = solve_case(case_file(tmp_path, *OWN, "kwargs = {sense = -1}"), out=tmp_path / "out")
    assert result.summary["objective"] == pytest.approx(own_optimum(), rel=1e-6)
    assert result.summary["mpisppy"]["maximised_objective"] == -result.summary["objective"]


def test_probabilities_of_the_module_are_kept(tmp_path):
    prob = [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    problem = load(case_file(tmp_path, *OWN, f"kwargs = {{probability = {prob}}}")).problem
    np.testing.assert_allclose(sorted(problem.couplings[0].prob.values()), sorted(prob))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (('module = "nowhere_at_all"', "count = 3"), r"\[mpisppy\] module:.*nowhere_at_all"),
        (('module = "mpisppy_module"', "count = 9", 'kwargs = {broken = "nodes"}'), "it has no _mpisppy_node_list"),
        (('module = "mpisppy_module"', "count = 9", 'kwargs = {broken = "objective"}'), "it has 2 active objectives"),
        (('module = "mpisppy_module"', "count = 9", 'kwargs = {broken = "raises"}'), "no data for this scenario"),
        (('module = "mpisppy_module"', "count = 9", "kwargs = {wrong = 1}"), "unexpected keyword argument 'wrong'"),
        (('module = "mpisppy_module"', "count = 2", "kwargs = {probability = [0.5, 0.4]}"), "sum to 0.9"),
        (('module = "mpisppy_module"', "count = 9", 'names = "scen"'), "names needs one {}"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path, lines, told):
    with pytest.raises(InputError, match=told):
        load(case_file(tmp_path, *lines))


def test_a_checkpoint_belongs_to_the_module(tmp_path):
    case = case_file(tmp_path, *OWN)
    before = load(case).identity
    assert "mpisppy_module.py" in before["files"]


def test_slices_and_members_are_variables():
    m = pyo.ConcreteModel()
    m.x = pyo.Var([1, 2], [1, 2])
    m.y = pyo.Var()
    assert [v.name for v in members(m, [m.x[:, 1], m.y, m.x[1, 2]])] == ["x[1,1]", "x[2,1]", "y", "x[1,2]"]
    assert len(members(m, m.x)) == 4


def extensive(module, names, kwargs):
    """The optimum of mpi-sppy's own extensive form."""
    sputils = pytest.importorskip("mpisppy.utils.sputils")
    ef = sputils.create_EF(names, module.scenario_creator, scenario_creator_kwargs=kwargs, suppress_warnings=True)
    pyo.SolverFactory("appsi_highs").solve(ef)
    return float(pyo.value(ef.EF_Obj))


@pytest.mark.filterwarnings("ignore")
def test_the_farmer_of_mpi_sppy(tmp_path):
    farmer = pytest.importorskip("mpisppy.tests.examples.farmer")
    case = case_file(
        tmp_path, 'module = "mpisppy.tests.examples.farmer"', "count = 6", "kwargs = {crops_multiplier = 2}"
    )
    result = solve_case(case, out=tmp_path / "out")
    expected = extensive(farmer, farmer.scenario_names_creator(6), {"crops_multiplier": 2, "num_scens": 6})
    assert result.summary["objective"] == pytest.approx(expected, rel=1e-6)
    case = case_file(tmp_path, 'module = "mpisppy.tests.examples.farmer"', "count = 3")
    assert solve_case(case, out=tmp_path / "3").summary["objective"] == pytest.approx(-108390.0, abs=0.05)


@pytest.mark.filterwarnings("ignore")
def test_three_stages_of_aircond(tmp_path):
    aircond = pytest.importorskip("mpisppy.tests.examples.aircond")
    kwargs = {"branching_factors": [3, 2], "start_seed": 0, "start_ups": False, "mu_dev": 0.0, "sigma_dev": 40.0}
    text = "{branching_factors = [3, 2], start_seed = 0, start_ups = false, mu_dev = 0.0, sigma_dev = 40.0}"
    case = case_file(tmp_path, 'module = "mpisppy.tests.examples.aircond"', "count = 6", f"kwargs = {text}")
    result = solve_case(case, out=tmp_path / "out")
    assert result.summary["status"] == "certified"
    assert result.summary["objective"] == pytest.approx(
        extensive(aircond, aircond.scenario_names_creator(6), kwargs), rel=1e-6
    )


@pytest.mark.filterwarnings("ignore")
def test_regions_with_common_variables(tmp_path):
    distr = pytest.importorskip("mpisppy.tests.examples.distr.distr")
    case = case_file(tmp_path, 'module = "mpisppy.tests.examples.distr.distr"', "count = 3")
    result = solve_case(case, out=tmp_path / "out")
    m, names = pyo.ConcreteModel(), distr.scenario_names_creator(3)
    goals, common = [], {}
    for name in names:
        model = distr.scenario_creator(name, num_scens=3)
        goal = next(model.component_data_objects(pyo.Objective))
        goal.deactivate()
        goals.append(goal.expr)
        m.add_component(name, model)
        for one in distr.consensus_vars_creator(3)[name]:
            common.setdefault(one, []).append(model.find_component(one))
    m.equal = pyo.ConstraintList()
    for a, b in common.values():
        m.equal.add(a == b)
    m.goal = pyo.Objective(expr=sum(goals))
    pyo.SolverFactory("appsi_highs").solve(m)
    assert result.summary["status"] == "certified"
    assert result.summary["objective"] == pytest.approx(float(pyo.value(m.goal)), rel=1e-6)


@pytest.mark.mpi
def test_the_files_are_the_same_on_any_number_of_ranks(tmp_path):
    case = case_file(tmp_path, *OWN)
    first = contents(finished(1, case, tmp_path / "1"))
    for ranks in (2, 3):
        out = finished(ranks, case, tmp_path / str(ranks))
        assert contents(out) == first
        assert (out / "solution.csv").read_bytes() == (tmp_path / "1" / "solution.csv").read_bytes()
