"""All blocks of a case, dealt out over the ranks: the root calls, the others serve.

Every exchange begins with a header from the root, so that all collectives meet in the same order whatever happens.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from decomp.blocks.interior.conversation import NAMES
from decomp.coordinator import Coordinator, Parts
from decomp.errors import AskedToStop, BlockError, CheckpointError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, IntArray, Key, Status
from decomp.parallel.distributed_coordinator import SpreadParts, gathered
from decomp.parallel.packing import Parcel, Share, unpack
from decomp.parallel.participation import RankParticipants, serve
from decomp.parallel.ranks import Ranks
from decomp.parallel.rebalancing import rebalanced
from decomp.parallel.serialization import decode, encode
from decomp.parallel.vocabulary import MESSAGES
from decomp.parallel.worker import (
    ACTIVE,
    ASIDE,
    CUT,
    EVALUATE,
    EXACT,
    GAP,
    KEEP,
    PENALISED,
    SKIPPED,
    SLOPES,
    SOLVE,
    Make,
    RankWorker,
)
from decomp.rules.base import UpdateRule

log = logging.getLogger(__name__)

# what comes after SOLVE and EVALUATE
STOP, BUILD, EXPLAIN, DETAIL, MARK, ROLL_BACK, SAVE, LOAD, ROAM, PARTS, MOVE, FINGERPRINT, PARTICIPATE = range(2, 15)
UNITS_A_RANK = 8  # from so many units a rank on, dealing whole units is even enough
OnFailure = Literal["stop", "hold"]


class BlockPool:
    """All blocks of a case, dealt out over the ranks. The root calls, the other ranks are in `serve`.

    Blocks are dealt round-robin in key order; answers are put back in key order before anything is summed, so a sum
    has the same bits on any number of ranks.
    """

    def __init__(
        self,
        ranks: Ranks,
        layout: Layout,
        make: Make,
        on_failure: OnFailure = "stop",
        owned: list[IntArray] | None = None,
        coordinator: Coordinator | None = None,
    ) -> None:
        self.ranks, self.layout, self.on_failure = ranks, layout, on_failure
        self.sensitivity = False  # on the root: ask the blocks for dy/dprice, too
        self.may_be_cut = False  # on the root: blocks not yet solved are left out when a rank is asked to stop
        self.owned = dealt(layout.keys, ranks.size) if owned is None else owned
        self._shares = [Share(layout, own) for own in self.owned]
        self._worker = RankWorker(ranks, layout, make, self._shares[ranks.rank])
        self._spread: SpreadParts | None = None
        if coordinator is not None and ranks.size > 1 and (coordinator.shares_work or len(coordinator.parts()) > 1):
            self._spread = SpreadParts(
                coordinator, ranks, layout, lambda *said: self._header(PARTS, *said), lambda: self.may_be_cut
            )
        self.good: Answers | None = None  # on the root: the last kept answers, failed blocks with their last good one
        self.failures: dict[str, str] = {}  # on the root: why blocks failed that a good answer stands in for
        self._told: set[str] = set()  # blocks whose first failure was told
        self.block_solves = 0
        self.solver_time_s = 0.0
        self.rebalance_every = 0  # on the root: rounds between two looks at how the blocks lie; 0 = they stay
        self._first_s: FloatArray | None = None  # (B,) what building a block and its first answer took
        self._spent_s: FloatArray = np.zeros(len(layout.keys))  # ..., and its answers of the rounds since the last look
        self._rounds = 0
        self._counted: tuple[Answers | None, int, float] = (None, 0, 0.0)

    def __enter__(self) -> BlockPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ranks.rank == 0:
            self._header(STOP)

    # -- the root's side ---------------------------------------------------------------------------------------------

    def build(self) -> frozenset[str]:
        """Build every block on its rank; returns the abilities that all of them have.

        Raises BlockError; AskedToStop when a rank was asked to stop before all blocks were built.
        """
        self._header(BUILD)
        found = self.ranks.gather_objects((self._worker.build(), self._worker.built_s)) or []
        failures = self._explained()
        if failures:
            raise BlockError(failures)
        if sum(len(seconds) for _, seconds in found) < len(self.layout.keys):
            raise AskedToStop
        for _, seconds in found:
            for b, taken in seconds.items():
                self._spent_s[b] = taken
        abilities = [a for a, _ in found if a is not None]
        return frozenset.intersection(*abilities) if abilities else frozenset()

    def fingerprints(self) -> tuple[str, ...]:
        """(B,) which data every block has; "" where it cannot tell."""
        self._header(FINGERPRINT)
        parts = self.ranks.gather_objects(self._worker.fingerprints()) or []
        found = {b: text for part in parts for b, text in part.items()}
        return tuple(found.get(b, "") for b in range(len(self.layout.keys)))

    def solve(self, signals: Signals, *, keep: bool = True, aside: bool = False) -> Answers:
        """Every block's answer to its signal. A failed block ends it (BlockError) or is held, see `on_failure`.

        keep = False: a sweep for a certificate; `detail` goes on speaking of the last kept answers. A block that is
        unbounded at the price has no bound there, which is an answer: it does not end the run.
        aside: the blocks' warm states are put back afterwards, as if the question had not been asked.
        Raises AskedToStop when a rank was asked to stop before all blocks were solved.
        """
        flags, columns = self.question(signals, keep=keep, aside=aside)
        self._header(SOLVE, flags, signals.id)
        answers = self._held(self._ask(SOLVE, columns, flags, signals.id), self._explained, sweep=not keep)
        if keep:
            self.good = answers
            self._spent_s += answers.solve_time
            self._rounds += 1
            if self._first_s is None:
                self._first_s, self._spent_s, self._rounds = self._spent_s, np.zeros_like(self._spent_s), 0
        return answers

    def question(self, signals: Signals, *, keep: bool, aside: bool) -> tuple[int, FloatArray]:
        """Flags and stacked columns (c, N) of a question."""
        flags = PENALISED * (signals.target is not None) + ACTIVE * (signals.active is not None)
        flags += EXACT * signals.exact + KEEP * keep + ASIDE * aside + SLOPES * self.sensitivity
        columns = [signals.price]
        if signals.target is not None and signals.penalty is not None:
            columns += [signals.target, signals.penalty]
        if signals.active is not None:
            columns += [signals.active.astype(float)]
        if signals.mip_gap is not None:
            flags += GAP
            columns += [np.full_like(signals.price, signals.mip_gap)]
        return flags + CUT * self.may_be_cut, np.stack(columns)

    def evaluate(self, y: FloatArray, *, keep: bool = True) -> Answers:
        """Every block's best answer with its coupling vector fixed at y (N,). A block without one has cost inf.

        Raises AskedToStop as `solve` does.
        """
        flags = KEEP * keep + CUT * self.may_be_cut
        self._header(EVALUATE, flags)
        return self._ask(EVALUATE, y[None, :], flags, 0)

    def parts_of(self, coordinator: Coordinator) -> Parts:
        """Who answers for the coordinator's parts: the ranks for the one they all have, else this process."""
        if self._spread is not None and self._spread.coordinator is coordinator:
            return self._spread
        return Parts(coordinator, lambda: self.may_be_cut and self.ranks.asked())

    def participants(self) -> RankParticipants:
        """The way to the blocks' own linear systems."""
        return RankParticipants(
            self.ranks, self.layout, self._worker.conversations, lambda: self._shares,
            lambda operation, numbers: self._header(PARTICIPATE, operation, numbers), self._systems_failed,
        )  # fmt: skip

    def _systems_failed(self) -> dict[str, str]:
        keys = self.layout.keys
        self._worker.texts = {str(keys[b]): why for b, why in self._worker.conversations.texts.items()}
        return self._explained()

    def _held(self, answers: Answers, explained: Callable[[], dict[str, str]], *, sweep: bool = False) -> Answers:
        """The answers with each failed block's last good one in its place, marked stale and without a bound.

        explained: why blocks failed, by name; sweep: only bounds are asked for, and being unbounded is no failure
        """
        failed = answers.status > Status.FEASIBLE
        if sweep:
            failed &= answers.status != Status.UNBOUNDED
        self.failures = explained() if failed.any() else {}
        if not failed.any():
            return answers
        good, layout = self.good, self.layout
        if self.on_failure == "stop" or good is None:
            raise BlockError(self.failures)
        for name in sorted(set(self.failures) - self._told):
            log.warning("block %s is held at its last good answer: %s", name, self.failures[name])
        self._told |= set(self.failures)
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

    def wait_for_all(self) -> None:
        """The next question is to be answered by all blocks; here every one is."""

    def refuse(self, rule: UpdateRule) -> None:
        """Raises RefusedError for a rule that cannot live with the answers of this fleet; here every one can."""

    # -- moments -----------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """This is a moment to come back to: the end of a complete round."""
        self._header(MARK)
        self._worker.mark()
        self._counted = (self.good, self.block_solves, self.solver_time_s)

    def roll_back(self) -> None:
        """Back to the last mark, as if nothing had been asked since."""
        self._header(ROLL_BACK)
        self._worker.roll_back()
        self.good, self.block_solves, self.solver_time_s = self._counted

    def rebalance(self) -> int:
        """Move blocks to other ranks where that pays, after a mark; the number of those that moved.

        Their warm states and last answers go with them, so no answer changes.
        """
        if not self.rebalance_every or self.ranks.size == 1 or self._rounds < self.rebalance_every:
            return 0
        assert self._first_s is not None
        each, rounds = self._spent_s / self._rounds, self._rounds
        self._spent_s, self._rounds = np.zeros_like(each), 0
        owner = rebalanced(self.owned, each, self._first_s, rounds)
        if owner is None:
            return 0
        before = max(float(each[own].sum()) for own in self.owned)
        moved = sum(int(np.sum(owner[own] != rank)) for rank, own in enumerate(self.owned))
        self._header(MOVE)
        trouble = self._move(owner)
        if trouble:
            log.warning("blocks stay where they are: %s", trouble)
            self.rebalance_every = 0
            return 0
        failures = self._explained()
        if failures:
            raise BlockError(failures)
        after = max(float(each[own].sum()) for own in self.owned)
        log.info("%d blocks moved: the busiest rank has %.3g s a round, it had %.3g s", moved, after, before)
        return moved

    def save(self, folder: Path) -> dict[str, str]:
        """Every rank writes its blocks' warm states into `folder`: SHA-256 by file name. Raises CheckpointError."""
        self._header(SAVE)
        told = self.ranks.gather_objects(self._worker.save(Path(self.ranks.agree(str(folder))))) or []
        troubles = [trouble for _, _, trouble in told if trouble]
        if troubles:
            raise CheckpointError("; ".join(troubles))
        missing = [name for name, _, _ in told if not (folder / name).exists()]
        if missing:
            raise CheckpointError(f"{folder} is not the same folder on all ranks: {', '.join(missing)} is not in it")
        return {name: digest for name, digest, _ in told}

    def load(self, folder: Path, names: Sequence[str], good: Answers) -> None:
        """Every rank takes up its blocks' warm states; good: the answers of the last round. Raises CheckpointError."""
        self._header(LOAD)
        place, files = self.ranks.agree((str(folder), list(names)))
        troubles = [t for t in self.ranks.gather_objects(self._worker.load(Path(place), files)) or [] if t]
        if troubles:
            raise CheckpointError("; ".join(troubles))
        self.good = good

    def detail(self) -> dict[Key, Mapping[str, FloatArray]]:
        """Every block's own series at its last kept answer."""
        self._header(DETAIL)
        parts = self.ranks.gather_objects(self._worker.detail()) or []
        return {key: series for part in parts for key, series in part.items()}

    def _ask(self, op: int, columns: FloatArray, flags: int, question: int) -> Answers:
        gathered = self._do_ask(op, [share.question(columns) for share in self._shares], flags, question)
        assert gathered is not None
        parcels = [
            Parcel(share, bool(flags & SLOPES), flat) for share, flat in zip(self._shares, gathered, strict=True)
        ]
        if any(np.any(parcel.tail[2] == SKIPPED) for parcel in parcels):
            raise AskedToStop
        answers = unpack(self.layout, parcels, question)
        self.block_solves += len(self.layout.keys)
        self.solver_time_s += max(float(answers.solve_time[own].sum()) for own in self.owned)
        return answers

    def _explained(self) -> dict[str, str]:
        self._header(EXPLAIN)
        texts = gathered(self.ranks, self._worker.texts, MESSAGES)
        assert texts is not None
        return dict(sorted((name, why) for part in texts for name, why in part.items()))

    def _header(self, op: int, flags: int = 0, question: int = 0) -> None:
        self.ranks.broadcast(np.array([op, flags, question], np.int64))

    # -- every rank's side -------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Answer the root until it says stop."""
        header, worker, gather = np.zeros(3, np.int64), self._worker, self.ranks.gather_objects
        while True:
            self.ranks.broadcast(header)
            op, flags, question = (int(x) for x in header)
            if op == STOP:
                return
            if op == BUILD:
                gather((worker.build(), worker.built_s))
            elif op == EXPLAIN:
                gathered(self.ranks, worker.texts, MESSAGES)
            elif op == DETAIL:
                gather(worker.detail())
            elif op == MARK:
                worker.mark()
            elif op == ROLL_BACK:
                worker.roll_back()
            elif op == SAVE:
                gather(worker.save(Path(self.ranks.agree(None))))
            elif op == FINGERPRINT:
                gather(worker.fingerprints())
            elif op == ROAM:
                self.roam()
            elif op == MOVE:
                self._move(np.empty(len(self.layout.keys), np.int64))
            elif op == PARTICIPATE:
                numbers, name = np.zeros(question // 2), NAMES[flags]
                serve(self.ranks, worker.conversations, self._shares, name, numbers, None, bool(question % 2))
                keys = self.layout.keys
                worker.texts = {str(keys[b]): why for b, why in worker.conversations.texts.items()}
            elif op == PARTS:
                assert self._spread is not None
                self._spread.serve(flags, question)
            elif op == LOAD:
                place, files = self.ranks.agree(None)
                gather(worker.load(Path(place), files))
            else:
                self._do_ask(op, None, flags, question)

    def _move(self, owner: IntArray) -> str:
        """Every block to its `owner` (B,), by way of the root; on the root what went wrong, if nothing has moved."""
        ranks, worker = self.ranks, self._worker
        ranks.broadcast(owner)
        found = gathered(ranks, worker.leaving(owner), MESSAGES)
        parts, lengths, trouble = None, np.zeros(ranks.size, np.int64), ""
        if found is not None:
            trouble = "; ".join(text for text, _ in found if text)
            states = sorted((state for _, each in found for state in each), key=lambda state: int(state[0]))
            if not trouble:
                parts = [encode([s for s in states if owner[s[0]] == rank], MESSAGES) for rank in range(ranks.size)]
                lengths = np.array([len(part) for part in parts], np.int64)
        ranks.broadcast(lengths)
        if lengths[0]:
            self.owned = [np.flatnonzero(owner == rank) for rank in range(ranks.size)]
            self._shares = [Share(self.layout, own) for own in self.owned]
            mine = decode(ranks.scatter(parts, int(lengths[ranks.rank])), MESSAGES)
            worker.take(mine, self._shares[ranks.rank])
        return trouble

    def roam(self) -> None:
        """Answer questions one by one, where a fleet can."""
        raise NotImplementedError

    def _do_ask(self, op: int, parts: list[FloatArray] | None, flags: int, question: int) -> list[FloatArray] | None:
        worker = self._worker
        asked = self.ranks.scatter(parts, len(worker.share.entries) * worker.columns(op, flags))
        mine = worker.ask(op, asked, flags, question)
        return self.ranks.gather(mine, [s.length(bool(flags & SLOPES)) for s in self._shares])


def dealt(keys: Sequence[Key], size: int) -> list[IntArray]:
    """Numbers of the blocks of each rank, in turn; whole units in turn where there are many for each rank.

    A unit's model and solver are then on one rank only. Where a block lies changes no result.
    """
    units = [key.unit for key in keys]
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    whole = len(number) >= UNITS_A_RANK * size
    place = np.array([number[unit] for unit in units] if whole else range(len(keys)), np.int64)
    return [np.flatnonzero(place % size == r) for r in range(size)]
