"""Blocks and problems whose answers are known by hand."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from decomp.coordinators import Exchange, Quadratic
from decomp.messages import Coupling, Key, QuadraticModel, Response, Signal, Status
from decomp.subproblem import Subproblem


class QuadraticBlock(Subproblem):
    """f = 1/2 a y^2 + b y per entry, lo <= y <= hi: y = clip((price - b + rho t) / (a + rho)), weights cancel."""

    abilities = frozenset({"penalty", "bound", "evaluate", "sensitivity"})

    def __init__(self, a, b=0.0, lo=-np.inf, hi=np.inf, weight=1.0, n=1, delay_s=0.0):
        self.a, self.b, self.lo, self.hi, self.w = (
            np.broadcast_to(np.asarray(x, float), n) for x in (a, b, lo, hi, weight)
        )
        self.delay_s = delay_s

    def cost(self, y):
        return float(np.sum(self.w * (0.5 * self.a * y**2 + self.b * y)))

    def solve(self, signal: Signal) -> Response:
        time.sleep(self.delay_s)
        rho = np.zeros_like(self.a) if signal.penalty is None else signal.penalty
        target = np.zeros_like(self.a) if signal.target is None else signal.target
        y = np.clip((signal.price - self.b + rho * target) / (self.a + rho), self.lo, self.hi)
        bound = None if rho.any() else self.cost(y) - float(np.sum(self.w * signal.price * y))
        inside = (y > self.lo) & (y < self.hi)
        return Response(y, self.cost(y), bound, sensitivity=np.diag(inside / self.a))

    def evaluate(self, y) -> Response:
        if np.any(y < self.lo - 1e-12) or np.any(y > self.hi + 1e-12):
            return Response(np.asarray(y), np.inf, status=Status.INFEASIBLE, message="outside its bounds")
        return Response(np.array(y), self.cost(y))

    def detail(self, response: Response) -> Mapping[str, np.ndarray]:
        return {"y": response.y}


def unit(name, node=(0,), weight=(1.0,), scenarios=("0",), prob=None, report=()):
    """A Coupling with short arguments."""
    prob = [1 / len(scenarios)] * len(scenarios) if prob is None else prob
    entries = tuple(f"e{i}" for i in range(len(node)))
    probabilities = {Key(name, s): p for s, p in zip(scenarios, prob, strict=True)}
    return Coupling(name, entries, np.array(weight, float), np.array(node), probabilities, report)


class VoltageRow(Quadratic):
    """K1's network: V = .93 + .02 (q1 + q2) >= .95 in one row, no cost of its own."""

    def __init__(self, scale=1.0):
        model = QuadraticModel(
            P=np.zeros((1, 1)), q=np.zeros(1), A=np.array([[0.02]]), lo=np.array([0.02]), hi=np.array([np.inf]),
            lb=np.array([-np.inf]), ub=np.array([np.inf]), z_cols=np.array([0]),
        )  # fmt: skip
        super().__init__(model, ["feeder"], (np.array([-10.0]), np.array([10.0])), scale=np.array([scale]))


def two_lecs():
    """K1: costs 5 q1^2 and 15 q2^2 -> q = (.75, .25), price 7.5, cost 3.75."""
    blocks = {Key("LEC1"): QuadraticBlock(10.0), Key("LEC2"): QuadraticBlock(30.0)}
    return blocks, VoltageRow(), [unit("LEC1"), unit("LEC2")]


def exchange():
    """K2: x^2/2 and x^2, demand 3 -> (2, 1), price 2, cost 3."""
    blocks = {Key("a"): QuadraticBlock(1.0), Key("b"): QuadraticBlock(2.0)}
    market = Exchange(["market"], np.array([3.0]), (np.array([-100.0]), np.array([100.0])))
    return blocks, market, [unit("a"), unit("b")]


def three_buses():
    """K3: 3-bus DC network, equal reactances, costs 10 and 20, load 150 at bus 3, line 1-3 <= 60.

    Generators sit at buses 1 and 2; g holds the network: Z1 + Z2 = 150, flow 1-3 = (2 Z1 + Z2)/3 <= 60 with bus 3 as
    reference -> (30, 120), cost 2700, prices 10 and 20 at the generators' buses (30 at the load).
    """
    model = QuadraticModel(
        P=np.zeros((2, 2)), q=np.zeros(2), A=np.array([[1.0, 1.0], [2 / 3, 1 / 3]]),
        lo=np.array([150.0, -60.0]), hi=np.array([150.0, 60.0]),
        lb=np.zeros(2), ub=np.full(2, 200.0), z_cols=np.array([0, 1]),
    )  # fmt: skip
    network = Quadratic(model, ["bus 1", "bus 2"], (np.zeros(2), np.full(2, 200.0)))
    blocks = {Key("g1"): QuadraticBlock(1e-9, 10.0, 0, 200), Key("g2"): QuadraticBlock(1e-9, 20.0, 0, 200)}
    return blocks, network, [unit("g1", (0,)), unit("g2", (1,))]


class Machine(Subproblem):
    """Off, or on with 2 <= y <= 5 at a cost of 4 + y: the average of two answers is no answer."""

    abilities = frozenset({"bound", "evaluate"})

    def solve(self, signal: Signal) -> Response:
        price = float(signal.price[0])
        y = max((0.0, 2.0, 5.0), key=lambda y: price * y - self.cost(y))
        return Response(np.array([y]), self.cost(y), self.cost(y) - price * y)

    def evaluate(self, y) -> Response:
        level = float(y[0])
        if level != 0 and not 2 <= level <= 5:
            return Response(np.asarray(y), np.inf, status=Status.INFEASIBLE, message="neither off nor on")
        return Response(np.array(y), self.cost(level))

    @staticmethod
    def cost(y: float) -> float:
        return 4 + y if y else 0.0


def two_machines(shed_cost=10.0):
    """K8 with a demand of at least 3, the rest shed: optimum 7, Lagrangian bound 5.4 at the price 1.8."""
    model = QuadraticModel(
        P=np.zeros((2, 2)), q=np.array([0.0, shed_cost]), A=np.array([[1.0, 1.0]]), lo=np.array([3.0]),
        hi=np.array([np.inf]), lb=np.array([-np.inf, 0.0]), ub=np.full(2, np.inf), z_cols=np.array([0]),
    )  # fmt: skip
    demand = Quadratic(model, ["demand"], (np.array([0.0]), np.array([10.0])))
    return {Key("a"): Machine(), Key("b"): Machine()}, demand, [unit("a"), unit("b")]
