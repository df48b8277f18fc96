"""Columns of an earlier run: kept on request, used by blocks with the same data only, never taken for a bound."""

from __future__ import annotations

import importlib.util
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from closed_form import unit
from mpi_jobs import contents, mpiexec
from paths import ROOT
from rough_case import only

from benchmarks.earlier_columns import market, solved
from benchmarks.ladder import Ladder
from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.blocks.fingerprint import fingerprint
from decomp.blocks.pyomo_block import BlockSettings, PyomoSubproblem
from decomp.errors import InputError
from decomp.layout import Layout
from decomp.messages import Key
from decomp.parallel.ranks import Serial
from decomp.rules.columns import Columns, Held
from decomp.storage.stored_columns import FILE, StoredColumns, read_earlier

BLOCKS, PRICES, TOLERANCE = 4, 24, 1e-4
CASE = f"""
[case]
title = "A market that is solved every day"
problem = "benchmarks.synthetic:Synthetic"
[rule]
kind = "bundle"
[stop.gap]
tolerance = {TOLERANCE}
floor = 0.0
measure = "total"
[certificate]
every = 1
[run]
max_rounds = 60
columns = true
[synthetic]
class = "lp"
blocks = {BLOCKS}
prices = {PRICES}
seed = 2
"""
CHANGED = ("--set", "synthetic.load=1.03")
BEGIN = ("--set", "start.columns='day'")


@pytest.fixture(scope="module")
def command():
    """mpi_run.main on this process alone."""
    spec = importlib.util.spec_from_file_location("mpi_run", ROOT / "mpi_run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main(Serial(), [*map(str, arguments), "--quiet"])


@pytest.fixture(scope="module", autouse=True)
def clean_logging():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "basicConfig", lambda **_: None)
        for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory, command) -> Path:
    """The case file; the result of its first run lies beside it in `day`."""
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "case.toml").write_text(CASE)
    assert command(folder / "case.toml", "--out", folder / "day") == 0
    return folder / "case.toml"


@pytest.fixture(scope="module")
def earlier(case) -> StoredColumns:
    return read_earlier(case.parent / "day")


