"""Ranks: the only module that knows of MPI, and the only place where collectives are called.

An exception that nobody has turned into an answer aborts the job: a rank that raises must never leave the others
waiting.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from decomp.errors import TatonnementError
from decomp.messages import FloatArray

SPIN_S = 1e-3  # so long a waiting rank looks without pause: most waits of short rounds are over by then
NAP_S = 2e-4
TAGS = 30_000  # every MPI has at least 32768
_NOTHING = np.zeros(0, np.int8)


class Ranks(Protocol):
    """The few collectives the engine needs; `root` is rank 0."""

    rank: int
    size: int
    library: tuple[str, ...]  # name and version of the MPI in use, none without one

    def watch(self, asked: Callable[[], bool]) -> None:
        """A run begins, on all ranks: `asked` says whether this rank has been asked to stop (a signal, a clock)."""
        ...

    def asked(self) -> bool:
        """Has any rank been asked to stop? Looked at between blocks and while a rank waits; no collective."""
        ...

    def broadcast(self, array: np.ndarray) -> None:
        """Fill `array` on every rank with the root's."""
        ...

    def scatter(self, parts: list[FloatArray] | None, length: int) -> FloatArray:
        """Give every rank its own stretch of floats."""
        ...

    def gather(self, array: FloatArray, lengths: list[int]) -> list[FloatArray] | None:
        """Every rank's stretch of floats, on the root."""
        ...

    def share(self, array: FloatArray) -> list[FloatArray]:
        """Every rank's stretch of floats, of any length, on all ranks."""
        ...

    def send(self, to: int, message: FloatArray) -> None:
        """Send floats to one rank, without waiting until they are read."""
        ...

    def mail(self) -> tuple[int, FloatArray] | None:
        """Sender and floats of the next message that has arrived, None if none has."""
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
    library: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._own: Callable[[], bool] = lambda: False

    def watch(self, asked: Callable[[], bool]) -> None:
        self._own = asked

    def asked(self) -> bool:
        return self._own()

    def broadcast(self, array: np.ndarray) -> None:
        return None

    def scatter(self, parts: list[FloatArray] | None, length: int) -> FloatArray:
        assert parts is not None
        return parts[0]

    def gather(self, array: FloatArray, lengths: list[int]) -> list[FloatArray] | None:
        return [array]

    def share(self, array: FloatArray) -> list[FloatArray]:
        return [array]

    def send(self, to: int, message: FloatArray) -> None:
        raise TatonnementError("there is no other rank to send to")

    def mail(self) -> tuple[int, FloatArray] | None:
        return None

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
        self._bell = MPI.COMM_WORLD.Dup()  # messages beside the collectives: "I have been asked to stop"
        self._post = MPI.COMM_WORLD.Dup()  # messages from one rank to another
        self._sent: list[tuple[Any, FloatArray]] = []
        self.rank, self.size = self._comm.rank, self._comm.size
        name, numbers = MPI.get_vendor()
        self.library: tuple[str, ...] = (f"{name} {'.'.join(map(str, numbers))}",)
        self._own: Callable[[], bool] = lambda: False
        self._asked = False
        # messages carry the number of their run: one that arrives late says nothing of the next
        self._run, self._heard_in = 0, -1
        if self.size > 1:
            self._abort_when_raised()

    def watch(self, asked: Callable[[], bool]) -> None:
        self._own, self._asked = asked, False
        self._run += 1

    def asked(self) -> bool:
        if not self._asked:
            if self._own():
                self._asked = True
                for other in range(self.size):
                    if other != self.rank:
                        self._bell.Isend(_NOTHING, other, self._run % TAGS).Free()
            else:
                self._asked = self._heard()
        return self._asked

    def _heard(self) -> bool:
        status = self._mpi.Status()
        while self._bell.Iprobe(status=status):
            self._bell.Recv(np.zeros(0, np.int8), status.Get_source(), status.Get_tag())
            if status.Get_tag() == (self._run + 1) % TAGS:  # a rank that is ahead of this one
                self._heard_in = self._run + 1
            elif status.Get_tag() == self._run % TAGS:
                self._heard_in = max(self._heard_in, self._run)
        return self._heard_in == self._run

    def _wait(self, request: Any) -> None:
        """Until the collective is over. A rank in a blocking call would neither see a signal nor pass it on."""
        began = time.perf_counter()
        while not request.Test():
            self.asked()
            if time.perf_counter() - began > SPIN_S:
                time.sleep(NAP_S)

    def broadcast(self, array: np.ndarray) -> None:
        self._wait(self._comm.Ibcast(array, root=0))

    def scatter(self, parts: list[FloatArray] | None, length: int) -> FloatArray:
        mine = np.empty(length)
        send = None
        if parts is not None:
            send = [np.concatenate(parts), [len(p) for p in parts], None, self._mpi.DOUBLE]
        self._wait(self._comm.Iscatterv(send, mine, root=0))
        return mine

    def gather(self, array: FloatArray, lengths: list[int]) -> list[FloatArray] | None:
        if self.rank:
            self._wait(self._comm.Igatherv(array, None, root=0))
            return None
        everything = np.empty(sum(lengths))
        self._wait(self._comm.Igatherv(array, [everything, lengths, None, self._mpi.DOUBLE], root=0))
        return np.split(everything, np.cumsum(lengths)[:-1])

    def share(self, array: FloatArray) -> list[FloatArray]:
        lengths = np.empty(self.size, np.int64)
        self._wait(self._comm.Iallgather(np.array([len(array)], np.int64), lengths))
        everything = np.empty(int(lengths.sum()))
        self._wait(self._comm.Iallgatherv(array, [everything, lengths.tolist(), None, self._mpi.DOUBLE]))
        return np.split(everything, np.cumsum(lengths)[:-1])

    def send(self, to: int, message: FloatArray) -> None:
        self._sent = [(request, kept) for request, kept in self._sent if not request.Test()]
        kept = np.array(message)  # must stay as it is until it has been read
        self._sent.append((self._post.Isend(kept, to, self._run % TAGS), kept))

    def mail(self) -> tuple[int, FloatArray] | None:
        status = self._mpi.Status()
        if not self._post.Iprobe(tag=self._run % TAGS, status=status):
            return None
        message = np.empty(status.Get_count(self._mpi.DOUBLE))
        self._post.Recv(message, status.Get_source(), status.Get_tag())
        return int(status.Get_source()), message

    def gather_objects(self, value: Any) -> list[Any] | None:
        return self._comm.gather(value, root=0)  # type: ignore[no-any-return]

    def agree(self, value: Any) -> Any:
        return self._comm.bcast(value, root=0)

    def end(self) -> None:
        self._comm.Barrier()
        self._heard()  # nothing may be under way when MPI is left
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


@cache
def _world() -> Ranks:
    try:
        ranks = Mpi()
    except (ImportError, RuntimeError):
        return Serial()
    return ranks if ranks.size > 1 else Serial()


def find_ranks() -> Ranks:
    """All processes that mpiexec has started, this one alone where there is no other, or no mpi4py.

    The first call is for all ranks together. One process has one of them: several runs share its communicators.
    """
    return _world()


def launched_in_vain(ranks: Ranks) -> str:
    """mpiexec has started several processes of which each believes to be alone: they would all do the same run."""
    told = (os.environ.get(name, "1") for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    started = max(int(number) if number.isdigit() else 1 for number in told)
    if ranks.size > 1 or started == 1:
        return ""
    return (
        f"the launcher started {started} processes, but this one finds itself alone: mpi4py is not installed, or was "
        "built for another MPI than this launcher belongs to; see 'On a cluster' in README.md"
    )
