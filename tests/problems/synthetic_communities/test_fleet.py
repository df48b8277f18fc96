"""Fleets: drawn unit by unit, stressed by root finding, on any feeder; every mistake at once."""

from __future__ import annotations

import shutil
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from campus import CASES

from decomp.case.config import load
from decomp.errors import InputError
from decomp.messages import Key, Signal
from decomp.run.engine import run
from decomp.run.options import Limits
from problems.market.problem import ReactiveMarket
from problems.market.settings import MarketSettings
from problems.network.from_tables import Tables, read_tables
from problems.synthetic_communities.build import unit_shape
from problems.synthetic_communities.draw import Fleet, FleetUnit, draw, draw_unit
from problems.synthetic_communities.market import rated
from problems.synthetic_communities.settings import FleetSettings
from problems.synthetic_communities.stress import TOLERANCE_PU, least_factor, violating

CASE = CASES / "case33bw_fleet.toml"
BUSES = [str(i) for i in range(1, 33)]


def _market(folder: Path = CASES, **changes) -> ReactiveMarket:
    """The case with whole tables replaced, or keys of [fleet] (None removes)."""
    tables = tomllib.loads(CASE.read_text(encoding="utf-8"))
    for name, table in changes.items():
        if name in ("network", "network_load", "lec", "time"):
            tables[name] = table
        else:
            tables["fleet"][name] = table
    tables["fleet"] = {name: value for name, value in tables["fleet"].items() if value is not None}
    known = {name: tables[name] for name in MarketSettings.model_fields if name in tables}
    return ReactiveMarket(MarketSettings.model_validate(known), folder)


@pytest.fixture(scope="module")
def market() -> ReactiveMarket:
    return _market()


def test_a_unit_does_not_depend_on_the_others():
    few, many = (draw(FleetSettings(units=n, seed=3), BUSES) for n in (5, 40))
    assert many[:5] == few
    assert draw_unit(FleetSettings(units=1, seed=3), 39, BUSES) == many[39]
    assert draw(FleetSettings(units=5, seed=4), BUSES) != few
    # a share moves no other draw
    without = draw(FleetSettings(units=40, seed=3, battery_share=0.0), BUSES)
    for with_battery, unit in zip(many, without, strict=True):
        assert {k: v for k, v in with_battery.table.items() if k != "battery"} == unit.table
        assert with_battery.pv == unit.pv


def test_shares_and_ranges_are_kept():
    settings = FleetSettings(units=1000, seed=1, load_kw=(5.0, 9.0))
    began = time.process_time()
    units = draw(settings, BUSES)
    lecs = Fleet(units).lecs()
    assert time.process_time() - began < 1.0
    found = [list(lec.devices) for lec in lecs.values()]
    for device, share in (("pv", 0.8), ("battery", 0.5), ("heat_pump", 0.3), ("boiler_chp", 0.15)):
        # three standard deviations of a thousand draws
        assert np.mean([device in devices for devices in found]) == pytest.approx(share, abs=0.048)
    peaks = np.array([lec.load_peak_kw for lec in lecs.values()])
    assert (peaks.min() >= 5.0, peaks.max() <= 9.0) == (True, True)
    assert peaks.std() == pytest.approx(4.0 / np.sqrt(12.0), rel=0.1)
    assert {lec.bus for lec in lecs.values()} == set(BUSES)


def test_several_units_may_share_a_bus_and_its_node(market):
    buses = list(market.pcc.values())
    assert len(set(buses)) < len(buses) == 50
    assert len(market.coordinator.nodes) == 24 * len(set(buses))
    shared = next(b for b in buses if buses.count(b) > 1)
    units = [name for name, bus in market.pcc.items() if bus == shared]
    rows = {tuple(c.node) for c in market.couplings if c.unit in units}
    assert len(rows) == 1


def test_the_stated_share_of_hours_violates_and_no_smaller_factor_does(market):
    fleet, n = market.fleet, len(market.network.buses)
    assert fleet.load_factor != 1.0
    p, q = -market.coordinator.p_load_kw, -market.coordinator.q_load_kvar
    mine_p, mine_q = np.zeros((24, n)), np.zeros((24, n))
    for name, lec in market.lecs.items():
        load, pv, reactive = rated(lec, market.data[name])
        mine_p[:, market.network.bus(lec.bus)] += load + pv
        mine_q[:, market.network.bus(lec.bus)] += reactive
    counts = [
        np.count_nonzero(violating(market.network, mine_p + f * p, mine_q + f * q) > TOLERANCE_PU)
        for f in (1.0, 0.9995)
    ]
    assert counts[0] == 3  # a tenth of 24 hours, rounded up
    assert counts[1] < 3


def test_photovoltaics_are_scaled_where_the_stress_is_a_rise():
    market = _market(stress={"side": "high", "share": 0.25}, units=10, network_load={"scale": 0.2})
    assert market.fleet.load_factor == 1.0
    assert market.fleet.pv_factor > 2.0
    unit = next(u for u in market.fleet.units if u.pv is not None)
    assert market.lecs[unit.name].devices["pv"].peak_kwp == pytest.approx(unit.pv["peak_kwp"] * market.fleet.pv_factor)
    low = sum(market.data[n].load_p_kw for n in market.lecs)
    assert low.max() < sum(u.pv["peak_kwp"] for u in market.fleet.units if u.pv) * market.fleet.pv_factor


