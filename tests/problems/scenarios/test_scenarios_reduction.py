"""Reduction of scenarios: probability kept, means within the stated error, selection against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from decomp.errors import InputError
from problems.scenarios.reduction import distances, fast_forward, k_medoids
from problems.scenarios.scenario_set import ScenarioSet

REDUCTIONS = pytest.mark.parametrize("reduce", [fast_forward, k_medoids])


def random_set(seed, count=40, steps=3):
    rng = np.random.default_rng(seed)
    prob = rng.random(count) + 0.1
    series = {"wind": rng.weibull(2, (count, steps)) * 8, "price": rng.normal(40, 300, (count, steps))}
    return ScenarioSet(tuple(f"s{i}" for i in range(count)), prob / prob.sum(), series)


def cost_of(costs, prob, kept):
    return sum(p * min(costs[j, i] for i in kept) for j, p in enumerate(prob))


@REDUCTIONS
@pytest.mark.parametrize("count", [1, 5, 20])
def test_mass_stays_and_means_move_less_than_stated(reduce, count):
    given = random_set(1)
    reduced = reduce(given, count)
    assert len(reduced.scenarios) == count
    assert reduced.before.mass == pytest.approx(1, abs=1e-12)
    assert reduced.after.mass == pytest.approx(1, abs=1e-12)
    for name, values in given.series.items():
        assert 0 < reduced.mean_error[name] <= reduced.mean_error_bound[name]
        mean = given.prob @ values
        np.testing.assert_allclose(reduced.before.mean[name], mean, rtol=1e-12)
        np.testing.assert_allclose(reduced.before.std[name], np.sqrt(given.prob @ values**2 - mean**2), rtol=1e-9)
        np.testing.assert_array_equal(reduced.scenarios.series[name], values[reduced.kept])


@REDUCTIONS
def test_each_dropped_scenario_gives_its_probability_to_the_nearest(reduce):
    given = random_set(2)
    reduced = reduce(given, 6)
    costs = distances(given, reduced.scale)
    for j, i in enumerate(reduced.nearest):
        assert costs[j, reduced.kept[i]] == costs[j, reduced.kept].min()
    for i, p in enumerate(reduced.scenarios.prob):
        assert p == pytest.approx(given.prob[reduced.nearest == i].sum())
    assert reduced.distance == pytest.approx(cost_of(costs, given.prob, reduced.kept))


@pytest.mark.parametrize("seed", range(5))
def test_fast_forward_is_greedy_and_near_the_best_of_all_choices(seed):
    given = random_set(seed, count=9)
    costs = distances(given, fast_forward(given, 1).scale)
    kept: tuple[int, ...] = ()
    for count in (1, 2, 3):
        kept = min(((*kept, u) for u in range(9) if u not in kept), key=lambda k: cost_of(costs, given.prob, k))
        got = fast_forward(given, count)
        assert got.kept.tolist() == sorted(kept)
        best = min(cost_of(costs, given.prob, k) for k in combinations(range(9), count))
        assert got.distance >= best - 1e-12
        assert got.distance <= 1.25 * best
    assert fast_forward(given, 1).distance == pytest.approx(min(cost_of(costs, given.prob, (k,)) for k in range(9)))


@pytest.mark.parametrize("seed", range(5))
def test_no_single_exchange_betters_k_medoids(seed):
    given = random_set(seed, count=20)
    greedy, medoids = fast_forward(given, 4), k_medoids(given, 4)
    assert medoids.distance <= greedy.distance + 1e-12
    costs = distances(given, medoids.scale)
    kept = medoids.kept.tolist()
    for out in kept:
        for into in set(range(20)) - set(kept):
            assert cost_of(costs, given.prob, [into, *set(kept) - {out}]) >= medoids.distance - 1e-9


def test_exchanges_do_better_somewhere():
    better = [k_medoids(random_set(s), 6).distance < fast_forward(random_set(s), 6).distance - 1e-6 for s in range(6)]
    assert any(better)


@REDUCTIONS
def test_clusters_that_are_obvious_are_found(reduce):
    x = np.array([[0.0], [0.1], [-0.1], [10], [10.1], [9.9]])
    given = ScenarioSet(tuple("abcdef"), [0.1, 0.1, 0.1, 0.5, 0.1, 0.1], {"x": x})
    reduced = reduce(given, 2)
    assert reduced.scenarios.names == ("a", "d")
    np.testing.assert_allclose(reduced.scenarios.prob, [0.3, 0.7])


@REDUCTIONS
def test_keeping_all_changes_nothing_even_with_equal_scenarios(reduce):
    given = ScenarioSet(("a", "b", "c"), [0.2, 0.3, 0.5], {"x": [[1.0], [1.0], [4.0]], "certain": [[2.0]] * 3})
    reduced = reduce(given, 3)
    assert reduced.distance == 0
    assert reduced.scenarios.names == given.names
    np.testing.assert_allclose(reduced.scenarios.prob, given.prob)


def test_the_scale_decides_which_series_counts():
    given = ScenarioSet(tuple("abcd"), [0.25] * 4, {"x": [[0.0], [0], [9], [9]], "y": [[0.0], [9], [0], [9]]})
    by_x = fast_forward(given, 2, {"x": 1.0, "y": 1e6})
    assert {given.series["x"][i, 0] for i in by_x.kept} == {0.0, 9.0}
    by_y = fast_forward(given, 2, {"x": 1e6, "y": 1.0})
    assert {given.series["y"][i, 0] for i in by_y.kept} == {0.0, 9.0}


@REDUCTIONS
def test_wrong_requests_are_listed(reduce):
    with pytest.raises(InputError, match="3 mistakes"):
        reduce(random_set(1), 41, {"wind": 0.0})
    with pytest.raises(InputError, match="0 of 40 scenarios"):
        reduce(random_set(1), 0)
