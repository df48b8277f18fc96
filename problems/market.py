"""The reactive-power market of a distribution system: communities (LECs) that schedule, a DSO that keeps voltages.

One case file describes it: [time], [series], [tariffs], [network], [network_load], [[added_load]], [dso],
[solver], [lec.NAME].
Paper 1, sections II and III.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel

from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, FloatArray, Key
from decomp.problem import Problem
from decomp.subproblem import Subproblem
from problems import figures, tables
from problems.dso import DSO
from problems.lec.community import LocalEnergyCommunity, coupling, q_capability_kvar, q_injection_kvar
from problems.lec.data import LecData
from problems.market_settings import MarketSettings
from problems.network.feeder import Network, read_network
from problems.time_series import TimeAxis, read_csv, read_series

if TYPE_CHECKING:
    from decomp.trace import Result

A = ParamSpec("A")
R = TypeVar("R")


class ReactiveMarket(Problem):
    """The market of one case file.

    axis     the time axis
    network  the feeder
    data     LecData by name of the community
    """

    Settings: ClassVar[type[BaseModel]] = MarketSettings
    coordinator: DSO
    labels: ClassVar[Mapping[str, str]] = {
        "worst": "voltage pu",
        "mismatch": "mismatch kvar",
        "price": "SEK/kvarh",
        "cost": "cost SEK",
    }

    def __init__(self, settings: MarketSettings, folder: Path) -> None:
        """Read every series and check that the tables fit each other. Raises InputError with every mistake found."""
        self.settings, self.folder = settings, folder
        self.axis = TimeAxis(settings.time)
        found = _Collector()
        series = settings.series
        spot = found.of(read_series, self.axis, series.spot, folder, "series.spot", signed=True)
        pv = found.of(read_series, self.axis, series.pv, folder, "series.pv")
        load = found.of(read_series, self.axis, series.load, folder, "series.load")
        heat = found.of(read_series, self.axis, series.heat, folder, "series.heat")
        network = found.of(read_network, settings.network, folder)
        peaks = found.of(read_peaks, settings.network_load.file, folder)
        if network is not None:
            found.mistakes += self._misplaced(network, peaks or {})
        if spot is None or pv is None or load is None or heat is None or network is None or peaks is None:
            raise InputError(found.mistakes)
        data = {name: found.of(self._lec_data, name, spot, pv, load, heat) for name in sorted(settings.lec)}
        if found.mistakes:
            raise InputError(found.mistakes)
        self.network = network
        self.data = {name: lec for name, lec in data.items() if lec is not None}
        self.pcc = {name: lec.bus for name, lec in sorted(settings.lec.items())}
        self.coordinator = self._dso(peaks, load, spot)
        self.couplings = tuple(self._coupling(name) for name in self.data)

    @classmethod
    def from_file(cls, path: Path) -> ReactiveMarket:
        """The market of a case file; the tables that say how it is solved are not read."""
        with path.open("rb") as file:
            found = tomllib.load(file)
        known = {name: found[name] for name in MarketSettings.model_fields if name in found}
        return cls(MarketSettings.model_validate(known), path.parent)

    def subproblem(self, key: Key) -> Subproblem:
        lec, options = self.settings.lec[key.unit], self.settings.solver.block()
        freeze_p = self.settings.dso.freeze_p
        return LocalEnergyCommunity(key.unit, lec, self.data[key.unit], freeze_p=freeze_p, settings=options)

    def write(self, result: Result, folder: Path) -> Sequence[Path]:
        """voltages.csv, duals.csv, schedule_<unit>.csv and figures/*.png, drawn from the files of the folder."""
        written = tables.write(self, result, folder)
        return (*written, *figures.draw(folder)) if result.details else written

    def summary(self, result: Result) -> Mapping[str, Any]:
        """Extreme voltages of an AC power flow with the final P and Q."""
        if result.answers is None:
            return {}
        v_pu = tables.voltages(self, result, result.answers)
        return {"min_voltage_pu": float(v_pu.min()), "max_voltage_pu": float(v_pu.max())}

    def tables(self, result: Result) -> Sequence[Any]:
        return tables.render(self, result)

    def _lec_data(self, name: str, spot: FloatArray, pv: FloatArray, load: FloatArray, heat: FloatArray) -> LecData:
        lec, tariffs = self.settings.lec[name], self.settings.tariffs
        p_kw, q_kvar = lec.load(load)
        return LecData(
            times=self.axis.begins,
            dt_h=self.axis.dt_h,
            spot_sek_per_kwh=spot,
            load_p_kw=p_kw,
            load_q_kvar=q_kvar,
            heat_load_kw=lec.heat_load(heat),
            pv_pu=pv,
            reactive_price_sek_per_kvarh=np.full_like(spot, tariffs.reactive_sek_per_kvarh),
            heat_price_sek_per_kwh=np.full_like(spot, tariffs.heat_sek_per_kwh),
            grid_tariff_sek_per_kwh=tariffs.transfer_sek_per_kwh,
            heat_peak_sek_per_kw_day=tariffs.heat_peak_sek_per_kw_day,
            heat_fixed_sek_per_day=tariffs.heat_fixed_sek_per_day,
            shed_cost_sek_per_kwh=tariffs.shedding_sek_per_kwh,
        )

    def _dso(self, peaks: Mapping[str, tuple[float, float]], load: FloatArray, spot: FloatArray) -> DSO:
        p_kw, q_kvar = self._network_loads(peaks, load)
        return DSO(
            network=self.network,
            settings=self.settings.dso,
            pcc=self.pcc,
            probabilities={Key(name): 1.0 for name in self.data},
            p_load_kw=p_kw,
            q_load_kvar=q_kvar,
            times=self.axis.names,
            dt_h=self.axis.dt_h,
            neutral_price=np.full_like(spot, self.settings.tariffs.reactive_sek_per_kvarh),
            reference_price=spot,
            box={name: q_capability_kvar(self.settings.lec[name], data) for name, data in self.data.items()},
            injection={name: q_injection_kvar(self.settings.lec[name], data) for name, data in self.data.items()},
        )

    def _network_loads(
        self, peaks: Mapping[str, tuple[float, float]], load: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """(T, n_bus) active and reactive load of the buses. What the communities draw at their PCCs is not in it."""
        own = set(self.pcc.values())
        p_peak = np.array([0.0 if b in own else peaks.get(b, (0.0, 1.0))[0] for b in self.network.buses])
        tan_phi = np.array([_tan_phi(peaks.get(b, (0.0, 1.0))[1]) for b in self.network.buses])
        p_kw = load[:, None] * p_peak
        q_kvar = p_kw * tan_phi
        for added in self.settings.added_load:
            row = self.axis.index(added.time)
            assert row is not None, "checked with the other mistakes"
            column = self.network.buses.index(added.bus)
            p_kw[row, column] += added.p_kw
            q_kvar[row, column] += added.q_kvar
        return p_kw, q_kvar

    def _coupling(self, name: str) -> Coupling:
        bus = self.pcc[name]
        nodes = [self.coordinator.nodes.index(f"bus{bus}@{step}") for step in self.axis.names]
        built = coupling(name, self.settings.lec[name], self.data[name], np.array(nodes), {Key(name): 1.0})
        return replace(built, entries=self.axis.names)

    def _misplaced(self, network: Network, peaks: Mapping[str, object]) -> list[Mistake]:
        """Tables that speak of buses or steps that do not exist."""
        settings, mistakes = self.settings, []
        known = f"the buses are {', '.join(network.buses)}"
        for name, lec in settings.lec.items():
            if lec.bus not in network.buses:
                mistakes.append(Mistake("", f"lec.{name}", "bus", f"no bus '{lec.bus}' in the network", known))
            elif lec.bus == network.buses[network.slack]:
                remedy = "its voltage is given; choose another bus"
                mistakes.append(Mistake("", f"lec.{name}", "bus", f"bus '{lec.bus}' is the slack bus", remedy))
        for i, added in enumerate(settings.added_load):
            if added.bus not in network.buses:
                mistakes.append(Mistake("", f"added_load[{i}]", "bus", f"no bus '{added.bus}' in the network", known))
            if added.fitted_to is not None and added.fitted_to.bus not in network.buses:
                problem = f"no bus '{added.fitted_to.bus}' in the network"
                mistakes.append(Mistake("", f"added_load[{i}].fitted_to", "bus", problem, known))
            if self.axis.index(added.time) is None:
                problem = f"no time step begins at {added.time.isoformat()}"
                remedy = f"the first begins {self.axis.stamps[0]}, the last {self.axis.stamps[-1]}"
                mistakes.append(Mistake("", f"added_load[{i}]", "time", problem, remedy))
        file = settings.network_load.file
        for bus in peaks:
            if bus not in network.buses:
                mistakes.append(Mistake(file, "network_load", "bus", f"no bus '{bus}' in the network", known))
        return mistakes


class _Collector:
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
        peaks[str(bus).strip()] = (float(peak), float(pf))
    if mistakes:
        raise InputError(mistakes)
    return peaks


def _tan_phi(pf: float) -> float:
    """Q/P at a lagging power factor."""
    return float(np.sqrt(1.0 - pf**2) / pf)
