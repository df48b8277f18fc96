"""Distributions, correlated samples, files and trees of scenarios."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from scipy import stats

from decomp.errors import InputError
from problems.scenarios import distributions as d
from problems.scenarios.from_csv import read_scenarios, write_scenarios
from problems.scenarios.power_curves import pv_power_kw, wind_power_kw
from problems.scenarios.sampling import SampleSettings, autocorrelation_of, sample
from problems.scenarios.scenario_set import ScenarioSet
from problems.scenarios.tree import Node, read_tree, scenario_tree, tree_of_histories
from problems.time_series import TimeAxis, TimeSettings

MEAN, STD = np.array([0.0, 300.0, 700.0]), np.array([0.0, 120.0, 90.0])


def mistakes_of(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_beta_has_the_moments_it_was_given_and_nights_are_dark():
    law = d.beta_irradiance(MEAN, STD, r_max_wm2=1000.0)
    np.testing.assert_allclose(law.mean(), MEAN, rtol=1e-12)
    np.testing.assert_allclose(law.std(), STD, rtol=1e-12)
    assert np.all(law.ppf(np.full((4, 3), 0.9))[:, 0] == 0)


def test_beta_parameters_are_those_worked_out_by_hand():
    # mu = .5, sigma^2 = 1/20: mu (1 - mu)/sigma^2 - 1 = 4, beta = alpha = 2
    law = d.beta_irradiance([500.0], [1000 * np.sqrt(0.05)], r_max_wm2=1000.0)
    u = np.linspace(0.01, 0.99, 9)[:, None]
    np.testing.assert_allclose(law.ppf(u), 1000 * stats.beta(2, 2).ppf(u), rtol=1e-12)
    np.testing.assert_allclose(d.beta_given([2.0], [2.0], r_max_wm2=1000.0).ppf(u), law.ppf(u), rtol=1e-12)


def test_moments_no_beta_has_are_all_listed():
    text = mistakes_of(d.beta_irradiance, [500, 1200, 0, 300, -5, 400], [600, 10, 5, 0, 1, np.nan], r_max_wm2=1000.0)
    assert "6 mistakes" in text
    assert "step 0: no Beta distribution" in text
    assert "the deviation must be below 500" in text
    d.beta_irradiance([500], [499.9], r_max_wm2=1000.0)
    assert "no Beta" in mistakes_of(d.beta_irradiance, [500], [500], r_max_wm2=1000.0)


def test_weibull_has_the_moments_it_was_given():
    mean, std = np.array([6.0, 8.0, 8.0, 0.0]), np.array([0.1, 4.0, 16.0, 0.0])
    law = d.weibull_wind(mean, std)
    np.testing.assert_allclose(law.mean(), mean, rtol=1e-9)
    np.testing.assert_allclose(law.std(), std, rtol=1e-9)


def test_without_a_deviation_the_wind_is_rayleigh():
    law = d.weibull_wind([7.0])
    np.testing.assert_allclose(law.mean(), 7.0, rtol=1e-12)
    u = np.array([[0.1], [0.7]])
    np.testing.assert_allclose(law.ppf(u), stats.rayleigh(scale=2 * 7 / np.sqrt(2 * np.pi)).ppf(u), rtol=1e-12)


def test_wrong_wind_is_listed():
    assert "2 mistakes" in mistakes_of(d.weibull_wind, [5.0, 5.0], [5e4, 0.0])
    assert "2 mistakes" in mistakes_of(d.weibull_given, [2.0, -1.0], [np.inf, 3.0])


def test_prices_and_loads_have_their_moments():
    price = d.normal([-5.0, 30.0], [10.0, 0.0])
    load = d.lognormal([100.0, 50.0], [30.0, 0.0])
    for law, mean, std in ((price, [-5, 30], [10, 0]), (load, [100, 50], [30, 0])):
        np.testing.assert_allclose(law.mean(), mean, rtol=1e-12)
        np.testing.assert_allclose(law.std(), std, rtol=1e-12)
    assert "2 mistakes" in mistakes_of(d.lognormal, [-1.0, 0.0], [1.0, 1.0])


def test_moments_come_from_data_without_holes():
    mean, std = d.moments_of([[1.0, 2.0], [3.0, 2.0]])
    np.testing.assert_allclose(mean, [2, 2])
    np.testing.assert_allclose(std, [np.sqrt(2), 0])
    assert "row 1, step 0" in mistakes_of(d.moments_of, [[1.0], [np.nan]])


def test_power_curves():
    np.testing.assert_allclose(pv_power_kw(np.array([0, 500, 1200]), 200, 1000), [0, 100, 240])
    speed = np.array([2.9, 3, 7.5, 12, 24.9, 25])
    power = wind_power_kw(speed, 900, cut_in_ms=3, rated_ms=12, cut_out_ms=25)
    np.testing.assert_allclose(power, [0, 0, 450, 900, 900, 0])
    with pytest.raises(ValueError, match="must rise"):
        wind_power_kw(speed, 1, cut_in_ms=3, rated_ms=2, cut_out_ms=25)


LAWS = {"wind": d.weibull_wind(np.full(6, 7.0), np.full(6, 3.0)), "price": d.normal(np.full(6, 40.0), np.full(6, 9.0))}
RHO = {"wind": 0.8, "price": 0.5}


def scores(values):
    return stats.norm.ppf((stats.rankdata(values, axis=0) - 0.5) / len(values))


@pytest.mark.parametrize("method", ["latin_hypercube", "sobol", "random"])
def test_correlations_are_those_asked_for(method):
    drawn = sample(LAWS, SampleSettings(4096, 3, RHO, {("wind", "price"): -0.4}, method=method))
    wind, price = scores(drawn.series["wind"]), scores(drawn.series["price"])
    got = np.corrcoef(np.hstack([wind, price]).T)
    steps = np.arange(6)
    lag = np.abs(steps[:, None] - steps)
    later = np.where(steps >= steps[:, None], 0.5**lag, 0.8**lag)  # corr(wind t, price t'): the later one forgets
    want = np.block([[0.8**lag, -0.4 * later], [-0.4 * later.T, 0.5**lag]])
    np.testing.assert_allclose(got, want, atol=0.06 if method == "random" else 0.05)
    rank = stats.spearmanr(drawn.series["wind"][:, 0], drawn.series["wind"][:, 1]).statistic
    assert rank == pytest.approx(6 / np.pi * np.arcsin(0.4), abs=0.03)


@pytest.mark.parametrize(("method", "error"), [("latin_hypercube", 1e-3), ("sobol", 5e-3), ("random", 0.08)])
def test_samples_have_the_moments_of_their_distributions(method, error):
    drawn = sample(LAWS, SampleSettings(1024, 5, RHO, method=method)).moments()
    for name, law in LAWS.items():
        np.testing.assert_allclose(drawn.mean[name], law.mean(), atol=error * law.std()[0])
        np.testing.assert_allclose(drawn.std[name], law.std(), rtol=max(error * 10, 0.02))


def test_latin_hypercube_has_one_value_in_each_share_at_every_step():
    drawn = sample(LAWS, SampleSettings(50, 5, RHO))
    shares = np.floor(50 * LAWS["wind"].law.cdf(drawn.series["wind"]) + 1e-9)
    assert np.all(np.sort(shares, axis=0) == np.arange(50)[:, None])


def test_the_seed_decides():
    def draw(seed, method):
        return sample(LAWS, SampleSettings(16, seed, RHO, method=method)).series["wind"]

    for method in ("latin_hypercube", "sobol", "random"):
        assert np.array_equal(draw(1, method), draw(1, method))
        assert not np.array_equal(draw(1, method), draw(2, method))


def test_the_autocorrelation_is_of_an_hour_whatever_the_step():
    drawn = sample(LAWS, SampleSettings(2000, 1, {"wind": 0.5, "price": 0.0}, dt_h=0.5))
    assert np.corrcoef(scores(drawn.series["wind"])[:, [0, 2]].T)[0, 1] == pytest.approx(0.5, abs=0.05)
    assert autocorrelation_of(drawn.series["wind"], dt_h=0.5) == pytest.approx(0.5, abs=0.03)
    assert autocorrelation_of(drawn.series["price"], dt_h=0.5) < 0.01


def test_wrong_settings_are_listed_at_once():
    bad = SampleSettings(100, 1, {"wind": 1.0, "sun": 0.1}, {("wind", "wind"): 1, ("wind", "price"): 2}, 0, "sobol")
    text = mistakes_of(sample, LAWS, bad)
    assert "7 mistakes" in text
    assert "take 64 or 128" in text
    assert "none is given for price" in text


def test_impossible_correlations_are_refused():
    laws = {**LAWS, "load": LAWS["price"]}
    pairs = {("wind", "price"): 0.9, ("wind", "load"): 0.9, ("price", "load"): -0.9}
    text = mistakes_of(sample, laws, SampleSettings(10, 1, {**RHO, "load": 0.5}, pairs))
    assert "negative eigenvalue" in text
    text = mistakes_of(sample, LAWS, SampleSettings(10, 1, {"wind": 0.99, "price": 0.0}, {("wind", "price"): 0.9}))
    assert "autocorrelations this different" in text


def test_sets_list_what_is_wrong():
    text = mistakes_of(ScenarioSet, ("a", "a"), [0.5, 0.6], {"x": [[1.0], [np.nan]], "y": [[1.0]]})
    for part in ("sum to 1.1", "more than once", "the shape (1, 1)", "first in scenario a at step 0"):
        assert part in text
    assert "scenario b has -0.1" in mistakes_of(ScenarioSet, ("a", "b"), [1.1, -0.1], {"x": [[1.0], [2.0]]})


AXIS = TimeAxis(TimeSettings(start=datetime.fromisoformat("2020-08-16T00:00:00-05:00"), step_min=60, steps=2))
HEAD = "scenario,probability,time,pv_kw,price\n"


def test_files_come_back_as_they_were_written(tmp_path):
    one = ScenarioSet(("a", "b", "c"), [1 / 3] * 3, {"pv_kw": np.eye(3)[:, :2] / 7, "price": -np.eye(3)[:, 1:]})
    write_scenarios(one, AXIS, tmp_path / "s.csv")
    two = read_scenarios(AXIS, "s.csv", tmp_path, ["pv_kw", "price"], signed=["price"])
    assert two.names == one.names
    assert np.array_equal(two.prob, one.prob)
    assert all(np.array_equal(two.series[n], one.series[n]) for n in one.series)


def test_every_mistake_of_a_file_is_listed(tmp_path):
    t0, t1 = AXIS.stamps
    (tmp_path / "s.csv").write_text(
        HEAD + f"a,0.5,{t0},1,2\na,0.4,{t1},,-2\nb,0.6,{t0},1,2\nb,0.6,{t0},1,2\nb,0.6,noon,1,2\n"
        "b,0.6,2020-08-16T00:30:00-05:00,1,2\nb,0.6,2020-08-16T01:00:00,1,2\n"
    )
    text = mistakes_of(read_scenarios, AXIS, "s.csv", tmp_path, ["pv_kw", "price"])
    for part in (
        "9 mistakes",
        "scenario a has 0.5 in its first row and 0.4",
        "sum to 1.1",
        f"scenario b has no row for 1 of the 2 steps, first {t1}",
        f"scenario b has more than one row for 1 of the 2 steps, first {t0}",
        f"scenario a: 1 values are not finite numbers, first at {t1}",
        f"scenario a: 1 values are negative, first at {t1}",
        "not a time stamp: 'noon'",
        "lies between the steps",
        "no offset from UTC",
    ):
        assert part in text
    assert "load: no such column" in mistakes_of(read_scenarios, AXIS, "s.csv", tmp_path, ["load"])


TREE = [
    Node("now", "", 1.0),
    Node("wet", "now", 0.25),
    Node("dry", "now", 0.75),
    Node("w1", "wet", 0.5),
    Node("w2", "wet", 0.5),
    Node("d1", "dry", 0.2),
    Node("d2", "dry", 0.8),
]


def test_a_three_stage_tree_knows_who_shares_a_node():
    tree = scenario_tree(list(reversed(TREE)))
    assert tree.stages == 3
    prob = dict(zip(tree.scenarios, tree.prob, strict=True))
    assert prob == pytest.approx({"w1": 0.125, "w2": 0.125, "d1": 0.15, "d2": 0.6})
    shared = {name: set(group) for name, group in tree.sharing(1).items()}
    assert shared == {"wet": {"w1", "w2"}, "dry": {"d1", "d2"}}
    assert set(tree.sharing(0)["now"]) == set(prob)
    mass = dict(zip(tree.nodes[1], tree.node_probability(1), strict=True))
    assert mass == pytest.approx({"wet": 0.25, "dry": 0.75})


def test_entries_agree_only_within_their_node():
    tree = scenario_tree(TREE)  # w1, w2, d1, d2
    values = np.array([[1.0, 1, 1], [3, 3, 3], [10, 10, 10], [20, 20, 20]])
    agreed = tree.average(values, [0, 1, 2])
    np.testing.assert_allclose(agreed[:, 0], 0.125 + 0.375 + 1.5 + 12)
    np.testing.assert_allclose(agreed[:, 1], [2, 2, 18, 18])
    np.testing.assert_allclose(agreed[:, 2], values[:, 2])
    with pytest.raises(ValueError, match=r"0\.\.2"):
        tree.groups([3])


@pytest.mark.parametrize(
    ("nodes", "part"),
    [
        (TREE[:-1], "add the missing branch"),
        (TREE[:3] + TREE[3:5], "has no branches at stage 1"),
        ([*TREE, Node("w3", "wet", 0.1)], "must sum to 1"),
        ([*TREE, Node("w1", "dry", 0.1)], "more than once"),
        ([*TREE, Node("lost", "moon", 0.1)], "its parent moon is not there"),
        ([*TREE, Node("too", "", 1.0)], "2 nodes have no parent"),
        ([*TREE, Node("x", "y", 0.5), Node("y", "x", 0.5)], "circle"),
        ([Node("now", "", 0.5), *TREE[1:]], "the root is certain"),
        ([*TREE[:-1], Node("d2", "dry", float("nan"))], "has the probability nan"),
        ([], "0 nodes have no parent"),
    ],
)
def test_a_broken_tree_is_a_mistake(nodes, part):
    assert part in mistakes_of(scenario_tree, nodes)


def test_trees_come_from_files(tmp_path):
    rows = [f"{n.name},{n.parent},{n.probability}" for n in TREE]
    (tmp_path / "t.csv").write_text("\n".join(["node,parent,probability", *rows]))
    tree = read_tree("t.csv", tmp_path)
    assert tree.scenarios == ("w1", "w2", "d1", "d2")
    (tmp_path / "t.csv").write_text("node,probability\nnow,1")
    assert "parent: no such column" in mistakes_of(read_tree, "t.csv", tmp_path)


def test_scenarios_share_a_node_while_their_histories_are_equal():
    x = np.array([[0, 1, 5.0], [0, 1, 6], [0, 2, 5], [0, 2, 5]])
    tree = tree_of_histories(ScenarioSet(("a", "b", "c", "d"), [0.1, 0.2, 0.3, 0.4], {"x": x}), [1, 2])
    assert [set(g) for g in tree.sharing(1).values()] == [{"a", "b"}, {"c", "d"}]
    assert tree.stages == 3
    assert len(tree.nodes[2]) == 4
    with pytest.raises(ValueError, match="already differ"):
        tree_of_histories(ScenarioSet(("a", "b"), [0.5, 0.5], {"x": [[1.0], [2.0]]}), [1])
