"""Work in rows: what a coordinator's part asks for on its way to an answer, and any rank may do a stretch of.

Row i of everything found depends on row i of what is given and on what all rows share, on nothing else, not even in
the last bit. So where the rows are cut changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")
Found = Mapping[str, np.ndarray]


class Work(NamedTuple):
    """kind of work; rows: arrays of one length, cut along their first axis; shared: what every stretch is told."""

    kind: str
    rows: Mapping[str, np.ndarray]
    shared: Mapping[str, np.ndarray]

    @property
    def length(self) -> int:
        """Number of rows."""
        return len(next(iter(self.rows.values())))

    def stretch(self, begin: int, end: int) -> Work:
        """The rows from begin up to end."""
        return Work(self.kind, {name: array[begin:end] for name, array in self.rows.items()}, self.shared)


Steps = Generator[Work, Found, T]  # asks for work, is sent what was found, returns its answer


def finished(steps: Steps[T], do: Callable[[Work], Found]) -> T:
    """What the steps return, all their work done here."""
    try:
        work = next(steps)
        while True:
            work = steps.send(do(work))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def joined(stretches: Sequence[Found]) -> Found:
    """Stretches of one piece of work put together, in their order."""
    return {name: np.concatenate([found[name] for found in stretches]) for name in stretches[0]}
