"""The loop. It reads like the paper: ask, answer, load flow, request, new prices, until the two sides agree."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec

import numpy as np

from decomp.coordinator import Coordinator, Warm
from decomp.coordinators import Nobody
from decomp.errors import AskedToStop, CheckpointError, RefusedError, TatonnementError
from decomp.layout import Layout
from decomp.messages import Coupling, Key
from decomp.parallel.asynchronous import AsynchronousBlockPool
from decomp.parallel.block_pool import BlockPool, Make
from decomp.parallel.ranks import Ranks, Serial
from decomp.rules.base import Setup, State, UpdateRule
from decomp.rules.wrappers import Damped
from decomp.run.certificate import Certificate, CertificateSettings, Certifier
from decomp.run.checkpointed_run import Progress, RoundTransaction
from decomp.run.convergence import RoundRecord, at_limit, certified, first, look, sketch
from decomp.run.options import Execution, Limits, Output, Start
from decomp.run.recorder import Recorder
from decomp.run.result import Result, Round
from decomp.run.stopping import Iterate, RunStatus, Stop, StoppingCriterion
from decomp.storage.stored_columns import StoredColumns
from decomp.subproblem import Subproblem

log = logging.getLogger(__name__)

_NO_COLUMNS = (
    "rule {} keeps no columns, which [start] columns and [run] columns are about; bundle and dantzig_wolfe do. "
    "[start] prices takes the prices of an earlier run under any rule"
)
LIMITS = (RunStatus.ITERATION_LIMIT, RunStatus.DIVERGED)
PROVEN = (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)

P = ParamSpec("P")


def _to_the_end(steps: Callable[P, Generator[Round, None, Result | None]]) -> Callable[P, Result | None]:
    """What the generator returns when all its rounds are over."""

    @functools.wraps(steps)
    def run(*arguments: P.args, **named: P.kwargs) -> Result | None:
        generator = steps(*arguments, **named)
        while True:
            try:
                next(generator)
            except StopIteration as ended:
                found: Result | None = ended.value
                return found

    return run


def rounds(
    subproblems: Mapping[Key, Subproblem] | Make,
    coordinator: Coordinator | None,
    rule: UpdateRule,
    *,
    coupling: Iterable[Coupling],
    stop: Sequence[StoppingCriterion],
    limits: Limits,
    certificate: CertificateSettings | None = None,
    start: Start | None = None,
    execution: Execution | None = None,
    output: Output | None = None,
) -> Generator[Round, None, Result | None]:
    """Coordinate the blocks by prices: yields every complete round on the root, returns the Result there.

    On the other ranks it yields nothing, serves the root until the end, and returns None.

    subproblems  blocks by key, or a function that builds the block of a key on the rank that owns it
    coordinator  None: the scenarios of each unit only have to agree
    stop         criteria in order of preference; the first that speaks ends the run
    certificate  when bounds are proven; None = at the end only
    start, execution, output  where the run begins, where it is computed, what it leaves; see decomp.run.options

    Blocks without an answer, a coordinator without an answer and a bound that is none end the run as `failed`, with
    everything computed so far in the result. Raises RefusedError before round 0 when the rule needs what the case
    cannot give, CheckpointError when the run cannot go on from its checkpoint.
    """
    coordinator, start = coordinator or Nobody(), start or Start()
    execution, output = execution or Execution(), output or Output()
    ranks = execution.ranks or Serial()
    layout = Layout.of(coupling, len(coordinator.nodes))
    make: Make = subproblems.__getitem__ if isinstance(subproblems, Mapping) else subproblems
    block_pool, rule = _pool(ranks, layout, make, coordinator, rule, limits, execution)
    if ranks.rank:
        ranks.watch(execution.interrupted)
        block_pool.serve()
        return None
    with block_pool:
        recorder = Recorder(layout, coordinator, block_pool, output.callbacks, output.files, schedules=limits.schedules)
        clock = _Clock(ranks, recorder, limits.time_limit_s)
        ranks.watch(lambda: execution.interrupted() or clock.late())
        transaction: RoundTransaction | None = None
        try:
            settings = certificate or CertificateSettings()
            transaction, certifier = _begin(block_pool, coordinator, rule, recorder, settings, start, output)
            if start.checkpoint is not None:
                transaction.resume(start.checkpoint, certifier, limits.max_rounds)
            with block_pool.interruptible():
                yield from _loop(coordinator, rule, transaction, stop, limits.max_rounds, settings, certifier, clock)
        except (RefusedError, CheckpointError):
            raise
        except (AskedToStop, TatonnementError) as error:
            ended = clock.cut() if isinstance(error, AskedToStop) else Stop(str(error), RunStatus.FAILED)
            recorder.stop = ended if transaction is None else transaction.cut_short(ended)
        if start.checkpoint is not None and not recorder.rows:
            still = f"the run has not gone on, and is as it was after round {start.checkpoint.rounds - 1}"
            recorder.stop = replace(recorder.stop, reason=f"{recorder.stop.reason}; {still}")
        result = recorder.result(ranks.size)
        return replace(result, columns=_left(transaction, coordinator)) if output.columns and transaction else result


run = _to_the_end(rounds)


@dataclass(frozen=True, eq=False)
class _Clock:
    """Whether the run has been asked to stop, by a signal on any rank or by the time it may take."""

    ranks: Ranks
    recorder: Recorder
    limit_s: float | None

    def late(self) -> bool:
        return self.limit_s is not None and self.recorder.spent_s > self.limit_s

    def asked_to_stop(self) -> Stop | None:
        if self.late():
            return Stop(f"{self.limit_s:g} s are over", RunStatus.TIME_LIMIT)
        return Stop("a signal asked to stop", RunStatus.INTERRUPTED) if self.ranks.asked() else None

    def cut(self) -> Stop:
        return self.asked_to_stop() or Stop("a rank was asked to stop", RunStatus.INTERRUPTED)


def _pool(
    ranks: Ranks,
    layout: Layout,
    make: Make,
    coordinator: Coordinator,
    rule: UpdateRule,
    limits: Limits,
    execution: Execution,
) -> tuple[BlockPool, UpdateRule]:
    """The blocks over the ranks, and the rule with the damping that asynchronous rounds ask for."""
    apart = execution.asynchronous
    if apart is None:
        return BlockPool(ranks, layout, make, limits.on_failure, limits.rebalance_every, coordinator), rule
    damped = rule if apart.damping == 1 else Damped(rule, apart.damping)
    return AsynchronousBlockPool(ranks, layout, make, limits.on_failure, apart), damped


def _begin(
    block_pool: BlockPool,
    coordinator: Coordinator,
    rule: UpdateRule,
    recorder: Recorder,
    settings: CertificateSettings,
    start: Start,
    output: Output,
) -> tuple[RoundTransaction, Certifier]:
    """Build the blocks, and what the first round begins with. Raises RefusedError."""
    abilities = block_pool.build(rule.uses)
    _accept(rule, abilities, coordinator)
    block_pool.refuse(rule)
    stored = None
    if start.columns is not None:
        stored, text = start.columns.fitted(block_pool.layout, block_pool.fingerprints())
        log.info("begins with %s", text)
    setup = Setup.of(block_pool.layout, coordinator, start.price, abilities, stored, block_pool.participants())
    block_pool.failed.unbounded_goes_on = rule.goes_on_unbounded(setup)
    state = _first_state(setup, rule)
    if state.held() is None and (start.columns is not None or output.columns):
        raise RefusedError(_NO_COLUMNS.format(type(rule).__name__))
    certifier = Certifier(block_pool, coordinator, abilities, settings.bounds)
    progress = Progress(0, state, (None,) * len(coordinator.parts()), certifier.memory)
    return RoundTransaction(progress, rule, block_pool, recorder, output.keeper), certifier


def iterate(
    k: int, block_pool: BlockPool, coordinator: Coordinator, rule: UpdateRule, state: State, warm: tuple[Warm, ...]
) -> RoundRecord:
    """One round: ask the blocks, check the limits at their offers, ask the coordinator, move the prices."""
    signals = rule.ask(k, state)
    answers = tuple(block_pool.solve(s, keep=not i) for i, s in enumerate(signals))
    query = rule.query(k, state, answers)
    reports = answers[0].reports()
    offers = state.setup.layout.totals(state.setup.layout.mean(answers[0].y))
    parts = block_pool.parts_of(coordinator)
    check = parts.check(offers, reports)
    request, warm = parts.answer(query, reports, warm)
    after, candidate = rule.update(k, state, answers, request)
    said = Round(k, state.price, signals[0].price, answers[0], request, check)
    return RoundRecord(after, warm, said, signals, answers, candidate)


def _loop(
    coordinator: Coordinator,
    rule: UpdateRule,
    transaction: RoundTransaction,
    criteria: Sequence[StoppingCriterion],
    max_rounds: int,
    settings: CertificateSettings,
    certifier: Certifier,
    clock: _Clock,
) -> Iterator[Round]:
    block_pool, recorder = transaction.block_pool, transaction.recorder
    for k in range(transaction.progress.k, max_rounds):
        step = iterate(k, block_pool, coordinator, rule, transaction.progress.state, transaction.progress.warm)

        last = recorder.final  # the round before this one

        def proof(step: RoundRecord = step, last: Round | None = last) -> Certificate:
            return certifier.certify(
                step.state, step.signals, step.answers, step.round, step.candidate, step.warm, last
            )

        stale = step.stale  # while an answer is, nothing is proven and nothing has succeeded
        certificate = proof() if settings.every and (k + 1) % settings.every == 0 and not stale else None
        seen = look(step, certificate, recorder.elapsed_s)
        point = sketch(np.concatenate([step.round.block_price, step.round.answers.y]))
        met = None if stale else certified(criteria, seen) or first(criteria, seen)
        if met and step.late:
            met = None  # said of answers to several prices; the next round tells
            block_pool.wait_for_all()
        limit = at_limit(k, max_rounds, seen, () if stale or step.late else [*recorder.visited, point])
        if met and certificate is None:
            certificate = proof()
            seen = replace(seen, certificate=certificate)
            met = certified(criteria, seen) or (first(criteria, seen) if met.unsure else met)
        if met and met.status not in PROVEN and certificate and certificate.revised:
            met = None  # an exact solve found better integer decisions: go on with those, unless all is proven
        stop = met or limit or clock.asked_to_stop()
        recorder.visited.append(point)
        recorder.add(step.round, step.state.w, step.candidate, seen, certificate, stale)
        transaction.complete(Progress(k + 1, step.state, step.warm, certifier.memory))
        if stop is None:
            transaction.save_if_due()
        elif stop is not met:
            stop = _without_success(stop, transaction, proof, criteria, seen, stale)
        recorder.publish()
        if stop:
            recorder.stop = stop
        yield step.round
        if stop:
            return


def _without_success(
    stop: Stop,
    transaction: RoundTransaction,
    proof: Callable[[], Certificate],
    criteria: Sequence[StoppingCriterion],
    seen: Iterate,
    stale: Sequence[Key],
) -> Stop:
    """The end at a limit: saved before anything is proven, so that the run can go on as if it had not ended here."""
    trouble = transaction.save() if stop.status != RunStatus.DIVERGED else ""
    if stale and stop.status in LIMITS:
        told = "; ".join(
            f"block {name} has not answered since round {transaction.recorder.stale_since[name]}: {why}"
            for name, why in transaction.block_pool.failed.failures.items()
        )
        return Stop(f"{stop.reason}, and {told}", RunStatus.FAILED)
    if stop.status in LIMITS and seen.certificate is None and not stale:
        try:
            certificate = proof()
        except AskedToStop:
            return replace(stop, reason=f"{stop.reason}; asked to stop before anything was proven")
        transaction.recorder.prove(certificate)
        stop = first(criteria, replace(seen, certificate=certificate)) or stop
    return replace(stop, reason="; ".join(filter(None, (stop.reason, trouble))))


def _left(transaction: RoundTransaction, coordinator: Coordinator) -> StoredColumns | None:
    """What another run may begin with; None where no round was complete."""
    held = transaction.progress.state.held()
    if held is None or not transaction.progress.k:
        return None
    return StoredColumns.of(
        transaction.block_pool.layout, coordinator.nodes, transaction.block_pool.fingerprints(), held
    )


def _first_state(setup: Setup, rule: UpdateRule) -> State:
    layout = setup.layout
    at = layout.node >= 0
    wrong = np.flatnonzero(at)[layout.weight[at] != setup.weight[layout.node[at]]]
    if len(wrong):
        names = ", ".join(layout.entry_name(int(i)) for i in wrong[:5])
        raise RefusedError(f"these entries do not have the weight of their node: {names}; use dt (h) for both")
    try:
        return rule.init(setup)
    except ValueError as error:
        raise RefusedError(f"rule {type(rule).__name__}: {error}") from error


def _accept(rule: UpdateRule, abilities: frozenset[str], coordinator: Coordinator) -> None:
    """Raises RefusedError where coordinator or blocks cannot give what the rule needs."""
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
