"""Several scenarios of a unit as one block: the same optimum in fewer rounds, answers that are the scenarios' own."""

from __future__ import annotations

import numpy as np
import pytest
from farmer import YIELD, Farmer, farmer
from inventory import MOST, Stock, extensive_form, stock
from lec_cases import settings, small

from decomp.blocks.bundling import bundled
from decomp.messages import Coupling, Key, Signal, Status
from decomp.rules import Bundle, ProgressiveHedging
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from problems.lec.community import LocalEnergyCommunity
from problems.risk import Risk, add_risk, with_value_at_risk

UNEQUAL = (0.5, 0.3, 0.2)


def solve(problem, size, rule, tolerance=1e-6, limit=80):
    make, coupling = problem
    found = bundled(coupling, size)
    result = run(
        lambda key: found.block(key, make), None, rule, coupling=found.couplings, stop=[Gap(tolerance, 0.0, "total")],
        limits=Limits(limit), certificate=CertificateSettings(every=1),
    )  # fmt: skip
    return result, found


def flat(scenarios, entries=("x",), **options):
    prob = {Key("u", s): 1 / len(scenarios) for s in scenarios}
    return Coupling("u", entries, np.ones(len(entries)), np.full(len(entries), -1), prob, **options)


# -- who goes with whom ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(20, 5, [5] * 4), (7, 3, [3, 2, 2]), (4, 9, [4]), (3, 1, [1] * 3)]
)
def test_scenarios_are_dealt_out_evenly(count, size, sizes):
    found = bundled([flat([f"{s:02d}" for s in range(count)], report=("p", "q"))], size)
    assert [len(m) for m in found.members.values()] == sizes
    assert sorted(s for m in found.members.values() for s in m) == [Key("u", f"{s:02d}") for s in range(count)]
    (coupling,) = found.couplings
    assert sorted(coupling.prob.values()) == pytest.approx(sorted(n / count for n in sizes))
    assert len(coupling.report) == 2 * max(sizes)


def test_one_scenario_a_block_changes_nothing():
    make, coupling = stock()
    found = bundled(coupling, 1)
    assert found.couplings == tuple(coupling)
    assert isinstance(found.block(Key("stock", "low-calm"), make), Stock)


@pytest.mark.parametrize(
    ("size", "groups", "entries"),
    [
        (2, [2, 2, 1], ("order 0", "order 1")),  # the three under "high" must agree on order 1 across their bundles
        (3, [2, 3], ("order 0",)),  # a bundle for each node of stage 1
        (4, [2, 3], ("order 0",)),
        (5, [5], ("order 0",)),
    ],
)
def test_bundles_are_subtrees(size, groups, entries):
    _, coupling = stock()
    found = bundled(coupling, size)
    assert [len(m) for m in found.members.values()] == groups
    assert found.couplings[0].entries == entries


