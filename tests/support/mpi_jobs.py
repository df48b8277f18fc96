"""Programs and runs under real mpiexec: started, waited for, and their files compared."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from paths import ROOT, SUPPORT

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
TIMES = ("wall_time_s", "solver_time_s")


def mpiexec(ranks: int, *arguments: object, module: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess:
    """Run a program under mpiexec, as a user would."""
    assert MPIEXEC, "mpiexec is missing: pip install '.[mpi]'"
    python = [sys.executable, "-m", "mpi4py"] if module else [sys.executable]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(ROOT)])}
    return subprocess.run(
        [MPIEXEC, "-n", str(ranks), *python, *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, env=environment, check=False,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes | list]:
    """The files that may depend on neither ranks nor interruptions; iterations.csv without its measured times."""
    with (folder / "iterations.csv").open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    return {"rows": rows, **{name: (folder / name).read_bytes() for name in ("prices.csv", "offers.csv")}}


def arguments(case: Path, out: Path, *more: str) -> list[str]:
    return [str(ROOT / "mpi_run.py"), str(case), "--out", str(out), "--quiet", *more]


def finished(ranks: int, case: Path, out: Path, *more: str) -> Path:
    done = mpiexec(ranks, *arguments(case, out, *more))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def started(ranks: int, case: Path, out: Path, delay_s: float, *more: str, **slow: float) -> subprocess.Popen:
    for old in (case.parent / "pids").glob("*"):
        old.unlink()
    assert MPIEXEC
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ROUGH_DELAY_S": str(delay_s)}
    environment |= {f"ROUGH_{name}_S": str(seconds) for name, seconds in slow.items()}
    return subprocess.Popen(
        [MPIEXEC, "-n", str(ranks), sys.executable, "-m", "mpi4py", *arguments(case, out, *more)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def rounds_in(out: Path) -> int:
    try:
        return (out / "iterations.csv").read_text().count("\n") - 1
    except FileNotFoundError:
        return 0


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
