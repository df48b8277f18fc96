"""Methods over the blocks' own linear systems: the root's calls, and what the blocks of a rank answer.

A call is a header, the numbers that all blocks get, a scatter of the values of their entries, and a gather of answers
whose lengths both sides know. Every block's answer begins with how it went.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.linalg import LinAlgError

from decomp.blocks.interior.conversation import NAMES, NOTHING, OPERATIONS, Conversation
from decomp.errors import BlockError
from decomp.layout import Layout
from decomp.messages import FloatArray
from decomp.parallel.packing import Share
from decomp.parallel.ranks import Ranks
from decomp.subproblem import Arrays, Subproblem

DONE, BROKEN, FAILED = 0.0, 1.0, 2.0  # an answer's first number; BROKEN: a factor broke down
MARK = "system."  # before the names of a conversation's arrays among those of its block


class Conversations:
    """The conversations of one rank's blocks, by number."""

    def __init__(self, blocks: Mapping[int, Subproblem]) -> None:
        self._blocks = blocks
        self._of: dict[int, Conversation] = {}
        self.texts: dict[int, str] = {}

    def of(self, b: int) -> Conversation:
        if b not in self._of:
            self._of[b] = Conversation(self._blocks[b])
        return self._of[b]

    def answer(self, share: Share, operation: str, values: FloatArray, numbers: FloatArray) -> FloatArray:
        """Every block's answer in a row, each behind a number that says how it went."""
        self.texts, out = {}, []
        start, sizes = share.start, np.diff(share.start)
        for i, b in enumerate(share.blocks.tolist()):
            own = values[start[i] : start[i + 1]] if len(values) else NOTHING
            size = OPERATIONS[operation].size(int(sizes[i]))
            went, found = DONE, np.full(size, np.nan)
            try:
                found = self.of(b).answer(operation, own, numbers)
            except LinAlgError:
                went = BROKEN
            except Exception as error:  # whatever a block of the user's raises ends the run with its name
                went, self.texts[b] = FAILED, str(error) or type(error).__name__
            out += [np.array([went]), found]
        return np.concatenate([NOTHING, *out])

    def arrays(self, b: int) -> Arrays:
        """What a block's conversation adds to its warm state."""
        saved = self._of[b].save() if b in self._of else None
        return {} if saved is None else {MARK + name: array for name, array in saved.items()}

    def load(self, b: int, arrays: Arrays) -> Arrays:
        """Go on from a warm state; returns what belongs to the block itself."""
        own = {name.removeprefix(MARK): array for name, array in arrays.items() if name.startswith(MARK)}
        if own:
            self.of(b).load(own)
        return {name: array for name, array in arrays.items() if not name.startswith(MARK)}

    def forget(self, b: int) -> None:
        self._of.pop(b, None)

    def mark(self) -> dict[int, object]:
        return {b: one.mark() for b, one in self._of.items()}

    def reset(self, marks: Mapping[int, object]) -> None:
        self._of = {b: self._of[b] for b in marks}
        for b, mark in marks.items():
            self._of[b].reset(mark)


class RankParticipants:
    """`decomp.rules.participants.Participants` of all ranks' blocks; on the root.

    call: runs an operation on all ranks (its number, 2 x the count of `numbers` + whether there are values; numbers and
    the parts of the values): every rank's answers; shares: where every rank's blocks lie now; explained: why blocks
    failed, by name.
    """

    def __init__(
        self,
        layout: Layout,
        shares: Callable[[], Sequence[Share]],
        call: Callable[[int, int, tuple[FloatArray, list[FloatArray] | None]], list[FloatArray] | None],
        explained: Callable[[], dict[str, str]],
    ) -> None:
        self._layout, self._shares, self._call, self._explained = layout, shares, call, explained

    def ask(self, operation: str, values: FloatArray | None = None, numbers: Sequence[float] = ()) -> list[FloatArray]:
        given = np.array(numbers, float)
        parts = None if values is None else [share.question(values[None]) for share in self._shares()]
        flats = self._call(NAMES.index(operation), 2 * len(given) + (values is not None), (given, parts))
        assert flats is not None
        found: list[FloatArray] = [NOTHING] * len(self._layout.keys)
        broken = failed = False
        for share, flat in zip(self._shares(), flats, strict=True):
            at = 0
            for b, n in zip(share.blocks.tolist(), np.diff(share.start).tolist(), strict=True):
                size = OPERATIONS[operation].size(n)
                broken, failed = broken or flat[at] == BROKEN, failed or flat[at] == FAILED
                found[b] = flat[at + 1 : at + 1 + size]
                at += 1 + size
        if failed:
            raise BlockError(self._explained())
        if broken:
            raise LinAlgError("a block's factor broke down")
        return found


def exchange(
    ranks: Ranks,
    conversations: Conversations,
    shares: Sequence[Share],
    operation: str,
    numbers: FloatArray,
    parts: list[FloatArray] | None,
    with_values: bool,
) -> list[FloatArray] | None:
    """One call on every rank; what all ranks' blocks answer, on the root. numbers: filled with the root's."""
    share = shares[ranks.rank]
    if len(numbers):
        ranks.broadcast(numbers)
    values = ranks.scatter(parts, len(share.entries)) if with_values else NOTHING
    mine = conversations.answer(share, operation, values, numbers)
    lengths = [sum(1 + OPERATIONS[operation].size(n) for n in np.diff(s.start).tolist()) for s in shares]
    return ranks.gather(mine, lengths)
