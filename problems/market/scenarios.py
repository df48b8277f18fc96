"""The table [scenarios] of the market: what is uncertain, how it is drawn, and the set the communities schedule in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.scenarios import distributions, reduction
from problems.scenarios.distributions import Marginals
from problems.scenarios.from_csv import read_scenarios
from problems.scenarios.reduction import Reduction
from problems.scenarios.sampling import Method, SampleSettings, sample
from problems.scenarios.scenario_set import Place, ScenarioSet
from problems.time_series import TimeAxis

SECTION = "scenarios"
SERIES = ("pv", "load", "spot", "heat")
SERIES_UNIT = {"pv": "pv_pu", "load": "load_pu", "spot": "spot_sek_per_kwh", "heat": "heat_pu"}
STC_WM2 = 1000.0  # irradiance at which a PV plant gives its peak power
Name = Literal["pv", "load", "spot", "heat"]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UncertainSeries(_Table):
    """Tables [scenarios.load], [scenarios.spot], [scenarios.heat]: one uncertain series; its mean is the series itself.

    Load and heat are log-normal, the spot price is normal (it may be negative).

    deviation        standard deviation of every step over its mean
    autocorrelation  of the normal scores over one hour; 0 makes the steps independent
    """

    deviation: NonNegative
    autocorrelation: float = Field(ge=0, lt=1)


class UncertainPv(UncertainSeries):
    """Table [scenarios.pv]: Beta-distributed irradiance; its hourly means are the series. Paper 2, eqs. (19)-(22).

    deviation        standard deviation of every step over its mean
    autocorrelation  of the normal scores over one hour; 0 makes the steps independent
    max_pu           AC output per kWp at the highest irradiance
    """

    max_pu: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class Correlation(_Table):
    """One table of [[scenarios.correlation]]: of the normal scores of two series in the same step."""

    between: tuple[Name, Name]
    value: float = Field(ge=-1, le=1)


class ScenarioSettings(_Table):
    """Table [scenarios]: the days the market has to be ready for. Without it there is one, with the series as given.

    count       how many scenarios the market has; with `file` it may be left out
    seed        of the sample: the same seed, the same scenarios
    method      latin_hypercube | sobol (a power of 2) | random (Monte Carlo)
    sample      how many are drawn before `reduction` leaves `count`; without it `count` are drawn
    reduction   forward_selection | k_medoids: of the sample or of the file's scenarios
    bundle      so many scenarios of a community are solved as one block: fewer rounds, tighter bounds
    file        CSV with scenario, probability, time and a column for every uncertain series, in place of a sample
    series      with `file`: its column by series, {pv = "pv_pu", load = "load_pu"}
    pv, load, spot, heat  tables of what is uncertain; what has none is as the case's series say
    correlation list of tables
    """

    count: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    method: Method = "latin_hypercube"
    sample: int | None = Field(default=None, ge=1)
    reduction: Literal["forward_selection", "k_medoids"] | None = None
    bundle: int = Field(default=1, ge=1)
    file: str | None = Field(default=None, min_length=1)
    series: dict[Name, str] = {}
    pv: UncertainPv | None = None
    load: UncertainSeries | None = None
    spot: UncertainSeries | None = None
    heat: UncertainSeries | None = None
    correlation: tuple[Correlation, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Every key that the source of the scenarios lacks or does not use."""
        sampled = [k for k in ("seed", "sample", *SERIES, "correlation") if getattr(self, k)]
        wrong = []
        if self.file is not None:
            if sampled:
                wrong.append(f"{', '.join(sampled)} describe a sample, and file names scenarios: leave one of them out")
            if not self.series:
                wrong.append('with file, series says which columns are read: series = {pv = "pv_pu"}')
            if self.count is not None and self.reduction is None:
                wrong.append("count leaves some of the file's scenarios: say how by reduction, or leave count out")
        else:
            if self.count is None:
                wrong.append("count is missing: how many scenarios?")
            if self.seed is None:
                wrong.append("seed is missing: a sample has to be repeatable")
            if not any(getattr(self, name) for name in SERIES):
                wrong.append("nothing is uncertain: add a table [scenarios.pv], .load, .spot or .heat")
            if self.series:
                wrong.append("series names columns of a file, and there is no file")
            if self.sample is not None and self.count is not None and self.sample < self.count:
                wrong.append(f"sample = {self.sample} is less than the {self.count} scenarios it is to be reduced to")
            if (self.sample is None) != (self.reduction is None):
                wrong.append("sample and reduction go together: so many are drawn, and reduced to count")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


