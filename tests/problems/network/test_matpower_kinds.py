"""MATPOWER files that contradict themselves are refused by name; what MATPOWER itself reads is read alike."""

from __future__ import annotations

import pytest

from decomp.errors import InputError
from problems.network.from_matpower import from_matpower

CASE = """function mpc = small
mpc.version = '2';
mpc.baseMVA = 10;
mpc.bus = [
{buses}
];
mpc.gen = [
{gens}
];
mpc.branch = [
1 2 0.01 0.02 0 0 0 0 0 0 1 -360 360;
];
"""
SLACK = "1 3 0 0 0 0 1 1 0 11 1 1.1 0.9;"
HOUSE = "2 1 0.5 0.1 0 0 1 1 0 11 1 1.1 0.9;"
GRID = "1 0 0 10 -10 1.02 10 1 10 0;"


def read(tmp_path, buses, gens):
    file = tmp_path / "small.m"
    file.write_text(CASE.format(buses="\n".join(buses), gens="\n".join(gens)))
    return from_matpower(file)


@pytest.mark.parametrize(
    ("buses", "gens", "key", "text"),
    [
        ([SLACK, HOUSE, HOUSE], [GRID], "bus 2", "twice: rows 2, 3"),
        ([SLACK, SLACK, HOUSE], [GRID], "bus 1", "twice: rows 1, 2"),
        ([SLACK, HOUSE], [GRID, GRID.replace("1.02", "1.00")], "bus 1", "different voltages"),
        ([SLACK, HOUSE], [GRID, GRID.replace("1 0", "7 0", 1)], "bus 7", "no row in mpc.bus"),
        ([SLACK, HOUSE.replace("2 1", "2 2", 1)], [GRID], "bus 2", "none in service is there"),
        ([SLACK, HOUSE.replace("2 1", "2 2", 1)], [GRID, GRID.replace("1 0", "2 0", 1)], "bus 2", "holds its voltage"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, buses, gens, key, text):
    with pytest.raises(InputError) as told:
        read(tmp_path, buses, gens)
    assert any(m.key == key and text in m.problem for m in told.value.mistakes), told.value


def test_what_is_out_of_service_or_says_the_same_is_no_contradiction(tmp_path):
    plain = read(tmp_path, [SLACK, HOUSE], [GRID])
    off = GRID.replace("10 1 10", "10 0 10").replace("1.02", "0.97")
    same = read(tmp_path, [SLACK, HOUSE], [GRID, GRID, off, off.replace("1 0", "2 0", 1)])
    assert same.network.slack_v_pu == plain.network.slack_v_pu == 1.02
    assert [load.p_kw for load in same.loads] == [load.p_kw for load in plain.loads]
