"""The campus cases as the tests run them: from the case file, on this process, once for each module that asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from paths import CASES

from decomp.case.config import Case, load
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.result import Result
from decomp.run.result_files import write
from decomp.run.stopping import Gap
from problems.market.problem import ReactiveMarket

UNDER, OVER = CASES / "chalmers_undervoltage.toml", CASES / "chalmers_overvoltage.toml"
RESOLVED = ("dso.requirement='resolved'", "rule.penalty={bus2 = 0.015, bus7 = 0.002}")


@cache
def solved(path: Path, overrides: Sequence[str] = (), rule: str | None = None) -> tuple[Case, Result]:
    case = load(path, overrides, rule)
    result = run(
        case.problem.subproblem,
        case.problem.coordinator,
        case.rule,
        coupling=case.problem.couplings,
        stop=case.stop,
        limits=case.limits,
        certificate=case.certificate,
    )
    assert result is not None
    return case, result


@cache
def certified(path: Path) -> tuple[Case, Result]:
    """ADMM with least-cost requests until the gap is proven, not only until the network is secure."""
    case = load(path, (*RESOLVED, "dso.margin_pu=0.0"), "admm")
    result = run(
        case.problem.subproblem,
        case.problem.coordinator,
        case.rule,
        coupling=case.problem.couplings,
        stop=[criterion for criterion in case.stop if isinstance(criterion, Gap)],
        limits=case.limits,
        certificate=CertificateSettings(every=2),
    )
    assert result is not None
    return case, result


def market_of(case: Case) -> ReactiveMarket:
    assert isinstance(case.problem, ReactiveMarket)
    return case.problem


def written(path: Path, folder: Path, overrides: Sequence[str] = (), rule: str | None = None) -> Path:
    """A complete result folder of a run."""
    case, result = solved(path, overrides, rule)
    market = market_of(case)
    write(result, folder, case=case.tables, extra=market.summary(result))
    market.write(result, folder)
    return folder
