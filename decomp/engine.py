"""The loop. It reads like the paper: ask, answer, load flow, request, new prices, until the two sides agree."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from decomp.certificate import Certificate, CertificateSettings, Certifier
from decomp.coordinator import Coordinator, Warm, answer_all, check_all, evaluate_all
from decomp.coordinators import Nobody
from decomp.errors import RefusedError, TatonnementError
from decomp.fleet import Fleet, Make
from decomp.layout import Answers, Layout, Signals
from decomp.messages import Coupling, FloatArray, Key, Request
from decomp.ranks import Ranks, Serial
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.stopping import Iterate, RunStatus, Stop, StoppingCriterion, period
from decomp.subproblem import Subproblem
from decomp.trace import Result, Round, Row, UnitPrice

LIMITS = (RunStatus.ITERATION_LIMIT, RunStatus.TIME_LIMIT, RunStatus.DIVERGED)


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
) -> Result | None:
    """Coordinate the blocks by prices until a criterion stops; the Result on the root, None on the other ranks.

    subproblems  blocks by key, or a function that builds the block of a key on the rank that owns it
    coordinator  None: the scenarios of each unit only have to agree
    stop         criteria in order of preference; the first that speaks ends the run
    start_price  (n,) prices of round 0; None = the coordinator's neutral price

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
        recorder = _Recorder(layout, coordinator, fleet, callbacks)
        try:
            abilities = _accept(rule, fleet.build())
            fleet.sensitivity = "sensitivity" in rule.uses & abilities
            first = _first_state(layout, coordinator, rule, start_price, abilities)
            _loop(
                fleet, coordinator, rule, first, stop, limits, certificate or CertificateSettings(),
                abilities, recorder,
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
    recorder: _Recorder,
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
        if stop and certificate is None:
            certificate = proof()
            seen = replace(seen, certificate=certificate)
            better = _first(criteria, seen)
            stop = better if better and stop.status in LIMITS else (_certified(criteria, seen) or stop)
        if stop and certificate and certificate.revised and stop.status not in LIMITS:
            stop = None  # an exact solve found better integer decisions: go on with those
        recorder.add(step, seen, certificate, stop)
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
    R, spread = _residuals(layout, answers, step.round.request, step.candidate)
    implied = signals.price
    if signals.target is not None and signals.penalty is not None:
        implied = implied + signals.penalty * (signals.target - answers.y)
    active = state.block_active()
    drift = np.where(active, state.block_price() - implied, 0.0)
    weight = layout.weight[layout.entry]
    return Iterate(
        k=step.round.k,
        mismatch=float(max(np.max(np.abs(R), initial=0.0), np.max(np.abs(spread), initial=0.0))),
        price_residual=float(np.max(np.abs(drift), initial=0.0)),
        primal_residual=float(
            np.sqrt(np.sum(state.setup.weight * R**2) + np.sum(layout.pi * weight * spread**2)),
        ),
        dual_residual=float(np.sqrt(np.sum(layout.pi * weight * drift**2))),
        check=step.round.check,
        certificate=certificate,
        elapsed_s=elapsed_s,
    )


def _residuals(
    layout: Layout, answers: Answers, request: Request, candidate: Candidate | None
) -> tuple[FloatArray, FloatArray]:
    """R (n,) and ybar - y (N,): of the round, or of the rule's own primal point where it keeps one."""
    if candidate is not None and candidate.mismatch is not None:
        alone = np.where(layout.node < 0, candidate.mismatch, 0.0)
        return layout.totals(candidate.mismatch), layout.to_blocks(alone)
    ybar = layout.mean(answers.y)
    return np.where(request.active, request.Z - layout.totals(ybar), 0.0), layout.to_blocks(ybar) - answers.y


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


def _accept(rule: UpdateRule, abilities: frozenset[str]) -> frozenset[str]:
    missing = sorted(rule.needs - abilities)
    if missing:
        raise RefusedError(
            f"rule {type(rule).__name__} needs blocks with {', '.join(missing)}, which not all blocks of this case "
            "declare; a rule that needs nothing but answers to a price is dual_ascent"
        )
    return abilities


class _Recorder:
    """Collects what the result needs, and tells the callbacks."""

    def __init__(
        self, layout: Layout, coordinator: Coordinator, fleet: Fleet, callbacks: Sequence[Callable[[Row], None]]
    ) -> None:
        self.layout, self.coordinator, self.fleet, self.callbacks = layout, coordinator, fleet, callbacks
        self.rows: list[Row] = []
        self.prices: list[FloatArray] = []
        self.visited: deque[FloatArray] = deque(maxlen=24)  # what the detection of cycles looks at
        self.initial: Round | None = None
        self.final: Round | None = None
        self.certificate: Certificate | None = None
        self.stop = Stop("the run did not come to an end", RunStatus.FAILED)
        self._began = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    def add(self, step: Step, seen: Iterate, certificate: Certificate | None, stop: Stop | None) -> None:
        said = step.round
        self.initial = self.initial or said
        self.final, self.certificate = said, certificate or self.certificate
        self.prices.append(said.node_price)
        self.stop = stop or self.stop
        row = Row(
            round=said.k,
            worst=said.check.worst,
            worst_at=said.check.where,
            violation=said.check.violation,
            mismatch=seen.mismatch,
            mismatch_at=self._worst_entry(step),
            primal_residual=seen.primal_residual,
            dual_residual=seen.dual_residual,
            price_residual=seen.price_residual,
            cost=said.answers.expected_cost(),
            lower_bound=certificate.lower_bound if certificate else None,
            upper_bound=certificate.upper_bound if certificate else None,
            gap=certificate.gap if certificate else None,
            gap_coordination=certificate.gap_coordination if certificate else None,
            block_solves=self.fleet.block_solves,
            unit_prices=tuple(self._unit_prices(said)),
            wall_time_s=self.elapsed_s,
            solver_time_s=self.fleet.solver_time_s,
        )
        self.rows.append(row)
        for tell in self.callbacks:
            tell(row)

    def _worst_entry(self, step: Step) -> str:
        R, spread = _residuals(self.layout, step.round.answers, step.round.request, step.candidate)
        worst_R, worst_spread = np.max(np.abs(R), initial=0.0), np.max(np.abs(spread), initial=0.0)
        if max(worst_R, worst_spread) == 0:
            return ""
        if worst_R >= worst_spread:
            return self.coordinator.nodes[int(np.argmax(np.abs(R)))]
        return self.layout.entry_name(int(self.layout.entry[np.argmax(np.abs(spread))]))

    def _unit_prices(self, said: Round) -> Iterable[UnitPrice]:
        first = 0
        neutral = self.layout.to_units(np.asarray(self.coordinator.neutral))
        price = self.layout.to_units(said.node_price)
        for c in self.layout.couplings:
            at = slice(first, first + len(c.entries))
            worst = int(np.argmax(np.abs(price[at] - neutral[at])))
            yield UnitPrice(c.unit, c.entries[worst], float(price[at][worst]))
            first += len(c.entries)

    def result(self, size: int) -> Result:
        """The final point: the recovered one if it is certified, else the offers of the last round."""
        stop, final, certificate = self.stop, self.final, self.certificate
        answers, request, check, price = None, None, None, None
        if final is not None:
            answers, check, price = final.answers, final.check, final.node_price
            certified = stop.status in (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)
            if certificate is not None and (certified or certificate.recovered == "offers"):
                answers, request, check = certificate.answers, certificate.request, certificate.check
                price = certificate.price if certified else price
                if certified and certificate.recovered == "request":
                    self.fleet.evaluate(answers.y, keep=True)
            elif stop.status != RunStatus.FAILED:
                offers = self.layout.totals(self.layout.mean(answers.y))
                request = evaluate_all(self.coordinator, offers, answers.reports())
        return Result(
            status=stop.status,
            reason=stop.reason,
            layout=self.layout,
            coordinator=self.coordinator,
            rows=tuple(self.rows),
            prices=tuple(self.prices),
            initial=self.initial,
            final=final,
            answers=answers,
            request=request,
            check=check,
            price=price,
            certificate=certificate,
            details=self.fleet.detail() if final is not None and stop.status != RunStatus.FAILED else {},
            block_solves=self.fleet.block_solves,
            wall_time_s=self.elapsed_s,
            solver_time_s=self.fleet.solver_time_s,
            ranks=size,
        )
