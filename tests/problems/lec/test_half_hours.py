"""Steps of half an hour: an hour cut into equal halves costs what the hour costs, in every device and every market."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from lec_cases import LEC1, LEC2, NEUTRAL, campus
from microgrid import microgrid, tables

from decomp.messages import Signal
from problems.lec.community import LocalEnergyCommunity
from problems.lec.data import LecData
from problems.lec.settings import LecSettings
from problems.microgrid.block import MicrogridScenario
from problems.microgrid.problem import Microgrid
from problems.microgrid.settings import MicrogridSettings
from problems.time_series import TimeAxis

NOON = slice(9, 15)  # hours in which the sun shines
HOURS = 6
MILD = {**LEC2, "smart_boiler": {**LEC2["smart_boiler"], "draw_day_m3_per_h": 0.02}}  # a day's draw would cool it
POWER = ("_kw", "_kvar", "_mw", "_mvar")  # what has to be the same in both halves; states of stores are not


class EqualHalves:
    """A block whose powers do not change within the hour: then it can do what the hourly one can, and no more."""

    def build(self) -> pyo.ConcreteModel:
        m = super().build()
        m.halves = pyo.ConstraintList()
        for variable in m.component_objects(pyo.Var):
            if variable.is_indexed() and variable.local_name.endswith(POWER):
                for index in list(variable):
                    *before, k = index if isinstance(index, tuple) else (index,)
                    if k % 2:
                        other = (*before, k - 1)
                        m.halves.add(variable[index] == variable[other if before else k - 1])
        return m


class HalfHourly(EqualHalves, LocalEnergyCommunity):
    pass


class HalfHourlyMicrogrid(EqualHalves, MicrogridScenario):
    pass


def part_of_day(data: LecData, halves: bool) -> LecData:
    """The hours around noon, each as one step or as two."""
    series = {f.name: getattr(data, f.name) for f in fields(data)}
    times, n = list(data.times[NOON]), data.n
    if halves:
        times = [t + timedelta(minutes=m) for t in times for m in (0, 30)]
    for name, values in series.items():
        if isinstance(values, np.ndarray) and values.shape == (n,):
            series[name] = np.repeat(values[NOON], 2) if halves else values[NOON]
    return LecData(**{**series, "times": times, "labels": (), "dt_h": 0.5 if halves else 1.0})


def ramped(table, factor):
    """A step may change by the rate times its length: as much in half an hour takes twice the rate."""
    boiler = table.get("boiler_chp")
    return {**table, "boiler_chp": {**boiler, "ramp_kw_per_h": factor * boiler["ramp_kw_per_h"]}} if boiler else table


@pytest.mark.parametrize(("table", "close"), [(LEC1, 1e-5), (MILD, 5e-3)], ids=["LEC1", "LEC2, stores that lose heat"])
def test_a_communitys_day_costs_the_same_in_half_hours(table, close):
    answers = []
    for halves, kind in ((False, LocalEnergyCommunity), (True, HalfHourly)):
        _, data = campus(table)
        block = kind(
            "LEC",
            LecSettings.model_validate(ramped(table, 2.0 if halves else 1.0)),
            part_of_day(data, halves),
            freeze_p=False,
        )
        found = block.solve(Signal(np.full(HOURS * (2 if halves else 1), 4 * NEUTRAL)))
        assert found.status.has_point, found.message
        answers.append((found.cost, float(np.asarray(block.weight) @ found.y), found.y))
    (cost, sold, y), (cost_2, sold_2, y_2) = answers
    assert abs(cost) > 100.0
    assert cost_2 == pytest.approx(cost, rel=close)
    assert sold_2 == pytest.approx(sold, rel=0.02)  # kvarh
    assert y_2.reshape(-1, 2) == pytest.approx(np.repeat(y_2[::2], 2).reshape(-1, 2), abs=1e-6)
    assert np.abs(y).max() > 1.0


def twice(data, settings):
    """The microgrid's data with every hour cut into halves."""
    again = {f.name: getattr(data, f.name) for f in fields(data) if f.name not in ("axis", "names", "prob", "sample")}
    for name, values in again.items():
        cut = {k: np.repeat(v, 2, axis=-1) for k, v in values.items()} if isinstance(values, dict) else None
        again[name] = np.repeat(values, 2, axis=-1) if cut is None else cut
    return replace(data, axis=TimeAxis(settings.time), **again)


@pytest.mark.parametrize("stage", ["per_scenario", "committed"])
def test_a_microgrids_day_earns_the_same_in_half_hours(stage):
    hourly = tables(4, stage=stage)
    hourly["solver"] = {"tangent_usd": 1e-4}
    hourly["demand_response"] = {
        "DR": {"curtailable_mw": 0.5, "energy_mwh": 1.0, "catch_up_mw": 0.5, "paid_usd_per_mwh": 5.0}
    }
    whole = microgrid(hourly, 1)
    fine = {**hourly, "time": {**hourly["time"], "step_min": 30, "steps": 8}}
    fine["mt"] = {
        name: {**t, "ramp_up_mw": 2 * t["ramp_up_mw"], "ramp_down_mw": 2 * t["ramp_down_mw"]}
        for name, t in hourly["mt"].items()
    }
    settings = MicrogridSettings.model_validate(fine)
    cut = Microgrid(settings, Path(), twice(whole.data, settings))
    assert cut.cost_range_usd == pytest.approx(whole.cost_range_usd)
    name = whole.data.names[0]
    one = whole.scenario(name)
    equal = HalfHourlyMicrogrid(
        settings, cut.data.scene(name), bid_limit=cut.bid_limit, cost_range_usd=cut.cost_range_usd
    )
    hour, half = (block.solve(Signal(np.zeros_like(block.weight))) for block in (one, equal))
    assert hour.cost < -400.0
    assert half.cost == pytest.approx(hour.cost, abs=0.02)
    if stage == "committed":
        assert equal.weight @ half.y == pytest.approx(one.weight @ hour.y, rel=0.02)  # MWh
    free = cut.scenario(name).solve(Signal(np.zeros_like(equal.weight)))
    assert free.cost <= half.cost + 0.02  # whoever may change within the hour earns no less
