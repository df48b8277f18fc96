"""The ADMM family: known answers, iterations that must coincide, penalties that find themselves."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from closed_form import QuadraticBlock, VoltageRow, exchange, three_buses, two_lecs, unit
from farmer import farmer

from benchmarks.synthetic import Synthetic
from decomp.coordinators import Consensus, Exchange, Nobody
from decomp.errors import RefusedError
from decomp.layout import Answers, Layout
from decomp.messages import Key, Request, Response
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Serial
from decomp.rules import ADMM, APP, ATC, DualAscent, ProgressiveHedging, Setup
from decomp.rules.anderson import Memory, accelerate
from decomp.rules.penalties import FAR, cost_proportional
from decomp.rules.recovery import realisable, slopes
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import iterate, run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from decomp.steps import Step, constant
from decomp.subproblem import Subproblem

SCENARIOS, CENTRES, PROB = ("0", "1", "2"), (1.0, 2.0, 6.0), (0.5, 0.3, 0.2)
MEAN, VALUE = 2.3, 3.61 - 8.9  # sum pi a, and sum pi (a - mean)^2 - sum pi a^2


def scenarios(cost=1.0, quantity=1.0, prob=PROB):
    """min sum pi_s (y - a_s)^2 less a constant, one y for all: the weighted mean of a."""
    blocks = {
        Key("u", s): QuadraticBlock(2.0 * cost / quantity**2, -2.0 * a * cost / quantity)
        for s, a in zip(SCENARIOS, CENTRES, strict=True)
    }
    return blocks, Nobody(), [unit("u", (-1,), scenarios=SCENARIOS, prob=prob)]


def market(hours=3, units=6, cost=1.0, quantity=1.0, shift=0.0, stochastic=False):
    """Units with bounds and random quadratic costs meet a demand in every hour; `shift` moves all prices."""
    draw = np.random.default_rng(7)
    blocks, coupling = {}, []
    names, prob = (("dry", "wet"), (0.3, 0.7)) if stochastic else (("0",), (1.0,))
    for i in range(units):
        a, hi = np.exp(draw.normal(0, 1, hours)), draw.uniform(1, 3, hours)
        for s in names:
            b = draw.uniform(0, 2, hours)
            scaled = (a * cost / quantity**2, (b + shift) * cost / quantity)
            blocks[Key(f"u{i}", s)] = QuadraticBlock(*scaled, 0.0, hi * quantity, n=hours)
        coupling.append(unit(f"u{i}", tuple(range(hours)), np.ones(hours), scenarios=names, prob=prob))
    demand, box = draw.uniform(0.3, 0.6, hours) * units, (np.zeros(hours), np.full(hours, 3.0 * units * quantity))
    scale = np.full(hours, cost / quantity)
    coordinator = Exchange([f"h{t}" for t in range(hours)], demand * quantity, box, scale=scale)
    coordinator.neutral = np.full(hours, shift * cost / quantity)
    return blocks, coordinator, coupling


def certified(rule, problem, tolerance=1e-6, limit=100):
    blocks, coordinator, coupling = problem
    return run(
        blocks, coordinator, rule, coupling=coupling, stop=[Gap(tolerance, 1e-12, "total")], limits=Limits(limit),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


def steps(rule, problem, count, target=None):
    """The first rounds of a rule, without stopping: one engine Step each; `target` replaces the rule's first one."""
    blocks, coordinator, coupling = problem
    layout = Layout.of(coupling, len(coordinator.nodes))
    seen = []
    with BlockPool(Serial(), layout, blocks.__getitem__) as fleet:
        fleet.build()
        state = rule.init(Setup.of(layout, coordinator))
        state = state if target is None else replace(state, target=np.asarray(target, float))
        warm = (None,) * len(coordinator.parts())
        for k in range(count):
            step = iterate(k, fleet, coordinator, rule, state, warm)
            state, warm = step.state, step.warm
            seen.append(step)
    return seen


def offers(rule, problem, count, **options):
    return np.array([step.answers[0].y for step in steps(rule, problem, count, **options)])


