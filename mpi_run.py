"""Run a case file: mpiexec -n N python -m mpi4py mpi_run.py CASE.toml --out DIR, or python mpi_run.py for one rank.

Exit codes: 0 the run ended and says how; 1 it failed, result.json says why; 2 bad input, nothing written.
A signal that asks to stop while the case is read ends it with 0 and a sentence, and nothing is written.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from decomp.case.catalogue import kinds
from decomp.case.config import Case, load
from decomp.errors import CheckpointError, InputError, RefusedError, TatonnementError
from decomp.parallel.ranks import Ranks, find_ranks
from decomp.run.console import RoundTable, clock_where_enough, console_for, first_line, last_lines
from decomp.run.engine import run
from decomp.run.result import Result
from decomp.run.result_files import GrowingFiles, write_rows, write_summary
from decomp.run.stopping import RunStatus
from decomp.storage.checkpoint import Checkpoint, Keeper, find_checkpoint
from decomp.storage.folder_lock import FolderTaken, taken
from decomp.storage.result_folder import ResultFolder

ENDED, FAILED, BAD_INPUT = 0, 1, 2
CHECKPOINTS = "checkpoints"  # below the folder of the results
ROOM = 1 << 20  # bytes that must fit into that folder before a run begins


def main(ranks: Ranks, arguments: list[str]) -> int:
    """Run one case; returns the exit code, the same on every rank and not before all have come to it."""
    return int(ranks.agree(_main(ranks, arguments)))


def _main(ranks: Ranks, arguments: list[str]) -> int:
    root, signals = ranks.rank == 0, _Signals()
    alone = _launched_in_vain(ranks)
    if alone:
        sys.stderr.write(alone)
        return BAD_INPUT
    try:
        with contextlib.nullcontext() if root else _silence():
            args = _parser().parse_args(arguments)
    except SystemExit as ended:  # it has said what is wrong, or shown its help
        return ended.code if isinstance(ended.code, int) else FAILED
    logging.basicConfig(level=logging.INFO if root else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

    case, trouble = _read(args, signals)
    found = ranks.agree(_first(ranks.gather_objects(trouble)))
    if found is not None or case is None:
        return _refuse(root, *(found or (BAD_INPUT, "the case was not read")))
    made = [p for p in (args.out, *args.out.parents) if not p.exists()] if root else []
    with contextlib.ExitStack() as held:
        code = _run(ranks, case, args, signals, held)
    if code == BAD_INPUT:
        for folder in made:
            with contextlib.suppress(OSError):  # unless there is something in it
                folder.rmdir()
    return code


def _run(ranks: Ranks, case: Case, args: argparse.Namespace, signals: _Signals, held: contextlib.ExitStack) -> int:
    """Run a case that has been read; the folder of the results is this run's as long as `held` is open."""
    root = ranks.rank == 0
    resume, trouble = _prepare(case, args, held) if root else (None, None)
    own = ResultFolder(args.out, case.tables, force=args.force, resumed=_lies_in(resume, args.out))
    if root and trouble is None:
        trouble = _begin(own, held)
    trouble = ranks.agree(trouble)
    if trouble is not None:
        return _refuse(root, *trouble)
    files = GrowingFiles(args.out, every_offer=case.limits.record == "all")
    place = args.out / CHECKPOINTS
    # checkpoints in another folder are not this run's, whatever it is taken up from
    done = resume.rounds if resume and own.resumed else None
    keeper = Keeper(place, case.checkpoint, case.identity, done) if root else None

    console = console_for()
    if root and not args.quiet:
        blocks = sum(len(c.prob) for c in case.problem.couplings)
        console.print(first_line(case.title, blocks, ranks.size, case.rule_text), soft_wrap=True)
        if not _repeatable(case):
            console.print("asynchronous: the result depends on how fast the blocks were, and cannot be repeated")
        if resume:
            console.print(f"taken up after round {resume.rounds - 1} from {resume.folder}", soft_wrap=True)
    nodes = case.problem.coordinator.nodes if case.problem.coordinator else ()
    rounds = RoundTable(console, case.problem.labels, clock_where_enough(nodes))
    try:
        result = run(
            case.problem.subproblem,
            case.problem.coordinator,
            case.rule,
            coupling=case.problem.couplings,
            stop=case.stop,
            limits=case.limits,
            certificate=case.certificate,
            ranks=ranks,
            start_price=case.start_price,
            interrupted=signals.asked,
            callbacks=() if args.quiet else (rounds,),
            on_failure=case.limits.on_failure,
            files=files,
            keeper=keeper,
            resume=resume,
            asynchronous=case.asynchronous,
            earlier=case.earlier,
            keep_columns=case.limits.columns,
        )
    except (RefusedError, CheckpointError) as error:
        return _refuse(root, BAD_INPUT, f"refused: {error}")
    if result is None:
        return ENDED  # not the root: its code is the one that counts
    try:
        written = _write(case, result, own, files, resume)
    except OSError as error:
        return _refuse(root, FAILED, f"{result.status}, but the results cannot be written: {error}{_safe(keeper)}")
    for table in () if args.quiet else case.problem.tables(result, args.out):
        console.print(table)
    console.print(last_lines(result, written, args.out), soft_wrap=True)
    return FAILED if result.status == RunStatus.FAILED else ENDED


