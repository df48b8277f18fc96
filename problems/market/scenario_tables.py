"""What a market under uncertainty writes and shows beside its tables: the scenarios, and results over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table

from decomp.messages import FloatArray, Key
from problems.market.scenarios import SERIES_UNIT
from problems.market.schedules import device_name, expected_trades, worst_voltages
from problems.risk import limit_warning, tail_mean, value_at_risk
from problems.scenarios.from_csv import write_scenarios

if TYPE_CHECKING:
    from decomp.run.result import Result
    from problems.market.problem import ReactiveMarket


def write(market: ReactiveMarket, folder: Path) -> list[Path]:
    """scenarios.csv, which a case can name as its file, and what the reduction did, scenario_moments.csv."""
    drawn = market.scenarios
    if not drawn.uncertain:
        return []
    paths = [folder / "scenarios.csv"]
    write_scenarios(drawn.as_set(), market.axis, paths[0])
    if drawn.reduction is not None:
        paths.append(folder / "scenario_moments.csv")
        moments_table(market).to_csv(paths[1], index=False, lineterminator="\n")
    return paths


def moments_table(market: ReactiveMarket) -> pd.DataFrame:
    """Mean and standard deviation of every uncertain series in every step before and after the reduction."""
    made = market.scenarios.reduction
    assert made is not None
    parts = [
        pd.DataFrame(
            {
                "series": SERIES_UNIT[name],
                "time": market.axis.stamps,
                "mean_before": made.before.mean[name],
                "mean_after": made.after.mean[name],
                "std_before": made.before.std[name],
                "std_after": made.after.std[name],
            }
        )
        for name in market.scenarios.uncertain
    ]
    return pd.concat(parts, ignore_index=True)


def facts(market: ReactiveMarket, result: Result) -> Mapping[str, Any]:
    """For result.json: the scenarios, what the reduction did to them, and which are left out of the DSO's limits."""
    drawn, left = market.scenarios, left_out(market, result)
    if not drawn.uncertain:
        return {}
    found: dict[str, Any] = {
        "count": len(drawn),
        "probability": float(drawn.prob.sum()),
        "left_out": left,
        "left_out_probability": sum(float(p) for n, p in zip(drawn.names, drawn.prob, strict=True) if n in left),
    }
    made = drawn.reduction
    if made is not None:
        found["reduction"] = {
            "from": len(made.nearest),
            "probability_before": made.before.mass,
            "probability_after": made.after.mass,
            **{
                SERIES_UNIT[name]: {
                    "largest_error_of_a_mean": made.mean_error[name],
                    "deviation_before": _rms(made.before.std[name]),
                    "deviation_after": _rms(made.after.std[name]),
                }
                for name in drawn.uncertain
            },
        }
    days, doubts = day_costs(market, result), tail_warnings(market, result)
    if doubts:
        found["value_at_risk"] = doubts
    return {"scenarios": found, **({"lec_days": days} if days else {})}


def day_costs(market: ReactiveMarket, result: Result) -> dict[str, dict[str, float]]:
    """By community, SEK: the day's cost (10) over the scenarios, its reactive power at c^Q.

    expected, deviation, least, greatest; cvar at its alpha where it has a table `risk`.
    """
    found, prob = {}, market.scenarios.prob
    for name, costs in _days(market, result).items():
        lec = market.lecs[name]
        mean = float(prob @ costs)
        row = {"expected": mean, "deviation": float(np.sqrt(prob @ (costs - mean) ** 2))}
        row |= {"least": float(costs.min()), "greatest": float(costs.max())}
        if lec.risk is not None:
            row["cvar"] = tail_mean(costs, prob, lec.risk.alpha)
        found[name] = row
    return found


def tail_warnings(market: ReactiveMarket, result: Result) -> dict[str, str]:
    """By community that is averse to risk: what its value at risk outside its limits means for the proof."""
    said, prob = {}, market.scenarios.prob
    for name, costs in _days(market, result).items():
        risk, limits = market.lecs[name].risk, market.cost_range_sek.get(name)
        if risk is not None and limits is not None:
            said[name] = limit_warning(value_at_risk(costs, prob, risk.alpha), limits, "SEK")
    return {name: text for name, text in said.items() if text}


def _days(market: ReactiveMarket, result: Result) -> dict[str, FloatArray]:
    """(S,) cost of the day by community, of those whose blocks tell it in every scenario."""
    details, found = market.bundling.details(result.details), {}
    for name in market.lecs if details else ():
        told = [details[Key(name, s)].get("day_sek") for s in market.scenarios.names]
        costs = [cost for cost in told if cost is not None]
        if len(costs) == len(told):
            found[name] = np.concatenate(costs)
    return found


def left_out(market: ReactiveMarket, result: Result) -> list[str]:
    """Names of the scenarios in which the DSO keeps no limits."""
    if result.initial is None:
        return []
    secure = market.coordinator.secure(result.initial.answers.reports())
    return [name for name, kept in zip(market.coordinator.scenarios, secure, strict=True) if not kept]


