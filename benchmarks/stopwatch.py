"""Where the time of a run goes: every solver call is timed, on every rank."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import highspy

from decomp.highs import linear

CALLS = ("run", "clearSolver", "setBasis", "getBasis", "getSolution", "changeColsCost", "changeColsBounds",
         "changeRowsBounds", "setOptionValue", "getModelStatus", "addRows", "deleteRows", "passModel")  # fmt: skip


class Call(NamedTuple):
    """One solver call: its name, when it ended (clock, this process's CPU) and what it took (clock, CPU), in s."""

    name: str
    ended: float
    ended_cpu: float
    wall: float
    cpu: float


@contextmanager
def solver_calls() -> Iterator[list[Call]]:
    """The list that every call of a block's HiGHS object is noted in while the context lasts."""
    calls: list[Call] = []
    plain = linear.new_solver

    class Timed(highspy.Highs):
        """Every call that passes numbers in, solves or takes answers out; `run` is the last but those for answers."""

    def clocked(name: str) -> Any:
        plain_call = getattr(highspy.Highs, name)

        def call(self: Timed, *arguments: Any) -> Any:
            cpu, wall = time.process_time(), time.perf_counter()
            answer = plain_call(self, *arguments)
            ended, ended_cpu = time.perf_counter(), time.process_time()
            calls.append(Call(name, ended, ended_cpu, ended - wall, ended_cpu - cpu))
            return answer

        return call

    for name in CALLS:
        setattr(Timed, name, clocked(name))

    def timed(options: linear.Options) -> highspy.Highs:
        solver = Timed()
        linear.set_options(solver, {**linear.HISTORY_FREE, **options})
        return solver

    linear.new_solver = timed
    try:
        yield calls
    finally:
        linear.new_solver = plain
