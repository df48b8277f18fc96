"""Bounds are bounds: random programs against scipy, injected gaps, loose multipliers; penalties by stationarity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from decomp.blocks.compile.compiler import compile_model
from decomp.blocks.pyomo_block import BlockSettings, PyomoSubproblem
from decomp.blocks.solve import highs_mip as mixed
from decomp.blocks.solve.bounds import dual_bound
from decomp.messages import Signal, Status

N, ROWS, OFFERS = 7, 4, 2


class Random(PyomoSubproblem):
    """Random data by seed: bounded columns; an equation, two- and one-sided rows that the middle of the box meets."""

    def __init__(self, seed: int, whole: int = 0, curved: bool = False, **options: Any) -> None:
        rng = np.random.default_rng(seed)
        scale = 10.0 ** rng.integers(-2, 3, N)
        self.lb, self.ub = -scale * rng.random(N), scale * rng.random(N)
        self.whole = whole
        self.lb[:whole], self.ub[:whole] = -2, 3
        self.A = rng.normal(size=(ROWS, N)) / np.maximum(self.ub - self.lb, 1e-3)
        middle = np.floor((self.lb + self.ub) / 2) if whole else (self.lb + self.ub) / 2
        middle = np.where(np.arange(N) < whole, middle, (self.lb + self.ub) / 2)
        self.hi = self.A @ middle + 0.2 * rng.random(ROWS)
        self.lo = np.where(rng.random(ROWS) < 0.5, -np.inf, self.hi - 0.5)
        if not whole:
            self.lo[0] = self.hi[0] = self.A[0] @ middle
        self.c = rng.normal(size=N) / scale
        self.C = rng.normal(size=(OFFERS, N))
        self.root = rng.normal(size=(3, N)) / scale if curved else np.zeros((3, N))
        self.price = rng.normal(size=OFFERS)
        self.dt = 0.25 + rng.random(OFFERS)
        super().__init__(weight=self.dt, **options)

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(N), bounds=lambda m, j: (self.lb[j], self.ub[j]))
        for j in range(self.whole):
            m.x[j].domain = pyo.Integers
        m.row = pyo.Constraint(
            range(ROWS),
            rule=lambda m, i: pyo.inequality(
                None if np.isinf(self.lo[i]) else self.lo[i], sum(self.A[i, j] * m.x[j] for j in range(N)), self.hi[i]
            ),
        )
        curve = sum(sum(r[j] * m.x[j] for j in range(N)) ** 2 for r in self.root if np.any(r)) / 2
        m.cost = pyo.Expression(expr=sum(self.c[j] * m.x[j] for j in range(N)) + 3 + curve)
        m.coupling = pyo.Expression(range(OFFERS), rule=lambda m, i: sum(self.C[i, j] * m.x[j] for j in range(N)) + i)
        return m

    def best(self) -> float:
        """min f - <price, y> by scipy's HiGHS, straight from the data."""
        cost = self.c - self.C.T @ (self.dt * self.price)
        result = optimize.milp(
            cost,
            integrality=(np.arange(N) < self.whole).astype(int),
            bounds=optimize.Bounds(self.lb, self.ub),
            constraints=optimize.LinearConstraint(self.A, self.lo, self.hi),
            options={"mip_rel_gap": 0},
        )
        assert result.success
        return float(result.fun + 3 - (self.dt * self.price) @ np.arange(OFFERS))

    def objective(self, x: np.ndarray, target: np.ndarray, penalty: np.ndarray) -> float:
        y = self.C @ x + np.arange(OFFERS)
        value = self.c @ x + 3 + 0.5 * np.sum((self.root @ x) ** 2) - (self.dt * self.price) @ y
        return float(value + 0.5 * np.sum(self.dt * penalty * (y - target) ** 2))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_linear_bound_is_the_optimum_and_never_above(seed: int) -> None:
    block = Random(seed)
    answer, best = block.solve(Signal(block.price)), block.best()
    size = max(1.0, abs(best))
    assert answer.bound is not None
    assert best - 1e-8 * size <= answer.bound <= best + 1e-10 * size
    assert answer.cost - (block.dt * block.price) @ answer.y == pytest.approx(best, abs=1e-7 * size)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_mixed_bound_is_the_optimum_and_never_above(seed: int) -> None:
    block = Random(seed, whole=4)
    answer, best = block.solve(Signal(block.price, exact=True)), block.best()
    assert answer.bound is not None
    assert best - 2e-6 <= answer.bound <= best + 1e-7
    assert answer.cost - (block.dt * block.price) @ answer.y == pytest.approx(best, abs=2e-6)


