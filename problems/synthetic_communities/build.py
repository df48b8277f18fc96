"""From the table [fleet] to a fleet on a feeder: where the units may be, their series, and the stress."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.network.feeder import Network
from problems.synthetic_communities.draw import Fleet, FleetUnit, draw
from problems.synthetic_communities.settings import FleetSettings
from problems.time_series import SeriesColumn, TimeAxis, read_csv, read_series


def build_fleet(
    settings: FleetSettings, axis: TimeAxis, network: Network, loaded: Sequence[str], folder: Path
) -> Fleet:
    """The fleet before any stress. loaded: buses with a load of the network's own.

    Raises InputError with every bus that is none, and every mistake in the profiles.
    """
    mistakes: list[Mistake] = []
    slack = network.buses[network.slack]
    known = set(network.buses)
    for bus in settings.buses or ():
        if bus not in known:
            remedy = f"the buses are {', '.join(network.buses[:40])}"
            mistakes.append(Mistake("", "fleet", "buses", f"no bus '{bus}' in the network", remedy))
        elif bus == slack:
            mistakes.append(Mistake("", "fleet", "buses", f"bus '{bus}' is the slack bus", "its voltage is given"))
    places = settings.buses or tuple(b for b in network.buses if b in set(loaded) and b != slack)
    if not places:
        problem, remedy = "no bus of the network has a load", "name the buses of the PCCs"
        mistakes.append(Mistake("", "fleet", "buses", problem, remedy))
    series: dict[str, FloatArray] = {}
    if settings.profiles is not None:
        try:
            series = _profiles(settings.profiles, axis, folder)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    pvs = sorted(name for name in series if name.startswith("PV"))
    loads = sorted(set(series) - set(pvs))
    return Fleet(draw(settings, places, loads, pvs), series)


def fleet_of(
    settings: FleetSettings | None,
    axis: TimeAxis,
    network: Network,
    loaded: Sequence[str],
    taken: Collection[str],
    folder: Path,
) -> Fleet:
    """The fleet of a market whose other communities are called `taken`; without a table an empty one."""
    if settings is None:
        return Fleet(())
    fleet = build_fleet(settings, axis, network, loaded, folder)
    twice = [name for name in taken if fleet.unit(name)]
    if twice:
        raise InputError(Mistake("", "lec", name, "the fleet has a unit of this name", "rename it") for name in twice)
    return fleet


def _profiles(file: str, axis: TimeAxis, folder: Path) -> dict[str, FloatArray]:
    """(T,) by name: photovoltaics (PV...) and loads (what has a NAME_q beside NAME_p)."""
    columns = read_csv(folder / file, file, "fleet.profiles").columns
    names = [
        c.removesuffix("_p") for c in columns if c.endswith("_p") and (c.startswith("PV") or c[:-1] + "q" in columns)
    ]
    if not names:
        problem, remedy = "has no profile of a load or of photovoltaics", "columns NAME_p with NAME_q, and PV..._p"
        raise InputError([Mistake(file, "fleet", "profiles", problem, remedy)])
    read = (read_series(axis, SeriesColumn(file=file, column=f"{n}_p"), folder, "fleet.profiles") for n in names)
    return dict(zip(names, read, strict=True))


def unit_shape(unit: FleetUnit, fleet: Fleet, load: FloatArray, mean: FloatArray, dt_h: float) -> FloatArray:
    """(T,) per unit of its peak: the load's shape moved by shift_h, or its profile times load / mean.

    load is the shape in one scenario, mean that of the case; between two steps the shape is linear, and it goes round.
    """
    if unit.load_profile:
        return fleet.series[unit.load_profile] * np.divide(load, mean, out=np.ones_like(load), where=mean > 0)
    steps = len(load)
    at = np.arange(steps) - unit.shift_h / dt_h
    return np.asarray(np.interp(at, np.arange(-steps, 2 * steps), np.tile(load, 3)))


def unit_pv(unit: FleetUnit, fleet: Fleet, pv: FloatArray, mean: FloatArray) -> FloatArray:
    """(T,) kW per kWp: the case's series, or the unit's profile times pv / mean."""
    if not unit.pv_profile:
        return pv
    return fleet.series[unit.pv_profile] * np.divide(pv, mean, out=np.ones_like(pv), where=mean > 0)


def stressed(fleet: Fleet, load_factor: float, pv_factor: float) -> Fleet:
    """The fleet with the factors that its stress has asked for."""
    return replace(fleet, load_factor=load_factor, pv_factor=pv_factor)
