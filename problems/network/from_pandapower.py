"""A pandapower net as a feeder; pandapower is imported only when this is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from decomp.errors import InputError, Mistake, TatonnementError
from decomp.messages import FloatArray
from problems.network.feeder import Feeder, FeederLoad, Network

DRAWS = {"load": 1.0, "sgen": -1.0, "storage": 1.0, "motor": 1.0}  # sign with which p_mw is drawn
CARRIES = ("line", "trafo", "trafo3w", "impedance")
TAKEN = frozenset({"bus", "switch", "ext_grid", "shunt", *DRAWS, *CARRIES})
SILENT = frozenset({"measurement", "pwl_cost", "poly_cost", "group", "characteristic", "substation", "loadcases"})
REMEDY = {
    "gen": "it holds a voltage: give a static generator (sgen) with its P and Q instead",
    "xward": "it holds a voltage: give a load and a shunt instead",
    "ward": "give a load and a shunt instead",
    "asymmetric_load": "the network is balanced: give a load",
    "asymmetric_sgen": "the network is balanced: give an sgen",
    "dcline": "give the powers at its two ends as load and sgen",
    "controller": "run it, and keep the taps and powers it has found",
}
ENDS = {"l": "line", "t": "trafo", "t3": "trafo3w", "b": "bus"}
TOLERANCES_PU = (1e-11, 1e-9, 1e-7)  # short lines do not let the mismatch fall to the first


def settle(net: Any) -> None:
    """`pandapower.runpp` as exactly as the net allows. Raises TatonnementError where it has no solution."""
    import pandapower  # type: ignore[import-untyped]

    for tolerance in TOLERANCES_PU:
        try:
            pandapower.runpp(net, numba=False, calculate_voltage_angles=True, tolerance_mva=tolerance, max_iteration=50)
            return
        except pandapower.LoadflowNotConverged:
            continue
    raise TatonnementError("the source's own power flow does not converge")


def from_pandapower(net: Any, v_min_pu: float = 0.9, v_max_pu: float = 1.1) -> tuple[Network, FloatArray, FloatArray]:
    """(network, p_pu (n,), q_pu (n,)) of a balanced net on which `pandapower.runpp` has converged.

    Generators keep the power they have in that solution (their Q is no longer regulated). Three-winding transformers
    are the star that pandapower makes of them. Raises ValueError where there is not exactly one slack bus, or where a
    branch has unequal ends.
    """
    from pandapower.pypower import idx_bus  # type: ignore[import-untyped]

    ppc = net._ppc["internal"]
    bus = np.real(ppc["bus"])
    names = tuple(str(int(i)) for i in bus[:, idx_bus.BUS_I])
    network = _network(ppc, names, float(ppc["baseMVA"]), v_min_pu, v_max_pu)
    v = bus[:, idx_bus.VM] * np.exp(1j * np.deg2rad(bus[:, idx_bus.VA]))
    s = v * np.conj(np.asarray(ppc["Ybus"] @ v))
    return network, s.real.copy(), s.imag.copy()


def feeder_of(net: Any, source: str, profile: bool = False) -> tuple[Feeder, FloatArray]:
    """(feeder, complex voltages (n,) of the source's own power flow) of a net; runs its power flow.

    Buses that closed switches join become one; transformers keep the ratio and phase shift of their tap position;
    storage, motors and static generators keep the power they have. profile: take the names of SimBench's series.
    Raises InputError with every element that a balanced network with one slack bus and given powers cannot represent.
    """
    mistakes = [*_beyond_us(net), *_slacks(net)]
    if mistakes:
        raise InputError(mistakes)
    settle(net)
    ppc = net._ppc["internal"]
    of_bus = _internal(net)
    names, joins = _names(net, of_bus, len(ppc["bus"]))
    try:
        network = _network(ppc, names, float(ppc["baseMVA"]), 0.9, 1.1)
    except ValueError as error:
        raise InputError([Mistake("", "network", "source", str(error), "")]) from None
    loads, unfed = _loads(net, names, of_bus, profile)
    if unfed:
        raise InputError(unfed)
    from pandapower.pypower import idx_bus

    bus = np.real(ppc["bus"])
    v = bus[:, idx_bus.VM] * np.exp(1j * np.deg2rad(bus[:, idx_bus.VA]))
    v = v * np.exp(-1j * np.angle(v[network.slack]))
    alone = tuple(_called(net, "bus", i) for i in net.bus.index if of_bus.get(int(i), -1) < 0)
    notes = {"buses that nothing feeds": alone, **_resting(net)}
    kept = {name: found for name, found in notes.items() if found}
    return Feeder(network, bus[:, idx_bus.BASE_KV], tuple(loads), source, joins, kept), v


def _network(
    ppc: Mapping[str, Any], names: tuple[str, ...], base_mva: float, v_min_pu: float, v_max_pu: float
) -> Network:
    from pandapower.pypower import idx_brch, idx_bus

    bus, branch = np.real(ppc["bus"]), ppc["branch"]
    slack = np.flatnonzero(bus[:, idx_bus.BUS_TYPE] == 3)
    if len(slack) != 1:
        raise ValueError(f"the net has {len(slack)} slack buses; one external grid and no other is needed")
    unequal = [idx_brch.BR_R_ASYM, idx_brch.BR_X_ASYM, idx_brch.BR_G_ASYM, idx_brch.BR_B_ASYM]
    if np.any(np.abs(branch[:, unequal]) > 0):
        raise ValueError("a branch has different impedances at its two ends; such branches cannot be represented")
    ratio = np.real(branch[:, idx_brch.TAP])
    return Network(
        buses=names,
        from_bus=np.real(branch[:, idx_brch.F_BUS]).astype(np.int64),
        to_bus=np.real(branch[:, idx_brch.T_BUS]).astype(np.int64),
        r_pu=np.real(branch[:, idx_brch.BR_R]),
        x_pu=np.real(branch[:, idx_brch.BR_X]),
        g_pu=np.real(branch[:, idx_brch.BR_G]),
        b_pu=np.real(branch[:, idx_brch.BR_B]),
        ratio=np.where(ratio == 0, 1.0, ratio),
        shift_rad=np.deg2rad(np.real(branch[:, idx_brch.SHIFT])),
        shunt_g_pu=bus[:, idx_bus.GS] / base_mva,
        shunt_b_pu=bus[:, idx_bus.BS] / base_mva,
        base_kva=1000.0 * base_mva,
        slack=int(slack[0]),
        slack_v_pu=float(bus[slack[0], idx_bus.VM]),
        v_min_pu=np.full(len(bus), v_min_pu),
        v_max_pu=np.full(len(bus), v_max_pu),
    )


def _called(net: Any, table: str, index: Any) -> str:
    """'line 7 (Line 12-13)'."""
    name = net[table].at[index, "name"] if "name" in net[table] else None
    return f"{table} {index} ({name})" if isinstance(name, str) and name.strip() else f"{table} {index}"


def _in_service(net: Any, table: str) -> list[Any]:
    rows = net[table]
    return list(rows.index[rows["in_service"].astype(bool)]) if "in_service" in rows else list(rows.index)


def _tables(net: Any) -> list[str]:
    return [k for k in net if hasattr(net[k], "columns") and not k.startswith(("res_", "_", "std_types"))]


def _beyond_us(net: Any) -> list[Mistake]:
    """Every element in service that is neither represented nor silent in a power flow."""
    found: list[tuple[str, str, str]] = []
    for table in _tables(net):
        if table in TAKEN or table in SILENT:
            continue
        problem, remedy = f"a {table} cannot be represented", REMEDY.get(table, "take it out of service")
        found += [(_called(net, table, i), problem, remedy) for i in _in_service(net, table)]
    for column in (c for c in net.load.columns if c.startswith("const_")):
        for i in _in_service(net, "load"):
            if net.load.at[i, column] != 0:
                problem = f"{column} = {net.load.at[i, column]:g}: its power depends on the voltage"
                found.append((_called(net, "load", i), problem, "give a load of constant power, and a shunt"))
    return [Mistake("", "network", where, problem, remedy) for where, problem, remedy in found]


def _slacks(net: Any) -> list[Mistake]:
    grids = _in_service(net, "ext_grid")
    if len(grids) == 1:
        return []
    which = ", ".join(_called(net, "ext_grid", i) for i in grids) or "none"
    problem, remedy = f"{len(grids)} external grids in service ({which})", "exactly one slack bus is needed"
    return [Mistake("", "network", "ext_grid", problem, remedy)]


def _internal(net: Any) -> dict[int, int]:
    """Row in the solved tables of every bus that is fed; buses joined by closed switches share one."""
    ppc, lookup = net._ppc, net._pd2ppc_lookups["bus"]
    from pandapower.pypower import idx_bus

    works = np.real(ppc["bus"][:, idx_bus.BUS_TYPE]) != 4
    row = np.where(works, np.cumsum(works) - 1, -1)
    return {int(i): int(row[lookup[i]]) if lookup[i] >= 0 else -1 for i in net.bus.index}


def _names(net: Any, of_bus: Mapping[int, int], count: int) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Names of the solved buses (a bus's own name where all names differ, else its number), and who shares them."""
    own = {int(i): str(name).strip() for i, name in net.bus["name"].items()}
    distinct = len(set(own.values())) == len(own) and all(n and n.lower() not in ("none", "nan") for n in own.values())
    sharing: dict[int, list[str]] = {}
    for i in sorted(of_bus):
        if of_bus[i] >= 0:
            sharing.setdefault(of_bus[i], []).append(own[i] if distinct else str(i))
    names = [sharing[k][0] if k in sharing else f"inner {k}" for k in range(count)]
    return tuple(names), {found[0]: tuple(found[1:]) for found in sharing.values() if len(found) > 1}


def _loads(
    net: Any, names: tuple[str, ...], of_bus: Mapping[int, int], profile: bool
) -> tuple[list[FeederLoad], list[Mistake]]:
    found, unfed = [], []
    for table, sign in DRAWS.items():
        results = net[f"res_{table}"]
        for i in _in_service(net, table):
            row, called = of_bus[int(net[table].at[i, "bus"])], _called(net, table, i)
            if row < 0:
                unfed.append(Mistake("", "network", called, "nothing feeds its bus", "connect it, or take it out"))
                continue
            p, q = (float(results.at[i, c]) * 1000.0 * sign for c in ("p_mw", "q_mvar"))
            series = net[table].at[i, "profile"] if profile and "profile" in net[table] else ""
            found.append(FeederLoad(names[row], called, _kind(net, table, i), p, q, str(series or "")))
    return found, unfed


def _kind(net: Any, table: str, index: Any) -> str:
    """What makes the power: the type of a static generator says it where anything does."""
    if table != "sgen":
        return {"storage": "storage"}.get(table, "load")
    columns = (net.sgen[c].at[index] for c in ("type", "profile") if c in net.sgen)
    text = " ".join(str(value) for value in columns).lower()
    return "pv" if "pv" in text else "wind" if "wind" in text or "wp" in text else "generation"


def _resting(net: Any) -> dict[str, tuple[str, ...]]:
    """What takes no part in the power flow, and what a power flow holds fixed though it could move."""
    out: dict[str, tuple[str, ...]] = {}
    for table in _tables(net):
        if table not in ("bus", "switch") and "in_service" in net[table]:
            rows = net[table].index[~net[table]["in_service"].astype(bool)]
            out[f"{table} out of service"] = tuple(_called(net, table, i) for i in rows)
    opened = net.switch.index[~net.switch["closed"].astype(bool)] if len(net.switch) else []
    out["open switches"] = tuple(
        f"{_called(net, 'switch', i)} at bus {net.switch.at[i, 'bus']} to "
        f"{ENDS.get(net.switch.at[i, 'et'], net.switch.at[i, 'et'])} {net.switch.at[i, 'element']}"
        for i in opened
    )
    if "tap_step_percent" in net.trafo:
        steps = net.trafo["tap_step_percent"].fillna(0.0)
        taps = [i for i in _in_service(net, "trafo") if steps[i] != 0]
        out["tap changers held at their position"] = tuple(_called(net, "trafo", i) for i in taps)
    return out