FAMILY = (
    ADMM(),
    ADMM(adapt="spectral"),
    ADMM(anderson=0, settle_rounds=50),
    ADMM(1.0, relaxation=1.6),
    ADMM(1.0, anderson=10, settle_rounds=2),
    ADMM(1.0, form="exchange", adapt="balanced"),
    ADMM(1.0, adapt="spectral"),
    ATC(),
    ATC(inner=2),
    APP(1.0),
)


# -- known answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", FAMILY)
@pytest.mark.parametrize(("problem", "optimum", "y"), [(two_lecs, 3.75, [0.75, 0.25]), (exchange, 3.0, [2, 1])])
def test_certified_optimum_is_the_known_answer(rule, problem, optimum, y):
    result = certified(rule, problem())
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(optimum, rel=2e-6)
    assert result.answers.y == pytest.approx(np.array(y, float), abs=5e-3)
    for row in result.rows:
        assert row.lower_bound <= optimum * (1 + 1e-7)
        assert row.upper_bound is None or row.upper_bound >= optimum * (1 - 1e-7)


@pytest.mark.parametrize(
    ("rule", "status"),
    [(ADMM(0.1), RunStatus.CERTIFIED), (ADMM(), RunStatus.CERTIFIED), (APP(0.1), RunStatus.CERTIFIED),
     (ATC(), RunStatus.CERTIFIED), (ADMM(1e-6), RunStatus.ITERATION_LIMIT)],
)  # fmt: skip
def test_nearly_linear_agents_are_met_with_an_honest_status(rule, status):
    result = certified(rule, three_buses(), tolerance=1e-4)
    assert result.status == status, result.reason
    if status == RunStatus.CERTIFIED:
        assert result.answers.y == pytest.approx([30, 120], rel=5e-3)
    for row in result.rows:
        assert row.lower_bound <= 2700.01


@pytest.mark.parametrize(
    "rule",
    [
        ProgressiveHedging(),
        ProgressiveHedging(1.0),
        ProgressiveHedging({"e0": 1.0}, adapt="balanced"),
        ProgressiveHedging(unit_cost=2.0, adapt="fixed", relaxation=1.0, anderson=0),
        ADMM(),
        APP(agreement_penalty=1.0),
        APP(),
        ATC(agreement_penalty=0.1),
        ATC(),
    ],
)
def test_scenarios_of_unequal_probability_agree(rule):
    result = certified(rule, scenarios())
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.answers.y == pytest.approx([MEAN] * 3, abs=5e-3)
    assert result.objective == pytest.approx(VALUE, rel=2e-6)
    assert result.certificate.w_sum < 1e-12
    for row in result.rows:
        assert row.lower_bound <= VALUE + 1e-9
        assert row.upper_bound is None or row.upper_bound >= VALUE - 1e-9


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_hedging_without_settings_solves_the_farmer_from_any_penalty(factor):
    make, coupling = farmer()
    result = run(
        make, None, ProgressiveHedging(factor=factor), coupling=coupling, stop=[Gap(1e-4, 0.0, "total")],
        limits=Limits(60), certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(-108390, rel=1e-4)
    assert all(row.lower_bound <= -108390 + 1e-3 for row in result.rows)


# -- iterations that must coincide -------------------------------------------------------------------------------------


def test_admm_with_a_fixed_request_is_dual_ascent_on_penalised_costs():
    rho, demand = 0.7, np.array([3.0, 1.0])
    a, b = np.array([1.0, 2.5]), np.array([0.2, -0.4])

    def problem(a, b):
        blocks = {Key("a"): QuadraticBlock(a[0], b[0]), Key("b"): QuadraticBlock(a[1], b[1])}
        market = Exchange(["m", "n"], demand, (np.full(2, -50.0), np.full(2, 50.0)))
        return blocks, market, [unit("a", (0,)), unit("b", (1,))]

    penalised = steps(ADMM(rho), problem(a, b), 12, target=demand)
    ascent = steps(DualAscent(Step(constant, {"a": rho})), problem(a + rho, b - rho * demand), 12)
    for one, two in zip(penalised, ascent, strict=True):
        assert one.answers[0].y == pytest.approx(two.answers[0].y, abs=1e-8)
        assert one.state.price == pytest.approx(two.state.price, abs=1e-8)


def test_hedging_is_consensus_admm_without_a_coordinator():
    # a unit's equally likely scenarios are units of their own that a coordinator makes agree, seen from the other side
    hedged = steps(ProgressiveHedging(0.8), scenarios(prob=(1 / 3, 1 / 3, 1 / 3)), 12)
    blocks = {Key(s): QuadraticBlock(2.0, -2.0 * a) for s, a in zip(SCENARIOS, CENTRES, strict=True)}
    agree = Consensus(list(SCENARIOS), (np.full(3, -50.0), np.full(3, 50.0)))
    problem = blocks, agree, [unit(s, (i,)) for i, s in enumerate(SCENARIOS)]
    agreed = steps(ADMM(0.8, form="consensus", first_round="free"), problem, 12)
    for one, two in zip(hedged, agreed, strict=True):
        assert one.answers[0].y == pytest.approx(two.answers[0].y, abs=1e-7)
        assert one.state.w == pytest.approx(two.state.price, abs=1e-7)


def test_sharing_with_n_units_is_consensus_with_n_sigma():
    # two units at one node, or each at a node of its own with one demand for both nodes
    shared = steps(ADMM(0.4, relaxation=1.5), exchange(), 12)
    blocks = {Key("a"): QuadraticBlock(1.0), Key("b"): QuadraticBlock(2.0)}
    box = np.full(2, -100.0), np.full(2, 100.0)
    apart = Exchange(["m", "n"], np.array([3.0]), box, group_of=np.zeros(2, int))
    problem = blocks, apart, [unit("a", (0,)), unit("b", (1,))]
    copies = steps(ADMM(2 * 0.4, form="consensus", relaxation=1.5), problem, 12)
    for one, two in zip(shared, copies, strict=True):
        assert one.answers[0].y == pytest.approx(two.answers[0].y, abs=1e-7)
        assert np.repeat(one.state.price, 2) == pytest.approx(two.state.price, abs=1e-7)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 1.8])