@dataclass(frozen=True, eq=False)
class MarketScenarios:
    """names (S,), prob (S,), series by name (S, T): all four, those that are certain repeated; reduction where made."""

    names: tuple[str, ...]
    prob: FloatArray
    series: Mapping[str, FloatArray]
    uncertain: tuple[str, ...] = ()
    reduction: Reduction | None = None

    def __len__(self) -> int:
        return len(self.names)

    def of(self, s: int) -> dict[str, FloatArray]:
        """(T,) of every series in scenario number s."""
        return {name: values[s] for name, values in self.series.items()}

    def as_set(self) -> ScenarioSet:
        """What is uncertain, under the names of the columns it is written to."""
        return ScenarioSet(self.names, self.prob, {SERIES_UNIT[n]: self.series[n] for n in self.uncertain})


def certain(series: Mapping[str, FloatArray]) -> MarketScenarios:
    """The series as they are, as the only scenario."""
    return MarketScenarios(("0",), np.ones(1), {name: values[None] for name, values in series.items()})


def market_scenarios(
    settings: ScenarioSettings | None, axis: TimeAxis, folder: Path, series: Mapping[str, FloatArray]
) -> MarketScenarios:
    """The scenarios of a case. Raises InputError with every mistake of its tables and files.

    series  (T,) by name: the means
    """
    if settings is None:
        return certain(series)
    found = _read(settings, axis, folder) if settings.file is not None else _sampled(settings, axis, series)
    made = None
    if settings.reduction is not None and settings.count is not None:
        kind = reduction.fast_forward if settings.reduction == "forward_selection" else reduction.k_medoids
        if settings.count > len(found):
            problem = f"{settings.count} of {len(found)} scenarios"
            raise InputError([Mistake(settings.file or "", SECTION, "count", problem, f"give 1 to {len(found)}")])
        made = kind(found, settings.count)
        found = made.scenarios
    everything = {n: found.series.get(n, np.tile(values, (len(found), 1))) for n, values in series.items()}
    uncertain = tuple(n for n in SERIES if n in found.series)
    return MarketScenarios(found.names, found.prob, everything, uncertain, made)


def _read(settings: ScenarioSettings, axis: TimeAxis, folder: Path) -> ScenarioSet:
    assert settings.file is not None
    columns = settings.series
    signed = [columns["spot"]] if "spot" in columns else []
    found = read_scenarios(axis, settings.file, folder, list(columns.values()), signed=signed, section=SECTION)
    return ScenarioSet(found.names, found.prob, {name: found.series[column] for name, column in columns.items()})


def _sampled(settings: ScenarioSettings, axis: TimeAxis, series: Mapping[str, FloatArray]) -> ScenarioSet:
    """Drawn in the series' own units; the names begin with s, so that no reader takes them for numbers."""
    wrong: list[Mistake] = []
    marginals: dict[str, Marginals] = {}
    for name in SERIES:
        table = getattr(settings, name)
        if table is None:
            continue
        try:
            marginals[name] = _marginals(name, table, series[name])
        except InputError as error:
            wrong += [_of_step(m, axis) for m in error.mistakes]
    drawn = settings.sample or settings.count
    assert drawn is not None
    assert settings.seed is not None
    if settings.method == "sobol" and drawn & (drawn - 1):
        near = 1 << drawn.bit_length()
        key = "count" if settings.sample is None else "sample"
        problem = f"{drawn} is no power of 2, as sobol needs"
        wrong.append(Mistake("", SECTION, key, problem, f"take {near // 2} or {near}"))
    if wrong:
        raise InputError(wrong)
    how = SampleSettings(
        count=drawn,
        seed=settings.seed,
        autocorrelation={name: getattr(settings, name).autocorrelation for name in marginals},
        correlation={c.between: c.value for c in settings.correlation},
        dt_h=axis.dt_h,
        method=settings.method,
    )
    found = sample(marginals, how, Place("", SECTION))
    values = dict(found.series)
    if "pv" in values:
        values["pv"] = values["pv"] / STC_WM2
    return ScenarioSet(tuple(f"s{name}" for name in found.names), found.prob, values)


def _marginals(name: str, table: Any, mean: FloatArray) -> Marginals:
    place = Place("", f"{SECTION}.{name}")
    if name == "pv":
        pv = cast(UncertainPv, table)
        at = mean * STC_WM2
        return distributions.beta_irradiance(at, table.deviation * at, r_max_wm2=pv.max_pu * STC_WM2, place=place)
    law = distributions.normal if name == "spot" else distributions.lognormal
    return law(mean, table.deviation * np.abs(mean), place=place)


def _of_step(mistake: Mistake, axis: TimeAxis) -> Mistake:
    """The same mistake under the key that the table has, its step named by the clock."""
    words = mistake.key.split()
    if len(words) != 2 or words[0] != "step":
        return mistake
    label = axis.labels[int(words[1])]
    return Mistake(mistake.file, mistake.section, "deviation", f"{label}: {mistake.problem}", mistake.remedy)