def test_the_least_factor_of_a_single_line_is_the_one_by_hand(tmp_path):
    (tmp_path / "l.csv").write_text("from,to,R_ohm,X_ohm,B_S\na,b,1,0,0\n")
    (tmp_path / "b.csv").write_text("bus\na\nb\n")
    network, _ = read_tables(Tables("l.csv", "b.csv", 1000.0, 1.0, "a", 1.0, 0.95, 1.05), tmp_path)
    load = np.array([1.0, 2.0, 4.0])
    # r = 1 pu: V^2 - V + P = 0 at V = .95 gives P = .0475 pu; two of three steps: the 2 kW step has to draw 47.5 kW
    factor, count = least_factor(
        network, lambda f: (-f * np.outer(load, [0.0, 1.0]), np.zeros((3, 2))), share=0.5, limit=100.0
    )
    assert factor == pytest.approx(0.0475 * 1000.0 / 2.0, rel=1.1e-4)
    assert count == 2
    with pytest.raises(InputError, match=r"makes 0 of 3 steps violate, 2 are wanted"):
        least_factor(network, lambda f: (np.zeros((3, 2)), np.zeros((3, 2))), share=0.5, limit=100.0)
    with pytest.raises(InputError, match="whatever the factor"):
        least_factor(network, lambda f: (np.full((3, 2), -200.0), np.zeros((3, 2))), share=0.5, limit=100.0)


def test_a_shape_is_moved_and_goes_round():
    load = np.array([0.0, 1.0, 3.0, 2.0])
    unit = FleetUnit("LEC0001", "1", {}, None, shift_h=1.0)
    assert unit_shape(unit, Fleet((unit,)), load, load, 1.0) == pytest.approx([2.0, 0.0, 1.0, 3.0])
    half = FleetUnit("LEC0001", "1", {}, None, shift_h=-0.5)
    assert unit_shape(half, Fleet((half,)), load, load, 1.0) == pytest.approx([0.5, 2.0, 2.5, 1.0])


def test_profiles_come_from_the_fleets_file(tmp_path):
    shutil.copytree(CASES / "chalmers", tmp_path / "chalmers")
    shutil.copytree(CASES / "case33bw", tmp_path / "case33bw")
    hours = [f"2021-04-14T{h:02d}:00:00+02:00" for h in range(24)]
    rows = [f"{t},{h / 24},{1 - h / 24},0.5,{h / 48},7" for h, t in enumerate(hours)]
    (tmp_path / "p.csv").write_text("time,H0_p,G1_p,H0_q,PV1_p,WP_p\n" + "\n".join(rows))
    market = _market(tmp_path, profiles="p.csv", stress=None, units=20)
    assert set(market.fleet.series) == {"H0", "PV1"}  # G1 has no reactive part, WP is no load
    lec = market.lecs["LEC0003"]
    assert market.data["LEC0003"].load_p_kw == pytest.approx(lec.load_peak_kw * np.arange(24) / 24)
    assert market.data["LEC0003"].pv_pu == pytest.approx(np.arange(24) / 48)


def test_loads_of_a_source_follow_its_profiles(tmp_path):
    for name in ("chalmers", "case33bw"):
        shutil.copytree(CASES / name, tmp_path / name)
    (tmp_path / "case33bw" / "loads.csv").write_text(
        "bus,name,kind,p_kw,q_kvar,profile\n5,a,load,100,40,H0\n5,b,pv,-50,0,\n6,c,wind,-30,0,\n7,d,load,10,5,\n"
    )
    hours = [f"2021-04-14T{h:02d}:00:00+02:00" for h in range(24)]
    (tmp_path / "p.csv").write_text("time,H0_p,H0_q\n" + "\n".join(f"{t},0.5,{h / 24}" for h, t in enumerate(hours)))
    loads = {"profiles": "p.csv", "scale": 2.0}
    market = _market(tmp_path, network_load=loads, stress=None, units=3)
    p, q, bus = market.coordinator.p_load_kw, market.coordinator.q_load_kvar, market.network.bus
    assert p[:, bus("5")] == pytest.approx(2.0 * (50.0 - 50.0 * market.mean["pv"]))
    assert q[:, bus("5")] == pytest.approx(2.0 * 40.0 * np.arange(24) / 24)
    assert p[:, bus("6")] == pytest.approx(-60.0)
    assert q[:, bus("7")] == pytest.approx(10.0 * market.mean["load"])
    assert set(market.pcc.values()) <= {"5", "7"}  # buses with a load


