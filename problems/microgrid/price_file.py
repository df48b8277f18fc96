"""The prices of a microgrid's case: one CSV file with a row for each step.

    energy_<series>_usd_per_mwh            of energy, paper 2, eq. (27)
    <service>_<series>_usd_per_mw          contract price o-gamma of (29), of a MW held ready for an hour
    <service>_called_<series>_usd_per_mwh  price gamma of (29) of what is called, Fig. 11; read where `called = "own"`
    <service>_call_probability             by step, over those of [market.call]
    <service>_requirement_mw, load_mw      need and consumption: (60) gives the probability, over that of [market.call]
    <product>_limit_mw                     most that the grid takes in the step, over [market.limit], eqs. (48)-(52)

`time` is the step's time stamp, `hour` may stand beside it; a file may hold several series. A column of another name is
refused: misspelt, it would change nothing and nobody would know.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.market.data import Collector
from problems.microgrid.calls import call_probability
from problems.microgrid.input_settings import MARKETS, PriceSettings
from problems.time_series import SeriesColumn, TimeAxis, read_csv, read_series

SECTION = "prices"
LIMITED = ("energy", *MARKETS)
LOAD = "load_mw"


@dataclass(frozen=True, eq=False)
class Prices:
    """energy (T,) in $/MWh; contract and called (T,) by market in $/MW and hour; probabilities and limits (T,)."""

    energy: FloatArray
    contract: Mapping[str, FloatArray]
    called: Mapping[str, FloatArray]
    call_probability: Mapping[str, FloatArray] = field(default_factory=dict)
    limit_mw: Mapping[str, FloatArray] = field(default_factory=dict)


def read_prices(axis: TimeAxis, settings: PriceSettings, folder: Path) -> Prices:
    """The series of one letter. Raises InputError with the mistakes of every column and every column it cannot use."""
    present = list(read_csv(folder / settings.file, settings.file, SECTION).columns)
    found = Collector()
    found.mistakes += unknown_columns(present, settings)

    def column(name: str, *, signed: bool = False) -> FloatArray:
        series = SeriesColumn(file=settings.file, column=name)
        values = found.of(read_series, axis, series, folder, SECTION, signed=signed)
        return np.zeros(axis.settings.steps) if values is None else values

    letter = settings.series
    energy = column(f"energy_{letter}_usd_per_mwh", signed=True)
    contract = {name: column(f"{name}_{letter}_usd_per_mw") for name in MARKETS}
    if settings.called == "own":
        called = {name: column(f"{name}_called_{letter}_usd_per_mwh", signed=True) for name in MARKETS}
    else:
        called = dict.fromkeys(MARKETS, energy) if settings.called == "energy" else contract
    limits = {name: column(f"{name}_limit_mw") for name in LIMITED if f"{name}_limit_mw" in present}
    calls = {}
    for name in MARKETS:
        given, need = f"{name}_call_probability", f"{name}_requirement_mw"
        if given in present and need in present:
            remedy = "keep the one that counts"
            found.mistakes.append(Mistake(settings.file, SECTION, given, f"stands beside {need}", remedy))
        elif given in present:
            calls[name] = column(given)
        elif need in present and LOAD not in present:
            remedy = f"add {LOAD}: the probability is need over consumption, eq. (60)"
            found.mistakes.append(Mistake(settings.file, SECTION, need, f"there is no column {LOAD}", remedy))
        elif need in present:
            try:
                mean = call_probability(column(need), column(LOAD))
            except ValueError as error:
                found.mistakes.append(Mistake(settings.file, SECTION, need, str(error), "see eq. (60)"))
            else:
                calls[name] = np.full(axis.settings.steps, mean)
    if found.mistakes:
        raise InputError(list(dict.fromkeys(found.mistakes)))
    return Prices(energy, contract, called, calls, limits)


def unknown_columns(present: list[str], settings: PriceSettings) -> list[Mistake]:
    """Columns of names that nothing reads, whichever series they may belong to."""
    services = "|".join(MARKETS)
    known = re.compile(
        rf"time|hour|{LOAD}|energy_\w+_usd_per_mwh|({services})_\w+_usd_per_mw|({services})_called_\w+_usd_per_mwh"
        rf"|({services})_(call_probability|requirement_mw)|({'|'.join(LIMITED)})_limit_mw"
    )
    names = [
        "time", "hour", LOAD, f"energy_{settings.series}_usd_per_mwh",
        *(f"{m}_{settings.series}_usd_per_mw" for m in MARKETS),
        *(f"{m}_called_{settings.series}_usd_per_mwh" for m in MARKETS),
        *(f"{m}_{what}" for m in MARKETS for what in ("call_probability", "requirement_mw")),
        *(f"{m}_limit_mw" for m in LIMITED),
    ]  # fmt: skip
    wrong = []
    for name in present:
        if not known.fullmatch(name):
            close = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean '{close[0]}'?" if close else "the columns are listed in docs/microgrid.md"
            wrong.append(Mistake(settings.file, SECTION, name, "nothing reads a column of this name", remedy))
    return wrong
