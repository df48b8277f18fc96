"""The market's own tables of a result: voltages, prices of reactive power by bus, schedules, and what was traded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table

from decomp.layout import Answers
from decomp.messages import FloatArray, Key
from problems.lec.opportunity import excess
from problems.market import scenario_tables
from problems.market.schedules import device_name, outside, trades, trades_by_device
from problems.time_series import clock

if TYPE_CHECKING:
    from decomp.run.result import Result
    from problems.market.problem import ReactiveMarket


def write(market: ReactiveMarket, result: Result, folder: Path) -> list[Path]:
    """Write voltages.csv, duals.csv, trades.csv and schedule_<unit>.csv; what the run did not get to is not written."""
    files = {}
    if result.initial is not None and result.answers is not None:
        files["voltages.csv"] = voltage_table(market, result)
    if result.final is not None:
        files["duals.csv"] = dual_table(market, result)
    schedules = schedule_tables(market, result)
    if schedules:
        files["trades.csv"] = trades_by_device(schedules, market.axis.dt_h)
    for unit, schedule in schedules.items():
        files[f"schedule_{unit}.csv"] = schedule
    for name, table in files.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    return [*(folder / name for name in files), *scenario_tables.write(market, folder)]


def voltages(market: ReactiveMarket, result: Result, answers: Answers) -> FloatArray:
    """(T, S, n_bus) voltages in pu of an AC power flow with the P and Q of these answers."""
    offers = result.layout.totals(result.layout.mean(answers.y))
    return market.coordinator.voltages(offers, answers.reports())


def voltage_table(market: ReactiveMarket, result: Result) -> pd.DataFrame:
    """Voltage of every bus in every step and scenario with the initial and the final schedules.

    Nothing is shed in v_before_pu and v_after_pu. shed_kvar is the reactive load that has to be taken off besides, so
    that the final schedules keep the limits; v_with_shedding_pu is the voltage then.
    """
    assert result.initial is not None
    assert result.answers is not None
    before, after = voltages(market, result, result.initial.answers), voltages(market, result, result.answers)
    shed = np.zeros_like(after) if result.request is None else result.request.info["shed_kvar"]
    with_shedding = after if result.request is None or not np.any(shed) else result.request.info["v_pu"]
    steps, scenarios, buses = after.shape
    network = market.network
    return pd.DataFrame(
        {
            **_step_columns(market, scenarios, buses),
            "bus": np.tile(network.buses, steps * scenarios),
            "v_before_pu": before.ravel(),
            "v_after_pu": after.ravel(),
            "v_min_pu": np.tile(network.v_min_pu, steps * scenarios),
            "v_max_pu": np.tile(network.v_max_pu, steps * scenarios),
            "shed_kvar": np.broadcast_to(shed, after.shape).ravel(),
            "v_with_shedding_pu": np.broadcast_to(with_shedding, after.shape).ravel(),
        }
    )


def uncured(market: ReactiveMarket, table: pd.DataFrame) -> pd.DataFrame:
    """The voltages that stay outside their limits by more than the tolerance, with what is shed, and how far."""
    v = table.v_with_shedding_pu
    short = np.maximum(table.v_min_pu - v, v - table.v_max_pu)
    left = (short > market.settings.dso.voltage_tolerance_pu) & (
        table.bus != market.network.buses[market.network.slack]
    )
    columns = ["bus", "time", "scenario", "v_before_pu", "v_after_pu", "v_with_shedding_pu", "v_min_pu", "v_max_pu"]
    return table.loc[left, columns].assign(outside_pu=short[left], time=table.time[left].astype(str))


def render_uncured(market: ReactiveMarket, result: Result) -> Sequence[str]:
    """What is said of voltages that stay outside their limits: by bus, how long, and the worst hour."""
    if result.initial is None or result.answers is None:
        return ()
    table = voltage_table(market, result)
    left = uncured(market, table)
    said = []
    for bus, rows in left.groupby("bus", sort=False):
        worst = rows.loc[rows.outside_pu.idxmax()]
        side = "below" if worst.v_with_shedding_pu < worst.v_min_pu else "above"
        times = rows.time.nunique()
        where = table.label[worst.name] if times == 1 else f"{times} steps, worst {table.label[worst.name]}"
        moved = f"{worst.v_before_pu:.5f} -> {worst.v_with_shedding_pu:.5f} pu"
        said.append(f"Not cured: bus {bus}, {where}: {moved}, {worst.outside_pu:.5f} pu {side} its limit")
    return said


def dual_table(market: ReactiveMarket, result: Result) -> pd.DataFrame:
    """Multiplier mu of every voltage limit (> 0 where raising the voltage helps) and nodal price c^Q + X' mu.

    From the coordinator's answer in the last round.
    """
    assert result.final is not None
    info = result.final.request.info
    steps, scenarios, buses = info["mu"].shape
    return pd.DataFrame(
        {
            **_step_columns(market, scenarios, buses),
            "bus": np.tile(market.network.buses, steps * scenarios),
            "mu_sek_per_pu": info["mu"].ravel(),
            "nodal_price_sek_per_kvarh": np.repeat(info["nodal_price"], scenarios, axis=0).ravel(),
        }
    )


def schedule_tables(market: ReactiveMarket, result: Result) -> dict[str, pd.DataFrame]:
    """The schedule of every unit, as written to its file; see `problems.market.schedules`."""
    blocks: dict[str, list[pd.DataFrame]] = {}
    if result.final is None or result.answers is None:
        return {}
    details = market.bundling.details(result.details)
    for b, block in enumerate(result.layout.keys):
        for key in market.bundling.members[block]:
            if details.get(key):
                blocks.setdefault(key.unit, []).append(_schedule(market, result, b, key, details[key]))
    return {unit: pd.concat(parts, ignore_index=True) for unit, parts in blocks.items()}


def _schedule(
    market: ReactiveMarket, result: Result, b: int, key: Key, series: Mapping[str, FloatArray]
) -> pd.DataFrame:
    assert result.final is not None
    assert result.answers is not None
    at = slice(result.layout.start[b], result.layout.start[b + 1])
    steps = market.axis.settings.steps
    coupling = next(c for c in market.couplings if c.unit == key.unit)
    # a risk-averse community has one entry more, its value at risk
    prices, changes = _final_price(result)[at], result.answers.y[at]
    price, dq = prices[:steps], changes[:steps]
    node = coupling.node[:steps]
    details = {name: np.asarray(values, float) for name, values in series.items() if name != "day_sek"}
    dt_h, spot = market.axis.dt_h, market.data_of(key).spot_sek_per_kwh
    cost = np.zeros(len(dq))
    for name in (n.removeprefix("sin_phi_") for n in details if n.startswith("sin_phi_")):
        p = np.abs(details[f"p_{name}_kw"])
        final, initial = details[f"q_{name}_kvar"], details[f"q_{name}_initial_kvar"]
        cost += np.maximum(spot, 0.0) * (excess(p, final) - excess(p, initial)) * dt_h
    active = {}
    if market.settings.dso.trades_p:
        of_p = slice(steps, 2 * steps)
        active = {"price_sek_per_kwh": prices[of_p], "dp_kw": changes[of_p]}
        active["payment_p_sek"] = prices[of_p] * changes[of_p] * dt_h
    return pd.DataFrame(
        {
            "time": market.axis.stamps,
            "label": [clock(n) for n in market.axis.names],
            "hour": market.axis.hours,
            "scenario": key.scenario,
            "node": [market.coordinator.nodes[row] for row in node],
            "need": result.final.request.active[node],
            "neutral_sek_per_kvarh": market.coordinator.neutral[node],
            "price_sek_per_kvarh": price,
            "dq_kvar": dq,
            "payment_sek": price * dq * dt_h,
            "cost_sek": cost,
            **active,
            "spot_sek_per_kwh": spot,
            "stale": int(result.answers.is_old(b)),  # the schedule of an earlier round stands in for a failed block
            **{name: values for name, values in details.items() if values.shape == dq.shape},
        }
    )


def _final_price(result: Result) -> FloatArray:
    """(N,) the price that belongs to the final point: a certified point's own, else the one asked last."""
    assert result.final is not None
    certificate, layout = result.certificate, result.layout
    if certificate is None or result.status not in ("certified", "certified_linearised"):
        return result.final.block_price
    agreement = result.final.block_price - layout.to_blocks(layout.to_units(result.final.node_price))
    return layout.to_blocks(layout.to_units(certificate.price)) + agreement


