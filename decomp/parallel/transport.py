"""The root's calls to all ranks: one table of operations, one function for each, run on every rank.

A call is a header (operation, flags, number) that the root broadcasts; then every rank, the root included, runs the
same function, so that all collectives meet in the same order whatever happens. What only the root has goes to its own
function as `given`, and what the function returns is of use on the root alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from decomp.parallel.ranks import Ranks

Operation = Callable[[int, int, Any], Any]  # flags, number, what the root gives (None on the other ranks)
STOP = -1


class Transport:
    """Runs an operation on all ranks when the root says so.

    operations  by name, the same names in the same order on every rank
    before      called on the root ahead of every header
    """

    def __init__(
        self, ranks: Ranks, operations: Mapping[str, Operation], before: Callable[[], None] = lambda: None
    ) -> None:
        self._ranks, self._before = ranks, before
        self._operations = tuple(operations.values())
        self._number = {name: i for i, name in enumerate(operations)}

    def call(self, name: str, flags: int = 0, number: int = 0, given: Any = None) -> Any:
        """On the root: run an operation on all ranks; what it returns here."""
        operation = self._number[name]
        self._header(operation, flags, number)
        return self._operations[operation](flags, number, given)

    def stop(self) -> None:
        """On the root: the other ranks leave `serve`."""
        self._header(STOP, 0, 0)

    def serve(self) -> None:
        """On the other ranks: run what the root calls until it says stop."""
        header = np.zeros(3, np.int64)
        while True:
            self._ranks.broadcast(header)
            operation, flags, number = (int(x) for x in header)
            if operation == STOP:
                return
            self._operations[operation](flags, number, None)

    def _header(self, operation: int, flags: int, number: int) -> None:
        self._before()
        self._ranks.broadcast(np.array([operation, flags, number], np.int64))
