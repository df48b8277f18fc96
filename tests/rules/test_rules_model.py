"""Rules that keep a model of the blocks: bundle, Dantzig-Wolfe, Newton, and the rule that picks among them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from closed_form import QuadraticBlock, exchange, three_buses, two_lecs, two_machines, unit
from farmer import farmer
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import Synthetic
from decomp.coordinators import Exchange
from decomp.errors import RefusedError
from decomp.integer_pattern import CONVEX, UNKNOWN, pattern_of
from decomp.layout import Layout
from decomp.messages import Coupling, Key, Response, Signal
from decomp.rules import ADMM, Auto, Bundle, Damped, DantzigWolfe, InteriorPoint, Newton, ProgressiveHedging, bundle
from decomp.rules.base import Setup
from decomp.rules.bundle import Trial
from decomp.rules.master import Columns, solve_master
from decomp.rules.proximal_columns import worth_asking
from decomp.rules.restricted import choose
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from decomp.subproblem import Subproblem


def certified(problem, rule, tolerance=1e-6, limit=40):
    blocks, coordinator, coupling = problem
    return run(
        blocks, coordinator, rule, coupling=coupling, stop=[Gap(tolerance, 1e-12, "total")], limits=Limits(limit),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


class Bids(Subproblem):
    """min sum_i a_i/2 (y_i - want_i)^2: the scenarios want the same of the second entry, but for rounding."""

    abilities = frozenset({"bound", "evaluate"})

    def __init__(self, scenario):
        self.want = np.array([10.0, 1e-13, 300.0]) * scenario + np.array([0.0, 5.0, 0.0])
        self.slope = np.array([1.0, 2.0, 0.1])

    def solve(self, signal):
        y = self.want + signal.price / self.slope
        return replace(self.evaluate(y), bound=self.evaluate(y).cost - float(signal.price @ y))

    def evaluate(self, y):
        return Response(y, float(np.sum(self.slope / 2 * (y - self.want) ** 2)))


def test_an_entry_on_which_the_first_answers_agree_but_for_rounding_is_not_made_stiff():
    """A price that no mismatch can move any more, and a master beyond its solver's means, would be the end of it."""
    prob = {Key("m", str(s)): p for s, p in enumerate((0.5, 0.3, 0.2))}
    coupling = Coupling("m", ("a", "b", "c"), np.ones(3), np.full(3, -1), prob, scale=np.full(3, 10.0))
    result = certified((lambda key: Bids(int(key.scenario)), None, [coupling]), Bundle(), limit=20)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(0.61 * 50 + 0.61 * 4500, rel=1e-5)  # var(s) = .61


@pytest.mark.parametrize(
    ("rule", "problem", "optimum", "at_most"),
    [
        (Bundle(), two_lecs, 3.75, 12),
        (Bundle(), exchange, 3.0, 8),
        (Bundle(), three_buses, 2700.0 + 0.5e-9 * (30**2 + 120**2), 12),
        (DantzigWolfe(), two_lecs, 3.75, 20),
        (DantzigWolfe(), exchange, 3.0, 25),
        (DantzigWolfe(), three_buses, 2700.0 + 0.5e-9 * (30**2 + 120**2), 6),
        (Newton(), two_lecs, 3.75, 2),
        (Newton(), exchange, 3.0, 2),
        (Auto(), two_lecs, 3.75, 2),
        (Auto(), exchange, 3.0, 2),
    ],
)
def test_model_rules_certify_the_known_answer(rule, problem, optimum, at_most):
    result = certified(problem(), rule)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(optimum, rel=2e-6)
    assert len(result.rows) <= at_most
    for row in result.rows:
        assert row.lower_bound <= optimum + 1e-7 * optimum
        assert row.upper_bound is None or row.upper_bound >= optimum - 1e-7 * optimum


def test_newton_on_nearly_linear_agents_does_not_pretend():
    result = certified(three_buses(), Newton(), limit=15)
    assert result.status == RunStatus.ITERATION_LIMIT
    assert result.certificate.lower_bound <= 2700.00001


@pytest.mark.parametrize(("prob", "optimum"), [((1 / 3, 1 / 3, 1 / 3), -108390.0), ((0.5, 0.3, 0.2), -93050.0)])
@pytest.mark.parametrize("rule", [Bundle(), Auto()])
def test_bundle_hedges_the_farmer(rule, prob, optimum):
    make, coupling = farmer(prob)
    result = certified((make, None, coupling), rule, tolerance=1e-5)
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(optimum, rel=2e-5)
    assert result.certificate.lower_bound <= optimum + 1e-3
    assert result.certificate.w_sum < 1e-8
    assert len(result.rows) <= 13


