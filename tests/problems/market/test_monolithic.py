"""The decentralised market against the same case as one model, solved by an interior-point method."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from campus import OVER, UNDER, certified, market_of
from scipy.optimize import brentq

from decomp.errors import TatonnementError
from decomp.messages import Key
from decomp.run.certificate import Certificate
from decomp.run.result import Result
from problems.cases.fit_chalmers import initial_reports
from problems.lec.community import LocalEnergyCommunity
from problems.market.monolithic import Reference, reference
from problems.market.problem import ReactiveMarket

NEED = {"chalmers_undervoltage": (13, 16), "chalmers_overvoltage": (13,)}


@cache
def communities() -> dict[Key, LocalEnergyCommunity]:
    """Both cases have the same communities with the same initial schedules."""
    market = market_of(certified(UNDER)[0])
    blocks = {key: market.subproblem(key) for c in market.couplings for key in c.prob}
    return {key: block for key, block in blocks.items() if isinstance(block, LocalEnergyCommunity)}


@pytest.fixture(scope="module", params=[UNDER, OVER], ids=lambda p: p.stem)
def pair(request: pytest.FixtureRequest) -> tuple[ReactiveMarket, Result, Reference]:
    """The same case by ADMM with requests at least cost, and as one model."""
    case, result = certified(request.param)
    market = market_of(case)
    return market, result, reference(market, need=NEED[request.param.stem], blocks=communities())


@pytest.fixture(scope="module")
def under() -> tuple[ReactiveMarket, Reference]:
    market = market_of(certified(UNDER)[0])
    return market, reference(market, need=NEED["chalmers_undervoltage"], blocks=communities())


def certificate_of(result: Result) -> Certificate:
    assert result.certificate is not None
    return result.certificate


def ratio(cost: float | None, best: Reference) -> float:
    """Which part of what coordination can win is lost: (cost - optimum) / (optimum - bound at neutral prices)."""
    assert cost is not None
    return (cost - best.objective) / (best.objective - best.neutral)


def test_the_market_finds_the_optimum_of_the_one_model(pair: tuple[ReactiveMarket, Result, Reference]) -> None:
    _, result, best = pair
    assert best.objective - best.neutral > 1.0  # SEK: there is something to win or lose
    assert -1e-4 <= ratio(result.objective, best) <= 1e-2


def test_the_neutral_bound_is_the_certificates(pair: tuple[ReactiveMarket, Result, Reference]) -> None:
    _, result, best = pair
    assert certificate_of(result).neutral_bound == pytest.approx(best.neutral, abs=1e-3)


def test_bound_of_the_linearised_model_is_close_to_the_optimum(
    pair: tuple[ReactiveMarket, Result, Reference],
) -> None:
    _, result, best = pair
    lower = certificate_of(result).lower_bound
    assert lower is not None
    assert lower <= best.objective + 1e-3


def test_both_ask_the_same_of_every_community(pair: tuple[ReactiveMarket, Result, Reference]) -> None:
    market, result, best = pair
    assert result.answers is not None
    for unit in market.data:
        for step in np.flatnonzero(np.abs(best.dq_kvar[unit]) > 0.5):
            assert result.answers[Key(unit)].y[step] == pytest.approx(best.dq_kvar[unit][step], abs=1.0)


def test_the_optimum_keeps_all_limits_in_the_dsos_own_power_flow(
    pair: tuple[ReactiveMarket, Result, Reference],
) -> None:
    market, result, best = pair
    assert result.initial is not None
    Z = np.zeros(len(market.coordinator.nodes))
    for coupling in market.couplings:
        Z[coupling.node] += best.dq_kvar[coupling.unit]
    v_pu = market.coordinator.voltages(Z, result.initial.answers.reports())
    need = list(NEED["chalmers_undervoltage"])  # where net P is the initial one in both
    np.testing.assert_allclose(v_pu[need], best.v_pu[need], atol=2e-5)
    assert best.v_pu.min() >= 0.95 - 1e-7
    assert best.v_pu.max() <= 1.05 + 1e-7
    assert best.shed_kvar.max() < 1e-4


def nearest(market: ReactiveMarket) -> Mapping[str, Mapping[int, float]]:
    """Every voltage is cured by the community at its own bus, as a rule without a price would do."""
    reports = initial_reports(market, communities())
    rows = {c.unit: c.node for c in market.couplings}
    asked: dict[str, dict[int, float]] = {unit: dict.fromkeys(NEED["chalmers_undervoltage"], 0.0) for unit in rows}
    for unit, step in (("LEC1", 13), ("LEC2", 16)):
        bus = market.network.bus(market.pcc[unit])

        def short(dq: float, unit: str = unit, step: int = step, bus: int = bus) -> float:
            Z = np.zeros(len(market.coordinator.nodes))
            Z[rows[unit][step]] = dq
            return float(market.coordinator.voltages(Z, reports)[step, 0, bus]) - 0.95 - 1e-7

        asked[unit][step] = float(brentq(short, 0.0, 200.0))
    return asked


def test_always_asking_the_nearest_community_fails_the_same_measure(under: tuple[ReactiveMarket, Reference]) -> None:
    market, best = under
    asked = nearest(market)
    cost = reference(market, need=NEED["chalmers_undervoltage"], dq_kvar=asked, blocks=communities()).objective
    assert ratio(cost, best) > 0.1
    assert (cost - best.objective) / best.objective < 1e-3  # relative to the total cost it would pass for optimal


def test_the_optimum_is_reproduced_when_it_is_asked_for(under: tuple[ReactiveMarket, Reference]) -> None:
    market, best = under
    need = NEED["chalmers_undervoltage"]
    asked = {unit: {step: float(best.dq_kvar[unit][step]) for step in need} for unit in market.data}
    asked["LEC2"] = {step: dq + 1e-3 for step, dq in asked["LEC2"].items()}  # a hair inside the limits
    assert reference(market, need=need, dq_kvar=asked, blocks=communities()).objective == pytest.approx(
        best.objective, abs=2e-3
    )


def test_without_the_communities_reactive_load_has_to_be_shed(under: tuple[ReactiveMarket, Reference]) -> None:
    market, _ = under
    nothing = {unit: dict.fromkeys(range(24), 0.0) for unit in market.data}
    dear = reference(market, need=(13, 16), dq_kvar=nothing, blocks=communities())
    assert dear.shed_kvar.max() > 5.0
    shed_sek = market.settings.dso.shed_cost_sek_per_kvarh * dear.shed_kvar.sum()
    assert dear.objective - dear.neutral == pytest.approx(shed_sek, abs=0.01)


def test_a_model_that_is_not_solved_is_an_error_and_no_answer(under: tuple[ReactiveMarket, Reference]) -> None:
    with pytest.raises(TatonnementError, match="not solved"):
        reference(under[0], need=(13, 16), options={"max_iter": 2}, blocks=communities())


def test_more_freedom_never_costs_more(under: tuple[ReactiveMarket, Reference]) -> None:
    """Integers anywhere between 0 and 1, net active power that may answer the voltages: each only adds choices."""
    market, best = under
    need = NEED["chalmers_undervoltage"]
    relaxed = reference(market, need=need, integers="relaxed", blocks=communities())
    free = market.settings.dso.model_copy(update={"freeze_p": False})
    moving = ReactiveMarket(market.settings.model_copy(update={"dso": free}), market.folder)
    unfrozen = reference(moving, need=need, blocks=communities())
    assert relaxed.objective <= best.objective + 1e-4
    assert unfrozen.objective < best.objective - 0.1  # a kW moves a voltage more than a kvar does here
