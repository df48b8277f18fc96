"""What a block answers when a method runs over all blocks' own linear systems: operations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.interior.participant import NUMBERS, POOL, WEIGHTS, Participant, spans
from decomp.messages import BoolArray, FloatArray
from decomp.subproblem import Arrays

NOTHING = np.zeros(0)
KIND = ("second_order", "centrality")


class HasProgram(Protocol):
    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        """The block as a convex program, with tangents of its convex terms; ValueError says why there is none."""


class Conversation:
    """One block's side. Its state is `save`d and `load`ed as plain arrays, so that it travels with the block."""

    def __init__(self, block: HasProgram) -> None:
        self._block = block
        self._active: BoolArray | None = None
        self._participant: Participant | None = None

    def answer(self, operation: str, values: FloatArray, numbers: FloatArray) -> FloatArray:
        """values (n_u,) of this block's entries, or empty. Raises ValueError, LinAlgError."""
        found = OPERATIONS[operation].run(self, values, numbers)
        return NOTHING if found is None else np.ravel(found)

    def save(self) -> Arrays | None:
        p = self._participant
        if p is None:
            return None
        active = np.zeros(0, bool) if self._active is None else self._active
        return {**p.save(), "y_unit": p.y_unit, "money": np.array([p.cost_unit, p.reg]), "active": active}

    def load(self, arrays: Arrays) -> None:
        active = np.asarray(arrays["active"], bool)
        self._active = active if len(active) else None
        cost_unit, reg = (float(x) for x in arrays["money"])
        program, _ = self._block.convex_program(self._active)
        pool = Pool(*(np.asarray(arrays[f"pool_{name}"]) for name in POOL))
        y_unit, unit = (np.asarray(arrays[name], float) for name in ("y_unit", "unit"))
        self._participant = Participant(program, pool, y_unit, cost_unit, reg, unit)
        self._participant.load(arrays)

    def mark(self) -> Any:
        """The state of this moment, for `reset`: it is never changed in place."""
        return self._active, self._participant, None if self._participant is None else self._participant.iterate

    def reset(self, mark: Any) -> None:
        self._active, self._participant, iterate = mark
        if self._participant is not None:
            self._participant.iterate = iterate

    def _spans(self, values: FloatArray, _numbers: FloatArray) -> FloatArray:
        return spans(self._block.convex_program(None)[0], values > 0)

    def _activate(self, values: FloatArray, _numbers: FloatArray) -> None:
        self._active = values > 0

    def _prepare(self, values: FloatArray, numbers: FloatArray) -> None:
        cost_unit, reg = numbers
        program, pool = self._block.convex_program(self._active)
        self._participant = Participant(program, pool, values, float(cost_unit), float(reg))

    def _refine(self, _values: FloatArray, numbers: FloatArray) -> None:
        self._participant = self.participant.refined(float(numbers[0]), float(numbers[1]))

    @property
    def participant(self) -> Participant:
        if self._participant is None:
            raise ValueError("it was not prepared")
        return self._participant


class Operation(NamedTuple):
    """What is done, and how many numbers a block of n_u entries answers with."""

    run: Callable[[Conversation, FloatArray, FloatArray], FloatArray | None]
    size: Callable[[int], int]


OPERATIONS: dict[str, Operation] = {
    "spans": Operation(Conversation._spans, lambda n: n + 1),
    "active": Operation(Conversation._activate, lambda n: 0),
    "prepare": Operation(Conversation._prepare, lambda n: 0),
    "curvature": Operation(lambda c, v, n: c.participant.curvature(float(n[0]), bool(n[1])), lambda n: n * n),
    "response": Operation(lambda c, v, n: c.participant.response(v, bool(n[0])), lambda n: n),
    "step": Operation(lambda c, v, n: c.participant.step(v), lambda n: 6),
    "correction": Operation(
        lambda c, v, n: c.participant.correction(float(n[0]), KIND[int(n[1])], float(n[2]), float(n[3])), lambda n: n
    ),
    "correct": Operation(lambda c, v, n: c.participant.correct(v), lambda n: 2 * len(WEIGHTS)),
    "take": Operation(lambda c, v, n: c.participant.take(float(n[0]), float(n[1])), lambda n: 0),
    "begin": Operation(lambda c, v, n: c.participant.begin(), lambda n: 2 * n + NUMBERS),
    "move": Operation(lambda c, v, n: c.participant.move(float(n[0]), float(n[1])), lambda n: 2 * n + NUMBERS),
    "refine": Operation(Conversation._refine, lambda n: 0),
}
NAMES = tuple(OPERATIONS)
