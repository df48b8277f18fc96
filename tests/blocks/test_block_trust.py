"""What a block says is true or is not said: bounds below every point, no failure taken for a proof."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from decomp.blocks.pyomo_block import BlockSettings, PyomoSubproblem
from decomp.blocks.solve import conflict, highs_simplex, program_solver
from decomp.blocks.solve.highs_mip import MixedAnswer, solve_mixed
from decomp.blocks.solve.known_points import MOST_CONTINUOUS, Known, KnownPoints
from decomp.layout import Layout, Signals
from decomp.messages import Coupling, Key, Response, Signal, Status
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Serial
from decomp.rules import ADMM, DualAscent
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.result import Result
from decomp.run.stopping import Residual
from decomp.steps import Step, constant


class Store(PyomoSubproblem):
    """min 2 x + 3 z, x + z >= need, z whole: x = need where x costs less."""

    def __init__(self, need: float = 4.5, whole: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.need, self.whole_z = need, whole

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(0, 10))
        m.z = pyo.Var(bounds=(0, 10), domain=pyo.Integers if self.whole_z else pyo.Reals)
        m.demand = pyo.Constraint(expr=m.x + m.z >= self.need)
        m.cost = pyo.Expression(expr=2 * m.x + 3 * m.z)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
        return m


def lifted_bounds(monkeypatch: pytest.MonkeyPatch, *, also_without_presolve: bool) -> list[bool]:
    """A HiGHS whose bounds of mixed-integer programs are too high; what `presolve` was in every call."""
    calls: list[bool] = []

    def wrong(*data: Any) -> MixedAnswer:
        answer, presolve = solve_mixed(*data), data[-1]
        calls.append(presolve)
        if answer.bound is None or not (presolve or also_without_presolve):
            return answer
        return MixedAnswer(answer.status, answer.x, answer.bound + 6.0)

    monkeypatch.setattr(program_solver, "solve_mixed", wrong)
    return calls


def test_a_bound_above_a_point_is_proven_anew_without_presolve(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = lifted_bounds(monkeypatch, also_without_presolve=False)
    answer = Store().solve(Signal(np.zeros(1), exact=True))
    assert calls == [True, False]
    assert (answer.cost, answer.message) == (9.0, "")
    assert answer.bound == pytest.approx(9.0, abs=1e-6)


def test_a_bound_that_stays_above_a_point_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    lifted_bounds(monkeypatch, also_without_presolve=True)
    answer = Store().solve(Signal(np.zeros(1), exact=True))
    assert answer.status.has_point
    assert answer.bound is None
    assert "15 lies" in answer.message
    assert "above a point" in answer.message


def test_points_of_earlier_prices_count_at_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer itself is as wrong as its bound; only what the block has returned before shows it."""

    def wrong(*data: Any) -> MixedAnswer:
        answer = solve_mixed(*data)
        return MixedAnswer(answer.status, np.array([4.0, 5.0]), 23.0) if data[-1] else answer

    block = Store()
    assert block.solve(Signal(np.array([0.5]), exact=True)).bound == pytest.approx(9.0 - 0.5 * 4.5, abs=1e-6)
    monkeypatch.setattr(program_solver, "solve_mixed", wrong)
    assert block.solve(Signal(np.zeros(1), exact=True)).bound == pytest.approx(9.0, abs=1e-6)


def test_what_was_evaluated_is_a_point_too() -> None:
    block = Store(settings=BlockSettings(milp="each_round"))
    block.solve(Signal(np.array([3.0])))
    block.evaluate(np.array([4.5]))
    saved = block.save()
    assert saved is not None
    assert saved["points_offer"].tolist() == [[10.0], [4.5]]
    assert saved["points_cost"].tolist() == [20.0, 9.0]


def test_known_points_travel_with_the_state_and_stay_with_their_data() -> None:
    block, other, same = Store(), Store(need=3.0), Store()
    block.solve(Signal(np.zeros(1)))
    saved = block.save()
    assert saved is not None
    for receiver, count in ((same, 1), (other, 0)):
        receiver.load(saved)
        again = receiver.save()
        assert again is not None
        assert len(again.get("points_cost", ())) == count


