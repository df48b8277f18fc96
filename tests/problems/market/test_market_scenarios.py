"""The market on a day that is not known: the table [scenarios], and what the communities and the DSO make of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from campus import CASES

from decomp.case.config import Case, load
from decomp.errors import InputError
from decomp.messages import Key
from problems.market.problem import ReactiveMarket

STOCHASTIC = CASES / "chalmers_stochastic.toml"


@cache
def case(*overrides: str) -> Case:
    return load(STOCHASTIC, overrides)


def market(*overrides: str) -> ReactiveMarket:
    found = case(*overrides).problem
    assert isinstance(found, ReactiveMarket)
    return found


def mistakes(*overrides: str) -> dict[tuple[str, str], str]:
    with pytest.raises(InputError) as caught:
        load(STOCHASTIC, overrides)
    return {(m.section, m.key): f"{m.problem}; {m.remedy}" for m in caught.value.mistakes}


def test_without_the_table_there_is_one_scenario_with_the_series_as_given() -> None:
    plain = ReactiveMarket.from_file(CASES / "chalmers_undervoltage.toml")
    assert plain.scenarios.names == ("0",)
    assert plain.data_of(Key("LEC1")) is plain.data["LEC1"]
    assert plain.couplings[0].prob == {Key("LEC1"): 1.0}


def test_sun_load_and_price_vary_around_the_series_and_heat_does_not() -> None:
    drawn = market("scenarios.count=256", "scenarios.sample=256")
    spread = {"pv": 0.1, "load": 0.01, "spot": 0.1}
    prob, means = drawn.scenarios.prob, market().scenarios
    assert means.uncertain == ("pv", "load", "spot")
    for name, deviation in spread.items():
        values = drawn.scenarios.series[name]
        mean = prob @ values
        given = {"pv": drawn.data["LEC1"].pv_pu, "spot": drawn.data["LEC1"].spot_sek_per_kwh}
        expected = given.get(name, drawn.data["LEC1"].load_p_kw / 700.0)
        lit = expected > 0.01
        assert mean[lit] == pytest.approx(expected[lit], rel=0.01)
        assert np.sqrt(prob @ (values - mean) ** 2)[lit] == pytest.approx(deviation * expected[lit], rel=0.05)
        together = np.corrcoef(values[:, 10], values[:, 11])[0, 1]
        assert 0.85 < together < 0.95
    assert np.ptp(drawn.scenarios.series["heat"], axis=0).max() == 0


def test_a_scenario_is_one_day_for_all_communities_and_the_network() -> None:
    drawn = market("scenarios.count=5")
    s = 3
    label = drawn.scenarios.names[s]
    shape = drawn.scenarios.series["load"][s]
    for unit, peak in (("LEC1", 700.0), ("LEC2", 300.0)):
        data = drawn.data_of(Key(unit, label))
        assert data.load_p_kw == pytest.approx(peak * shape)
        assert data.pv_pu is not drawn.data[unit].pv_pu
        assert data.pv_pu.tolist() == drawn.scenarios.series["pv"][s].tolist()
    bus = drawn.network.bus("3")
    assert drawn.coordinator.p_load_kw[:, s, bus] == pytest.approx(450.0 * shape)


@pytest.mark.parametrize("method", ["latin_hypercube", "sobol", "random"])
def test_the_same_seed_draws_the_same_days(method: str) -> None:
    settings = (f"scenarios.method='{method}'", "scenarios.sample=64", "scenarios.count=4")
    one, other = load(STOCHASTIC, settings).problem, load(STOCHASTIC, settings).problem
    another = load(STOCHASTIC, (*settings, "scenarios.seed=2")).problem
    assert isinstance(one, ReactiveMarket)
    assert isinstance(other, ReactiveMarket)
    assert isinstance(another, ReactiveMarket)
    for name in ("pv", "load", "spot"):
        assert one.scenarios.series[name].tolist() == other.scenarios.series[name].tolist()
        assert one.scenarios.series[name].tolist() != another.scenarios.series[name].tolist()


@pytest.mark.parametrize("kind", ["forward_selection", "k_medoids"])
def test_reduction_keeps_probability_one_and_the_means(kind: str) -> None:
    reduced = market(f"scenarios.reduction='{kind}'").scenarios
    assert reduced.reduction is not None
    assert len(reduced) == 20
    assert reduced.prob.sum() == pytest.approx(1.0, abs=1e-12)
    assert len(set(reduced.prob)) > 1
    for name, error in reduced.reduction.mean_error.items():
        assert 0 < error <= reduced.reduction.mean_error_bound[name]


def test_a_file_of_scenarios_gives_back_what_was_written(tmp_path: Path) -> None:
    from problems.scenarios.from_csv import write_scenarios

    drawn = market("scenarios.count=5")
    copy = in_folder(tmp_path, ["seed", "sample", "count", "reduction", "method", "correlation"])
    write_scenarios(drawn.scenarios.as_set(), drawn.axis, tmp_path / "days.csv")
    columns = "{pv = 'pv_pu', load = 'load_pu', spot = 'spot_sek_per_kwh'}"
    read = load(copy, ("scenarios.file='days.csv'", f"scenarios.series={columns}")).problem
    assert isinstance(read, ReactiveMarket)
    assert read.scenarios.names == drawn.scenarios.names
    assert read.scenarios.prob.tolist() == drawn.scenarios.prob.tolist()
    for name in ("pv", "load", "spot", "heat"):
        assert read.scenarios.series[name].tolist() == drawn.scenarios.series[name].tolist()


def in_folder(folder: Path, without: Sequence[str]) -> Path:
    """The case in a folder of its own, without some keys of [scenarios] and without its tables of what is uncertain."""
    shutil.copytree(CASES / "chalmers", folder / "chalmers")
    kept, table = [], ""
    for line in STOCHASTIC.read_text(encoding="utf-8").splitlines():
        table = line.split("]")[0].strip("[") if line.startswith("[") else table
        ours = table.startswith("scenarios")
        if table.startswith("scenarios.") or (ours and line.split(" ")[0] in without):
            continue
        kept.append(line)
    path = folder / "case.toml"
    path.write_text("\n".join(kept), encoding="utf-8")
    return path


def test_the_offer_must_be_possible_in_every_scenario() -> None:
    """The committed change is the same everywhere, so the least sunny day limits it."""
    drawn = market("scenarios.count=5")
    lo, hi = (np.array(side).reshape(24, 2) for side in drawn.coordinator.box)
    for u, unit in enumerate(("LEC1", "LEC2")):
        wide = drawn.coordinator._limits[0][:, u, 1] - drawn.coordinator._limits[0][:, u, 0]
        assert hi[:, u] == pytest.approx(wide.min(axis=0))
        assert lo[:, u] == pytest.approx(-wide.min(axis=0))
        assert np.ptp(wide[:, 17]) > 1.0, unit


def test_every_mistake_of_the_table_is_told_at_once() -> None:
    told = mistakes(
        "scenarios.count=0",
        "scenarios.method='monte'",
        "scenarios.pv.autocorrelation=1.0",
        "scenarios.load.deviation=-0.1",
        "scenarios.surprise=1",
        "dso.secure_share=0.0",
    )
    for place in (
        ("scenarios", "count"),
        ("scenarios", "method"),
        ("scenarios.pv", "autocorrelation"),
        ("scenarios.load", "deviation"),
        ("scenarios", "surprise"),
        ("dso", "secure_share"),
    ):
        assert place in told, told


def test_deviations_that_no_beta_distribution_has_are_named_by_the_clock() -> None:
    told = mistakes("scenarios.pv.deviation=1.5", "scenarios.method='sobol'")
    assert "no Beta distribution" in told[("scenarios.pv", "deviation")]
    assert told[("scenarios.pv", "deviation")].startswith("18:00")
    assert "no power of 2" in told[("scenarios", "sample")]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("scenarios.sample=10",), "less than the 20"),
        (("scenarios.file='x.csv'",), "leave one of them out"),
        (("scenarios.series={pv = 'pv'}",), "there is no file"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(settings: tuple[str, ...], words: str) -> None:
    assert words in str(mistakes(*settings))


def test_holes_in_a_file_of_scenarios_are_all_named(tmp_path: Path) -> None:
    copy = in_folder(tmp_path, ["seed", "sample", "count", "reduction", "method", "correlation"])
    rows = ["scenario,probability,time,sun"]
    rows += [f"low,0.5,2021-04-14T{h:02d}:00:00+02:00,{0.1 if h != 5 else 'x'}" for h in range(24)]
    rows += [f"high,0.4,2021-04-14T{h:02d}:00:00+02:00,0.2" for h in range(23)]
    (tmp_path / "days.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load(
            copy,
            (
                "scenarios.file='days.csv'",
                "scenarios.series={pv = 'sun'}",
                "lec.LEC1.bus='22'",
                "series.heat.file='none.csv'",
            ),
        )
    text = str(caught.value)
    for words in (
        "none.csv [series.heat]",
        "sum to 0.9",
        "scenario high has no row for 1",
        "scenario low: 1 values are not finite",
        "no bus '22'",
    ):
        assert words in text, text
