"""Runs that write a checkpoint after every round, and are taken up after some of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mpi_jobs import contents
from rough_case import only

from decomp.run.certificate import CertificateSettings
from decomp.run.engine import Limits, run
from decomp.run.result_files import GrowingFiles, write
from decomp.storage.checkpoint import CheckpointSettings, Keeper, find_checkpoint

Part = tuple[object, object, list]  # blocks, coordinator, couplings


def recorded(problem: Part, rule, folder: Path, rounds: int, resume: Path | None = None, identity=(), **more) -> dict:
    """What a run leaves in its folder that writes a checkpoint after every round."""
    blocks, coordinator, coupling = problem
    found = find_checkpoint(resume / "checkpoints", dict(identity)) if resume else None
    settings = CheckpointSettings(every_rounds=1, keep=100)
    files = GrowingFiles(folder)
    result = run(
        blocks, coordinator, rule, coupling=coupling, limits=Limits(rounds), files=files, resume=found,
        keeper=Keeper(folder / "checkpoints", settings, dict(identity), found.rounds if found else None),
        **{"stop": [], "certificate": CertificateSettings(every=2), **more},
    )  # fmt: skip
    assert result.status in ("iteration_limit", "diverged"), result.reason
    write(result, folder, case={}, extra={}, growing=files)
    return contents(folder)


def taken_up(started: Callable[..., dict], folder: Path, at: Sequence[int]) -> None:
    """A run taken up after any of the rounds `at` leaves what one leaves that was not interrupted."""
    whole = started(folder / "whole")
    for done in at[: len(whole["rows"]) - 1]:
        cut = only(folder / "whole", folder / f"from{done}", done)
        assert started(cut, cut) == whole
