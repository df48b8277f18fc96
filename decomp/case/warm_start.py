"""Where a run's prices begin: at the neutral price, at those of a CSV, or where an earlier run ended."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, FloatArray
from decomp.storage.stored_columns import FILE, StoredColumns, read_earlier


@dataclass(frozen=True)
class StartSettings:
    """The [start] table.

    prices  a CSV with the columns node and price (and round: the last one counts), or the result folder of a run
    factor  on those prices, or on the neutral ones where no file is named
    columns the result folder of a run that kept its columns: a rule that keeps answers begins with those of blocks
            whose data are the same and, unless `prices` says otherwise, at the best prices of that run
    """

    prices: str | None = None
    factor: float = 1.0
    columns: str | None = None

    def price(
        self, nodes: Sequence[str], neutral: FloatArray, folder: Path, earlier: StoredColumns | None = None
    ) -> FloatArray:
        """(n,) prices of round 0. Raises InputError for a missing file, nodes without a price, unknown nodes."""
        if self.prices is not None:
            return self.factor * read_prices(folder / self.prices, nodes)
        if earlier is not None and self.columns is not None:
            return self.factor * earlier.price(nodes, str(folder / self.columns / FILE))
        return self.factor * neutral

    def earlier(self, couplings: Sequence[Coupling], folder: Path) -> StoredColumns | None:
        """What the run named by `columns` has left. Raises InputError where that is nothing, or of other couplings."""
        if self.columns is None:
            return None
        found = read_earlier(folder / self.columns)
        mistakes = found.mistakes(couplings, str(folder / self.columns / FILE))
        if mistakes:
            raise InputError(mistakes)
        return found


def read_prices(path: Path, nodes: Sequence[str]) -> FloatArray:
    """(n,) the last price of every node in a CSV or in a result folder's prices.csv. Raises InputError."""
    file = path / "prices.csv" if path.is_dir() else path

    def wrong(problem: str, remedy: str) -> InputError:
        return InputError([Mistake(str(file), "start", "prices", problem, remedy)])

    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(f"cannot be read: {error}", "give a CSV of prices or the folder of an earlier result") from None
    if not rows or not {"node", "price"} <= set(rows[0]):
        raise wrong("has no columns node and price", "a result folder's prices.csv has them")
    last: dict[str, float] = {}
    for i, row in enumerate(rows, start=2):
        try:
            last[row["node"]] = float(row["price"])
        except (TypeError, ValueError):
            raise wrong(f"line {i} has no price: {row['price']!r}", "write a number") from None
        if not np.isfinite(last[row["node"]]):
            raise wrong(f"line {i}: the price is not finite", "write a number")
    missing = [node for node in nodes if node not in last]
    unknown = [node for node in last if node not in set(nodes)]
    if missing or unknown:
        said = [f"{len(names)} {what}, first {names[0]}" for what, names in
                (("nodes have no price", missing), ("prices are of unknown nodes", unknown)) if names]  # fmt: skip
        raise wrong("; ".join(said), "the file must come from a case with the same nodes")
    return np.array([last[node] for node in nodes])
