"""How far a run has come: its last complete round, and the checkpoints of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from decomp.coordinator import Warm
from decomp.errors import CheckpointError, RefusedError
from decomp.layout import Answers, Layout
from decomp.messages import Status
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.serialization import NOT_UNDERSTOOD, flatten
from decomp.parallel.vocabulary import Vocabulary
from decomp.rules.base import State, UpdateRule
from decomp.run.certificate import Certifier, Memory
from decomp.run.recorder import Recorder, RoundsSoFar
from decomp.run.stopping import Stop
from decomp.storage.checkpoint import Checkpoint, Keeper


class Progress(NamedTuple):
    """What round k begins with beside the blocks' warm states; proofs: the certifier's memory."""

    k: int
    state: State
    warm: tuple[Warm, ...]
    proofs: Memory


@dataclass(frozen=True, eq=False)
class Saved:
    """What a checkpoint holds beside the blocks' warm states."""

    progress: Progress
    rounds: RoundsSoFar


class RoundTransaction:
    """Knows the last complete round, goes back to it when the next one cannot be completed, and has it written down.

    Raises RefusedError when checkpoints are wanted and the state of the rule cannot be written.
    """

    def __init__(
        self, progress: Progress, rule: UpdateRule, block_pool: BlockPool, recorder: Recorder, keeper: Keeper | None
    ) -> None:
        self.progress, self.block_pool, self.recorder, self.keeper = progress, block_pool, recorder, keeper
        setup = progress.state.setup
        self._shared = {"layout": setup.layout, "setup": setup}
        self._vocabulary = Vocabulary.of(Saved, rule, progress.state, recorder.coordinator)
        if keeper is not None:
            try:
                flatten(progress, self._shared, self._vocabulary)
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
        content = Saved(self.progress, self.recorder.memory())
        return self.keeper.save(self.progress.k, content, self._shared, self._vocabulary, self.block_pool.save)

    def cut_short(self, stop: Stop) -> Stop:
        """The run ends before the round it is in is complete: as if that round had not begun; how it ends."""
        self.block_pool.roll_back()
        trouble = self.save()
        return Stop("; ".join(filter(None, (stop.reason, trouble))), stop.status)

    def resume(self, checkpoint: Checkpoint, certifier: Certifier, max_rounds: int) -> None:
        """Go on from a checkpoint. Raises RefusedError when no round is left, CheckpointError when it does not fit."""
        saved = checkpoint.content(self._shared, self._vocabulary)
        try:
            self._check(saved, checkpoint)
        except NOT_UNDERSTOOD as error:
            raise CheckpointError(f"{checkpoint.folder} is not understood: {type(error).__name__}: {error}") from error
        progress: Progress = saved.progress
        if progress.k >= max_rounds:
            raise RefusedError(f"{checkpoint.folder} has all of its {progress.k} rounds; raise run.max_rounds to go on")
        self.block_pool.load(checkpoint.folder, checkpoint.block_files, saved.rounds.final.answers)
        certifier.restore(progress.proofs)
        try:
            self.recorder.restore(saved.rounds, checkpoint.folder.parents[1])
        except OSError as error:
            raise CheckpointError(f"the files of the run cannot be continued: {error}") from error
        self.complete(progress)

    def _check(self, saved: object, checkpoint: Checkpoint) -> None:
        """Raises CheckpointError where what was read is not what a run like this one writes."""
        begin, layout = self.progress.state, self.progress.state.setup.layout
        if not isinstance(saved, Saved):
            raise CheckpointError(f"{checkpoint.folder} holds something else than a run")
        progress, rounds = saved.progress, saved.rounds
        if not progress.k == checkpoint.rounds == len(rounds.prices) or rounds.final is None:
            raise CheckpointError(f"{checkpoint.folder} does not hold the {checkpoint.rounds} rounds it speaks of")
        if len(progress.warm) != len(self.progress.warm):
            raise CheckpointError(f"{checkpoint.folder} has {len(progress.warm)} of the coordinator's warm values")
        self.recorder.check(rounds)
        state: State | None = progress.state
        same: State | None = begin
        while isinstance(state, State):
            _check_state(state, same, begin, checkpoint)
            state, same = getattr(state, "inner", None), getattr(same, "inner", None)
        proven = [rounds.certificate.answers] if rounds.certificate else []
        known = [progress.proofs[0][1]] if progress.proofs[0] else []
        for said in filter(None, (rounds.initial, rounds.final)):
            proven.append(said.answers)
        for answers in [*proven, *known]:
            _check_answers(answers, layout, checkpoint)


def _check_state(state: State, same: State | None, begin: State, checkpoint: Checkpoint) -> None:
    if type(state) is not type(same) or state.setup is not begin.setup:
        raise CheckpointError(f"{checkpoint.folder} holds the state of another rule: {type(state).__name__}")
    for name in ("price", "w", "active"):
        found, wanted = getattr(state, name), getattr(begin, name)
        if found.shape != wanted.shape or found.dtype != wanted.dtype or not np.all(np.isfinite(found)):
            raise CheckpointError(f"{checkpoint.folder} holds no {name} of {wanted.size} numbers, one for each row")


def _check_answers(answers: Answers, layout: Layout, checkpoint: Checkpoint) -> None:
    N, B = int(layout.start[-1]), len(layout.keys)
    sizes = {"y": N, "report": int(layout.report_start[-1])}
    for name in ("y", "report", "cost", "bound", "status", "revised", "solve_time", "stale", "late", "pattern"):
        found = getattr(answers, name)
        if found is not None and found.shape != (sizes.get(name, B),):
            raise CheckpointError(f"{checkpoint.folder} holds answers with {name} of the shape {found.shape}")
    if answers.layout is not layout or not {int(s) for s in answers.status} <= set(Status):
        raise CheckpointError(f"{checkpoint.folder} holds answers of other blocks than those of this case")
