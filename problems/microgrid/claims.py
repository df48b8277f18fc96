"""What paper 2 says beside what a run shows: python -m problems.microgrid.claims RESULT [--markdown].

RESULT is the result folder of a microgrid. What any microgrid of such units should show is judged by the kinds of its
units; what the paper tells of its own hours and units only where the microgrid is the paper's. Every verdict is found
in the folder's numbers: "holds"; "differs"; "by construction" where it must come out, and is no evidence; "by choice of
series" where it holds with prices that were shifted or exchanged so that it could; "-" where the folder cannot tell.
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
from problems.microgrid.paper_case import Roles, roles

Judge = Callable[[MicrogridFolder], Finding]
Rows = list[tuple["Claim", Finding]]

CHOSEN_SERIES = ("B", "C")  # hours exchanged or shifted, see problems/cases/ercot/SOURCES.md


@dataclass(frozen=True)
class Claim:
    """What the paper says, its number, how a folder is judged by it, and what has to be known of the comparison.

    hours  the outcome depends on which hours are dear, and prices may have been chosen for that
    """

    text: str
    paper: str
    judge: Judge
    why: str = ""
    hours: bool = False

    def found(self, folder: MicrogridFolder) -> Finding:
        found = self.judge(folder)
        if self.hours and found.verdict == "holds" and folder.price_series in CHOSEN_SERIES:
            return Finding(found.value, "by choice of series")
        return found


def of_any(folder: MicrogridFolder) -> list[Claim]:
    """What the paper says of such units in general, as far as the microgrid has them."""
    turbines, renewable, stores = folder.of_kind("mt"), folder.of_kind("solar", "wind"), folder.of_kind("storage")
    claims = [
        Claim("The reactive contract is met in every hour", "300 kvar", judges.contract_is_met, "constraint (53)"),
        Claim("Reactive power is shared between the units", "Section 4", judges.reactive_is_shared,
              "losses rise with reactive power; units of the same marginal loss may share it in any way"),
    ]  # fmt: skip
    if turbines:
        claims += [
            Claim("Regulation down is the energy sold less the turbines' minimum power, in every hour",
                  "24 of 24 hours, .6 MW", judges.regulation_down_is_free,
                  "regulation down costs next to nothing, so each unit offers all it can, eq. (45)"),
            Claim("The turbines offer more services when energy is cheap", "Section 3.4", judges.services_when_cheap),
        ]  # fmt: skip
    if renewable:
        claims.append(
            Claim("Renewable units sell mostly energy", "Figs. 18, 19", judges.mostly_energy(*renewable))
        )  # fmt: skip
    if stores:
        claims += [
            Claim("The state of every store follows (54)", "Tables 6 and 7, but for hour 7",
                  judges.state_follows_its_equation, "the model's own equation"),
            Claim("The stores sell at a higher price than they are charged at", "Section 3.4", judges.buys_low),
        ]  # fmt: skip
    if folder.curves is not None:
        claims.append(
            Claim("More is offered at a higher price, on every bidding curve", "Figs. 22, 23", judges.curves_rise)
        )  # fmt: skip
    return claims


def of_paper(r: Roles) -> list[Claim]:
    """What the paper tells of its own units and hours and its model can show."""
    return [
        Claim("The store sells its energy at", "15, 16 h; 17 h as regulation up", judges.store_sells_at(15, 16, 17),
              "the three dearest hours of series B and C", hours=True),
        Claim("A full hour of discharge delivers", "1.8 MWh of 2 MWh of state", judges.full_hour,
              "Table 4, (54), (56)"),
        Claim("The store is full before it sells", "100 % at 14 h", judges.store_is_full(14), hours=True),
        Claim("The store is empty after", "17 h", judges.store_is_empty_after(17), hours=True),
        Claim("Without a limit on its discharge the store sells all in the dearest hour", "15 h",
              judges.all_in_the_dearest_hour(r.ess), "the case solved again without the limit"),
        Claim("Energy and regulation up together are 1.4 MW at 6, 8, 9, 10 h", "1.4000 each", judges.both_are(1.4)),
        Claim("Ramp of MT2 from 14 to 15 h", "1.0 MW, its limit", judges.ramp(r.mt2, 14, 15, 1.0), hours=True),
        Claim("PV gives no reactive power in the early hours", "none from 1 to 6 h", judges.no_reactive(r.pv, 6),
              "without power the converter is switched off"),
        Claim("MT2 has more of regulation up than its size explains", "\"the highest participation\", Section 3.4",
              judges.largest_in(r.mt2, "regulation_up_mw"), "against its share of what the turbines can be ramped up"),
        Claim("A MWh of MT2 costs more than one of MT1", "Fig. 15", judges.dearer(r.mt2, r.mt1),
              "per MWh: MT2 is twice as large, and costs more in a day for that alone"),
        Claim("Fewer calls give MT2 more of the services", "Section 4", judges.more_when_called_less(r.mt2),
              "the case solved again with half of the call probabilities"),
        Claim("Twice the price more than doubles MT1's offer (13 h)", "Fig. 23", judges.curve_doubles(r.mt1, 13),
              "from the price of the hour to twice that price"),
    ]  # fmt: skip


def doubtful(r: Roles) -> list[Claim]:
    """What the paper says and its own figures, or the day's prices, speak against."""
    return [
        Claim("MT2 runs at its minimum while MT1 is above it", "usually", judges.at_minimum_while(r.mt2, r.mt1),
              "by Table 3 moving 1 MWh from MT1 to MT2 saves 3.4 $ where both are near their minimum; it fits if b2 of "
              "the turbines is exchanged (a hint, no more: --set mt.MT1.b2=1.5 --set mt.MT2.b2=2.0)"),
        Claim("No regulation up at 3 and 4 h", ".0008, .0000 MW", judges.none_of("regulation_up_mw", 3, 4),
              "turbines at part load have the power left: they sell it where its price covers the fuel of a call"),
        Claim("The store charges until", "14 h", judges.charges_until(14),
              "energy towards 14 h is dearer on the real day than at night", hours=True),
        Claim("Energy sold rises from 14 to 18 h", "said; Table 7: 1.4000, 6.0023, 4.9051, 1.6908, .6000",
              judges.rises("energy_mw", 14, 18), "contradicts the paper's own Table 7"),
        Claim("PV offers spinning reserve at 18 h", "Fig. 18", judges.offers(r.pv, "spinning_mw", 18),
              "depends on the reserve prices of that hour, which were not found and are reconstructed", hours=True),
    ]  # fmt: skip


def findings(folder: MicrogridFolder) -> list[tuple[str, Rows]]:
    """The parts of the table: each claim with what the run shows."""
    papers = roles(folder.units_table, folder.hours)
    parts = [("What any such microgrid should show", of_any(folder))]
    if papers is not None:
        parts += [
            ("What can be compared", of_paper(papers)),
            ("What the paper's own figures speak against", doubtful(papers)),
        ]
    return [(title, [(claim, claim.found(folder)) for claim in claims]) for title, claims in parts]


def as_markdown(folder: MicrogridFolder) -> str:
    """All parts as tables in Markdown."""
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
    """All parts for the terminal."""
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
