"""A run that is interrupted after a round and resumed: it leaves what a run leaves that was not interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mpi_jobs import contents
from rough_case import only

from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits, Output, Start
from decomp.run.result_files import GrowingFiles, write
from decomp.storage.checkpoint import CheckpointSettings, Keeper, find_checkpoint

Part = tuple[object, object, list]  # blocks, coordinator, couplings


def recorded(
    problem: Part,
    rule,
    folder: Path,
    rounds: int,
    resume: Path | None = None,
    identity=(),
    start: Start | None = None,
    **more,
) -> dict:
    """What a run leaves in its folder that writes a checkpoint after every round."""
    blocks, coordinator, coupling = problem
    found = find_checkpoint(resume / "checkpoints", dict(identity)) if resume else None
    settings = CheckpointSettings(every_rounds=1, keep=100)
    files = GrowingFiles(folder)
    keeper = Keeper(folder / "checkpoints", settings, dict(identity), found.rounds if found else None)
    result = run(
        blocks, coordinator, rule, coupling=coupling, limits=Limits(rounds),
        output=Output(files=files, keeper=keeper),
        start=replace(start or Start(), checkpoint=found),
        **{"stop": [], "certificate": CertificateSettings(every=2), **more},
    )  # fmt: skip
    assert result.status in ("iteration_limit", "diverged"), result.reason
    write(result, folder, case={}, extra={}, growing=files)
    return contents(folder)


def resumed(started: Callable[..., dict], folder: Path, at: Sequence[int]) -> None:
    """A run resumed after any of the rounds `at` leaves what one leaves that was not interrupted."""
    whole = started(folder / "whole")
    for done in at[: len(whole["rows"]) - 1]:
        cut = only(folder / "whole", folder / f"from{done}", done)
        assert started(cut, cut) == whole
