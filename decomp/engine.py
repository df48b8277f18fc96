"""The loop. It reads like the paper: ask, answer, load flow, request, new prices, until the two sides agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from decomp.certificate import Certificate, CertificateSettings, Certifier
from decomp.coordinator import Coordinator, Warm, answer_all, check_all
from decomp.coordinators import Nobody
from decomp.errors import RefusedError, TatonnementError
from decomp.fleet import Fleet, Make
from decomp.layout import Answers, Layout, Signals
from decomp.messages import Coupling, FloatArray, Key
from decomp.ranks import Ranks, Serial
from decomp.recorder import Recorder, residuals
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.stopping import Iterate, RunStatus, Stop, StoppingCriterion, period
from decomp.subproblem import Subproblem
from decomp.trace import Result, Round, Row

LIMITS = (RunStatus.ITERATION_LIMIT, RunStatus.TIME_LIMIT, RunStatus.DIVERGED, RunStatus.INTERRUPTED)


@dataclass(frozen=True)
class Limits:
    """When a run ends without success: after so many rounds, or seconds (None = no limit)."""

    max_rounds: int
    time_limit_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError("max_rounds must be at least 1")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise ValueError("time_limit_s must be positive")


class Step(NamedTuple):
    """What one round leaves: the state for the next, and everything that was said."""

    state: State
    warm: tuple[Warm, ...]
    round: Round
    signals: tuple[Signals, ...]
    answers: tuple[Answers, ...]
    candidate: Candidate | None


def run(
    subproblems: Mapping[Key, Subproblem] | Make,
    coordinator: Coordinator | None,
    rule: UpdateRule,
    *,
    coupling: Iterable[Coupling],
    stop: Sequence[StoppingCriterion],
    limits: Limits,
    certificate: CertificateSettings | None = None,
    ranks: Ranks | None = None,
    callbacks: Sequence[Callable[[Row], None]] = (),
    start_price: FloatArray | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Result | None:
    """Coordinate the blocks by prices until a criterion stops; the Result on the root, None on the other ranks.

    subproblems  blocks by key, or a function that builds the block of a key on the rank that owns it
    coordinator  None: the scenarios of each unit only have to agree
    stop         criteria in order of preference; the first that speaks ends the run
    start_price  (n,) prices of round 0; None = the coordinator's neutral price
    interrupted  asked on the root at the end of every round: True ends the run

    Blocks without an answer, a coordinator without an answer and a bound that is none end the run as `failed`, with
    everything computed so far in the result. Raises RefusedError before round 0 when the rule needs what the case
    cannot give.
    """
    coordinator = coordinator or Nobody()
    ranks = ranks or Serial()
    make: Make = subproblems.__getitem__ if isinstance(subproblems, Mapping) else subproblems
    layout = Layout.of(coupling, len(coordinator.nodes))
    fleet = Fleet(ranks, layout, make)
    if ranks.rank:
        fleet.serve()
        return None
    with fleet:
        recorder = Recorder(layout, coordinator, fleet, callbacks)
        try:
            abilities = _accept(rule, fleet.build(), coordinator)
            fleet.sensitivity = "sensitivity" in rule.uses & abilities
            first = _first_state(layout, coordinator, rule, start_price, abilities)
            _loop(
                fleet, coordinator, rule, first, stop, limits, certificate or CertificateSettings(),
                abilities, recorder, interrupted,
            )  # fmt: skip
        except RefusedError:
            raise
        except TatonnementError as error:
            recorder.stop = Stop(str(error), RunStatus.FAILED)
        return recorder.result(ranks.size)


def iterate(
    k: int, fleet: Fleet, coordinator: Coordinator, rule: UpdateRule, state: State, warm: tuple[Warm, ...]
) -> Step:
    """One round: ask the blocks, check the limits at their offers, ask the coordinator, move the prices."""
    signals = rule.ask(k, state)
    answers = tuple(fleet.solve(s) for s in signals)
    query = rule.query(k, state, answers)
    reports = answers[0].reports()
    offers = state.setup.layout.totals(state.setup.layout.mean(answers[0].y))
    check = check_all(coordinator, offers, reports)
    request, warm = answer_all(coordinator, query, reports, warm)
    after, candidate = rule.update(k, state, answers, request)
    said = Round(k, state.price, signals[0].price, answers[0], request, check)
    return Step(after, warm, said, signals, answers, candidate)


def _loop(
    fleet: Fleet,
    coordinator: Coordinator,
    rule: UpdateRule,
    state: State,
    criteria: Sequence[StoppingCriterion],
    limits: Limits,
    settings: CertificateSettings,
    abilities: frozenset[str],
    recorder: Recorder,
    interrupted: Callable[[], bool],
) -> None:
    warm: tuple[Warm, ...] = (None,) * len(coordinator.parts())
    certifier = Certifier(fleet, coordinator, abilities, settings.bounds)
    for k in range(limits.max_rounds):
        step = iterate(k, fleet, coordinator, rule, state, warm)
        state, warm = step.state, step.warm

        def proof(step: Step = step) -> Certificate:
            return certifier.certify(step.state, step.signals, step.answers, step.round, step.candidate, step.warm)

        certificate = proof() if settings.every and (k + 1) % settings.every == 0 else None
        seen = _look(step, certificate, recorder.elapsed_s)
        recorder.visited.append(np.concatenate([step.round.block_price, step.round.answers.y]))
        stop = _first(criteria, seen) or _limit(k, limits, seen) or _circling(recorder.visited)
        if interrupted() and stop is None:
            stop = Stop("a signal asked to stop", RunStatus.INTERRUPTED)
        if stop and certificate is None:
            certificate = proof()
            seen = replace(seen, certificate=certificate)
            better = _first(criteria, seen)
            stop = better if better and stop.status in LIMITS else (_certified(criteria, seen) or stop)
        if stop and certificate and certificate.revised and stop.status not in LIMITS:
            stop = None  # an exact solve found better integer decisions: go on with those
        recorder.add(step.round, step.candidate, seen, certificate, stop)
        if stop:
            return


def _first(criteria: Sequence[StoppingCriterion], seen: Iterate) -> Stop | None:
    return next((stop for criterion in criteria if (stop := criterion(seen))), None)


def _certified(criteria: Sequence[StoppingCriterion], seen: Iterate) -> Stop | None:
    stops = [stop for criterion in criteria if (stop := criterion(seen))]
    return next((s for s in stops if s.status in (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)), None)


def _limit(k: int, limits: Limits, seen: Iterate) -> Stop | None:
    if not np.isfinite(seen.primal_residual + seen.dual_residual):
        return Stop(f"the prices or the mismatch of round {k} are not finite", RunStatus.DIVERGED)
    if limits.time_limit_s is not None and seen.elapsed_s > limits.time_limit_s:
        return Stop(f"{limits.time_limit_s:g} s are over", RunStatus.TIME_LIMIT)
    if k + 1 == limits.max_rounds:
        return Stop(f"{limits.max_rounds} rounds are over", RunStatus.ITERATION_LIMIT)
    return None


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


def _look(step: Step, certificate: Certificate | None, elapsed_s: float) -> Iterate:
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
    )


def _first_state(
    layout: Layout,
    coordinator: Coordinator,
    rule: UpdateRule,
    start_price: FloatArray | None,
    abilities: frozenset[str],
) -> State:
    setup = Setup.of(layout, coordinator, start_price, abilities)
    at = layout.node >= 0
    wrong = np.flatnonzero(at)[layout.weight[at] != setup.weight[layout.node[at]]]
    if len(wrong):
        names = ", ".join(layout.entry_name(int(i)) for i in wrong[:5])
        raise RefusedError(f"these entries do not have the weight of their node: {names}; use dt (h) for both")
    try:
        return rule.init(setup)
    except ValueError as error:
        raise RefusedError(f"rule {type(rule).__name__}: {error}") from error


def _accept(rule: UpdateRule, abilities: frozenset[str], coordinator: Coordinator) -> frozenset[str]:
    lacking = sorted(rule.needs_of_coordinator - coordinator.abilities)
    if lacking:
        raise RefusedError(
            f"rule {type(rule).__name__} needs a coordinator with {', '.join(lacking)}, which "
            f"{type(coordinator).__name__} does not declare; a rule that needs only its answers is admm"
        )
    missing = sorted(rule.needs - abilities)
    if missing:
        raise RefusedError(
            f"rule {type(rule).__name__} needs blocks with {', '.join(missing)}, which not all blocks of this case "
            "declare; a rule that needs nothing but answers to a price is dual_ascent"
        )
    return abilities
