"""The table of a community: what it takes, what it refuses and in which words; and its series."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from lec_cases import LEC1, LEC2, settings, small, solved
from pydantic import ValidationError

from decomp.errors import InputError
from problems.lec.devices import known_devices
from problems.lec.settings import LecSettings

BATTERY = {"capacity_kwh": 100.0, "power_kw": 50.0}


def places(table: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    """Where the mistakes are and what is said, read strictly as from a case file."""
    with pytest.raises(ValidationError) as caught:
        LecSettings.model_validate_json(json.dumps(table), strict=True)
    return {tuple(x for x in e["loc"] if x not in ("one", "several")): e["msg"] for e in caught.value.errors()}


@pytest.mark.parametrize("table", [LEC1, LEC2], ids=["LEC1", "LEC2"])
def test_campus_tables_are_read_strictly(table: dict[str, Any]) -> None:
    own = LecSettings.model_validate_json(json.dumps({**table, "bus": int(table["bus"])}), strict=True)
    assert own.bus == table["bus"]
    assert set(own.devices) >= {"battery"}


def test_every_device_of_the_paper_is_there() -> None:
    assert list(known_devices()) == [
        "battery",
        "boiler_chp",
        "demand_response",
        "heat_pump",
        "pv",
        "smart_boiler",
        "tes_stirling",
    ]


def test_every_mistake_is_found_at_its_place() -> None:
    found = places(
        {
            "bus": 7,
            "load_peak_kw": -300,
            "battery": {"capacity_kwh": -3, "power_kw": "50"},
            "pv": [{"peak_kwp": 1, "inverter_kva": 1}, {"peak_kwp": 1, "inverter_kva": 0, "typo": 1}],
            "windmill": {},
        }
    )
    assert set(found) == {
        ("load_peak_kw",),
        ("battery", "capacity_kwh"),
        ("battery", "power_kw"),
        ("pv", 1, "inverter_kva"),
        ("pv", 1, "typo"),
        ("windmill",),
    }


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"battery": {**BATTERY, "start_share": 0.1}}, "start_share = 0.1 must lie between min_share = 0.2"),
        ({"boiler_chp": {**LEC1["boiler_chp"], "boiler_min_kw": 400.0}}, "boiler_min_kw = 400 is above boiler_max_kw"),
        ({"boiler_chp": {**LEC1["boiler_chp"], "turbine_min_kw": 10.0}}, "turbine_min_kw = 10 is above turbine_max_kw"),
        (
            {"boiler_chp": {**LEC1["boiler_chp"], "turbine_min_kw": 70.0, "turbine_max_kw": 90.0}},
            "more than all heat of the boiler can drive",
        ),
        ({"tes_stirling": {**LEC2["tes_stirling"], "start_kwh": 300.0}}, "start_kwh = 300 must lie between"),
        ({"tes_stirling": {**LEC2["tes_stirling"], "eta_work": 0.5}}, "more than the engine takes"),
        ({"smart_boiler": {**LEC2["smart_boiler"], "start_c": 50.0}}, "start_c = 50 must lie between min_c = 60"),
        ({"smart_boiler": {**LEC2["smart_boiler"], "day_from_h": 23.0}}, "day_from_h = 23 is after day_to_h"),
        ({"heat_mean_kw": 5.0, "heat_peak_kw": 4.0}, "heat_mean_kw = 5 is above heat_peak_kw = 4"),
        ({"battery": [{**BATTERY, "name": "b"}, {**BATTERY, "name": "b"}]}, "two devices are called b"),
        ({"battery": {**BATTERY, "name": "import"}}, "cannot be called import"),
        ({"device": [{"kind": "no_such_module:X"}]}, "no module 'no_such_module'"),
        ({"device": [{"kind": "windmil"}]}, "unknown device 'windmil'"),
        ({"device": [{"kind": "lec_cases:small"}]}, "must subclass Device"),
        ({"device": [{"power_kw": 1}]}, "kind = 'module:Name'"),
    ],
)
def test_what_contradicts_itself_is_explained(table: dict[str, Any], words: str) -> None:
    assert any(words in message for message in places({"bus": "1", "load_peak_kw": 1.0, **table}).values())


def test_a_device_of_ones_own_needs_a_class_and_a_line() -> None:
    own = settings(device=[{"kind": "windmill:Windmill", "power_kw": 20.0}])
    found = solved(own, small(spot_sek_per_kwh=[0.5, -0.5]))
    assert found["p_device_kw"] == pytest.approx([20.0, 0.0], abs=1e-9)
    assert places({"bus": "1", "load_peak_kw": 0, "device": [{"kind": "windmill:Windmill", "power_kw": -1}]}) == {
        ("device", 0, "power_kw"): "Input should be greater than or equal to 0"
    }


def test_several_devices_of_a_kind_are_numbered_or_called_by_name() -> None:
    own = settings(battery=[BATTERY, {**BATTERY, "name": "old"}])
    assert list(own.devices) == ["battery1", "old"]


def test_two_halves_are_as_good_as_the_whole() -> None:
    data = small(spot_sek_per_kwh=[0.1, 1.0])
    half = {"capacity_kwh": 50.0, "power_kw": 25.0}
    assert solved(settings(battery=[half, half]), data).cost == pytest.approx(
        solved(settings(battery=BATTERY), data).cost, abs=1e-6
    )


def test_load_has_its_peak_and_power_factor() -> None:
    p, q = settings(load_peak_kw=700.0, load_power_factor=0.9).load(np.array([0.5, 1.0]))
    assert p == pytest.approx([350.0, 700.0])
    assert p / np.hypot(p, q) == pytest.approx([0.9, 0.9])
    assert np.all(q > 0)


def test_heat_load_has_its_peak_and_mean() -> None:
    shape = np.array([0.2, 0.5, 0.9, 0.4])
    heat = settings(heat_peak_kw=450.0, heat_mean_kw=315.0).heat_load(shape)
    assert (heat.max(), heat.mean()) == pytest.approx((450.0, 315.0))
    assert np.array_equal(np.argsort(heat), np.argsort(shape))
    assert settings(heat_peak_kw=300.0).heat_load(shape) == pytest.approx(300.0 * shape / 0.9)


# -- the series --------------------------------------------------------------------------------------------------------


def test_every_bad_series_is_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        small(4, load_p_kw=[1.0, 2.0, 3.0], pv_pu=[0.0, np.nan, 0.0, 0.0], heat_load_kw=[0.0, 0.0, -1.0, 0.0])
    text = str(caught.value)
    assert "load_p_kw: has 3 values, the horizon has 4 steps" in text
    assert "pv_pu: is not a finite number (first at step 1)" in text
    assert "heat_load_kw: is negative at step 2" in text
    assert len(caught.value.mistakes) == 3


def test_a_step_without_length_and_a_horizon_without_steps_are_refused() -> None:
    with pytest.raises(InputError, match="is 0 h"):
        small(4, dt_h=0.0)
    with pytest.raises(InputError, match="there is no time step"):
        small(0)


def test_series_are_kept_as_they_were_and_cannot_be_changed() -> None:
    spot = np.array([0.1, 0.2])
    data = small(spot_sek_per_kwh=spot)
    spot[0] = 9.0
    assert data.spot_sek_per_kwh[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        data.spot_sek_per_kwh[0] = 9.0


@pytest.mark.parametrize(("day", "hours"), [((2021, 3, 28), 23), ((2021, 10, 31), 25)])
def test_days_of_23_and_25_hours_are_one_day_with_distinct_names(day: tuple[int, int, int], hours: int) -> None:
    zone = ZoneInfo("Europe/Stockholm")
    start = datetime(*day, tzinfo=zone)
    times = [(start.astimezone(ZoneInfo("UTC")) + timedelta(hours=k)).astimezone(zone) for k in range(hours)]
    data = small(hours, times=times)
    assert set(data.days) == {0}
    assert len(set(data.labels)) == hours
