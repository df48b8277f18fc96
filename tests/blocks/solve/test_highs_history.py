"""A block's answer is a function of its data, its warm state and the signal: to the last bit, on any solver object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.compile.compiler import compile_model
from decomp.blocks.pyomo_block import BlockSettings, ConvexTerm, PyomoSubproblem
from decomp.blocks.solve.scaling import Scaled, factors
from decomp.messages import Response, Signal, Status

HOURS, STORES, PANELS = 8, 2, 2


class Prosumer(PyomoSubproblem):
    """Storage, panels with reactive power and a peak charge; badly scaled on purpose, degenerate (alike devices)."""

    initial_price = np.full(HOURS, 0.02)

    def __init__(self, whole: bool = False, **options: Any) -> None:
        self.whole = whole
        super().__init__(**options)

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        t, b, k = range(HOURS), range(STORES), range(PANELS)
        spot = 0.5 + 0.3 * np.sin(np.arange(HOURS))
        m.p, m.q, m.s = pyo.Var(t, k, bounds=(0, 30)), pyo.Var(t, k), pyo.Var(t, k)
        m.up = pyo.Constraint(t, k, rule=lambda m, i, j: m.q[i, j] <= 0.6 * m.p[i, j])
        m.down = pyo.Constraint(t, k, rule=lambda m, i, j: m.q[i, j] >= -0.6 * m.p[i, j])
        m.c, m.d = pyo.Var(t, b, bounds=(0, 10)), pyo.Var(t, b, bounds=(0, 10))
        m.e = pyo.Var(t, b, bounds=(5e3, 40e3))  # Wh beside kW
        m.mode = pyo.Var(t, b, within=pyo.Binary) if self.whole else pyo.Var(t, b, bounds=(0, 1))
        m.state = pyo.Constraint(
            t,
            b,
            rule=lambda m, i, j: (
                m.e[i, j] == (m.e[i - 1, j] if i else 20e3) + 950 * m.c[i, j] - 1000 / 0.95 * m.d[i, j]
            ),
        )
        m.end = pyo.Constraint(b, rule=lambda m, j: m.e[HOURS - 1, j] >= 20e3)
        m.charge = pyo.Constraint(t, b, rule=lambda m, i, j: m.c[i, j] <= 10 * m.mode[i, j])
        m.discharge = pyo.Constraint(t, b, rule=lambda m, i, j: m.d[i, j] <= 10 * (1 - m.mode[i, j]))
        m.im, m.ex, m.peak = pyo.Var(t, bounds=(0, None)), pyo.Var(t, bounds=(0, 50)), pyo.Var(bounds=(0, None))
        m.balance = pyo.Constraint(
            t,
            rule=lambda m, i: (
                m.im[i] - m.ex[i] == 60 - sum(m.p[i, j] for j in k) + sum(m.c[i, j] - m.d[i, j] for j in b)
            ),
        )
        m.highest = pyo.Constraint(t, rule=lambda m, i: m.peak >= m.im[i])
        m.cost = pyo.Expression(
            expr=sum((spot[i] + 0.03) * m.im[i] - spot[i] * m.ex[i] for i in t)
            + 2.35 * m.peak
            + sum(0.05 * (m.c[i, j] + m.d[i, j]) for i in t for j in b)
            + sum(spot[i] * (m.s[i, j] - m.p[i, j]) for i in t for j in k)
        )
        m.coupling = pyo.Expression(t, rule=lambda m, i: sum(m.q[i, j] for j in k))
        m.report = pyo.Expression(t, rule=lambda m, i: m.im[i] - m.ex[i])
        return m

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return [ConvexTerm.norm(model.s, (model.p, model.q), "apparent power")]

    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]:
        return {i: [model.im[i], model.ex[i]] for i in range(HOURS)}


def signals() -> list[Signal]:
    """Twenty prices: small steps, jumps, frozen hours, penalties, exact questions."""
    rng = np.random.default_rng(5)
    out, price = [], np.full(HOURS, 0.02)
    active = np.arange(HOURS) == 3
    for i in range(20):
        price = price + (0.2 if i % 6 == 5 else 0.01) * rng.normal(size=HOURS)
        pull = i % 7 == 6
        out.append(
            Signal(
                price,
                target=rng.normal(size=HOURS) if pull else None,
                penalty=np.full(HOURS, 0.01) if pull else None,
                active=active if i >= 10 else None,
                exact=i % 9 == 8,
                id=i,
            )
        )
    return out


def same_bits(a: Response, b: Response) -> bool:
    assert a.point is not None
    assert b.point is not None
    return (
        np.array_equal(a.y, b.y)
        and a.cost == b.cost
        and a.bound == b.bound
        and np.array_equal(a.point, b.point)
        and np.array_equal(a.report, b.report)
        and a.revised == b.revised
        and a.status == b.status
    )


@pytest.fixture(scope="module", params=["linear", "mixed"])
def run(request: pytest.FixtureRequest) -> tuple[bool, list[Response]]:
    whole = request.param == "mixed"
    block = Prosumer(whole, settings=BlockSettings(tangents_per_term=3))
    answers = [block.solve(s) for s in signals()]
    assert all(a.status.has_point for a in answers)
    return whole, answers


@pytest.mark.parametrize("every", [1, 2, 3])
def test_fresh_solver_objects_give_the_same_bits(run: tuple[bool, list[Response]], every: int) -> None:
    whole, expected = run
    block = Prosumer(whole, settings=BlockSettings(tangents_per_term=3, fresh_every=every))
    assert all(same_bits(block.solve(s), e) for s, e in zip(signals(), expected, strict=True))


@pytest.mark.parametrize("moment", [1, 7, 12])
def test_a_state_resumed_elsewhere_gives_the_same_bits(run: tuple[bool, list[Response]], moment: int) -> None:
    whole, expected = run
    here = Prosumer(whole, settings=BlockSettings(tangents_per_term=3))
    for s in signals()[:moment]:
        here.solve(s)
    saved = here.save()
    assert saved is not None
    written = {name: array.copy() for name, array in saved.items()}
    assert all(a.dtype.kind in "fib" for a in written.values())
    there = Prosumer(whole, settings=BlockSettings(tangents_per_term=3))
    there.load(written)
    again = there.save()
    assert again is not None
    assert again.keys() == saved.keys()
    assert all(np.array_equal(again[name], saved[name]) for name in saved)
    assert saved["tangent_idle"].any()
    for s, e in zip(signals()[moment:], expected[moment:], strict=True):
        assert same_bits(there.solve(s), e)


def test_another_history_with_the_same_state_gives_the_same_bits(run: tuple[bool, list[Response]]) -> None:
    """The solver object has seen other prices; only the state counts."""
    whole, expected = run
    block = Prosumer(whole, settings=BlockSettings(tangents_per_term=3))
    block.solve(signals()[0])
    saved = block.save()
    assert saved is not None
    for s in signals()[5:12]:
        block.solve(s)
    block.load(saved)
    assert all(same_bits(block.solve(s), e) for s, e in zip(signals()[1:6], expected[1:6], strict=True))


def test_tangents_stay_bounded_in_number() -> None:
    block = Prosumer(settings=BlockSettings(tangents_per_term=3))
    for i in range(30):
        block.solve(Signal(np.full(HOURS, 0.02) + 0.3 * np.sin(np.arange(HOURS) * i)))
    saved = block.save()
    assert saved is not None
    terms = HOURS * PANELS
    assert len(saved["tangent_term"]) <= 2 * 3 * terms + terms


def test_signals_and_states_are_not_changed() -> None:
    block = Prosumer()
    asked = Signal(np.full(HOURS, 0.1), np.ones(HOURS), np.full(HOURS, 0.1), np.arange(HOURS) == 2)
    block.solve(asked)
    assert np.array_equal(asked.price, np.full(HOURS, 0.1))
    assert asked.target is not None
    assert np.array_equal(asked.target, np.ones(HOURS))


def test_scaling_is_by_powers_of_two_and_leaves_integers() -> None:
    block = Prosumer(whole=True)
    model = block.build()
    program = compile_model(model, block.convex_terms(model))
    row, column = factors(program.A, program.integer)
    for factor in (row, column):
        mantissa, _ = np.frexp(factor)
        assert set(mantissa) == {0.5}
    assert np.all(column[program.integer] == 1)
    before, after = np.abs(program.A.data), np.abs(Scaled.of(program).rows.A.data)
    assert after.max() / after.min() < 0.2 * before.max() / before.min()
    assert 0.5 <= after.max() <= 2


def test_weights_of_the_inner_product_and_report_come_in_entry_order(run: tuple[bool, list[Response]]) -> None:
    whole, answers = run
    block = Prosumer(whole, settings=BlockSettings(tangents_per_term=3))
    point = answers[0].point
    assert block.value(point, "report") == pytest.approx(answers[0].report, abs=1e-9)
    offered = block.value(point, "coupling")
    assert offered == pytest.approx(answers[0].y + block.initial.offer, abs=1e-4)


def test_options_of_the_first_solve_do_not_linger() -> None:
    """A limit for the first solve alone must not stop a later one."""
    options = {"solver_options": {"simplex_iteration_limit": 10_000}, "later_options": {"simplex_iteration_limit": 0}}
    block = Prosumer(**options)
    assert block.solve(signals()[0]).status is Status.LIMIT  # the initial schedule took the first solve
    turned = Prosumer(solver_options=options["later_options"], later_options=options["solver_options"])
    assert turned.solve(signals()[0]).status is Status.LIMIT
    # so many tangents are kept that the solver object is never a new one
    many = BlockSettings(tangents_per_term=1e6)
    linger = Prosumer(solver_options={"simplex_iteration_limit": 10_000}, later_options={}, settings=many)
    plain = Prosumer(settings=many)
    for s in signals()[:4]:
        assert same_bits(linger.solve(s), plain.solve(s))
    solver = linger._built.backend.solver.warm.solver  # type: ignore[attr-defined]
    assert solver.whole_number("simplex_iteration_limit") > 10_000
