"""The proximal bundle method: every answer is kept as a cut, the coordinator's own model stays exact in the master."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.errors import RefusedError
from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, QuadraticModel, Query, Request
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.rules.master import Columns, coordinator_value, solve_master, split_price


@dataclass(frozen=True, eq=False)
class BundleState(State):
    """price, w: the trial. center_price (n,), center_w (N,): the best price so far; center_blocks: sum pi bound there.

    tau (M,) stiffness; predicted: what the trial should gain; columns: the answers; z (n,) the master's request.
    """

    center_price: FloatArray
    center_w: FloatArray
    center_blocks: float
    tau: FloatArray
    predicted: float
    columns: Columns
    z: FloatArray | None


@dataclass(frozen=True)
class Bundle(UpdateRule):
    """lambda+ = lambda_c + tau r from the master; a serious step moves the centre when d gains enough.

        d(lambda) = sum_us pi_s min[f - <lambda, y>] + min_Z [g + <TS, Z>]
        serious if d(lambda+) - d(lambda_c) >= `enough` * predicted;  tau x 2 at >= 50 %, x 4 at >= 90 % of the
        prediction, x 0.6 when d falls by more than was predicted

    One cut a block, not one for the sum. The coordinator's model is linearised anew at the master's request in every
    round where g is not convex. The first tau makes a residual of the size of the first mismatch move the price by the
    reference price. The averaged answers and the request are both proposed for the upper bound.

    enough  share of the predicted gain that makes a step serious
    first   factor on the first tau

    needs: bounds. reveals: y, cost. wins when: blocks are LPs or MILPs, whose answers jump with the price.
    Lemarechal (1975), Kiwiel (1990); stabilised Dantzig-Wolfe decomposition.
    """

    enough: float = 0.1
    first: float = 0.25

    needs: ClassVar[frozenset[str]] = frozenset({"bound"})
    reveals: ClassVar[str] = "y, cost"

    def __post_init__(self) -> None:
        if not 0 < self.enough < 1 or self.first <= 0:
            raise ValueError("enough lies between 0 and 1, first is positive")

    def init(self, setup: Setup) -> BundleState:
        w = np.zeros(len(setup.layout.entry))
        tau = np.zeros(len(setup.layout.node))
        start = setup.start_price
        return BundleState(setup, start, w, setup.active, start, w, -np.inf, tau, 0.0, Columns.none(), None)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        price, active = state.block_price(), state.block_active()
        return (Signals(state.setup.layout, price, active=active, exact=True, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, BundleState)
        layout = state.setup.layout
        center = layout.totals(layout.mean(answers[0].y)) if state.z is None else state.z
        return Query(state.price, center, np.zeros_like(center), want_bound=True, want_model=True)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, BundleState)
        setup, layout, model = state.setup, state.setup.layout, request.model
        if model is None:
            raise RefusedError("rule Bundle needs a coordinator that gives its own model; admm needs only its answers")
        state = replace(state, columns=state.columns.plus(answers[0]), active=request.active)
        if k == 0:
            state = replace(state, tau=self.first * _first_tau(setup, answers[0], request))
        blocks = answers[0].expected_bound()
        state = self._step(k, state, model, blocks)
        point = solve_master(
            layout, model, setup.box, state.columns, _stacked(setup, state.center_price, state.center_w), state.tau
        )
        price, w = split_price(layout, point.price, setup.neutral)
        price = np.where(request.active, price, setup.neutral)
        d_center = state.center_blocks + _network(setup, model, state.center_price)
        modelled = state.columns.model_value(layout, _stacked(setup, price, w)) + _network(setup, model, price)
        state = replace(
            state,
            price=price,
            w=w,
            predicted=max(modelled - d_center, 0.0),
            columns=state.columns.used(point.alpha),
            z=layout.totals(point.z),
        )
        mismatch = point.z - point.offered
        return state, Candidate(point.z, (point.offered,), mismatch)

    def _step(self, k: int, state: BundleState, model: QuadraticModel, blocks: float) -> BundleState:
        """Serious or null; both values of d are taken under the newest model of the coordinator."""
        if k == 0:
            return replace(state, center_price=state.price, center_w=state.w, center_blocks=blocks)
        setup = state.setup
        gain = blocks + _network(setup, model, state.price)
        gain -= state.center_blocks + _network(setup, model, state.center_price)
        if gain >= self.enough * state.predicted:
            faster = 4.0 if gain >= 0.9 * state.predicted else 2.0 if gain >= 0.5 * state.predicted else 1.0
            return replace(
                state, center_price=state.price, center_w=state.w, center_blocks=blocks, tau=state.tau * faster
            )
        return replace(state, tau=state.tau * 0.6) if gain < -state.predicted else state


def _stacked(setup: Setup, price: FloatArray, w: FloatArray) -> FloatArray:
    return setup.layout.to_blocks(setup.layout.to_units(price)) + w


def _network(setup: Setup, model: QuadraticModel, price: FloatArray) -> float:
    return coordinator_value(model, setup.box, setup.weight * price)


def _first_tau(setup: Setup, answers: Answers, request: Request) -> FloatArray:
    """(M,) reference price over the first mismatch; for entries that only agree, cost differences over spread^2."""
    layout = setup.layout
    ybar = layout.mean(answers.y)
    R = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
    if not R.any():
        R = 0.5 * (setup.box[1] - setup.box[0])
    at = R != 0
    node = _rms(setup.scale[at]) / _rms(R[at]) if at.any() else 1.0
    spread = layout.to_blocks(ybar) - answers.y
    alone = layout.node < 0
    size = float(np.sum(layout.pi * layout.weight[layout.entry] * spread**2 * layout.to_blocks(alone.astype(float))))
    centred = answers.cost - answers.expected_cost()
    stake = float(np.sum(layout.prob * np.abs(centred)))
    return np.where(alone, stake / size if size > 0 and stake > 0 else 1.0, node)


def _rms(x: FloatArray) -> float:
    return float(np.sqrt(np.mean(x**2)))
