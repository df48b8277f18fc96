"""One bad case file of the market: mistakes in rules, tables, series and network are all told at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from paths import CASES

from decomp.case.config import load
from decomp.errors import InputError


@pytest.fixture
def case(tmp_path):
    shutil.copytree(CASES / "chalmers", tmp_path / "chalmers")
    return shutil.copy(CASES / "chalmers_undervoltage.toml", tmp_path)


def mistakes(case, *changes, rule=None):
    text = Path(case).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path(case).write_text(text)
    with pytest.raises(InputError) as caught:
        load(case, rule=rule)
    return {(m.section, m.key): m for m in caught.value.mistakes}


def test_everything_wrong_is_told_at_once(case):
    pv = Path(case).parent / "chalmers" / "pv_clear_sky_20210414.csv"
    lines = pv.read_text().splitlines()
    lines[5] = lines[5].rsplit(",", 1)[0] + ",nan"
    pv.write_text("\n".join(lines))
    found = mistakes(
        case,
        ('kind = "exponential"', 'kind = "exponental"'),
        ("power_kw = 50.0", "power_kw = -50.0"),
        ('bus = "7"', 'bus = "77"'),
        ("heat_shape_20210414.csv", "nowhere.csv"),
        ("v_min_pu = 0.95", "v_min_pu = 0.95\nsurprise = 1"),
    )
    assert ("rule.step", "kind") in found
    assert ("lec.LEC1.battery", "power_kw") in found
    assert ("network", "surprise") in found
    assert ("series.heat", "file") in found
    assert ("series.pv", "pv_pu") in found
    assert all(m.file and m.problem for m in found.values())


def test_wrong_buses_and_times_are_told_beside_a_wrong_table(case):
    found = mistakes(
        case,
        ('bus = "7"', 'bus = "77"'),
        ("power_kw = 50.0", "power_kw = -50.0"),
        ("2021-04-14T13:00", "2021-04-15T13:00"),
    )
    assert "no bus '77'" in found[("lec.LEC2", "bus")].problem
    assert "no time step begins" in found[("added_load[0]", "time")].problem
    assert ("lec.LEC1.battery", "power_kw") in found


def test_too_few_rows_for_the_steps(case):
    found = mistakes(case, ("steps = 24", "steps = 25"))
    for name in ("spot", "pv", "load", "heat"):
        assert "24 of the 25 time steps" in found[(f"series.{name}", "time")].problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"time,spot_sek_per_kwh\n2021-04-14T00:00:00+02:00,0.2\n2021", "cut"),
        (bytes(range(256)), "text"),
    ],
)
def test_empty_cut_or_binary_series(case, content, words):
    (Path(case).parent / "chalmers" / "spot_price_20210414.csv").write_bytes(content)
    found = mistakes(case)
    assert any(words in f"{m.problem} {m.remedy}" for m in found.values()), found


def test_bus_without_a_line_is_named(case):
    lines = Path(case).parent / "chalmers" / "lines.csv"
    kept = [line for line in lines.read_text().splitlines() if not line.startswith("9,11,")]
    lines.write_text("\n".join(kept))
    found = mistakes(case)
    assert any("11" in m.problem for m in found.values()), found
