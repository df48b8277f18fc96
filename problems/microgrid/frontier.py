"""What safety costs: expected profit against CVaR over the weight w. Paper 2, eq. (35).

python -m problems.microgrid.frontier CASE.toml --out DIR [--set KEY=VALUE]

Writes risk_frontier.csv and figures/risk_frontier.png. Bids per scenario do not feel the weight: give
--set market.stage=committed.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from decomp.errors import InputError, Mistake, TatonnementError
from decomp.messages import Signal, Status
from problems.microgrid.extensive import extensive_form
from problems.microgrid.figures import draw_frontier
from problems.microgrid.problem import Microgrid, merged
from problems.microgrid.results import profit_table, tail

WEIGHTS = (1.0, 0.995, 0.99, 0.98, 0.97, 0.95, 0.9, 0.5, 0.0)


def risk_frontier(microgrid: Microgrid, weights: Sequence[float] = WEIGHTS) -> pd.DataFrame:
    """Columns w, expected_profit_usd, cvar_usd, value_at_risk_usd, bought_back_usd: one row for each w.

    All scenarios are solved as one model, each from the state of the w before. At w = 1 the tail does not count, and at
    w = 0 nothing else does: other bids may then have the same CVaR and a higher expectation.
    """
    rows, state, delta = [], None, microgrid.settings.risk.delta
    for w in weights:
        other = microgrid.with_weight(w)
        form = extensive_form(other)
        if state is not None and w < 1.0:
            form.load(state)
        response = form.solve(Signal(np.zeros(form.n)))
        if response.status is not Status.OPTIMAL:
            raise TatonnementError(f"no bids for w = {w:g}: {response.status.name} {response.message}")
        state = form.save() if w < 1.0 else None
        table = profit_table(other, {next(iter(other.couplings[0].prob)): form.detail(response)})
        profit, prob = table["profit_usd"].to_numpy(float), table["probability"].to_numpy(float)
        var, cvar = tail(profit, prob, delta)
        back = float(prob @ table["bought_back_usd"].to_numpy(float))
        rows.append((w, float(prob @ profit), cvar, var, back))
    names = ["w", "expected_profit_usd", "cvar_usd", "value_at_risk_usd", "bought_back_usd"]
    return pd.DataFrame(rows, columns=names)


def frontier_remarks(microgrid: Microgrid, table: pd.DataFrame) -> list[str]:
    """What the points of a frontier do not say themselves: that they are one point, or that w = 0 leaves them open."""
    said = []
    profit, cvar = table["expected_profit_usd"].to_numpy(float), table["cvar_usd"].to_numpy(float)
    kept = table["w"].to_numpy(float) > 0.0
    near = ONE_POINT * max(1.0, float(np.max(np.abs(profit), initial=0.0)))
    if np.sum(kept) > 1 and max(np.ptp(profit[kept]), np.ptp(cvar[kept])) <= near:
        why = (
            "bids by scenario do not feel the weight: --set market.stage=committed"
            if microgrid.settings.market.stage == "per_scenario"
            else "no bid can trade expected profit for the tail here"
        )
        said.append(f"all points are one: expected profit and CVaR are the same for every w above 0; {why}")
    if not np.all(kept):
        said.append(
            "w = 0: only the tail counts; the expected profit shown there is whatever the solver came to first, and no "
            "point of the frontier"
        )
    return said


ONE_POINT = 1e-5  # of the profit: points closer than that are one


def tables_of(texts: Sequence[str]) -> dict[str, Any]:
    """Tables of "table.key=value" texts, values in TOML; a bare word is text. Raises InputError with every mistake."""
    tables: dict[str, Any] = {}
    mistakes = []
    for text in texts:
        key, _, value = text.partition("=")
        word = value.strip()
        quoted = f'"{word}"' if word.isidentifier() and word not in ("true", "false", "nan", "inf") else word
        try:
            tables = merged(tables, tomllib.loads(f"{key} = {quoted}"))
        except tomllib.TOMLDecodeError as error:
            problem = f"is not understood: {error}"
            mistakes.append(Mistake(f"--set {text}", "", "", problem, "write --set table.key=VALUE with a TOML value"))
    if mistakes:
        raise InputError(mistakes)
    return tables


def main() -> None:
    """Write risk_frontier.csv and show it."""
    parser = argparse.ArgumentParser(description="Expected profit against CVaR over the weight w")
    parser.add_argument("case", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="put a value over the file's")
    parser.add_argument("--w", type=float, nargs="+", default=WEIGHTS)
    given = parser.parse_args()
    try:
        microgrid = Microgrid.from_file(given.case, tables_of(given.set))
    except InputError as error:
        Console(stderr=True).print(str(error), markup=False)
        raise SystemExit(2) from None
    table = risk_frontier(microgrid, given.w)
    given.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.out / "risk_frontier.csv", index=False, lineterminator="\n")
    draw_frontier(given.out)
    for sentence in frontier_remarks(microgrid, table):
        Console().print(sentence)
    Console().print(table.round(dict.fromkeys(table.columns[1:], 2)).to_string(index=False))


if __name__ == "__main__":
    main()
