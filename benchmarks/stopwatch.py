"""Where the time of a run goes: every use of a solver is timed, on every rank."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from decomp.blocks.solve.highs_simplex import Simplex

# "use": HiGHS and its interface, that is numbers in, `run`, answers out as arrays; "run": that call alone
KINDS = {"sweep": "use", "run": "run"}


class Call(NamedTuple):
    """One call: of what kind, when it ended (clock, this process's CPU) and what it took (clock, CPU), in s."""

    kind: str
    ended: float
    ended_cpu: float
    wall: float
    cpu: float


@contextmanager
def solver_calls() -> Iterator[list[Call]]:
    """The list that every use and every `run` of a HiGHS object is noted in while the context lasts."""
    calls: list[Call] = []

    def clocked(kind: str, plain: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            answer = plain(*arguments, **named)
            ended, ended_cpu = time.perf_counter(), time.process_time()
            calls.append(Call(kind, ended, ended_cpu, ended - wall, ended_cpu - cpu))
            return answer

        return call

    before = {name: getattr(Simplex, name) for name in KINDS}
    for name, plain in before.items():
        setattr(Simplex, name, clocked(KINDS[name], plain))
    try:
        yield calls
    finally:
        for name, plain in before.items():
            setattr(Simplex, name, plain)
