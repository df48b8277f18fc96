"""A microgrid's bids in coupled markets under uncertain weather: one block a scenario, nobody coordinates.

One case file describes it: [time], [series], [prices], [scenarios], [market], [risk], [bidding], [solver]
and the units [mt.NAME], [solar.NAME], [wind.NAME], [storage.NAME], [demand_response.NAME]. Paper 2.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, Key
from decomp.problem import Problem
from problems.market.data import Collector
from problems.microgrid import bidding, claims, figures, input_tables, remarks, results, tables, what_if
from problems.microgrid.block import (
    MicrogridScenario,
    bid_limits,
    cost_range_usd,
    entries,
    reference_prices,
    risk_of,
    weights,
)
from problems.microgrid.bundle import ScenarioBundle, dealt
from problems.microgrid.data import MicrogridData
from problems.microgrid.inputs import inspect, read_inputs
from problems.microgrid.paper_case import roles
from problems.microgrid.settings import MicrogridSettings, RiskSettings
from problems.risk import with_value_at_risk
from problems.time_series import TimeAxis

if TYPE_CHECKING:
    from decomp.run.result import Result

UNIT = "microgrid"


def bundle_key(names: Sequence[str]) -> Key:
    """Key of the block that holds these scenarios."""
    return Key(UNIT, "+".join(names))


class Microgrid(Problem):
    """The microgrid of one case file.

    data       prices and scenarios
    bundles    names of the scenarios in each block
    bid_limit  (T,) greatest bid by product
    """

    Settings: ClassVar[type[BaseModel]] = MicrogridSettings
    details = False
    labels: ClassVar[Mapping[str, str]] = {"mismatch": "spread of bids", "price": "$/MWh", "cost": "-profit $"}

    def __init__(self, settings: MicrogridSettings, folder: Path, data: MicrogridData | None = None) -> None:
        """Read the series the tables name, unless `data` holds them. Raises InputError with every mistake found."""
        self.settings, self.folder = settings, folder
        self.axis = TimeAxis(settings.time)
        found = Collector()
        given = found.of(read_inputs, settings, self.axis, folder) if data is None else data
        found.mistakes += [*contract_mistakes(settings, given), *bidding.curve_mistakes(settings, self.axis)]
        if found.mistakes or given is None:
            raise InputError(found.mistakes)
        self.data = given
        self.bid_limit = bid_limits(settings, self.data)
        self.cost_range_usd = cost_range_usd(settings, self.data, self.bid_limit)
        self.coordinator = None
        risk = risk_of(settings)
        names = entries(settings, self.axis.names)
        of = dict(zip(self.data.names, map(float, self.data.prob), strict=True))
        self.bundles = {bundle_key(names): names for names in dealt(self.data, settings.scenarios.bundle)}
        prob = {key: sum(of[name] for name in names) for key, names in self.bundles.items()}
        own = weights(settings, self.axis.settings.steps, self.axis.dt_h)[: len(names)]
        scale = reference_prices(settings, self.data)
        coupling = Coupling(UNIT, names, own, np.full(len(names), -1), prob, scale=scale)
        self.couplings = (with_value_at_risk(coupling, risk),)

    @classmethod
    def from_file(cls, path: Path, instead: Mapping[str, Any] | None = None) -> Microgrid:
        """The microgrid of a case file; the tables that say how it is solved are not read.

        instead: tables whose keys are put over the file's. Raises InputError with every mistake of the tables.
        """
        with path.open("rb") as file:
            found = merged(tomllib.load(file), instead or {})
        read = {*MicrogridSettings.model_fields, *(instead or {})}
        own = {name: table for name, table in found.items() if name in read}
        try:
            settings = MicrogridSettings.model_validate(own)
        except ValidationError as error:
            places = [[str(step) for step in found["loc"]] for found in error.errors()]
            raise InputError(
                [
                    Mistake(str(path), ".".join(place[:-1]), place[-1] if place else "", found["msg"])
                    for place, found in zip(places, error.errors(), strict=True)
                ]
            ) from None
        return cls(settings, path.parent)

    def with_data(self, data: MicrogridData) -> Microgrid:
        """The same microgrid with other prices or weather."""
        return Microgrid(self.settings, self.folder, data)

    def with_weight(self, w: float) -> Microgrid:
        """The same microgrid that weighs expected profit by w and CVaR by 1 - w."""
        risk = RiskSettings(w=w, delta=self.settings.risk.delta)
        return Microgrid(self.settings.model_copy(update={"risk": risk}), self.folder, self.data)

    @classmethod
    def inspect(cls, tables: Mapping[str, Any], folder: Path) -> Sequence[Mistake]:
        return inspect(tables, folder)

    def subproblem(self, key: Key) -> PyomoSubproblem:
        names = self.bundles[key]
        if len(names) == 1:
            return self.scenario(names[0])
        data, total = self.data, self.couplings[0].prob[key]
        prob = {name: float(data.prob[data.names.index(name)]) / total for name in names}
        blocks = {name: self.scenario(name) for name in names}
        return ScenarioBundle(blocks, prob, self.couplings[0].weight, self.settings.solver.block())

    def scenario(self, name: str) -> MicrogridScenario:
        """The block of one scenario."""
        scene = self.data.scene(name)
        return MicrogridScenario(self.settings, scene, bid_limit=self.bid_limit, cost_range_usd=self.cost_range_usd)

    def write(self, result: Result, folder: Path) -> Sequence[Path]:
        """bids.csv, storage.csv, profit.csv, the inputs, the tables beside the paper's, and figures of the folder."""
        written = [*input_tables.write(self.settings, self.data, folder)]
        if not result.details:
            return written
        written += results.write(self, result.details, folder)
        if self._papers:
            written += tables.write(self._beside_the_paper(result), folder)
        extra = {}
        if self.settings.bidding.curves:
            extra["bidding_curves.csv"] = bidding.of_case(self)
        if self._papers and len(self.data.names) <= what_if.MOST_SCENARIOS:
            extra["what_if.csv"] = what_if.solve_variants(self)
        for name, table in extra.items():
            table.to_csv(folder / name, index=False, lineterminator="\n")
            written.append(folder / name)
        written.append(claims.write(folder))
        return [*written, *figures.draw(folder)]

    def tables(self, result: Result, folder: Path) -> Sequence[Any]:
        """Tables 6 and 7, the claims and what has to be known; what `write` has left in the folder is read."""
        if not result.details:
            return ()
        said = remarks.of_result(self, results.storage_table(self, result.details))
        judged = claims.compact(pd.read_csv(folder / "claims.csv", keep_default_na=False))
        beside = tables.render(self._beside_the_paper(result)) if self._papers else ()
        return (*beside, judged, *said)

    @property
    def _papers(self) -> bool:
        """It is the microgrid of paper 2, hour by hour: only then the paper's numbers are set beside it."""
        return roles(input_tables.units_table(self.settings), self.axis.hours) is not None

    def _beside_the_paper(self, result: Result) -> Any:
        bids = results.bids_table(self, result.details)
        return tables.side_by_side(bids, results.storage_table(self, result.details))

    def summary(self, result: Result) -> Mapping[str, Any]:
        """Expected profit, CVaR and value at risk in $, and the energy that stores charge and discharge at once."""
        return results.summary(self, result)


