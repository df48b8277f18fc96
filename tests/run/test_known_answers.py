"""The engine without electricity: problems whose optimum and whose iterates are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from closed_form import QuadraticBlock, exchange, three_buses, two_lecs, unit

from decomp.coordinators import Consensus, Nobody
from decomp.errors import RefusedError
from decomp.layout import Layout
from decomp.messages import Key, Query
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Serial
from decomp.rules import ADMM, DualAscent, Setup
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import iterate, run
from decomp.run.options import Execution, Limits, Output
from decomp.run.stopping import Divergence, Gap, Residual, RunStatus
from decomp.steps import Step, constant, exponential, inverse, inverse_sqrt


def dual_ascent(a, **settings):
    return DualAscent(Step(constant, {"a": a}), **settings)


def rounds(rule, blocks, coordinator, coupling, count):
    """The first rounds of a rule, without stopping: [(node price asked, offers, request.Z), ...]."""
    layout = Layout.of(coupling, len(coordinator.nodes))
    seen = []
    with BlockPool(Serial(), layout, blocks.__getitem__) as fleet:
        fleet.build()
        state = rule.init(Setup.of(layout, coordinator))
        warm = (None,) * len(coordinator.parts())
        for k in range(count):
            step = iterate(k, fleet, coordinator, rule, state, warm)
            state, warm = step.state, step.warm
            seen.append((step.round.node_price, layout.totals(layout.mean(step.answers[0].y)), step.round.request.Z))
    return seen, state


@pytest.mark.parametrize(
    ("rule", "problem", "optimum", "y"),
    [
        (dual_ascent(3), two_lecs, 3.75, [0.75, 0.25]),
        (dual_ascent(7.5), two_lecs, 3.75, [0.75, 0.25]),
        (dual_ascent(12), two_lecs, 3.75, [0.75, 0.25]),
        (DualAscent(Step(inverse, {"a": 7.5})), two_lecs, 3.75, [0.75, 0.25]),
        (DualAscent(Step(inverse_sqrt, {"a": 7.5})), two_lecs, 3.75, [0.75, 0.25]),
        (ADMM(7.5), two_lecs, 3.75, [0.75, 0.25]),
        (dual_ascent(0.5), exchange, 3.0, [2, 1]),
        (ADMM(0.5), exchange, 3.0, [2, 1]),
        (ADMM(1.0, form="exchange"), exchange, 3.0, [2, 1]),
        (ADMM(1.0, form="consensus"), exchange, 3.0, [2, 1]),
        (ADMM(0.1), three_buses, 2700.0 + 0.5e-9 * (30**2 + 120**2), [30, 120]),
    ],
)
def test_certified_optimum_is_the_known_answer(rule, problem, optimum, y):
    blocks, coordinator, coupling = problem()
    result = run(
        blocks, coordinator, rule, coupling=coupling, stop=[Gap(1e-6, 1e-9, "total")], limits=Limits(200),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == RunStatus.CERTIFIED, result.reason
    assert result.objective == pytest.approx(optimum, rel=2e-6)
    assert result.certificate.lower_bound <= optimum * (1 + 1e-9)
    assert result.answers.y == pytest.approx(np.array(y, float), rel=2e-3)
    for row in result.rows:
        assert row.lower_bound <= optimum * (1 + 1e-9) <= row.upper_bound * (1 + 2e-9)


@pytest.mark.parametrize(("a", "updates"), [(3, 19), (7.5, 1), (12, 19)])
def test_constant_step_takes_the_known_number_of_rounds(a, updates):
    blocks, network, coupling = two_lecs()
    seen, _ = rounds(dual_ascent(a), blocks, network, coupling, updates + 1)
    mismatch = [abs(Z[0] - Y[0]) for _, Y, Z in seen]
    assert mismatch[updates] < 1e-4
    assert updates == 1 or mismatch[updates - 1] >= 1e-4


@pytest.mark.parametrize(("a", "words"), [(15, "repeat every 2 rounds"), (16, "the step is too large")])
def test_too_large_a_step_cycles_or_diverges_and_says_so(a, words):
    blocks, network, coupling = two_lecs()
    stop = [Residual(1e-4, 1e-4), Divergence(1e3, 1.0)]
    result = run(blocks, network, dual_ascent(a), coupling=coupling, stop=stop, limits=Limits(200))
    assert result.status == RunStatus.DIVERGED
    assert words in result.reason
    assert len(result.rows) < 200


def test_paper_rule_gives_the_known_prices():
    blocks, network, coupling = two_lecs()
    network.scale = np.array([40.0])
    step = Step(exponential, {"c1": 1, "c2": 0.05, "c3": 0.05, "c4": -0.3})
    seen, state = rounds(DualAscent(step), blocks, network, coupling, 6)
    prices = [price[0] for price, _, _ in seen[1:]] + [state.price[0]]
    assert prices == pytest.approx([4, 5.624764, 6.399267, 6.812136, 7.050814, 7.197324], abs=1e-6)


@pytest.mark.parametrize(("sigma", "count"), [(0.1, 107), (0.5, 21), (1, 21), (2, 39), (10, 172)])
def test_sharing_admm_takes_the_known_number_of_rounds(sigma, count):
    blocks, market, coupling = exchange()
    seen, state = rounds(ADMM(sigma), blocks, market, coupling, count)
    price_after = [p[0] for p, _, _ in seen[1:]] + [state.price[0]]
    error = [max(abs(Z[0] - Y[0]), abs(p - 2)) for (_, Y, Z), p in zip(seen, price_after, strict=True)]
    assert error[-1] < 1e-6 <= error[-2]


def test_forms_of_admm_are_one_iteration():
    blocks, market, coupling = exchange()
    sharing = rounds(ADMM(0.5, form="sharing"), blocks, market, coupling, 8)[0]
    for form in ("exchange", "consensus"):
        other = rounds(ADMM(1.0, form=form), blocks, market, coupling, 8)[0]
        assert all(
            np.array_equal(a, b) for one, two in zip(sharing, other, strict=True) for a, b in zip(one, two, strict=True)
        )


def test_consensus_finds_the_common_value():
    # f_i = (y - a_i)^2 for a = 1, 2, 6: everybody ends at the mean, 3
    blocks = {Key(n): QuadraticBlock(2.0, -2.0 * a) for n, a in (("a", 1), ("b", 2), ("c", 6))}
    agree = Consensus(["a", "b", "c"], (np.full(3, -50.0), np.full(3, 50.0)))
    coupling = [unit("a", (0,)), unit("b", (1,)), unit("c", (2,))]
    result = run(blocks, agree, ADMM(1.0), coupling=coupling, stop=[Residual(1e-7, 1e-6)], limits=Limits(200))
    assert result.status == RunStatus.RESIDUAL
    assert result.answers.y == pytest.approx([3, 3, 3], abs=1e-5)


def test_several_units_share_a_node():
    blocks, market, coupling = exchange()
    assert Layout.of(coupling, 1).count[0] == 2
    blocks[Key("c")] = QuadraticBlock(1.0)
    result = run(
        blocks, market, ADMM(0.5), coupling=[*coupling, unit("c")], stop=[Residual(1e-8, 1e-8)], limits=Limits(200)
    )
    assert result.answers.y == pytest.approx([1.2, 0.6, 1.2], abs=1e-6)


def test_scenarios_agree_with_unequal_probabilities():
    # min sum pi_s (y - a_s)^2 with one y: the probability-weighted mean; w_s = price each scenario would need
    scenarios, a, prob = ("0", "1", "2"), np.array([1.0, 2.0, 6.0]), [0.5, 0.3, 0.2]
    blocks = {Key("u", s): QuadraticBlock(2.0, -2 * x) for s, x in zip(scenarios, a, strict=True)}
    coupling = [unit("u", (-1,), scenarios=scenarios, prob=prob)]
    result = run(
        blocks, Nobody(), ADMM(agreement_penalty=1.0, first_round="free"), coupling=coupling,
        stop=[Gap(1e-9, 0.0, "total")], limits=Limits(100), certificate=CertificateSettings(every=1),
    )  # fmt: skip
    mean = float(np.dot(prob, a))
    assert result.status == RunStatus.CERTIFIED
    assert result.answers.y == pytest.approx(np.full(3, mean), abs=1e-4)
    assert result.certificate.w_sum < 1e-12
    constant_term = float(np.dot(prob, a**2))
    best = float(np.dot(prob, (mean - a) ** 2)) - constant_term
    assert result.certificate.lower_bound <= best + 1e-12 <= result.certificate.upper_bound + 1e-9


def test_hourly_weights_leave_prices_unchanged():
    blocks, market, coupling = exchange()
    quarter = {k: QuadraticBlock(b.a[0], weight=0.25) for k, b in blocks.items()}
    same = [unit("a", weight=(0.25,)), unit("b", weight=(0.25,))]
    market.weight = np.array([0.25])
    hourly_market = exchange()[1]
    a, _ = rounds(ADMM(0.5), blocks, hourly_market, coupling, 10)
    b, _ = rounds(ADMM(0.5), quarter, market, same, 10)
    for (p, Y, Z), (p4, Y4, Z4) in zip(a, b, strict=True):
        assert (p4, Y4, Z4) == (pytest.approx(p), pytest.approx(Y), pytest.approx(Z))


def test_price_rises_where_more_is_requested_than_offered():
    blocks, market, coupling = exchange()
    seen, _ = rounds(dual_ascent(0.1), blocks, market, coupling, 3)
    assert seen[0][2][0] > seen[0][1][0]
    assert seen[1][0][0] > seen[0][0][0]


def test_rule_that_the_blocks_cannot_feed_is_refused():
    class PriceTaker(QuadraticBlock):
        abilities = frozenset()

    _, market, coupling = exchange()
    blocks = {Key("a"): PriceTaker(1.0), Key("b"): QuadraticBlock(2.0)}
    with pytest.raises(RefusedError, match=r"needs blocks with penalty.*dual_ascent"):
        run(blocks, market, ADMM(1.0), coupling=coupling, stop=[], limits=Limits(5))


def test_missing_constant_of_a_group_is_refused():
    blocks, network, coupling = two_lecs()
    rule = DualAscent(Step(constant, {"a": {"somewhere": 1.0}}))
    with pytest.raises(RefusedError, match=r"no value for 'feeder'"):
        run(blocks, network, rule, coupling=coupling, stop=[], limits=Limits(5))


def test_failing_block_is_named_and_the_run_fails():
    class Broken(QuadraticBlock):
        def solve(self, signal):
            if signal.id == 2:
                raise ZeroDivisionError("no heat")
            return super().solve(signal)

    blocks, market, coupling = exchange()
    blocks[Key("b")] = Broken(2.0)
    result = run(blocks, market, ADMM(1.0), coupling=coupling, stop=[Residual(1e-9, 1e-9)], limits=Limits(50))
    assert result.status == RunStatus.FAILED
    assert "block b/0" in result.reason
    assert "no heat" in result.reason
    assert len(result.rows) == 2  # what was computed is not lost


def test_value_that_is_not_finite_is_an_error_not_an_answer():
    blocks, market, coupling = exchange()
    blocks[Key("b")] = QuadraticBlock(2.0, np.nan)
    result = run(blocks, market, ADMM(1.0), coupling=coupling, stop=[Residual(1e-9, 1e-9)], limits=Limits(50))
    assert result.status == RunStatus.FAILED
    assert "not finite" in result.reason


def test_bound_above_the_cost_of_a_feasible_point_is_an_error():
    class Boaster(QuadraticBlock):
        def solve(self, signal):
            from dataclasses import replace

            response = super().solve(signal)
            return replace(response, bound=None if response.bound is None else response.bound + 1.0)

    blocks, market, coupling = exchange()
    blocks[Key("b")] = Boaster(2.0)
    result = run(
        blocks, market, ADMM(1.0), coupling=coupling, stop=[Gap(1e-4, 0.0, "total")], limits=Limits(50),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == RunStatus.FAILED
    assert "is not a bound" in result.reason


def test_no_bound_comes_from_penalised_or_silent_answers():
    class Silent(QuadraticBlock):
        abilities = frozenset({"penalty", "evaluate"})

    blocks, market, coupling = exchange()
    blocks[Key("b")] = Silent(2.0)
    result = run(
        blocks, market, ADMM(1.0), coupling=coupling, stop=[Residual(1e-8, 1e-8)], limits=Limits(100),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == RunStatus.RESIDUAL
    assert result.certificate.lower_bound is None
    assert result.certificate.gap is None
    assert result.certificate.upper_bound == pytest.approx(3.0, abs=1e-5)


def test_coordinator_without_penalty_answers_nearest_to_the_offers():
    _, network, _ = two_lecs()
    zero = np.zeros(1)
    for offers, nearest in ((0.2, 1.0), (1.7, 1.7)):
        query = Query(zero, np.array([offers]), zero, want_bound=True)
        request, _ = network.answer(0, query, {}, None)
        assert request.Z[0] == pytest.approx(nearest, abs=1e-6)
        assert request.bound == pytest.approx(0.0, abs=1e-8)


def test_relative_residuals_do_not_depend_on_the_unit_of_quantity_or_cost():
    def rows(quantity, cost):
        blocks, market, coupling = exchange()
        blocks = {k: QuadraticBlock(cost / quantity**2 * b.a[0]) for k, b in blocks.items()}
        market.model = type(market)(["market"], np.array([3.0 * quantity]), market.box).model
        market.box = (market.box[0] * quantity, market.box[1] * quantity)
        rule = ADMM(0.3 * cost / quantity**2)
        result = run(blocks, market, rule, coupling=coupling, stop=[], limits=Limits(6))
        return [(row.primal_relative, row.dual_relative) for row in result.rows]

    plain = rows(1.0, 1.0)
    assert plain[-1][0] < plain[0][0]
    assert np.array(rows(1000.0, 64.0)) == pytest.approx(np.array(plain), rel=1e-6)


def test_interrupted_run_keeps_what_it_has():
    blocks, market, coupling = exchange()
    rounds = []
    result = run(
        blocks, market, ADMM(0.1), coupling=coupling, stop=[Residual(1e-9, 1e-9)], limits=Limits(50),
        output=Output(callbacks=[rounds.append]), execution=Execution(interrupted=lambda: len(rounds) == 3),
    )  # fmt: skip
    assert result.status == RunStatus.INTERRUPTED
    assert len(result.rows) == 3
