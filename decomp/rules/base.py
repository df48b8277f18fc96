"""What an update rule is: frozen settings, a state passed in and returned. It runs on the root only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from decomp.coordinator import Coordinator
from decomp.layout import Answers, Layout, Signals
from decomp.messages import BoolArray, FloatArray, Query, Request
from decomp.rules.columns import Held
from decomp.rules.participants import Participants

Ask = Callable[[FloatArray], Answers]  # exact answers of all blocks at stacked prices (N,), beside the rounds
Recover = Callable[[Ask], tuple[FloatArray, ...]]
Constant = float | Mapping[str, float]  # one value, or one per group of node rows (per PCC)


@dataclass(frozen=True, eq=False)
class Setup:
    """What a rule may know of the case before round 0; it never changes during a run.

    layout; groups, weight, neutral, scale, box of the coordinator's node rows, see `Coordinator`
    start_price (n,) where the run begins; active (n,) rows with a need before anything was offered
    abilities what all blocks can do beside answering a price; empty while it is not known
    coordinator what the coordinator can do beside answering
    held    what an earlier run held of the same blocks; a rule that keeps columns begins with it
    participants  the way to the blocks' own linear systems; None = not in this run
    """

    layout: Layout
    nodes: tuple[str, ...]
    groups: tuple[str, ...]
    weight: FloatArray
    neutral: FloatArray
    scale: FloatArray
    box: tuple[FloatArray, FloatArray]
    start_price: FloatArray
    active: BoolArray
    abilities: frozenset[str] = frozenset()
    coordinator: frozenset[str] = frozenset()
    held: Held | None = None
    participants: Participants | None = None

    @classmethod
    def of(
        cls,
        layout: Layout,
        coordinator: Coordinator,
        start_price: FloatArray | None = None,
        abilities: frozenset[str] = frozenset(),
        held: Held | None = None,
        participants: Participants | None = None,
    ) -> Setup:
        """Take from the coordinator what a rule may know; the run begins at the neutral price unless told otherwise."""
        return cls(
            layout=layout,
            nodes=coordinator.nodes,
            groups=coordinator.groups,
            weight=np.asarray(coordinator.weight, float),
            neutral=np.asarray(coordinator.neutral, float),
            scale=np.asarray(coordinator.scale, float),
            box=coordinator.box,
            start_price=np.asarray(coordinator.neutral if start_price is None else start_price, float),
            active=coordinator.initially_active(),
            abilities=abilities,
            coordinator=coordinator.abilities,
            held=held,
            participants=participants,
        )

    def by_node(self, name: str, constant: Constant) -> FloatArray:
        """One value per node row from a constant that may differ by group. Raises ValueError for a missing group."""
        if not isinstance(constant, Mapping):
            return np.full(len(self.nodes), float(constant))
        missing = sorted(set(self.groups) - set(constant))
        if missing:
            raise ValueError(f"{name} has no value for {', '.join(missing)}; it has {', '.join(sorted(constant))}")
        return np.array([constant[g] for g in self.groups], float)


@dataclass(frozen=True, eq=False)
class State:
    """Everything that changes in a rule, as plain arrays.

    price   (n,) TS, the price of each node row
    w       (N,) multiplier of the agreement over scenarios, sum_s pi_s w_us = 0
    active  (n,) rows where the coordinator has a need; elsewhere the price stays neutral
    """

    setup: Setup
    price: FloatArray
    w: FloatArray
    active: BoolArray

    def block_price(self) -> FloatArray:
        """lambda_us = TS_b(u) + w_us; (N,)."""
        layout = self.setup.layout
        return layout.to_blocks(layout.to_units(self.price)) + self.w

    def held(self) -> Held | None:
        """What another run of the same blocks may begin with; None = the rule keeps no columns."""
        return None

    def block_active(self) -> BoolArray:
        """(N,) active row of each stacked entry; entries without a node are always in play."""
        layout = self.setup.layout
        return layout.to_blocks(layout.to_units(self.active.astype(float), 1.0)) > 0


@dataclass(frozen=True, eq=False)
class Candidate:
    """What a rule holds for the solution after an update.

    ybar      (M,) per unit entry: a point worth realising for the upper bound
    others    further such points; the cheapest that can be realised counts
    mismatch  (M,) requested minus offered at the rule's own primal point; None = request minus offers of the round
    expected  what the rule still expects the bound to gain; None = it cannot say
    averaged  sum_us pi_s sum_k alpha f_k, what the last of `others` costs at most if answers can be averaged
    recover   finds further points, at some expense and asking the blocks where it has to; called where there is no
              point yet, or the bound has settled, a gap is left, and the last of `others` costs more than `averaged`:
              then answers cannot be averaged
    """

    ybar: FloatArray
    others: tuple[FloatArray, ...] = ()
    mismatch: FloatArray | None = None
    expected: float | None = None
    averaged: float | None = None
    recover: Recover | None = None


class UpdateRule(ABC):
    """How prices move. Subclasses are frozen dataclasses of settings.

    needs    abilities every block must declare ("penalty", "bound", "sensitivity", ...)
    needs_of_coordinator  abilities the coordinator must declare ("model")
    reveals  what the communities show of themselves under this rule: "y", "y, cost", "y, dy/dprice"
    unbounded_goes_on  the rule goes on from a price at which a block is unbounded; elsewhere that ends the run
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    needs_of_coordinator: ClassVar[frozenset[str]] = frozenset()
    reveals: ClassVar[str] = "y"
    unbounded_goes_on: ClassVar[bool] = False

    def goes_on_unbounded(self, setup: Setup) -> bool:
        """`unbounded_goes_on` of what is run in this case."""
        return self.unbounded_goes_on

    @property
    def uses(self) -> frozenset[str]:
        """Abilities the rule makes use of where all blocks have them; at least what it needs."""
        return self.needs

    @abstractmethod
    def init(self, setup: Setup) -> State:
        """The state before round 0. Raises ValueError when a constant does not fit the case."""

    @abstractmethod
    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        """The signals of round k; more than one = speculative prices."""

    @abstractmethod
    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        """The question to the coordinator after the blocks have answered; ignoring the answers = Jacobi."""

    @abstractmethod
    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        """Move the prices: from offers and request to the next state."""
