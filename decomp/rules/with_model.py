"""What rules that solve with the coordinator's own model ask: exact answers, and the model near their last request."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from decomp.errors import CoordinatorError
from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, QuadraticModel, Query, Request
from decomp.rules.base import Candidate, State, UpdateRule


@dataclass(frozen=True, eq=False)
class ModelState(State):
    """z (n,): the rule's last request, None before the first; where g is not convex it is linearised there."""

    z: FloatArray | None


class ModelRule(UpdateRule):
    """Asks for exact answers without penalty, and the coordinator for its bound and its model at the last request."""

    needs_of_coordinator: ClassVar[frozenset[str]] = frozenset({"model"})

    def ask(self, k: int, state: State) -> tuple[Signals, ...]:
        price, active = state.block_price(), state.block_active()
        return (Signals(state.setup.layout, price, active=active, exact=True, id=k),)

    def query(self, k: int, state: State, answers: tuple[Answers, ...]) -> Query:
        assert isinstance(state, ModelState)
        layout = state.setup.layout
        center = layout.totals(layout.mean(answers[0].y)) if state.z is None else state.z
        return Query(state.price, center, np.zeros_like(center), want_bound=True, want_model=True)

    def update(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request
    ) -> tuple[State, Candidate | None]:
        if request.model is None:
            raise CoordinatorError("the coordinator declares the ability 'model' and gave none")
        return self.improve(k, state, answers, request, request.model)

    @abstractmethod
    def improve(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request, model: QuadraticModel
    ) -> tuple[State, Candidate | None]:
        """`update` with the coordinator's model at hand."""
