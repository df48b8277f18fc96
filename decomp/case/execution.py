"""A case that has been read, run by the engine into a result folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from decomp.case.config import Case
from decomp.parallel.ranks import Ranks
from decomp.run.engine import run
from decomp.run.options import Execution, Output
from decomp.run.result import Result, Row
from decomp.run.result_files import GrowingFiles, write_details, write_rows, write_summary
from decomp.storage.checkpoint import Checkpoint, Keeper
from decomp.storage.result_folder import ResultFolder

CHECKPOINTS = "checkpoints"  # below the folder of the results


@dataclass(frozen=True, eq=False)
class CaseRun:
    """A run that has ended, on the root, and what writes its files."""

    case: Case
    folder: ResultFolder
    result: Result
    files: GrowingFiles
    resume: Checkpoint | None

    def write(self) -> list[Path]:
        """Write all files of the engine and of the problem, result.json last; returns them. Raises OSError."""
        case, result, own = self.case, self.result, self.folder
        own.remove_links()
        told = {**case.problem.summary(result), "rule": case.rule_text, "reproducible": repeatable(case)}
        if self.resume is not None and not result.rows:
            # the run has not gone on: the other files are what it can be resumed from
            files = [own.path / name for name in own.before]
        else:
            files = [*write_rows(result, own.path, self.files), *case.problem.write(result, own.path)]
            files += write_details(result, own.path) if case.problem.details else []
        told |= {"files": own.end(files), "case_file": str(case.file.absolute())}
        return [*files, write_summary(result, own.path, case=case.tables, extra=told)]


def lies_in(resume: Checkpoint | None, folder: Path) -> bool:
    """Checkpoints in another folder are not this run's, whatever it is resumed from."""
    return resume is not None and resume.folder.parent.resolve() == (folder / CHECKPOINTS).resolve()


def keeper_of(case: Case, folder: ResultFolder, resume: Checkpoint | None) -> Keeper:
    """What writes the run's checkpoints."""
    done = resume.rounds if resume and folder.resumed else None
    return Keeper(folder.path / CHECKPOINTS, case.checkpoint, case.identity, done)


def run_case(
    ranks: Ranks,
    case: Case,
    folder: ResultFolder,
    *,
    keeper: Keeper | None,
    resume: Checkpoint | None = None,
    callbacks: Sequence[Callable[[Row], None]] = (),
    interrupted: Callable[[], bool] = lambda: False,
) -> CaseRun | None:
    """Run the case on all ranks; None on ranks other than the root. keeper, resume: on the root.

    Raises RefusedError for a rule the case cannot serve, CheckpointError when the run cannot go on from `resume`.
    """
    files = GrowingFiles(folder.path, every_offer=case.limits.record == "all")
    result = run(
        case.problem.subproblem,
        case.problem.coordinator,
        case.rule,
        coupling=case.problem.couplings,
        stop=case.stop,
        limits=case.limits,
        certificate=case.certificate,
        start=replace(case.start, checkpoint=resume),
        execution=Execution(ranks, case.asynchronous, interrupted),
        output=Output(callbacks, files, keeper, case.limits.columns),
    )
    return None if result is None else CaseRun(case, folder, result, files, resume)


def repeatable(case: Case) -> bool:
    return case.asynchronous is None or case.asynchronous.wait == 1