def render(
    market: ReactiveMarket, result: Result, voltages: pd.DataFrame, schedules: Mapping[str, pd.DataFrame]
) -> Sequence[Table | str]:
    """For the terminal: the reduction, the worst voltages over the scenarios, the offers and what they rest on."""
    left = left_out(market, result)
    shown: list[Table | str] = [_drawn(market)]
    if left:
        prob = dict(zip(market.scenarios.names, market.scenarios.prob, strict=True))
        mass = sum(prob[name] for name in left)
        shown.append(f"Left out of the DSO's limits, probability {mass:.4g}: {', '.join(left)}")
    shown.append(render_worst(worst_voltages(voltages), left))
    prob = dict(zip(market.scenarios.names, market.scenarios.prob.tolist(), strict=True))
    traded = expected_trades(schedules, prob) if schedules else pd.DataFrame()
    if not traded.empty:
        shown.append(render_expected(traded))
    days = day_costs(market, result)
    doubts = [f"{name}: {text}" for name, text in tail_warnings(market, result).items()]
    return [*shown, render_days(days), *doubts] if days else shown


def render_days(days: Mapping[str, Mapping[str, float]]) -> Table:
    """What a day costs every community."""
    shown = Table(title="Cost of the day (SEK), reactive power at the neutral price", title_justify="left")
    shown.add_column("LEC")
    heads = [
        h for h in ("expected", "deviation", "least", "greatest", "cvar") if any(h in row for row in days.values())
    ]
    for head in heads:
        shown.add_column(head.replace("cvar", "CVaR"), justify="right")
    for name, row in days.items():
        shown.add_row(name, *(f"{row[h]:.2f}" if h in row else "-" for h in heads))
    return shown


def _drawn(market: ReactiveMarket) -> Table | str:
    drawn, made = market.scenarios, market.scenarios.reduction
    if made is None:
        return f"{len(drawn)} scenarios, probability {drawn.prob.sum():.10g}, of {', '.join(drawn.uncertain)}"
    title = (
        f"{len(drawn)} scenarios of {len(made.nearest)}: probability {made.before.mass:.10g} before, "
        f"{made.after.mass:.10g} after"
    )
    shown = Table(title=title, title_justify="left")
    shown.add_column("series")
    for head in ("mean before", "mean after", "largest error of a step's mean", "deviation before", "deviation after"):
        shown.add_column(head, justify="right")
    for name in drawn.uncertain:
        before, after = made.before, made.after
        figures = (
            before.mean[name].mean(), after.mean[name].mean(), made.mean_error[name],
            _rms(before.std[name]), _rms(after.std[name]),
        )  # fmt: skip
        shown.add_row(SERIES_UNIT[name], *(f"{x:.4g}" for x in figures))
    return shown


def render_worst(table: pd.DataFrame, left: Sequence[str]) -> Table:
    """The worst voltage over the scenarios wherever one leaves its limits; * = left out of the DSO's limits."""
    shown = Table(title="Voltages outside their limits: the worst scenario", title_justify="left")
    left_heads = ("bus", "hour", "scenario before", "scenario after")
    heads = ("bus", "hour", "before (pu)", "scenario before", "outside", "after (pu)", "scenario after", "outside")
    for name in (*heads, "limits (pu)"):
        shown.add_column(name, justify="left" if name in left_heads else "right")

    def named(scenario: str) -> str:
        return f"{scenario}*" if scenario in left else scenario

    for row in table.itertuples():
        shown.add_row(
            row.bus, row.label, f"{row.v_before_pu:.5f}", named(row.scenario_before), f"{row.outside_before}",
            f"{row.v_after_pu:.5f}", named(row.scenario_after), f"{row.outside_after}",
            f"{row.v_min_pu:g}-{row.v_max_pu:g}",
        )  # fmt: skip
    if not shown.rows:
        shown.add_row("none", *[""] * 8)
    return shown


def render_expected(table: pd.DataFrame) -> Table:
    """The offers, equal in all scenarios, and what gives them: expectation, least and greatest over the scenarios."""
    shown = Table(
        title="Reactive power traded: the committed change; of the rest expectation, least and greatest",
        title_justify="left",
    )
    devices = [c.removesuffix("_mean") for c in table.columns if c.startswith("dq_") and c.endswith("_kvar_mean")]
    heads = [f"{device_name(c.removeprefix('dq_').removesuffix('_kvar'))} (kvar)" for c in devices]
    names = ["LEC", "hour", "final TS (SEK/kvarh)", "change (kvar)", *heads, "payment (SEK)", "cost (SEK)"]
    for name in names:
        shown.add_column(name, justify="left" if name in ("LEC", "hour") else "right")
    for _, row in table.iterrows():
        spread = [_spread(row, c, 2) for c in devices]
        shown.add_row(
            row.unit, row.label, f"{row.price_sek_per_kvarh:.4f}", f"{row.dq_kvar:.2f}", *spread,
            f"{row.payment_sek:.3f}", _spread(row, "cost_sek", 3),
        )  # fmt: skip
    return shown


def _spread(row: pd.Series, column: str, digits: int) -> str:
    mean, least, most = (row[f"{column}_{what}"] for what in ("mean", "least", "most"))
    return "-" if pd.isna(mean) else f"{mean:.{digits}f} [{least:.{digits}f}, {most:.{digits}f}]"


def _rms(deviation: FloatArray) -> float:
    return float(np.sqrt(np.mean(deviation**2)))
