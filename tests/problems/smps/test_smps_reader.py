"""Reading SMPS files: what HiGHS reads of the core file, every kind of line, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import highspy
import numpy as np
import pytest
from smps_files import CORE, STOCH, TIME, write_files

from decomp.errors import InputError
from problems.smps.core import read_core
from problems.smps.files import read_smps
from problems.smps.lines import reading
from problems.smps.model import all_sides
from problems.smps.scenarios import all_scenarios, sampled

EVERYTHING = """\
* every kind of row, range and bound
NAME          TEST
OBJSENSE
    MAX
ROWS
 N  COST
 G  G1
 L  L1
 E  E1
 E  E2
 N  UNUSED
COLUMNS
    A         COST       1.5D0   G1         2.0
    A         L1         -1.0
    B         COST      -2.0     E1         1e0
    B         UNUSED     5.0
    MARK      'MARKER'                 'INTORG'
    C         G1         1.0     L1         3.0
    D         E2         1.0     COST       0.25
    MARK      'MARKER'                 'INTEND'
    E         E2        -1.0
    F         E2         2.0     G1        -4.0
    G         L1         1.0
    H         L1         1.0
RHS
    RHS       COST       12.0    G1         1.0
    RHS       E1         4.0     L1         9.0
RANGES
    RNG       G1         2.5     L1        -3.0
    RNG       E1         1.0     E2        -2.0
BOUNDS
 UP BND       A          4.0
 UP BND       B         -1.0
 LO BND       D          2.0
 FX BND       E          3.5
 MI BND       F
 BV BND       G
 FR BND       H
ENDATA
"""


def of_highs(path: Path) -> highspy.HighsLp:
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.readModel(str(path))
    return solver.getLp()


def test_the_core_file_is_read_as_highs_reads_it(tmp_path):
    path = tmp_path / "test.mps"
    path.write_text(EVERYTHING)
    core, lp = read_core(reading(path, "test.mps", "auto")), of_highs(path)
    assert list(core.columns) == list(lp.col_names_)
    assert list(core.rows) == list(lp.row_names_)
    assert core.maximise
    np.testing.assert_array_equal(core.cost, lp.col_cost_)
    assert core.constant == lp.offset_ == -12.0
    lower = np.array(lp.col_lower_)
    assert lower[1] in (0.0, -np.inf)  # an upper bound below 0: HiGHS leaves the lower one at 0 in some versions
    lower[1] = -np.inf
    np.testing.assert_array_equal(core.lb, lower)
    np.testing.assert_array_equal(core.ub, lp.col_upper_)
    whole = [kind == highspy.HighsVarType.kInteger for kind in lp.integrality_]
    np.testing.assert_array_equal(core.integer, whole)
    lo, hi = all_sides(core)
    np.testing.assert_array_equal(lo, lp.row_lower_)
    np.testing.assert_array_equal(hi, lp.row_upper_)
    dense = np.zeros((len(core.rows), len(core.columns)))
    for (i, j), value in core.A.items():
        dense[i, j] = value
    start, index, values = (lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_)
    other = np.zeros_like(dense)
    for j in range(dense.shape[1]):
        other[index[start[j] : start[j + 1]], j] = values[start[j] : start[j + 1]]
    np.testing.assert_array_equal(dense, other)


def test_fixed_columns_let_names_hold_spaces(tmp_path):
    text = "NAME\nROWS\n N  COST\n G  ROW ONE\nCOLUMNS\n"
    text += "    COL A     COST      1.0            ROW ONE   2.0\n"
    text += "RHS\n              ROW ONE   6.0\nENDATA\n"
    (tmp_path / "fixed.cor").write_text(text)
    core = read_core(reading(tmp_path / "fixed.cor", "fixed.cor", "auto"))
    assert core.columns == ("COL A",)
    assert core.rows == ("ROW ONE",)
    assert core.A == {(0, 0): 2.0}
    assert core.rhs.tolist() == [6.0]


def test_independent_numbers_give_their_product(tmp_path):
    files = read_smps(write_files(tmp_path))
    scenarios = all_scenarios(files.stochastic)
    assert len(scenarios.names) == 4
    np.testing.assert_allclose(scenarios.prob, [0.15, 0.35, 0.15, 0.35])
    np.testing.assert_array_equal(scenarios.value, [[3, 1], [3, 2], [5, 1], [5, 2]])
    np.testing.assert_array_equal(scenarios.node[:, 0], 0)
    assert len(set(scenarios.node[:, 1].tolist())) == 4


BLOCKS = """\
STOCH
BLOCKS        DISCRETE
 BL B1        P2        0.25
    RHS       DEM       3.0
    Y         DEM       2.0
 BL B1        P2        0.75
    RHS       DEM       4.0
ENDATA
"""
SCENARIOS = """\
STOCH
SCENARIOS     DISCRETE
 SC ONE       ROOT      0.5       P2
    RHS       DEM       3.0
    Y         DEM       2.0
 SC TWO       ONE       0.5       P2
    RHS       DEM       4.0
