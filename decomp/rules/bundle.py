"""The proximal bundle method: every answer is kept as a cut, the coordinator's own model stays exact in the master."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.blocks.solve.piqp import NoSolution
from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, QuadraticModel, Request
from decomp.rules.base import Candidate, Setup, State
from decomp.rules.columns import Columns, Held
from decomp.rules.diving import recovering
from decomp.rules.master import MasterPoint, coordinator_value, solve_master, split_price
from decomp.rules.proximal_columns import near, slope, worth_asking
from decomp.rules.with_model import ModelRule, ModelState

FACTORS = (1.0, 4.0, 0.25, 16.0, 0.0625)  # on tau, of the trials of a round
AGREED = 1e-2  # of the mean worth of the first spreads: less is no measure of how far a price has to move
STIFF = 1e3  # on tau, of the master whose request is realised: there offers and request hardly differ
CLOSE = 0.03  # predicted gain relative to the bound below which that master is solved


@dataclass(frozen=True, eq=False)
class Trial:
    """A price to be asked: TS (n,), w (N,), the factor on tau it comes from, and what it should gain."""

    price: FloatArray
    w: FloatArray
    factor: float
    predicted: float


@dataclass(frozen=True, eq=False)
class BundleState(ModelState):
    """price, w: the trial. center_price (n,), center_w (N,): the best price so far; center_blocks: sum pi bound there.

    tau (M,) stiffness; trials: what is asked next, the first at `price` and `w`; columns: the answers; near (M,): the
    master's request, where answers near it are asked, too.
    """

    center_price: FloatArray
    center_w: FloatArray
    center_blocks: float
    tau: FloatArray
    trials: tuple[Trial, ...]
    columns: Columns
    near: FloatArray | None = None

    def held(self) -> Held:
        return Held(self.columns, self.center_price, self.center_w)

    def asked_near(self, k: int) -> Signals | None:
        """The question beside the trials of round k."""
        if self.near is None:
            return None
        layout, trial = self.setup.layout, self.trials[0]
        price = _stacked(self.setup, trial.price, trial.w)
        return near(layout, price, self.near, self.tau, self.block_active(), k)


@dataclass(frozen=True)
class Bundle(ModelRule):
    """lambda+ = lambda_c + tau r from the master; a serious step moves the centre when d gains enough.

        d(lambda) = sum_us pi_s min[f - <lambda, y>] + min_Z [g + <TS, Z>]
        serious if d(lambda+) - d(lambda_c) >= `enough` * predicted;  tau x 2 at >= 50 %, x 4 at >= 90 % of the
        prediction, x 0.6 when d falls by more than was predicted

    One cut a block, not one for the sum. The coordinator's model is linearised anew at the master's request in every
    round where g is not convex. The first tau makes a residual of the size of the first mismatch move the price by the
    reference price. The averaged answers and the request are both proposed for the upper bound: once the bound has
    nearly settled, those of a master so stiff that they hardly differ.

    Of several prices asked in a round the best moves the centre, and its factor goes to tau; but a smaller one only
    where tau's own price gains too little: short steps gain as much, and leave offers and request apart.

    Where blocks must agree over scenarios, and can take a penalty, two further sweeps are asked in the same round:
    answers near the request, and the price at which the blocks would have met there in the round before (`near`).

    enough       share of the predicted gain that makes a step serious
    first        factor on the first tau
    speculative  further prices asked in the same round, from masters with other tau (at most 4): fewer rounds for more
                 block solves, and the best of them says which way tau should go
    near_request  ask near the request where blocks must agree over scenarios

    needs: bounds. reveals: y, cost. wins when: blocks are LPs or MILPs, whose answers jump with the price.
    Lemarechal (1975), Kiwiel (1990); stabilised Dantzig-Wolfe decomposition.
    """

    enough: float = 0.1
    first: float = 0.25
    speculative: int = 0
    near_request: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"bound"})
    reveals: ClassVar[str] = "y, cost"

    def __post_init__(self) -> None:
        if not 0 < self.enough < 1 or self.first <= 0:
            raise ValueError("enough lies between 0 and 1, first is positive")
        if not 0 <= self.speculative < len(FACTORS):
            raise ValueError(f"speculative is a number of prices from 0 to {len(FACTORS) - 1}")

    def init(self, setup: Setup) -> BundleState:
        held = setup.held or Held(Columns.none(), setup.start_price, np.zeros(len(setup.layout.entry)))
        w = held.w
        tau = np.zeros(len(setup.layout.node))
        start = setup.start_price
        trials = (Trial(start, w, 1.0, 0.0),)
        return BundleState(setup, start, w, setup.active, None, start, w, -np.inf, tau, trials, held.columns)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, BundleState)
        setup, active = state.setup, state.block_active()
        prices = (_stacked(setup, trial.price, trial.w) for trial in state.trials)
        trials = tuple(Signals(setup.layout, price, active=active, exact=True, id=k) for price in prices)
        beside = state.asked_near(k)
        return trials if beside is None else (*trials, beside)

    def improve(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request, model: QuadraticModel
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, BundleState)
        setup, layout = state.setup, state.setup.layout
        columns = state.columns
        for given in answers:
            columns = columns.plus(given)
        beside = state.asked_near(k)
        met = None if beside is None else slope(setup, beside, answers[-1], request.active)
        state = replace(state, columns=columns, active=request.active)
        if k == 0:
            state = replace(state, tau=self.first * _first_tau(setup, answers[0], request))
        state = self._step(k, state, model, answers[: len(state.trials)])
        center = _stacked(setup, state.center_price, state.center_w)
        d_center = state.center_blocks + _network(setup, model, state.center_price)
        points: list[MasterPoint] = []
        trials: list[Trial] = []
        for factor in FACTORS[: 1 + self.speculative]:
            try:
                point = solve_master(layout, model, setup.box, columns, center, factor * state.tau)
            except NoSolution:
                if factor == FACTORS[self.speculative] and not points:
                    raise
                continue  # beyond the solver's means; another tau may not be
            price, w = split_price(layout, point.price, setup.neutral)
            price = np.where(request.active, price, setup.neutral)
            modelled = columns.model_value(layout, _stacked(setup, price, w)) + _network(setup, model, price)
            points.append(point)
            trials.append(Trial(price, w, factor, max(modelled - d_center, 0.0)))
        stiffest = points[int(np.argmax([t.factor for t in trials]))]  # its request and offers are closest
        expected = max(t.predicted for t in trials)
        beside_request = self.near_request and worth_asking(setup)
        if expected <= CLOSE * abs(d_center):
            stiffest = _stiff(setup, model, columns, center, state.tau) or stiffest
        if met is not None:
            trials.append(Trial(*met, 1.0, trials[0].predicted))
        state = replace(
            state,
            price=trials[0].price,
            w=trials[0].w,
            trials=tuple(trials),
            columns=columns.used(np.max([p.alpha for p in points], axis=0)),
            z=layout.totals(points[0].z),
            near=points[0].z if beside_request else None,
        )
        candidate = Candidate(
            stiffest.z,
            (stiffest.offered,),
            points[0].z - points[0].offered,
            expected=expected,
            averaged=float(np.sum(layout.prob[columns.block] * stiffest.alpha * columns.cost)),
            recover=recovering(setup, model, columns, center),
        )
        return state, candidate

    def _step(self, k: int, state: BundleState, model: QuadraticModel, answers: tuple[Answers, ...]) -> BundleState:
        """Serious or null, judged by the best trial; all values of d are taken under the coordinator's newest model."""
        setup, blocks = state.setup, [a.expected_bound() for a in answers]
        values = [b + _network(setup, model, t.price) for b, t in zip(blocks, state.trials, strict=True)]
        best = int(np.argmax(values))
        trial = state.trials[best]
        moved = replace(state, center_price=trial.price, center_w=trial.w, center_blocks=blocks[best])
        if k == 0:
            return moved
        center = state.center_blocks + _network(setup, model, state.center_price)
        gain, of_own = values[best] - center, values[0] - center
        if gain < self.enough * trial.predicted:
            return replace(state, tau=state.tau * 0.6) if gain < -trial.predicted else state
        if trial.factor < 1 and of_own >= self.enough * state.trials[0].predicted:
            return moved
        faster = 4.0 if gain >= 0.9 * trial.predicted else 2.0 if gain >= 0.5 * trial.predicted else 1.0
        return replace(moved, tau=state.tau * trial.factor * faster)


