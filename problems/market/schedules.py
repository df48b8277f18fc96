"""What the schedule files of a result folder say: reactive power by device, and what was traded.

schedule_<unit>.csv has one row for each scenario and step: time (its beginning), label and hour (its name), node,
need (the step is in t^Q), price, change of reactive power at the PCC, payment and cost, then every series of
the unit's own solution: p_<device>_kw, q_<device>_kvar, q_<device>_initial_kvar, ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from decomp.messages import FloatArray
from problems.lec.opportunity import excess

NAMES = {"pv": "PV", "boiler_chp": "CHP", "smart_boiler": "smart boiler"}
EXCHANGE = ("import", "load")  # series of the community itself, not of a device
_REACTIVE = re.compile(r"^q_(?P<device>.+?)(?P<initial>_initial)?_kvar$")


def device_name(kind: str) -> str:
    """How a reader calls a device."""
    return NAMES.get(kind, kind.replace("_", " "))


def reactive_by_device(schedule: pd.DataFrame, *, initial: bool = False) -> dict[str, FloatArray]:
    """Reactive power in kvar by kind of device, injected positive; pv1, pv2, ... are added up as pv."""
    found: dict[str, FloatArray] = {}
    for column in schedule.columns:
        match = _REACTIVE.match(str(column))
        if match and bool(match["initial"]) == initial and match["device"] not in EXCHANGE:
            kind = re.sub(r"\d+$", "", match["device"])
            found[kind] = found.get(kind, np.zeros(len(schedule))) + schedule[column].to_numpy(float)
    return found


def worst_node(schedule: pd.DataFrame) -> tuple[str, str]:
    """Node and label of the step whose price ends furthest from neutral."""
    row = (schedule.price_sek_per_kvarh - schedule.neutral_sek_per_kvarh).abs().idxmax()
    return str(schedule.node[row]), str(schedule.label[row])


def trades_by_device(schedules: Mapping[str, pd.DataFrame], dt_h: float) -> pd.DataFrame:
    """One row for each device and step with a need: paper 1, Tables I and II, in full.

    At the final active power p of each device, its surplus is what it is paid less what the change costs it,

        profit = TS dq dt - lambda_e (excess(p, q) - excess(p, q_initial)) dt,   excess(p, q) = sqrt(p^2 + q^2) - p

    Where no device changes its active power a community's surplus is the sum over its devices, and this is the Shapley
    value of each. Where active power shifts between devices, what that costs is in the community's cost and not here.
    """
    rows = []
    for unit, schedule in schedules.items():
        needed = schedule[schedule.need]
        initial = [str(c) for c in needed if str(c).startswith("q_") and str(c).endswith("_initial_kvar")]
        devices = [c.removeprefix("q_").removesuffix("_initial_kvar") for c in initial]
        for device in (d for d in devices if d not in EXCHANGE and f"q_{d}_kvar" in needed):
            final, first = needed[f"q_{device}_kvar"], needed[f"q_{device}_initial_kvar"]
            cost = pd.Series(0.0, index=needed.index)
            if f"sin_phi_{device}" in needed:
                p = needed[f"p_{device}_kw"].abs().to_numpy(float)
                lost_kw = excess(p, final.to_numpy(float)) - excess(p, first.to_numpy(float))
                cost = needed.spot_sek_per_kwh.clip(lower=0.0) * lost_kw * dt_h
            table = needed[["scenario", "time", "label"]].assign(
                unit=unit,
                device=device,
                dq_kvar=final - first,
                price_sek_per_kvarh=needed.price_sek_per_kvarh,
                payment_sek=needed.price_sek_per_kvarh * (final - first) * dt_h,
                opportunity_cost_sek=cost,
            )
            rows.append(table.assign(profit_sek=table.payment_sek - table.opportunity_cost_sek))
    columns = ["unit", "scenario", "time", "label", "device", "dq_kvar", "price_sek_per_kvarh", "payment_sek"]
    columns += ["opportunity_cost_sek", "profit_sek"]
    return pd.concat(rows, ignore_index=True)[columns] if rows else pd.DataFrame(columns=columns)


def trades(schedules: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What every unit sold in every step with a need: paper 1, Tables I and II.

    Columns: unit, scenario, label, price_sek_per_kvarh, dq_kvar (change at the PCC), one dq_<device>_kvar for each kind
    of device, payment_sek = price dq dt, cost_sek (what the change costs the devices in lost active power).
    """
    rows = []
    for unit, schedule in schedules.items():
        final, initial = reactive_by_device(schedule), reactive_by_device(schedule, initial=True)
        columns = ["scenario", "label", "price_sek_per_kvarh", "dq_kvar", "payment_sek", "cost_sek"]
        table = schedule[columns].assign(
            unit=unit, **{f"dq_{kind}_kvar": values - initial[kind] for kind, values in final.items()}
        )
        rows.append(table[schedule.need])
    joined = pd.concat(rows, ignore_index=True)
    devices = [c for c in joined.columns if c.startswith("dq_") and c != "dq_kvar"]
    order = ["unit", "scenario", "label", "price_sek_per_kvarh", "dq_kvar", *devices, "payment_sek", "cost_sek"]
    return joined[order]


