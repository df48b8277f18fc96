"""Rules that only move prices, and rules around rules: known answers, known iterates, and what must not matter."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from closed_form import QuadraticBlock, VoltageRow, exchange, three_buses, two_lecs, unit
from hypothesis import given, settings
from hypothesis import strategies as st

from decomp.case.config import described, load
from decomp.coordinators import Exchange, Nobody
from decomp.errors import InputError, RefusedError
from decomp.layout import Layout
from decomp.messages import Key
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Serial
from decomp.rules import (
    AveragedAnswers,
    AveragedPrices,
    BarzilaiBorwein,
    Damped,
    DeflectedSubgradient,
    DualAscent,
    Nesterov,
    Polyak,
    Projected,
    Setup,
    Volume,
)
from decomp.rules.dual_space import Point, metric
from decomp.rules.level import Level
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import iterate, run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from decomp.steps import Step, constant

ASCENTS = (BarzilaiBorwein, Nesterov, Polyak, DeflectedSubgradient, Volume)
OPEN = {RunStatus.ITERATION_LIMIT, RunStatus.DIVERGED}  # what a run without a certificate may end with
MEAN, VALUE = 2.3, 3.61 - 8.9  # of the three scenarios below: sum pi a, and sum pi (a - mean)^2 - sum pi a^2


def dual_ascent(a):
    return DualAscent(Step(constant, {"a": a}))


def scenarios():
    """min sum pi_s (y - a_s)^2 less a constant, one y for all: the weighted mean of a."""
    names, a, prob = ("0", "1", "2"), (1.0, 2.0, 6.0), (0.5, 0.3, 0.2)
    blocks = {Key("u", s): QuadraticBlock(2.0, -2 * x) for s, x in zip(names, a, strict=True)}
    return blocks, Nobody(), [unit("u", (-1,), scenarios=names, prob=prob)]


def market(units=50, hours=24, seed=0, cost=1.0, quantity=1.0):
    """Units with bounds and random quadratic costs meet a demand in every hour; costs and quantities in any unit."""
    draw = np.random.default_rng(seed)
    blocks, coupling = {}, []
    for i in range(units):
        a, b, hi = np.exp(draw.normal(0, 1, hours)), draw.uniform(0, 2, hours), draw.uniform(1, 3, hours)
        block = QuadraticBlock(a * cost / quantity**2, b * cost / quantity, 0.0, hi * quantity, n=hours)
        blocks[Key(f"u{i:02d}")] = block
        coupling.append(unit(f"u{i:02d}", tuple(range(hours)), np.ones(hours)))
    demand = draw.uniform(0.3, 0.6, hours) * units
    box = (np.zeros(hours), np.full(hours, 3.0 * units * quantity))
    names = [f"h{t}" for t in range(hours)]
    return blocks, Exchange(names, demand * quantity, box, scale=np.full(hours, cost / quantity)), coupling


def market_optimum(blocks, coordinator):
    """Cost at the price at which offers meet demand, hour by hour, by bisection."""
    demand = coordinator.model.lo
    low, high = np.full(len(demand), -1e3), np.full(len(demand), 1e3)
    for _ in range(100):
        price = (low + high) / 2
        offers = sum(np.clip((price - b.b) / b.a, b.lo, b.hi) for b in blocks.values())
        low, high = np.where(offers < demand, price, low), np.where(offers < demand, high, price)
    return sum(b.cost(np.clip((low - b.b) / b.a, b.lo, b.hi)) for b in blocks.values())


def certified(rule, problem, tolerance, limit):
    blocks, coordinator, coupling = problem
    return run(
        blocks, coordinator, rule, coupling=coupling, stop=[Gap(tolerance, 1e-12, "total")], limits=Limits(limit),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


def steps(rule, problem, count):
    """The first rounds of a rule, without stopping: one engine Step each."""
    blocks, coordinator, coupling = problem
    layout = Layout.of(coupling, len(coordinator.nodes))
    seen = []
    with BlockPool(Serial(), layout, blocks.__getitem__) as fleet:
        fleet.build()
        state = rule.init(Setup.of(layout, coordinator))
        warm = (None,) * len(coordinator.parts())
        for k in range(count):
            step = iterate(k, fleet, coordinator, rule, state, warm)
            state, warm = step.state, step.warm
            seen.append(step)
    return seen


def prices(rule, problem, count):
    return np.array([step.round.node_price for step in steps(rule, problem, count)])


@pytest.mark.parametrize("rule", ASCENTS)
@pytest.mark.parametrize(
    ("problem", "optimum", "y"),
    [(two_lecs, 3.75, [0.75, 0.25]), (exchange, 3.0, [2, 1]), (scenarios, VALUE, [MEAN] * 3)],
)
def test_certified_optimum_is_the_known_answer(rule, problem, optimum, y):
    result = certified(rule(), problem(), 1e-4, 100)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(optimum, rel=2e-4)
    assert result.answers.y == pytest.approx(np.array(y, float), abs=0.03)
    assert result.certificate.w_sum < 1e-12
    for row in result.rows:
        assert row.lower_bound <= optimum + 1e-8
        assert row.upper_bound is None or row.upper_bound >= optimum - 1e-8


# Costs are linear but for 1e-9 y^2: offers jump from one bound to the other at a price.
@pytest.mark.parametrize(
    ("rule", "status"),
    [
        (Polyak(), {RunStatus.CERTIFIED}),
        (Polyak(optimum=2700.0), {RunStatus.CERTIFIED}),
        (DeflectedSubgradient(), {RunStatus.CERTIFIED}),
        (Volume(), {RunStatus.CERTIFIED}),
        (BarzilaiBorwein(), {RunStatus.CERTIFIED}),
        (Nesterov(), OPEN),
        (dual_ascent(0.5), OPEN),
        (AveragedPrices(AveragedAnswers(dual_ascent(0.5))), OPEN),
    ],
)
def test_jumping_offers_are_met_with_an_honest_status(rule, status):
    result = certified(rule, three_buses(), 1e-2, 100)
    assert result.status in status, result.reason
    optimum = 2700.0 + 0.5e-9 * (30**2 + 120**2)
    for row in result.rows:
        assert row.lower_bound <= optimum * (1 + 1e-9)
        assert row.upper_bound is None or row.upper_bound >= optimum * (1 - 1e-9)


@pytest.mark.parametrize(
    ("rule", "most"), [(BarzilaiBorwein, 12), (Nesterov, 15), (Polyak, 40), (DeflectedSubgradient, 40), (Volume, 60)]
)
def test_fifty_units_and_a_day_of_hours_take_about_as_many_rounds_as_measured(rule, most):
    blocks, coordinator, coupling = market()
    result = certified(rule(), (blocks, coordinator, coupling), 1e-4, most)
    assert result.status == RunStatus.CERTIFIED, result.reason
    optimum = market_optimum(blocks, coordinator)
    assert result.certificate.lower_bound <= optimum * (1 + 1e-9)
    assert result.objective == pytest.approx(optimum, rel=1e-4)
    assert result.objective >= optimum * (1 - 1e-7)


@pytest.mark.parametrize("rule", [BarzilaiBorwein, Nesterov])
@pytest.mark.parametrize("wrong", [1e-2, 1e2])
def test_first_step_a_hundred_times_off_costs_a_few_rounds(rule, wrong):
    problem = market(20, 12)
    right = len(certified(rule(), problem, 1e-4, 40).rows)
    result = certified(rule(first_step=0.1 * wrong), market(20, 12), 1e-4, right + 8)
    assert result.status == RunStatus.CERTIFIED, result.reason


@pytest.mark.parametrize("optimum", [3.75, None])
def test_polyak_halves_the_distance_where_the_optimum_is_known(optimum):
    # d* - d = (7.5 - TS)^2 / 15 and R = 2 (7.5 - TS) / 15, hence TS+ = (TS + 7.5) / 2
    seen = prices(Polyak(optimum=optimum), two_lecs(), 12)[:, 0]
    known = 7.5 * (1 - 0.5 ** np.arange(12))
    if optimum is None:
        assert seen[1] == pytest.approx(0.1)  # first_step of the reference price
        assert seen[:4] != pytest.approx(known[:4], rel=0.1)
    else:
        assert seen == pytest.approx(known, abs=1e-6)


def test_barzilai_borwein_solves_one_smooth_row_as_soon_as_it_knows_the_curvature():
    # once the first move has left price 0 (no need below it, R = 1 at it) two points of one line give its zero
    seen = prices(BarzilaiBorwein(), two_lecs(), 4)[:, 0]
    assert seen[1] == pytest.approx(0.1)
    assert seen[2:] == pytest.approx(7.5, abs=1e-6)


def test_barzilai_borwein_takes_back_a_move_that_loses():
    # the slope along the move vanishes at 7.5, but a move is shortened to a tenth of it at most
    assert prices(BarzilaiBorwein(first_step=500.0), two_lecs(), 4)[:, 0] == pytest.approx([0.0, 500.0, 50.0, 7.5])


def test_nesterov_drops_its_momentum_where_it_points_downhill():
    blocks, network, coupling = two_lecs()
    rule, setup = Nesterov(), Setup.of(Layout.of(coupling, 1), network)
    n = 1 + len(blocks)
    known = replace(
        rule.init(setup), x=np.full(n, 1.0), z=np.full(n, 1.5), slope=np.full(n, 1.0), length=1.0, guessed=False,
        theta=5.0, values=(0.0,),
    )  # fmt: skip
    for slope, momentum in ((-3.0, 0.0), (0.5, 4.0)):
        here = Point(np.full(n, 2.0), np.full(n, slope), 1.0, np.zeros(2), 0.1)
        after, z, _ = rule.move(known, here)
        length = 0.5 / abs(1.0 - slope)  # |z - z_last| / |slope - slope_last|
        x = 2.0 + length * slope
        assert after.x == pytest.approx(np.full(n, x))
        beta = momentum / ((1 + np.sqrt(1 + 4 * (momentum + 1) ** 2)) / 2)
        assert z == pytest.approx(np.full(n, x + beta * (x - 1.0)))


def test_nesterov_comes_back_from_prices_that_only_lose():
    blocks, network, coupling = three_buses()
    network.scale = np.full(2, 100.0)
    assert np.max(np.abs(prices(Nesterov(), (blocks, network, coupling), 50)[-10:])) < 1e2


def test_directions_without_deflection_are_polyaks():
    assert np.array_equal(
        prices(DeflectedSubgradient(deflection=0.0), market(8, 6), 15), prices(Polyak(), market(8, 6), 15)
    )


def test_deflection_never_turns_back_on_the_last_direction():
    rule, last = DeflectedSubgradient(), np.array([1.0, 0.0])
    slope = np.array([-0.4, 1.0])
    assert rule.direction(slope, np.zeros(0)) is slope
    assert rule.direction(slope, last) == pytest.approx([0.2, 1.0])  # s = slope + 1.5 0.4 last
    assert DeflectedSubgradient(deflection=1.0).direction(slope, last) @ last == pytest.approx(0.0)
    ahead = np.array([0.4, 1.0])
    assert np.array_equal(rule.direction(ahead, last), ahead)
    # straight back: the deflected direction would lead downhill
    assert np.array_equal(rule.direction(np.array([-1.0, 0.1]), last), [-1.0, 0.1])


def test_target_is_kept_until_half_is_gained_or_patience_ends():
    level = Level.at(10.0, 4.0)
    assert level.target == 14.0
    assert level.after(12.0, 2.0, 3) == Level(12.0, 12.0, 8.0)  # half gained in one round
    once = level.after(11.0, 2.0, 3)
    assert (once.target, once.best) == (14.0, 11.0)
    assert once.after(12.5, 2.0, 3) == Level(12.5, 12.5, 4.0)  # half gained in two
    twice = once.after(9.0, 2.0, 3)
    assert twice.target == 14.0
    assert twice.after(9.0, 2.0, 3) == Level(11.0, 11.0, 2.0)


def test_averaged_answers_of_volume_meet_the_averaged_request():
    seen = steps(Volume(), market(8, 6), 25)
    layout, demand = seen[0].state.setup.layout, market(8, 6)[1].model.lo
    for step in seen:  # here every request is the demand, so is their average
        assert layout.totals(step.candidate.ybar) == pytest.approx(demand, rel=1e-7)
    costs = [abs(step.state.slope @ step.state.slope) for step in seen]
    assert costs[-1] < 1e-2 * costs[0]  # squares: a tenth of the mismatch


@pytest.mark.parametrize("rule", ASCENTS)
def test_units_of_cost_and_quantity_do_not_matter(rule):
    base = prices(rule(), market(8, 6), 12)
    dear = prices(rule(), market(8, 6, cost=1024.0), 12)
    large = prices(rule(), market(8, 6, quantity=1024.0), 12)
    assert dear / 1024 == pytest.approx(base, rel=1e-6)
    assert large * 1024 == pytest.approx(base, rel=1e-6)


def test_units_do_not_matter_where_scenarios_only_agree():
    for rule in ASCENTS:
        w = []
        for cost, quantity in ((1.0, 1.0), (1024.0, 1.0), (1.0, 1024.0)):
            blocks, nobody, coupling = scenarios()
            scaled = {key: QuadraticBlock(b.a * cost / quantity**2, b.b * cost / quantity) for key, b in blocks.items()}
            w.append(steps(rule(), (scaled, nobody, coupling), 10)[-1].state.w * quantity / cost)
        assert w[1] == pytest.approx(w[0], rel=1e-9)
        assert w[2] == pytest.approx(w[0], rel=1e-9)


@pytest.mark.parametrize("rule", ASCENTS)
def test_hourly_weights_leave_prices_unchanged(rule):
    blocks, hourly, coupling = market(6, 4)
    quarter = {k: QuadraticBlock(b.a, b.b, b.lo, b.hi, weight=0.25, n=4) for k, b in blocks.items()}
    _, market_quarter, _ = market(6, 4)
    market_quarter.weight = np.full(4, 0.25)
    same = [replace(c, weight=np.full(4, 0.25)) for c in coupling]
    expected = prices(rule(), (blocks, hourly, coupling), 10)
    assert prices(rule(), (quarter, market_quarter, same), 10) == pytest.approx(expected, rel=1e-6)


def hedged_market():
    """A unit of two unequal scenarios and one without share a node; the first also agrees on an entry without one."""
    blocks = {
        Key("a", "dry"): QuadraticBlock([1.0, 2.0], [0.0, -2.0], n=2),
        Key("a", "wet"): QuadraticBlock([3.0, 2.0], [1.0, -9.0], n=2),
        Key("b"): QuadraticBlock(2.0),
    }
    row = Exchange(["market"], np.array([3.0]), (np.array([-100.0]), np.array([100.0])))
    return blocks, row, [unit("a", (0, -1), (1.0, 1.0), ("dry", "wet"), (0.7, 0.3)), unit("b")]


@pytest.mark.parametrize("rule", [*(r() for r in ASCENTS), Damped(Polyak(), 0.7), AveragedPrices(Polyak())])
def test_agreement_prices_sum_to_zero_in_every_round(rule):
    seen = steps(rule, hedged_market(), 20)
    layout = seen[0].state.setup.layout
    for step in seen:
        size = np.max(np.abs(step.state.w))
        assert np.max(np.abs(layout.mean(step.state.w))) <= 1e-12 * (1 + size)
    assert size > 0.1


@pytest.mark.parametrize("rule", ASCENTS)
def test_nodes_and_agreement_are_priced_together(rule):
    # ybar: (y1, y2) minimise .7 (y1^2/2 + y2^2 - 2 y2) + .3 (3/2 y1^2 + y1 + y2^2 - 9 y2) + (3 - y1)^2
    y1 = (6 - 0.3) / (0.7 + 0.9 + 2)
    result = certified(rule(), hedged_market(), 1e-6, 120)
    assert result.status == RunStatus.CERTIFIED, result.reason
    ybar = result.layout.mean(result.answers.y)
    assert ybar == pytest.approx([y1, (1.4 + 2.7) / 2, 3 - y1], abs=0.01)


class HalfNeeded(Exchange):
    """Nobody needs anything in the second row, whatever request is written there."""

    written = 0.5

    def answer(self, part, query, reports, warm):
        request, warm = super().answer(part, query, reports, warm)
        needed = np.array([True, False])
        return replace(request, Z=np.where(needed, request.Z, query.center + self.written), active=needed), warm


def half_needed(written=0.5):
    blocks = {Key("a"): QuadraticBlock(1.0, n=2), Key("b"): QuadraticBlock(2.0, n=2)}
    row = HalfNeeded(["h0", "h1"], np.array([3.0, 0.6]), (np.full(2, -100.0), np.full(2, 100.0)))
    row.neutral, row.written = np.array([0.0, 0.4]), written
    return blocks, row, [unit("a", (0, 1), (1.0, 1.0)), unit("b", (0, 1), (1.0, 1.0))]


@pytest.mark.parametrize(
    "rule",
    [
        *(r(start=1.0) for r in ASCENTS),
        Projected(Polyak(start=1.0), floor=1.0),
        Damped(Polyak(start=1.0), 0.5),
        AveragedPrices(Polyak(start=1.0), begin=20),
        AveragedPrices(Polyak(start=1.0), power=3.0),
    ],
)
def test_price_stays_neutral_where_nothing_is_needed(rule):
    seen = prices(rule, half_needed(), 45)[1:]
    assert np.all(seen[:, 1] == 0.4)
    assert seen[-1, 0] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("rule", ASCENTS)
def test_request_where_nothing_is_needed_moves_no_price(rule):
    assert prices(rule(), half_needed(9.0), 12) == pytest.approx(prices(rule(), half_needed(0.0), 12), rel=1e-6)


RULES_OF_ALL_SORTS = [
    *(r() for r in ASCENTS),
    Projected(Polyak(), 0.0, 1.0),
    Damped(Nesterov()),
    AveragedAnswers(BarzilaiBorwein()),
    AveragedPrices(Volume(), begin=3),
]


def frozen_copy(thing):
    """Every array below, copied."""
    if isinstance(thing, np.ndarray):
        return thing.copy()
    if is_dataclass(thing):
        return {f.name: frozen_copy(getattr(thing, f.name)) for f in fields(thing)}
    return [frozen_copy(x) for x in thing] if isinstance(thing, tuple) else copy.copy(thing)


@pytest.mark.parametrize("rule", RULES_OF_ALL_SORTS, ids=lambda rule: type(rule).__name__)
def test_update_leaves_its_inputs_as_they_were(rule):
    for before, step in zip((seen := steps(rule, hedged_market(), 8)), seen[1:], strict=False):
        inputs = (before.state, step.answers, step.round.request)
        kept = frozen_copy(inputs)
        one = rule.update(step.round.k, inputs[0], inputs[1], inputs[2])[0]
        np.testing.assert_equal(frozen_copy(inputs), kept)
        two = rule.update(step.round.k, inputs[0], inputs[1], inputs[2])[0]
        assert np.array_equal(one.price, two.price)  # nothing is remembered but the state
        assert np.array_equal(one.w, two.w)


@pytest.mark.parametrize("rule", [dual_ascent(0.05), Polyak(), BarzilaiBorwein(), Nesterov(), Volume()])
def test_wrapper_that_changes_nothing_is_the_rule_itself(rule):
    alone = prices(rule, market(8, 6), 12)
    for same in (Projected(rule), Damped(rule, 1.0), AveragedAnswers(rule), Projected(Damped(rule, 1.0))):
        assert prices(same, market(8, 6), 12) == pytest.approx(alone, rel=1e-12)


def test_damped_steps_are_smaller_steps():
    assert prices(Damped(dual_ascent(6.0), 0.5), two_lecs(), 8) == pytest.approx(
        prices(dual_ascent(3.0), two_lecs(), 8)
    )
    over = prices(Damped(dual_ascent(2.0), 1.5), two_lecs(), 8)
    assert over == pytest.approx(prices(dual_ascent(3.0), two_lecs(), 8))


def test_damping_ends_a_cycle():
    # constant step 15 cycles on K1
    assert certified(dual_ascent(15.0), two_lecs(), 1e-4, 40).status in OPEN
    assert certified(Damped(dual_ascent(15.0), 0.5), two_lecs(), 1e-4, 40).status == RunStatus.CERTIFIED


def test_projected_prices_stay_within_their_limits():
    seen = prices(Projected(dual_ascent(3.0), cap=5.0), two_lecs(), 10)[:, 0]
    assert seen.max() == 5.0
    assert seen[-3:] == pytest.approx([5.0] * 3)
    result = certified(Projected(dual_ascent(3.0), floor=0.0, cap=5.0), two_lecs(), 1e-4, 20)
    assert result.status in OPEN  # the right price, 7.5, may not be asked
    assert result.certificate.lower_bound == pytest.approx(3.75 - 2.5**2 / 15)


def test_limits_may_differ_by_group():
    blocks, coordinator, coupling = market(8, 2)
    rule = Projected(dual_ascent(0.02), floor={"h0": 0.5, "h1": 0.0}, cap={"h0": 0.6, "h1": 9.0})
    seen = prices(rule, (blocks, coordinator, coupling), 10)
    assert seen[0] == pytest.approx([0.5, 0.0])
    assert seen[-1, 0] == pytest.approx(0.6)
    assert seen[-1, 1] > 0.6


def test_projection_reaches_through_other_wrappers():
    # R = 1 - TS / 7.5: from the cap 12 the next price is 12 + 15 R(12) = 3, as the rule within goes on from the cap
    seen = prices(Projected(Damped(Damped(dual_ascent(60.0), 0.5), 0.5), cap=12.0), two_lecs(), 5)[:, 0]
    assert seen == pytest.approx([0.0, 12.0, 3.0, 12.0, 3.0])


def test_averaged_price_is_the_mean_of_the_rules_own():
    own = prices(dual_ascent(15.0), two_lecs(), 9)[:, 0]
    seen = steps(AveragedPrices(dual_ascent(15.0), begin=2), two_lecs(), 9)
    asked = [step.round.node_price[0] for step in seen]
    assert asked[:3] == pytest.approx(own[:3])
    assert asked[3:] == pytest.approx([own[2 : k + 1].mean() for k in range(3, 9)])
    assert [len(step.signals) for step in seen] == [1, 1, 1, 2, 2, 2, 2, 2, 2]
    late = prices(AveragedPrices(dual_ascent(15.0), power=1.0), two_lecs(), 4)[:, 0]
    assert late[3] == pytest.approx(np.average(own[:4], weights=[1, 2, 3, 4]))


def test_average_of_a_cycle_is_the_price():
    # a step of 15 goes 0, 15, 0, 15, ...; on average 7.5
    result = certified(AveragedPrices(dual_ascent(15.0)), two_lecs(), 1e-4, 40)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.price[0] == pytest.approx(7.5, rel=0.02)


def test_averaged_answers_are_the_means_of_the_answers():
    seen = steps(AveragedAnswers(dual_ascent(15.0), begin=1), two_lecs(), 6)
    assert seen[0].candidate is None
    offers = np.array([step.answers[0].y for step in seen[1:]])
    asked = np.array([step.round.request.Z[0] for step in seen[1:]])
    for k in range(1, 6):
        point = seen[k].candidate.ybar
        assert point.sum() == pytest.approx(asked[:k].mean(), abs=1e-7)
    assert seen[-1].state.ybar == pytest.approx(offers.mean(axis=0))


def test_wrapper_needs_what_the_rule_within_needs():
    from decomp.rules import ADMM

    class PriceTaker(QuadraticBlock):
        abilities = frozenset({"bound"})

    assert Damped(ADMM(1.0)).needs == frozenset({"penalty"})
    assert Projected(Polyak()).needs == frozenset()
    assert Damped(Polyak()).reveals == "y, cost"
    _, row, coupling = exchange()
    blocks = {Key("a"): PriceTaker(1.0), Key("b"): PriceTaker(2.0)}
    with pytest.raises(RefusedError, match="penalty"):
        run(blocks, row, Projected(ADMM(1.0)), coupling=coupling, stop=[], limits=Limits(3))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), rule=st.sampled_from(RULES_OF_ALL_SORTS))
def test_bounds_enclose_the_optimum_in_every_round(seed, rule):
    blocks, coordinator, coupling = market(5, 3, seed)
    optimum = market_optimum(blocks, coordinator)
    result = certified(rule, (blocks, coordinator, coupling), 1e-6, 12)
    assert result.status != RunStatus.FAILED, result.reason
    for row in result.rows:
        assert row.lower_bound <= optimum + 1e-7 * abs(optimum)
        assert row.upper_bound is None or row.upper_bound >= optimum - 1e-7 * abs(optimum)


def test_move_along_the_slope_gains_what_the_slope_says():
    blocks, coordinator, coupling = hedged_market()
    here, there = steps(Polyak(first_step=1e-5), (blocks, coordinator, coupling), 2)
    setup, layout = here.state.setup, here.state.setup.layout

    def value(step, price, w):
        y = step.answers[0].y
        lam = layout.to_blocks(layout.to_units(price)) + w
        return step.answers[0].expected_cost() - np.sum(layout.prob * layout.inner(lam, y)) + 3.0 * price[0]

    zero = np.zeros(len(here.state.w))
    gain = value(there, there.round.node_price, here.state.w) - value(here, here.round.node_price, zero)
    ybar = layout.mean(here.answers[0].y)
    g = np.concatenate([here.round.request.Z - layout.totals(ybar), layout.to_blocks(ybar) - here.answers[0].y])
    dv = np.concatenate([there.round.node_price - here.round.node_price, here.state.w])
    assert gain == pytest.approx(np.sum(metric(setup) * g * dv), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Polyak(theta=2.0), "theta"),
        (lambda: Polyak(grow=0.5), "grow"),
        (lambda: Polyak(patience=0), "patience"),
        (lambda: DeflectedSubgradient(deflection=2.0), "deflection"),
        (lambda: Volume(largest_part=0.0), "largest_part"),
        (lambda: Volume(reds=0), "reds"),
        (lambda: BarzilaiBorwein(choice=1.5), "choice"),
        (lambda: BarzilaiBorwein(memory=0), "memory"),
        (lambda: Nesterov(growth=0.9), "growth"),
        (lambda: Nesterov(memory=0), "memory"),
        (lambda: Nesterov(first_step=0.0), "first_step"),
        (lambda: Damped(Polyak(), 2.0), "factor"),
        (lambda: AveragedPrices(Polyak(), begin=-1), "begin"),
    ],
)
def test_setting_out_of_range_is_refused_by_name(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("rule", "problem", "text"),
    [
        (Projected(Polyak(), floor=2.0, cap=1.0), two_lecs, "floor lies above cap for feeder"),
        (Projected(Polyak(), floor={"elsewhere": 2.0}), two_lecs, "floor has no value for feeder"),
        (Polyak(agreement_penalty={"acres": 1.0}), scenarios, "agreement_penalty has no value for e0"),
        (Polyak(agreement_penalty=-1.0), scenarios, "agreement_penalty must be positive"),
        (Nesterov(), lambda: (two_lecs()[0], VoltageRow(scale=0.0), two_lecs()[2]), "scale"),
    ],
)
def test_rule_that_does_not_fit_the_case_is_refused_before_round_zero(rule, problem, text):
    blocks, coordinator, coupling = problem()
    with pytest.raises(RefusedError, match=text):
        run(blocks, coordinator, rule, coupling=coupling, stop=[], limits=Limits(3))


def test_agreement_penalty_by_entry_name_sets_the_ratio_of_the_moves():
    blocks = {Key("u", s): QuadraticBlock([2.0, 2.0], [-2 * x, -2 * x], n=2) for s, x in (("0", 1.0), ("1", 4.0))}
    coupling = [unit("u", (-1, -1), (1.0, 1.0), ("0", "1"))]
    rule = Polyak(agreement_penalty={"e0": 1.0, "e1": 8.0})
    w = steps(rule, (blocks, Nobody(), coupling), 1)[0].state.w
    assert w[1] / w[0] == pytest.approx(8.0)


WRAPPED = """
[rule]
kind = "projected"
floor = 0.0
cap = 100.0
[rule.rule]
kind = "damped"
factor = 0.9
[rule.rule.rule]
kind = "barzilai_borwein"
"""


def case_with(tiny, rule):
    text = tiny.read_text()
    begin, end = text.index("[rule]"), text.index("[stop")
    tiny.write_text(text[:begin] + rule + "\n" + text[end:])
    return tiny


def test_wrapped_rules_are_read_from_a_case_file(tiny):
    case = load(case_with(tiny, WRAPPED))
    assert case.rule == Projected(Damped(BarzilaiBorwein(), 0.9), 0.0, 100.0)
    assert "Damped" in described(case.rule, "projected")
    problem = case.problem
    result = run(
        problem.subproblem, problem.coordinator, case.rule, coupling=problem.couplings, stop=case.stop,
        limits=case.limits, certificate=case.certificate,
    )  # fmt: skip
    assert result.status == RunStatus.RESIDUAL, result.reason
    assert result.price == pytest.approx([2.0, 4.0], abs=1e-4)


def test_mistakes_within_a_wrapped_rule_are_all_told_with_their_place(tiny):
    wrong = WRAPPED.replace("factor = 0.9", "factor = 3.0").replace("cap = 100.0", 'cap = "high"')
    with pytest.raises(InputError) as caught:
        load(case_with(tiny, wrong))
    told = {(m.section, m.key) for m in caught.value.mistakes}
    assert ("rule", "cap") in told
    assert ("rule.rule", "") in told
