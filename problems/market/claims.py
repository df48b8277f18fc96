"""The claims of paper 1 beside what our runs show: python -m problems.market.claims RESULT [RESULT ...] [--markdown].

RESULT is a result folder. One table for voltage reduction (section IV.A), one for voltage rise (IV.B), a column for
each folder. Verdicts: "holds", "differs", and "by construction" where the case was fitted or chosen so that it must
come out: such rows are no evidence.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from problems.market.claim_checks import (
    Finding,
    Folder,
    Judge,
    also_absorbs,
    contributes,
    dearer_but_less,
    no_shedding,
    not_comparable,
    one_sin_phi,
    pv_is_main,
    secure,
    secure_in,
    sells,
    signals_rise,
    violations_at,
)


@dataclass(frozen=True)
class Claim:
    """What the paper says, and how a folder is judged by it."""

    text: str
    paper: str
    judge: Judge


REDUCTION = (
    Claim(
        "Voltages outside 0.95-1.05 pu (bus, hour)",
        "(2, 14:00), (7, 17:00)",
        violations_at(("2", "14:00"), ("7", "17:00")),
    ),
    Claim("Secure in 6 rounds", "6", secure_in(6)),
    Claim("The signals rise in every round", "Fig. 6", signals_rise),
    Claim("The signal for LEC1 is higher, LEC2 sells more", "Table I", dearer_but_less("LEC1", "LEC2")),
    Claim("LEC1 gives 10.096 kvar at 14:00", "7.698 + 2.398 (printed 10.0096)", sells("LEC1", "14:00", 10.096)),
    Claim("LEC2 gives 50.745 kvar at 17:00", "50.47 + 0.275", sells("LEC2", "17:00", 50.745)),
    Claim("PV is the main source in both", "76 %, 99 %", pv_is_main),
    Claim("The CHP contributes at LEC1", "2.398 kvar", contributes("LEC1", "boiler_chp", 0.5)),
    Claim("The smart boiler contributes a little at LEC2", "0.275 kvar", contributes("LEC2", "smart_boiler", 0.05)),
    Claim("No reactive load is shed", "none", no_shedding),
    Claim("All devices of an LEC work at one sin(phi)", "follows from (1)-(7)", one_sin_phi),
)

RISE = (
    Claim("Voltages outside 0.95-1.05 pu (bus, hour)", "(2, 14:00)", violations_at(("2", "14:00"))),
    Claim("The DSO keeps the voltages within their limits", "Fig. 8", secure),
    Claim("LEC2 absorbs part although the violation is next to LEC1", "Table II", also_absorbs("LEC2")),
    Claim("No reactive load is shed", "none", no_shedding),
    Claim("All devices of an LEC work at one sin(phi)", "follows from (1)-(7)", one_sin_phi),
)


def findings(folders: Sequence[Folder]) -> list[tuple[str, str, list[Finding]]]:
    """Rows (claim, paper's value, a finding for each folder) of one table: folders of one kind, reduction or rise."""
    claims = RISE if folders[0].is_rise else REDUCTION
    rows = [(claim.text, claim.paper, [claim.judge(f) for f in folders]) for claim in claims]
    payments = [f"{f.traded.payment_sek.sum():.3f} SEK" for f in folders]
    rows.append(("What the DSO pays for the changes", "not given", [Finding(p, "-") for p in payments]))
    costs = [f.summary["objective"] for f in folders]
    if all(cost is not None for cost in costs):
        least = min(costs)
        shown = [Finding(f"{cost - least:.4f} SEK above the cheaper one", "-") for cost in costs]
        if len(folders) == 1:
            shown = [Finding(f"{costs[0]:.4f} SEK in all", "-")]
        rows.append(("What the day costs LECs and DSO together", "not given", shown))
    return rows


def heads(folders: Sequence[Folder]) -> list[str]:
    """Column heads: the requirement, with the folder's name where two folders have the same."""
    kinds = [f.requirement for f in folders]
    return [kind if kinds.count(kind) == 1 else f"{kind} ({f.name})" for kind, f in zip(kinds, folders, strict=True)]


def title(folders: Sequence[Folder]) -> str:
    return "Voltage rise (section IV.B)" if folders[0].is_rise else "Voltage reduction (section IV.A)"


def as_markdown(folders: Sequence[Folder]) -> str:
    """One table in Markdown, for the README."""
    columns = ["claim", "paper 1", *heads(folders)]
    lines = [f"**{title(folders)}**", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for text, paper, found in findings(folders):
        cells = [f.value if f.verdict == "-" else f"{f.value}: **{f.verdict}**" for f in found]
        lines.append("| " + " | ".join([text, paper, *cells]) + " |")
    return "\n".join(lines) + "\n"


def as_table(folders: Sequence[Folder]) -> Table:
    """One table for the terminal."""
    table = Table(title=title(folders), title_justify="left", show_lines=True)
    for column in ("claim", "paper 1", *heads(folders)):
        table.add_column(column)
    for text, paper, found in findings(folders):
        table.add_row(text, paper, *(f.value if f.verdict == "-" else f"{f.value}\n[b]{f.verdict}[/b]" for f in found))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m problems.market.claims", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result folder")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, as in the README")
    arguments = parser.parse_args()
    try:
        folders = [Folder.read(path) for path in arguments.results]
    except FileNotFoundError as error:
        parser.error(f"{error.filename} is missing: not the folder of a run that came to its end")
    for why in filter(None, map(not_comparable, folders)):
        parser.error(why)
    for rise in (False, True):
        chosen = sorted((f for f in folders if f.is_rise == rise), key=lambda f: f.requirement)
        if chosen and arguments.markdown:
            print(as_markdown(chosen))
        elif chosen:
            Console().print(as_table(chosen))


if __name__ == "__main__":
    main()