def test_tree_nodes_that_are_no_tree_are_refused():
    keys = [Key("u", s) for s in "abcd"]
    crossing = {key: np.array([i // 2, i % 2, 0]) for i, key in enumerate(keys)}
    with pytest.raises(ValueError, match="the nodes are no tree"):
        bundled([flat("abcd", ("x", "y", "z"), sharing=crossing)], 2)
    with pytest.raises(ValueError, match="at least 1"):
        bundled([flat("abcd")], 0)


# -- the same optimum --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [Bundle(), ProgressiveHedging()], ids=["bundle", "ph"])
def test_bundled_farmer_has_the_same_optimum_in_fewer_rounds(rule):
    problem = farmer(UNEQUAL)
    plain, _ = solve(problem, 1, rule)
    pairs, _ = solve(problem, 2, rule)
    whole, _ = solve(problem, 3, rule)
    for result in (plain, pairs, whole):
        assert result.status == RunStatus.CERTIFIED, result.reason
        assert result.objective == pytest.approx(-93050.0, rel=1e-6)
    assert len(whole.rows) == 1 < len(pairs.rows) < len(plain.rows)
    first = [result.rows[0].lower_bound for result in (plain, pairs, whole)]
    assert first[0] + 100 < first[1] < first[2] - 100
    assert first[2] == pytest.approx(-93050.0)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_bundled_tree_has_the_same_optimum(size):
    best, _ = extensive_form()
    result, _ = solve(stock(), size, Bundle())
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(best, rel=1e-6)
    for row in result.rows:
        assert row.lower_bound <= best * (1 + 1e-9)
        assert row.upper_bound is None or row.upper_bound >= best * (1 - 1e-9)


def test_a_bundle_may_be_averse_to_risk():
    risk = Risk(alpha=0.5, beta=1.0)

    class Averse(Farmer):
        def build(self):
            model = super().build()
            add_risk(model, risk, -300e3, 200e3)
            return model

    _, (coupling,) = farmer(UNEQUAL)
    result, found = solve(((lambda key: Averse(key.scenario)), [with_value_at_risk(coupling, risk)]), 2, Bundle())
    assert result.status == RunStatus.CERTIFIED
    assert found.couplings[0].entries[-1] == "value_at_risk"
    costs = [Farmer(name).evaluate(result.answers.y[:3]).cost for name in YIELD]
    assert result.objective == pytest.approx(risk.of(costs, UNEQUAL), rel=1e-6)


# -- what a bundle says ------------------------------------------------------------------------------------------------


def test_reports_and_costs_are_those_of_the_scenarios():
    make, coupling = stock()
    found = bundled(coupling, 3)
    key = list(found.members)[-1]
    block, members = found.block(key, make), found.members[key]
    y = np.array([37.0])
    answer = block.evaluate(y)
    schedules = block.value(answer.point, "coupling")
    assert schedules == pytest.approx(y)
    orders = [block.value(answer.point, f"scenario[{s.scenario}].order") for s in members]
    assert np.ptp([o[1] for o in orders]) < 1e-9  # all three are under one node of stage 1
    alone = [make(s).evaluate(o) for s, o in zip(members, orders, strict=True)]
    prob = np.array([coupling[0].prob[s] for s in members])
    assert answer.cost == pytest.approx(prob / prob.sum() @ [a.cost for a in alone])
    told = found.reports({k: answer.report for k in found.members})
    assert [told[s][0] for s in members] == pytest.approx([a.report[0] for a in alone])


def test_a_smaller_bundle_fills_its_report():
    make, coupling = stock()
    found = bundled(coupling, 3)
    small, large = found.members
    assert (len(found.members[large]), len(found.members[small])) == (3, 2)
    report = found.block(small, make).solve(Signal(np.zeros(1))).report
    assert np.isfinite(report).tolist() == [True, True, False]


def test_a_bundle_of_one_beside_larger_ones_speaks_as_they_do():
    class Told(Stock):
        def detail(self, response):
            return {"orders": response.y}

    _, coupling = stock()
    found = bundled(coupling, 2)  # the last of the three under "high" is alone
    key = next(k for k, m in found.members.items() if len(m) == 1)
    block = found.block(key, lambda one: Told(one.scenario))
    answer = block.solve(Signal(np.zeros(2)))
    assert np.isfinite(answer.report).tolist() == [True, False]
    series = found.details({key: block.detail(answer)})
    orders = series[found.members[key][0]]["orders"]
    assert orders[:2] == pytest.approx(answer.y)
    assert 0 <= orders[2] <= MOST  # settled within the bundle, told all the same


NEED = np.array([False, True, True, False])
ASKED = Signal(np.where(NEED, 3.0, 0.02), active=NEED, exact=True)


@pytest.fixture(scope="module", params=[False, True], ids=["own models", "one template"])
def communities(request):
    """A community on a bright and on a dull day: offers count from each day's own schedule, P is frozen in need."""
    own = settings(
        load_peak_kw=50.0, pv={"peak_kwp": 40.0, "inverter_kva": 42.0, "q_share": 0.6},
        battery={"capacity_kwh": 40.0, "power_kw": 20.0},
    )  # fmt: skip
    spot, load = [0.3, 0.9, 0.5, 0.6], np.array([20.0, 30.0, 50.0, 40.0])
    days = {
        day: small(4, spot_sek_per_kwh=spot, load_p_kw=load, load_q_kvar=0.4 * load, pv_pu=pv,
                   reactive_price_sek_per_kvarh=0.02)
        for day, pv in (("bright", [0.2, 0.9, 0.8, 0.1]), ("dull", [0.1, 0.3, 0.4, 0.0]))
    }  # fmt: skip
    prob = {Key("LEC", "bright"): 0.7, Key("LEC", "dull"): 0.3}
    hours, report = tuple(f"h{k}" for k in range(4)), tuple(f"r{i}" for i in range(8))
    found = bundled([Coupling("LEC", hours, np.ones(4), np.arange(4), prob, report)], 2)

    def make(key):
        return LocalEnergyCommunity("LEC", own, days[key.scenario], freeze_p=True, shared=request.param)

    (key,) = found.members
    block, alone = found.block(key, make), {s: make(s) for s in found.members[key]}
    for one in alone.values():
        one.solve(ASKED)
    return found, key, block, alone, block.solve(ASKED)


def test_offers_of_a_bundle_count_from_each_scenarios_schedule(communities):
    found, key, block, alone, answer = communities
    assert answer.status is Status.OPTIMAL, answer.message
    assert np.max(np.abs(answer.y)) > 5
    prob = [0.7, 0.3]
    each = [one.evaluate(answer.y) for one in alone.values()]
    assert all(one.status is Status.OPTIMAL for one in each)
    assert answer.cost == pytest.approx(np.dot(prob, [one.cost for one in each]), abs=1e-4)
    assert block.evaluate(answer.y).cost == pytest.approx(answer.cost, abs=1e-4)
    told = found.reports({key: answer.report})
    for (s, one), response in zip(alone.items(), each, strict=True):
        assert told[s][4:] == pytest.approx(one.initial.offer)  # what it injects in its initial schedule
        assert told[s][:4][NEED] == pytest.approx(response.report[:4][NEED], abs=1e-6)  # as in that schedule
    assert np.ptp([one.initial.offer for one in alone.values()], axis=0).max() > 0.5
    bounds = [one.solve(ASKED).bound for one in alone.values()]
    assert answer.bound > np.dot(prob, bounds) + 0.01  # agreeing is what alone they need not


def test_series_of_a_bundle_are_those_of_its_scenarios(communities):
    found, key, block, alone, answer = communities
    series = found.details({key: block.detail(answer)})
    assert set(series) == set(alone)
    changes = []
    for s, one in alone.items():
        assert set(series[s]) == set(one.detail(one.evaluate(answer.y)))
        given = series[s]
        changes.append(given["q_import_initial_kvar"] - given["q_import_kvar"])
    assert changes[0] == pytest.approx(answer.y, abs=1e-6)
    assert changes[1] == pytest.approx(answer.y, abs=1e-6)
    assert not np.allclose(series[Key("LEC", "bright")]["p_import_kw"], series[Key("LEC", "dull")]["p_import_kw"])


def test_a_bundle_goes_on_from_its_warm_state(communities):
    found, key, block, alone, answer = communities
    del found, key, alone
    saved = block.save()
    one = block.solve(Signal(np.full(4, 0.05)))
    block.load(saved)
    two = block.solve(Signal(np.full(4, 0.05)))
    assert np.array_equal(one.y, two.y)
    assert one.cost == two.cost
    assert not np.array_equal(one.y, answer.y)
