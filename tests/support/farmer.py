"""The farmer of Birge and Louveaux: acres of wheat, corn and beets before the yields are known.

Optimum -108390 at (170, 80, 250) for equal probabilities; wait-and-see -115405.56.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.messages import Coupling, Key

CROPS = ("wheat", "corn", "beets")
YIELD = {"0": 0.8, "1": 1.0, "2": 1.2}


class Farmer(PyomoSubproblem):
    """One scenario of yields; y = acres of each crop."""

    def __init__(self, scenario: str, **options):
        self.factor = YIELD[scenario]
        super().__init__(**options)

    def build(self):
        m = pyo.ConcreteModel()
        tons = dict(zip(CROPS, (2.5, 3.0, 20.0), strict=True))
        m.acres = pyo.Var(CROPS, bounds=(0, 500))
        m.sold = pyo.Var(CROPS, bounds=(0, None))
        m.bought = pyo.Var(("wheat", "corn"), bounds=(0, None))
        m.surplus = pyo.Var(bounds=(0, None))
        m.sold["beets"].setub(6000)
        m.land = pyo.Constraint(expr=sum(m.acres[c] for c in CROPS) <= 500)
        need = {"wheat": 200, "corn": 240, "beets": 0}
        m.balance = pyo.Constraint(
            CROPS,
            rule=lambda m, c: (
                self.factor * tons[c] * m.acres[c]
                + (m.bought[c] if c != "beets" else 0)
                - m.sold[c]
                - (m.surplus if c == "beets" else 0)
                >= need[c]
            ),
        )
        m.cost = pyo.Expression(
            expr=150 * m.acres["wheat"] + 230 * m.acres["corn"] + 260 * m.acres["beets"]
            + 238 * m.bought["wheat"] + 210 * m.bought["corn"]
            - 170 * m.sold["wheat"] - 150 * m.sold["corn"] - 36 * m.sold["beets"] - 10 * m.surplus
        )  # fmt: skip
        m.coupling = pyo.Expression(CROPS, rule=lambda m, c: m.acres[c])
        return m


def farmer(prob=(1 / 3, 1 / 3, 1 / 3), **options):
    """Blocks and coupling of the three-scenario farmer."""
    probabilities = {Key("farmer", s): p for s, p in zip(YIELD, prob, strict=True)}
    coupling = [Coupling("farmer", CROPS, np.ones(3), np.full(3, -1), probabilities)]
    return (lambda key: Farmer(key.scenario, **options)), coupling
