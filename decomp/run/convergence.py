"""What is seen of a round, and whether the run ends with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from decomp.coordinator import Warm
from decomp.layout import Answers, Signals
from decomp.messages import FloatArray, Key
from decomp.rules.base import Candidate, State
from decomp.run.certificate import Certificate
from decomp.run.recorder import residuals
from decomp.run.result import Round
from decomp.run.stopping import Iterate, RunStatus, Stop, StoppingCriterion, period

MANY = 20_000  # entries from which on a point is told by its sketch
PROVEN = (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)


class RoundRecord(NamedTuple):
    """What one round leaves: the state for the next, and everything that was said."""

    state: State
    warm: tuple[Warm, ...]
    round: Round
    signals: tuple[Signals, ...]
    answers: tuple[Answers, ...]
    candidate: Candidate | None

    @property
    def late(self) -> bool:
        """Some answers are to earlier questions."""
        return any(answers.late is not None for answers in self.answers)

    @property
    def stale(self) -> tuple[Key, ...]:
        """Blocks that failed in this round, and are represented by their last good answer."""
        return tuple(sorted({key for answers in self.answers for key in answers.stale_keys()}))


def first(criteria: Sequence[StoppingCriterion], seen: Iterate) -> Stop | None:
    """What the first criterion that speaks says."""
    return next((stop for criterion in criteria if (stop := criterion(seen))), None)


def certified(criteria: Sequence[StoppingCriterion], seen: Iterate) -> Stop | None:
    """What the first criterion says that proves something."""
    stops = [stop for criterion in criteria if (stop := criterion(seen))]
    return next((s for s in stops if s.status in PROVEN), None)


def sketch(point: FloatArray) -> FloatArray:
    """A point to tell others by: itself, or 512 sums of its entries with signs drawn once where it has very many.

    Equal points have equal sketches, and no two that a run would meet differ in the signs' blind directions alone.
    """
    if len(point) <= MANY:
        return point
    signs = np.random.default_rng(0).integers(0, 2, len(point)) * 2.0 - 1.0
    return np.asarray(np.bincount(np.arange(len(point)) % 512, signs * point), np.float64)


def at_limit(k: int, max_rounds: int, seen: Iterate, visited: Sequence[FloatArray]) -> Stop | None:
    """The end of a run that has not succeeded: prices that are not finite, the last round, or going in circles."""
    if not np.isfinite(seen.primal_residual + seen.dual_residual):
        return Stop(f"the prices or the mismatch of round {k} are not finite", RunStatus.DIVERGED)
    if k + 1 == max_rounds:
        return Stop(f"{max_rounds} rounds are over", RunStatus.ITERATION_LIMIT)
    return _circling(visited)


def _circling(visited: Sequence[FloatArray]) -> Stop | None:
    length = period(visited)
    if length == 1:
        return Stop(
            "prices and offers no longer move, and no criterion is met; look at the criteria's tolerances and at the "
            "solvers' (a bound cannot be better than the blocks' own), or use another rule",
            RunStatus.ITERATION_LIMIT,
        )
    if length:
        return Stop(
            f"prices and offers repeat every {length} rounds: the step is too large for answers that jump; "
            "use a smaller or a falling step, or a rule that remembers answers (bundle)",
            RunStatus.DIVERGED,
        )
    return None


def look(step: RoundRecord, certificate: Certificate | None, elapsed_s: float) -> Iterate:
    """Residuals: R = Z - Y and ybar - y of the round; and how far the next price is from what the answers stand for.

    A penalised answer stands for the price lambda + rho (t - y), an unpenalised one for the price it saw.
    """
    layout, state, signals, answers = step.state.setup.layout, step.state, step.signals[0], step.answers[0]
    R, spread = residuals(layout, answers, step.round.request, step.candidate)
    implied = signals.price
    if signals.target is not None and signals.penalty is not None:
        implied = implied + signals.penalty * (signals.target - answers.y)
    active = state.block_active()
    drift = np.where(active, state.block_price() - implied, 0.0)
    weight = layout.pi * layout.weight[layout.entry]
    offers, requested = layout.totals(layout.mean(answers.y)), step.round.request.Z
    primal = np.sqrt(np.sum(state.setup.weight * R**2) + np.sum(weight * spread**2))
    dual = np.sqrt(np.sum(weight * drift**2))
    size = np.sqrt(max(np.sum(state.setup.weight * requested**2), np.sum(state.setup.weight * offers**2)))
    alone = np.where(layout.node[layout.entry] < 0, answers.y, 0.0)
    size = np.hypot(size, np.sqrt(np.sum(weight * alone**2)))
    level = np.sqrt(np.sum(weight * state.block_price() ** 2))
    return Iterate(
        k=step.round.k,
        mismatch=float(max(np.max(np.abs(R), initial=0.0), np.max(np.abs(spread), initial=0.0))),
        price_residual=float(np.max(np.abs(drift), initial=0.0)),
        primal_residual=float(primal),
        dual_residual=float(dual),
        primal_relative=float(primal / size) if size > 0 else float(primal > 0),
        dual_relative=float(dual / level) if level > 0 else float(dual > 0),
        check=step.round.check,
        certificate=certificate,
        elapsed_s=elapsed_s,
        primal_norm=float(size),
        dual_norm=float(level),
        primal_count=float(np.sum(state.setup.weight) + np.sum(weight)),
        dual_count=float(np.sum(weight)),
        enough=step.round.request.enough,
    )
