"""The microgrid's own tables of a result: bids, storage, profit. Everything shown is drawn from these files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from decomp.messages import FloatArray, Key
from problems.microgrid import remarks
from problems.microgrid.block import risk_of
from problems.microgrid.data import PRODUCTS
from problems.microgrid.markets import column
from problems.risk import tail_mean

if TYPE_CHECKING:
    from decomp.run.result import Result
    from problems.microgrid.problem import Microgrid

Details = Mapping[Key, Mapping[str, FloatArray]]
PLAIN = tuple(column(p) for p in PRODUCTS)


def write(microgrid: Microgrid, details: Details, folder: Path) -> list[Path]:
    """Write bids.csv, storage.csv, profit.csv, approximations.csv."""
    files = {
        "approximations.csv": remarks.approximations_table(microgrid, by_scenario(microgrid, details)),
        "bids.csv": bids_table(microgrid, details),
        "storage.csv": storage_table(microgrid, details),
        "profit.csv": profit_table(microgrid, details),
    }
    for name, table in files.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    return [folder / name for name in files]


def by_scenario(microgrid: Microgrid, details: Details) -> dict[str, dict[str, FloatArray]]:
    """The series of every scenario, whether it is a block of its own or part of a bundle, in the data's order."""
    found: dict[str, dict[str, FloatArray]] = {}
    for key, series in details.items():
        for label, values in series.items():
            *scenario, unit, quantity = label.rsplit("/", 2)  # of a bundle: "<scenario>/<unit>/<quantity>"
            found.setdefault(scenario[0] if scenario else key.scenario, {})[f"{unit}/{quantity}"] = values
    return {name: found[name] for name in microgrid.data.names if name in found}


def bids_table(microgrid: Microgrid, details: Details) -> pd.DataFrame:
    """One row for each scenario, unit and step; "MG" is what is bid, which the units' sum may exceed or fall short of.

    stored_mw is the unit's power that goes into the stores.
    """
    rows = []
    for scenario, series in by_scenario(microgrid, details).items():
        for name in microgrid.settings.units:
            own = {c: series[f"{name}/{c}"] for c in (*PLAIN, "stored_mw", "cost_usd")}
            rows.append(_frame(microgrid, scenario, {"unit": name, **own}))
        total = {c: series[f"MG/bid_{p}"] for c, p in zip(PLAIN, PRODUCTS, strict=True)}
        for c in ("stored_mw", "cost_usd"):
            total[c] = np.sum([series[f"{name}/{c}"] for name in microgrid.settings.units], axis=0)
        rows.append(_frame(microgrid, scenario, {"unit": "MG", **total}))
    return pd.concat(rows, ignore_index=True)


def storage_table(microgrid: Microgrid, details: Details) -> pd.DataFrame:
    """State at the end of every step, charging and discharging of every store and scenario.

    discharge_mw is what the state loses, reserve counted as the case says; held_mw is all that may be called.
    """
    rows = [
        _frame(
            microgrid,
            scenario,
            {
                "unit": name,
                **{c: series[f"{name}/{c}"] for c in ("charge_mw", "discharge_mw", "held_mw", "state_mwh")},
                "state_percent": 100.0 * series[f"{name}/state_mwh"] / store.capacity_mwh,
            },
        )
        for scenario, series in by_scenario(microgrid, details).items()
        for name, store in microgrid.settings.storage.items()
    ]
    empty = ["scenario", "probability", "time", "hour", "unit", "charge_mw", "discharge_mw", "held_mw", "state_mwh"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*empty, "state_percent"])


def profit_table(microgrid: Microgrid, details: Details) -> pd.DataFrame:
    """Revenue by product, what buying back costs, the units' cost and the profit of each scenario, in $."""
    rows = []
    for scenario, series in by_scenario(microgrid, details).items():
        revenue = {f"revenue_{p}_usd": float(np.sum(series[f"MG/revenue_{p}"])) for p in PRODUCTS}
        bought = float(np.sum(series["MG/bought_back_usd"]))
        cost = float(sum(np.sum(series[f"{name}/cost_usd"]) for name in microgrid.settings.units))
        profit = sum(revenue.values()) - bought - cost
        rows.append(
            {
                "scenario": scenario,
                "probability": probability(microgrid, scenario),
                **revenue,
                "bought_back_usd": bought,
                "cost_usd": cost,
                "profit_usd": profit,
            }
        )
    return pd.DataFrame(rows)


def summary(microgrid: Microgrid, result: Result) -> dict[str, Any]:
    """Figures of the final point for result.json; empty where there is none."""
    if not result.details:
        return {}
    table = profit_table(microgrid, result.details)
    risk = risk_of(microgrid.settings)
    profit, prob = table["profit_usd"].to_numpy(float), table["probability"].to_numpy(float)
    var, cvar = tail(profit, prob, risk.alpha)
    store = storage_table(microgrid, result.details)
    both = remarks.charged_while_held_mw(store)
    return {
        "expected_profit_usd": float(prob @ profit),
        "cvar_profit_usd": cvar,
        "value_at_risk_profit_usd": var,
        "bought_back_usd": float(prob @ table["bought_back_usd"].to_numpy(float)),
        "charged_while_discharging_mw": float(np.max(both, initial=0.0)),
        "energy_error_of_scenarios": microgrid.data.energy_errors(),
        "remarks": remarks.of_result(microgrid, store),
    }


def tail(profit_usd: FloatArray, prob: FloatArray, delta: float) -> tuple[float, float]:
    """VaR and CVaR = VaR - sum_s pi_s [VaR - profit_s]+ / (1 - delta): mean of the worst 1 - delta. Paper 2, eq. (32).

    VaR is the least profit that is not undercut with more than 1 - delta; profit_usd and prob (S,).
    """
    order = np.argsort(profit_usd, kind="stable")
    first = int(np.searchsorted(np.cumsum(prob[order]), 1.0 - delta - 1e-12))
    return float(profit_usd[order[min(first, len(order) - 1)]]), -tail_mean(-profit_usd, prob, delta)


def probability(microgrid: Microgrid, scenario: str) -> float:
    return float(microgrid.data.prob[microgrid.data.names.index(scenario)])


def _frame(microgrid: Microgrid, scenario: str, series: Mapping[str, Any]) -> pd.DataFrame:
    axis = microgrid.axis
    return pd.DataFrame(
        {
            "scenario": scenario,
            "probability": probability(microgrid, scenario),
            "time": axis.stamps,
            "hour": axis.hours,
            **series,
        }
    )
