"""The block: one unit in one scenario, with a model of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from decomp.errors import TatonnementError
from decomp.messages import BoolArray, FloatArray, Response, Signal

if TYPE_CHECKING:
    from decomp.blocks.compile.outer_approximation import Pool
    from decomp.blocks.compile.program import Program

Arrays = Mapping[str, np.ndarray]


class Subproblem(ABC):
    """One (unit, scenario). Its answer is a function of its data, its warm state and the signal, of nothing else.

    abilities  what the block can do beyond answering a price:
               "penalty" (target and penalty terms), "bound" (proven bound when signal.exact), "evaluate",
               "sensitivity" (dy/dprice), "kkt" (a convex program), "convex" (certainly one: no integers). A rule that
               needs more is refused before round 0.
    """

    abilities: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def solve(self, signal: Signal) -> Response:
        """argmin f - <price, y> + penalty term. Failure is a status with a message, never an exception."""

    def evaluate(self, y: FloatArray) -> Response:
        """Best answer with the coupling vector fixed at y: cost = min {f(x) : y(x) = y}."""
        raise TatonnementError(f"{type(self).__name__} does not declare the ability 'evaluate'")

    def refusal(self) -> str:
        """Why this installation cannot solve the block (a solver that is missing or faulty); "" = it can.

        Looked at once, when the block has been built and before any is solved.
        """
        return ""

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Named series of the block's own solution (device schedules), for the result files."""
        return {}

    def save(self) -> Arrays | None:
        """Warm state as plain arrays; None = the block has no memory."""
        return None

    def load(self, arrays: Arrays) -> None:
        """Restore a warm state written by `save`; a block without memory has nothing to restore."""
        if arrays:
            raise TatonnementError(f"{type(self).__name__} has no warm state to load")

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        """The block as a convex program with tangents of its convex terms, for methods over all blocks ("kkt").

        active (n_u,) entries with a need, None = none is known. Raises ValueError that says why there is none.
        """
        raise ValueError(f"{type(self).__name__} does not declare the ability 'kkt'")

    def fingerprint(self) -> bytes | None:
        """Which data the block has: the same bytes, the same points at the same cost. None = it cannot tell.

        What it has answered is kept for another run only where it can, see `decomp.blocks.fingerprint`.
        """
        return None

    @property
    def batch_key(self) -> Hashable | None:
        """Blocks with the same key may be solved in one batch by `solve_together`; None = always alone."""
        return None

    @classmethod
    def solve_together(cls, blocks: Sequence[Any], signals: Sequence[Signal]) -> Sequence[Response]:
        """The answers of blocks with one `batch_key`, each the same to the last bit as `solve` gives it."""
        return [block.solve(signal) for block, signal in zip(blocks, signals, strict=True)]

    def mark(self) -> Any:
        """The warm state of this moment, for `reset`; override both where that is cheaper than `save` and `load`."""
        saved = self.save()
        return None if saved is None else {name: np.array(value) for name, value in saved.items()}

    def reset(self, mark: Any) -> None:
        """Go back to the moment of `mark`."""
        if mark is not None:
            self.load(mark)
