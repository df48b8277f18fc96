"""What one side of the comparison tells of its run: the averages and where the time of its rounds went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MARK = "ROUNDS "  # begins the line that the run is told in, among whatever else is printed
Stamp = tuple[float, float, float]  # clock, CPU of this process, CPU within the solver, in s


@dataclass(frozen=True)
class Rounds:
    """One run of progressive hedging on some ranks.

    start_s       until the end of the first round, which has no penalty: models, solvers, one linear program each
    round_s       clock of each later round; round_cpu_s and solver_cpu_s: CPU of all ranks, in all and in the solver
    averages      of each crop's acres after each round, by crop
    """

    start_s: float
    start_cpu_s: float
    round_s: tuple[float, ...]
    round_cpu_s: tuple[float, ...]
    solver_cpu_s: tuple[float, ...]
    averages: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, stamps: Sequence[Sequence[Stamp]], averages: dict[str, Sequence[float]]) -> Rounds:
        """From each rank's stamps at its begin and after each round; the clock is the first rank's."""
        all_ = np.array(stamps)
        spent = np.diff(all_, axis=1)
        cpu, solver = spent[:, :, 1].sum(axis=0), spent[:, :, 2].sum(axis=0)
        shown = {name: tuple(float(v) for v in values) for name, values in averages.items()}
        wall = spent[0, :, 0].tolist()
        return cls(wall[0], float(cpu[0]), tuple(wall[1:]), tuple(cpu[1:].tolist()), tuple(solver[1:].tolist()), shown)

    def line(self) -> str:
        """As one line of output."""
        return MARK + json.dumps(asdict(self))

    @classmethod
    def read(cls, output: str) -> Rounds:
        """From the output of a run; raises ValueError where it has no such line."""
        told = [line[len(MARK) :] for line in output.splitlines() if line.startswith(MARK)]
        if len(told) != 1:
            raise ValueError(f"{len(told)} lines of rounds")
        return cls(**json.loads(told[0]))


class SolverClock:
    """CPU time within a solver's calls."""

    def __init__(self) -> None:
        self.cpu_s = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its time added up here."""

        def measured(*arguments: Any, **named: Any) -> Any:
            begin = time.process_time()
            try:
                return call(*arguments, **named)
            finally:
                self.cpu_s += time.process_time() - begin

        return measured

    def stamp(self) -> Stamp:
        """This moment."""
        return time.perf_counter(), time.process_time(), self.cpu_s
