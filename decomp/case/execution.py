"""A case that has been read, run by the engine into a result folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from decomp.case.config import Case
from decomp.parallel.ranks import Ranks
from decomp.run.engine import run
from decomp.run.result import Result, Row
from decomp.run.result_files import GrowingFiles, write, write_summary
from decomp.storage.checkpoint import Checkpoint, Keeper

CHECKPOINTS = "checkpoints"  # below the folder of the results


@dataclass(frozen=True, eq=False)
class Execution:
    """A run that has ended, on the root, and what writes its files."""

    case: Case
    folder: Path
    result: Result
    files: GrowingFiles
    resume: Checkpoint | None

    def write(self) -> list[Path]:
        """Write all files of the engine and of the problem; returns them. Raises OSError."""
        case, result = self.case, self.result
        told = {**case.problem.summary(result), "rule": case.rule_text, "reproducible": repeatable(case)}
        if self.resume is not None and not result.rows:
            # the run has not gone on: the other files are what it can be resumed from
            return [write_summary(result, self.folder, case=case.tables, extra=told)]
        files = write(result, self.folder, case=case.tables, extra=told, growing=self.files)
        return [*files, *case.problem.write(result, self.folder)]


def keeper_of(case: Case, folder: Path, resume: Checkpoint | None) -> Keeper:
    """What writes the run's checkpoints; those in another folder are not this run's, whatever it is resumed from."""
    place = folder / CHECKPOINTS
    here = resume is not None and resume.folder.parent.resolve() == place.resolve()
    return Keeper(place, case.checkpoint, case.identity, resume.rounds if resume and here else None)


def run_case(
    ranks: Ranks,
    case: Case,
    folder: Path,
    *,
    keeper: Keeper | None,
    resume: Checkpoint | None = None,
    callbacks: Sequence[Callable[[Row], None]] = (),
    interrupted: Callable[[], bool] = lambda: False,
) -> Execution | None:
    """Run the case on all ranks; None on ranks other than the root. keeper, resume: on the root.

    Raises RefusedError for a rule the case cannot serve, CheckpointError when the run cannot go on from `resume`.
    """
    files = GrowingFiles(folder, every_offer=case.limits.record == "all")
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
        interrupted=interrupted,
        callbacks=callbacks,
        on_failure=case.limits.on_failure,
        files=files,
        keeper=keeper,
        resume=resume,
        asynchronous=case.asynchronous,
        earlier=case.earlier,
        keep_columns=case.limits.columns,
    )
    return None if result is None else Execution(case, folder, result, files, resume)


def repeatable(case: Case) -> bool:
    return case.asynchronous is None or case.asynchronous.wait == 1
