"""The auxiliary problem principle: blocks and coordinator answer at the same time, each to what was said before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule
from decomp.rules.penalties import cost_proportional, kept, per_entry, start_sigma
from decomp.rules.recovery import realisable, slopes


@dataclass(frozen=True, eq=False)
class AppState(State):
    """gamma (n,) and alone (M,): penalties. Of the last round, None before the first: y (N,) offers, y_price (N,) the
    prices at which they are the blocks' best, Z (n,) requests."""

    gamma: FloatArray
    alone: FloatArray
    y: FloatArray | None = None
    y_price: FloatArray | None = None
    Z: FloatArray | None = None


@dataclass(frozen=True)
class APP(UpdateRule):
    """The augmented Lagrangian with its coupling term linearised at the last answers, so that nobody waits.

        R     = Z - Y of the last round
        y_us <- argmin f - <TS + gamma R + w + rho_u (ybar_u - y_us), y> + rho_u |y - y_us|^2     rho_u = n_b gamma_b
        Z    <- argmin g + <TS + gamma R, Z> + gamma |Z - Z_last|^2
        TS   += gamma R_new;   w_us += rho_u (ybar_u - y_us)_new

    gamma/2 |Z - Y|^2 is majorised by these proximal terms because |dZ - dY|^2 <= 2 |dZ|^2 + 2 n_b sum_u |dybar_u|^2:
    step = gamma, proximal weights 2 gamma and 2 n_b gamma, the ratios of the literature for n_b units. Round 0 is free.

    penalty            gamma of each node row; None = reference price over box width, see `start_sigma`
    agreement_penalty  gamma of entries without a node, by entry name where they differ; None = from the costs and the
                       spread of round 0, see `cost_proportional` (only then are costs looked at)
    penalty_factor     on both

    needs: blocks that take a target and a penalty. reveals: y. wins when: the coordinator takes as long as the blocks
    and both shall work at once; it needs more rounds than ADMM.
    Cohen (1980); Kim and Baldick (1997).
    """

    penalty: Constant | None = None
    agreement_penalty: Constant | None = None
    penalty_factor: float = 1.0
    start: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"penalty"})
    reveals: ClassVar[str] = "y"

    def __post_init__(self) -> None:
        if self.penalty_factor <= 0:
            raise ValueError("penalty_factor must be positive")

    def init(self, setup: Setup) -> AppState:
        layout = setup.layout
        gamma = start_sigma(setup) if self.penalty is None else setup.by_node("penalty", self.penalty)
        if np.any(gamma <= 0):
            raise ValueError("penalty must be positive at every node")
        given = self.agreement_penalty
        alone = np.zeros(len(layout.node)) if given is None else per_entry(setup, "agreement_penalty", given)
        price = setup.start_price if self.start is None else np.full(len(setup.nodes), self.start)
        factor = self.penalty_factor
        return AppState(setup, price, np.zeros(len(layout.entry)), setup.active, factor * gamma, factor * alone)

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, AppState)
        layout, price, active = state.setup.layout, state.block_price(), state.block_active()
        if state.y is None:
            return (Signals(layout, price, active=active, id=k),)
        ybar, rho = layout.mean(state.y), layout.to_blocks(_rho(layout, state))
        R = self._mismatch(state)
        price = price + layout.to_blocks(layout.to_units(state.gamma * R)) + rho * (layout.to_blocks(ybar) - state.y)
        penalty = 2 * layout.to_blocks(np.where(kept(layout, state.active), _rho(layout, state), 0.0))
        return (Signals(layout, price, state.y, penalty, active, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, AppState)
        if state.Z is None:
            layout = state.setup.layout
            return Query(state.price, layout.totals(layout.mean(answers[0].y)), 2 * state.gamma)
        return Query(state.price + state.gamma * self._mismatch(state), state.Z, 2 * state.gamma)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AppState)
        setup, layout, y = state.setup, state.setup.layout, answers[0].y
        if k == 0 and self.agreement_penalty is None and np.any(layout.node < 0):
            state = replace(state, alone=cost_proportional(layout, answers[0], None, self.penalty_factor))
        asked = self.ask(k, state)[0]
        y_price = asked.price
        if asked.target is not None and asked.penalty is not None:
            y_price = y_price + asked.penalty * (asked.target - y)
        after = replace(state, active=request.active, y=y, y_price=y_price, Z=request.Z)
        price = np.where(request.active, state.price + state.gamma * self._mismatch(after), setup.neutral)
        w = state.w + layout.to_blocks(_rho(layout, state)) * (layout.to_blocks(layout.mean(y)) - y)
        slope = np.zeros(len(layout.node))
        if state.y is not None and state.y_price is not None:
            slope = slopes(layout, y - state.y, y_price - state.y_price)
        candidate = Candidate(realisable(layout, layout.mean(y), self._mismatch(after), slope))
        return replace(after, price=price, w=w), candidate

    def _mismatch(self, state: AppState) -> FloatArray:
        """(n,) R = Z - Y of the last round, 0 where there is no need."""
        layout = state.setup.layout
        assert state.y is not None
        assert state.Z is not None
        return np.where(state.active, state.Z - layout.totals(layout.mean(state.y)), 0.0)


def _rho(layout: Layout, state: AppState) -> FloatArray:
    """(M,) rho_u = n_b gamma_b at nodes."""
    return layout.to_units(state.gamma * layout.count) + state.alone
