"""The claims table: what a run shows decides the verdict, and fitted rows say that they are no evidence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from campus import OVER, RESOLVED, UNDER, written

from problems.market.claim_checks import Folder
from problems.market.claims import as_markdown, findings, main


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(UNDER, tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(UNDER, tmp_path_factory.mktemp("resolved"), RESOLVED, "admm")


@pytest.fixture(scope="module")
def rise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(OVER, tmp_path_factory.mktemp("rise"))


def verdicts(*folders: Folder) -> dict[str, list[str]]:
    return {text: [f.verdict for f in found] for text, _, found in findings(folders)}


def test_the_papers_reading_holds_and_fitted_rows_are_by_construction(held: Path) -> None:
    found = {text: v[0] for text, v in verdicts(Folder.read(held)).items()}
    assert found["The signals rise in every round"] == "holds"
    assert found["The signal for LEC1 is higher, LEC2 sells more"] == "holds"
    assert found["No reactive load is shed"] == "holds"
    assert found["All devices of an LEC work at one sin(phi)"] == "holds"
    fitted = ["Secure in 6 rounds", "Voltages outside 0.95-1.05 pu (bus, hour)", "PV is the main source in both"]
    fitted += ["LEC1 gives 10.096 kvar at 14:00", "LEC2 gives 50.745 kvar at 17:00", "The CHP contributes at LEC1"]
    assert {found[text] for text in fitted} == {"by construction"}


def test_the_cheapest_request_contradicts_the_papers_table(held: Path, resolved: Path) -> None:
    both = verdicts(Folder.read(held), Folder.read(resolved))
    assert both["The signal for LEC1 is higher, LEC2 sells more"] == ["holds", "differs"]
    assert both["LEC1 gives 10.096 kvar at 14:00"] == ["by construction", "differs"]


def test_held_costs_more_than_resolved(held: Path, resolved: Path) -> None:
    cheap, dear = Folder.read(resolved), Folder.read(held)
    assert dear.summary["objective"] - cheap.summary["objective"] == pytest.approx(0.83, abs=0.05)
    assert "0.0000 SEK above" in as_markdown([dear, cheap])


def test_in_the_rise_lec2_absorbs_too_and_bus_3_is_outside_as_well(rise: Path) -> None:
    found = {text: v[0] for text, v in verdicts(Folder.read(rise)).items()}
    assert found["LEC2 absorbs part although the violation is next to LEC1"] == "holds"
    assert found["Voltages outside 0.95-1.05 pu (bus, hour)"] == "differs"


def test_what_a_run_does_not_show_differs(held: Path) -> None:
    """Every verdict can turn: the same folder with its figures spoilt."""
    good = Folder.read(held)
    prices = good.prices.assign(price=np.where(good.prices["round"] == 3, 0.0, good.prices.price))
    voltages = good.voltages.assign(shed_kvar=5.0, v_after_pu=0.9)
    lec1 = good.schedules["LEC1"]
    lec1 = lec1.assign(
        q_boiler_chp_kvar=lec1.q_boiler_chp_initial_kvar,
        dq_kvar=lec1.dq_kvar * 10,
        sin_phi_pv=0.9,
        price_sek_per_kvarh=0.01,
    )
    bad = dataclasses.replace(
        good, prices=prices, voltages=voltages, schedules={**good.schedules, "LEC1": lec1}, summary=good.summary
    )
    found = {text: v[0] for text, v in verdicts(bad).items()}
    for text in (
        "Secure in 6 rounds",
        "The signals rise in every round",
        "The signal for LEC1 is higher, LEC2 sells more",
        "LEC1 gives 10.096 kvar at 14:00",
        "PV is the main source in both",
        "The CHP contributes at LEC1",
        "No reactive load is shed",
        "All devices of an LEC work at one sin(phi)",
    ):
        assert found[text] == "differs", text


def test_a_dearer_community_must_also_sell_less(held: Path) -> None:
    good = Folder.read(held)
    lec1 = good.schedules["LEC1"]
    bad = dataclasses.replace(
        good, schedules={**good.schedules, "LEC1": lec1.assign(dq_kvar=np.where(lec1.need, 100.0, 0.0))}
    )
    assert verdicts(bad)["The signal for LEC1 is higher, LEC2 sells more"] == ["differs"]


def test_the_command_prints_a_table_for_each_kind(
    held: Path, resolved: Path, rise: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["claims", str(held), str(rise), str(resolved), "--markdown"])
    main()
    out = capsys.readouterr().out
    assert "| claim | paper 1 | held | resolved |" in out
    assert out.index("section IV.A") < out.index("section IV.B")


def test_a_folder_that_is_no_result_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["claims", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "result.json is missing" in capsys.readouterr().err


def test_a_run_in_which_nothing_was_needed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A healthy network: the run ends at once, tables and figures still come out, and no claim is judged by it."""
    healthy = written(UNDER, tmp_path, ("added_load.0.q_kvar=0.0", "added_load.1.q_kvar=0.0"))
    assert (healthy / "figures" / "convergence.png").is_file()
    monkeypatch.setattr("sys.argv", ["claims", str(healthy)])
    with pytest.raises(SystemExit):
        main()
    assert "nothing was traded" in capsys.readouterr().err
