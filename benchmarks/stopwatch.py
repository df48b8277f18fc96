"""Where the time of a run goes: every solver call is timed, on every rank."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import highspy

from decomp.highs import linear


class Call(NamedTuple):
    """One solver call: when it ended (the machine's clock , this process's) and what it took (clock, CPU), in s."""

    ended: float
    ended_cpu: float
    wall: float
    cpu: float


@contextmanager
def solver_calls() -> Iterator[list[Call]]:
    """The list that every `run` of a HiGHS object of a block is noted in while the context lasts."""
    calls: list[Call] = []
    plain = linear.new_solver

    class Timed(highspy.Highs):
        def run(self) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            status = super().run()
            ended, ended_cpu = time.perf_counter(), time.process_time()
            calls.append(Call(ended, ended_cpu, ended - wall, ended_cpu - cpu))
            return status

    def timed(options: linear.Options) -> highspy.Highs:
        solver = Timed()
        linear.set_options(solver, {**linear.HISTORY_FREE, **options})
        return solver

    linear.new_solver = timed
    try:
        yield calls
    finally:
        linear.new_solver = plain
