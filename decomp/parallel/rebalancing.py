"""Which blocks should lie on another rank, from the time they have taken: a rule that no result depends on.

load_r = sum_{b on r} t_b. A block goes from the busiest rank to the idlest as long as that lowers the larger of the two
loads, always the one whose time comes nearest to half their difference. The moves are made when, over the rounds until
the next look, they save more than the arrivals cost the rank that gets most:

    rounds (max_r load_r - max_r load'_r) > max_r sum_{b arriving on r} cost_b
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from decomp.messages import FloatArray, IntArray

WORTH = 0.05  # least relative fall of the largest load: times that differ by less are noise


def rebalanced(owned: Sequence[IntArray], spent_s: FloatArray, cost_s: FloatArray, rounds: int) -> IntArray | None:
    """(B,) the rank of each block from now on, or None where moving does not pay.

    owned: numbers of the blocks of each rank; spent_s (B,): a block's time in a round; cost_s (B,): what it takes to
    build it somewhere else; rounds: how many there are until the next look
    """
    before = np.empty(len(spent_s), np.int64)
    for rank, blocks in enumerate(owned):
        before[blocks] = rank
    owner, load = before.copy(), np.bincount(before, spent_s, len(owned))
    most = float(load.max(initial=0.0))
    for _ in range(len(spent_s)):
        busy, idle = int(load.argmax()), int(load.argmin())
        half = (load[busy] - load[idle]) / 2
        blocks = np.flatnonzero(owner == busy)
        moving = blocks[np.abs(spent_s[blocks] - half).argmin()]
        if not 0 < spent_s[moving] < 2 * half:
            break
        owner[moving] = idle
        load[busy] -= spent_s[moving]
        load[idle] += spent_s[moving]
    moved = owner != before
    saved = most - float(load.max(initial=0.0))
    arriving = np.bincount(owner[moved], cost_s[moved], len(owned))
    pays = saved > WORTH * most and rounds * saved > float(arriving.max(initial=0.0))
    return owner if pays else None


class Balance:
    """On the root: which blocks each rank has, the time they have taken, and when to look whether some should move.

    owned  numbers of the blocks of each rank
    every  rounds between two looks; 0 = blocks stay where they are
    """

    def __init__(self, owned: Sequence[IntArray], blocks: int, every: int) -> None:
        self.owned, self.every = list(owned), every
        self._first_s: FloatArray | None = None  # (B,) what building a block and its first answer took
        self._spent_s: FloatArray = np.zeros(blocks)  # ..., and its answers of the rounds since the last look
        self._rounds = 0

    def built(self, seconds: Mapping[int, float]) -> None:
        """So long it took to build these blocks."""
        for b, taken in seconds.items():
            self._spent_s[b] = taken

    def answered(self, seconds: FloatArray) -> None:
        """A round is over; seconds (B,): what the blocks took in it."""
        self._spent_s = self._spent_s + seconds
        self._rounds += 1
        if self._first_s is None:
            self._first_s, self._spent_s, self._rounds = self._spent_s, np.zeros_like(self._spent_s), 0

    def moves(self) -> tuple[IntArray, str] | None:
        """(B,) the rank of each block from now on, and what that brings in words; None where no move is due or pays."""
        if not self.every or len(self.owned) == 1 or self._rounds < self.every or self._first_s is None:
            return None
        each, rounds = self._spent_s / self._rounds, self._rounds
        self._spent_s, self._rounds = np.zeros_like(each), 0
        owner = rebalanced(self.owned, each, self._first_s, rounds)
        if owner is None:
            return None
        moved = sum(int(np.sum(owner[own] != rank)) for rank, own in enumerate(self.owned))
        before, after = self.busiest_s(each), float(np.bincount(owner, each, len(self.owned)).max(initial=0.0))
        return owner, f"{moved} blocks moved: the busiest rank has {after:.3g} s a round, it had {before:.3g} s"

    def busiest_s(self, seconds: FloatArray) -> float:
        """Seconds of the rank that needs most, from those of the blocks (B,)."""
        return max(float(seconds[own].sum()) for own in self.owned)
