"""A run from the command line: mpiexec -n N tatonnement run CASE --out DIR, or without mpiexec on one rank.

Exit codes: 0 the run ended and says how; 1 it failed, result.json says why; 2 bad input, nothing written.
A signal that asks to stop while the case is read ends it with 0 and a sentence, and nothing is written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click

from decomp.case.config import Case, load
from decomp.case.execution import CHECKPOINTS, keeper_of, lies_in, repeatable, run_case
from decomp.case.shipped import find_case
from decomp.errors import CheckpointError, InputError, RefusedError, TatonnementError
from decomp.parallel.ranks import Ranks, find_ranks, launched_in_vain
from decomp.run.console import RoundTable, clock_where_enough, console_for, first_line, last_lines
from decomp.run.stopping import RunStatus
from decomp.storage.checkpoint import Checkpoint, Keeper, find_checkpoint
from decomp.storage.folder_lock import FolderTaken, taken
from decomp.storage.result_folder import ResultFolder

ENDED, FAILED, BAD_INPUT = 0, 1, 2
ROOM = 1 << 20  # bytes that must fit into that folder before a run begins


def main(ranks: Ranks, arguments: list[str]) -> int:
    """Run one case; returns the exit code, the same on every rank and not before all have come to it."""
    return int(ranks.agree(_main(ranks, arguments)))


def _main(ranks: Ranks, arguments: list[str]) -> int:
    root, signals = ranks.rank == 0, _Signals()
    alone = launched_in_vain(ranks)
    if alone:
        sys.stderr.write(f"{alone}\n")
        return BAD_INPUT
    try:
        args = parsed(arguments)
    except click.UsageError as error:
        return _refuse(root, BAD_INPUT, f"{error.format_message()}\nsee 'tatonnement run --help'")
    if args is None:
        return ENDED  # the help has been shown
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


def _run(ranks: Ranks, case: Case, args: Arguments, signals: _Signals, held: contextlib.ExitStack) -> int:
    """Run a case that has been read; the folder of the results is this run's as long as `held` is open."""
    root = ranks.rank == 0
    resume, trouble = _prepare(case, args, held) if root else (None, None)
    own = ResultFolder(args.out, case.tables, force=args.force, resumed=lies_in(resume, args.out))
    if root and trouble is None:
        trouble = _begin(own, held)
    trouble = ranks.agree(trouble)
    if trouble is not None:
        return _refuse(root, *trouble)
    keeper = keeper_of(case, own, resume) if root else None

    console = console_for()
    if root and not args.quiet:
        blocks = sum(len(c.prob) for c in case.problem.couplings)
        versions = [f"highspy {version('highspy')}", *ranks.library]
        console.print(first_line(case.title, blocks, ranks.size, case.rule_text, versions), soft_wrap=True)
        if not repeatable(case):
            console.print("asynchronous: the result depends on how fast the blocks were, and cannot be repeated")
        if resume:
            console.print(f"resumed after round {resume.rounds - 1} from {resume.folder}", soft_wrap=True)
    nodes = case.problem.coordinator.nodes if case.problem.coordinator else ()
    scenarios = any(len(c.prob) > 1 for c in case.problem.couplings)
    rounds = RoundTable(console, case.problem.labels, clock_where_enough(nodes), scenarios)
    try:
        ended = run_case(
            ranks, case, own, keeper=keeper, resume=resume, interrupted=signals.asked,
            callbacks=() if args.quiet else (rounds,),
        )  # fmt: skip
    except (RefusedError, CheckpointError) as error:
        return _refuse(root, BAD_INPUT, f"refused: {error}")
    if ended is None:
        return ENDED  # not the root: its code is the one that counts
    result = ended.result
    try:
        written = ended.write()
    except OSError as error:
        return _refuse(root, FAILED, f"{result.status}, but the results cannot be written: {error}{_safe(keeper)}")
    for table in () if args.quiet else case.problem.tables(result, args.out):
        console.print(table)
    console.print(last_lines(result, written, args.out), soft_wrap=True)
    return FAILED if result.status == RunStatus.FAILED else ENDED


@dataclass(frozen=True)
class Arguments:
    """What `tatonnement run` was given; see decomp.cli.run for the words."""

    case: Path
    out: Path
    overrides: tuple[str, ...] = ()
    rule: str | None = None
    resume: Path | None = None
    quiet: bool = False
    force: bool = False


def parsed(arguments: list[str]) -> Arguments | None:
    """The arguments of `run`; None where they ask for help, which is shown. Raises click.UsageError."""
    from decomp.cli import run as command  # the words and their help stand there

    try:
        with command.make_context("tatonnement run", list(arguments)) as context:
            given = context.params
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        raise click.UsageError(error.format_message()) from error
    return Arguments(
        find_case(given["case"]), Path(given["out"]), tuple(given["overrides"]), given["rule"],
        None if given["resume"] is None else Path(given["resume"]), given["quiet"], given["force"],
    )  # fmt: skip


def _read(args: Arguments, signals: _Signals) -> tuple[Case | None, tuple[int, str] | None]:
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


def _load(args: Arguments) -> tuple[Case | None, tuple[int, str] | None]:
    """The case, or the exit code and the text that say what is wrong."""
    place = next(p for p in (args.out.absolute(), *args.out.absolute().parents) if p.exists())
    if not place.is_dir():
        return None, (BAD_INPUT, f"--out {args.out}: {place} is a file; give a folder, it is made if it does not exist")
    if not os.access(place, os.W_OK | os.X_OK):
        return None, (BAD_INPUT, f"--out {args.out}: {place} cannot be written to; give another folder")
    try:
        return load(args.case, list(args.overrides), args.rule), None
    except InputError as error:
        return None, (BAD_INPUT, str(error))
    except TatonnementError as error:
        return None, (FAILED, str(error))


def _prepare(
    case: Case, args: Arguments, held: contextlib.ExitStack
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


def launch(arguments: list[str]) -> None:
    """Run on all ranks that the launcher has started, and end this process with the exit code they agree on."""
    everyone = find_ranks()
    agreed = main(everyone, arguments)
    everyone.end()  # nobody leaves while the root still writes, and nobody's exit code may abort the others
    sys.exit(agreed)
