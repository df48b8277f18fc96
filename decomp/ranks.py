"""Ranks: the only module that knows of MPI, and the only place where collectives are called.

An exception that nobody has turned into an answer aborts the job: a rank that raises must never leave the others
waiting.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from decomp.errors import TatonnementError
from decomp.messages import FloatArray


class Ranks(Protocol):
    """The few collectives the engine needs; `root` is rank 0."""

    rank: int
    size: int

    def broadcast(self, array: np.ndarray) -> None:
        """Fill `array` on every rank with the root's."""
        ...

    def scatter(self, parts: list[FloatArray] | None, length: int) -> FloatArray:
        """Give every rank its own stretch of floats."""
        ...

    def gather(self, array: FloatArray, lengths: list[int]) -> list[FloatArray] | None:
        """Every rank's stretch of floats, on the root."""
        ...

    def gather_objects(self, value: Any) -> list[Any] | None:
        """Any values, on the root; never in the round loop."""
        ...

    def agree(self, value: Any) -> Any:
        """The root's value on every rank; never in the round loop."""
        ...

    def end(self) -> None:
        """Wait for all ranks and leave MPI: from here on an exit code ends only its own process."""
        ...


class Serial:
    """One process, also where mpi4py is not installed."""

    rank = 0
    size = 1

    def broadcast(self, array: np.ndarray) -> None:
        return None

    def scatter(self, parts: list[FloatArray] | None, length: int) -> FloatArray:
        assert parts is not None
        return parts[0]

    def gather(self, array: FloatArray, lengths: list[int]) -> list[FloatArray] | None:
        return [array]

    def gather_objects(self, value: Any) -> list[Any] | None:
        return [value]

    def agree(self, value: Any) -> Any:
        return value

    def end(self) -> None:
        # loaded by `-m mpi4py`, also for a single rank
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
            mpi.Finalize()


class Mpi:
    """All ranks of the world communicator."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = MPI.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.rank, self._comm.size
        if self.size > 1:
            self._abort_when_raised()

    def broadcast(self, array: np.ndarray) -> None:
        self._comm.Bcast(array, root=0)

    def scatter(self, parts: list[FloatArray] | None, length: int) -> FloatArray:
        mine = np.empty(length)
        send = None
        if parts is not None:
            send = [np.concatenate(parts), [len(p) for p in parts], None, self._mpi.DOUBLE]
        self._comm.Scatterv(send, mine, root=0)
        return mine

    def gather(self, array: FloatArray, lengths: list[int]) -> list[FloatArray] | None:
        if self.rank:
            self._comm.Gatherv(array, None, root=0)
            return None
        everything = np.empty(sum(lengths))
        self._comm.Gatherv(array, [everything, lengths, None, self._mpi.DOUBLE], root=0)
        return np.split(everything, np.cumsum(lengths)[:-1])

    def gather_objects(self, value: Any) -> list[Any] | None:
        return self._comm.gather(value, root=0)  # type: ignore[no-any-return]

    def agree(self, value: Any) -> Any:
        return self._comm.bcast(value, root=0)

    def end(self) -> None:
        self._comm.Barrier()
        # `-m mpi4py` turns a nonzero exit code into an abort of the whole job unless MPI has been left before
        self._mpi.Finalize()

    def _abort_when_raised(self) -> None:
        def hook(kind: type[BaseException], value: BaseException, where: TracebackType | None) -> None:
            if issubclass(kind, TatonnementError):
                sys.stderr.write(f"rank {self.rank}: {value}\n")
            else:
                traceback.print_exception(kind, value, where)
            sys.stderr.flush()
            self._comm.Abort(1)

        sys.excepthook = hook


def find_ranks() -> Ranks:
    """MPI where mpi4py is installed and there is more than one rank, else this process alone."""
    try:
        ranks = Mpi()
    except (ImportError, RuntimeError):
        return Serial()
    return ranks if ranks.size > 1 else Serial()
