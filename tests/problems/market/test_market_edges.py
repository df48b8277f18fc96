"""Odd but legal markets, and what may not be claimed of them."""

from __future__ import annotations

import pytest
from paths import CASES

from decomp.case.config import load
from decomp.run.engine import run
from decomp.run.options import Execution, Output
from decomp.run.stopping import RunStatus

CASE = CASES / "chalmers_undervoltage.toml"


def result_of(*overrides, rule=None):
    case = load(CASE, ["dso.requirement='resolved'", *overrides], rule)
    problem = case.problem
    result = run(
        problem.subproblem, problem.coordinator, case.rule, coupling=problem.couplings, stop=case.stop,
        limits=case.limits, certificate=case.certificate,
    )  # fmt: skip
    return problem, result


def test_no_bound_is_claimed_where_active_power_is_free():
    _, result = result_of("dso.freeze_p=false")
    assert result.status == RunStatus.SECURE
    assert result.certificate.lower_bound is None
    assert result.certificate.gap_coordination is None


@pytest.mark.parametrize("lec", ['lec.LEC2={bus="7",load_peak_kw=300.0}', 'lec.LEC1={bus="2",load_peak_kw=700.0}'])
def test_community_without_reactive_devices_is_drawn_and_shedding_is_told(lec, tmp_path):
    problem, result = result_of(lec)
    assert result.status != RunStatus.FAILED
    from decomp.run.result_files import write

    summary = problem.summary(result)
    write(result, tmp_path, case={}, extra=summary)
    assert all(path.exists() for path in problem.write(result, tmp_path))
    shed = summary["reactive_shed_kvarh"]
    told = [text for text in problem.tables(result, tmp_path) if isinstance(text, str)]
    assert bool(told) == (shed > 0)


def test_interrupted_market_keeps_its_rounds():
    case = load(CASE, ["stop={}"])
    problem = case.problem
    rounds = []
    result = run(
        problem.subproblem, problem.coordinator, case.rule, coupling=problem.couplings, stop=case.stop,
        limits=case.limits,
        output=Output(callbacks=[rounds.append]),
        execution=Execution(interrupted=lambda: bool(rounds)),
    )  # fmt: skip
    assert result.status == RunStatus.INTERRUPTED
    assert len(result.rows) == 1
    assert result.details
