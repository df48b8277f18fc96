"""What a solution is worth: published EVPI and VSS, and every estimate beside its own computation by scipy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from mpi_jobs import mpiexec
from scipy import stats
from scipy.optimize import Bounds, LinearConstraint, milp
from smps_files import (
    CORE,
    THREE_CORE,
    THREE_STOCH,
    THREE_TIME,
    TIME,
    case_file,
    write_farmer,
    write_files,
    write_lands,
)  # fmt: skip

import tatonnement
from decomp.api import evaluate, solve_case
from decomp.blocks.program_block import bundled_program, mean_program
from decomp.case.config import load
from decomp.cli import tatonnement as command
from decomp.errors import InputError, TatonnementError


def ran(folder, core, *lines):
    case = case_file(folder, core, *lines)
    assert solve_case(case, out=folder / "out").summary["status"] == "certified"
    return folder / "out"


def by_scipy(program, fixed=None):
    lb, ub = program.lb.copy(), program.ub.copy()
    if fixed is not None:
        at = program.coupling.indices
        lb[at], ub[at] = fixed, fixed
    found = milp(
        program.cost, integrality=program.integer.astype(int), bounds=Bounds(lb, ub),
        constraints=LinearConstraint(program.A, program.row_lo, program.row_hi), options={"mip_rel_gap": 1e-9},
    )  # fmt: skip
    return float(found.fun) + program.constant if found.success else np.inf


def one_model(program):
    """Optimum of all scenarios in one two-stage model."""
    s = program.scenarios
    members = {name: program.program(i) for i, name in enumerate(s.names)}
    nodes = np.zeros((len(s.names), len(program.entries)), int)
    return by_scipy(bundled_program(members, s.prob, nodes, np.arange(0))[0])


def test_the_farmer_has_its_published_values(tmp_path):
    """Birge and Louveaux (2011), section 1.1: 115406 - 108390 and 108390 - 107240."""
    found = evaluate(ran(tmp_path, write_farmer(tmp_path)), scenarios=10, seed=0)
    assert found.value.evpi == pytest.approx(7015.56, abs=0.01)
    assert found.value.vss == pytest.approx(1150.00, abs=0.01)
    assert found.first_stage == pytest.approx({"x0": 170.0, "x1": 80.0, "x2": 250.0})


@pytest.mark.parametrize("bundle", [1, 2])
def test_the_farmer_with_whole_acres(tmp_path, bundle):
    out = ran(tmp_path, write_farmer(tmp_path, 500.5, whole=True), f"bundle = {bundle}")
    found = evaluate(out, scenarios=10, seed=0)
    assert found.value.evpi == pytest.approx(7010.00, abs=0.01)
    assert found.value.vss == pytest.approx(1150.00, abs=0.01)


def test_cost_and_gap_are_those_of_scipy(tmp_path):
    out = ran(tmp_path, write_lands(tmp_path))
    found = evaluate(out, scenarios=30, seed=5, replications=3, replication_scenarios=8, confidence=0.9)
    problem = load(tmp_path / "case.toml").problem
    first = np.array([found.first_stage[name] for name in problem.couplings[0].entries])

    def costs(sample):
        return np.array([by_scipy(sample.program.program(s), first) for s in range(len(sample.keys))])

    cost = costs(problem.sample(30, 5))
    assert found.cost.mean == pytest.approx(cost.mean(), rel=1e-7)
    assert found.cost.standard_error == pytest.approx(cost.std(ddof=1) / np.sqrt(30), rel=1e-7)
    low, high = stats.t.interval(0.9, 29, loc=cost.mean(), scale=stats.sem(cost))
    assert (found.cost.low, found.cost.high) == pytest.approx((low, high), rel=1e-7)
    samples = [problem.sample(8, seed) for seed in (6, 7, 8)]
    gaps = np.array([costs(sample).mean() - one_model(sample.program) for sample in samples])
    assert found.gap.mean == pytest.approx(gaps.mean(), abs=1e-4)
    upper = gaps.mean() + stats.t.ppf(0.9, 2) * stats.sem(gaps)
    assert found.gap.upper == pytest.approx(upper, abs=1e-4)
    assert found.gap.mean >= gaps.mean() - 1e-9  # what a replication leaves open widens the estimate


def test_a_first_stage_at_its_limits_keeps_them(tmp_path):
    """Here X4 is 4 but for 1e-9, and the rows of the first stage have no more to spare."""
    out = tmp_path / "out"
    case = case_file(tmp_path, write_lands(tmp_path))
    solve_case(case, out=out, rule="auto", set={"stop.gap.tolerance": 1e-4})
    found = evaluate(out, scenarios=20, seed=1, value=False)
    offers = tatonnement.load_result(out).offers["y"]
    assert found.infeasible == 0
    for name, y in found.first_stage.items():
        assert y == offers.xs(name, level="entry").iloc[0]


def test_a_mean_program_has_the_mean_of_every_number(tmp_path):
    problem = load(case_file(tmp_path, write_lands(tmp_path))).problem
    prob = problem.program.scenarios.prob
    programs = [problem.program.program(s) for s in range(27)]
    mean = mean_program(programs, prob)
    demand = [problem.program.core.rows.index(f"DEMAND{j}") for j in (1, 2, 3)]
    assert mean.row_lo[demand] == pytest.approx([5.0, 3.0, 2.0])
    assert mean.row_hi[demand] == pytest.approx([5.0, 3.0, 2.0])
    assert np.isneginf(mean.row_lo[problem.program.core.rows.index("BUDGET")])


def dry(folder):
    """A demand that seldom is more than the first stage has prepared for."""
    core = CORE.replace("BOUNDS\n", "BOUNDS\n UP BND       Y         4.0\n")
    text = "STOCH\nINDEP\n RHS DEM 3 P2 .9\n RHS DEM 20 P2 .1\nENDATA\n"
    return write_files(folder, core, TIME, text)


def test_scenarios_without_an_answer_are_counted_and_explained(tmp_path):
    out = ran(tmp_path, dry(tmp_path), "scenarios = 3", "seed = 0")
    found = evaluate(out, scenarios=200, seed=1, value=False)
    drawn = load(tmp_path / "case.toml").problem.sample(200, 1).program.scenarios.value[:, 0]
    assert found.infeasible == pytest.approx(np.mean(drawn == 20))
    assert 0.02 < found.infeasible < 0.3
    assert "DEM" in found.conflict
    assert found.cost.count == np.sum(drawn == 3)
    shown = CliRunner().invoke(command, ["evaluate", str(out), "--scenarios", "200", "--seed", "1", "--no-value"])
    assert shown.exit_code == 0
    assert "the expected cost is infinite" in shown.output


def test_what_cannot_be_evaluated_is_told(tmp_path):
    with pytest.raises((InputError, OSError)):
        evaluate(tmp_path / "nowhere", scenarios=5, seed=0)
    out = ran(tmp_path, write_lands(tmp_path))
    (tmp_path / "case.toml").rename(tmp_path / "moved.toml")
    with pytest.raises(InputError, match="is not there; say where it lies: --case FILE"):
        evaluate(out, scenarios=5, seed=0)
    assert evaluate(out, scenarios=5, seed=0, case=tmp_path / "moved.toml", value=False).cost.count == 5
    with pytest.raises(TatonnementError, match="replications 0 or at least 2"):
        evaluate(out, scenarios=5, seed=0, case=tmp_path / "moved.toml", replications=1)
    shown = CliRunner().invoke(command, ["evaluate", str(out), "--scenarios", "5", "--seed", "0"])
    assert shown.exit_code == 2
    assert tatonnement.evaluate is evaluate


@pytest.mark.filterwarnings("ignore")
def test_the_gap_beside_mpi_sppy(tmp_path):
    """Replications of mpi-sppy's own farmer, each solved as its extensive form."""
    farmer = pytest.importorskip("mpisppy.tests.examples.farmer")
    import pyomo.environ as pyo
    from mpisppy.utils import sputils

    text = case_file(tmp_path, "nowhere.cor").read_text().replace('"smps"', '"mpisppy"', 1)
    text = text.replace(
        '[smps]\nfile = "nowhere.cor"', '[mpisppy]\nmodule = "mpisppy.tests.examples.farmer"\ncount = 3'
    )
    (tmp_path / "case.toml").write_text(text)
    assert solve_case(tmp_path / "case.toml", out=tmp_path / "out").summary["status"] == "certified"
    found = evaluate(tmp_path / "out", scenarios=15, seed=50, replications=2)
    assert found.value.evpi == pytest.approx(7015.56, abs=0.01)
    assert found.value.vss == pytest.approx(1150.00, abs=0.01)
    gaps = []
    for seed in (51, 52):
        names = farmer.scenario_names_creator(15)
        values = []
        for fixed in (True, False):
            ef = sputils.create_EF(
                names, farmer.scenario_creator, scenario_creator_kwargs={"num_scens": 15, "seedoffset": seed},
                suppress_warnings=True,
            )  # fmt: skip
            for name in names if fixed else ():
                for v in ef.component(name).DevotedAcreage.values():
                    v.fix(found.first_stage[v.local_name])
            pyo.SolverFactory("appsi_highs").solve(ef)
            values.append(float(pyo.value(ef.EF_Obj)))
        gaps.append(values[0] - values[1])
    assert np.mean(gaps) > 1
    assert found.gap.mean == pytest.approx(np.mean(gaps), rel=1e-3, abs=0.02)


