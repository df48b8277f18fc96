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
from decomp.messages import Coupling, FloatArray, Key
from decomp.parallel.asynchronous import AsynchronousBlockPool, AsynchronousSettings
from decomp.parallel.block_pool import BlockPool, Make, OnFailure
from decomp.parallel.ranks import Ranks, Serial
from decomp.rules.base import Setup, State, UpdateRule
from decomp.rules.wrappers import Damped
from decomp.run.certificate import Certificate, CertificateSettings, Certifier
from decomp.run.checkpointed_run import Progress, RoundTransaction
from decomp.run.convergence import RoundRecord, at_limit, certified, first, look, sketch
from decomp.run.recorder import Recorder
from decomp.run.result import Result, Round, Row
from decomp.run.result_files import GrowingFiles
from decomp.run.stopping import Iterate, RunStatus, Stop, StoppingCriterion
from decomp.storage.checkpoint import Checkpoint, Keeper
from decomp.storage.stored_columns import StoredColumns
from decomp.subproblem import Subproblem

log = logging.getLogger(__name__)

_NO_COLUMNS = (
    "rule {} keeps no columns, which [start] columns and [run] columns are about; bundle and dantzig_wolfe do. "
    "[start] prices takes the prices of an earlier run under any rule"
)
LIMITS = (RunStatus.ITERATION_LIMIT, RunStatus.DIVERGED)
PROVEN = (RunStatus.CERTIFIED, RunStatus.CERTIFIED_LINEARISED)


@dataclass(frozen=True)
class Limits:
    """When a run ends without success: after so many rounds, or seconds (None = no limit).

    rebalance_every  after so many rounds blocks may move to ranks that are less busy, by the time they have taken; 0 =
                they stay. Nothing but the time depends on it
    schedules   every block's own series are in the result; without them a run of very many blocks ends much sooner
    """

    max_rounds: int
    time_limit_s: float | None = None
    schedules: bool = True
    rebalance_every: int = 0

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError("max_rounds must be at least 1")
        if self.rebalance_every < 0:
            raise ValueError("rebalance_every must be 0 (blocks stay where they are) or a number of rounds")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise ValueError("time_limit_s must be positive")


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
    ranks: Ranks | None = None,
    callbacks: Sequence[Callable[[Row], None]] = (),
    start_price: FloatArray | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    on_failure: OnFailure = "stop",
    files: GrowingFiles | None = None,
    keeper: Keeper | None = None,
    resume: Checkpoint | None = None,
    asynchronous: AsynchronousSettings | None = None,
    earlier: StoredColumns | None = None,
    keep_columns: bool = False,
) -> Generator[Round, None, Result | None]:
    """Coordinate the blocks by prices: yields every complete round on the root, returns the Result there.

    On the other ranks it yields nothing, serves the root until the end, and returns None.

    subproblems  blocks by key, or a function that builds the block of a key on the rank that owns it
    coordinator  None: the scenarios of each unit only have to agree
    stop         criteria in order of preference; the first that speaks ends the run
    start_price  (n,) prices of round 0; None = the coordinator's neutral price
    interrupted  asked on every rank between blocks and while it waits: True on any of them ends the run, as the time
                 limit does; a round that is not complete is thrown away
    on_failure   "stop": a block without an answer ends the run. "hold": its last good answer stands in, marked stale;
                 until it answers again nothing is proven, and no criterion ends the run
    files        grow a round at a time; on the root
    keeper       writes checkpoints; on the root
    resume       where to go on; on the root
    asynchronous rounds end when a share of the blocks has answered; None = all of them
    earlier      what another run has left of blocks with the same data; the rule must keep columns
    keep_columns leave as much for another run

    Blocks without an answer, a coordinator without an answer and a bound that is none end the run as `failed`, with
    everything computed so far in the result. Raises RefusedError before round 0 when the rule needs what the case
    cannot give, CheckpointError when the run cannot go on from `resume`.
    """
    coordinator = coordinator or Nobody()
    ranks = ranks or Serial()
    make: Make = subproblems.__getitem__ if isinstance(subproblems, Mapping) else subproblems
    layout = Layout.of(coupling, len(coordinator.nodes))
    block_pool = BlockPool(ranks, layout, make, on_failure, coordinator=coordinator)
    if asynchronous is not None:
        block_pool = AsynchronousBlockPool(ranks, layout, make, on_failure, asynchronous)
        rule = rule if asynchronous.damping == 1 else Damped(rule, asynchronous.damping)
    if ranks.rank:
        ranks.watch(interrupted)
        block_pool.serve()
        return None
    with block_pool:
        recorder = Recorder(layout, coordinator, block_pool, callbacks, files, schedules=limits.schedules)
        limit_s = limits.time_limit_s
        transaction: RoundTransaction | None = None

        def late() -> bool:
            return limit_s is not None and recorder.spent_s > limit_s

        def asked_to_stop() -> Stop | None:
            if late():
                return Stop(f"{limit_s:g} s are over", RunStatus.TIME_LIMIT)
            return Stop("a signal asked to stop", RunStatus.INTERRUPTED) if ranks.asked() else None

        def cut() -> Stop:
            return asked_to_stop() or Stop("a rank was asked to stop", RunStatus.INTERRUPTED)

        ranks.watch(lambda: interrupted() or late())
        try:
            abilities = _accept(rule, block_pool.build(), coordinator)
            block_pool.refuse(rule)
            block_pool.rebalance_every = limits.rebalance_every
            block_pool.sensitivity = "sensitivity" in rule.uses & abilities
            held = None
            if earlier is not None:
                held, told = earlier.fitted(layout, block_pool.fingerprints())
                log.info("begins with %s", told)
            given = Setup.of(layout, coordinator, start_price, abilities, held, block_pool.participants())
            state = _first_state(given, rule)
            if state.held() is None and (earlier is not None or keep_columns):
                raise RefusedError(_NO_COLUMNS.format(type(rule).__name__))
            settings = certificate or CertificateSettings()
            certifier = Certifier(block_pool, coordinator, abilities, settings.bounds)
            begin = Progress(0, state, (None,) * len(coordinator.parts()), certifier.memory)
            transaction = RoundTransaction(begin, rule, block_pool, recorder, keeper)
            if resume is not None:
                transaction.take_up(resume, certifier, limits.max_rounds)
            block_pool.may_be_cut = True
            try:
                yield from _loop(
                    coordinator, rule, transaction, stop, limits.max_rounds, settings, certifier, asked_to_stop
                )
            except AskedToStop:
                ended = cut()
                transaction.cut_short(ended.reason, ended.status)
            except TatonnementError as error:
                transaction.cut_short(str(error), RunStatus.FAILED)
            block_pool.may_be_cut = False
        except (RefusedError, CheckpointError):
            raise
        except AskedToStop:  # before all blocks were built
            recorder.stop = cut()
        except TatonnementError as error:
            recorder.stop = Stop(str(error), RunStatus.FAILED)
        if resume is not None and not recorder.rows:
            still = f"the run has not been taken up, and is as it was after round {resume.rounds - 1}"
            recorder.stop = replace(recorder.stop, reason=f"{recorder.stop.reason}; {still}")
        result = recorder.result(ranks.size)
        return replace(result, earlier=_left(transaction, coordinator)) if keep_columns and transaction else result


