"""PyomoSubproblem against answers that can be written down by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.pyomo_block import BlockSettings, ConvexTerm, PyomoSubproblem
from decomp.blocks.solve import qp_attempts
from decomp.errors import InputError
from decomp.messages import Response, Signal, Status

GRID = 40.0  # kW behind the inverter of `Inverter`


def signal(*price: float, **more: Any) -> Signal:
    arrays = {k: np.array(v, bool if k == "active" else float) if isinstance(v, list) else v for k, v in more.items()}
    return Signal(np.array(price, float), **arrays)


class Plain(PyomoSubproblem):
    """A block whose model is given as a function: most tests need no class of their own."""

    def __init__(self, fill: Callable[[Any], None], **options: Any) -> None:
        self.fill = fill
        super().__init__(**options)

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        self.fill(m)
        return m


def two_plants(m: Any) -> None:
    """Cost 2 and 3 per unit, at most 5 each and 6 together."""
    m.x = pyo.Var(["cheap", "dear"], bounds=(0, 5))
    m.line = pyo.Constraint(expr=m.x["cheap"] + m.x["dear"] <= 6)
    m.cost = pyo.Expression(expr=2 * m.x["cheap"] + 3 * m.x["dear"] + 1)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.x["cheap"] + m.x["dear"])
    m.report = pyo.Expression(["cheap", "half"], rule=lambda m, i: m.x["cheap"] if i == "cheap" else m.x["dear"] / 2)


def quadratic(curvature: float) -> Callable[[Any], None]:
    def fill(m: Any) -> None:
        m.x = pyo.Var()
        m.cost = pyo.Expression(expr=curvature / 2 * m.x**2)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)

    return fill


def unit_commitment(m: Any) -> None:
    """Fixed cost 4, 1 per unit, 2 <= p <= 5 when on."""
    m.on, m.p = pyo.Var(within=pyo.Binary), pyo.Var(bounds=(0, 5))
    m.least = pyo.Constraint(expr=m.p >= 2 * m.on)
    m.most = pyo.Constraint(expr=m.p <= 5 * m.on)
    m.cost = pyo.Expression(expr=4 * m.on + m.p)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.p)


class Inverter(PyomoSubproblem):
    """Reactive power q beside GRID kW, at 2 per kVA of S - P: the best answer to a price p is P p / sqrt(4 - p^2)."""

    def __init__(self, hours: int = 1, start: float | None = None, **options: Any) -> None:
        self.hours = hours
        if start is not None:
            self.initial_price = np.full(hours, start)
        super().__init__(**options)

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.t = pyo.RangeSet(0, self.hours - 1)
        m.q, m.s = pyo.Var(m.t, bounds=(-100, 100)), pyo.Var(m.t)
        m.cost = pyo.Expression(expr=2 * sum(m.s[t] - GRID for t in m.t))
        m.coupling = pyo.Expression(m.t, rule=lambda m, t: m.q[t] + 0.5)
        return m

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return [ConvexTerm.norm(model.s, (model.q, GRID))]

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        return {t: [model.q[t]] for t in model.t}


def best_q(price: float) -> float:
    return GRID * price / np.sqrt(4 - price**2)


@pytest.mark.parametrize(
    ("price", "y", "cost"), [(1.0, 0.0, 1.0), (2.5, 5.0, 11.0), (3.5, 6.0, 14.0), (-1.0, 0.0, 1.0)]
)
def test_each_plant_sells_when_the_price_covers_its_cost(price: float, y: float, cost: float) -> None:
    answer = Plain(two_plants).solve(signal(price, id=7))
    assert answer.status is Status.OPTIMAL
    assert answer.signal_id == 7
    assert answer.y == pytest.approx([y], abs=1e-9)
    assert answer.cost == pytest.approx(cost, abs=1e-9)
    assert answer.bound == pytest.approx(cost - price * y, abs=1e-9)


def test_report_is_told_in_index_order() -> None:
    assert Plain(two_plants).solve(signal(3.5)).report == pytest.approx([5, 0.5], abs=1e-9)


@pytest.mark.parametrize(("curvature", "price"), [(1.0, 2.0), (2.0, 2.0), (1.0, -3.0)])
def test_quadratic_cost_answers_price_over_curvature(curvature: float, price: float) -> None:
    answer = Plain(quadratic(curvature)).solve(signal(price))
    assert answer.y == pytest.approx([price / curvature], abs=1e-7)
    true = -(price**2) / curvature / 2
    assert answer.bound is not None
    assert true - 1e-5 <= answer.bound <= true + 1e-12


def test_objective_may_stand_for_the_cost() -> None:
    def fill(m: Any) -> None:
        m.x = pyo.Var(bounds=(0, 3))
        m.cost = pyo.Objective(expr=m.x)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)

    assert Plain(fill).solve(signal(2.0)).y == pytest.approx([3])


def test_weight_multiplies_price_and_penalty_alike() -> None:
    """With dt = 1/4 h and cost c dt per kW the price per kWh that makes the plant sell is c, not c dt."""

    def quarter(m: Any) -> None:
        m.x = pyo.Var(bounds=(0, 5))
        m.cost = pyo.Expression(expr=0.25 * 2 * m.x)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)

    block = Plain(quarter, weight=np.array([0.25]))
    assert block.solve(signal(1.9)).y == pytest.approx([0])
    full = block.solve(signal(2.1))
    assert full.y == pytest.approx([5])
    assert full.bound == pytest.approx(0.25 * (2 - 2.1) * 5)
    # 2 - 1 + penalty (y - 3) = 0
    assert block.solve(signal(1.0, target=[3.0], penalty=[2.0])).y == pytest.approx([2.5], abs=1e-7)


def test_penalised_answer_has_its_closed_form_and_no_bound() -> None:
    # x - price + rho (x - target) = 0
    answer = Plain(quadratic(1.0)).solve(signal(2.0, target=[5.0], penalty=[3.0]))
    assert answer.y == pytest.approx([(2 + 3 * 5) / 4], abs=1e-8)
    assert answer.bound is None
    assert answer.cost == pytest.approx(0.5 * (17 / 4) ** 2, abs=1e-7)


def test_a_penalised_answer_is_found_where_rounding_keeps_the_tolerances_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out_of_reach = dict.fromkeys(qp_attempts.TOLERANCES, 1e-300) | {"max_iter": 100}
    monkeypatch.setattr(qp_attempts, "TOLERANCES", out_of_reach)
    monkeypatch.setattr(qp_attempts, "CLOSE", 0.0)
    answer = Plain(quadratic(1.0)).solve(signal(2.0, target=[5.0], penalty=[3.0]))
    assert answer.status is Status.OPTIMAL
    assert answer.y == pytest.approx([(2 + 3 * 5) / 4], abs=1e-8)


def test_penalty_of_zero_is_no_penalty() -> None:
    answer = Plain(two_plants).solve(signal(2.5, target=[1.0], penalty=[0.0]))
    assert answer.y == pytest.approx([5])
    assert answer.bound == pytest.approx(-1.5)


@pytest.mark.parametrize("price", [-1.5, -0.3, 0.0, 0.2, 0.9, 1.6])
def test_tangents_reach_the_cone(price: float) -> None:
    answer = Inverter(settings=BlockSettings(tangent_tol=1e-8)).solve(signal(price))
    q = best_q(price)
    true = 2 * (np.hypot(q, GRID) - GRID)
    assert answer.y == pytest.approx([q + 0.5], abs=2e-3)
    assert answer.cost - price * answer.y[0] == pytest.approx(true - price * (q + 0.5), abs=1e-7)
    assert answer.bound is not None
    assert answer.bound <= true - price * (q + 0.5) + 1e-9
    assert answer.bound == pytest.approx(true - price * (q + 0.5), abs=1e-6)
    # the cost told is that of the cone at the point, not that of the tangents
    assert answer.cost == 2 * (np.hypot(answer.y[0] - 0.5, GRID) - GRID)


def test_tangents_hold_with_a_penalty_too() -> None:
    answer = Inverter(settings=BlockSettings(tangent_tol=1e-9)).solve(signal(0.4, target=[3.5], penalty=[0.1]))
    q = answer.y[0] - 0.5
    slope = 2 * q / np.hypot(q, GRID) - 0.4 + 0.1 * (q + 0.5 - 3.5)
    assert slope == pytest.approx(0, abs=1e-4)


def test_looser_tangents_are_said_not_to_be_met() -> None:
    answer = Inverter(settings=BlockSettings(tangent_tol=1e-9, tangent_rounds=1)).solve(signal(0.4))
    assert answer.status is Status.FEASIBLE
    assert "tangent" in answer.message


def test_general_convex_term_in_two_variables() -> None:
    """t >= exp(x) + y^2 at price (2, 3): x = ln 2, y = 3/2."""

    class Two(Plain):
        def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
            def value(x: Any, y: Any) -> Any:
                return np.exp(x) + y**2

            def slope(x: Any, y: Any) -> Any:
                return [np.exp(x), 2 * y]

            return [ConvexTerm(model.t, (model.x, model.y), value, slope, "exp")]

    def fill(m: Any) -> None:
        m.t, m.x, m.y = pyo.Var(), pyo.Var(bounds=(-2, 2)), pyo.Var(bounds=(-5, 5))
        m.cost = pyo.Expression(expr=m.t)
        m.coupling = pyo.Expression([0, 1], rule=lambda m, i: m.x if i == 0 else m.y)

    answer = Two(fill, settings=BlockSettings(tangent_tol=1e-9)).solve(signal(2, 3))
    assert answer.y == pytest.approx([np.log(2), 1.5], abs=1e-3)
    assert answer.cost - 2 * answer.y[0] - 3 * answer.y[1] == pytest.approx(2 - 2 * np.log(2) - 2.25, abs=1e-8)


def test_evaluate_gives_the_least_cost_of_an_offer() -> None:
    block = Plain(two_plants)
    assert block.evaluate(np.array([5.5])).cost == pytest.approx(1 + 10 + 1.5)
    impossible = block.evaluate(np.array([6.5]))
    assert impossible.status is Status.INFEASIBLE
    assert "'line'" in impossible.message
    assert "offer 0" in impossible.message


def test_evaluate_changes_no_later_answer() -> None:
    one, two = Inverter(), Inverter()
    one.solve(signal(0.3))
    two.solve(signal(0.3))
    one.evaluate(np.array([20.0]))
    assert np.array_equal(one.solve(signal(0.5)).y, two.solve(signal(0.5)).y)


def test_offers_are_measured_from_the_initial_schedule() -> None:
    block = Inverter(start=0.4, settings=BlockSettings(tangent_tol=1e-8))
    assert block.initial.offer == pytest.approx([best_q(0.4) + 0.5], abs=2e-3)
    same = block.solve(signal(0.4))
    assert same.y == pytest.approx([0], abs=1e-6)
    q0 = best_q(0.4)
    # f(y = 0) = cost - <initial price, raw offer>
    assert same.cost == pytest.approx(2 * (np.hypot(q0, GRID) - GRID) - 0.4 * (q0 + 0.5), abs=1e-6)
    more = block.solve(signal(0.9))
    assert more.y == pytest.approx([best_q(0.9) - q0], abs=4e-3)
    assert more.bound is not None
    assert more.bound <= more.cost - 0.9 * more.y[0] + 1e-9
    assert more.bound == pytest.approx(more.cost - 0.9 * more.y[0], abs=1e-6)
    assert block.evaluate(more.y).cost == pytest.approx(more.cost, abs=1e-7)
    assert block.solve(signal(0.4, target=[7.0], penalty=[1e4])).y == pytest.approx([7.0], abs=1e-2)


def test_frozen_variables_stay_only_while_their_entry_is_active() -> None:
    block = Inverter(hours=2, start=0.4)
    moved = block.solve(signal(0.9, 0.9, active=[False, True]))
    assert moved.y[0] > 5
    assert moved.y[1] == 0
    assert block.solve(signal(0.9, 0.9)).y[1] > 5
    assert block.evaluate(np.array([1.0, 1.0])).status is Status.OPTIMAL
    block.solve(signal(0.9, 0.9, active=[False, True]))
    assert block.evaluate(np.array([1.0, 1.0])).status is Status.INFEASIBLE


def test_value_reads_components_of_a_point() -> None:
    block = Plain(two_plants)
    point = block.solve(signal(3.5)).point
    assert block.value(point, "x") == pytest.approx([5, 1])
    assert block.value(point, "cost") == pytest.approx([14])
    assert block.value(point, block._built.model.report) == pytest.approx([5, 0.5])
    with pytest.raises(KeyError, match="nothing"):
        block.value(point, "nothing")
    with pytest.raises(ValueError, match="2 values"):
        block.value(np.zeros(3), "x")


def test_options_and_weight_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="no_such_option"):
        Plain(two_plants, solver_options={"no_such_option": 1})
    with pytest.raises(InputError, match=r"tangent_tol.*above 0"):
        BlockSettings(tangent_tol=0)
    answer = Plain(two_plants, weight=np.ones(3)).solve(signal(1.0))
    assert answer.status is Status.ERROR
    assert "weight has 3 values" in answer.message


# -- integers ----------------------------------------------------------------------------------------------------------


def test_fixed_integers_are_kept_until_an_exact_answer_is_asked() -> None:
    block = Plain(unit_commitment)
    assert block.solve(signal(1.5)).y == pytest.approx([0])
    kept = block.solve(signal(1.9))
    assert kept.y == pytest.approx([0])
    assert kept.bound is None
    exact = block.solve(signal(1.9, exact=True))
    assert exact.revised
    assert exact.y == pytest.approx([5])
    assert exact.bound == pytest.approx(4 + 5 - 9.5)
    again = block.solve(signal(1.9, exact=True))
    assert not again.revised
    assert again.bound == pytest.approx(-0.5)


def test_integers_of_every_round_need_no_revision() -> None:
    block = Plain(unit_commitment, settings=BlockSettings(milp="each_round"))
    for price, y in ((1.5, 0), (1.9, 5), (1.7, 0)):
        answer = block.solve(signal(price))
        assert answer.y == pytest.approx([y])
        assert answer.bound == pytest.approx(min(0, 9 - 5 * price))
        assert not answer.revised


def test_two_committable_units_show_their_duality_gap() -> None:
    """Two equal units, demand 3: the best dual value is 5.4 at price 1.8, the optimum 7."""
    block = Plain(unit_commitment)
    bounds = [2 * (block.solve(signal(p, exact=True)).bound or 0) + 3 * p for p in np.linspace(1, 3, 21)]
    assert max(bounds) == pytest.approx(5.4)
    assert np.argmax(bounds) == 8


def test_evaluate_turns_a_unit_on_where_the_offer_needs_it() -> None:
    block = Plain(unit_commitment)
    block.solve(signal(1.0))
    assert block.evaluate(np.array([3.0])).cost == pytest.approx(7)
    nothing = block.evaluate(np.array([1.0]))
    assert nothing.status is Status.INFEASIBLE
    assert "whole numbers" in nothing.message


def test_penalised_unit_stays_committed() -> None:
    block = Plain(unit_commitment)
    block.solve(signal(3.0))
    answer = block.solve(signal(1.0, target=[3.0], penalty=[1.0]))
    assert answer.y == pytest.approx([3], abs=1e-6)
    assert answer.cost == pytest.approx(7, abs=1e-6)


def test_convex_terms_with_integers() -> None:
    """An inverter that costs 1 to switch on: worth it from the price at which its gain exceeds 1."""

    class Switched(Inverter):
        def build(self) -> pyo.ConcreteModel:
            m = super().build()
            m.on = pyo.Var(within=pyo.Binary)
            m.up = pyo.Constraint(expr=m.q[0] <= 100 * m.on)
            m.down = pyo.Constraint(expr=m.q[0] >= -100 * m.on)
            m.extra = pyo.Expression(expr=m.cost.expr + m.on)
            m.cost.set_value(m.extra)
            return m

    block = Switched()
    for price in (0.1, 0.9, 0.2, 1.2):
        answer = block.solve(signal(price, exact=True))
        q = best_q(price)
        gain = price * q - 2 * (np.hypot(q, GRID) - GRID) - 1
        assert answer.bound == pytest.approx(-max(gain, 0) - 0.5 * price, abs=1e-4)
        assert (abs(answer.y[0] - 0.5) > 1e-6) == (gain > 0)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_infeasible_block_names_what_conflicts_and_by_how_much() -> None:
    def fill(m: Any) -> None:
        m.x = pyo.Var(range(3), bounds=(0, 10))
        m.innocent = pyo.Constraint(expr=m.x[2] >= 1)
        m.need = pyo.Constraint([1], rule=lambda m, i: m.x[0] + m.x[1] >= 9)
        m.limit = pyo.Constraint(expr=m.x[0] + m.x[1] <= 5.5)
        m.cost = pyo.Expression(expr=m.x[0])
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x[0])

    for answer in (
        Plain(fill).solve(signal(1.0)),
        Plain(fill).solve(signal(1.0, target=[1.0], penalty=[1.0])),
    ):
        assert answer.status is Status.INFEASIBLE
        assert "'need[1]'" in answer.message
        assert "'limit'" in answer.message
        assert "3.5" in answer.message
        assert "innocent" not in answer.message
        assert answer.point is None
        assert np.isnan(answer.cost)


def test_infeasible_bounds_are_named() -> None:
    def fill(m: Any) -> None:
        m.x = pyo.Var(bounds=(0, 3))
        m.need = pyo.Constraint(expr=2 * m.x >= 8)
        m.cost = pyo.Expression(expr=m.x)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)

    answer = Plain(fill).solve(signal(1.0))
    assert "'need' misses by 2" in answer.message
    assert "bounds of 'x'" in answer.message


@pytest.mark.parametrize("curved", [False, True])
def test_unbounded_block_names_who_runs_away(curved: bool) -> None:
    def fill(m: Any) -> None:
        m.safe, m.runaway = pyo.Var(bounds=(0, 1)), pyo.Var(bounds=(0, None))
        m.cost = pyo.Expression(expr=m.runaway + m.safe + (m.safe**2 if curved else 0))
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.runaway)

    answer = Plain(fill).solve(signal(2.0))
    assert answer.status is Status.UNBOUNDED
    assert "'runaway' up" in answer.message
    assert "safe" not in answer.message


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (signal(np.nan), "price is not finite in entry 0"),
        (signal(1.0, 2.0), "price has 2 entries"),
        (signal(1.0, target=[np.inf], penalty=[1.0]), "target is not finite"),
        (signal(1.0, target=[1.0], penalty=[-1.0]), "negative"),
    ],
)
def test_signals_that_mean_nothing_are_errors(asked: Signal, word: str) -> None:
    answer = Plain(two_plants).solve(asked)
    assert answer.status is Status.ERROR
    assert word in answer.message


def answer_of(change: Callable[[Any], None], **options: Any) -> Response:
    def fill(m: Any) -> None:
        two_plants(m)
        change(m)

    return Plain(fill, **options).solve(signal(3.5))


def nan_in_the_data(m: Any) -> None:
    m.price = pyo.Param(initialize=np.nan, mutable=True)
    m.bad = pyo.Constraint(expr=m.price * m.x["cheap"] <= 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nan_in_the_data, ["not a finite number", "NaN"]),
        (lambda m: m.del_component(m.cost), ["cost", "model.cost = pyo.Expression"]),
        (lambda m: m.del_component(m.coupling), ["coupling"]),
        (lambda m: m.cost.set_value(-(m.x["cheap"] ** 2)), ["not convex"]),
        (lambda m: m.cost.set_value(pyo.sin(m.x["cheap"])), ["neither linear nor quadratic"]),
        (lambda m: m.add_component("curve", pyo.Constraint(expr=m.x["dear"] ** 2 <= 1)), ["curve", "not linear"]),
        (lambda m: m.add_component("sos", pyo.SOSConstraint(var=m.x, sos=1)), ["SOSConstraint"]),
    ],
)
def test_models_that_cannot_be_compiled_say_why(change: Callable[[Any], None], words: list[str]) -> None:
    answer = answer_of(change)
    assert answer.status is Status.ERROR
    for word in words:
        assert word in answer.message


def test_limit_without_a_point_is_a_limit() -> None:
    answer = answer_of(lambda m: None, solver_options={"simplex_iteration_limit": 0})
    assert answer.status is Status.LIMIT
    assert "limit" in answer.message
