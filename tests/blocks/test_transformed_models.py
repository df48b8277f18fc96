"""Models that Pyomo's own transformations have gone over, domains that bound a Var, rows crossed by Params."""

from __future__ import annotations

import numpy as np
import pyomo.dae as dae
import pyomo.environ as pyo
import pyomo.gdp as gdp
import pytest
from pyomo.network import Arc, Port

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.messages import Signal, Status


def offering(m, y):
    m.cost = pyo.Expression(expr=1.0 * y)
    m.coupling = pyo.Expression([0], rule=lambda m, i: y)
    return m


def disjunction(how):
    def build():
        m = pyo.ConcreteModel()
        m.y = pyo.Var(bounds=(0, 5))
        m.either = gdp.Disjunction(expr=[[m.y == 0], [m.y >= 2, m.y <= 4]])
        pyo.TransformationFactory(how).apply_to(m)
        return offering(m, m.y)

    return build


def dynamic(how, **options):
    def build():
        m = pyo.ConcreteModel()
        m.t = dae.ContinuousSet(bounds=(0, 1))
        m.x, m.u = pyo.Var(m.t, bounds=(0, 5)), pyo.Var(m.t, bounds=(0, 1))
        m.dx = dae.DerivativeVar(m.x, wrt=m.t)
        m.flow = pyo.Constraint(m.t, rule=lambda m, t: m.dx[t] == m.u[t])
        m.x[0].fix(0)
        pyo.TransformationFactory(how).apply_to(m, **options)
        m.area = dae.Integral(m.t, wrt=m.t, rule=lambda m, t: m.x[t])
        return offering(m, m.x[1])

    return build


def pieces():
    m = pyo.ConcreteModel()
    m.y, m.f = pyo.Var(bounds=(0, 4)), pyo.Var()
    m.p = pyo.Piecewise(m.f, m.y, pw_pts=[0, 2, 4], f_rule=[0, 1, 8], pw_constr_type="EQ", pw_repn="INC")
    m.cost = pyo.Expression(expr=m.f)
    m.coupling = pyo.Expression([0], rule=lambda m, i: m.y)
    return m


def joined():
    m = pyo.ConcreteModel()
    m.a, m.b = pyo.Var(bounds=(0, 3)), pyo.Var(bounds=(0, 5))
    m.from_a, m.to_b = Port(initialize={"f": m.a}), Port(initialize={"f": m.b})
    m.arc = Arc(source=m.from_a, destination=m.to_b)
    pyo.TransformationFactory("network.expand_arcs").apply_to(m)
    return offering(m, m.b)


def built(make, **options):
    block = type("Block", (PyomoSubproblem,), {"build": lambda self: make()})
    return block(**options)


@pytest.mark.parametrize("solver", ["highs", "appsi_highs"])
@pytest.mark.parametrize(
    ("make", "y"),
    [
        (disjunction("gdp.bigm"), 4.0),
        (disjunction("gdp.hull"), 4.0),
        (dynamic("dae.finite_difference", nfe=4), 1.0),
        (dynamic("dae.collocation", nfe=2, ncp=2), 1.0),
        (pieces, 2.0),
        (joined, 3.0),
    ],
)
def test_what_transformations_leave_behind_is_no_obstacle(make, y, solver):
    answer = built(make, solver=solver).solve(Signal(np.array([2.0]), exact=True))
    assert answer.status == Status.OPTIMAL, answer.message
    assert answer.y == pytest.approx([y], abs=1e-6)


@pytest.mark.parametrize("solver", ["highs", "pounce"])
def test_expanded_arcs_for_linear_and_nonlinear_solvers(solver):
    assert built(joined, solver=solver).solve(Signal(np.array([2.0]))).y == pytest.approx([3.0], abs=1e-4)


class Bounded(PyomoSubproblem):
    """A Var with bounds and a row with sides that follow Params."""

    def __init__(self, values, domain=pyo.NonNegativeReals, shared=True, **options):
        self.values, self.domain = values, domain
        self.template = str(domain) if shared else None
        super().__init__(**options)

    def build(self):
        m = pyo.ConcreteModel()
        m.lo, m.hi, m.row_lo, m.row_hi = (pyo.Param(mutable=True, initialize=x) for x in self.values)
        m.y = pyo.Var(within=self.domain, bounds=(m.lo, m.hi))
        m.z = pyo.Var(bounds=(-9, 9))
        m.kept_within = pyo.Constraint(expr=(m.row_lo, m.z, m.row_hi))
        m.cost = pyo.Expression(expr=m.y + m.z)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.y)
        return m

    def parameters(self, model):
        return dict(zip(("lo", "hi", "row_lo", "row_hi"), self.values, strict=True))


WAYS = [{"shared": True}, {"shared": False}, {"shared": False, "solver": "appsi_highs"}]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("domain", "most"),
    [(pyo.NonNegativeReals, 7), (pyo.UnitInterval, 1), (pyo.NonNegativeIntegers, 7), (pyo.Binary, 1)],
)
def test_a_domain_bounds_a_variable_whose_bounds_are_params(domain, most, way):
    block = Bounded((-5.0, 7.0, 0.0, 3.0), domain, **way)
    assert block.solve(Signal(np.zeros(1), exact=True)).y == pytest.approx([0.0], abs=1e-7)
    assert block.solve(Signal(np.array([9.0]), exact=True)).y == pytest.approx([most], abs=1e-7)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_whose_sides_params_have_crossed_is_named(way):
    answer = Bounded((0.0, 7.0, 3.0, 1.0), **way).solve(Signal(np.zeros(1)))
    assert answer.status == Status.INFEASIBLE
    assert "kept_within" in answer.message
