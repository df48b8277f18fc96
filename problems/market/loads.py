"""What the network's own loads draw: peaks and power factors from a table, or the loads of the feeder's source."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.market.data import read_peaks
from problems.market.settings import NetworkLoadSettings
from problems.network.feeder import Feeder, FeederLoad, Network
from problems.time_series import SeriesColumn, TimeAxis, read_csv, read_series

SAME = 1e-6  # relative: loads that differ by no more are the same one, described twice
Drawn = tuple[FloatArray, FloatArray]  # (T, S, n) kW and kvar


@dataclass(frozen=True, eq=False)
class NetworkLoads:
    """Loads of one of the two kinds: peaks by bus from a table, or those of the feeder's source; scale multiplies."""

    network: Network
    peaks: Mapping[str, tuple[float, float]]
    loads: Sequence[FeederLoad] = ()
    profiles: Mapping[str, FloatArray] = field(default_factory=dict)
    scale: float = 1.0

    @property
    def buses(self) -> tuple[str, ...]:
        """Buses with a load, in the order of the network."""
        loaded = {bus for bus, (peak, _) in self.peaks.items() if peak > 0} | {x.bus for x in self.loads if x.p_kw > 0}
        return tuple(bus for bus in self.network.buses if bus in loaded)

    def peak_kw(self, bus: str) -> float:
        """The greatest load at a bus, kW; generation there does not count."""
        table = self.peaks.get(bus, (0.0, 1.0))[0]
        return self.scale * (table + sum(load.p_kw for load in self.loads if load.bus == bus and load.kind == "load"))

    def drawn(self, series: Mapping[str, FloatArray], mean: Mapping[str, FloatArray], own: Collection[str]) -> Drawn:
        """(T, S, n) kW and kvar with `series` (S, T), nothing drawn at the buses `own`; mean (T,) of the case."""
        if self.loads:
            p_kw, q_kvar = of_feeder(self.network, self.loads, own, series, mean, self.profiles)
        else:
            p_kw, q_kvar = of_peaks(self.network, self.peaks, own, series["load"])
        return self.scale * p_kw, self.scale * q_kvar


def replaced_loads(lecs: Mapping[str, Any], loads: NetworkLoads) -> tuple[dict[str, float], list[Mistake]]:
    """Peak in kW of the network's load that communities stand for, by their bus; and what is not said.

    lecs: by name, with `bus`, `load_peak_kw` and `bus_load`. Where nobody says whether the network's load at a PCC is
    the communities' own or another one, it is theirs only if it is as large as their load together.
    """
    replaced: dict[str, float] = {}
    mistakes = []
    for bus in sorted({lec.bus for lec in lecs.values()}):
        own = {name: lec for name, lec in lecs.items() if lec.bus == bus}
        peak, total = loads.peak_kw(bus), sum(lec.load_peak_kw for lec in own.values())
        said = {lec.bus_load for lec in own.values()} - {None}
        if peak <= 0 or said == {"beside"}:
            continue
        if said == {"instead"} or (not said and abs(peak - total) <= SAME * peak):
            replaced[bus] = peak
            continue
        there = f"the network has a load of {peak:g} kW at bus {bus}"
        remedy = '"beside" keeps that load, "instead" puts the community in its place'
        for name in own:
            problem = f"{there}, and the communities there draw {total:g} kW"
            if said:
                problem, remedy = f"{there}, and its communities disagree on it", "say the same for all of them"
            mistakes.append(Mistake("", f"lec.{name}", "bus_load", problem, remedy))
    return replaced, mistakes


