"""python -m benchmarks FILE.toml [--jobs N] [--quick] [--out DIR]; also under mpiexec, which deals the runs over ranks.

Every run is done once: results lie in the store, an interrupted benchmark goes on where it stopped. At the end the
tables, figures and the page are written anew from all runs of the file.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measure import find_reference, measure
from benchmarks.plan import Instance, Plan, Run, read_plan
from benchmarks.pool import in_order, in_processes
from benchmarks.report import write_report
from benchmarks.store import Store, run_key
from decomp.errors import InputError
from decomp.parallel.ranks import Ranks, find_ranks

ENDED, BAD_INPUT, INTERRUPTED = 0, 2, 130
TOGETHER = 12  # instances: an interrupted benchmark has all runs of those it has begun with
Jobs = list[tuple[str, tuple[Any, ...]]]


def main(arguments: list[str], ranks: Ranks) -> int:
    """Run what has not been run, then write the report; returns the exit code."""
    args = _parser().parse_args(arguments)
    try:
        plan = read_plan(args.file, args.quick)
    except InputError as error:
        if ranks.rank == 0:
            sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    store = Store(args.store)
    folder = args.file.parent.resolve()
    references = {_instance_key(plan, i, folder): i for i in plan.instances}
    runs = {_run_key(plan, r, folder): r for r in plan.runs}
    try:
        if not args.report:
            _work(plan, store, references, runs, folder, args.jobs, ranks)
    except KeyboardInterrupt:
        done = sum(store.get(key) is not None for key in runs)
        sys.stderr.write(f"interrupted: {done} of {len(runs)} runs are done; the same command goes on from there\n")
        return INTERRUPTED
    if ranks.rank == 0:
        found = [(run, store.get(key)) for key, run in runs.items()]
        for path in write_report(plan, [(r, o) for r, o in found if o is not None], args.out, _command(args)):
            print(path)
    return ENDED


def _work(
    plan: Plan,
    store: Store,
    references: dict[str, Instance],
    runs: dict[str, Run],
    folder: Path,
    jobs: int,
    ranks: Ranks,
) -> None:
    """A few instances at a time, in the order of the file: their references, then the runs measured against them."""
    s, instance_of = plan.settings, {key: _instance_key(plan, run.instance, folder) for key, run in runs.items()}
    for some in _batched(references.items(), TOGETHER):
        wanted: Jobs = [(key, (i, s, folder)) for key, i in some if store.get(key) is None]
        _wait(ranks)  # all have seen what is missing before one adds to it
        _do(store, find_reference, _dealt(wanted, ranks), jobs, s.reference_time_limit_s * 2 + 60, ranks, "reference")
        _wait(ranks)  # the references of all ranks are there
        todo: Jobs = []
        for key, run in runs.items():
            own = instance_of[key]
            if own in dict(some) and store.get(key) is None:
                todo.append((key, (run, s, folder, store.get(own) or {})))
        _wait(ranks)
        _do(store, measure, _dealt(todo, ranks), jobs, s.time_limit_s * 2 + 60, ranks, "run")
        _wait(ranks)


def _wait(ranks: Ranks) -> None:
    """Until every rank has come here."""
    ranks.gather_objects(None)
    ranks.agree(None)


def _batched(things: Iterable[tuple[str, Instance]], n: int) -> Iterable[tuple[tuple[str, Instance], ...]]:

    left = iter(things)
    while some := tuple(islice(left, n)):
        yield some


def _dealt(jobs: Jobs, ranks: Ranks) -> Jobs:
    return jobs[ranks.rank :: ranks.size]


def _do(store: Store, work: Any, jobs: Jobs, count: int, patience_s: float, ranks: Ranks, what: str) -> None:
    done: Iterable[tuple[str, dict[str, Any]]]
    done = in_order(work, jobs) if ranks.size > 1 else in_processes(work, jobs, min(count, len(jobs)), patience_s)
    began, names = time.perf_counter(), {key: arguments[0] for key, arguments in jobs}
    for number, (key, record) in enumerate(done, 1):
        store.put(key, record)
        if ranks.rank == 0:
            spent = time.perf_counter() - began
            told = f"{record.get('status', record.get('message', 'found'))}, {len(record.get('rows', ()))} rounds"
            name = names[key].label if what == "reference" else f"{names[key].instance.label}: {names[key].variant}"
            print(f"{what} {number}/{len(jobs)} {spent:7.1f} s  {name}: {told}", file=sys.stderr, flush=True)


def _instance_key(plan: Plan, instance: Instance, folder: Path) -> str:
    tables = {key: value for key, value in instance.tables.items() if key != "rule"}
    what = ["reference", instance.file, tables]
    return run_key(what, plan.settings.reference_time_limit_s, tables, [Path(instance.file).parent, folder])


def _run_key(plan: Plan, run: Run, folder: Path) -> str:
    tables = {**run.instance.tables, "rule": run.rule}
    return run_key(run.record(), asdict(plan.settings), tables, [Path(run.instance.file).parent, folder])


def _command(args: argparse.Namespace) -> str:
    quick = " --quick" if args.quick else ""
    return f"python -m benchmarks {args.file}{quick} --jobs {args.jobs} --out {args.out}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare rules on many instances.")
    parser.add_argument("file", metavar="FILE.toml", type=Path, help="what to run; docs/benchmarks.md describes it")
    parser.add_argument("--jobs", type=_positive, default=1, help="processes that run at the same time")
    parser.add_argument("--quick", action="store_true", help="the few small runs of the file's [quick] table")
    parser.add_argument("--report", action="store_true", help="run nothing, write the page of what is done")
    parser.add_argument("--out", type=Path, default=Path("results/benchmark"), help="folder of tables and figures")
    parser.add_argument("--store", type=Path, default=Path("results/benchmark_store"), help="folder of finished runs")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    everyone = find_ranks()
    code = main(sys.argv[1:], everyone)
    everyone.end()
    sys.exit(code)
