"""Ranks as threads of one process: what mpiexec does, without its start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

BROKEN_S = 60.0


class ThreadRanks:
    """The collectives of `decomp.parallel.ranks.Ranks` over a board that all threads read and write between two
    barriers."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, board: list[Any]) -> None:
        self.rank, self.size, self._barrier, self._board = rank, size, barrier, board
        self.own: Callable[[], bool] = lambda: False
        self.sent: list[int] = []  # floats of every stretch that has been broadcast

    def watch(self, asked):
        self.own = asked

    def asked(self):
        return self.own()

    def _meet(self, value):
        self._board[self.rank] = value
        self._barrier.wait(BROKEN_S)
        seen = list(self._board)
        self._barrier.wait(BROKEN_S)
        return seen

    def broadcast(self, array):
        self.sent.append(len(array))
        array[:] = self._meet(np.array(array))[0]

    def scatter(self, parts, length):
        mine = self._meet(parts)[0][self.rank]
        assert len(mine) == length
        return np.array(mine)

    def gather(self, array, lengths):
        seen = self._meet(np.array(array))
        if self.rank:
            return None
        assert [len(a) for a in seen] == list(lengths)
        return seen

    def share(self, array):
        return self._meet(np.array(array))

    def gather_objects(self, value):
        seen = self._meet(value)
        return None if self.rank else seen

    def agree(self, value):
        return self._meet(value)[0]

    def end(self):
        self._barrier.wait(BROKEN_S)


def on_threads(size: int, work: Callable[[ThreadRanks], Any]) -> list[Any]:
    """What `work` returns on every rank; raises what the first rank raised."""
    barrier, board = threading.Barrier(size), [None] * size
    out: list[Any] = [None] * size
    raised: list[BaseException | None] = [None] * size

    def one(rank: int) -> None:
        try:
            out[rank] = work(ThreadRanks(rank, size, barrier, board))
        except BaseException as error:
            raised[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=one, args=(r,)) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = [e for e in raised if e is not None and not isinstance(e, threading.BrokenBarrierError)]
    if first:
        raise first[0]
    return out
