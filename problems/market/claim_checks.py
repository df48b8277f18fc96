"""How a result folder is judged by a claim of paper 1: "holds", "differs", or "by construction".

A verdict is "by construction" where the case was fitted or chosen so that it must come out: no evidence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from problems.market.schedules import device_name, outside, trades

KVAR = 0.01  # changes below this are none
SIN_PHI = 0.01


@dataclass(frozen=True, eq=False)
class Folder:
    """A result folder, read."""

    name: str
    summary: dict
    prices: pd.DataFrame
    voltages: pd.DataFrame
    schedules: dict[str, pd.DataFrame]

    @classmethod
    def read(cls, path: Path) -> Folder:
        """Raises FileNotFoundError where a file of the folder is missing."""
        return cls(
            name=path.name,
            summary=json.loads((path / "result.json").read_text(encoding="utf-8")),
            prices=pd.read_csv(path / "prices.csv"),
            voltages=pd.read_csv(path / "voltages.csv", dtype={"bus": str}),
            schedules={
                file.stem.removeprefix("schedule_"): pd.read_csv(file) for file in sorted(path.glob("schedule_*.csv"))
            },
        )

    @property
    def requirement(self) -> str:
        return str(self.summary["case"]["dso"]["requirement"])

    @property
    def violations(self) -> list[tuple[str, str]]:
        """(bus, label) of the voltages outside their limits with the initial schedules."""
        rows = self.voltages[outside(self.voltages, "v_before_pu")]
        return list(dict.fromkeys(zip(rows.bus, rows.label, strict=True)))

    @property
    def is_rise(self) -> bool:
        return bool((self.voltages.v_before_pu > self.voltages.v_max_pu).any())

    @property
    def traded(self) -> pd.DataFrame:
        return trades(self.schedules)

    def main_trade(self, unit: str) -> pd.Series:
        """The unit's trade in the step in which it changes its reactive power most."""
        table = self.traded
        table = table[table.unit == unit]
        return table.loc[table.dq_kvar.abs().idxmax()]


@dataclass(frozen=True)
class Finding:
    """What a run shows of a claim, and the verdict."""

    value: str
    verdict: str


Judge = Callable[[Folder], Finding]


def _said(value: str, holds: bool, *, by_construction: bool = False) -> Finding:
    return Finding(value, "differs" if not holds else "by construction" if by_construction else "holds")


def _where(places: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"({bus}, {label})" for bus, label in places) or "none"


def violations_at(*places: tuple[str, str]) -> Judge:
    """Voltages leave their limits exactly there. The added loads are fitted to it."""
    return lambda f: _said(_where(f.violations), sorted(f.violations) == sorted(places), by_construction=True)


def secure_in(rounds: int) -> Judge:
    """All limits are met after so many rounds. The constants of (9) are not published; ours are chosen."""

    def judge(f: Folder) -> Finding:
        found = secure(f)
        right = found.verdict == "holds" and int(f.summary["iterations"]) == rounds
        return _said(found.value, right, by_construction=True)

    return judge


def secure(f: Folder) -> Finding:
    """All voltages are inside their limits in an AC power flow of the final schedules."""
    inside, rounds = not outside(f.voltages, "v_after_pu").any(), int(f.summary["iterations"])
    return _said(f"{rounds} rounds ({f.summary['status']})" if inside else f"not after {rounds} rounds", inside)


def signals_rise(f: Folder) -> Finding:
    """The signal of every unit, at its step of the largest trade, rises (in size) in every round."""
    values, rising = [], True
    for unit, schedule in f.schedules.items():
        label = f.main_trade(unit).label
        node = schedule.node[schedule.label == label].iloc[0]
        series = f.prices.price[f.prices.node == node].to_numpy()
        rising &= bool(np.all(np.diff(np.abs(series)) >= -1e-12)) and len(series) > 1
        values.append(f"{unit} {series[0]:.3f} to {series[-1]:.3f}")
    return _said("; ".join(values), rising)


