"""The alternating direction method of multipliers with fixed penalty: sharing, exchange, consensus, and hedging."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Query, Request
from decomp.rules.base import Candidate, Constant, Setup, State, UpdateRule


@dataclass(frozen=True, eq=False)
class AdmmState(State):
    """target (M,): where each unit is asked to be."""

    target: FloatArray


@dataclass(frozen=True)
class ADMM(UpdateRule):
    """Price and target together, one penalty sigma per node row.

        y_us = argmin f - <TS + w, y> + rho_u/2 |y - t_u|^2          rho_u = n_b sigma_b
        Z    = argmin g + <TS, Z> + sigma/2 |Z - Y|^2
        t_u  = ybar_u + (Z_b - Y_b) / n_b
        TS  += sigma (Z - Y);   w_us += rho_u (ybar_u - y_us)

    n_b units share node b. The three forms of the literature are one iteration with the penalty given differently:
    "sharing": `penalty` is sigma of the node; "exchange" and "consensus": `penalty` is rho of the block, sigma =
    rho / n_b. Entries without a node only agree over scenarios (t_u = ybar_u): progressive hedging.
    Rows where the coordinator has no need carry no penalty: there g is affine and the neutral price is exact.

    penalty            per node row, in price per unit of y
    agreement_penalty  rho of entries without a node; by entry name where they differ
    first_round        "penalised": towards `target` 0 from round 0 on; "free": round 0 without penalty

    needs: blocks that take a target and a penalty. reveals: y. wins when: blocks show only their offers and a penalty
    of the right size is known. Boyd et al. (2011), sections 7.2-7.3; Rockafellar and Wets (1991).
    """

    penalty: Constant = 0.0
    form: Literal["sharing", "exchange", "consensus"] = "sharing"
    agreement_penalty: Constant | None = None
    first_round: Literal["penalised", "free"] = "penalised"
    start: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"penalty"})
    reveals: ClassVar[str] = "y"

    def init(self, setup: Setup) -> AdmmState:
        layout = setup.layout
        self._sigma(setup), self._rho(setup, setup.active)
        price = setup.start_price if self.start is None else np.full(len(setup.nodes), self.start)
        return AdmmState(setup, price, np.zeros(len(layout.entry)), setup.active, np.zeros(len(layout.node)))

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        assert isinstance(state, AdmmState)
        layout, price, active = state.setup.layout, state.block_price(), state.block_active()
        if k == 0 and self.first_round == "free":
            return (Signals(layout, price, active=active, id=k),)
        rho = self._rho(state.setup, state.active)
        return (Signals(layout, price, layout.to_blocks(state.target), layout.to_blocks(rho), active, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        layout = state.setup.layout
        return Query(state.price, layout.totals(layout.mean(answers[0].y)), self._sigma(state.setup))

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, AdmmState)
        setup, layout, y = state.setup, state.setup.layout, answers[0].y
        ybar = layout.mean(y)
        mismatch = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
        target = ybar + layout.to_units(mismatch / np.maximum(layout.count, 1))
        price = np.where(request.active, state.price + self._sigma(setup) * mismatch, setup.neutral)
        # the agreement is kept in every row, also where the coordinator has no need
        rho = layout.to_blocks(self._rho(setup, np.ones_like(request.active)))
        w = state.w + rho * (layout.to_blocks(ybar) - y)
        return replace(state, price=price, w=w, active=request.active, target=target), Candidate(target)

    def _sigma(self, setup: Setup) -> FloatArray:
        penalty = setup.by_node("penalty", self.penalty)
        if np.any(penalty <= 0):
            raise ValueError("penalty must be positive at every node")
        return penalty if self.form == "sharing" else penalty / np.maximum(setup.layout.count, 1)

    def _rho(self, setup: Setup, active: np.ndarray) -> FloatArray:
        """(M,) penalty of each unit entry; 0 where no need and a single scenario."""
        layout = setup.layout
        several = np.array([len(c.prob) > 1 for c in layout.couplings for _ in c.entries])
        at_node = layout.to_units(self._sigma(setup) * layout.count)
        needed = layout.to_units(active.astype(float), 1.0) > 0
        return np.where(needed | several, at_node, 0.0) + np.where(layout.node < 0, self._alone(setup), 0.0)

    def _alone(self, setup: Setup) -> FloatArray:
        """(M,) penalty of the entries without a node."""
        layout = setup.layout
        names = [name for c in layout.couplings for name in c.entries]
        alone = layout.node < 0
        if not alone.any():
            return np.zeros(len(names))
        given = self.agreement_penalty
        if given is None:
            raise ValueError("entries that only agree over scenarios need a penalty: add agreement_penalty")
        if isinstance(given, (int, float)):
            values = np.full(len(names), float(given))
        else:
            missing = sorted({n for n, a in zip(names, alone, strict=True) if a} - set(given))
            if missing:
                raise ValueError(f"agreement_penalty has no value for {', '.join(missing)}")
            values = np.array([given.get(n, 0.0) for n in names])
        if np.any(values[alone] <= 0):
            raise ValueError("agreement_penalty must be positive")
        return values