run = _to_the_end(rounds)


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
    asked_to_stop: Callable[[], Stop | None],
) -> Iterator[Round]:
    block_pool, recorder = transaction.block_pool, transaction.recorder
    for k in range(transaction.progress.k, max_rounds):
        step = iterate(k, block_pool, coordinator, rule, transaction.progress.state, transaction.progress.warm)

        def proof(step: RoundRecord = step) -> Certificate:
            return certifier.certify(step.state, step.signals, step.answers, step.round, step.candidate, step.warm)

        stale = step.stale  # while an answer is, nothing is proven and nothing has succeeded
        certificate = proof() if settings.every and (k + 1) % settings.every == 0 and not stale else None
        seen = look(step, certificate, recorder.elapsed_s)
        point = sketch(np.concatenate([step.round.block_price, step.round.answers.y]))
        met = None if stale else first(criteria, seen)
        if met and step.late:
            met = None  # said of answers to several prices; the next round tells
            block_pool.wait_for_all()
        limit = at_limit(k, max_rounds, seen, () if stale or step.late else [*recorder.visited, point])
        if met and certificate is None:
            certificate = proof()
            seen = replace(seen, certificate=certificate)
            met = certified(criteria, seen) or met
        if met and met.status not in PROVEN and certificate and certificate.revised:
            met = None  # an exact solve found better integer decisions: go on with those, unless all is proven
        stop = met or limit or asked_to_stop()
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
            for name, why in transaction.block_pool.failures.items()
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