def _step_columns(market: ReactiveMarket, scenarios: int, buses: int) -> dict[str, Any]:
    axis, each = market.axis, scenarios * buses
    return {
        "time": np.repeat(axis.stamps, each),
        "label": np.repeat([clock(n) for n in axis.names], each),
        "hour": np.repeat(axis.hours, each),
        "scenario": np.tile(np.repeat(market.coordinator.scenarios, buses), axis.settings.steps),
    }


def render(market: ReactiveMarket, result: Result) -> Sequence[Table | str]:
    """For the terminal: voltages outside their limits before and after, and the trades (paper 1, Tables I and II)."""
    if result.initial is None or result.answers is None:
        return ()
    schedules = schedule_tables(market, result)
    if market.scenarios.uncertain:
        return scenario_tables.render(market, result, voltage_table(market, result), schedules)
    traded = trades(schedules) if schedules else pd.DataFrame()
    shown = render_voltages(voltage_table(market, result))
    return (shown,) if traded.empty else (shown, render_trades(traded))


def render_voltages(table: pd.DataFrame) -> Table:
    """Every voltage outside its limits before or after."""
    shown = Table(title="Voltages outside their limits", title_justify="left")
    for name in ("bus", "hour", "before (pu)", "after (pu)", "limits (pu)"):
        shown.add_column(name, justify="left" if name in ("bus", "hour") else "right")
    for row in table[outside(table, "v_before_pu") | outside(table, "v_after_pu")].itertuples():
        limits = f"{row.v_min_pu:g}-{row.v_max_pu:g}"
        shown.add_row(row.bus, row.label, f"{row.v_before_pu:.5f}", f"{row.v_after_pu:.5f}", limits)
    if not shown.rows:
        shown.add_row("none", "", "", "", "")
    return shown


def render_trades(table: pd.DataFrame) -> Table:
    """Final signal, change of reactive power and by which device, payment and cost, in every step with a need."""
    shown = Table(title="Reactive power traded, change against the initial schedules", title_justify="left")
    devices = [c for c in table.columns if c.startswith("dq_") and c != "dq_kvar"]
    heads = [f"{device_name(c.removeprefix('dq_').removesuffix('_kvar'))} (kvar)" for c in devices]
    names = ["LEC", "hour", "final TS (SEK/kvarh)", "change (kvar)", *heads, "payment (SEK)", "cost (SEK)"]
    for name in names:
        shown.add_column(name, justify="left" if name in ("LEC", "hour") else "right")
    for _, row in table.iterrows():
        parts = ["-" if pd.isna(row[c]) else f"{row[c]:.2f}" for c in devices]
        money = (f"{row.payment_sek:.3f}", f"{row.cost_sek:.3f}")
        shown.add_row(row.unit, row.label, f"{row.price_sek_per_kvarh:.4f}", f"{row.dq_kvar:.2f}", *parts, *money)
    return shown
