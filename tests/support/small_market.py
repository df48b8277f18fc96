"""The stochastic campus case cut to the hours 14:00-17:00 and a few scenarios: small enough for a test, wholly real."""

from __future__ import annotations

from functools import cache

from campus import CASES, market_of

from decomp.case.config import Case, load
from decomp.run.engine import run
from decomp.run.result import Result
from problems.market.problem import ReactiveMarket

STOCHASTIC = CASES / "chalmers_stochastic.toml"
AFTERNOON = (
    "time.start=2021-04-14T13:00:00+02:00",
    "time.steps=4",
    "scenarios.sample=64",
    "lec.LEC2.smart_boiler.draw_day_m3_per_h=0.02",  # four hours of full draw would cool the tank for good
)


@cache
def case(*overrides: str, rule: str | None = None) -> Case:
    return load(STOCHASTIC, (*AFTERNOON, *overrides), rule)


def market(*overrides: str) -> ReactiveMarket:
    return market_of(case(*overrides))


@cache
def solved(*overrides: str, rule: str | None = None) -> tuple[ReactiveMarket, Result]:
    found = case(*overrides, rule=rule)
    result = run(
        found.problem.subproblem,
        found.problem.coordinator,
        found.rule,
        coupling=found.problem.couplings,
        stop=found.stop,
        limits=found.limits,
        certificate=found.certificate,
    )
    assert result is not None
    return market_of(found), result
