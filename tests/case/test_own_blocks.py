"""A case without a Problem class: the coordinator by name, blocks from a module beside the file."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import tatonnement as tt
from decomp.cli import tatonnement
from decomp.command import main
from decomp.parallel.ranks import Serial

PLANTS = """
import pyomo.environ as pyo
import tatonnement as tt

class Plant(tt.PyomoSubproblem):
    def __init__(self, slope, number=1, scenario="0"):
        self.slope, self.dear = slope * number, 2.0 if scenario == "dear" else 1.0
        super().__init__()

    def build(self):
        m = pyo.ConcreteModel()
        m.y = pyo.Var(bounds=(0, 10))
        m.cost = pyo.Expression(expr=0.5 * self.dear * self.slope * m.y**2)
        m.coupling = pyo.Expression(["now"], rule=lambda m, i: m.y)
        return m

def lots():
    m = pyo.ConcreteModel()
    m.Z, m.n = pyo.Var(["grid"]), pyo.Var(domain=pyo.Integers, bounds=(2, 6))
    m.whole = pyo.Constraint(expr=m.Z["grid"] == 1.5 * m.n)
    m.cost = pyo.Expression(expr=m.n)
    return m
"""
CASE = """
[case]
title = "plants"
problem = "blocks"
[coordinator]
kind = "at_least"
nodes = ["grid"]
need = 3.0
box = [0.0, 20.0]
[unit.plant]
block = "plants:Plant"
count = 2
arguments = {slope = 1.0}
[rule]
kind = "bundle"
[stop.gap]
tolerance = 1e-6
floor = 1e-9
measure = "total"
[certificate]
every = 1
[run]
max_rounds = 50
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "plants.py").write_text(PLANTS)

    def case(*changes):
        text = CASE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "case.toml"
        file.write_text(text)
        return file

    return case


def test_a_need_is_met_by_plants_of_ones_own(write):
    result = tt.solve_case(write())
    assert result.status == "certified"
    assert result.objective == pytest.approx(3.0, rel=1e-5)  # 2 and 1 at the price 2
    assert result.offers.loc[("plant1", "0", "grid"), "y"] == pytest.approx(2.0, abs=1e-2)


def test_scenarios_are_told_to_the_block(write):
    # the second scenario is twice as dear: on average 1.5 and 3 times y^2/2
    result = tt.solve_case(write(("count = 2", "count = 2\nscenarios = {cheap = 0.5, dear = 0.5}")))
    assert result.objective == pytest.approx(4.5, rel=1e-5)


def test_a_model_with_whole_decisions_is_one_more_unit(write):
    change = ('kind = "at_least"', 'kind = "pyomo"\nmodel = "plants:lots"\nas_unit = true'), ("need = 3.0\n", "")
    assert tt.solve_case(write(*change)).objective == pytest.approx(5.0, rel=1e-5)


def test_a_matrix_lies_in_a_file_of_its_own(write):
    file = write(('kind = "at_least"', 'kind = "rows"\nA = "rows.csv"\nlo = [6.0]'), ("need = 3.0\n", ""))
    (file.parent / "rows.csv").write_text("2.0\n")
    assert tt.solve_case(file).objective == pytest.approx(3.0, rel=1e-5)


def test_every_mistake_is_told_at_once(write):
    file = write(
        ("need = 3.0", "ned = 3.0"), ("slope = 1.0", "slop = 1.0"), ("max_rounds = 50", "max_rounds = 0"),
    )  # fmt: skip
    with pytest.raises(tt.InputError) as told:
        tt.solve_case(file)
    places = {(m.section, m.key) for m in told.value.mistakes}
    assert {("coordinator", "ned"), ("coordinator", "need"), ("unit.plant.arguments", "slop")} <= places
    assert ("unit.plant.arguments", "slope") in places
    assert any(section == "run" for section, _ in places)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"at_least"', '"at_most"', "coordinator"),
        ("box = [0.0, 20.0]", "box = [2.0, 1.0]", "coordinator"),
        ('"plants:Plant"', '"plants:Plnt"', "unit.plant"),
        ("count = 2", 'count = 2\nnodes = ["gird"]', "unit.plant"),
        ("count = 2", "count = 2\nscenarios = {a = 0.5}", "unit.plant"),
    ],
)
def test_a_wrong_table_is_named(write, old, new, where):
    with pytest.raises(tt.InputError) as told:
        tt.solve_case(write((old, new)))
    assert {m.section for m in told.value.mistakes} <= {where, "unit"}


FARMER = """
[case]
title = "farmer"
problem = "blocks"
[unit.farmer]
block = "farmer:Farmer"
entries = ["wheat", "corn", "beets"]
scenarios = {0 = 0.25, 1 = 0.25, 2 = 0.5}
[rule]
kind = "progressive_hedging"
[stop.gap]
tolerance = 1e-4
floor = 0
measure = "total"
[certificate]
every = 5
[run]
max_rounds = 60
"""


def test_second_stage_decisions_and_what_is_proven_are_told(tmp_path, capfd):
    (tmp_path / "case.toml").write_text(FARMER)
    told = CliRunner().invoke(tatonnement, ["check", str(tmp_path / "case.toml"), "--blocks"])
    assert told.exit_code == 0, told.output
    assert "3 blocks tried: nothing wrong" in told.output
    assert main(Serial(), [str(tmp_path / "case.toml"), "--out", str(tmp_path / "out")]) == 0
    shown = capfd.readouterr().out.splitlines()
    head, last = shown[1], next(line for line in reversed(shown) if line.strip()[:1].isdigit())
    assert head.split()[:4] == ["round", "mismatch", "spread", "at"]
    assert "worst" not in head
    for name in ("lower bound", "upper bound", "gap"):
        assert name in head
    bounds = [float(word) for word in last.split()[-4:-2]]
    assert bounds == pytest.approx([-123042.5] * 2, rel=1e-4)
    details = tt.load_result(tmp_path / "out").details["value"]
    acres = details.xs("acres", level="name").unstack()
    assert acres.loc["farmer"].to_numpy() == pytest.approx(np.tile([170, 80, 250], (3, 1)), abs=0.5)
    assert set(details.index.get_level_values("name")) > {"acres", "sold"}


WRONG = """
import numpy as np
import tatonnement as tt

def block():
    return tt.FunctionBlock(lambda price: (-price, float(price @ price) / 2), exact=True)
"""


def test_check_finds_a_block_that_does_not_keep_what_it_promises(write):
    file = write(("count = 2\narguments = {slope = 1.0}\n", ""), ("plants:Plant", "wrong:block"))
    (file.parent / "wrong.py").write_text(WRONG)
    told = CliRunner().invoke(tatonnement, ["check", str(file), "--blocks"])
    assert told.exit_code == 1
    assert "sign of the price" in told.output
    assert CliRunner().invoke(tatonnement, ["check", str(file)]).exit_code == 0


@pytest.mark.parametrize("name", ["a/b", "..", "a\\\\b", "x" * 250, "tab\\there"])
def test_a_name_no_file_can_have_is_refused_before_anything_is_computed(write, name):
    with pytest.raises(tt.InputError, match="the name of unit"):
        tt.load(write(("[unit.plant]", f'[unit."{name}"]'), ("count = 2\n", "")))
    with pytest.raises(tt.InputError, match="the name of scenario"):
        tt.load(write(("count = 2", f'scenarios = {{"{name}" = 0.5, b = 0.5}}')))
    assert not list(write().parent.glob("*.csv"))
