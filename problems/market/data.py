"""The data that a market's tables name, read so that every mistake is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from decomp.errors import InputError, Mistake
from problems.market.settings import AddedLoad, MarketSettings, NetworkLoadSettings, SeriesSettings
from problems.network.feeder import Network
from problems.time_series import TimeAxis, read_csv, read_series

A = ParamSpec("A")
R = TypeVar("R")

SERIES = ("spot", "pv", "load", "heat")


def reading(name: str, axis: TimeAxis, series: SeriesSettings, folder: Path) -> tuple[Any, ...]:
    """The call that reads one series; only prices may be negative."""
    return partial(read_series, signed=name == "spot"), axis, getattr(series, name), folder, f"series.{name}"


def table_of(tables: Mapping[str, Any], name: str) -> Any:
    """One table of the case file on its own, or None where it is missing or wrong."""
    try:
        kind: Any = MarketSettings.model_fields[name].annotation
        return TypeAdapter(kind).validate_python(tables[name])
    except (KeyError, ValidationError):
        return None


def misplaced(
    network: Network,
    axis: TimeAxis | None,
    lec_bus: Mapping[str, str],
    added_loads: Sequence[AddedLoad],
    load: NetworkLoadSettings | None,
    peaks: Mapping[str, object] | None,
) -> list[Mistake]:
    """Tables that speak of buses or steps that do not exist."""
    mistakes = []
    known = f"the buses are {', '.join(network.buses)}"
    for name, bus in lec_bus.items():
        if bus not in network.buses:
            mistakes.append(Mistake("", f"lec.{name}", "bus", f"no bus '{bus}' in the network", known))
        elif bus == network.buses[network.slack]:
            remedy = "its voltage is given; choose another bus"
            mistakes.append(Mistake("", f"lec.{name}", "bus", f"bus '{bus}' is the slack bus", remedy))
    for i, added in enumerate(added_loads):
        if added.bus not in network.buses:
            mistakes.append(Mistake("", f"added_load[{i}]", "bus", f"no bus '{added.bus}' in the network", known))
        if added.fitted_to is not None and added.fitted_to.bus not in network.buses:
            problem = f"no bus '{added.fitted_to.bus}' in the network"
            mistakes.append(Mistake("", f"added_load[{i}].fitted_to", "bus", problem, known))
        if axis is not None and axis.index(added.time) is None:
            problem = f"no time step begins at {added.time.isoformat()}"
            if axis.settings.instant(added.time) is None:
                problem = f"{added.time.isoformat()} has no offset from UTC, and [time] no zone"
            remedy = f"the first begins {axis.stamps[0]}, the last {axis.stamps[-1]}"
            mistakes.append(Mistake("", f"added_load[{i}]", "time", problem, remedy))
    for bus in peaks or {} if load is not None else {}:
        if bus not in network.buses:
            assert load is not None
            assert load.file is not None
            mistakes.append(Mistake(load.file, "network_load", "bus", f"no bus '{bus}' in the network", known))
    return mistakes


class Collector:
    """Calls readers and keeps what they object to."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def of(self, read: Callable[A, R], *args: A.args, **kwargs: A.kwargs) -> R | None:
        try:
            return read(*args, **kwargs)
        except InputError as error:
            self.mistakes += error.mistakes
            return None


def read_peaks(file: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Peak load in kW and lagging power factor by bus. Raises InputError with every mistake of the file."""
    table = read_csv(folder / file, file, "network_load")
    columns = ("bus", "Ppeak_kW", "pf")
    absent = [c for c in columns if c not in table.columns]
    if absent:
        remedy = f"the file has {', '.join(table.columns)}"
        raise InputError([Mistake(file, "network_load", c, "no such column", remedy) for c in absent])
    mistakes, peaks = [], {}
    for bus, peak, pf in zip(table["bus"], *(pd.to_numeric(table[c], "coerce") for c in columns[1:]), strict=True):
        if not (np.isfinite(peak) and peak >= 0):
            remedy = "a peak load is a number >= 0 in kW"
            mistakes.append(Mistake(file, "network_load", "Ppeak_kW", f"bus {bus} has no usable peak", remedy))
        if not 0 < pf <= 1:
            mistakes.append(Mistake(file, "network_load", "pf", f"bus {bus} has no usable power factor", "0 < pf <= 1"))
        if str(bus).strip() in peaks:
            mistakes.append(
                Mistake(file, "network_load", "bus", f"bus {bus} has two rows", "keep one row for each bus")
            )
        peaks[str(bus).strip()] = (float(peak), float(pf))
    if mistakes:
        raise InputError(mistakes)
    return peaks
