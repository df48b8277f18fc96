"""What a run leaves behind: one row a round, and the result."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from decomp.coordinator import Coordinator
from decomp.layout import Answers, Layout
from decomp.messages import Check, FloatArray, Key, Request
from decomp.storage.stored_columns import StoredColumns

if TYPE_CHECKING:
    import pandas as pd

    from decomp.run.certificate import Certificate
    from decomp.run.stopping import RunStatus


@dataclass(frozen=True)
class UnitPrice:
    """A unit's price at its worst entry: the one furthest from neutral."""

    unit: str
    entry: str
    price: float


@dataclass(frozen=True)
class Row:
    """One round. The two times are measured; all other fields are the same on any number of ranks.

    spread          largest |ybar_u - y_us| of the round's offers: how far scenarios are from agreeing
    multiplier_sum  largest |sum_s pi_s w_us| over the scenarios that agree, 0 but for rounding where bounds are valid
    stale_blocks  names of the blocks that failed and are represented by their last good answer
    late_blocks   number of blocks that are represented by an answer to an earlier question
    """

    round: int
    worst: float
    worst_at: str
    violation: float
    mismatch: float
    mismatch_at: str
    spread: float
    spread_at: str
    multiplier_sum: float
    multiplier_sum_at: str
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
    stale_blocks: str = ""
    late_blocks: int = 0


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
    columns  what another run of these blocks may begin with, where the run was asked to keep it
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
    columns: StoredColumns | None = None

    @property
    def point(self) -> str:
        """Which point the answers, and all series and figures made of them, belong to; "" where there is none."""
        if self.answers is None or self.final is None:
            return ""
        if self.status in ("certified", "certified_linearised"):
            return "the certified point"
        c = self.certificate
        if c is not None and self.answers is c.answers and c.is_incumbent:
            return "the best point found, not proven to be an optimum"
        if c is not None and self.answers is c.answers and c.recovered == "request":
            return "the point recovered from the answers, not proven to be an optimum"
        spread, where = self.layout.spread(self.final.answers.y)
        apart = f"; scenarios differ there by up to {spread:.3g} at {where}" if spread > 0 else ""
        return f"the offers of the last round, not proven to be any optimum{apart}"

    @property
    def iterations(self) -> pd.DataFrame:
        """One line a round: worst limit, mismatch, residuals, cost, bounds, gaps, seconds."""
        import pandas as pd

        table = pd.DataFrame([dataclasses.asdict(row) for row in self.rows]).drop(
            columns="unit_prices", errors="ignore"
        )
        return table.set_index("round") if len(table) else table

    @property
    def node_prices(self) -> pd.DataFrame:
        """Price of every node (columns) in every round."""
        import pandas as pd

        rounds = pd.RangeIndex(len(self.prices), name="round")
        return pd.DataFrame(list(self.prices), index=rounds, columns=pd.Index(self.coordinator.nodes, name="node"))

    @property
    def offers(self) -> pd.Series:
        """y of every unit, scenario and entry at the final point."""
        import pandas as pd

        layout = self.layout
        names = [
            (key.unit, key.scenario, entry)
            for key in layout.keys
            for entry in next(c for c in layout.couplings if c.unit == key.unit).entries
        ]
        index = pd.MultiIndex.from_tuples(names, names=["unit", "scenario", "entry"]) if names else None
        values = np.zeros(0) if self.answers is None else self.answers.y
        return pd.Series(values, index=index if len(values) else None, name="y", dtype=float)

    @property
    def penalty(self) -> float:
        """What of the objective is for limits of the coordinator that are not met."""
        return 0.0 if self.request is None else self.request.penalty

    @property
    def objective(self) -> float | None:
        """sum pi f + g at the final point; None where it could not be evaluated."""
        if self.answers is None or self.request is None:
            return None
        value = self.answers.expected_cost() + self.request.cost
        return value if math.isfinite(value) else None