class _Kinds(argparse.Action):
    """Like --help: prints and ends, whatever else is on the command line."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(kinds())
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mpi_run.py", description="Coordinate the units of a case file by prices.")
    parser.add_argument(
        "--kinds", action=_Kinds, help="list the rules, steps and criteria with their settings, and end"
    )
    parser.add_argument("case", metavar="CASE.toml", help="the case file; docs/case_file.md describes it")
    parser.add_argument("--out", metavar="DIR", type=_named, required=True, help="folder for the results")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="replace or add a value of the case file: --set rule.step.c2=0.5 (may be repeated)",
    )
    parser.add_argument("--rule", metavar="KIND|FILE.toml", help="replace the whole [rule] table")
    parser.add_argument(
        "--resume",
        metavar="DIR",
        type=Path,
        help="go on from the newest checkpoint in the result folder DIR",
    )
    parser.add_argument("--force", action="store_true", help="write into --out DIR although it holds something else")
    parser.add_argument("--quiet", action="store_true", help="print only how the run ended")
    return parser


def _named(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; name a folder, it is made if it does not exist")
    return Path(text)


def _read(args: argparse.Namespace, signals: _Signals) -> tuple[Case | None, tuple[int, str] | None]:
    """As `_load`, until a signal comes: reading may take long, and there is nothing to save yet."""
    case, trouble = None, None
    try:
        signals.at_once = True
        if not signals.asked():
            case, trouble = _load(args)
        signals.at_once = False
    except KeyboardInterrupt:
        pass
    if signals.asked():
        return None, (ENDED, "a signal asked to stop while the case was read: nothing was computed, nothing is written")
    return case, trouble


def _load(args: argparse.Namespace) -> tuple[Case | None, tuple[int, str] | None]:
    """The case, or the exit code and the text that say what is wrong."""
    place = next(p for p in (args.out.absolute(), *args.out.absolute().parents) if p.exists())
    if not place.is_dir():
        return None, (BAD_INPUT, f"--out {args.out}: {place} is a file; give a folder, it is made if it does not exist")
    if not os.access(place, os.W_OK | os.X_OK):
        return None, (BAD_INPUT, f"--out {args.out}: {place} cannot be written to; give another folder")
    try:
        return load(args.case, args.set, args.rule), None
    except InputError as error:
        return None, (BAD_INPUT, str(error))
    except TatonnementError as error:
        return None, (FAILED, str(error))


def _prepare(
    case: Case, args: argparse.Namespace, held: contextlib.ExitStack
) -> tuple[Checkpoint | None, tuple[int, str] | None]:
    """The checkpoint to go on from; and why not, or why the folder for the results is of no use."""
    probe = args.out / ".room"
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        held.enter_context(taken(args.out))
        try:
            probe.write_bytes(bytes(ROOM))
        finally:
            probe.unlink(missing_ok=True)
    except FolderTaken as error:
        remedy = "wait until it has ended, or give another folder"
        return None, (BAD_INPUT, f"--out {args.out}: {error}; {remedy}")
    except OSError as error:
        return None, (BAD_INPUT, f"--out {args.out}: nothing can be written there ({error}); give another folder")
    try:
        return find_checkpoint(args.resume / CHECKPOINTS, case.identity) if args.resume else None, None
    except CheckpointError as error:
        return None, (BAD_INPUT, f"--resume {args.resume}: {error}")


def _begin(own: ResultFolder, held: contextlib.ExitStack) -> tuple[int, str] | None:
    """Have the result folder for this case; why not, if not."""
    try:
        trouble = own.trouble()
        if trouble:
            return BAD_INPUT, f"--out {own.path}: {trouble}"
        own.begin()
    except OSError as error:
        return BAD_INPUT, f"--out {own.path}: nothing can be written there ({error}); give another folder"
    held.callback(own.give_back)
    return None


def _lies_in(resume: Checkpoint | None, folder: Path) -> bool:
    """Checkpoints in another folder are not this run's, whatever it is taken up from."""
    return resume is not None and resume.folder.parent.resolve() == (folder / CHECKPOINTS).resolve()


