"""Rounds on many ranks from what was measured on few: replayed solve times, message sizes, and a model of collectives.

    round(R) = root(B) + bcast(header) + scatter(question) + max_r sum_{b on r} t_b + gather(answers)
    bcast(m) = ceil(log2 R) (a + m / w),  scatter(M) = gather(M) = ceil(log2 R) a + (R - 1) / R M / w

Binomial trees with latency a and bandwidth w: Thakur, Rabenseifner and Gropp (2005), Optimization of collective
communication operations in MPICH, sec. 3. M is the total of all ranks' messages: the root sends and receives it all.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from decomp.messages import FloatArray, IntArray

FLOAT = 8.0  # bytes
HEADER = 24.0


@dataclass(frozen=True, eq=False)
class Measured:
    """What the replay knows: solve_s (rounds, blocks) of single blocks, floats asked of and answered by a block, and
    the root's own work in a round, root_s + root_per_block_s B."""

    solve_s: FloatArray
    floats_asked: float
    floats_answered: float
    root_s: float
    root_per_block_s: float


@dataclass(frozen=True)
class Wires:
    """Latency of a message in s, bandwidth in bytes per s."""

    latency_s: float
    bytes_per_s: float

    def broadcast_s(self, size: float, ranks: int) -> float:
        """Seconds to send `size` bytes to all."""
        return depth(ranks) * (self.latency_s + size / self.bytes_per_s)

    def scatter_s(self, total: float, ranks: int) -> float:
        """Seconds to send each rank its part of `total` bytes, or to collect them."""
        return depth(ranks) * self.latency_s + (ranks - 1) / ranks * total / self.bytes_per_s


@dataclass(frozen=True)
class Round:
    """Medians over the replayed rounds, in s: the slowest rank's blocks, messages, the root's own work; even_s: the
    blocks' time if it were dealt evenly."""

    blocks_s: float
    messages_s: float
    root_s: float
    even_s: float

    @property
    def total_s(self) -> float:
        return self.blocks_s + self.messages_s + self.root_s


def depth(ranks: int) -> int:
    """ceil(log2 R)"""
    return int(ranks - 1).bit_length()


def times(measured: Measured, blocks: int, spread: float, seed: int) -> FloatArray:
    """(rounds, blocks) each block the replay of a measured one, longer or shorter for good by exp(N(0, spread)).

    The factors' mean is brought to 1, so the work is nearly the same at any spread.
    """
    rng = np.random.default_rng(seed)
    like = rng.integers(0, measured.solve_s.shape[1], blocks)
    factor = np.exp(spread * rng.standard_normal(blocks) - spread**2 / 2)
    return np.asarray(measured.solve_s[:, like] * factor)


def round_robin(spent_s: FloatArray, ranks: int) -> IntArray:
    """(B,) rank of each block, as the engine deals them."""
    return np.arange(len(spent_s)) % ranks


def longest_first(spent_s: FloatArray, ranks: int) -> IntArray:
    """(B,) rank of each block: the longest first, each to the rank with the least so far. Graham (1969)."""
    owner: IntArray = np.empty(len(spent_s), np.int64)
    load = [(0.0, rank) for rank in range(ranks)]
    for b in np.argsort(-spent_s, kind="stable").tolist():
        least, rank = load[0]
        owner[b] = rank
        heapq.heapreplace(load, (least + float(spent_s[b]), rank))
    return owner


def taken_when_idle(spent_s: FloatArray, order: IntArray, ranks: int, fetch_s: float) -> float:
    """When the last block is ready if every rank fetches the next one in `order` as soon as it is idle."""
    free = [0.0] * ranks
    for b in order.tolist():
        heapq.heapreplace(free, free[0] + fetch_s + float(spent_s[b]))
    return max(free)


def replay(measured: Measured, wires: Wires, blocks: int, ranks: int, dealing: str, spread: float, seed: int) -> Round:
    """One round's parts. dealing: "round-robin", "longest first" (by the mean of the other rounds), or "when idle"."""
    spent = times(measured, blocks, spread, seed)
    asked, answered = FLOAT * measured.floats_asked, FLOAT * measured.floats_answered
    messages = wires.broadcast_s(HEADER, ranks)
    slowest = []
    for k, now in enumerate(spent):
        known = np.delete(spent, k, axis=0).mean(axis=0) if len(spent) > 1 else now
        if dealing == "when idle":
            fetch = 2 * wires.latency_s + (asked + answered) / wires.bytes_per_s if ranks > 1 else 0.0
            slowest.append(taken_when_idle(now, np.argsort(-known, kind="stable"), ranks, fetch))
        else:
            owner = (round_robin if dealing == "round-robin" else longest_first)(known, ranks)
            slowest.append(float(np.bincount(owner, now, ranks).max()))
    if dealing != "when idle":
        messages += wires.scatter_s(asked * blocks, ranks) + wires.scatter_s(answered * blocks, ranks)
    root = measured.root_s + measured.root_per_block_s * blocks
    return Round(float(np.median(slowest)), messages, root, float(np.median(spent.sum(axis=1))) / ranks)
