"""Active power as a second product: signs, neutral price, the DSO's model, and the optimum of the one model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from campus import OVER, UNDER
from feeders import read
from small_market import solved

from decomp.case.config import from_tables, load
from decomp.case.toml_file import read_toml
from decomp.errors import InputError
from decomp.messages import Key, Signal
from decomp.run.engine import run
from problems.lec.community import p_injection_kw
from problems.lec.device import Device
from problems.market.monolithic import reference
from problems.market.problem import ReactiveMarket
from problems.network.power_flow import solve
from problems.network.sensitivity import sensitivity

T = 24


def tables(path, *, products=("p", "q"), batteries=False) -> dict[str, Any]:
    """A campus case with both products; without batteries and stores it has no integers."""
    found = read_toml(path)
    for lec in () if batteries else found["lec"].values():
        for device in ("battery", "tes_stirling"):
            lec.pop(device, None)
    found["dso"].update(requirement="resolved", freeze_p=False, margin_pu=0.0, products=list(products))
    found["rule"] = {"kind": "auto"}
    found["stop"] = {"gap": {"tolerance": 1e-3, "floor": 1e-3}}
    return found


@pytest.fixture(scope="module")
def market() -> ReactiveMarket:
    return from_tables(tables(UNDER, batteries=True), UNDER).problem


def test_the_market_with_active_power_finds_the_optimum_of_the_one_model():
    case = from_tables(tables(OVER), OVER)
    market = case.problem
    result = run(
        market.subproblem, market.coordinator, case.rule, coupling=market.couplings, stop=case.stop,
        limits=case.limits, certificate=case.certificate,
    )  # fmt: skip
    best = reference(market)
    won = best.objective - best.neutral
    assert won > 1.0
    proof = result.certificate
    assert result.status == "certified_linearised"
    # a bound that leaves active power free, which without the product there is none of
    assert proof.lower_bound <= best.objective + 1e-3 * won
    assert proof.upper_bound >= best.objective - 1e-4 * won
    assert proof.upper_bound - proof.lower_bound <= 2e-3 * won
    # active power takes part of the burden, in the right direction: less injection where the voltage is too high
    change = proof.answers.y.reshape(2, 2, T)
    assert change[1, 1, 13] < -5.0
    assert change[1, 0, 13] < -5.0
    assert best.dp_kw["LEC2"][13] == pytest.approx(change[1, 1, 13], abs=1.0)
    v_pu = market.coordinator.voltages(result.layout.totals(proof.answers.y), proof.answers.reports())
    assert v_pu.max() <= 1.05 + 1e-5


def test_both_products_with_scenarios_and_risk_do_no_worse_than_the_one_model_with_its_first_integers():
    """The one model keeps the integers of the first schedules, the market decides them anew: its optimum is no dearer.

    So the model is a ceiling of the objective and of every bound; the certificate is what the market stays above.
    """
    risk = ("lec.LEC1.risk={alpha=0.5, beta=0.9}", "lec.LEC2.risk={alpha=0.6, beta=0.5}")
    both = ("dso.products=['p', 'q']", "dso.freeze_p=false")
    market, result = solved("scenarios.count=3", "stop.gap.tolerance=1e-3", *both, *risk)
    proof, request = result.certificate, result.final.request
    assert result.status == "certified_linearised"
    need = np.flatnonzero(request.active.reshape(4, 4).any(axis=1))
    best = reference(market, need=need.tolist())
    stake = best.objective - best.neutral
    assert stake > 1.0
    assert proof.neutral_bound == pytest.approx(best.neutral, abs=1e-3)
    assert result.objective <= best.objective + 1e-4 * stake
    assert proof.lower_bound <= best.objective
    assert proof.upper_bound - proof.lower_bound <= 1e-3 * stake
    # the limits hold in every scenario with the same changes of both products
    offers = np.array([[proof.answers[Key(u, s)].y for s in market.scenarios.names] for u in market.data])
    assert np.ptp(offers[:, :, :8], axis=1).max() < 1e-6
    assert np.abs(offers[:, 0, 4:8]).max() > 0.1
    totals = result.layout.totals(result.layout.mean(proof.answers.y))
    v_pu = market.coordinator.voltages(totals, proof.answers.reports())
    assert v_pu.shape[:2] == (4, 3)
    assert v_pu.min() >= 0.95 - 1e-6


def test_frozen_active_power_costs_more():
    free, frozen = tables(OVER, products=("q",)), tables(OVER, products=("q",))
    frozen["dso"]["freeze_p"] = True
    costs = [reference(from_tables(t, OVER).problem, need=(13,)).objective for t in (free, frozen)]
    assert costs[0] < costs[1] - 0.01


def test_nodes_and_entries_of_both_products(market):
    dso = market.coordinator
    assert dso.nodes[:4] == tuple(f"bus{b}@{market.axis.names[0]}" for b in ("2", "7", "2:p", "7:p"))
    assert dso.groups[:4] == ("bus2", "bus7", "bus2:p", "bus7:p")
    coupling = next(c for c in market.couplings if c.unit == "LEC2")
    assert [dso.nodes[row] for row in coupling.node[[5, T + 5]]] == [
        f"bus7@{market.axis.names[5]}", f"bus7:p@{market.axis.names[5]}"
    ]  # fmt: skip
    assert dso.neutral[:4] == pytest.approx([0.0222, 0.0222, 0.0, 0.0])


def test_the_neutral_price_gives_the_initial_schedule_and_dearer_hours_inject_more(market):
    block = market.subproblem(Key("LEC2"))
    neutral = np.concatenate([market.data["LEC2"].reactive_price_sek_per_kvarh, np.zeros(T)])
    off = np.zeros(2 * T, bool)
    first = block.solve(Signal(price=neutral, active=off))
    assert first.y == pytest.approx(0.0, abs=1e-6)
    dearer = neutral.copy()
    dearer[T + 18] += 0.5
    moved = block.solve(Signal(price=dearer, active=off))
    assert moved.y[T + 18] > 20.0
    assert moved.cost > first.cost  # what it gives up, in its own tariff
    assert moved.cost - dearer @ moved.y < first.cost
    # the report is the initial schedule's whatever is offered: the entries say the rest
    assert moved.report == pytest.approx(first.report)
    import_kw = block.detail(moved)["p_import_kw"]
    assert import_kw == pytest.approx(moved.report[:T] - moved.y[T:])


@pytest.mark.parametrize("unit", ["LEC1", "LEC2"])
def test_the_box_holds_whatever_a_unit_can_do(market, unit):
    block = market.subproblem(Key(unit))
    lo, hi = (side.reshape(T, 4)[:, 2:] for side in market.coordinator.box)
    column = ["LEC1", "LEC2"].index(unit)
    for sign in (-1.0, 1.0):
        price = np.concatenate([market.data[unit].reactive_price_sek_per_kvarh, sign * np.tile([5.0, 0.0], T // 2)])
        y = block.solve(Signal(price=price, active=np.zeros(2 * T, bool))).y[T:]
        assert np.abs(y).max() > 10.0
        assert np.all((y >= lo[:, column] - 1e-6) & (y <= hi[:, column] + 1e-6))


def test_the_flow_at_a_change_of_active_power_is_that_of_the_changed_injection(market):
    dso = market.coordinator
    reports = {
        key: market.subproblem(key).solve(
            Signal(price=dso.neutral[c.node], active=np.zeros(2 * T, bool))
        ).report
        for c in market.couplings for key in c.prob
    }  # fmt: skip
    Z = np.zeros(len(dso.nodes))
    Z[dso.rows("7", "p")[13]] = 80.0
    Z[dso.rows("2", "q")[13]] = -30.0
    found = dso.voltages(Z, reports)[13, 0]
    p, q = dso._injections(13, dso._reader.read(reports))
    p[0, market.network.bus("7")] += 80.0
    q[0, market.network.bus("2")] -= 30.0
    base = market.network.base_kva
    assert found == pytest.approx(solve(market.network, p / base, q / base).v_pu[0], abs=1e-12)
    part = Z[dso.parts()[13]]
    assert dso.check(13, part, reports).worst == pytest.approx(np.delete(found, market.network.slack).min(), abs=1e-12)


def test_slopes_and_curvature_of_both_kinds_against_differences():
    feeder = read("33 buses, radial")
    network, buses = feeder.network, np.array([5, 17, 17, 30])
    active = np.array([True, False, True, False])
    h = 1e-4

    def magnitude(u):
        p, q = feeder.p_pu.copy(), feeder.q_pu.copy()
        np.add.at(p, buses[active], u[active])
        np.add.at(q, buses[~active], u[~active])
        return solve(network, p[None], q[None]).v_pu[0]

    exact = sensitivity(network, solve(network, feeder.p_pu[None], feeder.q_pu[None]).v[0])
    unit = np.eye(4) * h
    slopes = np.stack([(magnitude(e) - magnitude(-e)) / (2 * h) for e in unit], axis=1)
    assert exact.dv(buses, active) == pytest.approx(slopes, abs=1e-6)
    weights = np.random.default_rng(0).normal(size=33)
    pulls = exact.pulls(weights)
    assert np.where(active, pulls[0][buses], pulls[1][buses]) == pytest.approx(weights @ slopes, abs=1e-5)

    def second(a, b):
        corners = [(magnitude(s * a + t * b), s * t) for s in (1, -1) for t in (1, -1)]
        return sum(sign * (weights @ v) for v, sign in corners) / (4 * h * h)

    bends = np.array([[second(a, b) for b in unit] for a in unit])
    assert exact.curvature(weights, buses, active) == pytest.approx(bends, rel=1e-3, abs=1e-3 * np.abs(bends).max())


class Silent(Device):
    """A device that does not say what active power it can give."""

    label: ClassVar[str] = "silent"

    def add(self, b, data):
        raise NotImplementedError


def test_a_device_that_does_not_say_what_it_can_give_is_named(market):
    lec = market.lecs["LEC1"].model_copy(update={"device": [Silent(name="mill")]})
    with pytest.raises(InputError, match=r"lec\.LEC1.*mill.*define Silent\.p_capability_kw"):
        p_injection_kw("LEC1", lec, market.data["LEC1"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["dso.products=['p', 'q']"], "freeze_p = true leaves nothing"),
        (["dso.products=['p', 'q']", "dso.freeze_p=false"], 'requirement = "held"'),
        (["dso.products=['p']", "dso.freeze_p=false"], 'give ["q"] or ["p", "q"]'),
        (["dso.products=['q', 'q']"], 'give ["q"] or ["p", "q"]'),
        (["dso.products=[]"], 'give ["q"] or ["p", "q"]'),
        (["dso.products=['x']"], "products"),
    ],
)
def test_products_that_do_not_fit_are_refused(overrides, words):
    with pytest.raises(InputError) as caught:
        load(UNDER, overrides)
    assert words in str(caught.value)
