"""What a run of the microgrid's case shows: tables, figures and claims, all made of the files of its folder."""

from __future__ import annotations

import shutil
from functools import cache
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from paths import ROOT
from rich.console import Console

from decomp.case.config import load
from decomp.errors import InputError
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.result import Result
from problems.market.figures import STYLE
from problems.microgrid import claim_checks as judges
from problems.microgrid import claims, figures, frontier, tables
from problems.microgrid.figures_bids import unit_bids
from problems.microgrid.figures_curves import bidding_curves
from problems.microgrid.folder import QUANTITIES, MicrogridFolder, read
from problems.microgrid.problem import Microgrid

CASE = ROOT / "problems" / "cases" / "ercot_microgrid.toml"
CURVES = pd.DataFrame(
    {
        "unit": ["MG"] * 3 + ["MT1"] * 3,
        "hour": [21.0] * 3 + [13.0] * 3,
        "price_usd_per_mwh": [20.0, 40.0, 60.0, 20.0, 62.86, 125.72],  # 62.86 is the price of 13 h
        "energy_mw": [1.0, 2.0, 2.5, 0.2, 0.4, 1.0],
    }
)
FRONTIER = pd.DataFrame(
    {"w": [1.0, 0.5, 0.0], "expected_profit_usd": [100.0, 98.0, 90.0], "cvar_usd": [50.0, 60.0, 62.0]}
)
STATE = "The state of every store follows (54)"
RISES = "More is offered at a higher price, on every bidding curve"
NO_LIMIT = "Without a limit on its discharge the store sells all in the dearest hour"
FREE_REGULATION_DOWN = "Regulation down is the energy sold less the turbines' minimum power, in every hour"