def test_three_stages_are_evaluated_in_fresh_trees(tmp_path):
    out = ran(tmp_path, write_files(tmp_path, THREE_CORE, THREE_TIME, THREE_STOCH))
    with pytest.raises(TatonnementError, match="give --branching"):
        evaluate(out, scenarios=4, seed=0)
    found = evaluate(out, scenarios=4, seed=10, branching=(3, 2), replications=2)
    problem = load(tmp_path / "case.toml").problem
    first = [found.first_stage[name] for name in ("B1", "W1")]

    def tree(seed):
        """Cost with the first stage fixed, and the optimum, of a fresh tree in one model."""
        program = problem.sample_tree((3, 2), seed).program
        s = program.scenarios
        stage = program.stages.column[program.entries]
        members = {name: program.program(i) for i, name in enumerate(s.names)}
        whole, _ = bundled_program(members, s.prob, s.node[:, stage], np.array([0, 1]))
        return by_scipy(whole, first), by_scipy(whole)

    costs = np.array([tree(seed)[0] for seed in range(10, 14)])
    assert found.cost.mean == pytest.approx(costs.mean(), rel=1e-6)
    assert found.cost.standard_error == pytest.approx(stats.sem(costs), rel=1e-5)
    gaps = [fixed - optimum for fixed, optimum in map(tree, (14, 15))]
    assert found.gap.mean == pytest.approx(np.mean(gaps), abs=1e-5)
    assert found.value.evpi > 0
    assert found.value.vss is None
    assert "more than two stages" in found.value.mean_why


