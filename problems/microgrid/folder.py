"""A microgrid's result folder, read: everything the tables, figures and claims are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from decomp.messages import FloatArray

WHOLE = "MG"  # the unit that is the sum of the others
QUANTITIES = {
    "energy_mw": "energy",
    "regulation_up_mw": "regulation up",
    "regulation_down_mw": "regulation down",
    "spinning_mw": "spinning reserve",
    "nonspinning_mw": "non-spinning reserve",
    "stored_mw": "stored",
}
SERVICES = tuple(list(QUANTITIES)[1:5])
KEYS = ("scenario", "probability", "time", "hour", "unit")


@dataclass(frozen=True, eq=False)
class MicrogridFolder:
    """The CSV files of a result folder.

    bids     expected bids by unit and hour: unit, hour and the columns of bids.csv, weighted with the probabilities
    spread   bids.csv as it is, by scenario
    storage  expected charge, discharge and state by store and hour
    inputs, market, moments   inputs.csv, market.csv, scenario_moments.csv
    units_table  units.csv: kind and sizes of every unit
    curves   bidding_curves.csv, or None where no curve was asked for
    variants what_if.csv, or None where nothing else was solved
    """

    name: str
    bids: pd.DataFrame
    spread: pd.DataFrame
    storage: pd.DataFrame
    inputs: pd.DataFrame
    market: pd.DataFrame
    moments: pd.DataFrame
    units_table: pd.DataFrame
    curves: pd.DataFrame | None
    variants: pd.DataFrame | None = None

    @classmethod
    def read(cls, path: Path) -> MicrogridFolder:
        """Raises FileNotFoundError where a file of the folder is missing."""
        spread = read(path / "bids.csv")
        curves, variants = path / "bidding_curves.csv", path / "what_if.csv"
        return cls(
            name=path.resolve().name,
            bids=expected(spread),
            spread=spread,
            storage=expected(read(path / "storage.csv")),
            inputs=read(path / "inputs.csv"),
            market=read(path / "market.csv"),
            moments=read(path / "scenario_moments.csv"),
            units_table=read(path / "units.csv"),
            curves=read(curves) if curves.exists() else None,
            variants=read(variants) if variants.exists() else None,
        )

    @property
    def units(self) -> tuple[str, ...]:
        """The units without their sum, in the order of the file."""
        return tuple(u for u in dict.fromkeys(self.bids.unit) if u != WHOLE)

    def of_kind(self, *kinds: str) -> tuple[str, ...]:
        """The units of these kinds (mt, solar, wind, storage, demand_response, load), in the order of the file."""
        table = self.units_table
        return tuple(table.unit[table.kind.isin(kinds)])

    def size(self, unit: str, column: str) -> float:
        """One of the sizes in units.csv."""
        return float(self.units_table.set_index("unit").at[unit, column])

    @property
    def dt_h(self) -> float:
        """Length of a step in h."""
        return float(np.diff(self.hours).min()) if len(self.hours) > 1 else 1.0

    @property
    def price_series(self) -> str:
        """The letter of the prices that were used."""
        return str(self.market["price_series"].iloc[0])

    @property
    def hours(self) -> FloatArray:
        return np.asarray(self.market.hour, np.float64)

    def of(self, unit: str, column: str) -> FloatArray:
        """(T,) expected values of one unit; 0 where there is no such unit or column."""
        rows = self.bids[self.bids.unit == unit]
        if rows.empty or column not in rows:
            return np.zeros(len(self.market))
        return np.asarray(rows[column], np.float64)

    def total(self, units: Sequence[str], column: str) -> FloatArray:
        """(T,) expected values summed over units."""
        return np.sum([self.of(unit, column) for unit in units] + [np.zeros(len(self.market))], axis=0)

    def at(self, unit: str, column: str, hour: float) -> float:
        """The expected value at an hour as the results name it; NaN where the horizon does not have it."""
        found = self.of(unit, column)[self.hours == hour]
        return float(found[0]) if len(found) else float("nan")

    def stores(self, column: str) -> FloatArray:
        """(T,) expected value of storage.csv, summed over the stores."""
        if self.storage.empty:
            return np.zeros(len(self.market))
        return np.asarray(self.storage.groupby("hour", sort=False)[column].sum(), np.float64)


def read(path: Path) -> pd.DataFrame:
    """A CSV file whose names stay names: scenario 01 is not the number 1."""
    return pd.read_csv(path, dtype={"scenario": str, "unit": str})


def expected(table: pd.DataFrame, keys: Sequence[str] = ("unit", "hour")) -> pd.DataFrame:
    """sum_s pi_s x_s of every column of numbers, in the order of the first scenario's rows."""
    columns = [c for c in table.columns if c not in KEYS]
    weighted = table[columns].mul(table.probability, axis=0)
    return pd.concat([table[list(keys)], weighted], axis=1).groupby(list(keys), sort=False, as_index=False).sum()