def test_over_relaxation_is_the_textbooks(alpha):
    # Boyd et al. (2011), section 3.4.3: y - z = 0 with y replaced by alpha y + (1 - alpha) z of the round before
    sigma, a, price, z, seen = 0.4, np.array([1.0, 2.0]), 0.0, np.zeros(2), []
    for _ in range(15):
        y = (price + 2 * sigma * z) / (a + 2 * sigma)
        relaxed = alpha * y + (1 - alpha) * z
        z = relaxed + (3.0 - relaxed.sum()) / 2
        price = price + sigma * (3.0 - relaxed.sum())
        seen.append(y)
    assert offers(ADMM(sigma, relaxation=alpha), exchange(), 15) == pytest.approx(np.array(seen), abs=1e-7)


def test_relaxed_hedging_is_the_textbooks():
    rho, alpha, w, z, seen = 1.3, 1.6, np.zeros(3), 0.0, []
    for k in range(12):
        on = rho if k else 0.0
        y = (w + 2.0 * np.array(CENTRES) + on * z) / (2.0 + on)
        relaxed = alpha * y + (1 - alpha) * z if k else y
        z = float(np.dot(PROB, relaxed))
        w = w + rho * (z - relaxed)
        seen.append(y)
    rule = ProgressiveHedging(rho, relaxation=alpha)
    assert offers(rule, scenarios(), 12) == pytest.approx(np.array(seen), abs=1e-12)


def test_cascading_without_a_ramp_is_admm():
    free = offers(ADMM(0.5, first_round="free"), exchange(), 10)
    assert np.array_equal(offers(ATC(0.5, growth=1.0), exchange(), 10), free)
    assert not np.allclose(offers(ATC(0.05, growth=2.0), exchange(), 10), offers(ATC(0.05), exchange(), 10))


