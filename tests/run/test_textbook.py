"""Problems of textbooks with published optima: docs/problems.md tells what these runs find."""

from __future__ import annotations

import re

import numpy as np
import pyomo.environ as pyo
import pytest
from farmer import Farmer
from paths import ROOT

import tatonnement as tt

MARKETS, NEED = ("New York", "Chicago", "Topeka"), np.array([325.0, 300.0, 275.0])
PLANTS = {"Seattle": (350.0, (2.5, 1.7, 1.8)), "San Diego": (600.0, (2.5, 1.8, 1.4))}  # cases; thousand miles
FREIGHT = 0.09  # thousand dollars a case and thousand miles
UNITS = {  # $/h of P in MW, and limits; fuel prices 1.1, 1 and 1
    "coal": (561.0, 7.92, 0.001562, 150.0, 600.0),
    "oil 1": (310.0, 7.85, 0.00194, 100.0, 400.0),
    "oil 2": (78.0, 7.97, 0.00482, 50.0, 200.0),
}
SOLD = np.array([69, 29, 36, 61, 61, 26, 34, 67, 45, 67, 79, 56], float)
SETUP = np.array([85, 102, 102, 101, 98, 114, 105, 86, 119, 110, 98, 114], float)


class Shipping(tt.PyomoSubproblem):
    def __init__(self, supply, miles):
        self.supply, self.miles = supply, miles
        super().__init__()

    def build(self):
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(3), domain=pyo.NonNegativeReals)
        m.supply = pyo.Constraint(expr=sum(m.x[j] for j in range(3)) <= self.supply)
        m.cost = pyo.Expression(expr=FREIGHT * sum(self.miles[j] * m.x[j] for j in range(3)))
        m.coupling = pyo.Expression(range(3), rule=lambda m, j: m.x[j])
        return m


class Unit(tt.PyomoSubproblem):
    def __init__(self, fixed, slope, curve, least, most):
        self.data = fixed, slope, curve, least, most
        super().__init__()

    def build(self):
        fixed, slope, curve, least, most = self.data
        m = pyo.ConcreteModel()
        m.p_mw = pyo.Var(bounds=(least, most))
        m.cost = pyo.Expression(expr=fixed + slope * m.p_mw + curve * m.p_mw**2)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.p_mw)
        return m


class Item(tt.PyomoSubproblem):
    """Wagner and Whitin's item: a setup in a period, holding at 1 a unit and period. It uses capacity: offers -x."""

    def build(self):
        m = pyo.ConcreteModel()
        T = range(12)
        m.x, m.held = pyo.Var(T, domain=pyo.NonNegativeReals), pyo.Var(T, domain=pyo.NonNegativeReals)
        m.on = pyo.Var(T, domain=pyo.Binary)
        m.stock = pyo.Constraint(
            T, rule=lambda m, t: (m.held[t - 1] if t else 0) + m.x[t] == float(SOLD[t]) + m.held[t]
        )
        m.most = pyo.Constraint(T, rule=lambda m, t: m.x[t] <= float(SOLD[t:].sum()) * m.on[t])
        m.cost = pyo.Expression(expr=sum(float(SETUP[t]) * m.on[t] + m.held[t] for t in T))
        m.coupling = pyo.Expression(T, rule=lambda m, t: m.x[t])
        return m


def couple(blocks, n):
    return [tt.Coupling(key.unit, tuple(map(str, range(n))), np.ones(n), np.arange(n), {key: 1.0}) for key in blocks]


def transport():
    blocks = {tt.Key(name): Shipping(*data) for name, data in PLANTS.items()}
    return blocks, tt.AtLeast(MARKETS, NEED, (0.0, 600.0)), couple(blocks, 3)


def dispatch():
    blocks = {tt.Key(name): Unit(*data) for name, data in UNITS.items()}
    return blocks, tt.Exchange(["load"], 850.0, (0.0, 1200.0)), couple(blocks, 1)


def lot_sizing():
    blocks = {tt.Key(name): Item() for name in ("first", "second")}
    return blocks, tt.Capacity([f"period {t}" for t in range(12)], 400.0, (0.0, 1300.0)), couple(blocks, 12)


def farmer():
    keys = {tt.Key("farmer", s): 1 / 3 for s in "012"}
    coupling = tt.Coupling("farmer", ("wheat", "corn", "beets"), np.ones(3), np.full(3, -1), keys)
    return {key: Farmer(key.scenario) for key in keys}, None, [coupling]


PROBLEMS = {
    "transport": (transport, "bundle", 153.675),
    "economic dispatch": (dispatch, "bundle", 8194.36),
    "lot sizing": (lot_sizing, "bundle", 1728.0),
    "farmer": (farmer, "progressive_hedging", -108390.0),
}


def found(name):
    make, rule, _ = PROBLEMS[name]
    blocks, coordinator, coupling = make()
    return tt.run(blocks, coordinator, rule, coupling=coupling, stop=tt.Gap(1e-5, 0.0, "total"), limits=100)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_published_optimum_is_certified(name):
    result = found(name)
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(PROBLEMS[name][2], rel=2e-5)
    page = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| {name} .*\| certified \|", page, re.MULTILINE)


def test_the_price_of_the_dispatch_is_the_books():
    assert found("economic dispatch").node_prices.iloc[-1, 0] == pytest.approx(9.148, abs=0.01)
