"""The comparison with mpi-sppy, as far as it goes without it: the farmer, the averages compared, the page."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.peers_farmer import yields
from benchmarks.peers_ours import hedge
from benchmarks.peers_page import page
from benchmarks.peers_rounds import Rounds
from decomp.parallel.ranks import Serial

# acres of wheat after 0, 1 and 9 penalised rounds with rho = 1 by mpi-sppy 0.14 with HiGHS, no regularisation
WHEAT_3 = {0: 134.44444444, 1: 129.83333333, 9: 161.89264163}
WHEAT_100 = {0: 137.36767307, 1: 149.0312898, 7: 183.93442435}


@pytest.fixture(scope="module")
def classic() -> Rounds:
    told = hedge(range(3), 1, 9, Serial())
    assert told is not None
    return told


def test_the_averages_of_three_scenarios_are_those_of_mpi_sppy(classic: Rounds) -> None:
    for k, acres in WHEAT_3.items():
        assert classic.averages["WHEAT0"][k] == pytest.approx(acres, rel=1e-7)


def test_the_averages_of_a_hundred_drawn_scenarios_are_those_of_mpi_sppy() -> None:
    told = hedge(range(100), 1, 7, Serial())
    assert told is not None
    for k, acres in WHEAT_100.items():
        assert told.averages["WHEAT0"][k] == pytest.approx(acres, rel=1e-7)


def test_drawn_yields_are_at_most_a_ton_above_those_of_their_kind() -> None:
    assert np.array_equal(yields(1, 2), [2.5, 3.0, 20.0] * 2)
    more = yields(4, 2) - yields(1, 2)
    assert np.all((more > 0) & (more < 1))
    assert len(np.unique(more)) == 6


def test_every_round_has_its_time_and_a_run_is_read_back(classic: Rounds) -> None:
    assert len(classic.round_s) == len(classic.round_cpu_s) == 9
    assert len(classic.averages["CORN0"]) == 10
    assert all(0 < solver < cpu for solver, cpu in zip(classic.solver_cpu_s, classic.round_cpu_s, strict=True))
    again = Rounds.read(f"words\n{classic.line()}\nmore\n")
    assert again.averages == {crop: list(values) for crop, values in classic.averages.items()}
    with pytest.raises(ValueError, match="0 lines"):
        Rounds.read("nothing")


def test_averages_that_differ_in_one_crop_of_one_round_are_found(classic: Rounds) -> None:
    off = list(classic.averages["CORN0"])
    off[4] *= 1 + 3e-5
    other = replace(classic, averages={**classic.averages, "CORN0": tuple(off)})
    assert peers.farthest(classic, classic) == 0
    assert peers.farthest(other, classic) == pytest.approx(3e-5, rel=1e-3)
    with pytest.raises(ValueError, match="crops"):
        peers.farthest(classic, replace(classic, averages={"CORN0": tuple(off)}))


def test_a_comparison_of_different_averages_is_no_comparison(classic: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    off = {crop: tuple(v * 1.01 for v in values) for crop, values in classic.averages.items()}
    monkeypatch.setattr(peers, "_run", lambda side, *_: replace(classic, averages=off) if side == "ours" else classic)
    with pytest.raises(ValueError, match="do not solve the same problem"):
        peers.compare(peers.Case(3, 1, 1, 9), 1, None)


def test_the_page_calls_a_missed_target_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")

    def run(ms: float) -> Rounds:
        times = (ms / 1e3,) * 4
        return Rounds(1.0, 0.5, times, times, tuple(t / 2 for t in times), {})

    def told(ours_ms: float) -> str:
        runs = {"mpi-sppy": [run(80.0)], "ours": [run(ours_ms)]}
        return page([(peers.Case(100, 1, 1, 4), runs, 1e-9)], "command", "0.14")

    assert "| 100 scenarios, 3 crops | 8 times | 10.0 | met |" in told(8.0)
    assert "| 100 scenarios, 3 crops | 8 times | 5.0 | **missed** |" in told(16.0)
    assert "| any number of scenarios, 150 crops | 2 times | not measured in this run | |" in told(8.0)


def test_without_mpi_sppy_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert peers.main([]) == 2
    assert "pip install 'tatonnement[mpi,peers]'" in capsys.readouterr().err
