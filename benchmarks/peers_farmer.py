"""The scalable farmer of mpi-sppy as blocks of this engine: the same rows and columns, the same yields.

Variables, constraints, prices and the stream of yields are those of mpisppy/tests/examples/farmer.py of mpi-sppy 0.14,
after Birge and Louveaux; checked against it by every run of `python -m benchmarks.peers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.messages import Coupling, FloatArray, Key

CROPS = ("WHEAT", "CORN", "SUGAR_BEETS")
QUOTA_T = (100000.0, 100000.0, 6000.0)
PRICE_USD_PER_T = (170.0, 150.0, 36.0)
PRICE_BEYOND_QUOTA_USD_PER_T = (0.0, 0.0, 10.0)
NEED_T = (200.0, 240.0, 0.0)
PURCHASE_USD_PER_T = (238.0, 210.0, 100000.0)
PLANTING_USD_PER_ACRE = (150.0, 230.0, 260.0)
YIELD_T_PER_ACRE = ((2.0, 2.4, 16.0), (2.5, 3.0, 20.0), (3.0, 3.6, 24.0))  # below average, average, above
LAND_ACRES = 500.0  # for each three crops


def crops(multiplier: int) -> tuple[str, ...]:
    """Names of the 3 x multiplier crops."""
    return tuple(f"{crop}{i}" for i in range(multiplier) for crop in CROPS)


def yields(scenario: int, multiplier: int) -> FloatArray:
    """Tons per acre (3 multiplier,); from the fourth scenario on each crop has up to a ton more, by its own draw."""
    base = np.tile(YIELD_T_PER_ACRE[scenario % 3], multiplier)
    if scenario < 3:
        return base
    # the peer's own generator, or these would be other yields
    return base + np.random.RandomState(scenario).random_sample(3 * multiplier)


class Farmer(PyomoSubproblem):
    """One scenario of yields; y = acres of each crop."""

    def __init__(self, scenario: int, multiplier: int) -> None:
        self.scenario, self.multiplier = scenario, multiplier
        self.template = multiplier
        super().__init__()

    def build(self) -> pyo.ConcreteModel:
        names, times = crops(self.multiplier), self.multiplier

        def each(values: tuple[float, ...]) -> dict[str, float]:
            return dict(zip(names, values * times, strict=True))

        quota, price, beyond = each(QUOTA_T), each(PRICE_USD_PER_T), each(PRICE_BEYOND_QUOTA_USD_PER_T)
        need, purchase, planting = each(NEED_T), each(PURCHASE_USD_PER_T), each(PLANTING_USD_PER_ACRE)
        land = LAND_ACRES * times
        m = pyo.ConcreteModel()
        m.growth = pyo.Param(names, mutable=True, initialize=1.0)
        m.acres = pyo.Var(names, bounds=(0.0, land))
        m.sold, m.sold_beyond, m.bought = (pyo.Var(names, bounds=(0.0, None)) for _ in range(3))
        m.land = pyo.Constraint(expr=sum(m.acres[c] for c in names) <= land)
        m.feed = pyo.Constraint(
            names,
            rule=lambda m, c: m.growth[c] * m.acres[c] + m.bought[c] - m.sold[c] - m.sold_beyond[c] >= need[c],
        )
        m.harvest = pyo.Constraint(
            names, rule=lambda m, c: m.sold[c] + m.sold_beyond[c] - m.growth[c] * m.acres[c] <= 0.0
        )
        m.quota = pyo.Constraint(names, rule=lambda m, c: (0.0, m.sold[c], quota[c]))
        m.cost = pyo.Expression(
            expr=sum(
                planting[c] * m.acres[c] + purchase[c] * m.bought[c] - price[c] * m.sold[c]
                - beyond[c] * m.sold_beyond[c] for c in names
            )
        )  # fmt: skip
        m.coupling = pyo.Expression(names, rule=lambda m, c: m.acres[c])
        return m

    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, Any]:
        return {"growth": yields(self.scenario, self.multiplier)}


def coupling(scenarios: range, multiplier: int) -> Coupling:
    """All scenarios agree on the acres; each is as likely."""
    n = 3 * multiplier
    keys = {Key("farmer", f"{s:05d}"): 1.0 / len(scenarios) for s in scenarios}
    return Coupling("farmer", crops(multiplier), np.ones(n), np.full(n, -1), keys)