@cache
def solved() -> tuple[Microgrid, Result]:
    case = load(CASE, ["bidding.curves=[]"])
    result = run(
        case.problem.subproblem,
        case.problem.coordinator,
        case.rule,
        coupling=case.problem.couplings,
        stop=case.stop,
        limits=case.limits,
        certificate=CertificateSettings(every=1),
    )
    assert result is not None
    assert isinstance(case.problem, Microgrid)
    return case.problem, result


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder; its bidding curves are made by hand."""
    folder = tmp_path_factory.mktemp("result")
    microgrid, result = solved()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "draw", lambda folder: ())
        microgrid.write(result, folder)
    CURVES.to_csv(folder / "bidding_curves.csv", index=False)
    FRONTIER.to_csv(folder / "risk_frontier.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def folder(path: Path) -> MicrogridFolder:
    return MicrogridFolder.read(path)


@pytest.fixture
def changed(path: Path, tmp_path: Path) -> Path:
    """A copy of the folder to write wrong numbers into."""
    for file in path.glob("*.csv"):
        shutil.copy(file, tmp_path)
    return tmp_path


def verdicts(path: Path) -> dict[str, str]:
    rows = claims.findings(MicrogridFolder.read(path))
    return {claim.text: found.verdict for _, part in rows for claim, found in part}


def test_the_shipped_case_ends_certified() -> None:
    _, result = solved()
    assert result.status == "certified"
    assert result.certificate is not None
    assert result.certificate.gap is not None
    assert result.certificate.gap <= 1e-4


def test_bids_are_the_units_together_and_the_expectation_is_over_the_scenarios(folder: MicrogridFolder) -> None:
    for quantity in QUANTITIES:
        together = sum(folder.of(unit, quantity) for unit in folder.units)
        np.testing.assert_allclose(together, folder.of("MG", quantity), atol=1e-6, err_msg=quantity)
    one = folder.spread[(folder.spread.unit == "MG") & (folder.spread.hour == 15)]
    assert one.probability.sum() == pytest.approx(1.0)
    assert folder.at("MG", "energy_mw", 15) == pytest.approx(float(one.probability @ one.energy_mw))
    assert one.energy_mw.nunique() > 1, "the scenarios differ, else the expectation proves nothing"


def test_table_7_is_shown_beside_the_papers(folder: MicrogridFolder, path: Path) -> None:
    table = pd.read_csv(path / "table_7.csv")
    assert table.energy_mw_paper[14] == 6.0023
    assert table.energy_mw[14] == pytest.approx(folder.at("MG", "energy_mw", 15))
    microgrid, result = solved()
    console = Console(width=160, record=True, file=StringIO())
    for shown in microgrid.tables(result, path):
        console.print(shown)
    text = console.export_text()
    assert f"{table.energy_mw[14]:.4f} | 6.0023" in text
    assert "66.67 | 66.67" in text
    states = next(line for line in text.splitlines() if "66.67 | 66.67" in line)
    assert [hour in states.split() for hour in ("3", "9", "15", "21")] == [True] * 4, "hours run down, six a column"
    judged = pd.read_csv(path / "claims.csv").set_index("claim").verdict
    assert judged["The store sells its energy at"] == "by choice of series"
    assert "RMSE" in text
    apart = pd.read_csv(path / "comparison.csv").set_index("quantity")
    by_hand = np.sqrt(np.mean((table.energy_mw - table.energy_mw_paper) ** 2))
    assert apart.rmse_mw["energy_mw"] == pytest.approx(by_hand)
    assert apart.correlation["energy_mw"] == pytest.approx(table.energy_mw.corr(table.energy_mw_paper))
    assert "The store sells its energy at" in text


def test_the_frontier_takes_values_over_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["frontier", str(CASE), "--out", str(tmp_path / "out"), "--set", "time.steps=1", "--w", "0.5"]
    monkeypatch.setattr("sys.argv", [*asked, "--set", "market.stage=comitted"])
    with pytest.raises(SystemExit) as caught:
        frontier.main()
    assert caught.value.code == 2
    assert not (tmp_path / "out").exists()
    assert frontier.tables_of(["a.b=text", "a.c=1", "a.d=[1, 2]"]) == {"a": {"b": "text", "c": 1, "d": [1, 2]}}
    with pytest.raises(InputError, match="markets"):
        Microgrid.from_file(CASE, {"markets": {"stage": "committed"}})
    assert Microgrid.from_file(CASE, {"market": {"stage": "committed"}}).settings.market.stage == "committed"


def test_the_state_of_table_6_is_in_percent_of_the_store(folder: MicrogridFolder, path: Path) -> None:
    table = pd.read_csv(path / "table_6.csv")
    np.testing.assert_allclose(table.state_percent, 100 * folder.stores("state_mwh") / 6.0, atol=1e-6)
    assert table.state_percent_paper.max() == 100.0


def test_hours_that_the_paper_lacks_have_a_dash(path: Path) -> None:
    bids, store = read(path / "bids.csv"), read(path / "storage.csv")
    bids["hour"] += 24
    store["hour"] += 24
    table = tables.side_by_side(bids, store)
    assert table.energy_mw_paper.isna().all()
    assert tables.number(table.energy_mw_paper[0], 4) == "-"


def test_every_figure_is_drawn_from_the_files_with_nothing_cut_off(
    changed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.setdefault(path.stem, figure))
    figures.draw(changed)
    names = "weather prices reactive_power operating_cost unit_bids storage hour_15 bidding_curves risk_frontier"
    assert set(drawn) == set(names.split())
    papers = set()
    for name, figure in drawn.items():
        with mpl.rc_context(STYLE):
            figure.draw_without_rendering()
            box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) >= -0.01, name
        assert box.x1 <= width + 0.01, name
        assert box.y1 <= height + 0.01, name
        for axis in figure.axes:
            assert "(" in axis.get_title() + axis.get_ylabel() + axis.get_xlabel(), name
        assert "(" in figure.axes[0].get_ylabel() + figure.axes[0].get_title(), name
        papers |= {int(n) for axis in figure.axes for n in numbers(axis.get_title())}
    assert papers == set(range(7, 24)), "every figure of the paper's case study is named by one of ours"


def test_a_figure_is_written_as_a_picture(path: Path, tmp_path: Path) -> None:
    with mpl.rc_context(STYLE):
        bidding_curves(CURVES).savefig(tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").shape[1] == 2100  # 7 in at 300 dots per inch


def numbers(title: str) -> list[str]:
    """7 of 'Forecast (paper 2, Fig. 7)'."""
    return [part.strip(" )") for part in title.split("Fig.")[1:]]


def test_bars_of_a_unit_are_its_bids(folder: MicrogridFolder) -> None:
    axis = next(a for a in unit_bids(folder).axes if a.get_title().startswith("MT2"))
    up, down = np.zeros(24), np.zeros(24)
    for bar in axis.patches:
        at = round(bar.get_x() + bar.get_width() / 2) - 1
        (up if bar.get_height() > 0 else down)[at] += bar.get_height()
    sold = sum(folder.of("MT2", q) for q in ("energy_mw", "regulation_up_mw", "spinning_mw", "nonspinning_mw"))
    np.testing.assert_allclose(up, sold, atol=1e-9)
    np.testing.assert_allclose(-down, folder.of("MT2", "regulation_down_mw") + folder.of("MT2", "stored_mw"), atol=1e-9)


def test_the_claims_that_can_be_compared_come_out(path: Path) -> None:
    found = verdicts(path)
    assert found[FREE_REGULATION_DOWN] == "by construction"
    assert found[STATE] == "by construction"
    assert found["The store sells its energy at"] == "by choice of series"
    assert found["The store is empty after"] == "by choice of series"
    assert found["Energy and regulation up together are 1.4 MW at 6, 8, 9, 10 h"] == "differs"
    assert found["No regulation up at 3 and 4 h"] == "differs"
    assert found["A MWh of MT2 costs more than one of MT1"] == "differs", "by Table 3 as printed it costs less"
    assert found[NO_LIMIT] == "holds"


def test_claims_that_spoke_against_the_print_hold_where_the_numbers_say_so(changed: Path) -> None:
    bids, store, market = (read(changed / f"{name}.csv") for name in ("bids", "storage", "market"))
    bids.loc[(bids.unit == "MG") & bids.hour.isin([3, 4]), "regulation_up_mw"] = 0.0
    bids.loc[(bids.unit == "MG") & bids.hour.between(14, 18), "energy_mw"] = 5.0
    bids.loc[(bids.unit == "PV") & (bids.hour == 18), "spinning_mw"] = 0.5
    bids.loc[bids.unit == "MT2", "energy_mw"] = 0.4
    bids.loc[bids.unit == "MT1", "energy_mw"] = 0.9
    store.loc[store.hour == 14, "charge_mw"] = 1.0
    store.loc[store.hour > 14, "charge_mw"] = 0.0
    bids.to_csv(changed / "bids.csv", index=False)
    store.to_csv(changed / "storage.csv", index=False)
    found = verdicts(changed)
    assert found["No regulation up at 3 and 4 h"] == "holds"
    assert found["Energy sold rises from 14 to 18 h"] == "holds"
    assert found["MT2 runs at its minimum while MT1 is above it"] == "holds"
    assert found["PV offers spinning reserve at 18 h"] == "by choice of series"
    market.assign(price_series="A").to_csv(changed / "market.csv", index=False)
    found = verdicts(changed)
    assert found["PV offers spinning reserve at 18 h"] == found["The store charges until"] == "holds"


def test_another_microgrid_has_claims_and_figures_of_its_own_and_none_of_the_papers(
    changed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other names, another size, quarters of an hour: nothing of the paper is said."""
    names = {"MT1": "small", "MT2": "large", "PV": "roof", "WT": "hill", "ESS": "cells"}
    for name in ("bids", "storage", "units", "bidding_curves", "what_if"):
        table = read(changed / f"{name}.csv")
        table.assign(unit=table.unit.replace(names)).to_csv(changed / f"{name}.csv", index=False)
    texts = [claim.text for _, part in claims.findings(MicrogridFolder.read(changed)) for claim, _ in part]
    assert "Ramp of MT2 from 14 to 15 h" in texts, "the paper's microgrid under other names"
    for name in ("bids", "storage", "inputs", "market", "scenario_moments", "bidding_curves", "what_if"):
        table = read(changed / f"{name}.csv")
        table.assign(hour=table.hour / 4).to_csv(changed / f"{name}.csv", index=False)
    folder = MicrogridFolder.read(changed)
    assert folder.dt_h == 0.25
    parts = claims.findings(folder)
    assert [title for title, _ in parts] == ["What any such microgrid should show"]
    found = {claim.text: judged.verdict for claim, judged in parts[0][1]}
    assert found[FREE_REGULATION_DOWN] == "by construction"
    assert found["Renewable units sell mostly energy"] == "holds"
    drawn: dict[str, Figure] = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.setdefault(path.stem, figure))
    figures.draw(changed)
    assert "hour_4" in drawn, "the dearest step"
    assert not any("paper" in axis.get_title() for figure in drawn.values() for axis in figure.axes)
    assert {"small", "large", "roof", "hill"} <= {axis.get_title() for axis in drawn["unit_bids"].axes}


