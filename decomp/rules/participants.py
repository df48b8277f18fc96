"""How a rule reaches what blocks do beside answering a price: a conversation in rounds, a vector or two at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from decomp.messages import FloatArray


class Participants(Protocol):
    """All blocks' shares of a method that runs over all of them, wherever the blocks are; called by the root.

    ask  `operation` of every block, in key order: `values` (N,) is cut into the blocks' entries, `numbers` go to all.
         Raises BlockError with the blocks that cannot, LinAlgError where a factor breaks down in one of them.
    """

    def ask(
        self, operation: str, values: FloatArray | None = None, numbers: Sequence[float] = ()
    ) -> list[FloatArray]: ...