def test_stiffness_without_end_is_dantzig_wolfe():
    # the same three columns: the proximal master with a huge tau forces r = 0 and finds the same convex combination
    layout = Layout.of([unit("u")], 1)
    _, market, _ = exchange()
    columns = Columns(
        np.zeros(3, np.int64),
        np.arange(4),
        np.array([0.0, 2.0, 5.0]),
        np.array([0.0, 3.0, 20.0]),
        np.zeros(3, np.int64),
        np.zeros(3, np.int64),
    )
    center = np.array([1.0])
    stiff = solve_master(layout, market.model, market.box, columns, center, np.array([1e6]))
    kelley = solve_master(layout, market.model, market.box, columns, center, None, np.array([100.0]))
    assert stiff.z == pytest.approx([3.0], abs=1e-4)
    assert kelley.z == pytest.approx([3.0], abs=1e-6)
    assert stiff.alpha == pytest.approx(kelley.alpha, abs=1e-4)
    assert kelley.alpha == pytest.approx([0, 2 / 3, 1 / 3], abs=1e-6)
    assert kelley.price == pytest.approx([17 / 3], abs=1e-5)  # slope of the segment from 2 to 5
    assert stiff.price == pytest.approx([17 / 3], rel=1e-3)


@st.composite
def markets(draw):
    """A few units with scenarios of unequal probability that share a market."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    blocks, coupling, probabilities = {}, [], {}
    for i in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 3))
        prob = rng.dirichlet(np.full(count, 3.0)) if count > 1 else np.ones(1)
        prob[-1] = 1 - prob[:-1].sum()
        names = tuple(str(s) for s in range(count))
        coupling.append(unit(f"u{i}", (0, 1), (1.0, 1.0), names, list(prob)))
        for s, p in zip(names, prob, strict=True):
            key = Key(f"u{i}", s)
            blocks[key] = QuadraticBlock(rng.uniform(0.2, 4, 2), rng.normal(0, 3, 2), -6, 6, n=2)
            probabilities[key] = p
    units = len(coupling)
    market = Exchange(["a", "b"], rng.uniform(-3, 3, 2) * units, (np.full(2, -7.0 * units), np.full(2, 7.0 * units)))
    return blocks, market, coupling, probabilities


def optimum_of(blocks, market, coupling, probabilities):
    """The market as one quadratic program: a unit's scenarios share y."""
    from decomp.blocks.solve.piqp import solve

    units = [c.unit for c in coupling]
    P, q = np.zeros(2 * len(units)), np.zeros(2 * len(units))
    for key, p in probabilities.items():
        at = slice(2 * units.index(key.unit), 2 * units.index(key.unit) + 2)
        P[at] += p * blocks[key].a
        q[at] += p * blocks[key].b
    A = np.tile(np.eye(2), len(units))
    demand = market.model.lo
    bound = np.full(len(P), 6.0)
    v = solve(np.diag(P), q, A, demand, demand, -bound, bound).v
    return float(0.5 * P @ v**2 + q @ v)


@settings(max_examples=15, deadline=None)
@given(markets(), st.sampled_from([Bundle(), Newton(), DantzigWolfe(agreement_range=100.0), ADMM(1.0)]))
def test_bound_below_optimum_below_cost_in_every_round(market, rule):
    best = optimum_of(*market)
    result = certified(market[:3], rule, tolerance=1e-5, limit=12)
    assert result.status in (RunStatus.CERTIFIED, RunStatus.ITERATION_LIMIT), result.reason
    slack = 1e-6 * (1 + abs(best))
    for row in result.rows:
        assert row.lower_bound <= best + slack
        assert row.upper_bound is None or row.upper_bound >= best - slack


@pytest.mark.parametrize("rule", [Bundle(), Newton()])
def test_scaled_costs_take_the_same_rounds(rule):
    def scaled(factor):
        blocks, market, coupling = exchange()
        market.scale = market.scale * factor
        blocks = {k: QuadraticBlock(factor * b.a[0]) for k, b in blocks.items()}
        return len(certified((blocks, market, coupling), rule).rows)

    assert scaled(1.0) == scaled(1024.0)