def test_continuous_blocks_keep_few_points_and_none_twice() -> None:
    points = KnownPoints.none(1)
    for i in [0, 0, *range(2 * MOST_CONTINUOUS)]:
        points = points.plus(np.array([float(i)]), 1.0, MOST_CONTINUOUS)
    assert points.y[:, 0].tolist() == list(range(MOST_CONTINUOUS, 2 * MOST_CONTINUOUS))
    assert points.plus(points.y[3], 1.0, MOST_CONTINUOUS) is points


def test_tolerances_are_no_contradiction_but_lift_no_bound() -> None:
    known = Known(9.0, 10.0)
    assert known.allows(9.0 + 1e-9, 0.0) == 9.0 + 1e-9
    assert known.allows(9.0 + 5e-6, 0.0) == 9.0
    assert known.allows(9.0 + 5e-5, 0.0) is None


def one_scenario_run(make: Any, scenarios: int = 2) -> Result:
    share = {Key("u", str(s)): 1 / scenarios for s in range(scenarios)}
    coupling = Coupling("u", ("x",), np.ones(1), np.full(1, -1), share)
    step = Step(constant, {"a": 0.1})
    rule = DualAscent(step, agreement_step=step)
    result = run(make, None, rule, coupling=[coupling], stop=[], limits=Limits(2))
    assert result is not None
    return result


def test_a_contradiction_is_told_with_the_name_of_the_block(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lifted_bounds(monkeypatch, also_without_presolve=True)
    with caplog.at_level(logging.WARNING):
        result = one_scenario_run(lambda key: Store())
    assert result.certificate is not None
    assert result.certificate.lower_bound is None
    warned = [r.getMessage() for r in caplog.records if "above a point" in r.getMessage()]
    assert [text.split(":")[0] for text in warned] == [f"block {key}" for key in (Key("u", "0"), Key("u", "1"))]


def test_a_faulty_highs_is_refused_once_before_blocks_are_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highs_simplex, "FAULTY", frozenset({highs_simplex.new_highs().version()}))
    highs_simplex.faulty_version.cache_clear()
    try:
        result = one_scenario_run(lambda key: Store(), scenarios=9)
        assert result.rows == ()
        assert result.reason.count("pip install") == 1
        assert "and 6 more" in result.reason
        assert len(one_scenario_run(lambda key: Store(whole=False)).rows) == 2
        assert Store().solve(Signal(np.zeros(1), exact=True)).status is Status.ERROR
    finally:
        monkeypatch.undo()
        highs_simplex.faulty_version.cache_clear()


@pytest.mark.parametrize("whole", [False, True])
def test_threads_that_somebody_else_has_left_keep_no_block_from_its_answer(whole: bool) -> None:
    highspy.Highs.resetGlobalScheduler(True)
    other = highs_simplex.new_highs()
    other.setOptionValue("threads", 2)
    other.addVar(0.0, 1.0)
    other.run()
    answer = Store(whole=whole).solve(Signal(np.zeros(1), exact=True))
    assert answer.status is Status.OPTIMAL, answer.message
    assert answer.bound == pytest.approx(9.0, abs=1e-6)


class Trade(PyomoSubproblem):
    """x >= 0 that costs -x in scenario 0 and 2 x in the other: alone, the first is unbounded."""

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.gain = key.scenario == "0"

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(0, None))
        m.cost = pyo.Expression(expr=(-1.0 if self.gain else 2.0) * m.x + 1.0)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
        return m


@pytest.mark.parametrize("every", [0, 5])
def test_a_block_that_is_unbounded_alone_gives_no_bound_and_ends_no_run(every: int) -> None:
    share = {Key("u", s): 0.5 for s in ("0", "1")}
    coupling = Coupling("u", ("x",), np.ones(1), np.full(1, -1), share)
    result = run(
        Trade, None, ADMM(agreement_penalty=1.0), coupling=[coupling], stop=[Residual(1e-4, 1e-4)], limits=Limits(80),
        certificate=CertificateSettings(every=every),
    )  # fmt: skip
    assert result is not None
    assert result.status == "residual", result.reason
    assert result.objective == pytest.approx(1.0, abs=1e-3)
    assert result.certificate is not None
    # at the prices at which both scenarios agree the first one gains nothing, and has a bound again
    lower = result.certificate.lower_bound
    assert lower is None or lower <= 1.0 + 1e-9


