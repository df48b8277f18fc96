"""What paper 2 says beside what a run shows: python -m problems.microgrid.claims RESULT [--markdown].

RESULT is the result folder of a microgrid. Verdicts: "holds"; "differs"; "by construction" where it must come out, and
is no evidence; "cannot match" where the paper contradicts itself or what is known, with the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from problems.microgrid import claim_checks as judges
from problems.microgrid.claim_checks import Finding
from problems.microgrid.folder import MicrogridFolder

Judge = Callable[[MicrogridFolder], Finding]


@dataclass(frozen=True)
class Claim:
    """What the paper says, its number, how a folder is judged by it, and what has to be known of the comparison."""

    text: str
    paper: str
    judge: Judge
    why: str = ""


COMPARED = (
    Claim(
        "Regulation down is the energy sold less the turbines' minimum power, in every hour",
        "24 of 24 hours, .6 MW",
        judges.regulation_down_is_free,
        "regulation down costs next to nothing, so each unit offers all it can, eq. (45)",
    ),
    Claim(
        "Table 6 is (54) applied to the charge and discharge of Table 7",
        "23 of 24 hours; hour 7 prints .4150 MW, its state needs .3709",
        judges.state_follows_its_equation,
        "the model's own equation; hour 7 is a misprint of the paper",
    ),
    Claim("The store sells its energy at", "15, 16 h; 17 h as regulation up", judges.store_sells_at(15, 16, 17)),
    Claim("A full hour of discharge delivers", "1.8 MWh of 2 MWh of state", judges.full_hour, "Table 4, (54), (56)"),
    Claim("The store is full before it sells", "100 % at 14 h", judges.store_is_full(14)),
    Claim("The store is empty after", "17 h", judges.store_is_empty_after(17)),
    Claim("Energy and regulation up together are 1.4 MW at 6, 8, 9, 10 h", "1.4000 each", judges.both_are(1.4)),
    Claim("Ramp of MT2 from 14 to 15 h", "1.0 MW, its limit", judges.ramp("MT2", 14, 15, 1.0)),
    Claim("The reactive contract is met in every hour", "300 kvar", judges.contract_is_met, "constraint (53)"),
    Claim("PV gives no reactive power in the early hours", "none from 1 to 6 h", judges.no_reactive("PV", 6),
          "without power the converter is switched off"),
    Claim("Renewable units sell mostly energy", "Figs. 18, 19", judges.mostly_energy("PV", "WT")),
    Claim("The turbines offer more services when energy is cheap", "Section 3.4", judges.services_when_cheap),
    Claim("MT2 has the largest share of regulation up", "Section 3.4", judges.largest_in("MT2", "regulation_up_mw")),
    Claim("MT2 costs more to run than MT1", "Fig. 15", judges.dearer("MT2", "MT1")),
    Claim("The microgrid offers more energy at a higher price (21 h)", "Fig. 22", judges.curve_rises("MG", 21)),
    Claim("Twice the price more than doubles MT1's offer (13 h)", "Fig. 23", judges.curve_doubles("MT1", 13)),
)  # fmt: skip

IMPOSSIBLE = (
    Claim(
        "MT2 runs at its minimum while MT1 is above it",
        "usually",
        judges.at_minimum_while("MT2", "MT1"),
        "contradicts Table 3 in any reading of its units: moving 1 MWh from MT1 to MT2 saves 3.4 $ there. It fits if "
        "b2 of the turbines is exchanged (a hint, no more: --set mt.MT1.b2=1.5 --set mt.MT2.b2=2.0)",
    ),
    Claim(
        "No regulation up at 3 and 4 h",
        ".0008, .0000 MW",
        judges.sum_of("regulation_up_mw", 3, 4),
        "contradicts any positive price of regulation up: the turbines run at part load and have the power left",
    ),
    Claim(
        "The store charges until",
        "14 h",
        judges.charges_until,
        "energy towards 14 h is dearer on the real day than at night: the store would be filled at night and in the "
        "morning, and is",
    ),
    Claim(
        "Energy sold rises from 14 to 18 h",
        "said; Table 7: 1.4000, 6.0023, 4.9051, 1.6908, .6000",
        judges.values("energy_mw", 14, 18),
        "contradicts the paper's own Table 7",
    ),
    Claim(
        "PV offers spinning reserve at 18 h",
        "Fig. 18",
        judges.unit_value("PV", "spinning_mw", 18),
        "depends on the reserve prices of that hour, which were not found and are reconstructed",
    ),
)

PARTS = (("What can be compared", COMPARED), ("What cannot match", IMPOSSIBLE))


def findings(folder: MicrogridFolder) -> list[tuple[str, list[tuple[Claim, Finding]]]]:
    """Both parts of the table: each claim with what the run shows."""
    out = []
    for title, claims in PARTS:
        rows = [(claim, claim.judge(folder)) for claim in claims]
        if claims is IMPOSSIBLE:
            rows = [(claim, Finding(found.value, "cannot match")) for claim, found in rows]
        out.append((title, rows))
    return out


def as_markdown(folder: MicrogridFolder) -> str:
    """Both parts as tables in Markdown."""
    lines: list[str] = []
    for title, rows in findings(folder):
        lines += [f"**{title}**", "", "| claim | paper 2 | this run | verdict | why |", "|---|---|---|---|---|"]
        lines += [
            f"| {claim.text} | {claim.paper} | {found.value} | **{found.verdict}** | {claim.why} |"
            for claim, found in rows
        ]
        lines.append("")
    return "\n".join(lines)


def as_tables(folder: MicrogridFolder) -> Sequence[Table]:
    """Both parts for the terminal."""
    shown = []
    for title, rows in findings(folder):
        table = Table(title=title, title_justify="left", show_lines=True)
        for column in ("claim", "paper 2", "this run", "verdict", "why"):
            table.add_column(column)
        for claim, found in rows:
            table.add_row(claim.text, claim.paper, found.value, found.verdict, claim.why)
        shown.append(table)
    return shown


def table(folder: MicrogridFolder) -> pd.DataFrame:
    """Columns part, claim, paper, run, verdict, why: one row for each claim."""
    rows = [
        (title, claim.text, claim.paper, found.value, found.verdict, claim.why)
        for title, judged in findings(folder)
        for claim, found in judged
    ]
    return pd.DataFrame(rows, columns=["part", "claim", "paper", "run", "verdict", "why"])


def write(folder: Path) -> Path:
    """Write claims.csv beside the files it is read from. Raises FileNotFoundError where one of them is missing."""
    table(MicrogridFolder.read(folder)).to_csv(folder / "claims.csv", index=False, lineterminator="\n")
    return folder / "claims.csv"


def compact(claims: pd.DataFrame) -> Table:
    """claims.csv for the terminal: a line or two for each claim, without the reasons."""
    shown = Table(title="Paper 2's claims; the reasons are in claims.csv", title_justify="left", box=box.SIMPLE_HEAD,
                  padding=(0, 1, 0, 0))  # fmt: skip
    for column in ("claim", "paper 2", "this run", "verdict"):
        shown.add_column(column)
    for row in claims.itertuples():
        shown.add_row(str(row.claim), str(row.paper), str(row.run), str(row.verdict))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m problems.microgrid.claims", description=__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT", help="result folder of a microgrid")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, as in docs/microgrid.md")
    arguments = parser.parse_args()
    try:
        folder = MicrogridFolder.read(arguments.result)
    except FileNotFoundError as error:
        parser.error(f"{error.filename} is missing: not the folder of a microgrid's run that came to its end")
    if arguments.markdown:
        print(as_markdown(folder))
        return
    console = Console()
    for table in as_tables(folder):
        console.print(table)


if __name__ == "__main__":
    main()
