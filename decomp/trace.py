"""What a run leaves behind: one row a round, the result, and the files."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decomp.coordinator import Coordinator
from decomp.layout import Answers, Layout
from decomp.messages import Check, FloatArray, Key, Request

if TYPE_CHECKING:
    from decomp.certificate import Certificate
    from decomp.stopping import RunStatus

PACKAGES = ("tatonnement", "numpy", "scipy", "highspy", "piqp", "pyomo", "mpi4py")


@dataclass(frozen=True)
class UnitPrice:
    """A unit's price at its worst entry: the one furthest from neutral."""

    unit: str
    entry: str
    price: float


@dataclass(frozen=True)
class Row:
    """One round. The last two fields are measured times; all others are the same on any number of ranks."""

    round: int
    worst: float
    worst_at: str
    violation: float
    mismatch: float
    mismatch_at: str
    primal_residual: float
    dual_residual: float
    primal_relative: float
    dual_relative: float
    price_residual: float
    cost: float
    lower_bound: float | None
    upper_bound: float | None
    gap: float | None
    gap_coordination: float | None
    block_solves: int
    unit_prices: tuple[UnitPrice, ...]
    wall_time_s: float
    solver_time_s: float


@dataclass(frozen=True, eq=False)
class Round:
    """What was asked and answered in one round."""

    k: int
    node_price: FloatArray
    block_price: FloatArray
    answers: Answers
    request: Request
    check: Check


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run.

    prices   (rounds, n) node prices that were asked in each round
    initial, final  first and last round
    answers, request, check  the final point: the recovered one if it is certified, else the last offers; the request
                    is the coordinator's evaluation of that point; price (n,) goes with it
    details  series of every block's own solution at the final point
    """

    status: RunStatus
    reason: str
    layout: Layout
    coordinator: Coordinator
    rows: tuple[Row, ...]
    prices: tuple[FloatArray, ...]
    initial: Round | None
    final: Round | None
    answers: Answers | None
    request: Request | None
    check: Check | None
    price: FloatArray | None
    certificate: Certificate | None
    details: Mapping[Key, Mapping[str, FloatArray]] = field(default_factory=dict)
    block_solves: int = 0
    wall_time_s: float = 0.0
    solver_time_s: float = 0.0
    ranks: int = 1

    @property
    def objective(self) -> float | None:
        """sum pi f + g at the final point; None where it could not be evaluated."""
        if self.answers is None or self.request is None:
            return None
        value = self.answers.expected_cost() + self.request.cost
        return value if math.isfinite(value) else None


def write(result: Result, folder: Path, *, case: Mapping[str, Any], extra: Mapping[str, Any]) -> list[Path]:
    """Write result.json, iterations.csv, prices.csv, offers.csv; case: the tables as run; extra: the problem's summary.

    Numbers are written with every digit (repr), so that equal runs leave equal files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _write_json(folder / "result.json", _summary(result, case, extra)),
        _write_csv(folder / "iterations.csv", *_iterations(result.rows)),
        _write_csv(folder / "prices.csv", ("round", "node", "price"), _prices(result)),
        _write_csv(folder / "offers.csv", ("unit", "scenario", "entry", "node", "price", "y"), _offers(result)),
    ]


def _summary(result: Result, case: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    c, last = result.certificate, result.rows[-1] if result.rows else None
    return {
        "status": str(result.status),
        "reason": result.reason,
        "iterations": len(result.rows),
        "objective": result.objective,
        "lower_bound": c.lower_bound if c else None,
        "upper_bound": c.upper_bound if c else None,
        "neutral_bound": c.neutral_bound if c else None,
        "gap": c.gap if c else None,
        "gap_coordination": c.gap_coordination if c else None,
        "bound_of": c.bound_of if c and c.lower_bound is not None else None,
        "recovered": c.recovered if c else None,
        "limits_met": result.check.feasible if result.check else None,
        "multiplier_sum": c.w_sum if c else None,
        "primal_residual": last.primal_residual if last else None,
        "dual_residual": last.dual_residual if last else None,
        "primal_relative": last.primal_relative if last else None,
        "dual_relative": last.dual_relative if last else None,
        "mismatch": last.mismatch if last else None,
        "mismatch_at": last.mismatch_at if last else None,
        **extra,
        "block_solves": result.block_solves,
        "wall_time_s": result.wall_time_s,
        "solver_time_s": result.solver_time_s,
        "ranks": result.ranks,
        "subproblems": len(result.layout.keys),
        "case": case,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _iterations(rows: Sequence[Row]) -> tuple[list[str], Iterable[list[Any]]]:
    timing = ("wall_time_s", "solver_time_s")
    plain = [f.name for f in fields(Row) if f.name not in ("unit_prices", *timing)]
    units = [p.unit for p in rows[0].unit_prices] if rows else []
    header = plain + [f"price_{u}" for u in units] + [f"price_at_{u}" for u in units] + list(timing)
    body = (
        [getattr(r, name) for name in plain]
        + [p.price for p in r.unit_prices]
        + [p.entry for p in r.unit_prices]
        + [getattr(r, name) for name in timing]
        for r in rows
    )
    return header, body


def _prices(result: Result) -> Iterable[tuple[Any, ...]]:
    for k, prices in enumerate(result.prices):
        for node, price in zip(result.coordinator.nodes, prices.tolist(), strict=True):
            yield k, node, price


def _offers(result: Result) -> Iterable[tuple[Any, ...]]:
    if result.answers is None or result.final is None or result.price is None:
        return
    layout = result.layout
    agreement = result.final.block_price - layout.to_blocks(layout.to_units(result.final.node_price))
    shown = layout.to_blocks(layout.to_units(result.price)) + agreement
    for b, key in enumerate(layout.keys):
        coupling = next(c for c in layout.couplings if c.unit == key.unit)
        at = slice(layout.start[b], layout.start[b + 1])
        price, y = shown[at].tolist(), result.answers.y[at].tolist()
        for entry, row, p, q in zip(coupling.entries, coupling.node.tolist(), price, y, strict=True):
            yield key.unit, key.scenario, entry, result.coordinator.nodes[row] if row >= 0 else "", p, q


def _write_csv(path: Path, header: Sequence[str], body: Iterable[Sequence[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([repr(float(x)) if isinstance(x, float) else x for x in row] for row in body)
    return path


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(_plain(content), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


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