def test_a_cost_that_falls_by_rounding_only_is_unbounded_too() -> None:
    """At such prices a run has nearly converged: the sweep for its bound gives none, and goes on."""
    answer = Trade(Key("u", "0")).solve(Signal(np.array([-1.0 + 3e-8]), exact=True))
    assert answer.status is Status.UNBOUNDED, answer.message


def test_a_failed_solver_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*data: Any) -> MixedAnswer:
        return MixedAnswer(Status.ERROR, np.zeros(0), None)

    monkeypatch.setattr(program_solver, "solve_mixed", fails)
    answer = Store().solve(Signal(np.zeros(1)))
    assert answer.status is Status.ERROR
    assert "whole numbers" not in answer.message


def test_infeasible_by_presolve_alone_is_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*data: Any) -> MixedAnswer:
        return MixedAnswer(Status.INFEASIBLE, np.zeros(0), None) if data[-1] else solve_mixed(*data)

    monkeypatch.setattr(program_solver, "solve_mixed", wrong)
    assert Store().solve(Signal(np.zeros(1), exact=True)).bound == pytest.approx(9.0, abs=1e-6)


class Parity(PyomoSubproblem):
    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.z = pyo.Var([0, 1], bounds=(0, 10), domain=pyo.Integers)
        m.odd = pyo.Constraint(expr=2 * m.z[0] + 2 * m.z[1] == 5)
        m.cost = pyo.Expression(expr=m.z[0])
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.z[0])
        return m


def test_no_whole_numbers_is_said_where_it_is_proven() -> None:
    answer = Parity().solve(Signal(np.zeros(1)))
    assert answer.status is Status.INFEASIBLE
    assert "whole numbers" in answer.message


def test_slacks_that_no_multiplier_proves_are_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    def solve() -> Status:
        return Store(need=30.0, whole=False).solve(Signal(np.zeros(1))).status

    assert solve() is Status.INFEASIBLE
    monkeypatch.setattr(conflict, "_proven", lambda *_: None)
    assert solve() is Status.ERROR


@pytest.mark.parametrize("need", [20.0 + 1e-3, 25.0, 1e6])
def test_conflicts_are_proven_by_their_multipliers(need: float) -> None:
    answer = Store(need=need, whole=False).solve(Signal(np.zeros(1)))
    assert answer.status is Status.INFEASIBLE
    assert "'demand'" in answer.message


class Knapsack(PyomoSubproblem):
    """Sells value; the offer is the weight carried."""

    def build(self) -> pyo.ConcreteModel:
        draw = np.random.default_rng(5)
        value, weight = draw.integers(10, 99, 40), draw.integers(10, 99, 40)
        m = pyo.ConcreteModel()
        m.take = pyo.Var(range(40), domain=pyo.Binary)
        load = sum(int(w) * m.take[i] for i, w in enumerate(weight))
        m.room = pyo.Constraint(expr=load <= 731)
        m.cost = pyo.Expression(expr=-sum(int(v) * m.take[i] for i, v in enumerate(value)))
        m.coupling = pyo.Expression([0], rule=lambda m, i: load)
        return m


