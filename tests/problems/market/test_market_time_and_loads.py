"""The clock of a place, days of 23 and 25 hours, and the network's load at a community's bus."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from paths import CASES
from pydantic import ValidationError

from decomp.case.config import load
from decomp.errors import InputError
from problems.market.problem import ReactiveMarket
from problems.time_series import SeriesColumn, TimeAxis, TimeSettings, read_series

ZONE = "Europe/Stockholm"
DAYS = {"23 hours": ("2021-03-28", 23), "24 hours": ("2021-04-14", 24), "25 hours": ("2021-10-31", 25)}


def axis(day: str, steps: int, **more: object) -> TimeAxis:
    return TimeAxis(TimeSettings(start=datetime.fromisoformat(day), step_min=60, steps=steps, zone=ZONE, **more))


@pytest.mark.parametrize(("day", "hours"), DAYS.values(), ids=DAYS)
def test_a_day_ends_at_the_midnight_of_its_zone(day, hours):
    found = axis(day, hours)
    assert {t.date().isoformat() for t in found.begins} == {day}
    after = axis(day, hours + 1).begins[-1]
    assert (after.hour, after.date().isoformat() > day) == (0, True)
    assert found.end == after.astimezone(UTC)
    assert len(set(found.names)) == hours


def test_a_step_is_found_by_any_clock():
    found = axis("2021-10-31", 25)
    assert found.index(datetime.fromisoformat("2021-10-31T02:00:00+01:00")) == 3
    assert found.index(datetime.fromisoformat("2021-10-31T02:00:00+02:00")) == 2
    assert found.index(datetime.fromisoformat("2021-10-31T23:00:00")) == 24
    assert (
        TimeAxis(TimeSettings(start="2021-10-31T00:00:00+02:00", step_min=60, steps=2)).index(datetime(2021, 10, 31))
        is None
    )


@pytest.mark.parametrize(("day", "hours"), DAYS.values(), ids=DAYS)
def test_series_without_offsets_follow_the_clock_of_the_zone(tmp_path, day, hours):
    """The hour that comes twice is told by its order."""
    clock = pd.date_range(day, periods=hours, freq="h", tz=ZONE).tz_localize(None)
    table = pd.DataFrame({"time": clock.strftime("%Y-%m-%d %H:%M"), "x": np.arange(hours)})
    table.to_csv(tmp_path / "x.csv", index=False)
    values = read_series(axis(day, hours), SeriesColumn(file="x.csv", column="x"), tmp_path, "series.x")
    assert values.tolist() == list(range(hours))


def test_what_no_clock_shows_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("time,x\n2021-03-28 01:00,1\n2021-03-28 02:00,2\n")
    column = SeriesColumn(file="x.csv", column="x")
    with pytest.raises(InputError, match="clock change skips"):
        read_series(axis("2021-03-28", 2), column, tmp_path, "series.x")
    plain = TimeAxis(TimeSettings(start="2021-03-28T01:00:00+01:00", step_min=60, steps=2))
    with pytest.raises(InputError, match=r"\[time\] zone"):
        read_series(plain, column, tmp_path, "series.x")


@pytest.mark.parametrize(
    ("zone", "told"), [("Europe/Stokholm", "did you mean 'Europe/Stockholm'"), (None, "no offset")]
)
def test_a_zone_that_is_none_and_a_start_without_place_are_refused(zone, told):
    with pytest.raises(ValidationError, match=told):
        TimeSettings(start=datetime(2021, 4, 14), step_min=60, steps=1, zone=zone)


def market(tmp_path: Path, *overrides: str) -> ReactiveMarket:
    return load(CASES / "chalmers_undervoltage.toml", overrides).problem


def flat(tmp_path: Path, day: str, hours: int) -> list[str]:
    """Series of one value all day, so that a bill can be made by hand."""
    clock = pd.date_range(day, periods=hours, freq="h", tz=ZONE).tz_localize(None)
    table = pd.DataFrame(
        {"time": clock.strftime("%Y-%m-%dT%H:%M:%S"), "spot": 0.5, "pv": 0.0, "load": 1.0, "heat": 1.0}
    )
    table.to_csv(tmp_path / "flat.csv", index=False)
    named = {name: f'{{file="{tmp_path}/flat.csv", column="{name}"}}' for name in ("spot", "pv", "load", "heat")}
    plain = "lec={A={bus='2', load_peak_kw=700.0, load_power_factor=1.0, heat_peak_kw=100.0, heat_import_max_kw=500.0}}"
    return [
        f"time={{start={day}T00:00:00, step_min=60, steps={hours}, zone='{ZONE}'}}", "added_load=[]", plain,
        "rule={kind='admm'}", *(f"series.{name}={text}" for name, text in named.items()),
    ]  # fmt: skip


@pytest.mark.parametrize(("day", "hours", "days"), [*((d, h, 1) for d, h in DAYS.values()), ("2021-10-30", 49, 2)])
def test_a_bill_has_one_fixed_charge_and_one_peak_for_each_day_of_the_calendar(tmp_path, day, hours, days):
    found = market(tmp_path, *flat(tmp_path, day, hours))
    (key,) = (key for c in found.couplings for key in c.prob)
    block = found.subproblem(key)
    tariffs = found.settings.tariffs
    power = 700.0 * hours * (0.5 + tariffs.transfer_sek_per_kwh)
    heat = 100.0 * hours * tariffs.heat_sek_per_kwh
    daily = days * (tariffs.heat_fixed_sek_per_day + 100.0 * tariffs.heat_peak_sek_per_kw_day)
    assert block.initial.cost == pytest.approx(power + heat + daily, rel=1e-9)
    begins = [t.astimezone(ZoneInfo(ZONE)) for t in found.axis.begins]
    assert len({t.date() for t in begins}) == days


LEC3 = "lec.LEC3={bus='4', load_peak_kw=1.0%s}"


def test_a_community_at_a_bus_with_another_load_has_to_say_whose_it_is(tmp_path):
    with pytest.raises(InputError, match="a load of 500 kW at bus 4") as caught:
        market(tmp_path, LEC3 % "")
    assert [(m.section, m.key) for m in caught.value.mistakes] == [("lec.LEC3", "bus_load")]
    before, any_bus = market(tmp_path), "rule={kind='admm'}"
    assert before.replaced_kw == {"2": 700.0, "7": 300.0}  # as large as the communities' own: the same load
    at = before.network.buses.index("4")

    def drawn(found: ReactiveMarket) -> float:
        return float(found.coordinator.p_load_kw[..., at].max())

    beside, instead = (market(tmp_path, any_bus, LEC3 % f", bus_load='{said}'") for said in ("beside", "instead"))
    assert drawn(beside) == pytest.approx(drawn(before))
    assert drawn(instead) == 0.0
    assert instead.replaced_kw["4"] == 500.0


def test_communities_of_one_bus_may_not_disagree(tmp_path):
    other = "lec.LEC4={bus='4', load_peak_kw=1.0, bus_load='beside'}"
    with pytest.raises(InputError, match="disagree"):
        market(tmp_path, LEC3 % ", bus_load='instead'", other)
