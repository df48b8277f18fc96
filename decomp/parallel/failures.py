"""What a block's failure does to a run: it ends it, or the block's last good answer stands in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from decomp.errors import BlockError
from decomp.layout import Answers
from decomp.messages import Status

log = logging.getLogger(__name__)

OnFailure = Literal["stop", "hold"]


class FailurePolicy:
    """On the root: the blocks' last good answers, and why blocks have none now.

    on_failure  "stop": raises BlockError; "hold": the last good answer stands in, marked stale and without a bound
    good        the last kept answers, those of failed blocks being their last good ones
    unbounded_goes_on  a block that is unbounded at a price has offered 0, without a bound; else it has failed
    failures    why blocks failed that a good answer stands in for, by name
    """

    def __init__(self, on_failure: OnFailure) -> None:
        self.on_failure = on_failure
        self.unbounded_goes_on = False
        self.good: Answers | None = None
        self.failures: dict[str, str] = {}
        self._warned: set[str] = set()

    def settled(self, answers: Answers, explain: Callable[[], dict[str, str]], *, sweep: bool = False) -> Answers:
        """The answers with each failed block's last good one in its place. Raises BlockError where there is none.

        explain: why blocks failed, by name; sweep: only bounds are asked for, and being unbounded is no failure
        """
        failed = answers.status > Status.FEASIBLE
        if sweep or self.unbounded_goes_on:
            failed &= answers.status != Status.UNBOUNDED
        if self.unbounded_goes_on and not sweep:
            answers = _with_zeros(answers)
        self.failures = explain() if failed.any() else {}
        if not failed.any():
            return answers
        good, layout = self.good, answers.layout
        if self.on_failure == "stop" or good is None:
            raise BlockError(self.failures)
        for name in sorted(set(self.failures) - self._warned):
            log.warning("block %s is represented by its last good answer: %s", name, self.failures[name])
        self._warned |= set(self.failures)
        at = failed[layout.block]
        reported = np.repeat(failed, np.diff(layout.report_start))
        slopes = answers.sensitivity
        if slopes is not None and good.sensitivity is not None:
            slopes = tuple(good.sensitivity[b] if failed[b] else slope for b, slope in enumerate(slopes))
        return replace(
            answers,
            y=np.where(at, good.y, answers.y),
            report=np.where(reported, good.report, answers.report),
            cost=np.where(failed, good.cost, answers.cost),
            bound=np.where(failed, np.nan, answers.bound),
            revised=answers.revised & ~failed,
            sensitivity=slopes,
            stale=failed,
        )


def _with_zeros(answers: Answers) -> Answers:
    """Blocks that are unbounded at the price offer 0."""
    endless = answers.status == Status.UNBOUNDED
    if not endless.any():
        return answers
    reported = np.repeat(endless, np.diff(answers.layout.report_start))
    return replace(
        answers,
        y=np.where(endless[answers.layout.block], 0.0, answers.y),
        report=np.where(reported, 0.0, answers.report),
        bound=np.where(endless, np.nan, answers.bound),
    )
