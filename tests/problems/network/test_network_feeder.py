"""Reading a feeder from its tables: per unit, and every mistake at once."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from decomp.errors import InputError
from problems.network.power_flow import solve
from problems.network.settings import NetworkSettings, read_network

LINES = """from,to,cable,length_km,R_ohm,X_ohm,B_S,Imax_kA
0,1,Al240,0.4,0.2205,0.441,1e-4,0.4
1,2,Al150,0.8,0.441,0.2205,0,0.3
"""
BUSES = "bus,name,Ppeak_kW,pf\n0,grid,0,0.9\n1,a,350,0.9\n2,b,700,0.9\n"
TABLE = {
    "lines": "lines.csv",
    "buses": "buses.csv",
    "base_kva": 1000.0,
    "base_kv": 10.5,
    "slack_bus": "0",
    "slack_v_pu": 1.0,
    "v_min_pu": 0.95,
    "v_max_pu": 1.05,
}


def _read(folder, lines: str | bytes = LINES, buses: str | bytes = BUSES, **table):
    for name, text in (("lines.csv", lines), ("buses.csv", buses)):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return read_network(NetworkSettings(**{**TABLE, **table}), folder)


def _mistakes(folder, **changes) -> str:
    with pytest.raises(InputError) as caught:
        _read(folder, **changes)
    assert all(m.remedy and m.section.startswith("network") and m.file for m in caught.value.mistakes)
    return str(caught.value)


def test_ohms_become_per_unit_of_the_feeders_base(tmp_path):
    network = _read(tmp_path)
    # 1000 kVA at 10.5 kV: 110.25 ohm
    assert network.buses == ("0", "1", "2")
    assert network.slack == 0
    assert network.r_pu == pytest.approx([0.002, 0.004])
    assert network.x_pu == pytest.approx([0.004, 0.002])
    assert network.b_pu == pytest.approx([1e-4 * 110.25, 0.0])
    assert np.all(network.v_min_pu == 0.95)
    assert np.all(network.v_max_pu == 1.05)


def test_a_longer_line_has_more_of_everything_whichever_way_it_is_named(tmp_path):
    once = _read(tmp_path)
    for label in ("0-1", "1-0"):
        longer = _read(tmp_path, length_factor={label: 18.0})
        for name in ("r_pu", "x_pu", "b_pu"):
            assert getattr(longer, name) == pytest.approx(getattr(once, name) * [18.0, 1.0])


def test_transformers_and_shunts_are_optional_columns(tmp_path):
    lines = (
        "from,to,length_km,R_ohm,X_ohm,B_S,ratio,shift_deg\n0,1,1,0.2205,0.441,0,0.98,30\n1,2,1,0.441,0.2205,0,1,0\n"
    )
    buses = "bus,shunt_G_S,shunt_B_S\n0,0,0\n1,0,0\n2,0,0.0002\n"
    network = _read(tmp_path, lines, buses)
    flow = solve(network, np.zeros((1, 3)), np.zeros((1, 3)))
    # no load: only the capacitor's current; a 30 degree shift and a ratio of 0.98 seen from the far side
    z = (network.r_pu + 1j * network.x_pu).sum()
    expected = (1 / (0.98 * np.exp(1j * np.pi / 6))) / (1 + z * 1j * 0.0002 * 110.25)
    assert flow.v[0, 2] == pytest.approx(expected, abs=1e-12)
    assert flow.v_pu[0, 2] > 1 / 0.98


def test_admittance_of_a_transformer_by_hand(tmp_path):
    lines = "from,to,length_km,R_ohm,X_ohm,B_S,ratio,shift_deg\n0,1,1,0,11.025,0.001,0.5,90\n"
    network = _read(tmp_path, lines, "bus\n0\n1\n")
    # y = 1/(0.1j) = -10j, half the charging is 0.055125j, t = 0.5j
    expected = [[4 * (-10j + 0.055125j), 10j / -0.5j], [10j / 0.5j, -10j + 0.055125j]]
    assert network.admittance().toarray() == pytest.approx(np.array(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lines": LINES + "2,7,x,1,1,1,0,1\n"}, "no bus '7' in buses.csv"),
        ({"lines": LINES + "2,2,x,1,1,1,0,1\n"}, "joins bus '2' to itself"),
        ({"buses": BUSES + "1,again,0,1\n"}, "bus '1' is there twice"),
        ({"buses": BUSES + "9,island,0,1\n"}, "bus '9' is not connected to the slack bus '0'"),
        ({"lines": LINES.replace("0.441,0.2205", "0,0")}, "no impedance"),
        ({"lines": LINES.replace("0.2205,0.441,1e-4", "-0.2205,0.441,1e-4")}, "no impedance"),
        ({"lines": LINES.replace("0.8,", "-0.8,")}, "-0.8 km is not positive"),
        ({"lines": LINES.replace("0.2205,0.441,1e-4", "nan,0.441,1e-4")}, "'nan' is not a finite number"),
        ({"lines": LINES.replace("0.2205,0.441,1e-4", "0,2205,0.441,1e-4")}, "has 9 cells, the head has 8"),
        ({"lines": LINES.replace(",0.2205,0\n", "").replace(",0,0.3\n", "")[:-12]}, "cells, the head has 8"),
        ({"lines": LINES.replace("X_ohm", "X")}, "column X_ohm is missing"),
        ({"lines": ""}, "the file is empty"),
        ({"lines": LINES.splitlines()[0] + "\n"}, "the file has no rows"),
        ({"lines": b"PK\x03\x04\xff\xfe\x00\x01"}, "the file is not text"),
        ({"lines": b"from,to\x00\n"}, "the file is not text"),
        ({"slack_bus": "99"}, "no bus '99'"),
        ({"length_factor": {"1-9": 2.0}}, "no such line"),
        ({"buses": "name\nx\n"}, "column bus is missing"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_what_would_be_right(tmp_path, changes, words):
    assert words in _mistakes(tmp_path, **changes)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*buses\.csv(.|\n)*no file .*lines\.csv"):
        read_network(NetworkSettings(**TABLE), tmp_path / "elsewhere")


def test_all_mistakes_are_told_at_once(tmp_path):
    text = _mistakes(
        tmp_path,
        lines=LINES.replace("0.8,", "-0.8,").replace("0.2205,0.441,1e-4", "x,0.441,1e-4"),
        buses=BUSES + "9,island,0,1\n1,again,0,1\n",
        length_factor={"5-6": 2.0},
    )
    for words in ("5 mistakes", "-0.8 km", "'x' is not", "bus '9'", "bus '1' is there twice", "5-6"):
        assert words in text


@pytest.mark.parametrize(
    "change",
    [{"base_kva": 0}, {"base_kv": -1}, {"v_min_pu": 1.1}, {"slack_v_pu": float("nan")}, {"voltage": 1}, {"lines": 3}],
)
def test_settings_out_of_range_or_unknown_are_refused(change):
    with pytest.raises(ValidationError):
        NetworkSettings(**{**TABLE, **change})