def merged(tables: Mapping[str, Any], instead: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with the keys of `instead` put over theirs, table by table."""
    out = dict(tables)
    for name, value in instead.items():
        old = out.get(name)
        out[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def contract_mistakes(settings: MicrogridSettings, data: MicrogridData | None) -> list[Mistake]:
    """Tables that no schedule can satisfy: a reactive contract above what the machines can give, no unit at all."""
    mistakes = []
    if not settings.units:
        remedy = "add [mt.NAME], [solar.NAME], [wind.NAME] or [storage.NAME]"
        mistakes.append(Mistake("", "mt", "", "the microgrid has no unit", remedy))
        return mistakes
    required = settings.market.reactive_required_mvar
    most, where = most_reactive_mvar(settings, data)
    if required > most:
        problem = f"reactive_required_mvar is above the {most:.3g} Mvar that all units together can give{where}"
        remedy = "lower it, or raise the units' ratings"
        mistakes.append(Mistake("", "market", "reactive_required_mvar", problem, remedy))
    mistakes += limit_mistakes(settings, data)
    if data is None:
        return mistakes
    for name, values in data.available_mw.items():
        if values.shape != (len(data.names), data.axis.settings.steps):
            mistakes.append(Mistake("", "scenarios", name, f"available power has the shape {values.shape}"))
    return mistakes


def limit_mistakes(settings: MicrogridSettings, data: MicrogridData | None) -> list[Mistake]:
    """A limit of the energy below what the turbines always sell: P^E >= P_min by (45), sum_n P^E <= limit by (48)."""
    least = 0.0 if settings.load else sum(mt.least_mw for mt in settings.mt.values())
    flat = settings.market.limit.energy_mw
    hourly = None if data is None else data.market_limit_mw.get("energy")
    limit = np.array([np.inf if flat is None else flat]) if hourly is None else hourly
    if np.min(limit) >= least - 1e-9:
        return []
    where = "" if data is None or hourly is None else f" at {data.axis.labels[int(np.argmin(hourly))]}"
    problem = (
        f"infeasible: the grid takes {np.min(limit):g} MW of energy{where} (48), and the turbines "
        f"{', '.join(settings.mt)} always give at least {least:g} MW"
    )
    return [Mistake("", "market.limit", "energy_mw", problem, "raise the limit or lower the turbines' p_min_mw")]


def most_reactive_mvar(settings: MicrogridSettings, data: MicrogridData | None) -> tuple[float, str]:
    """What all units can give in the worst step of the worst scenario, and in words which that is.

    Turbines always run; a converter without power is switched off and gives nothing, as paper 2 says of photovoltaics
    in the early hours (section 3.4). Without data all converters are taken to have power.
    """
    converters = {**settings.solar, **settings.wind}
    turbines = sum(mt.q_limits_mvar[1] for mt in settings.mt.values())
    if data is None or any(data.available_mw[name].shape != data.wind_speed_ms.shape for name in converters):
        return turbines + sum(unit.q_limits_mvar[1] for unit in converters.values()), ""
    scenes = [data.scene(name) for name in data.names]
    given = [np.where(u.most_mw(x, n) > 0, u.q_limits_mvar[1], 0.0) for x in scenes for n, u in converters.items()]
    total = np.sum(np.reshape(given, (len(scenes), len(converters), scenes[0].n)), axis=1) + turbines
    s, k = np.unravel_index(int(np.argmin(total)), total.shape)
    dark = [name for name, unit in converters.items() if unit.most_mw(scenes[s], name)[k] == 0]
    off = f", {' and '.join(dark)} being without power and switched off" if dark else ""
    return float(total[s, k]), f" at {data.axis.labels[int(k)]} in scenario {data.names[int(s)]}{off}"