def test_every_drawn_unit_has_a_schedule(market):
    kinds: set[frozenset[str]] = set()
    for name, lec in market.lecs.items():
        if frozenset(lec.devices) in kinds or len(kinds) > 5:
            continue
        kinds.add(frozenset(lec.devices))
        answer = market.subproblem(Key(name)).solve(
            Signal(price=market.data[name].reactive_price_sek_per_kvarh, active=np.zeros(24, bool))
        )
        assert answer.status.has_point, answer.message
        assert np.abs(answer.y).max() == pytest.approx(0.0, abs=1e-6)


def _mistakes(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("fleet.units=0", "fleet] units"),
        ("fleet.stress.share=1.2", "fleet.stress] share"),
        ("fleet.stress.side='left'", "fleet.stress] side"),
        ("fleet.battery_share=-0.1", "fleet] battery_share"),
        ("fleet.load_kw=[40.0, 10.0]", "the first is above the second"),
        ("fleet.chp_share=0.9", "heat_pump_share + chp_share is above 1"),
        ("fleet.buses=['5', '77', '0']", "no bus '77'"),
        ("fleet.profiles='none.csv'", "no such file"),
        ("fleet.stress.limit=0.1", "a factor of 0.1 makes 0 of 24 steps violate"),
        ("network.source='csv:nowhere'", "there is no file"),
        ("network.source='pandapower:case33bx'", "did you mean 'case33bw'"),
        ("network_load.profiles='none.csv'", "no such file"),
        ("network.slack_v_pu='x'", "network] slack_v_pu"),
        ("network.lines='l.csv'", "unknown key 'lines'"),
    ],
)
def test_a_mistake_is_told_with_its_section(override, words):
    assert words in _mistakes(load, CASE, [override])


def test_mistakes_of_the_fleet_come_with_all_others():
    text = _mistakes(
        load,
        CASE,
        ["fleet.units=0", "fleet.stress.share=2.0", "dso.surprise=1", "rule.kind='none'", "run.max_rounds=0"],
    )
    for words in ("[fleet] units", "[fleet.stress] share", "[dso] surprise", "[rule] kind"):
        assert words in text
    text = _mistakes(load, CASE, ["fleet.buses=['77', '0']", "fleet.profiles='none.csv'"])
    assert "no bus '77'" in text
    assert "slack bus" in text
    assert "no such file" in text


def test_a_case_without_any_community_is_refused(tmp_path):
    for name in ("chalmers", "case33bw"):
        shutil.copytree(CASES / name, tmp_path / name)
    text = CASE.read_text(encoding="utf-8")
    begin, end = text.index("[fleet] "), text.index("[dso]")
    (tmp_path / "case.toml").write_text(text[:begin] + text[end:])
    assert "no community takes part" in _mistakes(load, tmp_path / "case.toml")


@pytest.mark.parametrize(("units", "load_kw"), [(1, [20.0, 60.0]), (500, [1.0, 5.0])])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_fleets_at_their_extremes_have_the_stress_that_is_asked(units, load_kw, share):
    market = _market(units=units, load_kw=load_kw, stress={"side": "low", "share": share})
    assert len(market.lecs) == len(market.couplings) == units
    p, q = -market.coordinator.p_load_kw, -market.coordinator.q_load_kvar
    for name, lec in market.lecs.items():
        load, pv, reactive = rated(lec, market.data[name])
        p[:, market.network.bus(lec.bus)] += load + pv
        q[:, market.network.bus(lec.bus)] += reactive
    assert np.count_nonzero(violating(market.network, p, q) > TOLERANCE_PU) == 24 * share


def test_a_stress_that_the_fleet_alone_exceeds_is_refused():
    assert "24 of 24 steps violate whatever the factor, 3 are wanted" in _mistakes(load, CASE, ["fleet.units=500"])


def test_a_feeder_of_two_buses_with_all_units_at_one_of_them_runs(tmp_path):
    for name in ("chalmers", "case33bw"):
        shutil.copytree(CASES / name, tmp_path / name)
    own = tmp_path / "case33bw"
    for name, lines in (("buses", 3), ("lines", 2), ("loads", 2)):
        text = (own / f"{name}.csv").read_text().splitlines()
        (own / f"{name}.csv").write_text("\n".join(text[:lines]) + "\n")
    text = (own / "lines.csv").read_text().replace("0.0922,0.047", "9.22,4.7")
    (own / "lines.csv").write_text(text)
    shutil.copy(CASE, tmp_path / "case.toml")
    case = load(tmp_path / "case.toml", ["fleet.units=3"])
    problem = case.problem
    assert list(problem.pcc.values()) == ["1", "1", "1"]
    assert len(problem.coordinator.nodes) == 24
    result = run(
        problem.subproblem, problem.coordinator, case.rule, coupling=problem.couplings, stop=[], limits=Limits(2)
    )
    assert (result.status, len(result.rows)) == ("iteration_limit", 2), result.reason
    assert result.rows[0].violation > 0  # the stress the fleet is to cure
    assert result.certificate.lower_bound <= result.certificate.upper_bound + 1e-7


def test_a_name_that_a_unit_has_already_is_told():
    lec = {"bus": "4", "load_peak_kw": 10.0}
    assert "rename it" in _mistakes(_market, lec={"LEC0002": lec}, stress=None)