def test_a_gap_that_is_tolerated_leaves_the_bound_below_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    gaps: list[float] = []

    def watched(*data: Any) -> MixedAnswer:
        gaps.append(data[7])
        return solve_mixed(*data)

    monkeypatch.setattr(program_solver, "solve_mixed", watched)
    optimum = Knapsack().solve(Signal(np.zeros(1), exact=True)).cost
    rough = Knapsack().solve(Signal(np.zeros(1), exact=True, mip_gap=0.3))
    assert gaps == [0.0, 0.3]
    assert rough.bound is not None
    assert rough.bound <= optimum + 1e-6 <= rough.cost + 2e-6
    assert rough.cost - rough.bound <= 0.3 * abs(rough.cost) + 1e-6


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("active", [False, True])
def test_a_tolerated_gap_reaches_every_block(penalised: bool, active: bool) -> None:
    class Seen(Knapsack):
        def solve(self, signal: Signal) -> Response:
            seen.append(signal)
            return super().solve(signal)

    seen: list[Signal] = []
    layout = Layout.of([Coupling("u", ("x",), np.ones(1), np.full(1, -1), {Key("u", s): 0.5 for s in "ab"})], 0)
    two = np.array([0.25, 0.5])
    with BlockPool(Serial(), layout, lambda key: Seen()) as pool:
        pool.build()
        for gap in (None, 0.3):
            signals = Signals(
                layout, two, two if penalised else None, 2 * two if penalised else None,
                np.array([True, False]) if active else None, exact=True, mip_gap=gap,
            )  # fmt: skip
            pool.solve(signals)
    assert [s.mip_gap for s in seen] == [None, None, 0.3, 0.3]
    for signal, b in zip(seen, (0, 1, 0, 1), strict=True):
        assert signal.price.tolist() == [two[b]]
        assert (signal.target, signal.penalty) == ((two[b], 2 * two[b]) if penalised else (None, None))
        assert signal.active == ([b == 0] if active else None)


class Drawn(PyomoSubproblem):
    """min c'x over A x <= b, 0 <= x <= u, some columns whole; all columns are offered."""

    def __init__(self, data: Mapping[str, np.ndarray], **options: Any) -> None:
        super().__init__(**options)
        self.data = data

    def build(self) -> pyo.ConcreteModel:
        d, n = self.data, len(self.data["c"])
        m = pyo.ConcreteModel()
        domains = [pyo.Integers if w else pyo.Reals for w in d["whole"]]
        m.x = pyo.Var(range(n), domain=lambda m, j: domains[j], bounds=lambda m, j: (0, float(d["u"][j])))
        m.rows = pyo.Constraint(
            range(len(d["b"])),
            rule=lambda m, i: sum(float(d["A"][i, j]) * m.x[j] for j in range(n)) <= float(d["b"][i]),
        )
        m.cost = pyo.Expression(expr=sum(float(d["c"][j]) * m.x[j] for j in range(n)))
        m.coupling = pyo.Expression(range(n), rule=lambda m, j: m.x[j])
        return m


@st.composite
def programs(draw: st.DrawFn) -> Mapping[str, np.ndarray]:
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    numbers = st.integers(-9, 9).map(float)
    A = np.array(draw(st.lists(numbers, min_size=n * m, max_size=n * m))).reshape(m, n)
    return {
        "A": A,
        "b": np.array(draw(st.lists(st.integers(0, 20).map(lambda k: k / 2), min_size=m, max_size=m))),
        "c": np.array(draw(st.lists(numbers, min_size=n, max_size=n))),
        "u": np.array(draw(st.lists(st.integers(0, 15).map(lambda k: k / 2), min_size=n, max_size=n))),
        "whole": np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))),
        "prices": np.array(draw(st.lists(numbers, min_size=3 * n, max_size=3 * n))).reshape(3, n),
    }


@settings(deadline=None, max_examples=60, derandomize=True)
@given(programs())
def test_random_programs_have_their_optimum_between_bound_and_cost(data: Mapping[str, np.ndarray]) -> None:
    block = Drawn(data)
    for price in data["prices"]:
        answer = block.solve(Signal(price, exact=True))
        cost = data["c"] - price
        truth = milp(
            cost, constraints=LinearConstraint(data["A"], ub=data["b"]), integrality=data["whole"].astype(int),
            bounds=Bounds(np.zeros(len(cost)), np.where(data["whole"], np.floor(data["u"]), data["u"])),
            options={"presolve": False},
        ).fun  # fmt: skip
        room = 1e-6 * (1 + np.abs(cost) @ data["u"])
        assert answer.status.has_point, answer.message
        assert answer.bound is not None
        assert answer.bound <= truth + room
        assert answer.cost - price @ answer.y >= truth - room
        assert answer.cost - price @ answer.y <= answer.bound + room