def test_a_claim_that_does_not_hold_is_not_said_to(changed: Path) -> None:
    bids, store = read(changed / "bids.csv"), read(changed / "storage.csv")
    bids.loc[bids.unit == "MG", "regulation_down_mw"] *= 0.5
    bids.loc[bids.unit == "MT2", "reactive_mvar"] = 0.0
    store.loc[store.hour == 3, "discharge_mw"] = 0.5
    bids.to_csv(changed / "bids.csv", index=False)
    store.to_csv(changed / "storage.csv", index=False)
    found = verdicts(changed)
    assert found[FREE_REGULATION_DOWN] == "differs"
    assert found[STATE] == "differs"
    assert found["The store sells its energy at"] == "differs"
    assert found["The reactive contract is met in every hour"] == "differs"


def test_bidding_curves_are_judged_by_their_points(changed: Path) -> None:
    found = verdicts(changed)
    assert found[RISES] == "holds"
    assert found["Twice the price more than doubles MT1's offer (13 h)"] == "holds"
    falling = CURVES.assign(energy_mw=[2.5, 2.0, 1.0, 0.5, 0.7, 1.0])  # twice the price: 1.0 is less than twice .7
    falling.to_csv(changed / "bidding_curves.csv", index=False)
    found = verdicts(changed)
    assert found[RISES] == "differs"
    assert found["Twice the price more than doubles MT1's offer (13 h)"] == "differs"
    CURVES.assign(price_usd_per_mwh=CURVES.price_usd_per_mwh + 1).to_csv(changed / "bidding_curves.csv", index=False)
    assert verdicts(changed)["Twice the price more than doubles MT1's offer (13 h)"] == "-", "never between points"
    (changed / "bidding_curves.csv").unlink()
    assert verdicts(changed)["Twice the price more than doubles MT1's offer (13 h)"] == "-"


def test_the_page_has_the_claims_with_their_verdicts(path: Path) -> None:
    page = (ROOT / "docs" / "microgrid.md").read_text(encoding="utf-8")
    for claim, found in (row for _, part in claims.findings(MicrogridFolder.read(path)) for row in part):
        line = next((line for line in page.splitlines() if line.startswith(f"| {claim.text} |")), None)
        assert line is not None, claim.text
        if "curve" not in found.value and "price" not in claim.text:  # the curves here are made by hand
            assert f"| **{found.verdict}** |" in line, claim.text


def test_the_command_prints_both_tables_and_refuses_another_folder(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["claims", str(path), "--markdown"])
    claims.main()
    told = capsys.readouterr().out
    assert "**What can be compared**" in told
    assert "**What the paper's own figures speak against**" in told
    monkeypatch.setattr("sys.argv", ["claims", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        claims.main()
    assert ended.value.code == 2
    assert "bids.csv is missing" in capsys.readouterr().err


def test_the_misprint_of_hour_7_is_the_only_one() -> None:
    assert judges.printed_state_errors() == [7]