def test_cascading_keeps_prices_during_inner_rounds():
    prices = [step.state.price[0] for step in steps(ATC(0.5, inner=3), exchange(), 9)]
    assert prices[0] == prices[1] != prices[2] == prices[3] == prices[4] != prices[5]


def test_app_is_the_linearised_augmented_lagrangian():
    gamma, n, a, price, y, Z, seen = 0.3, 2, np.array([1.0, 2.0]), 0.0, np.zeros(2), 3.0, []
    seen.append(y)
    price += gamma * (3.0 - y.sum())
    for _ in range(10):
        pull = price + gamma * (Z - y.sum())
        y = (pull + 2 * n * gamma * y) / (a + 2 * n * gamma)
        price += gamma * (3.0 - y.sum())
        seen.append(y)
    assert offers(APP(gamma), exchange(), 11) == pytest.approx(np.array(seen), abs=1e-7)


def test_app_asks_the_coordinator_at_the_price_the_last_mismatch_stands_for():
    # g = 2 Z^2 - 12 Z; round 0 is free, nothing is offered
    gamma, a = 2.0, np.array([10.0, 30.0])
    price, y, Z, seen = 0.0, np.zeros(2), 12 / (4 + 2 * gamma), []
    for k in range(12):
        if k:
            pull = price + gamma * (Z - y.sum())
            y, Z = (pull + 4 * gamma * y) / (a + 4 * gamma), (12 - pull + 2 * gamma * Z) / (4 + 2 * gamma)
        price += gamma * (Z - y.sum())
        seen.append((*y, Z))
    blocks, network, coupling = two_lecs()
    network.model = replace(network.model, P=np.array([[4.0]]), q=np.array([-12.0]), lo=np.array([-np.inf]))
    rounds = steps(APP(gamma), (blocks, network, coupling), 12)
    told = [(*step.answers[0].y, step.round.request.Z[0]) for step in rounds]
    assert np.array(told) == pytest.approx(np.array(seen), abs=1e-6)


# -- penalties ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1e-2, 1.0, 1e2])
def test_curvature_of_the_blocks_becomes_the_penalty(start):
    # one block, a fixed request: only the block shows a curvature, and it is 5
    blocks = {Key("a"): QuadraticBlock(5.0)}
    problem = blocks, Exchange(["m"], np.array([3.0]), (np.array([-9.0]), np.array([9.0]))), [unit("a")]
    state = steps(ADMM(start, adapt="spectral", first_round="free"), problem, 8)[-1].state
    assert state.penalty.sigma == pytest.approx(5.0, rel=1e-6)


def test_too_small_a_penalty_is_raised_and_too_large_a_one_lowered():
    small = steps(ADMM(penalty_factor=1e-3), exchange(), 8)
    large = steps(ADMM(penalty_factor=1e4), exchange(), 8)
    assert small[-1].state.penalty.sigma > 10 * small[0].state.penalty.sigma
    assert large[-1].state.penalty.sigma < 0.1 * large[0].state.penalty.sigma


def test_dearer_crops_and_smaller_spreads_get_larger_penalties():
    layout = Layout.of([unit("u", (-1, -1), (1.0, 1.0), scenarios=("0", "1"), prob=(0.25, 0.75))], 0)
    y = np.array([1.0, 10.0, 5.0, 30.0])
    answers = Answers(
        layout, y, np.array([-8.0, -40.0]), np.full(2, np.nan), np.zeros(2, int), np.zeros(0), np.zeros(2, bool),
        np.zeros(2),
    )  # fmt: skip
    ybar, spread = np.array([4.0, 25.0]), np.array([0.25 * 3 + 0.75 * 1, 0.25 * 15 + 0.75 * 5])
    given = cost_proportional(layout, answers, np.array([2.0, 6.0]), 0.5)
    assert given == pytest.approx(0.5 * np.array([2.0, 6.0]) / spread)
    price = (0.25 * 8 + 0.75 * 40) / ybar.sum()
    assert cost_proportional(layout, answers, None, 1.0) == pytest.approx(price / spread)


