"""The files of a run: rows of rounds while it goes, the final point and result.json at its end.

Numbers are written with every digit (repr), so that equal runs leave equal files.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from decomp.layout import Answers
from decomp.messages import FloatArray
from decomp.run.result import Result, Round, Row
from decomp.storage.result_folder import opened, replace, write_json
from decomp.storage.stored_columns import FILE

PACKAGES = ("tatonnement", "numpy", "scipy", "highspy", "piqp", "pyomo", "mpi4py")
TIMES = ("wall_time_s", "solver_time_s")
PRICES = ("round", "node", "price")
DETAILS = ("unit", "scenario", "name", "index", "value")
OFFERS = ("unit", "scenario", "entry", "node", "price", "y", "stale")


class GrowingFiles:
    """iterations.csv and prices.csv, a round at a time, each on disk before the next begins.

    every_offer  offers.csv grows, too, with the round in its first column; else it is written at the end
    """

    def __init__(self, folder: Path, *, every_offer: bool = False) -> None:
        self.folder, self.every_offer = folder, every_offer
        self._offers_before_last: int | None = None  # no round yet

    def add_offers(self, said: Round, nodes: Sequence[str]) -> None:
        """A round's offers where all are kept; before the checkpoint that knows of them. Raises OSError."""
        if not self.every_offer:
            return
        if said.k == 0:
            self._start("offers.csv", ("round", *OFFERS))
        self._offers_before_last = (self.folder / "offers.csv").stat().st_size
        offered = offer_rows(said.answers, said.block_price, nodes)
        self._append("offers.csv", ((said.k, *offer) for offer in offered))

    def add(self, row: Row, price: FloatArray, nodes: Sequence[str]) -> None:
        """A round's prices and its row; the first one starts the files anew. Raises OSError."""
        if row.round == 0:
            self._start("iterations.csv", iteration_header(row))
            self._start("prices.csv", PRICES)
        self._append("prices.csv", price_rows(row.round, price, nodes))
        self._append("iterations.csv", [iteration_row(row)])  # last: what has a row here has all others

    def offers_so_far(self) -> int:
        """Length of offers.csv in bytes where it grows, on disk for certain; else 0."""
        if not self.every_offer or not (self.folder / "offers.csv").exists():
            return 0
        with (self.folder / "offers.csv").open("rb") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def restore(
        self, rows: Sequence[Row], prices: Sequence[FloatArray], nodes: Sequence[str], source: Path, offers: int
    ) -> None:
        """Write the files anew as they were after these rounds; offers: the first bytes of offers.csv in `source`."""
        if self.every_offer:
            with (source / "offers.csv").open("rb") as file:
                kept = file.read(offers)
            if len(kept) < offers:
                raise OSError(f"{source / 'offers.csv'} has {len(kept)} bytes, the checkpoint knows of {offers}")
        self._start("iterations.csv", iteration_header(rows[0]))
        self._append("iterations.csv", map(iteration_row, rows))
        self._start("prices.csv", PRICES)
        lines = (line for k, price in enumerate(prices) for line in price_rows(k, price, nodes))
        self._append("prices.csv", lines)
        if self.every_offer:
            replace(self.folder / "offers.csv", lambda file: file.write(kept))

    def end(self, result: Result) -> None:
        """offers.csv where it grows: the last round's rows become those of the final point."""
        if self._offers_before_last is None:
            return
        os.truncate(self.folder / "offers.csv", self._offers_before_last)
        self._append("offers.csv", ((result.rows[-1].round, *offer) for offer in final_offers(result)))

    def _start(self, name: str, header: Sequence[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_csv(self.folder / name, header, ())

    def _append(self, name: str, body: Iterable[Sequence[Any]]) -> None:
        with opened(self.folder / name, "a", newline="", encoding="utf-8") as file:
            _writer(file).writerows(map(_exact, body))


def write(
    result: Result,
    folder: Path,
    *,
    case: Mapping[str, Any],
    extra: Mapping[str, Any],
    growing: GrowingFiles | None = None,
) -> list[Path]:
    """Write iterations.csv, prices.csv, offers.csv, result.json; case: the tables as run; extra: the problem's summary.

    growing: the files that have been written while the run went, where it has; offers.csv is then its business.
    """
    files = write_rows(result, folder, growing)
    return [*files, write_summary(result, folder, case=case, extra=extra)]


def write_details(result: Result, folder: Path) -> list[Path]:
    """Write detail.csv: every series of every block at the end, a value a line; nothing where no block tells any."""
    lines = [
        (key.unit, key.scenario, name, i, value)
        for key in sorted(result.details)
        for name, series in result.details[key].items()
        for i, value in enumerate(np.ravel(np.asarray(series, float)).tolist())
    ]
    if not lines:
        return []
    _write_csv(folder / "detail.csv", DETAILS, lines)
    return [folder / "detail.csv"]


def write_rows(result: Result, folder: Path, growing: GrowingFiles | None = None) -> list[Path]:
    """Write all of a run's own files but result.json, which comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    if growing is None or not result.rows:
        header = iteration_header(result.rows[0]) if result.rows else []
        nodes = result.coordinator.nodes
        prices = (line for k, price in enumerate(result.prices) for line in price_rows(k, price, nodes))
        _write_csv(folder / "iterations.csv", header, map(iteration_row, result.rows))
        _write_csv(folder / "prices.csv", PRICES, prices)
    if growing is not None and growing.every_offer and result.rows:
        growing.end(result)
    else:
        _write_csv(folder / "offers.csv", OFFERS, final_offers(result))
    if result.columns is not None:
        written.append(result.columns.write(folder))
    else:
        (folder / FILE).unlink(missing_ok=True)  # another run's
    return [*written, *(folder / name for name in ("iterations.csv", "prices.csv", "offers.csv"))]


def write_summary(result: Result, folder: Path, *, case: Mapping[str, Any], extra: Mapping[str, Any]) -> Path:
    """Write result.json alone."""
    return _write_json(folder / "result.json", _summary(result, case, extra))


def iteration_header(first: Row) -> list[str]:
    """Columns of iterations.csv; the measured times are the last two."""
    units = [p.unit for p in first.unit_prices]
    return [*_plain_names(), *(f"price_{u}" for u in units), *(f"price_at_{u}" for u in units), *TIMES]


def iteration_row(row: Row) -> list[Any]:
    """A line of iterations.csv."""
    prices, places = [p.price for p in row.unit_prices], [p.entry for p in row.unit_prices]
    return [*(getattr(row, name) for name in _plain_names()), *prices, *places, *(getattr(row, name) for name in TIMES)]


def price_rows(k: int, price: FloatArray, nodes: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """The lines of prices.csv of one round."""
    return ((k, node, value) for node, value in zip(nodes, price.tolist(), strict=True))


def offer_rows(answers: Answers, shown: FloatArray, nodes: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """The lines of offers.csv for these answers at the prices `shown` (N,)."""
    layout = answers.layout
    coupling = {c.unit: c for c in layout.couplings}
    for b, key in enumerate(layout.keys):
        c, at = coupling[key.unit], slice(layout.start[b], layout.start[b + 1])
        stale = int(answers.is_old(b))
        for entry, row, p, q in zip(
            c.entries, c.node.tolist(), shown[at].tolist(), answers.y[at].tolist(), strict=True
        ):
            yield key.unit, key.scenario, entry, nodes[row] if row >= 0 else "", p, q, stale


def final_offers(result: Result) -> Iterable[tuple[Any, ...]]:
    """The lines of offers.csv for the final point; none where there is no point."""
    if result.answers is None or result.final is None or result.price is None:
        return ()
    layout = result.layout
    agreement = result.final.block_price - layout.to_blocks(layout.to_units(result.final.node_price))
    shown = layout.to_blocks(layout.to_units(result.price)) + agreement
    return offer_rows(result.answers, shown, result.coordinator.nodes)


def _plain_names() -> list[str]:
    return [f.name for f in fields(Row) if f.name not in ("unit_prices", *TIMES)]


def _summary(result: Result, case: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    c, last = result.certificate, result.rows[-1] if result.rows else None
    spread = result.layout.spread(result.answers.y) if result.answers else None
    return {
        "status": str(result.status),
        "reason": result.reason,
        "iterations": len(result.rows),
        "objective": result.objective,
        "cost": None if result.objective is None else result.objective - result.penalty,
        "penalty": result.penalty,
        "lower_bound": c.lower_bound if c else None,
        "upper_bound": c.upper_bound if c else None,
        "neutral_bound": c.neutral_bound if c else None,
        "gap": c.gap if c else None,
        "gap_coordination": c.gap_coordination if c else None,
        "bound_of": c.bound_of if c and c.lower_bound is not None else None,
        "recovered": c.recovered if c else None,
        "point": result.point,
        "limits_met": result.check.feasible if result.check else None,
        "spread": spread[0] if spread else None,
        "spread_at": spread[1] if spread else None,
        "multiplier_sum": last.multiplier_sum if last else None,
        "multiplier_sum_at": last.multiplier_sum_at if last else None,
        "primal_residual": last.primal_residual if last else None,
        "dual_residual": last.dual_residual if last else None,
        "primal_relative": last.primal_relative if last else None,
        "dual_relative": last.dual_relative if last else None,
        "mismatch": last.mismatch if last else None,
        "mismatch_at": last.mismatch_at if last else None,
        "stale_blocks": last.stale_blocks.split("; ") if last and last.stale_blocks else [],
        **extra,
        "block_solves": result.block_solves,
        "wall_time_s": result.wall_time_s,
        "solver_time_s": result.solver_time_s,
        "ranks": result.ranks,
        "subproblems": len(result.layout.keys),
        "case": case,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _write_csv(path: Path, header: Sequence[str], body: Iterable[Sequence[Any]]) -> Path:
    with opened(path, "w", newline="", encoding="utf-8") as file:
        writer = _writer(file)
        writer.writerow(header)
        writer.writerows(map(_exact, body))
    return path


def _writer(file: Any) -> Any:
    return csv.writer(file, lineterminator="\n")


def _exact(row: Sequence[Any]) -> list[Any]:
    return [repr(float(x)) if isinstance(x, float) else x for x in row]


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    return write_json(path, _plain(content))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