class Knapsack(PyomoSubproblem):
    def __init__(self, seed: int, **options: Any) -> None:
        rng = np.random.default_rng(seed)
        self.gain, self.size = rng.integers(10, 60, 30) / 1.0, rng.integers(10, 60, (3, 30)) / 1.0
        super().__init__(**options)

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(30), within=pyo.Binary)
        m.fit = pyo.Constraint(range(3), rule=lambda m, i: sum(self.size[i, j] * m.x[j] for j in range(30)) <= 300)
        m.cost = pyo.Expression(expr=-sum(self.gain[j] * m.x[j] for j in range(30)))
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x[0])
        return m


@pytest.mark.parametrize("seed", range(4))
def test_a_five_percent_gap_does_not_lift_the_bound(seed: int) -> None:
    """Wherever the search ends: the bound stays below the optimum, though the point may be above it."""
    exact = Knapsack(seed).solve(Signal(np.zeros(1), exact=True))
    loose = Knapsack(seed, settings=BlockSettings(mip_rel_gap=0.05)).solve(Signal(np.zeros(1), exact=True))
    assert exact.bound is not None
    assert loose.bound is not None
    assert exact.bound == pytest.approx(exact.cost, abs=1e-5)
    assert loose.bound <= exact.cost + 1e-9
    assert loose.cost - loose.bound <= 0.05 * abs(loose.cost) + 1e-6


def test_the_bound_is_what_the_search_has_proven_and_not_the_value_of_its_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search that is stopped with its dual bound 5 below its point, whatever the solver's version would do."""

    class Stopped(highspy.Highs):
        def getInfo(self) -> SimpleNamespace:
            info = super().getInfo()
            bound = info.mip_dual_bound - 5.0
            return SimpleNamespace(mip_dual_bound=bound, primal_solution_status=info.primal_solution_status)

    def stopped(options: Any) -> highspy.Highs:
        solver = Stopped()
        solver.setOptionValue("output_flag", False)
        return solver

    exact = Knapsack(0).solve(Signal(np.zeros(1), exact=True))
    monkeypatch.setattr(mixed, "new_solver", stopped)
    early = Knapsack(0).solve(Signal(np.zeros(1), exact=True))
    assert early.cost == pytest.approx(exact.cost, abs=1e-6)
    assert early.bound == pytest.approx(exact.cost - 5.0, abs=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_any_multipliers_give_a_bound(seed: int) -> None:
    """Weak duality must not depend on the solver being right."""
    block = Random(seed)
    model = block.build()
    program = compile_model(model)
    rng = np.random.default_rng(seed)
    cost = program.cost - program.coupling_t @ (block.dt * block.price)
    constant = program.constant - float((block.dt * block.price) @ program.coupling_0)
    none = program.terms.no_tangents()
    bound = dual_bound(
        program, cost, constant, program.lb, program.ub, np.zeros(N), rng.normal(size=ROWS), none, np.zeros(0)
    )
    assert bound is not None
    assert bound <= block.best() + 1e-9


def test_a_residual_on_a_free_column_proves_nothing() -> None:
    m = pyo.ConcreteModel()
    m.x = pyo.Var()
    m.row = pyo.Constraint(expr=m.x >= 1)
    m.cost = pyo.Expression(expr=2 * m.x)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
    program = compile_model(m)
    none = program.terms.no_tangents()

    def bound(multiplier: float) -> float | None:
        pi = np.array([multiplier])
        return dual_bound(program, program.cost, 0.0, program.lb, program.ub, np.ones(1), pi, none, np.zeros(0))

    assert bound(2.0) == 2.0
    assert bound(1.9) is None
    rounding = bound(2 - 1e-9)
    assert rounding is not None
    assert 2 - 1e-5 < rounding < 2 - 1e-9


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans())
def test_penalised_answers_are_stationary(seed: int, curved: bool) -> None:
    """The answer against an independent linear program: no feasible direction lowers the objective."""
    block = Random(seed, curved=curved)
    rng = np.random.default_rng(seed + 1)
    target, penalty = rng.normal(size=OFFERS), rng.random(OFFERS) + 0.1
    answer = block.solve(Signal(block.price, target, penalty))
    assert answer.status is Status.OPTIMAL
    assert answer.bound is None
    x = answer.point
    assert x is not None
    assert np.all(x >= block.lb)
    assert np.all(x <= block.ub)
    assert np.all(block.A @ x <= block.hi + 1e-7)
    assert np.all(block.A @ x >= block.lo - 1e-7)
    y = block.C @ x + np.arange(OFFERS)
    assert answer.y == pytest.approx(y, abs=1e-12)
    slope = block.c + block.root.T @ (block.root @ x) + block.C.T @ (block.dt * (penalty * (y - target) - block.price))
    step = optimize.linprog(
        slope,
        A_ub=np.vstack([block.A, -block.A[np.isfinite(block.lo)]]),
        b_ub=np.concatenate([block.hi, -block.lo[np.isfinite(block.lo)]]),
        bounds=list(zip(block.lb, block.ub, strict=True)),
    )
    size = max(1.0, abs(block.objective(x, target, penalty)))
    assert slope @ x - step.fun <= 1e-6 * size


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_quadratic_bound_is_below_and_close(seed: int) -> None:
    block = Random(seed, curved=True)
    answer = block.solve(Signal(block.price))
    assert answer.bound is not None
    best = block.objective(answer.point, np.zeros(OFFERS), np.zeros(OFFERS))
    assert answer.cost - (block.dt * block.price) @ answer.y == pytest.approx(best, abs=1e-9 * max(1, abs(best)))
    assert best - 1e-6 * max(1, abs(best)) <= answer.bound <= best + 1e-10 * max(1, abs(best))