def test_entries_of_different_curvature_get_different_penalties():
    curvature = np.array([1.0, 400.0])
    blocks = {
        Key("u", s): QuadraticBlock(curvature, -curvature * c * np.array([1.0, 0.5]), n=2)
        for s, c in zip(SCENARIOS, CENTRES, strict=True)
    }
    problem = blocks, Nobody(), [unit("u", (-1, -1), (1.0, 1.0), scenarios=SCENARIOS, prob=PROB)]
    alone = steps(ProgressiveHedging(1.0, adapt="spectral"), problem, 5)[-1].state.penalty.alone
    assert alone[1] > 50 * alone[0]


def test_rows_in_which_nothing_can_be_done_have_a_finite_penalty():
    blocks = {Key("a"): QuadraticBlock(1.0, 0.0, [-1.0, 0.0], [1.0, 0.0], n=2)}
    market = Exchange(["m", "n"], np.array([0.5, 0.0]), (np.array([-1.0, 0.0]), np.array([1.0, 0.0])))
    result = certified(ADMM(), (blocks, market, [unit("a", (0, 1), (1.0, 1.0))]), tolerance=1e-4)
    assert result.status == RunStatus.CERTIFIED, result.reason


def test_a_row_gets_its_penalty_from_the_round_on_in_which_a_need_appears():
    blocks, coupling = {Key("a"): QuadraticBlock(1.0, n=2)}, [unit("a", (0, 1), (1.0, 1.0))]
    market = Exchange(["m", "n"], np.array([3.0, 2.0]), (np.full(2, -9.0), np.full(2, 9.0)))
    layout = Layout.of(coupling, 2)
    rule = ADMM(0.5, relaxation=1.5)
    state = replace(rule.init(Setup.of(layout, market)), active=np.array([True, False]))
    penalties = []
    for k in range(3):
        signals = rule.ask(k, state)[0]
        y = np.array([blocks[Key("a")].solve(signals.at(0)).y]).ravel()
        answers = Answers(
            layout, y, np.zeros(1), np.full(1, np.nan), np.zeros(1, int), np.zeros(0), np.zeros(1, bool), np.zeros(1)
        )
        active = np.array([True, k >= 1])
        Z = np.where(active, [3.0, 2.0], y)
        penalties.append(signals.penalty.tolist())
        before = state
        state, _ = rule.update(k, state, (answers,), Request(Z, 0.0, active))
        if k == 1:  # not yet penalised: not relaxed towards a target nobody was asked to meet
            assert state.price[1] == pytest.approx(before.price[1] + 0.5 * (2.0 - y[1]))
    assert penalties == [[0.5, 0.0], [0.5, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("rule", "problem", "why"),
    [
        (ADMM({"somewhere": 1.0}), two_lecs, "no value for feeder"),
        (APP({"somewhere": 1.0}), two_lecs, "no value for feeder"),
        (ADMM(0.0), two_lecs, "must be positive"),
        (APP(-1.0), two_lecs, "must be positive"),
        (ATC(0.0), two_lecs, "must be positive"),
        (APP(agreement_penalty={"other": 1.0}), scenarios, "no value for e0"),
        (ProgressiveHedging({"other": 1.0}), scenarios, "no value for e0"),
        (ProgressiveHedging(-1.0), scenarios, "must be positive"),
        (ProgressiveHedging(unit_cost={"other": 1.0}), scenarios, "unit_cost has no value for e0"),
        (ProgressiveHedging(), exchange, "use admm"),
    ],
)
def test_constants_that_do_not_fit_are_refused(rule, problem, why):
    with pytest.raises(RefusedError, match=why):
        certified(rule, problem())


def test_penalties_by_group_reach_their_rows():
    blocks, market, coupling = exchange()
    market.groups = ("city",)
    assert np.array_equal(offers(ADMM({"city": 0.5}), (blocks, market, coupling), 5), offers(ADMM(0.5), exchange(), 5))


def test_an_unbounded_box_leaves_no_start_value():
    blocks, market, coupling = exchange()
    market.box = (np.array([-np.inf]), np.array([np.inf]))
    with pytest.raises(RefusedError, match="add penalty"):
        certified(ADMM(), (blocks, market, coupling))


@pytest.mark.parametrize(
    "wrong",
    [
        {"relaxation": 2.0},
        {"relaxation": 0.5},
        {"anderson": -1},
        {"settle_rounds": -1},
        {"penalty_factor": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        ADMM(**wrong)


@pytest.mark.parametrize("wrong", [{"growth": 0.9}, {"reduction": 0.0}, {"inner": 0}, {"most": 0.5}])
def test_a_ramp_that_falls_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        ATC(**wrong)


# -- acceleration and recovery -----------------------------------------------------------------------------------------


def test_acceleration_solves_a_linear_map_in_as_many_steps_as_it_has_dimensions():
    draw = np.random.default_rng(0)
    A = draw.normal(size=(4, 4))
    A *= 0.95 / np.max(np.abs(np.linalg.eigvals(A)))
    c = draw.normal(size=4)
    fixed = np.linalg.solve(np.eye(4) - A, c)
    u, plain, memory = np.zeros(4), np.zeros(4), Memory.empty(4)
    for _ in range(6):
        u, memory = accelerate(memory, u, A @ u + c, np.ones(4), 10)
        plain = A @ plain + c
    assert u == pytest.approx(fixed, abs=1e-8)
    assert np.linalg.norm(plain - fixed) > 0.1


def test_a_leap_that_makes_it_worse_is_taken_back():
    memory, metric = Memory.empty(2), np.ones(2)
    u0 = np.array([1.0, 0.0])
    u1, memory = accelerate(memory, u0, 0.5 * u0, metric, 5)
    assert np.array_equal(u1, 0.5 * u0)
    leap = np.array([40.0, 40.0])
    after, memory = accelerate(memory, leap, leap + 7.0, metric, 5)
    assert np.array_equal(after, 0.5 * u0)
    assert len(memory.points) == 0


def test_a_residual_that_stays_as_it_is_but_for_rounding_makes_no_leap():
    u, memory = np.array([1.0, 0.0]), Memory.empty(2)
    step = np.array([0.1, -0.3])
    for k in range(8):
        u, memory = accelerate(memory, u, u + step * (1.0 + 1e-14 * (-1) ** k), np.ones(2), 5)
    assert u == pytest.approx([1.8, -2.4], abs=1e-6)


class Lot(Subproblem):
    """min 3 |y - want| + 4 [y > 0] over the whole numbers from 0 to 10."""

    abilities = frozenset({"penalty", "bound", "evaluate"})

    def __init__(self, want):
        self.want, self.lots = np.asarray(want), np.arange(11.0)

    def solve(self, signal):
        value = np.array([3.0 * abs(y - self.want) + 4.0 * (y > 0) - signal.price[0] * y for y in self.lots])
        if signal.target is not None:
            value = value + 0.5 * signal.penalty[0] * (self.lots - signal.target[0]) ** 2
        best = int(np.argmin(value))
        bound = float(value[best]) if signal.target is None else None
        return self._at(self.lots[best], bound)

    def evaluate(self, y):
        whole = abs(y[0] - np.round(y[0])) < 1e-9 and 0 <= y[0] <= 10
        return self._at(y[0], None) if whole else Response(y=y, cost=np.inf)

    def _at(self, y, bound):
        cost = 3.0 * abs(y - self.want) + 4.0 * (y > 0)
        return Response(y=np.array([y]), cost=float(cost), bound=bound)


def test_the_penalty_of_whole_numbers_that_never_agree_stays_bounded():
    blocks = {Key("u", s): Lot(want) for s, want in zip("012", (2.0, 5.0, 9.0), strict=True)}
    layout = Layout.of([unit("u", (-1,), scenarios=tuple("012"), prob=(1 / 3, 1 / 3, 1 / 3))], 0)
    rule = ADMM(first_round="free", adapt="balanced", anderson=10, settle_rounds=40, relaxation=1.6)
    state = rule.init(Setup.of(layout, Nobody()))
    nobody = Request(np.zeros(0), 0.0, np.zeros(0, bool))
    pool = BlockPool(Serial(), layout, blocks.__getitem__)
    pool.build()
    seen = []
    for k in range(40):
        answers = tuple(pool.solve(s) for s in rule.ask(k, state))
        state, _ = rule.update(k, state, answers, nobody)
        seen.append(state.penalty.alone[0])
    begun = state.begun[0]
    assert begun > 0
    assert max(seen) <= FAR * begun * (1 + 1e-12)
    assert min(seen) >= begun / FAR * (1 - 1e-12)
    assert np.max(np.abs(state.w)) <= 10 * 1.6 * FAR * begun * 40  # no leap goes beyond what plain steps can


def test_coordinates_without_weight_follow_but_are_not_looked_at():
    u, memory = np.array([1.0, 5.0]), Memory.empty(2)
    for _ in range(3):
        image = np.array([0.5 * u[0] + 1.0, u[1] + 1e6])
        u, memory = accelerate(memory, u, image, np.array([1.0, 0.0]), 5)
    assert u[0] == pytest.approx(2.0)


def test_a_unit_at_its_limit_is_not_asked_for_more():
    layout = Layout.of([unit("a"), unit("b"), unit("c")], 1)
    slope = slopes(layout, np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.5, 0.5]))
    assert slope.tolist() == [0.0, 2.0, 6.0]
    asked = realisable(layout, np.ones(3), np.array([4.0]), slope)
    assert asked == pytest.approx([1.0, 2.0, 4.0])
    assert realisable(layout, np.ones(3), np.array([3.0]), np.zeros(3)) == pytest.approx([2.0, 2.0, 2.0])


# -- what must not matter ----------------------------------------------------------------------------------------------

SCALE_FREE = (ADMM(), ADMM(adapt="spectral"), ADMM(anderson=0), ATC(), APP())


@pytest.mark.parametrize("rule", SCALE_FREE)
@pytest.mark.parametrize(("cost", "quantity"), [(1024.0, 1.0), (1.0, 1024.0), (1 / 1024, 1.0)])
def test_units_of_cost_and_quantity_do_not_matter(rule, cost, quantity):
    one = np.array([s.state.price for s in steps(rule, market(), 9)])
    other = np.array([s.state.price for s in steps(rule, market(cost=cost, quantity=quantity), 9)])
    assert other * quantity / cost == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("cost", [1024.0, 1 / 1024])
@pytest.mark.parametrize("rule", [ProgressiveHedging(), ProgressiveHedging(adapt="spectral"), ATC(), APP()])
def test_units_do_not_matter_to_the_last_bit_where_nothing_is_solved_by_iteration(rule, cost):
    one = offers(rule, scenarios(), 14)
    assert np.array_equal(offers(rule, scenarios(cost=cost), 14), one)
    assert np.array_equal(offers(rule, scenarios(quantity=1024.0), 14), 1024.0 * one)


def test_the_zero_of_prices_does_not_matter():
    one = np.array([s.state.price for s in steps(ADMM(), market(), 9)])
    moved = np.array([s.state.price for s in steps(ADMM(), market(shift=50.0), 9)])
    assert moved - 50.0 == pytest.approx(one, abs=1e-4)


def test_the_zero_of_quantities_does_not_matter():
    blocks, coordinator, coupling = market()
    away = {k: QuadraticBlock(b.a, b.b - 20.0 * b.a, b.lo + 20.0, b.hi + 20.0, n=3) for k, b in blocks.items()}
    shift = 20.0 * len(blocks)
    lo, hi = coordinator.box
    there = Exchange(coordinator.nodes, coordinator.model.lo + shift, (lo + shift, hi + shift), scale=coordinator.scale)
    one = np.array([s.state.price for s in steps(ADMM(), market(), 9)])
    moved = np.array([s.state.price for s in steps(ADMM(), (away, there, coupling), 9)])
    assert moved == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize("adapt", ["balanced", "spectral"])
def test_a_scenario_told_twice_with_half_the_probability_changes_nothing(adapt):
    def told(names, centres, curvatures, prob):
        data = zip(names, centres, curvatures, strict=True)
        blocks = {Key("u", s): QuadraticBlock(a, -a * c) for s, c, a in data}
        problem = blocks, Nobody(), [unit("u", (-1,), scenarios=names, prob=prob)]
        return offers(ProgressiveHedging(2.0, adapt=adapt), problem, 9)

    one = told(("0", "1", "2"), (1.0, 2.0, 6.0), (9.0, 1.0, 3.0), (0.5, 0.25, 0.25))
    two = told(("0", "0b", "1", "2"), (1.0, 1.0, 2.0, 6.0), (9.0, 9.0, 1.0, 3.0), (0.25,) * 4)
    assert two[:, [0, 2, 3]] == pytest.approx(one, abs=1e-8)


def test_a_factor_multiplies_the_penalty_that_was_found():
    one, two = (steps(ProgressiveHedging(factor=f), scenarios(), 1)[0].state.penalty.alone for f in (1.0, 2.0))
    assert two == pytest.approx(2 * one)


@pytest.mark.parametrize("rule", [ADMM(), ADMM(0.3, relaxation=1.5, anderson=5, settle_rounds=3), ATC(), APP()])
def test_scenario_prices_sum_to_nothing_in_every_round(rule):
    problem = market(stochastic=True)
    for step in steps(rule, problem, 25):
        layout = step.state.setup.layout
        assert np.max(np.abs(layout.mean(step.state.w))) < 1e-12
    assert np.max(np.abs(step.state.w)) > 0.1


@pytest.mark.parametrize(("rule", "limit"), [(ADMM(), 40), (ADMM(adapt="spectral"), 40), (ATC(), 60), (APP(), 150)])
def test_stochastic_units_at_priced_nodes_are_certified(rule, limit):
    result = certified(rule, market(hours=1, stochastic=True), tolerance=1e-3, limit=limit)
    assert result.status == RunStatus.CERTIFIED, result.reason


@pytest.mark.parametrize("rule", FAMILY)
def test_a_rule_changes_nothing_it_is_given(rule):
    blocks, market, coupling = exchange()
    layout = Layout.of(coupling, 1)
    with BlockPool(Serial(), layout, blocks.__getitem__) as fleet:
        fleet.build()
        state = rule.init(Setup.of(layout, market))
        warm = (None,)
        for k in range(14):
            before, kept = arrays(state), copy.deepcopy(arrays(state))
            step = iterate(k, fleet, market, rule, state, warm)
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, kept, strict=True))
            state, warm = step.state, step.warm


