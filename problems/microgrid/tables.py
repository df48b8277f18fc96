"""Tables 6 and 7 of paper 2 in its layout: the expected bids of the microgrid beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from problems.microgrid.folder import QUANTITIES, WHOLE, expected

PRINTED = Path(__file__).parents[1] / "cases" / "ercot" / "paper_tables_6_7.csv"
HEADS = ("Energy", "Regulation up", "Regulation down", "Spinning reserve", "Non-spinning reserve", "Storage")


def printed() -> pd.DataFrame:
    """Tables 6 and 7 as paper 2 prints them, one row for each of the hours 1..24."""
    return pd.read_csv(PRINTED)


def side_by_side(bids: pd.DataFrame, storage: pd.DataFrame) -> pd.DataFrame:
    """hour, then <quantity> and <quantity>_paper of Table 7 and state_percent of Table 6.

    bids, storage: bids.csv and storage.csv, all scenarios; what is shown is their expectation. The paper's columns are
    NaN at hours that it does not have.
    """
    whole = expected(bids[bids.unit == WHOLE], ("hour",))
    table = whole[["hour", *QUANTITIES]].copy()
    table["state_percent"] = state_percent(storage) if len(storage) else 0.0
    return table.merge(printed(), on="hour", how="left", suffixes=("", "_paper"))


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """How far `side_by_side` is from the paper: root mean square difference in MW and correlation over the hours.

    Columns quantity, rmse_mw, correlation (nan where one of both never changes), sum_mwh, sum_paper_mwh; the last row
    is the state of the store, in percent.
    """
    rows = []
    for name in (*QUANTITIES, "state_percent"):
        ours, theirs = table[name].to_numpy(float), table[f"{name}_paper"].to_numpy(float)
        apart = float(np.sqrt(np.mean((ours - theirs) ** 2)))
        steady = min(np.std(ours), np.std(theirs)) < STEADY
        together = float("nan") if steady else float(np.corrcoef(ours, theirs)[0, 1])
        rows.append((name, apart, together, float(ours.sum()), float(theirs.sum())))
    return pd.DataFrame(rows, columns=["quantity", "rmse_mw", "correlation", "sum_mwh", "sum_paper_mwh"])


STEADY = 1e-6  # a deviation below this is rounding


def state_percent(storage: pd.DataFrame) -> np.ndarray:
    """(T,) expected state of all stores together at the end of each step, in percent of their capacity."""
    rows = storage.assign(capacity_mwh=100.0 * storage.state_mwh / storage.state_percent)
    capacity = rows.groupby("unit").capacity_mwh.max().sum()  # NaN where a store is empty: its other steps tell
    state = expected(storage, ("hour",)).state_mwh.to_numpy()
    return 100.0 * state / capacity if capacity > 0 else np.zeros_like(state)


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write table_6.csv and table_7.csv of `side_by_side`, and comparison.csv."""
    files = {
        "table_6.csv": ["hour", "state_percent", "state_percent_paper"],
        "table_7.csv": ["hour", *(c for q in QUANTITIES for c in (q, f"{q}_paper"))],
    }
    for name, columns in files.items():
        table[columns].to_csv(folder / name, index=False, lineterminator="\n")
    comparison(table).to_csv(folder / "comparison.csv", index=False, lineterminator="\n")
    return [*(folder / name for name in files), folder / "comparison.csv"]


def render(table: pd.DataFrame) -> Sequence[Table]:
    """Both tables for the terminal; the paper's numbers stand to the right of ours.

    Below Table 7 stand the root mean square difference in MW and the correlation over the hours.
    """
    columns = [(head, q) for head, q in zip(HEADS, QUANTITIES, strict=True)]
    head = "Table 7: bids and stored energy in MW, expected | printed in paper 2"
    bids = _rendered(head, table, columns, digits=4)
    return _states(table), bids


def _states(table: pd.DataFrame, side: int = 4) -> Table:
    """Table 6 as wide as Table 7: `side` pairs of columns beside each other, hour by hour downwards."""
    title = "Table 6: state of the store at the end of each hour in %, expected | printed in paper 2"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 3, 0, 0), min_width=len(title))
    for _ in range(side):
        shown.add_column("Hour", justify="right")
        shown.add_column("State", justify="right", no_wrap=True)
    pairs = [
        (f"{row.hour:g}", f"{number(row['state_percent'], 2)} | {number(row['state_percent_paper'], 2)}")
        for _, row in table.iterrows()
    ]
    length = -(-len(pairs) // side)
    for k in range(length):
        shown.add_row(*(cell for pair in pairs[k::length] for cell in pair))
    return shown


def _rendered(title: str, table: pd.DataFrame, columns: Sequence[tuple[str, str]], digits: int) -> Table:
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("Hour", justify="right")
    for head, _ in columns:
        shown.add_column(head, justify="right", no_wrap=False, min_width=2 * digits + 7)
    for _, row in table.iterrows():
        cells = [f"{number(row[q], digits)} | {number(row[f'{q}_paper'], digits)}" for _, q in columns]
        shown.add_row(f"{row.hour:g}", *cells)
    apart = comparison(table).set_index("quantity")
    shown.add_section()
    shown.add_row("RMSE", *(number(apart.rmse_mw[q], 2) for _, q in columns))
    shown.add_row("r", *(number(apart.correlation[q], 2) for _, q in columns))
    return shown


def number(value: float, digits: int) -> str:
    """Digits after the point; a dash where the paper has no such hour, and no minus before a zero."""
    return "-" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"
