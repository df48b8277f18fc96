"""The market under uncertainty against the same case as one model, and what a run of it writes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from small_market import case, market, solved

from decomp.errors import CoordinatorError, InputError
from decomp.messages import FloatArray, Key, Query, Signal
from decomp.run.result import Result
from decomp.run.result_files import write
from problems.market import fan_figures, scenario_tables
from problems.market.monolithic import Reference, reference
from problems.market.problem import ReactiveMarket
from problems.market.tables import schedule_tables
from problems.risk import tail_mean

THREE = "scenarios.count=3"
EXACT = "stop.gap.tolerance=1e-3"
RISK = ("lec.LEC1.risk={alpha=0.5, beta=0.9}", "lec.LEC2.risk={alpha=0.6, beta=0.5}")
AVERSE = (THREE, *RISK, EXACT)
HALF = (THREE, "dso.secure_share=0.5", EXACT)
RUNS = {"neutral": (THREE, EXACT), "averse": AVERSE, "half": HALF}


@pytest.fixture(scope="module", params=RUNS)
def pair(request: pytest.FixtureRequest) -> tuple[ReactiveMarket, Result, Reference]:
    problem, result = solved(*RUNS[request.param])
    assert result.final is not None
    need = np.flatnonzero(result.final.request.active.reshape(4, 2).any(axis=1))
    return problem, result, reference(problem, need=[int(t) for t in need])


def test_the_decomposed_market_finds_the_optimum_of_the_one_model(
    pair: tuple[ReactiveMarket, Result, Reference],
) -> None:
    _, result, best = pair
    assert result.status == "certified_linearised", result.reason
    assert result.certificate is not None
    assert result.objective is not None
    assert result.certificate.lower_bound is not None
    stake = best.objective - best.neutral
    assert stake > 1.0
    assert -1e-4 * stake <= result.objective - best.objective <= 2e-3 * stake
    assert result.certificate.lower_bound <= best.objective + 1e-4 * stake
    assert result.certificate.neutral_bound == pytest.approx(best.neutral, abs=1e-3)


def test_offers_are_the_same_in_all_scenarios_and_the_one_models(
    pair: tuple[ReactiveMarket, Result, Reference],
) -> None:
    problem, result, best = pair
    assert result.answers is not None
    for unit in problem.data:
        y = np.array([result.answers[Key(unit, s)].y[:4] for s in problem.scenarios.names])
        assert np.ptp(y, axis=0).max() < 1e-6
        assert y[0] == pytest.approx(best.dq_kvar[unit], abs=0.05 * (1 + np.abs(best.dq_kvar[unit]).max()))


def test_every_secure_scenario_keeps_its_limits(pair: tuple[ReactiveMarket, Result, Reference]) -> None:
    problem, result, _ = pair
    assert result.answers is not None
    secure = problem.coordinator.secure(result.answers.reports())
    Z = result.layout.totals(result.layout.mean(result.answers.y))
    v_pu = problem.coordinator.voltages(Z, result.answers.reports())
    assert v_pu[:, secure].min() >= 0.95 - 1e-6
    assert secure.all() == (problem.settings.dso.secure_share == 1.0)
    if not secure.all():
        assert v_pu[:, ~secure].min() < 0.95 - 1e-5


def test_the_worst_scenario_is_left_out_and_its_cost_stays() -> None:
    problem, result = solved(*HALF)
    full, whole = solved(THREE, EXACT)
    assert result.initial is not None
    reports = result.initial.answers.reports()
    secure = problem.coordinator.secure(reports)
    v_pu = problem.coordinator.voltages(np.zeros(len(problem.coordinator.nodes)), reports)
    worst = v_pu.min(axis=(0, 2))
    assert (~secure).sum() == 1
    assert worst[~secure].max() < worst[secure].min()
    assert problem.scenarios.prob[~secure].sum() <= 0.5
    assert result.objective is not None
    assert whole.objective is not None
    assert result.objective < whole.objective - 0.1  # it asks for less
    Z = np.zeros(len(problem.coordinator.nodes))
    assert problem.coordinator.evaluate(0, Z[:2] + 1.0, reports).cost == pytest.approx(
        full.coordinator.evaluate(0, Z[:2] + 1.0, whole.initial.answers.reports()).cost  # type: ignore[union-attr]
    )


def test_the_choice_of_scenarios_does_not_move_with_the_schedules() -> None:
    """Where active power is free the reports change from round to round; the initial schedules in them do not."""
    problem, result = solved(*HALF)
    assert result.initial is not None
    first = result.initial.answers.reports()
    before = problem.coordinator.secure(first).tolist()
    assert not all(before)
    moved = {key: np.append(report[:4] + 500.0, report[4:]) for key, report in first.items()}
    assert problem.coordinator.secure(moved).tolist() == before
    other = {key: np.append(report[:8], report[8:] - 2000.0) for key, report in first.items()}  # nothing is violated
    assert all(problem.coordinator.secure(other))
    with pytest.raises(CoordinatorError, match="reported 8 figures"):
        problem.coordinator.secure({key: report[:8] for key, report in first.items()})


def test_a_left_out_scenario_has_no_limits_and_sheds_nothing() -> None:
    problem, result = solved(*HALF)
    assert result.initial is not None
    dso, reports = problem.coordinator, result.initial.answers.reports()
    out = ~dso.secure(reports)
    zero = np.zeros(2)
    at_rest = dso.evaluate(3, zero, reports)
    assert at_rest.info["shed_kvar"][out].max() == 0.0
    assert at_rest.info["shed_kvar"][~out].max() > 0.0
    query = Query(dso.neutral[6:], zero, zero, want_bound=True, want_model=True)
    asked, _ = dso.answer(3, query, reports, None)
    assert asked.info["mu"][out].any() == np.False_
    assert asked.info["v_pu"][out].min() < 0.95


@pytest.fixture(scope="module")
def bundle() -> tuple[ReactiveMarket, Result]:
    """Two scenarios in one block, the third alone."""
    return solved(*HALF, "scenarios.bundle=2")


def test_bundles_find_what_single_scenarios_find(bundle: tuple[ReactiveMarket, Result]) -> None:
    problem, result = bundle
    single, plain = solved(*HALF)
    assert result.status == plain.status == "certified_linearised", (result.reason, plain.reason)
    assert result.certificate is not None
    assert plain.objective is not None
    assert result.objective is not None
    assert result.certificate.neutral_bound is not None
    stake = plain.objective - result.certificate.neutral_bound
    assert abs(result.objective - plain.objective) <= 1e-3 * stake
    assert [key.scenario for key in result.layout.keys[:2]] == ["s10..s25", "s41"]
    assert result.initial is not None
    assert plain.initial is not None
    secure = problem.coordinator.secure(result.initial.answers.reports())
    assert secure.tolist() == single.coordinator.secure(plain.initial.answers.reports()).tolist()


def test_the_schedules_of_bundled_scenarios_stand_side_by_side(bundle: tuple[ReactiveMarket, Result]) -> None:
    problem, result = bundle
    for unit, schedule in schedule_tables(problem, result).items():
        assert schedule.scenario.unique().tolist() == list(problem.scenarios.names)
        together = np.array([rows.dq_kvar for _, rows in schedule.groupby("scenario")])
        assert np.ptp(together, axis=0).max() < 1e-6, unit
        assert schedule.groupby("label").p_import_kw.nunique().max() == 3
    assert scenario_tables.day_costs(problem, result)["LEC1"]["deviation"] > 1.0


def costs(problem: ReactiveMarket, result: Result, unit: str) -> FloatArray:
    return np.array([float(result.details[Key(unit, s)]["day_sek"][0]) for s in problem.scenarios.names])


def test_an_averse_community_pays_for_its_tail() -> None:
    """The objective is made of the days' costs as (1 - beta) E + beta CVaR."""
    problem, result = solved(*AVERSE)
    assert result.answers is not None
    prob, total = problem.scenarios.prob, 0.0
    for unit, lec in problem.settings.lec.items():
        assert lec.risk is not None
        day = costs(problem, result, unit)
        dq = result.answers[Key(unit, problem.scenarios.names[0])].y[:4]
        told = sum(p * result.answers[Key(unit, s)].cost for s, p in zip(problem.scenarios.names, prob, strict=True))
        credit = float(problem.data[unit].reactive_price_sek_per_kvarh @ dq)
        mean, tail = float(prob @ day), tail_mean(day, prob, lec.risk.alpha)
        assert tail > mean + 1.0
        assert told - credit == pytest.approx((1 - lec.risk.beta) * mean + lec.risk.beta * tail, abs=0.05)
        total += told
    assert result.objective == pytest.approx(total + result.request.cost)  # type: ignore[union-attr]