ENDATA
"""


@pytest.mark.parametrize("text", [BLOCKS, SCENARIOS])
def test_a_realisation_has_the_numbers_of_the_first_where_it_says_nothing(tmp_path, text):
    scenarios = all_scenarios(read_smps(write_files(tmp_path, stochastic=text)).stochastic)
    np.testing.assert_array_equal(scenarios.value, [[3, 2], [4, 2]])


def test_numbers_may_be_added_to_the_core_or_multiply_it(tmp_path):
    for manner, expected in (("ADD", [[3.0], [4.0]]), ("MULTIPLY", [[2.0], [4.0]])):
        text = f"STOCH\nINDEP DISCRETE {manner}\n RHS DEM 1.0 P2 .5\n RHS DEM 2.0 P2 .5\nENDATA\n"
        files = read_smps(write_files(tmp_path, stochastic=text))
        np.testing.assert_array_equal(all_scenarios(files.stochastic).value, expected)


THREE = {
    "core": (
        "NAME T\nROWS\n N C\n G R1\n G R2\n G R3\nCOLUMNS\n X C 1 R1 1\n X R2 1\n Y C 2 R2 1\n Y R3 1\n"
        " Z C 9 R3 1\nRHS\n RHS R1 0 R2 1\n RHS R3 1\nENDATA\n"
    ),
    "time": "TIME T\nPERIODS\n X R1 P1\n Y R2 P2\n Z R3 P3\nENDATA\n",
}


def test_a_list_of_scenarios_branches_where_it_says(tmp_path):
    text = (
        "STOCH\nSCENARIOS\n SC A ROOT .25 P1\n RHS R2 1\n RHS R3 1\n SC B A .25 P3\n RHS R3 3\n"
        " SC C A .25 P2\n RHS R2 2\n RHS R3 2\n SC D C .25 P3\n RHS R3 4\nENDATA\n"
    )
    s = all_scenarios(read_smps(write_files(tmp_path, stochastic=text, **THREE)).stochastic)
    first, second, third = (s.node[:, k].tolist() for k in range(3))
    assert len(set(first)) == 1
    assert second[0] == second[1] != second[2] == second[3]
    assert len(set(third)) == 4
    np.testing.assert_array_equal(s.value, [[1, 1], [1, 3], [2, 2], [2, 4]])


def test_independent_stages_make_a_tree(tmp_path):
    text = "STOCH\nINDEP\n RHS R2 1 P2 .5\n RHS R2 2 P2 .5\n RHS R3 1 P3 .5\n RHS R3 2 P3 .5\nENDATA\n"
    files = read_smps(write_files(tmp_path, stochastic=text, **THREE))
    s = all_scenarios(files.stochastic)
    assert [len(set(s.node[:, k].tolist())) for k in range(3)] == [1, 2, 4]
    drawn = sampled(files.stochastic, [3, 2], seed=1)
    assert [len(set(drawn.node[:, k].tolist())) for k in range(3)] == [1, 3, 6]
    for node in range(3):  # what is known at a node is the same in all scenarios through it
        assert len(set(drawn.value[drawn.node[:, 1] == node, 0].tolist())) == 1
    np.testing.assert_array_equal(drawn.value, sampled(files.stochastic, [3, 2], seed=1).value)


def test_a_sample_has_the_moments_of_its_distribution(tmp_path):
    for law, a, b, mean, var in (
        ("UNIFORM", 2, 6, 4.0, 16 / 12),
        ("NORMAL", 5, 4, 5.0, 4.0),
        ("GAMMA", 2, 3, 6.0, 12.0),
        ("BETA", 2, 2, 0.5, 0.05),
        ("LOGNORM", 0, 0.25, np.exp(0.125), (np.exp(0.25) - 1) * np.exp(0.25)),
    ):
        text = f"STOCH\nINDEP {law}\n RHS DEM {a} P2 {b}\nENDATA\n"
        files = read_smps(write_files(tmp_path, stochastic=text))
        with pytest.raises(InputError, match="continuous distribution"):
            all_scenarios(files.stochastic)
        value = sampled(files.stochastic, [20000], seed=3).value[:, 0]
        assert value.mean() == pytest.approx(mean, abs=4 * np.sqrt(var / 20000))
        assert value.var() == pytest.approx(var, rel=0.1)


def test_too_many_scenarios_are_to_be_drawn(tmp_path):
    lines = "".join(f" RHS R{i} {v} P2 .1\n" for i in range(8) for v in range(10))
    rows = "".join(f" G R{i}\n" for i in range(8))
    columns = "".join(f" Y R{i} 1\n" for i in range(8))
    core = f"NAME T\nROWS\n N C\n{rows}COLUMNS\n X C 1\n Y C 2\n{columns}ENDATA\n"
    time = "TIME\nPERIODS\n X C P1\n Y R0 P2\nENDATA\n"
    files = read_smps(write_files(tmp_path, core, time, f"STOCH\nINDEP\n{lines}ENDATA\n"))
    with pytest.raises(InputError, match="100000000 scenarios together"):
        all_scenarios(files.stochastic)
    assert sampled(files.stochastic, [7], seed=0).value.shape == (7, 8)


TOLD = [
    ("core", " G  DEM", " X  DEM", r"test\.cor \[ROWS\] line 5: 'X DEM' is no row"),
    ("core", "CAP       1.0", "CAPP      1.0", r"line 7: there is no row 'CAPP'; did you mean 'CAP'"),
    ("core", "Y         DEM       1.0", "Y         DEM       one", r"line 9: 'one' is not a number"),
    ("core", "ENDATA", "", "ends without ENDATA"),
    ("core", "BOUNDS", "SOS", "special ordered sets cannot be read"),
    ("core", "UP BND       X ", "SC BND       X ", "semi-continuous"),
    ("core", "UP BND       X ", "UP BND       Q ", "there is no column 'Q'"),
    ("core", "9.0", "nan", "'nan' is not a number"),
    ("core", "RHS       CAP       8.0", "OTHER     CAP       8.0", "a second set"),
    ("time", "Y         DEM", "Y         DEN", r"test\.tim \[PERIODS\] line 4: the core file has no row 'DEN'"),
    ("time", "X         COST ", "Y         COST ", "belongs to no period"),
    ("time", "ENDATA", "", "ends without ENDATA"),
    ("stochastic", "0.7", "0.6", r"test\.sto \[INDEP\] line 5: the probabilities of Y DEM sum to 0.9"),
    ("stochastic", "DEM       3.0", "DEMM      3.0", r"line 3: the core file has no row 'DEMM'"),
    ("stochastic", "3.0       P2", "3.0       P3", "there is no period 'P3'"),
    ("stochastic", "DISCRETE", "SUB", "INDEP SUB cannot be read"),
    ("stochastic", "INDEP         DISCRETE", "NODES", "unknown section NODES"),
    ("stochastic", "3.0       P2        0.5", "3.0       P2        1.5", "is no probability"),
    ("stochastic", "RHS       DEM       3.0", "XX        DEM       3.0", "neither a column nor"),
]


@pytest.mark.parametrize(("which", "old", "new", "told"), TOLD)
def test_every_mistake_has_its_file_and_line(tmp_path, which, old, new, told):
    texts = {"core": CORE, "time": TIME, "stochastic": STOCH}
    assert old in texts[which]
    texts[which] = texts[which].replace(old, new)
    write_files(tmp_path, **texts)
    with pytest.raises(InputError, match=told):
        read_smps("test.cor", folder=tmp_path)


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    core = CORE.replace(" G  DEM", " G  DEM\n Q  BAD").replace(
        "    Y         DEM       1.0", "    Y         DEN       1.0"
    )
    write_files(tmp_path, core=core)
    with pytest.raises(InputError) as error:
        read_smps("test.cor", folder=tmp_path)
    assert {m.key for m in error.value.mistakes} == {"line 6", "line 10"}


def test_a_row_cannot_hold_a_column_of_a_later_period(tmp_path):
    core = CORE.replace("    Y         DEM       1.0", "    Y         CAP       1.0\n    Y         DEM       1.0")
    with pytest.raises(InputError, match="holds column 'Y' of the later period P2"):
        read_smps(write_files(tmp_path, core=core))


def test_a_scenario_may_not_change_what_was_known_before_it_branches(tmp_path):
    text = "STOCH\nSCENARIOS\n SC A ROOT .5 P2\n RHS CAP 3\n SC B ROOT .5 P2\n RHS DEM 3\nENDATA\n"
    with pytest.raises(InputError, match="RHS CAP is random in the first period, which is certain"):
        read_smps(write_files(tmp_path, stochastic=text))
    text = "STOCH\nSCENARIOS\n SC A ROOT .5 P2\n RHS R2 1\n SC B A .5 P3\n RHS R2 3\nENDATA\n"
    with pytest.raises(InputError, match="line 6: RHS R2 is known in period P2, before the scenario branches"):
        read_smps(write_files(tmp_path, stochastic=text, **THREE))


def test_what_a_first_decision_costs_may_show_later(tmp_path):
    for text in (
        "STOCH\nINDEP\n X COST 1 P2 .5\n X COST 3 P2 .5\nENDATA\n",
        "STOCH\nSCENARIOS\n SC A ROOT .5 P1\n X COST 1\n SC B ROOT .5 P1\n X COST 3\nENDATA\n",
    ):
        scenarios = all_scenarios(read_smps(write_files(tmp_path, stochastic=text)).stochastic)
        np.testing.assert_array_equal(scenarios.value, [[1], [3]])
        assert set(scenarios.node[:, 0].tolist()) == {0}


def test_a_file_that_is_not_there_is_named(tmp_path):
    write_files(tmp_path)
    (tmp_path / "test.tim").unlink()
    with pytest.raises(InputError, match=r"test\.tim: cannot be read"):
        read_smps("test.cor", folder=tmp_path)