def network_loads(settings: NetworkLoadSettings, feeder: Feeder, axis: TimeAxis | None, folder: Path) -> NetworkLoads:
    """What the table [network_load] says. Raises InputError with every mistake."""
    if settings.file is not None:
        return NetworkLoads(feeder.network, read_peaks(settings.file, folder), scale=settings.scale)
    if not feeder.loads:
        problem, remedy = "is missing: the network brings no loads of its own", "a CSV with bus, Ppeak_kW, pf"
        raise InputError([Mistake("", "network_load", "file", problem, remedy)])
    profiles = {}
    if settings.profiles is not None and axis is not None:
        profiles = read_profiles(settings.profiles, feeder.loads, axis, folder)
    return NetworkLoads(feeder.network, {}, feeder.loads, profiles, settings.scale)


def of_peaks(
    network: Network, peaks: Mapping[str, tuple[float, float]], own: Collection[str], load: FloatArray
) -> Drawn:
    """Loads of the shape load (S, T) with a peak and a lagging power factor by bus; none at the buses `own`."""
    p_peak = np.array([0.0 if b in own else peaks.get(b, (0.0, 1.0))[0] for b in network.buses])
    pf = np.array([peaks.get(b, (0.0, 1.0))[1] for b in network.buses])
    p_kw = load.T[:, :, None] * p_peak
    return p_kw, p_kw * (np.sqrt(1.0 - pf**2) / pf)


def of_feeder(
    network: Network,
    loads: Sequence[FeederLoad],
    own: Collection[str],
    series: Mapping[str, FloatArray],
    mean: Mapping[str, FloatArray],
    profiles: Mapping[str, FloatArray],
) -> Drawn:
    """The loads of a feeder's source, kW and kvar as there times a shape; at the buses `own` only what generates.

    series    (S, T) of "load" and "pv" in each scenario; mean (T,) of the case
    profiles  (T,) by column NAME_p, NAME_q; a load with a profile follows it, times series / mean; a profile without
              reactive part keeps the power factor. Without one, loads and storage follow `load`, photovoltaics `pv`,
              and other generation is constant
    """
    steps, scenarios = len(mean["load"]), len(series["load"])
    shape = (steps, scenarios, len(network.buses))
    p_kw, q_kvar = np.zeros(shape), np.zeros(shape)
    for load in loads:
        if load.kind == "load" and load.bus in own:
            continue
        follows = {"load": "load", "storage": "load", "pv": "pv"}.get(load.kind, "")
        bus = network.bus(load.bus)
        if load.profile and profiles:
            ratio = np.ones((steps, scenarios)) if not follows else _ratio(series[follows].T, mean[follows][:, None])
            active = profiles[f"{load.profile}_p"]
            reactive = profiles.get(f"{load.profile}_q", active)
            p_kw[:, :, bus] += load.p_kw * active[:, None] * ratio
            q_kvar[:, :, bus] += load.q_kvar * reactive[:, None] * ratio
        else:
            factor = series[follows].T if follows else np.ones((steps, scenarios))
            p_kw[:, :, bus] += load.p_kw * factor
            q_kvar[:, :, bus] += load.q_kvar * factor
    return p_kw, q_kvar


def read_profiles(file: str, loads: Sequence[FeederLoad], axis: TimeAxis, folder: Path) -> dict[str, FloatArray]:
    """(T,) by column, those that the loads name. Raises InputError with every mistake."""
    columns = set(read_csv(folder / file, file, "network_load.profiles").columns)
    used = sorted({load.profile for load in loads if load.profile})
    mistakes = [
        Mistake(file, "network_load", "profiles", f"has no column {name}_p", "the feeder's loads name it")
        for name in used
        if f"{name}_p" not in columns
    ]
    found: dict[str, FloatArray] = {}
    for column in sorted({f"{name}{unit}" for name in used for unit in ("_p", "_q")} & columns):
        try:
            where = SeriesColumn(file=file, column=column)
            found[column] = read_series(axis, where, folder, "network_load.profiles", signed=True)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(mistakes)
    return found


def _ratio(now: FloatArray, mean: FloatArray) -> FloatArray:
    return np.divide(now, mean, out=np.ones_like(now), where=mean > 0)