SELLS = (
    THREE,
    "lec.LEC2.load_peak_kw=5",
    "lec.LEC2.bus_load='instead'",
    "lec.LEC2.heat_peak_kw=20",
    "lec.LEC2.heat_mean_kw=10",
    "lec.LEC2.risk={alpha=0.6, beta=0.5}",
)


def test_the_value_at_risk_of_a_community_that_mostly_sells_is_inside_its_limits() -> None:
    """Its sun earns more than it could ever buy for: limits too narrow would lift the bound above the optimum."""
    problem, result = solved(*SELLS)
    assert result.certificate is not None
    assert result.answers is not None
    day, (least, greatest) = costs(problem, result, "LEC2"), problem.cost_range_sek["LEC2"]
    assert least < day.min() < day.max() < 0 < greatest
    v = [result.answers[Key("LEC2", s)].y[-1] for s in problem.scenarios.names]
    assert v == pytest.approx([tail_mean(day, problem.scenarios.prob, 0.6)] * 3, abs=1.0)
    assert scenario_tables.tail_warnings(problem, result) == {}


def test_a_value_at_risk_at_its_limit_is_told() -> None:
    """The proof is then of another problem than the one that was asked."""
    problem, result = solved(*SELLS)
    inside = problem.cost_range_sek["LEC2"]
    try:
        problem.cost_range_sek["LEC2"] = (-300.0, 300.0)
        told = scenario_tables.facts(problem, result)["scenarios"]["value_at_risk"]
    finally:
        problem.cost_range_sek["LEC2"] = inside
    assert list(told) == ["LEC2"]
    assert "is not inside its limits, -300 to 300 SEK" in told["LEC2"]