def outside(voltages: pd.DataFrame, column: str, tolerance_pu: float = 1e-6) -> pd.Series:
    """Which rows of voltages.csv lie outside their limits in `column`."""
    below, above = (
        voltages[column] < voltages.v_min_pu - tolerance_pu,
        voltages[column] > voltages.v_max_pu + tolerance_pu,
    )
    return below | above


def expected_trades(schedules: Mapping[str, pd.DataFrame], prob: Mapping[str, float]) -> pd.DataFrame:
    """`trades` over all scenarios: one row for each unit and step with a need.

    Columns: unit, label, price_sek_per_kvarh, dq_kvar and payment_sek (expectations), and for every device's change
    and for cost_sek: ..._mean (the expectation), ..._least and ..._most. prob: probability by scenario.
    """
    table = trades(schedules)
    if table.empty:
        return table
    table["pi"] = table.scenario.map(prob)
    spread = [c for c in table.columns if (c.startswith("dq_") and c != "dq_kvar") or c == "cost_sek"]
    rows = []
    for (unit, label), group in table.groupby(["unit", "label"], sort=False):
        row: dict[str, object] = {"unit": unit, "label": label}
        row |= {c: float(group.pi @ group[c]) for c in ("price_sek_per_kvarh", "dq_kvar", "payment_sek")}
        for c in spread:
            row |= {f"{c}_mean": group.pi @ group[c], f"{c}_least": group[c].min(), f"{c}_most": group[c].max()}
        rows.append(row)
    return pd.DataFrame(rows)


def worst_voltages(table: pd.DataFrame) -> pd.DataFrame:
    """The worst scenario of every bus and step in which a voltage leaves its limits before or after.

    Columns: bus, label, v_before_pu and scenario_before (the voltage furthest out, or nearest to a limit), the same
    after, outside_before and outside_after (how many scenarios), v_min_pu, v_max_pu. table: voltages.csv.
    """
    rows = []
    inside = {
        when: np.minimum(table[f"v_{when}_pu"] - table.v_min_pu, table.v_max_pu - table[f"v_{when}_pu"])
        for when in ("before", "after")
    }
    out = {when: outside(table, f"v_{when}_pu") for when in ("before", "after")}
    concerned = table[out["before"] | out["after"]]
    for time, bus in dict.fromkeys(zip(concerned.time, concerned.bus, strict=True)):
        group = table[(table.time == time) & (table.bus == bus)]
        first = group.iloc[0]
        row: dict[str, object] = {"bus": bus, "label": first.label, "v_min_pu": first.v_min_pu}
        row["v_max_pu"] = first.v_max_pu
        for when in ("before", "after"):
            worst = group.loc[inside[when][group.index].idxmin()]
            row |= {f"v_{when}_pu": worst[f"v_{when}_pu"], f"scenario_{when}": worst.scenario}
            row[f"outside_{when}"] = int(out[when][group.index].sum())
        rows.append(row)
    heads = ("before", "after")
    columns = [c for w in heads for c in (f"v_{w}_pu", f"scenario_{w}", f"outside_{w}")]
    return pd.DataFrame(rows, columns=["bus", "label", "v_min_pu", "v_max_pu", *columns])