def test_one_cut_a_block_not_one_for_the_sum():
    columns = Columns.none()
    blocks, market, coupling = exchange()
    result = certified((blocks, market, coupling), Bundle(), limit=3)
    grown = columns.plus(result.final.answers)
    assert len(grown.block) == 2
    assert len(grown.plus(result.final.answers).block) == 2  # the same answer twice is one column


def test_machines_reach_the_lagrangian_bound_and_whole_answers_are_chosen():
    result = certified(two_machines(), Bundle(), limit=25)
    assert result.status == RunStatus.ITERATION_LIMIT  # a duality gap is no failure of the prices, and no success
    best = max(row.lower_bound for row in result.rows)
    assert best == pytest.approx(5.4, abs=1e-4)
    assert result.certificate.bound_price == pytest.approx([1.8], abs=1e-3)
    # the averages (1.5 each) are no answers of the machines; one of the two at 5 is, at 9
    assert result.certificate.upper_bound == pytest.approx(9.0)
    assert sorted(result.certificate.answers.y) == pytest.approx([0.0, 5.0])


@pytest.mark.parametrize("rule", [Bundle(), DantzigWolfe(), Newton(), Damped(rule=Bundle(), factor=0.5)])
def test_coordinator_without_a_model_is_refused_before_any_block_is_asked(rule):
    class Silent(Exchange):
        abilities = frozenset()

    class Untouched(QuadraticBlock):
        def solve(self, signal):
            raise AssertionError("asked before the refusal")

    _, market, coupling = exchange()
    silent = Silent(market.nodes, market.model.lo, market.box)
    blocks = {Key("a"): Untouched(1.0), Key("b"): Untouched(2.0)}
    with pytest.raises(RefusedError, match="Silent does not declare; a rule that needs only its answers is admm"):
        run(blocks, silent, rule, coupling=coupling, stop=[], limits=Limits(3))


def test_auto_asks_nothing_of_a_coordinator_that_it_cannot_give():
    assert isinstance(Auto().pick(frozenset({"bound", "penalty"}), frozenset())[0], ADMM)
    assert isinstance(Auto().pick(frozenset({"bound"}), frozenset({"model"}))[0], Bundle)
    for agreeing, kind in ((3, Bundle), (120, ProgressiveHedging)):
        assert isinstance(Auto().pick(frozenset({"bound", "penalty"}), frozenset({"model"}), agreeing)[0], kind)
    assert isinstance(Auto().pick(frozenset({"bound"}), frozenset({"model"}), 120)[0], Bundle)
    able = frozenset({"bound", "penalty", "kkt", "convex"})
    for at_nodes, kind in [(True, InteriorPoint), (False, Bundle)]:
        assert isinstance(Auto().pick(able, frozenset({"model"}), at_nodes=at_nodes)[0], kind)
    assert isinstance(Auto().pick(able - {"convex"}, frozenset({"model"}), at_nodes=True)[0], Bundle)
    assert isinstance(Auto().pick(frozenset({"bound", "sensitivity"}), frozenset({"model"}))[0], Newton)


@pytest.mark.parametrize(("near", "status"), [(True, RunStatus.CERTIFIED), (False, RunStatus.ITERATION_LIMIT)])
def test_answers_near_the_request_tell_where_scenarios_meet(near, status):
    market = Synthetic(Synthetic.Settings(synthetic={"class": "stochastic", "blocks": 10, "prices": 48, "seed": 0}))
    problem = (market.subproblem, market.coordinator, market.couplings)
    result = certified(problem, Bundle(near_request=near), tolerance=1e-4, limit=30)
    assert result.status == status, result.reason
    assert result.certificate.w_sum < 1e-8


def test_nothing_is_asked_near_the_request_where_no_scenarios_share_an_offer():
    setup = Setup.of(Layout.of([unit("u")], 1), exchange()[1], abilities=frozenset({"penalty"}))
    assert not worth_asking(setup)
    shared = Layout.of([unit("u", (0,), (1.0,), ("0", "1"), [0.5, 0.5])], 1)
    assert worth_asking(replace(setup, layout=shared))
    assert not worth_asking(replace(setup, layout=shared, abilities=frozenset({"bound"})))