def _write(
    case: Case, result: Result, own: ResultFolder, growing: GrowingFiles, resume: Checkpoint | None
) -> list[Path]:
    """Write everything, result.json last."""
    own.remove_links()
    told = {**case.problem.summary(result), "rule": case.rule_text, "reproducible": _repeatable(case)}
    if resume is not None and not result.rows:  # not taken up: the other files are what it can be taken up from
        files = [own.path / name for name in own.before]
    else:
        files = [*write_rows(result, own.path, growing), *case.problem.write(result, own.path)]
    told["files"] = own.end(files)
    return [*files, write_summary(result, own.path, case=case.tables, extra=told)]


def _repeatable(case: Case) -> bool:
    return case.asynchronous is None or case.asynchronous.wait == 1


def _safe(keeper: Keeper | None) -> str:
    if keeper is None or keeper.newest is None:
        return ""
    return f"; the checkpoint after round {keeper.newest - 1} is in {keeper.folder}"


def _refuse(root: bool, code: int, text: str) -> int:
    if root:
        sys.stderr.write(text + "\n")
    return code


def _first(troubles: list[tuple[int, str] | None] | None) -> tuple[int, str] | None:
    return next((t for t in troubles or () if t is not None), None)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Only the root speaks of a wrong command line."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


class _Signals:
    """SIGINT, SIGTERM and SIGUSR1 ask to stop: on every rank they only ask, and the root decides.

    at_once  the first of them raises KeyboardInterrupt
    """

    def __init__(self) -> None:
        self.at_once, self._came = False, False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)

    def asked(self) -> bool:
        return self._came

    def _note(self, *_: object) -> None:
        self._came = True
        if self.at_once:
            self.at_once = False
            raise KeyboardInterrupt


def _launched_in_vain(ranks: Ranks) -> str:
    """mpiexec has started several processes of which each believes to be alone: they would all do the same run."""
    told = (os.environ.get(name, "1") for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"))
    started = max(int(number) if number.isdigit() else 1 for number in told)
    if ranks.size > 1 or started == 1:
        return ""
    return (
        f"the launcher started {started} processes, but this one finds itself alone: mpi4py is not installed, or was "
        "built for another MPI than this launcher belongs to; see 'On a cluster' in README.md\n"
    )


if __name__ == "__main__":
    everyone = find_ranks()
    agreed = main(everyone, sys.argv[1:])
    everyone.end()  # nobody leaves while the root still writes, and nobody's exit code may abort the others
    sys.exit(agreed)
