"""Workers that may die: each is a process, and the work of one that died or hung is a record like any other."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

Work = Callable[..., dict[str, Any]]


@dataclass(eq=False)
class Worker:
    """A process and what it is busy with."""

    process: Any
    pipe: Connection
    name: Any = None
    since: float = 0.0


def in_order(work: Work, jobs: Iterable[tuple[Any, tuple[Any, ...]]]) -> Iterable[tuple[Any, dict[str, Any]]]:
    """(name, record) of every (name, arguments), one after the other in this process."""
    for name, arguments in jobs:
        yield name, work(*arguments)


def in_processes(
    work: Work, jobs: Iterable[tuple[Any, tuple[Any, ...]]], count: int, patience_s: float
) -> Iterable[tuple[Any, dict[str, Any]]]:
    """The same in `count` processes, as they finish. A process that dies, or takes longer than patience_s over one
    job, is replaced, and its job's record says so."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # the processes are the parallelism; read when a library is loaded
    context = multiprocessing.get_context("spawn")
    waiting, idle, busy = iter(jobs), [_start(context, work) for _ in range(count)], []
    try:
        while True:
            while idle and (job := next(waiting, None)) is not None:
                worker = idle.pop()
                worker.name, worker.since = job[0], time.monotonic()
                worker.pipe.send(job[1])
                busy.append(worker)
            if not busy:
                return
            ready = wait([w.pipe for w in busy] + [w.process.sentinel for w in busy], timeout=1.0)
            for worker in list(busy):
                record = None
                if worker.pipe in ready or worker.process.sentinel in ready:
                    record = _received(worker)
                elif time.monotonic() - worker.since > patience_s:
                    record = {"status": "hung", "message": f"no answer within {patience_s:g} s; ended", "rows": []}
                if record is None:
                    continue
                busy.remove(worker)
                if record.get("status") in ("hung", "died"):
                    _end(worker, at_once=True)
                    idle.append(_start(context, work))
                else:
                    idle.append(worker)
                yield worker.name, record
    finally:
        for worker in busy:
            _end(worker, at_once=True)
        for worker in idle:
            _end(worker)


def _received(worker: Worker) -> dict[str, Any]:
    try:
        record: dict[str, Any] = worker.pipe.recv()
    except EOFError:
        worker.process.join(5)
        text = f"its process ended with exit code {worker.process.exitcode}"
        return {"status": "died", "message": text, "rows": []}
    return record


def _start(context: Any, work: Work) -> Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    return Worker(process, ours)


def _serve(work: Work, pipe: Connection) -> None:
    while True:
        try:
            arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            record = work(*arguments)
        except KeyboardInterrupt:
            return
        pipe.send(record)


def _end(worker: Worker, at_once: bool = False) -> None:
    """A worker whose pipe is closed ends by itself, unless it is busy."""
    worker.pipe.close()
    if not at_once:
        worker.process.join(5)
    worker.process.terminate()
    worker.process.join(5)
