"""Problems whose answers are known by hand, as instances: how a rule does where there is nothing to doubt.

two_communities  V = .93 + .02 (q1 + q2) >= .95, costs 5 q1^2 and 15 q2^2 -> q = (.75, .25), price 7.5, cost 3.75
exchange         x^2/2 and x^2, demand 3 -> (2, 1), price 2, cost 3
three_buses      DC network with equal reactances, costs 10 and 20, load 150 at bus 3, line 1-3 <= 60 -> (30, 120), 2700
farmer           Birge and Louveaux: -108390 at (170, 80, 250) acres; the scenarios only have to agree
two_machines     fixed cost 4, 2 <= p <= 5, 1 per unit, demand 3 -> 7; prices can prove no more than 5.4
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from benchmarks.commitment import Commitment, Machines
from benchmarks.compiled import Compiled
from benchmarks.ladder import Ladder, Rows, Rungs, linear_program
from benchmarks.monolith import Reference
from decomp.coordinator import Coordinator
from decomp.coordinators import Exchange, Quadratic
from decomp.messages import Coupling, Key, QuadraticModel
from decomp.problem import Problem
from decomp.subproblem import Subproblem

Name = Literal["two_communities", "exchange", "three_buses", "farmer", "two_machines"]


@dataclass(frozen=True, eq=False)
class Example:
    """Blocks, who coordinates them, how they couple, and the answer."""

    blocks: Mapping[Key, Callable[[], Subproblem]]
    coordinator: Coordinator | None
    couplings: tuple[Coupling, ...]
    optimum: float
    lagrangian: float


class KnownAnswer(Problem):
    """One of the problems above: known = {name = "exchange"}."""

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")

        class Table(BaseModel):
            model_config = ConfigDict(extra="forbid")
            name: Name

        known: Table

    def __init__(self, settings: Settings, folder: Path = Path()) -> None:
        self.example = EXAMPLES[settings.known.name]()
        self.coordinator, self.couplings = self.example.coordinator, self.example.couplings

    def subproblem(self, key: Key) -> Subproblem:
        return self.example.blocks[key]()

    def reference(self, time_limit_s: float) -> Reference:
        """The answer known by hand."""
        return Reference(self.example.optimum, self.example.optimum, self.example.lagrangian, True, 0.0)


def _curve(a: float, width: float = 50.0) -> Ladder:
    """1/2 a y^2 for |y| <= width."""
    zero = np.zeros((1, 1))
    return Ladder(Rungs.stacked(np.full((1, 1), width), zero, zero, np.array([a])))


def _generator(price: float, width: float) -> Ladder:
    """price y for 0 <= y <= width; below 0 there is nothing."""
    one = np.ones(1)
    return Ladder(Rungs(np.zeros(1, np.int64), one, 0 * one, width * one, price * one, 0 * one, one, np.inf))


def _one_entry(names: tuple[str, ...], nodes: tuple[int, ...]) -> tuple[Coupling, ...]:
    return tuple(
        Coupling(n, ("y",), np.ones(1), np.array([b]), {Key(n): 1.0}) for n, b in zip(names, nodes, strict=True)
    )


def _two_communities() -> Example:
    inf = np.array([np.inf])
    row = np.array([[0.02]])
    model = QuadraticModel(0 * row, np.zeros(1), row, np.array([0.02]), inf, -inf, inf, np.array([0]))
    network = Quadratic(model, ["feeder"], (np.array([-10.0]), np.array([10.0])), scale=np.array([10.0]))
    blocks = {Key("LEC1"): lambda: _curve(10.0), Key("LEC2"): lambda: _curve(30.0)}
    return Example(blocks, network, _one_entry(("LEC1", "LEC2"), (0, 0)), 3.75, 3.75)


def _exchange() -> Example:
    market = Exchange(["market"], np.array([3.0]), (np.array([-100.0]), np.array([100.0])), scale=np.ones(1))
    blocks = {Key("a"): lambda: _curve(1.0), Key("b"): lambda: _curve(2.0)}
    return Example(blocks, market, _one_entry(("a", "b"), (0, 0)), 3.0, 3.0)


def _three_buses() -> Example:
    model = QuadraticModel(
        P=np.zeros((2, 2)), q=np.zeros(2), A=np.array([[1.0, 1.0], [2 / 3, 1 / 3]]), lo=np.array([150.0, -60.0]),
        hi=np.array([150.0, 60.0]), lb=np.zeros(2), ub=np.full(2, 200.0), z_cols=np.array([0, 1]),
    )  # fmt: skip
    network = Quadratic(model, ["bus 1", "bus 2"], (np.zeros(2), np.full(2, 200.0)), scale=np.full(2, 15.0))
    blocks = {Key("g1"): lambda: _generator(10.0, 200.0), Key("g2"): lambda: _generator(20.0, 200.0)}
    return Example(blocks, network, _one_entry(("g1", "g2"), (0, 1)), 2700.0, 2700.0)


def _two_machines() -> Example:
    market = Exchange(["market"], np.array([3.0]), (np.zeros(1), np.array([10.0])), scale=np.ones(1))

    def machine() -> Commitment:
        one = np.ones(1)
        return Commitment(Machines(2 * one, 3 * np.ones((1, 1)), np.ones((1, 1, 1)), 6 * np.ones((1, 1)), 0 * one, 1))

    return Example({Key("a"): machine, Key("b"): machine}, market, _one_entry(("a", "b"), (0, 0)), 7.0, 5.4)


def _farmer() -> Example:
    """Columns: acres, tons sold (beets only up to the quota), tons bought of wheat and corn, beets beyond the quota."""
    tons, need = np.array([2.5, 3.0, 20.0]), np.array([200.0, 240.0, 0.0])
    cost = np.array([150.0, 230, 260, -170, -150, -36, 238, 210, -10])
    ub = np.array([500.0, 500, 500, np.inf, np.inf, 6000, np.inf, np.inf, np.inf])
    factor = {"0": 0.8, "1": 1.0, "2": 1.2}

    def block(scenario: str) -> Compiled:
        grown = np.diag(factor[scenario] * tons)
        bought = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
        balance = np.hstack([grown, -np.eye(3), bought])
        A = np.vstack([-balance, np.concatenate([np.ones(3), np.zeros(6)])])
        rows = Rows(sparse.csr_matrix(A), np.append(-need, 500.0))
        coupling = sparse.csr_matrix(np.eye(3, 9))
        return Compiled(linear_program(cost, rows, np.zeros(9), ub, coupling), np.ones(3))

    keys = {Key("farmer", s): 1 / 3 for s in factor}
    coupling = Coupling("farmer", ("wheat", "corn", "beets"), np.ones(3), np.full(3, -1), keys)
    return Example({k: partial(block, k.scenario) for k in keys}, None, (coupling,), -108390.0, -108390.0)


EXAMPLES: dict[str, Callable[[], Example]] = {
    "two_communities": _two_communities,
    "exchange": _exchange,
    "three_buses": _three_buses,
    "farmer": _farmer,
    "two_machines": _two_machines,
}