@pytest.mark.parametrize("coupled", [False, True])
def test_quadratic_cost_with_integers_against_every_choice(coupled: bool) -> None:
    """Three units on or off with quadratic costs: the best of all eight choices, each solved by scipy."""
    Q = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 0.5]]) if coupled else np.diag([2.0, 1.0, 0.5])
    fixed, price = np.array([1.0, 2.0, 3.0]), 2.4

    class Units(PyomoSubproblem):
        def build(self) -> pyo.ConcreteModel:
            m = pyo.ConcreteModel()
            m.on, m.x = pyo.Var(range(3), within=pyo.Binary), pyo.Var(range(3), bounds=(0, 4))
            m.used = pyo.Constraint(range(3), rule=lambda m, i: m.x[i] <= 4 * m.on[i])
            m.cost = pyo.Expression(
                expr=sum(Q[i, j] * m.x[i] * m.x[j] / 2 for i in range(3) for j in range(3))
                + sum(fixed[i] * m.on[i] for i in range(3))
            )
            m.coupling = pyo.Expression([0], rule=lambda m, i: m.x[0] + m.x[1] + m.x[2])
            return m

    def best_with(on: tuple[int, ...], stiffness: float = 0.0) -> float:
        def value(x: np.ndarray) -> float:
            return float(x @ Q @ x / 2 - price * x.sum() + stiffness / 2 * (x.sum() - 3) ** 2)

        bounds = [(0, 4 * o) for o in on]
        found = optimize.minimize(value, 0.5 * np.array(on), bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-10})
        return float(found.fun + fixed @ on)

    choices = [tuple(int(c) for c in f"{i:03b}") for i in range(8)]
    best = min(best_with(on) for on in choices)
    block = Units()
    answer = block.solve(Signal(np.array([price]), exact=True))
    assert answer.cost - price * answer.y[0] == pytest.approx(best, abs=1e-6)
    assert answer.bound is not None
    assert best - 5e-5 <= answer.bound <= best + 1e-7
    on = tuple(int(v) for v in block.value(answer.point, "on"))
    pulled = block.solve(Signal(np.array([price]), np.array([3.0]), np.array([2.0])))
    value = pulled.cost - price * pulled.y[0] + (pulled.y[0] - 3) ** 2
    assert value == pytest.approx(best_with(on, 2.0), abs=1e-6)
