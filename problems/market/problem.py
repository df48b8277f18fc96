"""The reactive-power market of a distribution system: communities (LECs) that schedule, a DSO that keeps voltages.

One case file describes it: [time], [series], [tariffs], [network], [network_load], [[added_load]], [dso],
[solver], [scenarios], [lec.NAME].
Paper 1, sections II and III.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

import numpy as np
from pydantic import BaseModel

from decomp.blocks.bundling import bundled
from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, FloatArray, Key
from decomp.problem import Problem
from decomp.subproblem import Subproblem
from problems.dso.coordinator import DSO
from problems.lec.community import (
    LocalEnergyCommunity,
    committed_change_kvar,
    cost_range_sek,
    coupling,
    p_injection_kw,
    q_injection_kvar,
)
from problems.lec.data import LecData
from problems.market import figures, scenario_tables, tables
from problems.market.data import SERIES, Collector, misplaced, read_peaks, reading, table_of
from problems.market.loads import NetworkLoads, network_loads, replaced_loads
from problems.market.scenarios import market_scenarios
from problems.market.settings import MarketSettings
from problems.network.settings import read_feeder
from problems.risk import with_value_at_risk
from problems.synthetic_communities.build import fleet_of, unit_pv, unit_shape
from problems.synthetic_communities.draw import Fleet
from problems.synthetic_communities.market import with_stress
from problems.time_series import TimeAxis

if TYPE_CHECKING:
    from decomp.run.result import Result

A = ParamSpec("A")
R = TypeVar("R")


class ReactiveMarket(Problem):
    """The market of one case file.

    axis     the time axis
    network  the feeder
    data     LecData by name of the community, with the series as given: the means where they are uncertain
    replaced_kw  peak of the network's load that communities stand for, by their bus
    scenarios  what the series may be; one scenario, "0", without a table [scenarios]
    bundling   which scenarios of a community are one block
    cost_range_sek  limits of the value at risk of each community that is averse to risk
    """

    Settings: ClassVar[type[BaseModel]] = MarketSettings
    coordinator: DSO
    details = False
    labels: ClassVar[Mapping[str, str]] = {
        "worst": "voltage pu",
        "mismatch": "mismatch kvar",
        "price": "SEK/kvarh",
        "cost": "LECs' cost SEK",
    }

    def __init__(self, settings: MarketSettings, folder: Path) -> None:
        """Read every series and check that the tables fit each other. Raises InputError with every mistake found."""
        self.settings, self.folder = settings, folder
        self.axis = TimeAxis(settings.time)
        found = Collector()
        spot, pv, load, heat = (found.of(*reading(name, self.axis, settings.series, folder)) for name in SERIES)
        feeder = found.of(read_feeder, settings.network, folder)
        loads = None if feeder is None else found.of(network_loads, settings.network_load, feeder, self.axis, folder)
        fleet = None
        if feeder is not None:
            buses = {name: lec.bus for name, lec in settings.lec.items()}
            peaks = {} if loads is None else loads.peaks
            placed = (buses, settings.added_load, settings.network_load, peaks)
            found.mistakes += misplaced(feeder.network, self.axis, *placed)
            if loads is not None:
                fleet = found.of(fleet_of, settings.fleet, self.axis, feeder.network, loads.buses, settings.lec, folder)
        if spot is None or pv is None or load is None or heat is None or feeder is None or loads is None:
            if settings.scenarios is not None and settings.scenarios.file is not None:  # needs none of them
                found.of(market_scenarios, settings.scenarios, self.axis, folder, {})
            raise InputError(found.mistakes)
        self.mean = {"spot": spot, "pv": pv, "load": load, "heat": heat}
        self.network, self.fleet = feeder.network, Fleet(()) if fleet is None else fleet
        self.lecs = {**settings.lec, **self.fleet.lecs()}
        data = {name: found.of(self._lec_data, name, **self.mean) for name in sorted(self.lecs)}
        scenarios = found.of(market_scenarios, settings.scenarios, self.axis, folder, self.mean)
        self.replaced_kw, unsaid = replaced_loads(settings.lec, loads)
        found.mistakes += unsaid
        if found.mistakes or scenarios is None:
            raise InputError(found.mistakes)
        self.scenarios = scenarios
        self.data = {name: lec for name, lec in data.items() if lec is not None}
        self.pcc = {name: lec.bus for name, lec in sorted(self.lecs.items())}
        if settings.fleet is not None:
            drawn = loads.drawn({name: x[None] for name, x in self.mean.items()}, self.mean, self.replaced_kw)
            at_mean = (drawn[0][:, 0], drawn[1][:, 0])
            self.fleet = with_stress(self.fleet, settings.fleet.stress, self.network, self.lecs, self.data, at_mean)
            self.lecs |= self.fleet.lecs()
        self.cost_range_sek = {
            name: cost_range_sek(lec, (self.data_of(key) for key in self._probabilities(name)))
            for name, lec in self.lecs.items()
            if lec.risk is not None and lec.risk.averse
        }
        self.coordinator = self._dso(loads, spot)
        size = 1 if settings.scenarios is None else settings.scenarios.bundle
        self.bundling = bundled([self._coupling(name) for name in self.data], size)
        self.couplings = self.bundling.couplings
        self.coordinator = self.coordinator.with_bundles(self.bundling.members)

    @classmethod
    def inspect(cls, tables: Mapping[str, Any], folder: Path) -> Sequence[Mistake]:
        found = Collector()
        time, series = table_of(tables, "time"), table_of(tables, "series")
        axis = None if time is None else TimeAxis(time)
        if axis is not None and series is not None:
            for name in SERIES:
                found.of(*reading(name, axis, series, folder))
        feeder, load = table_of(tables, "network"), table_of(tables, "network_load")
        read = None if feeder is None else found.of(read_feeder, feeder, folder)
        if read is not None:
            loads = None if load is None else found.of(network_loads, load, read, axis, folder)
            lecs = tables.get("lec")
            buses = {
                name: lec["bus"]
                for name, lec in (lecs.items() if isinstance(lecs, Mapping) else ())
                if isinstance(lec, Mapping) and isinstance(lec.get("bus"), str)
            }
            peaks = None if loads is None else loads.peaks
            found.mistakes += misplaced(read.network, axis, buses, table_of(tables, "added_load") or (), load, peaks)
            fleet = table_of(tables, "fleet")
            if fleet is not None and axis is not None and loads is not None:
                found.of(fleet_of, fleet, axis, read.network, loads.buses, buses, folder)
        elif load is not None and load.file is not None:
            found.of(read_peaks, load.file, folder)
        return found.mistakes

    @classmethod
    def from_file(cls, path: Path) -> ReactiveMarket:
        """The market of a case file; the tables that say how it is solved are not read."""
        with path.open("rb") as file:
            found = tomllib.load(file)
        known = {name: found[name] for name in MarketSettings.model_fields if name in found}
        return cls(MarketSettings.model_validate(known), path.parent)

    def subproblem(self, key: Key) -> Subproblem:
        return self.bundling.block(key, self.community)

    def community(self, key: Key) -> LocalEnergyCommunity:
        """One community in one scenario."""
        lec, options = self.lecs[key.unit], self.settings.solver.block()
        dso = self.settings.dso
        told = dso.secure_share < 1
        return LocalEnergyCommunity(
            key.unit,
            lec,
            self.data_of(key),
            freeze_p=dso.freeze_p,
            tells_first_import=told,
            shared=len(self.scenarios) > 1 and not lec.device,
            cost_range_sek=self.cost_range_sek.get(key.unit),
            trades_p=dso.trades_p,
            settings=options,
        )

    def data_of(self, key: Key) -> LecData:
        """What the community schedules against in one scenario."""
        if len(self.scenarios) == 1:
            return self.data[key.unit]
        return self._lec_data(key.unit, **self.scenarios.of(self.scenarios.names.index(key.scenario)))

    def write(self, result: Result, folder: Path) -> Sequence[Path]:
        """voltages.csv, duals.csv, schedule_<unit>.csv and figures/*.png, drawn from the files of the folder.

        No figures of a run that was asked to stop: whoever asked will not wait for them.
        """
        written = tables.write(self, result, folder)
        hurried = result.status in ("interrupted", "time_limit")
        return (*written, *figures.draw(folder)) if result.details and not hurried else written

    def summary(self, result: Result) -> Mapping[str, Any]:
        """Extreme voltages of an AC power flow with the final P and Q before shedding; what is shed and what is short.

        reactive_shed_kvarh counts the most of all scenarios; voltage_slack_pu is how far the worst voltage stays
        outside with what is shed, uncured lists all that do; `penalty` beside the cost is what they cost the DSO.
        """
        if result.answers is None:
            return {}
        v_pu = tables.voltages(self, result, result.answers)
        return {
            "min_voltage_pu": float(v_pu.min()),
            "max_voltage_pu": float(v_pu.max()),
            "reactive_shed_kvarh": self._shed_kvarh(result),
            "replaced_load_kw": self.replaced_kw,
            "voltage_slack_pu": float(np.max(result.request.info["outside_pu"])) if result.request else None,
            "uncured": tables.uncured(self, tables.voltage_table(self, result)).to_dict("records"),
            **scenario_tables.facts(self, result),
        }

    def tables(self, result: Result, folder: Path) -> Sequence[Any]:
        shown, shed = list(tables.render(self, result)), self._shed_kvarh(result)
        if any(lec.bus_load == "instead" for lec in self.settings.lec.values()):
            gone = ", ".join(f"{kw:g} kW at bus {bus}" for bus, kw in self.replaced_kw.items())
            shown.append(f"Communities in place of the network's load: {gone}")
        if shed:
            where = " in its worst scenario" if len(self.scenarios) > 1 else ""
            shown.append(f"Reactive load shed by the DSO{where}: {shed:.4g} kvarh")
        return (*shown, *tables.render_uncured(self, result))

    def _shed_kvarh(self, result: Result) -> float | None:
        if result.request is None:
            return None
        shed = np.abs(result.request.info["shed_kvar"]).sum(axis=2)  # (T, S)
        return float(self.axis.dt_h * shed.sum(axis=0).max())

    def _lec_data(self, name: str, spot: FloatArray, pv: FloatArray, load: FloatArray, heat: FloatArray) -> LecData:
        lec, tariffs = self.lecs[name], self.settings.tariffs
        unit = self.fleet.unit(name)
        if unit is not None:
            load = unit_shape(unit, self.fleet, load, self.mean["load"], self.axis.dt_h)
            pv = unit_pv(unit, self.fleet, pv, self.mean["pv"])
        p_kw, q_kvar = lec.load(load)
        return LecData(
            times=self.axis.begins,
            labels=self.axis.labels,
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

    def _dso(self, loads: NetworkLoads, spot: FloatArray) -> DSO:
        p_kw, q_kvar = self._network_loads(loads)
        injection = {
            key: q_injection_kvar(self.lecs[key.unit], self.data_of(key))
            for name in self.data
            for key in self._probabilities(name)
        }
        injection_p, found = {}, Collector()
        if self.settings.dso.trades_p:
            for key in injection:
                injection_p[key] = found.of(p_injection_kw, key.unit, self.lecs[key.unit], self.data_of(key))
            if found.mistakes:
                raise InputError(set(found.mistakes))
        able_p = {key: limits for key, limits in injection_p.items() if limits is not None}
        return DSO(
            network=self.network,
            settings=self.settings.dso,
            pcc=self.pcc,
            probabilities={key: p for name in self.data for key, p in self._probabilities(name).items()},
            p_load_kw=p_kw,
            q_load_kvar=q_kvar,
            times=self.axis.names,
            dt_h=self.axis.dt_h,
            neutral_price=np.full_like(spot, self.settings.tariffs.reactive_sek_per_kvarh),
            reference_price=spot,
            box=self._boxes(injection),
            injection=injection,
            box_p=self._boxes(able_p) if able_p else None,
            injection_p=able_p,
        )

    def _boxes(
        self, injection: Mapping[Key, tuple[FloatArray, FloatArray]]
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        return {name: committed_change_kvar(injection[key] for key in self._probabilities(name)) for name in self.data}

    def _probabilities(self, name: str) -> dict[Key, float]:
        return {Key(name, s): float(p) for s, p in zip(self.scenarios.names, self.scenarios.prob, strict=True)}

    def _network_loads(self, loads: NetworkLoads) -> tuple[FloatArray, FloatArray]:
        """(T, S, n_bus) active and reactive load of the buses; (T, n_bus) where there is one scenario.

        What the communities draw at their PCCs is not in it.
        """
        p_kw, q_kvar = loads.drawn(self.scenarios.series, self.mean, self.replaced_kw)
        p_kw, q_kvar = self.fleet.load_factor * p_kw, self.fleet.load_factor * q_kvar
        for added in self.settings.added_load:
            row = self.axis.index(added.time)
            assert row is not None, "checked with the other mistakes"
            column = self.network.buses.index(added.bus)
            p_kw[row, :, column] += added.p_kw
            q_kvar[row, :, column] += added.q_kvar
        return (p_kw[:, 0], q_kvar[:, 0]) if len(self.scenarios) == 1 else (p_kw, q_kvar)

    def _coupling(self, name: str) -> Coupling:
        bus, dso, risk = self.pcc[name], self.settings.dso, self.lecs[name].risk
        rows, entries = self.coordinator.rows(bus), self.axis.names
        if dso.trades_p:
            rows = np.concatenate([rows, self.coordinator.rows(bus, "p")])
            entries = (*entries, *(f"p {step}" for step in entries))
        told = dso.secure_share < 1
        built = coupling(name, self.data[name], rows, self._probabilities(name), tells_first_import=told)
        built = replace(built, entries=tuple(entries))
        return built if risk is None else with_value_at_risk(built, risk)