def summary(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


# -- a changed network -------------------------------------------------------------------------------------------------


def test_a_changed_network_is_solved_in_fewer_rounds_to_the_same_optimum(command, case, tmp_path):
    assert command(case, "--out", tmp_path / "cold", *CHANGED) == 0
    assert command(case, "--out", tmp_path / "warm", *CHANGED, *BEGIN) == 0
    assert command(case, "--out", tmp_path / "priced", *CHANGED, "--set", "start.prices='day'") == 0
    cold, priced, warm = (summary(tmp_path / name) for name in ("cold", "priced", "warm"))
    optimum = market(BLOCKS, PRICES, 2, 1.03).reference(60).optimum
    for end in (cold, warm):
        assert end["status"] == "certified"
        assert end["lower_bound"] <= optimum * (1 + 1e-9)
        assert optimum * (1 - 1e-9) <= end["objective"] <= optimum * (1 + TOLERANCE)
    assert warm["iterations"] < priced["iterations"] < cold["iterations"]


def test_a_run_begins_at_the_best_prices_unless_others_are_given(command, case, tmp_path, earlier):
    one, file = ("--set", "run.max_rounds=1"), tmp_path / "p.csv"
    prices = ("--set", f"start.prices='{file}'")
    assert command(case, "--out", tmp_path / "best", *BEGIN, *one) == 0
    assert command(case, "--out", tmp_path / "given", *BEGIN, *one, *prices) == 2
    file.write_text("node,price\n" + "".join(f"{node},0.25\n" for node in earlier.nodes))
    assert command(case, "--out", tmp_path / "given", *BEGIN, *one, *prices) == 0
    best, given = (
        np.loadtxt(tmp_path / name / "prices.csv", delimiter=",", skiprows=1, usecols=2) for name in ("best", "given")
    )
    assert best.tolist() == earlier.held.price.tolist()
    assert np.all(given == 0.25)


def test_columns_that_cost_too_little_never_make_a_bound(earlier, monkeypatch):
    monkeypatch.setattr("benchmarks.earlier_columns.ROUNDS", 10)
    problem = market(BLOCKS, PRICES, 2, 1.03)
    optimum = problem.reference(60).optimum
    columns = earlier.held.columns
    false = replace(earlier, held=replace(earlier.held, columns=replace(columns, cost=columns.cost - 0.2 * optimum)))
    result = solved(problem, TOLERANCE, earlier.held.price, false)
    assert len(result.rows) > 5
    for row in result.rows:
        assert row.lower_bound <= optimum * (1 + 1e-9)
        assert row.upper_bound >= optimum * (1 - 1e-9)


# -- which columns hold ------------------------------------------------------------------------------------------------


def test_columns_of_a_changed_block_are_left_out(earlier, monkeypatch):
    problem, dearer = market(BLOCKS, PRICES, 2, 1.0), Key("u001", "0")
    layout = Layout.of(problem.couplings, len(problem.coordinator.nodes))
    build = type(problem)._block

    def other(self, u, s):
        block = build(self, u, s)
        return Ladder(replace(block.rungs, cost=1.5 * block.rungs.cost)) if u == 1 else block

    monkeypatch.setattr(type(problem), "_block", other)
    prints = [problem.subproblem(key).fingerprint().hex() for key in layout.keys]
    held, told = earlier.fitted(layout, prints)
    assert "columns of 3 of 4 blocks; 1 other data than then" in told
    before = np.bincount(earlier.held.columns.block, minlength=BLOCKS)
    before[layout.keys.index(dearer)] = 0
    assert np.bincount(held.columns.block, minlength=BLOCKS).tolist() == before.tolist()
    result, optimum = solved(problem, TOLERANCE, earlier.held.price, earlier), problem.reference(60).optimum
    assert result.status == "certified"
    assert result.objective == pytest.approx(optimum, rel=TOLERANCE)


def test_columns_follow_their_blocks_among_others(earlier):
    problem = market(BLOCKS, PRICES, 2, 1.0)
    new = replace(problem.couplings[2], unit="a new one", prob={Key("a new one", "0"): 1.0})
    silent = problem.couplings[3].unit
    layout = Layout.of([new, *problem.couplings[:2], problem.couplings[3]], len(problem.coordinator.nodes))
    before = dict(zip(earlier.keys, earlier.prints, strict=True)) | {
        Key(silent, "0"): "",
        Key("a new one", "0"): "0" * 64,
    }
    prints = [before[key] for key in layout.keys]
    held, told = earlier.fitted(layout, prints)
    assert told.endswith("columns of 2 of 4 blocks; 1 were not there then; 1 cannot tell which data they have")
    assert [key.unit for key in layout.keys][:2] == ["a new one", "u000"]
    old, new_columns = earlier.held.columns, held.columns
    for b, e in ((1, 0), (2, 1)):
        assert layout.keys[b] == earlier.keys[e]
        mine, own = old.only(np.flatnonzero(old.block == e)), new_columns.only(np.flatnonzero(new_columns.block == b))
        assert (own.cost.tolist(), own.y.tolist()) == (mine.cost.tolist(), mine.y.tolist())
    assert set(new_columns.block.tolist()) == {1, 2}


def test_multipliers_of_the_agreement_still_sum_to_zero_when_a_scenario_goes():
    def layout(scenarios):
        return Layout.of([unit("u", (-1, -1), (1.0, 1.0), scenarios, [1 / len(scenarios)] * len(scenarios))], 0)

    columns = Columns(
        np.array([0, 2]), np.array([0, 2, 4]), np.arange(4.0), np.ones(2), np.zeros(2, int), np.zeros(2, int)
    )
    left = StoredColumns.of(
        layout("abc"), (), ["1", "2", "3"], Held(columns, np.zeros(0), np.array([1.0, 2, -3, 0, 2, -2]))
    )
    held, _ = left.fitted(layout("bc"), ["2", "3"])
    assert held.columns.block.tolist() == [1]
    assert held.columns.y.tolist() == [2.0, 3.0]
    assert layout("bc").multiplier_sum(held.w)[0] < 1e-15
    assert held.w.tolist() == [-2.5, 1.0, 2.5, -1.0]


# -- refused -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_begun_with_is_refused_and_nothing_is_written(command, case, tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    def refused(*arguments) -> str:
        assert command(case, "--out", tmp_path / "out", *arguments) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    at = ("--set", f"start.columns='{tmp_path / 'empty'}'")
    assert "columns: is not there; run the earlier case" in refused(*at)
    assert "keeps no columns" in refused(*BEGIN, "--rule", "admm")
    assert "keeps no columns" in refused("--rule", "admm")  # [run] columns of such a rule
    other = refused(*BEGIN, "--set", "synthetic.prices=48")
    assert "units are coupled otherwise than in this case: u001" in other
    (tmp_path / "empty" / FILE).write_bytes((case.parent / "day" / FILE).read_bytes()[:-200])
    assert "cannot be read" in refused(*at)


@pytest.mark.parametrize(
    ("name", "spoilt", "words"),
    [
        ("format", np.array(99), "its format is 99"),
        ("cost", np.array([{"no": "number"}], object), "cannot be read"),
        ("cost", np.zeros(1), "do not fit together: cost"),
        ("block", None, "blocks that it does not name"),
        ("y", None, "do not have the length"),
        ("price", np.nan, "not finite"),
    ],
)
def test_a_damaged_file_is_refused_in_words(case, tmp_path, name, spoilt, words):
    with np.load(case.parent / "day" / FILE) as file:
        arrays = dict(file)
    whole = {"block": lambda a: a + BLOCKS, "y": lambda a: a[:-1], "price": lambda a: a * np.nan}
    arrays[name] = whole[name](arrays[name]) if name in whole else spoilt
    np.savez(tmp_path / FILE, **arrays)
    with pytest.raises(InputError, match=words):
        read_earlier(tmp_path)


def test_columns_of_none_of_the_units_and_prices_of_other_nodes_are_mistakes(earlier):
    problem = market(BLOCKS, PRICES, 2, 1.0)
    others = [replace(c, unit=f"x{c.unit}", prob={Key(f"x{c.unit}", "0"): 1.0}) for c in problem.couplings]
    assert "none of the case's units" in earlier.mistakes(others, "f")[0].problem
    heavier = [replace(c, weight=2 * c.weight) for c in problem.couplings]
    assert "coupled otherwise" in earlier.mistakes(heavier, "f")[0].problem
    assert earlier.mistakes(problem.couplings, "f") == []
    with pytest.raises(InputError, match="other nodes"):
        earlier.price(("a", "b"), "f")


# -- the same on any number of ranks, and when resumed ----------------------------------------------------------------


@pytest.mark.mpi
def test_two_ranks_begin_and_leave_the_same(command, case, tmp_path):
    few = (*CHANGED, *BEGIN, "--set", "run.max_rounds=4")
    assert command(case, "--out", tmp_path / "1", *few) == 0
    done = mpiexec(2, ROOT / "mpi_run.py", case, "--out", tmp_path / "2", "--quiet", *few)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert (tmp_path / "1" / FILE).read_bytes() == (tmp_path / "2" / FILE).read_bytes()


def test_a_run_that_is_resumed_goes_on_with_the_columns_it_began_with(command, case, tmp_path):
    saved = (
        *CHANGED,
        *BEGIN,
        "--set",
        "checkpoint.every_rounds=1",
        "--set",
        "checkpoint.keep=100",
        "--set",
        "run.max_rounds=6",
    )
    assert command(case, "--out", tmp_path / "whole", *saved) == 0
    part = only(tmp_path / "whole", tmp_path / "part", 3)
    assert command(case, "--out", part, "--resume", part, *saved) == 0
    assert contents(part) == contents(tmp_path / "whole")
    assert (part / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()


def test_a_run_that_keeps_none_leaves_no_older_ones(command, case, tmp_path):
    one = ("--set", "run.max_rounds=1")
    assert command(case, "--out", tmp_path / "out", *one) == 0
    assert (tmp_path / "out" / FILE).exists()
    assert command(case, "--out", tmp_path / "out", *one, "--set", "run.columns=false") == 0
    assert not (tmp_path / "out" / FILE).exists()


# -- which data a block has --------------------------------------------------------------------------------------------


class Heater(PyomoSubproblem):
    """Sells what it does not need; `frozen` variables and a term of the user's on request."""

    def __init__(self, need=1.0, *, held=False, term=None, template=None, **more):
        super().__init__(**more)
        self.need, self.held, self.term, self.template = need, held, term, template
        if held:
            self.initial_price = np.zeros(1)

    def build(self):
        m = pyo.ConcreteModel()
        m.need = pyo.Param(initialize=0.0, mutable=True) if self.template else pyo.Param(initialize=self.need)
        m.x, m.t = pyo.Var(bounds=(0, 5)), pyo.Var(bounds=(0, 100))
        m.enough = pyo.Constraint(expr=m.x >= m.need)
        m.cost, m.coupling = pyo.Expression(expr=2 * m.x + m.t), pyo.Expression([0], rule=lambda _, i: m.x)
        return m

    def parameters(self, model):
        return {"need": self.need}

    def convex_terms(self, model):
        return () if self.term is None else [ConvexTerm(model.t, (model.x,), *self.term)]

    def frozen(self, model):
        return {0: [model.x]} if self.held else {}


def square(x):
    return x**2


def slope(x):
    return [2 * x]


def test_blocks_are_known_by_their_data():
    same = Heater().fingerprint()
    assert same == Heater().fingerprint()
    others = [
        Heater(1.5), Heater(weight=0.25), Heater(settings=BlockSettings(milp="relax")), Heater(term=(square, slope)),
    ]  # fmt: skip
    prints = [block.fingerprint() for block in others]
    assert None not in prints
    assert len({same, *prints}) == 1 + len(others)
    of_template = [Heater(need, template="heaters").fingerprint() for need in (1.0, 1.5)]
    assert of_template == [same, prints[0]]


def test_blocks_that_depend_on_more_than_their_data_cannot_tell():
    def within(x):
        return x**2

    assert Heater(held=True).fingerprint() is None
    assert Heater(solver="ipopt").fingerprint() is None
    assert Heater(term=(within, slope)).fingerprint() is None
    assert fingerprint(object()) is None
    assert fingerprint((1, [2.0, "a"])) != fingerprint((1, [2.0, "b"]))
    assert fingerprint(np.zeros(2), np.zeros(1)) != fingerprint(np.zeros(1), np.zeros(2))