def arrays(value):
    """All arrays in a state, in order."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple):
        return [a for v in value for a in arrays(v)]
    if is_dataclass(value):
        return [a for f in fields(value) for a in arrays(getattr(value, f.name))]
    return []


# -- how many rounds ---------------------------------------------------------------------------------------------------


def test_rounds_to_a_certified_gap_hardly_depend_on_the_start_value():
    counts = []
    for blocks, seed in ((10, 0), (10, 1), (50, 0)):
        table = {"class": "qp", "blocks": blocks, "prices": 48, "seed": seed}
        p = Synthetic(Synthetic.Settings.model_validate({"synthetic": table}))
        for factor in (1e-2, 1.0, 1e2):
            result = run(
                p.subproblem, p.coordinator, ADMM(penalty_factor=factor), coupling=p.couplings,
                stop=[Gap(1e-4, 0.0, "total")], limits=Limits(40), certificate=CertificateSettings(every=1),
            )  # fmt: skip
            assert result.status == RunStatus.CERTIFIED, (table, factor, result.reason)
            counts.append(len(result.rows))
    assert np.median(counts) <= 16
    assert max(counts) <= 25


def test_a_voltage_row_is_settled_in_a_few_rounds():
    blocks = {Key("LEC1"): QuadraticBlock(10.0), Key("LEC2"): QuadraticBlock(30.0)}
    result = certified(ADMM(), (blocks, VoltageRow(), [unit("LEC1"), unit("LEC2")]), tolerance=1e-4)
    assert len(result.rows) <= 15