@pytest.mark.filterwarnings("ignore")
def test_three_stages_of_a_module_for_mpi_sppy(tmp_path):
    aircond = pytest.importorskip("mpisppy.tests.examples.aircond")
    import pyomo.environ as pyo
    from mpisppy.utils import sputils

    kwargs = "{branching_factors = [3, 2], start_seed = 0, start_ups = false, mu_dev = 0.0, sigma_dev = 40.0}"
    text = case_file(tmp_path, "nowhere.cor").read_text().replace('"smps"', '"mpisppy"', 1)
    module = f'[mpisppy]\nmodule = "mpisppy.tests.examples.aircond"\ncount = 6\nkwargs = {kwargs}'
    (tmp_path / "case.toml").write_text(text.replace('[smps]\nfile = "nowhere.cor"', module))
    assert solve_case(tmp_path / "case.toml", out=tmp_path / "out").summary["status"] == "certified"
    found = evaluate(tmp_path / "out", scenarios=2, seed=40, branching=(2, 2), value=False)
    costs = []
    for seed in (40, 41):
        given = {"start_seed": 0, "start_ups": False, "mu_dev": 0.0, "sigma_dev": 40.0, "branching_factors": [2, 2]}
        ef = sputils.create_EF(
            aircond.scenario_names_creator(4), lambda name, s=seed, g=given: aircond.sample_tree_scen_creator(
                name, 1, [2, 2], s, **g
            ), suppress_warnings=True,
        )  # fmt: skip
        for v in ef.component_data_objects(pyo.Var, descend_into=True):
            own = next((y for name, y in found.first_stage.items() if v.name.endswith(name)), None)
            if own is not None:
                v.fix(own)
        pyo.SolverFactory("appsi_highs").solve(ef)
        costs.append(float(pyo.value(ef.EF_Obj)))
    assert found.cost.mean == pytest.approx(np.mean(costs), rel=1e-6)


@pytest.mark.mpi
def test_the_figures_are_the_same_on_any_number_of_ranks(tmp_path):
    out = ran(tmp_path, write_farmer(tmp_path))
    program = tmp_path / "evaluate.py"
    program.write_text("import sys\nfrom decomp.cli import main\nsys.argv[0] = 'tatonnement'\nmain()\n")
    figures = []
    for ranks in (1, 2, 3):
        file = tmp_path / f"{ranks}.json"
        options = ("--scenarios", 6, "--seed", 3, "--replications", 2, "--out", file)
        done = mpiexec(ranks, program, "evaluate", out, *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("EVPI") == 1
        figures.append(json.loads(file.read_text()))
    assert figures[0] == figures[1] == figures[2]
    done = mpiexec(2, program, "evaluate", tmp_path / "nowhere", "--scenarios", 12, "--seed", 3)
    assert done.returncode == 2
    assert done.stderr.count("1 mistake in the input") == 1