def test_offers_equal_in_all_scenarios_are_drawn_though_their_mean_is_rounded() -> None:
    """Probabilities that sum to 1 up to rounding: the mean of equal values is then below the least of them."""
    prob, change = {"a": 0.1, "b": 0.2, "c": 0.7 - 1e-12}, 7.7
    steps = pd.DataFrame({"time": ["13:00"], "hour": [13], "dq_kvar": [change], "q_pv_kvar": [change]})
    steps["q_pv_initial_kvar"] = 0.0
    schedule = pd.concat([steps.assign(scenario=name) for name in prob], ignore_index=True)
    assert len(fan_figures.offers({"LEC1": schedule}, prob).axes) == 1


def test_no_weight_on_the_tail_is_no_risk() -> None:
    """Not one entry, variable or figure differs."""
    neutral, plain = market(THREE, "lec.LEC1.risk={alpha=0.5, beta=0.0}"), market(THREE)
    key = Key("LEC1", plain.scenarios.names[1])
    assert neutral.couplings[0].entries == plain.couplings[0].entries
    signal = Signal(price=np.array([0.1, 0.02, 0.02, 0.2]))
    one, other = neutral.subproblem(key).solve(signal), plain.subproblem(key).solve(signal)
    assert one.cost == other.cost
    assert one.y.tolist() == other.y.tolist()


def test_a_tail_that_is_none_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        case(THREE, "lec.LEC1.risk={alpha=1.0, beta=1.5}")
    assert {(m.section, m.key) for m in caught.value.mistakes} == {
        ("lec.LEC1.risk", "alpha"),
        ("lec.LEC1.risk", "beta"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problem, result = solved(*HALF)
    path = tmp_path_factory.mktemp("run")
    write(result, path, case=case(*HALF).tables, extra=problem.summary(result))
    problem.write(result, path)
    return path


def test_the_files_tell_the_scenarios_apart(folder: Path) -> None:
    problem = market(*HALF)
    names = set(problem.scenarios.names)
    for file in ("voltages.csv", "duals.csv", "schedule_LEC1.csv", "schedule_LEC2.csv", "scenarios.csv"):
        assert set(pd.read_csv(folder / file).scenario) == names, file
    drawn = pd.read_csv(folder / "scenarios.csv").drop_duplicates("scenario")
    assert drawn.probability.tolist() == problem.scenarios.prob.tolist()
    moments = pd.read_csv(folder / "scenario_moments.csv")
    made = problem.scenarios.reduction
    assert made is not None
    assert moments[moments.series == "pv_pu"].std_after.tolist() == pytest.approx(made.after.std["pv"])
    figures = {p.stem for p in (folder / "figures").glob("*.png")}
    assert figures == {"scenarios", "voltages", "signals", "offers", "convergence"}


def test_the_result_says_what_was_reduced_and_left_out(folder: Path) -> None:
    told = json.loads((folder / "result.json").read_text())
    problem = market(*HALF)
    assert told["scenarios"]["count"] == 3
    assert told["scenarios"]["reduction"]["from"] == 64
    assert told["scenarios"]["reduction"]["probability_after"] == pytest.approx(1.0)
    reduction = told["scenarios"]["reduction"]["pv_pu"]
    assert 0 < reduction["deviation_after"] < reduction["deviation_before"]
    (left,) = told["scenarios"]["left_out"]
    prob = dict(zip(problem.scenarios.names, problem.scenarios.prob, strict=True))
    assert told["scenarios"]["left_out_probability"] == pytest.approx(prob[left])


def test_the_terminal_names_the_worst_scenario_and_the_spread() -> None:
    problem, result = solved(*HALF)
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    for table in problem.tables(result, Path("unused")):
        console.print(table)
    text = stream.getvalue()
    assert result.initial is not None
    secure = problem.coordinator.secure(result.initial.answers.reports())
    (left,) = (s for s, kept in zip(problem.scenarios.names, secure, strict=True) if not kept)
    assert f"Left out of the DSO's limits, probability {problem.scenarios.prob[~secure].sum():.4g}: {left}" in text
    assert f"{left}*" in text
    assert "3 scenarios of 64" in text
    assert text.count("[") >= 4  # least and greatest of what the devices give
    assert "Cost of the day" in text
