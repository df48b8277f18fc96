"""The market as it is read from a case file: series, loads, couplings, and every mistake at once."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from campus import CASES, UNDER

from decomp.errors import InputError
from decomp.messages import Key
from problems.market.problem import ReactiveMarket
from problems.time_series import SeriesColumn, TimeAxis, TimeSettings, read_series


@pytest.fixture(scope="module")
def market() -> ReactiveMarket:
    return ReactiveMarket.from_file(UNDER)


def copy_of(folder: Path, *changes: tuple[str, str]) -> Path:
    """The undervoltage case in a folder of its own, its text changed."""
    shutil.copytree(CASES / "chalmers", folder / "chalmers", dirs_exist_ok=True)
    text = UNDER.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "case.toml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes_in(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        ReactiveMarket.from_file(path)
    return [str(m) for m in caught.value.mistakes]


def axis(
    start: str = "2021-04-14T00:00:00+02:00", step_min: int = 60, steps: int = 3, label: str = "begin"
) -> TimeAxis:
    return TimeAxis(TimeSettings.model_validate({"start": start, "step_min": step_min, "steps": steps}))


def series(folder: Path, text: str, on: TimeAxis, *, signed: bool = False) -> np.ndarray:
    (folder / "s.csv").write_text(text, encoding="utf-8")
    return read_series(on, SeriesColumn(file="s.csv", column="x"), folder, "series.spot", signed=signed)


def test_the_step_called_14_is_row_14_of_the_sources(market: ReactiveMarket) -> None:
    names = market.axis.names
    assert names[13] == "2021-04-14T14:00+02:00"
    assert market.axis.stamps[13] == "2021-04-14T13:00:00+02:00"
    assert market.data["LEC1"].spot_sek_per_kwh[13] == 0.55301  # hour 14 of the day-ahead price, 54.52 EUR/MWh
    assert market.axis.hours[13] == 14.0
    assert market.axis.index(datetime.fromisoformat("2021-04-14T11:00:00+00:00")) == 13


def test_every_entry_feeds_the_node_of_its_bus_and_step(market: ReactiveMarket) -> None:
    for coupling in market.couplings:
        bus = market.settings.lec[coupling.unit].bus
        for entry, row in zip(coupling.entries, coupling.node, strict=True):
            assert market.coordinator.nodes[row] == f"bus{bus}@{entry}"
    assert {c.unit for c in market.couplings} == {"LEC1", "LEC2"}


def test_a_communitys_own_load_is_not_counted_twice(market: ReactiveMarket) -> None:
    p, q = market.coordinator.p_load_kw, market.coordinator.q_load_kvar
    own = [market.network.bus("2"), market.network.bus("7")]
    assert not p[:, own].any()
    assert np.count_nonzero(q[:, own]) == 1  # the added load at bus 7
    assert p[10, market.network.bus("3")] == 450.0  # peak at 11:00, the shape is 1 there
    assert market.data["LEC1"].load_p_kw[10] == 700.0
    assert market.data["LEC1"].heat_load_kw.mean() == pytest.approx(315.0)
    assert market.data["LEC1"].heat_load_kw.max() == pytest.approx(450.0)


def test_an_added_load_is_drawn_at_its_bus_and_step_only(market: ReactiveMarket) -> None:
    added = market.settings.added_load[1]
    settings = market.settings.model_copy(update={"added_load": market.settings.added_load[:1]})
    without = ReactiveMarket(settings, market.folder)
    difference = market.coordinator.q_load_kvar - without.coordinator.q_load_kvar
    assert difference[16, market.network.bus("7")] == pytest.approx(added.q_kvar)
    assert np.count_nonzero(difference) == 1


def test_a_load_draws_reactive_power_by_its_power_factor(market: ReactiveMarket) -> None:
    row, bus = 10, market.network.bus("9")
    p, q = market.coordinator.p_load_kw[row, bus], market.coordinator.q_load_kvar[row, bus]
    assert p / np.hypot(p, q) == pytest.approx(0.9)
    assert q > 0


def test_all_mistakes_of_the_data_come_at_once(tmp_path: Path) -> None:
    path = copy_of(
        tmp_path,
        ('bus = "7"\nload_peak_kw', 'bus = "77"\nload_peak_kw'),
        ("13:00:00+02:00   # 14:00", "13:30:00+02:00"),
        ("spot_price_20210414.csv", "spot.csv"),
        ('column = "heat_pu"', 'column = "heat"'),
    )
    pv = tmp_path / "chalmers" / "pv_clear_sky_20210414.csv"
    pv.write_text(pv.read_text().replace("0.7278", "nan"))
    load = tmp_path / "chalmers" / "load_shape_20210414.csv"
    load.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    told = mistakes_in(path)
    for words in (
        ("chalmers/spot.csv", "[series.spot]", "no such file"),
        ("chalmers/heat_shape_20210414.csv", "[series.heat] heat", "no such column", "heat_pu"),
        ("chalmers/pv_clear_sky_20210414.csv", "[series.pv] pv_pu", "not finite", "T13:00"),
        ("chalmers/load_shape_20210414.csv", "[series.load]", "not a text file"),
        ("[lec.LEC2] bus", "no bus '77'"),
        ("[added_load[0]] time", "no time step begins at 2021-04-14T13:30"),
    ):
        assert any(all(word in line for word in words) for line in told), (words, told)
    assert len(told) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("time,y\n2021-04-14T00:00:00+02:00,1\n", "no such column"),
        ("time,x\n2021-04-14T00:00:00+02:00,1\n2021-04-14T01:00:00+02:00\n", "cut"),
        ("time,x\n2021-04-14T00:00:00+02:00,1\n2021-04-14T01:00:00+02:00,2\n", "2 of the 3 time steps"),
        ("time,x\n2021-04-14 00:00,1\n", "offset"),
        ("time,x\nyesterday,1\n", "not a time stamp"),
        ("time,x\n" + "".join(f"2021-04-14T0{h}:00:00+02:00,1\n" for h in (0, 1, 1, 2)), "more than once"),
        ("time,x\n" + "".join(f"2021-04-14T0{h}:30:00+02:00,1\n" for h in (0, 1, 2)), "between the steps"),
        ("time,x\n" + "".join(f"2021-04-14T0{h}:00:00+02:00,{v}\n" for h, v in enumerate("1a2")), "finite"),
        ("time,x\n" + "".join(f"2021-04-14T0{h}:00:00+02:00,{h - 1}\n" for h in range(3)), "negative"),
    ],
)
def test_a_series_that_cannot_be_right_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        series(tmp_path, text, axis())


def test_rows_are_found_by_instant_whatever_their_order_and_offset(tmp_path: Path) -> None:
    rows = ["2021-04-14T02:00:00+02:00,3", "2021-04-13T22:00:00+00:00,1", "2021-04-14T03:00:00+02:00,9"]
    text = "time,x\n" + "\n".join([*rows, "2021-04-14T01:00:00+02:00,2"]) + "\n"
    assert series(tmp_path, text, axis()).tolist() == [1.0, 2.0, 3.0]


def test_a_negative_price_is_a_price(tmp_path: Path) -> None:
    text = "time,x\n2021-04-14T00:00:00+02:00,-0.5\n"
    assert series(tmp_path, text, axis(steps=1), signed=True).tolist() == [-0.5]


@pytest.mark.parametrize(("day", "steps"), [("2021-03-28T00:00:00+01:00", 23), ("2021-10-31T00:00:00+02:00", 25)])
def test_days_of_23_and_25_hours_are_read(tmp_path: Path, day: str, steps: int) -> None:
    """The clock changes: local stamps jump, instants do not."""
    other = "+02:00" if day.endswith("+01:00") else "+01:00"
    on = axis(day, steps=steps)
    after = [t.astimezone(datetime.fromisoformat(day[:-6] + other).tzinfo) for t in on.begins[3:]]
    stamps = [t.isoformat() for t in (*on.begins[:3], *after)]
    text = "time,x\n" + "".join(f"{t},{k}\n" for k, t in enumerate(stamps))
    assert series(tmp_path, text, on).tolist() == list(range(steps))


def test_quarter_hours_are_steps_too(tmp_path: Path) -> None:
    on = axis(step_min=15, steps=8)
    text = "time,x\n" + "".join(f"{t},{k}\n" for k, t in enumerate(on.stamps))
    assert series(tmp_path, text, on).tolist() == list(range(8))
    assert on.dt_h == 0.25
    assert on.hours[-1] == 1.75


def test_a_block_is_built_for_every_key(market: ReactiveMarket) -> None:
    block = market.subproblem(Key("LEC2"))
    assert block.abilities >= {"bound", "penalty", "evaluate"}
