"""Feeders from packages on the index, and an independent power flow to compare with."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from problems.network.feeder import Network
from problems.network.from_pandapower import from_pandapower

FEEDERS = (
    "33 buses, radial",
    "33 buses, ties closed",
    "Oberrhein, 71 buses, taps",
    "CIGRE MV, rings closed",
    "Kerber LV",
    "CIGRE LV",
    "SimBench MV and LV, 5483 buses",
)


class Feeder(NamedTuple):
    """p_pu, q_pu (n,) injections; v (n,) pandapower's complex voltages."""

    network: Network
    p_pu: np.ndarray
    q_pu: np.ndarray
    v: np.ndarray


def read(name: str, v_min_pu: float = 0.95, v_max_pu: float = 1.05) -> Feeder:
    """Build a net, solve it with pandapower to 1e-10 MVA, convert it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandapower

        net = _pandapower_net(name)
        options = {"numba": False, "calculate_voltage_angles": True, "max_iteration": 30}
        pandapower.runpp(net, tolerance_mva=1e-10, **options)
        bus = np.real(net._ppc["internal"]["bus"])
        v = bus[:, 7] * np.exp(1j * np.deg2rad(bus[:, 8]))
        return Feeder(*from_pandapower(net, v_min_pu, v_max_pu), v)


def _pandapower_net(name: str):
    import pandapower.networks as pn

    if name.startswith("33"):
        net = pn.case33bw()
        net.line["in_service"] |= "ties" in name
        net.line["c_nf_per_km"] = 200.0 if "ties" in name else 0.0
        return net
    if name.startswith("Oberrhein"):
        return pn.mv_oberrhein(separation_by_sub=True)[0]
    if name == "CIGRE LV":
        return pn.create_cigre_network_lv()
    if name.startswith("CIGRE"):
        net = pn.create_cigre_network_mv(with_der="pv_wind")
        net.switch["closed"] = True
        return net
    if name.startswith("Kerber"):
        return pn.create_kerber_landnetz_freileitung_2()
    import simbench

    return simbench.get_simbench_net("1-MVLV-rural-all-0-no_sw")


def power_grid_model_voltages(network: Network, p_pu, q_pu):
    """(n,) complex voltages by power-grid-model's Newton method, from the same branches, at 1 kV base."""
    from power_grid_model import CalculationMethod, ComponentType, LoadGenType, PowerGridModel, initialize_array

    n, m = len(network.buses), len(network.from_bus)
    u, s = 1e3, network.base_kva * 1e3
    z = u * u / s
    node = initialize_array("input", ComponentType.node, n)
    node["id"], node["u_rated"] = np.arange(n), u
    branch = initialize_array("input", ComponentType.generic_branch, m)
    branch["id"], branch["from_node"], branch["to_node"] = n + np.arange(m), network.from_bus, network.to_bus
    branch["from_status"] = branch["to_status"] = 1
    branch["r1"], branch["x1"], branch["g1"], branch["b1"] = (
        network.r_pu * z,
        network.x_pu * z,
        network.g_pu / z,
        network.b_pu / z,
    )
    branch["k"], branch["theta"], branch["sn"] = network.ratio, network.shift_rad, s
    shunt = initialize_array("input", ComponentType.shunt, n)
    shunt["id"], shunt["node"], shunt["status"] = n + m + np.arange(n), np.arange(n), 1
    shunt["g1"], shunt["b1"] = network.shunt_g_pu / z, network.shunt_b_pu / z
    source = initialize_array("input", ComponentType.source, 1)
    source["id"], source["node"], source["status"] = 2 * n + m, network.slack, 1
    source["u_ref"], source["sk"] = network.slack_v_pu, 1e25
    load = initialize_array("input", ComponentType.sym_load, n)
    load["id"], load["node"], load["status"] = 2 * n + m + 1 + np.arange(n), np.arange(n), 1
    load["type"] = LoadGenType.const_power
    others = np.arange(n) != network.slack
    load["p_specified"], load["q_specified"] = -p_pu * s * others, -q_pu * s * others
    model = PowerGridModel(
        {
            ComponentType.node: node,
            ComponentType.generic_branch: branch,
            ComponentType.shunt: shunt,
            ComponentType.source: source,
            ComponentType.sym_load: load,
        }
    )
    out = model.calculate_power_flow(
        error_tolerance=1e-10, max_iterations=50, calculation_method=CalculationMethod.newton_raphson
    )[ComponentType.node]
    return out["u_pu"] * np.exp(1j * out["u_angle"])
