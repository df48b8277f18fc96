"""A microgrid's scenarios decomposed and as one model: rounds, time, memory and whether the two agree.

python -m benchmarks.microgrid CASE.toml [--set key=value ...] [--scenarios 3 30 300] [--one-model-up-to 300] --out DIR
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import resource
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from decomp.case.config import load
from decomp.errors import TatonnementError
from decomp.run.engine import run
from problems.microgrid.extensive import solve_extensive


@dataclasses.dataclass(frozen=True)
class Measured:
    """One size. Money in $, time in s, memory in MiB: the most of the process so far."""

    scenarios: int
    blocks: int
    status: str
    rounds: int
    objective: float | None
    lower_bound: float | None
    gap: float | None
    wall_time_s: float
    memory_mib: float
    one_objective: float | None
    one_bound: float | None
    one_columns: int | None
    one_rows: int | None
    one_wall_time_s: float | None
    one_memory_mib: float | None

    @property
    def difference(self) -> float | None:
        """Of the decomposed objective from the one model's, relative."""
        if self.objective is None or self.one_objective is None:
            return None
        return abs(self.objective - self.one_objective) / abs(self.one_objective)


def measure(case_file: Path, overrides: Sequence[str], scenarios: int, one_model: bool) -> Measured:
    """Solve the case with so many scenarios by its own rule, then as one model."""
    case = load(case_file, [*overrides, f"scenarios.count={scenarios}"])
    problem: Any = case.problem
    begin = time.perf_counter()
    result = run(
        problem.subproblem, problem.coordinator, case.rule, coupling=problem.couplings, stop=case.stop,
        limits=case.limits, certificate=case.certificate,
    )  # fmt: skip
    assert result is not None, "one process"
    taken, memory = time.perf_counter() - begin, _memory_mib()
    whole = None
    if one_model:
        try:
            whole = solve_extensive(problem)
        except TatonnementError:
            whole = None
    certificate = result.certificate
    return Measured(
        scenarios, len(problem.couplings[0].prob), str(result.status), len(result.rows), result.objective,
        None if certificate is None else certificate.lower_bound,
        None if certificate is None else certificate.gap,
        taken, memory,
        *((None,) * 6 if whole is None else (
            whole.objective, whole.bound, whole.columns, whole.rows, whole.wall_time_s, _memory_mib())),
    )  # fmt: skip


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def page(measured: Sequence[Measured], command: str) -> str:
    """The results as Markdown."""
    lines = [
        "# The microgrid's scenarios: decomposed and as one model",
        "",
        f"    {command}",
        "",
        f"One process, one thread, {platform.machine()}. Memory is the most of the process so far, so that of the one",
        "model includes the decomposed run's.",
        "",
        "| scenarios | blocks | status | rounds | objective $ | gap | time s | memory MiB | one model $ | difference |"
        " one model: columns x rows | time s | memory MiB |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for m in measured:
        size = "-" if m.one_columns is None else f"{m.one_columns} x {m.one_rows}"
        lines.append(
            f"| {m.scenarios} | {m.blocks} | {m.status} | {m.rounds} | {_shown(m.objective, '.3f')} "
            f"| {_shown(m.gap, '.1e')} | {m.wall_time_s:.1f} | {m.memory_mib:.0f} | {_shown(m.one_objective, '.3f')} "
            f"| {_shown(m.difference, '.1e')} | {size} | {_shown(m.one_wall_time_s, '.1f')} "
            f"| {_shown(m.one_memory_mib, '.0f')} |"
        )
    return "\n".join([*lines, ""])


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main() -> None:
    """Measure every size, and write the page and the figures behind it after each."""
    parser = argparse.ArgumentParser(description="A microgrid's scenarios, decomposed and as one model")
    parser.add_argument("case", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="key=value")
    parser.add_argument("--scenarios", type=int, nargs="+", default=[3, 30, 300])
    parser.add_argument("--one-model-up-to", type=int, default=300, help="scenarios; more are only decomposed")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sets = "".join(f" --set {shlex.quote(text)}" for text in given.overrides)
    counts = " ".join(map(str, given.scenarios))
    command = (
        f"python -m benchmarks.microgrid {given.case}{sets} --scenarios {counts} "
        f"--one-model-up-to {given.one_model_up_to} --out {given.out}"
    )
    given.out.mkdir(parents=True, exist_ok=True)
    measured: list[Measured] = []
    with threadpool_limits(1):
        for count in given.scenarios:
            measured.append(measure(given.case, given.overrides, count, count <= given.one_model_up_to))
            rows = [dataclasses.asdict(m) for m in measured]
            (given.out / "microgrid.json").write_text(json.dumps(rows, indent=1) + "\n")
            (given.out / "microgrid.md").write_text(page(measured, command))
            print(page(measured[-1:], command).splitlines()[-1])


if __name__ == "__main__":
    main()
