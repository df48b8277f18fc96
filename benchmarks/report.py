"""From finished runs to tables: one row a run, one row a round, counts, profiles, and who beats whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.figures import draw_all
from benchmarks.page import write_page
from benchmarks.plan import Plan, Run

Found = Sequence[tuple[Run, Mapping[str, Any]]]
METRICS = ("rounds", "block_solves")
RATIOS = np.geomspace(1, 32, 61)  # horizontal axis of a performance profile


def write_report(plan: Plan, found: Found, out: Path, command: str) -> list[Path]:
    """Write all tables, figures and the page into `out`; returns what was written."""
    out.mkdir(parents=True, exist_ok=True)
    tolerances = plan.settings.tolerances
    runs, rounds = runs_table(found, tolerances), rounds_table(found)
    default = runs[runs.start_factor.isna()]
    tables = {
        "runs": runs,
        "rounds": rounds,
        "summary": summary(default, tolerances),
        "profiles": pd.concat([profiles(default, m, tolerances[-1]) for m in METRICS], ignore_index=True),
        "pairwise": pd.concat([pairwise(default, m, tolerances[-1]) for m in METRICS], ignore_index=True),
        "start_values": start_values(runs, tolerances[-1]),
        "by_prices": by_prices(default, tolerances[-1]),
    }
    paths = []
    for name, table in tables.items():
        path = out / f"{name}.csv{'.gz' if name == 'rounds' else ''}"
        # a gzip header holds a time unless told otherwise: equal tables, equal files
        packed: Any = {"method": "gzip", "mtime": 0} if path.suffix == ".gz" else None
        table.to_csv(path, index=False, float_format="%.8g", compression=packed, lineterminator="\n")
        paths.append(path)
    figures = draw_all(tables, tolerances[-1], out)
    return [*paths, *figures, write_page(plan, tables, figures, out, command)]


def runs_table(found: Found, tolerances: Sequence[float]) -> pd.DataFrame:
    """One row a run; counts to a gap are infinite where it was not reached."""
    return pd.DataFrame([_run_row(i, run, outcome, tolerances) for i, (run, outcome) in enumerate(found)])


def _run_row(i: int, run: Run, o: Mapping[str, Any], tolerances: Sequence[float]) -> dict[str, Any]:
    rows = o["rows"]
    gaps = np.array([np.inf if r["gap"] is None else r["gap"] for r in rows])
    known = o.get("reference") or {}
    lower = max((r["lower_bound"] for r in rows if r["lower_bound"] is not None), default=np.nan)
    upper = min((r["upper_bound"] for r in rows if r["upper_bound"] is not None), default=np.nan)
    optimum = known.get("optimum", np.nan)
    row = {
        "run": i,
        "instance": run.instance.label,
        "group": run.instance.group,
        "blocks": o.get("blocks") or run.instance.chosen.get("synthetic.blocks"),
        "prices": o.get("prices") or run.instance.chosen.get("synthetic.prices"),
        "rule": run.variant,
        "start_factor": np.nan if run.factor is None else run.factor,
        "status": o["status"],
        "message": " ".join(str(o.get("message", "")).split()),
        "measure": run.instance.measure,
        "rounds": len(rows),
        "block_solves": rows[-1]["block_solves"] if rows and "block_solves" in rows[-1] else 0,
        "wall_time_s": rows[-1].get("wall_time_s", np.nan) if rows else np.nan,
        "gap": float(gaps.min(initial=np.inf)),
        "lower_bound": lower,
        "upper_bound": upper,
        "optimum": optimum,
        "lagrangian_bound": known.get("lagrangian", np.nan),
        "optimum_proven": known.get("proven"),
        "upper_excess": (upper - optimum) / abs(optimum) if optimum else np.nan,
    }
    for tolerance in tolerances:
        reached = np.flatnonzero(gaps <= tolerance)
        first = int(reached[0]) if len(reached) else None
        row[f"rounds_to_{tolerance:g}"] = np.inf if first is None else rows[first]["round"] + 1
        row[f"block_solves_to_{tolerance:g}"] = np.inf if first is None else rows[first].get("block_solves", np.inf)
    return row


def rounds_table(found: Found) -> pd.DataFrame:
    """One row a round, `run` as in runs.csv."""
    columns = ["run", "round", "block_solves", "wall_time_s", "solver_time_s", "lower_bound", "upper_bound", "gap"]
    rows = [{"run": i, **row} for i, (_, outcome) in enumerate(found) for row in outcome["rows"]]
    return pd.DataFrame(rows, columns=[*columns, "mismatch"])


def summary(runs: pd.DataFrame, tolerances: Sequence[float]) -> pd.DataFrame:
    """By group and rule: how many runs, how many reached the smallest gap, median and largest counts to each gap."""
    rows = []
    for (group, rule), some in runs.groupby(["group", "rule"], sort=False):
        reached = np.isfinite(some[f"rounds_to_{tolerances[-1]:g}"])
        row = {"group": group, "rule": rule, "runs": len(some), "reached": int(reached.sum())}
        for tolerance in tolerances:
            for metric in METRICS:
                count = some[f"{metric}_to_{tolerance:g}"].to_numpy(float)
                row[f"{metric}_to_{tolerance:g}_median"] = _median(count)
                row[f"{metric}_to_{tolerance:g}_max"] = float(count.max())
        row["upper_excess_median"] = _median(some.upper_excess.dropna().to_numpy(float))
        rows.append(row)
    return pd.DataFrame(rows)


def _median(values: np.ndarray) -> float:
    """Of an even number the upper of the middle two: half of them reach it, and an infinite one counts as one."""
    return float(np.sort(values)[len(values) // 2]) if len(values) else np.nan


def profiles(runs: pd.DataFrame, metric: str, tolerance: float) -> pd.DataFrame:
    """Share of a group's instances on which a rule needs at most `ratio` times the least count of all rules.

    rho_s(tau) = |{p : t_ps <= tau min_s t_ps}| / |P|; failures have t = inf. Dolan and More (2002).
    """
    rows = []
    for group, count in _counts(runs, metric, tolerance):
        best = count.min(axis=1)
        ratio = count.div(best, axis=0).where(np.isfinite(count), np.inf)
        for rule in count.columns:
            for tau in RATIOS:
                share = float(np.mean(ratio[rule] <= tau * (1 + 1e-12)))
                rows.append({"group": group, "metric": metric, "rule": rule, "ratio": tau, "share": share})
    return pd.DataFrame(rows, columns=["group", "metric", "rule", "ratio", "share"])


def pairwise(runs: pd.DataFrame, metric: str, tolerance: float) -> pd.DataFrame:
    """Who needs less than whom, and on what share of the instances; ties and common failures are nobody's.

    A profile over many rules ranks them against the best of all, which says nothing of two of them alone (Gould and
    Scott 2016): `agrees` tells whether the profile at ratio 2 puts the two into the same order.
    """
    rows = []
    for group, count in _counts(runs, metric, tolerance):
        best = count.min(axis=1)
        share = {rule: np.mean((count[rule] <= 2 * best) & np.isfinite(count[rule])) for rule in count.columns}
        for i, a in enumerate(count.columns):
            for b in count.columns[i + 1 :]:
                less, more = np.mean(count[a] < count[b]), np.mean(count[a] > count[b])
                agrees = np.sign(less - more) * np.sign(share[a] - share[b]) >= 0
                rows.append(
                    {
                        "group": group,
                        "metric": metric,
                        "rule": a,
                        "other": b,
                        "less": less,
                        "more": more,
                        "agrees": bool(agrees),
                    }
                )
    return pd.DataFrame(rows, columns=["group", "metric", "rule", "other", "less", "more", "agrees"])


def _counts(runs: pd.DataFrame, metric: str, tolerance: float) -> list[tuple[str, pd.DataFrame]]:
    """Per group: counts with one row an instance and one column a rule; a rule not asked there has failed there."""
    column = f"{metric}_to_{tolerance:g}"
    out = []
    for group, some in runs.groupby("group", sort=False):
        table = some.pivot_table(index="instance", columns="rule", values=column, aggfunc="first", sort=False)
        out.append((str(group), table.fillna(np.inf)))
    return out


def start_values(runs: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """By group, rule and start factor: median count of rounds, and share of runs that reached the gap."""
    some = runs[runs.start_factor.notna()]
    column = f"rounds_to_{tolerance:g}"
    rows = [
        {
            "group": group,
            "rule": rule,
            "start_factor": factor,
            "runs": len(same),
            "rounds_median": _median(same[column].to_numpy(float)),
            "rounds_max": float(same[column].max()),
            "reached": float(np.mean(np.isfinite(same[column]))),
        }
        for (group, rule, factor), same in some.groupby(["group", "rule", "start_factor"], sort=False)
    ]
    return pd.DataFrame(
        rows, columns=["group", "rule", "start_factor", "runs", "rounds_median", "rounds_max", "reached"]
    )


def by_prices(runs: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """By group, rule and number of prices: median count of rounds."""
    column = f"rounds_to_{tolerance:g}"
    rows = [
        {"group": g, "rule": r, "prices": int(n), "rounds_median": _median(same[column].to_numpy(float))}
        for (g, r, n), same in runs.dropna(subset=["prices"]).groupby(["group", "rule", "prices"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["group", "rule", "prices", "rounds_median"])
