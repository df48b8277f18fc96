"""Irreducible conflicts: proven, none of their limits can be spared, and told by the user's names."""

from __future__ import annotations

import itertools

import numpy as np
import pyomo.environ as pyo
import pytest
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.conflict import Conflict, elastic, irreducible, irreducible_whole
from decomp.blocks.solve.scaling import Rows
from decomp.messages import Signal, Status


def feasible(rows, lb, ub, c: Conflict | None = None, integer=None) -> bool:
    """Is there a point, by scipy, that keeps the limits of c (None = all)?"""
    lo, hi = rows.lo, rows.hi
    if c is not None:
        lo, hi = np.where(c.lo, lo, -np.inf), np.where(c.hi, hi, np.inf)
        lb, ub = np.where(c.lb, lb, -np.inf), np.where(c.ub, ub, np.inf)
    n = rows.A.shape[1]
    kinds = np.zeros(n) if integer is None else integer.astype(int)
    found = milp(np.zeros(n), bounds=Bounds(lb, ub), constraints=LinearConstraint(rows.A, lo, hi), integrality=kinds)
    assert found.status in (0, 2), found.message
    return found.status == 0


def spared(c: Conflict):
    for part in ("lo", "hi", "lb", "ub"):
        for i in np.flatnonzero(getattr(c, part)):
            parts = {name: getattr(c, name).copy() for name in ("lo", "hi", "lb", "ub")}
            parts[part][i] = False
            yield Conflict(**parts)


def random_rows(seed):
    """Random rows and bounds around a box, most of them in conflict."""
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(3, 12)), int(rng.integers(2, 7))
    A = sparse.csr_matrix(rng.integers(-3, 4, (m, n)) * (rng.random((m, n)) < 0.6).astype(float))
    lo = np.where(rng.random(m) < 0.6, rng.normal(1.0 if seed % 3 else -6.0, 5, m).round(1), -np.inf)
    hi = np.where(rng.random(m) < 0.5, np.where(np.isfinite(lo), lo, 0) + rng.random(m).round(1), np.inf)
    return Rows(A, lo, hi), np.where(rng.random(n) < 0.8, 0.0, -np.inf), np.where(rng.random(n) < 0.8, 3.0, np.inf)


@pytest.mark.parametrize("seed", range(25))
def test_a_conflict_is_one_and_none_of_it_can_be_spared(seed):
    rows, lb, ub = random_rows(seed)
    found = elastic(rows, lb, ub)
    if feasible(rows, lb, ub):
        assert found.conflict is None
        return
    small = irreducible(rows, lb, ub, found.conflict)
    assert small.irreducible
    assert 0 < len(small) <= len(found.conflict)
    assert not feasible(rows, lb, ub, small)
    assert all(feasible(rows, lb, ub, less) for less in spared(small))


def test_some_of_the_random_rows_are_in_conflict_and_some_are_not():
    kinds = {feasible(*random_rows(seed)) for seed in range(25)}
    assert kinds == {True, False}


@pytest.mark.parametrize("seed", range(8))
def test_a_conflict_of_whole_numbers_is_one(seed):
    rng = np.random.default_rng(seed)
    n, integer = 3, np.ones(3, bool)
    A = sparse.csr_matrix(np.vstack([2 * rng.integers(1, 4, (2, n)), rng.integers(-2, 3, (3, n))]).astype(float))
    lo = np.array([5.0, 7.0, -20, -20, -20])  # even sums are no odd numbers
    hi = np.array([5.0, 7.0, 30, 30, 30])
    rows, lb, ub = Rows(A, lo, hi), np.zeros(n), np.full(n, 9.0)
    points = itertools.product(range(10), repeat=n)
    assert not any(np.all((A @ p >= lo) & (A @ p <= hi)) for p in map(np.array, points))
    small = irreducible_whole(rows, lb, ub, integer)
    box = Conflict(small.lo, small.hi, np.ones(n, bool), np.ones(n, bool))
    assert not feasible(rows, lb, ub, box, integer)
    assert not (small.lo | small.hi)[2:].any()
    assert np.count_nonzero(small.lo | small.hi) == 1  # each of the two alone


class Plant(PyomoSubproblem):
    def __init__(self, whole=False):
        self.whole = whole
        super().__init__()

    def build(self):
        m = pyo.ConcreteModel()
        m.heat = pyo.Var(bounds=(0, 10), domain=pyo.Integers if self.whole else pyo.Reals)
        m.power = pyo.Var(bounds=(0, 4))
        m.other = pyo.Var(range(30), bounds=(0, 1))
        m.innocent = pyo.Constraint(range(29), rule=lambda m, i: m.other[i] + m.other[i + 1] <= 1.5)
        m.ratio = pyo.Constraint(expr=m.heat <= 2 * m.power)
        m.need = pyo.Constraint(expr=m.heat + m.other[0] >= 3)
        m.cost = pyo.Expression(expr=m.heat + pyo.quicksum(m.other.values()))
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.power)
        return m


def test_a_trial_point_without_an_answer_says_which_limits_are_in_its_way():
    answer = Plant().evaluate(np.array([0.5]))
    assert answer.status is Status.INFEASIBLE
    rows, bounds = answer.message.split("a smallest conflict: rows ")[1].split("; bounds of ")
    assert set(rows.split(", ")) == {"'ratio' <= 0", "'need' >= 3", "'offer 0 (power)' = 0.5"}
    assert bounds == "'other[0]' <= 1"


def test_an_offer_beyond_a_bound_is_in_conflict_with_it_alone():
    answer = Plant().evaluate(np.array([5.0]))
    assert answer.message.endswith("a smallest conflict: rows 'offer 0 (power)' = 5; bounds of 'power' <= 4")


def test_whole_numbers_are_told_with_the_rows_that_leave_none():
    class Even(Plant):
        def build(self):
            m = super().build()
            m.odd = pyo.Constraint(expr=2 * m.heat == 7)
            return m

    answer = Even(whole=True).solve(Signal(np.array([0.0]), exact=True))
    assert answer.status is Status.INFEASIBLE
    assert "whole numbers" in answer.message
    assert "a smallest conflict: rows 'odd' = 7" in answer.message
    assert "innocent" not in answer.message
