"""Which blocks should lie on another rank, from the time they have taken: a rule that no result depends on.

load_r = sum_{b on r} t_b. A block goes from the busiest rank to the idlest as long as that lowers the larger of the two
loads, always the one whose time comes nearest to half their difference. The moves are made when, over the rounds until
the next look, they save more than the arrivals cost the rank that gets most:

    rounds (max_r load_r - max_r load'_r) > max_r sum_{b arriving on r} cost_b
"""

from __future__ import annotations

from collections.abc import Sequence

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