@pytest.mark.parametrize(
    ("gains", "tau", "moved"),
    [
        ((3.0, 4.0), 1.0, True),  # the shorter step gained more, but tau's own was good
        ((0.5, 4.0), 0.5, True),  # tau's own gained too little: 0.25 of it, twice that as most of the promise was kept
        ((9.5, 4.5), 4.0, True),
        ((0.5, 0.1), 1.0, False),
        ((-20.0, -6.0), 0.6, False),
    ],
)
def test_tau_follows_the_best_of_several_prices_and_shrinks_only_where_its_own_fails(monkeypatch, gains, tau, moved):
    monkeypatch.setattr(bundle, "_network", lambda *_: 0.0)
    setup = Setup.of(Layout.of([unit("u")], 1), exchange()[1])
    promised = ((1.0, 10.0), (0.25, 5.0))
    trials = tuple(Trial(np.full(1, i), np.zeros(1), f, p) for i, (f, p) in enumerate(promised, start=1))
    state = replace(Bundle().init(setup), trials=trials, tau=np.ones(1), center_price=np.zeros(1), center_blocks=100.0)
    answers = tuple(SimpleNamespace(expected_bound=lambda gain=gain: 100.0 + gain) for gain in gains)
    after = Bundle()._step(3, state, None, answers)
    assert after.tau == pytest.approx([tau])
    assert after.center_price[0] == (1 + int(np.argmax(gains)) if moved else 0)


def test_the_point_of_a_stiff_master_proves_the_gap_rounds_earlier(monkeypatch):
    market = Synthetic(Synthetic.Settings(synthetic={"class": "lp", "blocks": 10, "prices": 48, "seed": 0}))
    problem = (market.subproblem, market.coordinator, market.couplings)
    rounds = {}
    for close in (bundle.CLOSE, 0.0):
        monkeypatch.setattr(bundle, "CLOSE", close)
        result = certified(problem, Bundle(), tolerance=1e-4)
        assert result.status == RunStatus.CERTIFIED
        rounds[close] = len(result.rows)
    assert rounds.pop(0.0) >= min(rounds.values()) + 2, rounds


def test_answers_with_the_same_decisions_are_averaged_and_others_are_not():
    _, market, coupling = two_machines()
    layout = Layout.of(coupling, 1)
    price = np.array([1.8, 1.8])

    def best(pattern):
        columns = Columns(
            block=np.array([0, 0, 0, 1]),
            start=np.arange(5),
            y=np.array([0.0, 2.0, 5.0, 0.0]),
            cost=np.array([0.0, 6.0, 9.0, 0.0]),
            idle=np.zeros(4, np.int64),
            pattern=np.array(pattern),
        )
        return choose(layout, market.model, market.box, columns, price)

    on, off = 2, 1
    assert market.model.lo == pytest.approx([3.0])
    assert best([off, on, on, off]) == pytest.approx([3.0, 0.0])  # 2/3 of 2 and 1/3 of 5
    assert best([off, 3, on, off]) == pytest.approx([5.0, 0.0])  # another decision: one of the answers as it is
    assert best([UNKNOWN] * 4) == pytest.approx([5.0, 0.0])
    assert best([CONVEX] * 4) == pytest.approx([3.0, 0.0])


def test_patterns_tell_decisions_apart_and_survive_the_way_to_the_root():
    assert pattern_of(np.zeros(0)) == CONVEX
    assert pattern_of(np.array([1.0, 0.0])) == pattern_of(np.array([1.0 - 1e-9, 1e-9]))
    assert pattern_of(np.array([1.0, 0.0])) != pattern_of(np.array([0.0, 1.0]))
    assert float(pattern_of(np.ones(3))) == pattern_of(np.ones(3)) < 2**53
    market = Synthetic(Synthetic.Settings(synthetic={"class": "milp", "blocks": 2, "prices": 24, "seed": 0}))
    result = certified((market.subproblem, market.coordinator, market.couplings), Bundle(), limit=1)
    own = market.subproblem(result.layout.keys[0]).solve(Signal(np.zeros(24)))
    assert result.final.answers.at(0).pattern == own.pattern > 0


def test_a_point_near_the_optimum_is_found_for_fifty_machines():
    market = Synthetic(Synthetic.Settings(synthetic={"class": "milp", "blocks": 50, "prices": 120, "seed": 0}))
    result = certified((market.subproblem, market.coordinator, market.couplings), Bundle(speculative=2), 1e-4, limit=9)
    assert result.certificate.upper_bound <= 3675.465532 * 1.003  # the one model's optimum, proven to 5e-6