def _stacked(setup: Setup, price: FloatArray, w: FloatArray) -> FloatArray:
    return setup.layout.to_blocks(setup.layout.to_units(price)) + w


def _network(setup: Setup, model: QuadraticModel, price: FloatArray) -> float:
    return coordinator_value(model, setup.box, setup.weight * price)


def _stiff(
    setup: Setup, model: QuadraticModel, columns: Columns, center: FloatArray, tau: FloatArray
) -> MasterPoint | None:
    """The request of a master that lets offers and request hardly differ: with rich columns the cheapest to realise."""
    try:
        return solve_master(setup.layout, model, setup.box, columns, center, STIFF * tau)
    except NoSolution:
        return None


def _first_tau(setup: Setup, answers: Answers, request: Request) -> FloatArray:
    """(M,) reference price over the first mismatch; for entries that only agree, over their spread.

    Spreads that are worth next to nothing beside the others' measure rounding: they count as AGREED of the mean worth.
    Where such an entry has no reference price it is cost differences over spread^2 of all of them together.
    """
    layout = setup.layout
    ybar = layout.mean(answers.y)
    R = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
    if not R.any():
        R = 0.5 * (setup.box[1] - setup.box[0])
    at = R != 0
    node = _rms(setup.scale[at]) / _rms(R[at]) if at.any() else 1.0
    square = layout.mean((layout.to_blocks(ybar) - answers.y) ** 2)
    alone, known = layout.node < 0, np.isfinite(layout.scale)
    size = float(np.sum((layout.share * layout.weight * square)[alone & ~known]))
    centred = answers.cost - answers.expected_cost()
    stake = float(np.sum(layout.prob * np.abs(centred)))
    together = stake / size if size > 0 and stake > 0 else 1.0
    priced = alone & (layout.scale > 0)
    price, apart = np.where(priced, layout.scale, 1.0), np.sqrt(square)
    worth = (price * apart)[priced & (square > 0)]
    apart = np.maximum(apart, AGREED * float(np.mean(worth)) / price) if len(worth) else apart
    measured = priced & (apart > 0)
    return np.where(alone, np.where(measured, price / np.where(measured, apart, 1.0), together), node)


def _rms(x: FloatArray) -> float:
    return float(np.sqrt(np.mean(x**2)))