def dearer_but_less(first: str, second: str) -> Judge:
    """The signal of `first` ends above that of `second`, which sells more."""

    def judge(f: Folder) -> Finding:
        a, b = f.main_trade(first), f.main_trade(second)
        value = (
            f"{a.price_sek_per_kvarh:.3f} for {a.dq_kvar:.1f} kvar ({first}), "
            f"{b.price_sek_per_kvarh:.3f} for {b.dq_kvar:.1f} ({second})"
        )
        return _said(value, a.price_sek_per_kvarh > b.price_sek_per_kvarh and b.dq_kvar > a.dq_kvar)

    return judge


def sells(unit: str, label: str, kvar: float) -> Judge:
    """The unit gives so much (within 5 %) at that hour. The added loads are fitted to it."""

    def judge(f: Folder) -> Finding:
        table = f.traded
        given = float(table.dq_kvar[(table.unit == unit) & (table.label == label)].sum())
        close = abs(given - kvar) <= 0.05 * abs(kvar)
        return _said(f"{given:.2f} kvar", close, by_construction=True)

    return judge


def pv_is_main(f: Folder) -> Finding:
    """PV gives more than half of the change, in every unit. The sizes of the devices are chosen to it."""
    shares = {unit: (t := f.main_trade(unit)).dq_pv_kvar / t.dq_kvar for unit in f.schedules}
    value = ", ".join(f"{share:.0%} ({unit})" for unit, share in shares.items())
    return _said(value, all(share > 0.5 for share in shares.values()), by_construction=True)


def contributes(unit: str, kind: str, at_most: float) -> Judge:
    """The device helps its unit: more than nothing, at most this share. The sizes of the devices are chosen to it."""

    def judge(f: Folder) -> Finding:
        trade = f.main_trade(unit)
        given = float(trade.get(f"dq_{kind}_kvar", 0.0))
        share = given / trade.dq_kvar
        value = f"{given:.2f} of {trade.dq_kvar:.2f} kvar"
        return _said(value, abs(given) > KVAR and 0 < share <= at_most, by_construction=True)

    return judge


def no_shedding(f: Folder) -> Finding:
    """The DSO sheds no reactive load."""
    shed = float(f.voltages.shed_kvar.abs().sum())
    return _said(f"{shed:.3f} kvar", shed <= KVAR)


def one_sin_phi(f: Folder) -> Finding:
    """Every device works at sin(phi) = TS / lambda_e, or below it where it has reached a limit of its own."""
    values, holds = [], True
    for unit, schedule in f.schedules.items():
        row = schedule[schedule.label == f.main_trade(unit).label].iloc[0]
        target = row.price_sek_per_kvarh / row.spot_sek_per_kwh
        found: dict[str, list[float]] = {}
        for column in (c for c in schedule.columns if c.startswith("sin_phi_")):
            device = column.removeprefix("sin_phi_")
            if abs(row[f"p_{device}_kw"]) > KVAR:
                found.setdefault(device.rstrip("0123456789"), []).append(float(row[column]))
        at_target = [abs(x - target) <= SIN_PHI for kind in found.values() for x in kind]
        holds &= any(at_target) and all(abs(x) <= abs(target) + SIN_PHI for kind in found.values() for x in kind)
        shown = ", ".join(f"{device_name(kind)} {np.mean(x):.3f}" for kind, x in found.items())
        values.append(f"{unit}: {shown} (TS/lambda_e {target:.3f})")
    return _said("; ".join(values), holds)


def also_absorbs(unit: str) -> Judge:
    """The unit away from the violation absorbs a part as well."""

    def judge(f: Folder) -> Finding:
        given = {u: f.main_trade(u).dq_kvar for u in f.schedules}
        value = ", ".join(f"{u} {kvar:.2f} kvar" for u, kvar in given.items())
        return _said(value, given[unit] < -KVAR)

    return judge


def not_comparable(folder: Folder) -> str:
    """Why the paper's claims say nothing about this folder; empty where they do."""
    if set(folder.schedules) != {"LEC1", "LEC2"}:
        return f"{folder.name} has {', '.join(folder.schedules) or 'no schedules'}; the claims are about LEC1 and LEC2"
    if folder.traded.empty:
        return f"{folder.name}: nothing was traded, no voltage left its limits; the claims are about hours with a need"
    return ""
