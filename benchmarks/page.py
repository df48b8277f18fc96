"""The page of a benchmark: what was run, the summary as tables, every figure, and the command that makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.plan import Plan

CAPTIONS = {
    "gap_rounds": "Median gap against rounds. A run that has ended keeps its last gap; lines end where the median run "
    "has no certificate.",
    "gap_block_solves": "Median gap against block solves a block, sweeps and evaluations of the certificates included.",
    "gap_wall_time": "Median gap against wall time on one core. Blocks answer within microseconds to milliseconds, "
    "so that this mostly weighs the rules' own work and the certificates.",
    "profile_rounds": "Performance profiles (Dolan and Moré 2002) of rounds to the smallest gap; failures count as "
    "infinite.",
    "profile_block_solves": "The same of block solves.",
    "start_values": "Median rounds from start values that are wrong by up to a hundred; × = not reached.",
    "rounds_by_prices": "Median rounds against the number of prices.",
}
MEASURES = {
    "gap": "(UB - LB) / |UB|",
    "coordination": "(UB - LB) / (UB - LB at the neutral price)",
    "lagrangian": "(D* - LB) / |D*|, D* the best bound that prices can prove",
}


def write_page(
    plan: Plan, tables: Mapping[str, pd.DataFrame], figures: Sequence[Path], out: Path, command: str
) -> Path:
    """index.md beside the tables and figures."""
    runs, s = tables["runs"], plan.settings
    lines = [
        f"# {s.title}",
        "",
        f"    {command}",
        "",
        f"writes this page, its tables and its figures. {len(runs)} of {len(plan.runs)} runs are done, on "
        f"{runs.instance.nunique()} instances, each for at most {s.max_rounds} rounds and {s.time_limit_s:g} s; their "
        f"own wall time adds up to {runs.wall_time_s.sum() / 3600:.2f} h. Every round is certified. Counts are rounds "
        "(every block solved once) and block solves (those of the certificates included); the median of an even "
        "number is the upper of the middle two; inf = the gap was not reached.",
        "",
    ]
    for group, some in tables["summary"].groupby("group", sort=False):
        measures = "; or ".join(MEASURES[str(m)] for m in runs[runs.group == group].measure.unique())
        lines += [f"## {group}", "", f"Gap: {measures}.", "", *_table(some, s.tolerances), ""]
    lines += ["## Failures", "", *_failures(runs), ""]
    lines += ["## Figures", ""]
    for path in figures:
        lines += [f"![{CAPTIONS[path.stem]}]({path.name})", "", f"{CAPTIONS[path.stem]} `{command}`", ""]
    lines += ["## Pairwise check of the profiles", "", *_pairs(tables["pairwise"]), ""]
    lines += [
        "## Tables",
        "",
        "- `runs.csv`: one row a run, with its status, message, counts, bounds and the reference optimum.",
        "- `rounds.csv.gz`: one row a round of every run (`pandas.read_csv` reads it as it is).",
        "- `summary.csv`, `profiles.csv`, `pairwise.csv`, `start_values.csv`, `by_prices.csv`: what is shown above.",
        "",
    ]
    path = out / "index.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _table(some: pd.DataFrame, tolerances: Sequence[float]) -> list[str]:
    heads = [f"rounds to {t:g}" for t in tolerances] + [f"block solves to {t:g}" for t in tolerances]
    out = [f"| rule | reached | {' | '.join(heads)} | UB above optimum |", f"|---|---|{'---|' * (len(heads) + 1)}"]
    last = f"rounds_to_{tolerances[-1]:g}_median"
    for row in some.sort_values(["reached", last], ascending=[False, True], kind="stable").to_dict("records"):
        counts = [
            f"{_number(row[f'{metric}_to_{t:g}_median'])} ({_number(row[f'{metric}_to_{t:g}_max'])})"
            for metric in ("rounds", "block_solves")
            for t in tolerances
        ]
        excess = row["upper_excess_median"]
        shown = "-" if np.isnan(excess) else f"{100 * max(excess, 0.0):.3f} %"
        out.append(f"| {row['rule']} | {row['reached']}/{row['runs']} | {' | '.join(counts)} | {shown} |")
    return [*out, "", "Median (largest) of all runs."]


def _number(value: float) -> str:
    return "inf" if np.isinf(value) else f"{value:.0f}"


def _failures(runs: pd.DataFrame) -> list[str]:
    """How the runs ended, by rule, and one message of each sort."""
    out = ["| rule | ended as | runs | for instance |", "|---|---|---|---|"]
    good = ("certified", "certified_linearised")
    bad = runs[~runs.status.isin(good)]
    for (rule, status), some in bad.groupby(["rule", "status"], sort=False):
        message = str(some.message.iloc[0]).replace("|", "/")
        message = message if len(message) <= 160 else message[:157] + "..."
        out.append(f"| {rule} | {status} | {len(some)} | {some.instance.iloc[0]}: {message} |")
    return out if len(bad) else ["Every run reached its gap."]


def _pairs(table: pd.DataFrame) -> list[str]:
    """Which orders of the profiles (at ratio 2) are turned round when two rules are compared alone."""
    out = []
    for (group, metric), some in table.groupby(["group", "metric"], sort=False):
        wrong = some[~some.agrees]
        name = f"{group}, {metric.replace('_', ' ')}"
        if not len(wrong):
            out.append(f"- {name}: all {len(some)} pairs are in the order of the profiles.")
            continue
        told = "; ".join(f"{r.rule} / {r.other} ({r.less:.0%} : {r.more:.0%})" for r in wrong.head(6).itertuples())
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        out.append(
            f"- {name}: {len(wrong)} of {len(some)} pairs stand the other way when compared alone: {told}{more}."
        )
    return out
