"""Blocks asked together at prices: the solver's own interface, the way of the answers, and blocks that have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
from scipy import sparse

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.highs_lp import DUAL, HISTORY_FREE, new_solver, pass_rows
from decomp.blocks.solve.highs_simplex import BASIC, OPTIMAL, Simplex
from decomp.blocks.solve.scaling import Rows
from decomp.errors import BlockError
from decomp.layout import Layout, Signals
from decomp.messages import Coupling, Key, Response, Signal, Status
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Serial

ENTRIES, BLOCKS = 3, 5


class Works(PyomoSubproblem):
    """A linear program whose right-hand sides, bounds and costs follow the scenario."""

    template = "works"

    def __init__(self, scenario: int, least: float = 1.0) -> None:
        rng = np.random.default_rng(scenario)
        self.values = {"slope": 1 + rng.random(ENTRIES), "room": 1 + rng.random(ENTRIES), "least": np.array([least])}
        super().__init__(weight=np.array([1.0, 0.5, 2.0]))

    def build(self) -> pyo.ConcreteModel:
        m, t = pyo.ConcreteModel(), range(ENTRIES)
        m.slope, m.room = (pyo.Param(t, mutable=True, initialize=1.0) for _ in range(2))
        m.least = pyo.Param(mutable=True, initialize=1.0)
        m.x, m.free = pyo.Var(t, bounds=lambda m, i: (0, m.room[i])), pyo.Var(t)
        m.link = pyo.Constraint(t, rule=lambda m, i: m.free[i] == 2 * m.x[i] - 1.0)
        m.sum = pyo.Constraint(expr=sum(m.x[i] for i in t) >= m.least)
        m.cost = pyo.Expression(expr=sum(m.slope[i] * m.x[i] + 0.1 * m.free[i] for i in t) + m.least)
        m.coupling = pyo.Expression(t, rule=lambda m, i: m.x[i] - m.slope[i])
        m.report = pyo.Expression(range(2), rule=lambda m, i: m.free[i])
        return m

    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, Any]:
        return self.values


class Lonely(Works):
    template = "lonely"
    batch_key = None


def fleet_of(kind: type[Works], **least: float) -> tuple[Layout, BlockPool]:
    keys = {Key("U", str(s)): 1.0 / BLOCKS for s in range(BLOCKS)}
    unit = Coupling("U", ("a", "b", "c"), np.array([1.0, 0.5, 2.0]), np.array([-1, -1, -1]), keys, ("r", "s"))
    layout = Layout.of([unit], 0)
    fleet = BlockPool(Serial(), layout, lambda key: kind(int(key.scenario), least.get(f"s{key.scenario}", 1.0)))
    fleet.build()
    return layout, fleet


def test_a_sweep_gives_the_bits_of_single_solves() -> None:
    rng = np.random.default_rng(1)
    A = sparse.csr_matrix(rng.normal(size=(6, 9)) * (rng.random((6, 9)) < 0.6))
    inside = rng.random(9)
    rows = Rows(A, A @ inside - 0.1, A @ inside + 0.2)
    lb, ub, cost = np.zeros(9), np.full(9, 1.5), rng.normal(size=(3, 9))
    solver = Simplex()
    solver.set({**HISTORY_FREE, "simplex_strategy": DUAL})
    solver.load(rows, lb, ub)
    x, dual = np.zeros((3, 9)), np.zeros((3, 6))
    found = solver.sweep(cost, None, None, [None] * 3, x, dual)
    plain = new_solver({"simplex_strategy": DUAL})
    for i, (ended, basis) in enumerate(found):
        pass_rows(plain, rows, cost[i], lb, ub)
        plain.run()
        solution, status = plain.getSolution(), plain.getBasis()
        assert ended == OPTIMAL
        assert x[i].tolist() == solution.col_value
        assert dual[i].tolist() == solution.row_dual
        assert basis is not None
        assert basis.codes.tolist() == [int(s) for s in (*status.col_status, *status.row_status)]
        assert np.sum(basis.codes == BASIC) == 6
    assert np.unique(np.round(x, 9), axis=0).shape[0] == 3, "the costs must lead to different points"


def test_sides_and_bounds_of_their_own_and_a_program_without_a_point() -> None:
    solver = Simplex()
    solver.set({**HISTORY_FREE, "simplex_strategy": DUAL})
    solver.load(Rows(sparse.csr_matrix(np.ones((1, 2))), np.zeros(1), np.ones(1)), np.zeros(2), np.ones(2))
    cost, bounds = np.array([[1.0, 2.0]] * 3), (np.zeros((1, 2)), np.full((1, 2), 2.0))
    lo = np.array([[1.0], [5.0], [3.0]])
    x, dual = np.full((3, 2), np.nan), np.full((3, 1), np.nan)
    ended = solver.sweep(cost, bounds, (lo, lo + 1), [None] * 3, x, dual)
    assert x[[0, 2]].tolist() == [[1.0, 0.0], [2.0, 1.0]]
    assert dual[[0, 2]].tolist() == [[1.0], [2.0]]
    assert ended[1] == (int(highspy.HighsModelStatus.kInfeasible), None)
    assert np.isnan(x[1]).all()


def test_answers_travel_together_as_they_do_one_by_one() -> None:
    (layout, fleet), (_, lonely) = fleet_of(Works), fleet_of(Lonely)
    rng = np.random.default_rng(3)
    for k in range(4):
        price = rng.normal(size=len(layout.entry))
        some, expected = (f.solve(Signals(layout, price, id=k)) for f in (fleet, lonely))
        for part in ("y", "cost", "bound", "report", "status", "pattern", "revised"):
            assert np.array_equal(getattr(some, part), getattr(expected, part))
        assert np.isfinite(some.bound).all()
        assert (some.solve_time > 0).all()


def test_a_block_without_an_answer_among_others_is_named_and_they_answer() -> None:
    blocks = [Works(s) for s in range(3)]
    signals = [Signal(np.full(ENTRIES, 0.5), id=7)] * 3
    Works.solve_together(blocks, signals)
    built = blocks[1]._built  # its data become such that they cannot be met
    assert built.theta is not None
    assert built.shared is not None
    theta = built.theta + np.where(np.arange(len(built.theta)) == 6, 100.0, 0.0)
    blocks[1].__dict__["_built"] = replace(built, theta=theta)
    built.backend._program = partial(built.shared.template.program_at, theta)  # type: ignore[attr-defined]
    found = Works.solve_together(blocks, signals)
    assert [r.status for r in found] == [Status.OPTIMAL, Status.INFEASIBLE, Status.OPTIMAL]
    assert "sum" in found[1].message
    assert all(np.array_equal(r.y, Works(s).solve(signals[0]).y) for s, r in enumerate(found) if s != 1)


def test_an_answer_that_is_not_finite_names_its_block_alone() -> None:
    class Odd(Works):
        template = "odd"

        def finished(self, response: Response) -> Response:
            wrong = self.values["least"][0] > 1.0 and response.signal_id
            return replace(response, y=response.y * np.nan) if wrong else response

    layout, fleet = fleet_of(Odd, s3=1.5)
    fleet.solve(Signals(layout, np.zeros(len(layout.entry))))
    with pytest.raises(BlockError, match="U/3") as error:
        fleet.solve(Signals(layout, np.zeros(len(layout.entry)), id=1))
    assert "U/2" not in str(error.value)
