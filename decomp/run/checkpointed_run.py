"""How far a run has come: its last complete round, and the checkpoints of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from decomp.coordinator import Warm
from decomp.errors import CheckpointError, RefusedError
from decomp.parallel.block_pool import BlockPool
from decomp.plain_value import flatten
from decomp.rules.base import State
from decomp.run.certificate import Certifier
from decomp.run.recorder import Recorder
from decomp.run.stopping import RunStatus, Stop
from decomp.storage.checkpoint import Checkpoint, Keeper


class Progress(NamedTuple):
    """What round k begins with beside the blocks' warm states; proofs: the certifier's memory."""

    k: int
    state: State
    warm: tuple[Warm, ...]
    proofs: Any


class RoundTransaction:
    """Knows the last complete round, goes back to it when the next one cannot be completed, and has it written down.

    Raises RefusedError when checkpoints are wanted and the state of the rule cannot be written.
    """

    def __init__(self, progress: Progress, block_pool: BlockPool, recorder: Recorder, keeper: Keeper | None) -> None:
        self.progress, self.block_pool, self.recorder, self.keeper = progress, block_pool, recorder, keeper
        setup = progress.state.setup
        self._shared = {"layout": setup.layout, "setup": setup}
        if keeper is not None:
            try:
                flatten(progress, self._shared)
            except CheckpointError as error:
                raise RefusedError(f"no checkpoint could be written: {error}") from error
        block_pool.mark()

    def complete(self, progress: Progress) -> None:
        """A round has been completed, and is in the recorder; the next begins with `progress`."""
        self.progress = progress
        self.block_pool.mark()
        self.block_pool.rebalance()

    def save_if_due(self) -> None:
        """Write a checkpoint of the last complete round if it is time for one."""
        if self.keeper is not None and self.keeper.due(self.progress.k):
            self.save()

    def save(self) -> str:
        """Write a checkpoint of the last complete round, unless there is one; returns what went wrong, or ""."""
        if self.keeper is None or not self.progress.k or self.keeper.newest == self.progress.k:
            return ""
        content = {"progress": self.progress, "recorder": self.recorder.memory()}
        return self.keeper.save(self.progress.k, content, self._shared, self.block_pool.save)

    def cut_short(self, reason: str, status: RunStatus) -> None:
        """The run ends before the round it is in is complete: as if that round had not begun."""
        self.block_pool.may_be_cut = False
        self.block_pool.roll_back()
        trouble = self.save()
        self.recorder.stop = Stop("; ".join(filter(None, (reason, trouble))), status)

    def take_up(self, checkpoint: Checkpoint, certifier: Certifier, max_rounds: int) -> None:
        """Go on from a checkpoint. Raises RefusedError when no round is left, CheckpointError when it does not fit."""
        content: Mapping[str, Any] = checkpoint.content(self._shared)
        progress: Progress = content["progress"]
        if progress.k >= max_rounds:
            raise RefusedError(f"{checkpoint.folder} has all of its {progress.k} rounds; raise run.max_rounds to go on")
        self.block_pool.load(checkpoint.folder, checkpoint.block_files, content["recorder"]["final"].answers)
        certifier.take_up(progress.proofs)
        try:
            self.recorder.take_up(content["recorder"], checkpoint.folder.parents[1])
        except OSError as error:
            raise CheckpointError(f"the files of the run cannot be taken up: {error}") from error
        self.complete(progress)
