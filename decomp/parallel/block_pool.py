"""All blocks of a case, dealt out over the ranks: the root calls, the others serve."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from decomp.blocks.interior.conversation import NAMES
from decomp.coordinator import Coordinator, Parts
from decomp.errors import AskedToStop, BlockError, CheckpointError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, IntArray, Key
from decomp.parallel.distributed_coordinator import SpreadParts, gathered
from decomp.parallel.failures import FailurePolicy, OnFailure
from decomp.parallel.packing import Parcel, Share, unpack
from decomp.parallel.participation import RankParticipants, exchange
from decomp.parallel.rank_blocks import Make
from decomp.parallel.ranks import Ranks
from decomp.parallel.rebalancing import Balance
from decomp.parallel.serialization import decode, encode
from decomp.parallel.transport import Transport
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
    RankWorker,
)
from decomp.rules.base import UpdateRule

log = logging.getLogger(__name__)

UNITS_A_RANK = 8  # from so many units a rank on, dealing whole units is even enough


class Counts(NamedTuple):
    """What the blocks have done so far: their solves, and the solver time of the busiest rank of each round, summed."""

    block_solves: int = 0
    solver_time_s: float = 0.0


class BlockPool:
    """All blocks of a case, dealt out over the ranks. The root calls, the other ranks are in `serve`.

    Blocks are dealt round-robin in key order; answers are put back in key order before anything is summed, so a sum
    has the same bits on any number of ranks.

    on_failure       what a block without an answer does to the run, see FailurePolicy
    rebalance_every  rounds between two looks at how the blocks lie; 0 = they stay
    owned            numbers of the blocks of each rank; None = dealt out
    """

    def __init__(
        self,
        ranks: Ranks,
        layout: Layout,
        make: Make,
        on_failure: OnFailure = "stop",
        rebalance_every: int = 0,
        coordinator: Coordinator | None = None,
        owned: Sequence[IntArray] | None = None,
    ) -> None:
        self.ranks, self.layout = ranks, layout
        self.counts = Counts()
        self.failed = FailurePolicy(on_failure)
        self._balance = Balance(
            dealt(layout.keys, ranks.size) if owned is None else owned, len(layout.keys), rebalance_every
        )
        self._interruptible = self._slopes = False
        self._shares = [Share(layout, own) for own in self.owned]
        self._worker = RankWorker(ranks, layout, make, self._shares[ranks.rank])
        # the one table of what the root may call: each function runs on every rank
        self._transport = Transport(
            ranks,
            {
                "build": self._build, "explain": self._explain, "fingerprints": self._fingerprints,
                "solve": self._solve, "evaluate": self._evaluate, "detail": self._detail, "mark": self._mark,
                "roll_back": self._roll_back, "save": self._save, "load": self._load, "move": self._move,
                "participate": self._participate, "parts": self._parts, "roam": self._roam,
            },
            self._gather_in,
        )  # fmt: skip
        self._spread: SpreadParts | None = None
        if coordinator is not None and ranks.size > 1 and (coordinator.shares_work or len(coordinator.parts()) > 1):
            self._spread = SpreadParts(
                coordinator, ranks, layout, lambda *given: self._transport.call("parts", *given), self._may_be_cut
            )
        self._marked: tuple[Answers | None, Counts] = (None, self.counts)

    def __enter__(self) -> BlockPool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ranks.rank == 0:
            self._transport.stop()

    def serve(self) -> None:
        """On the other ranks: answer the root until it says stop."""
        self._transport.serve()

    @property
    def owned(self) -> Sequence[IntArray]:
        """Numbers of the blocks of each rank."""
        return self._balance.owned

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """In here blocks not yet solved are left out when a rank is asked to stop (AskedToStop)."""
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def build(self, uses: Container[str] = ()) -> frozenset[str]:
        """Build every block on its rank; returns the abilities that all of them have.

        From then on blocks are asked for dy/dprice, too, where `uses` names "sensitivity" and all of them have it.
        Raises BlockError; AskedToStop when a rank was asked to stop before all blocks were built.
        """
        found = self._transport.call("build") or []
        failures = self._explained()
        if failures:
            raise BlockError(failures)
        if sum(len(seconds) for _, seconds in found) < len(self.layout.keys):
            raise AskedToStop
        for _, seconds in found:
            self._balance.built(seconds)
        each = [a for a, _ in found if a is not None]
        abilities = frozenset.intersection(*each) if each else frozenset()
        self._slopes = "sensitivity" in uses and "sensitivity" in abilities
        return abilities

    def fingerprints(self) -> tuple[str, ...]:
        """(B,) which data every block has; "" where it cannot tell."""
        found = {b: text for part in self._transport.call("fingerprints") or [] for b, text in part.items()}
        return tuple(found.get(b, "") for b in range(len(self.layout.keys)))

    def solve(self, signals: Signals, *, keep: bool = True, aside: bool = False) -> Answers:
        """Every block's answer to its signal. A failed block ends it (BlockError) or is represented, see `on_failure`.

        keep = False: a sweep for a certificate; `detail` goes on speaking of the last kept answers. A block that is
        unbounded at the price has no bound there, which is an answer: it does not end the run.
        aside: the blocks' warm states are put back afterwards, as if the question had not been asked.
        Raises AskedToStop when a rank was asked to stop before all blocks were solved.
        """
        flags, columns = self.question(signals, keep=keep, aside=aside)
        answers = self.failed.settled(
            self._answers("solve", columns, flags, signals.id), self._explained, sweep=not keep
        )
        if keep:
            self.failed.good = answers
            self._balance.answered(answers.solve_time)
        return answers

    def question(self, signals: Signals, *, keep: bool, aside: bool) -> tuple[int, FloatArray]:
        """Flags and stacked columns (c, N) of a question."""
        flags = PENALISED * (signals.target is not None) + ACTIVE * (signals.active is not None)
        flags += EXACT * signals.exact + KEEP * keep + ASIDE * aside + SLOPES * self._slopes
        columns = [signals.price]
        if signals.target is not None and signals.penalty is not None:
            columns += [signals.target, signals.penalty]
        if signals.active is not None:
            columns += [signals.active.astype(float)]
        if signals.mip_gap is not None:
            flags += GAP
            columns += [np.full_like(signals.price, signals.mip_gap)]
        return flags + CUT * self._interruptible, np.stack(columns)

    def evaluate(self, y: FloatArray, *, keep: bool = True) -> Answers:
        """Every block's best answer with its coupling vector fixed at y (N,). A block without one has cost inf.

        Raises AskedToStop as `solve` does.
        """
        return self._answers("evaluate", y[None, :], KEEP * keep + CUT * self._interruptible, 0)

    def reasons(self) -> dict[str, str]:
        """Why blocks had no answer to the last question, by name."""
        return self._explained()

    def parts_of(self, coordinator: Coordinator) -> Parts:
        """Who answers for the coordinator's parts: the ranks for the one they all have, else this process."""
        if self._spread is not None and self._spread.coordinator is coordinator:
            return self._spread
        return Parts(coordinator, lambda: self._interruptible and self.ranks.asked())

    def participants(self) -> RankParticipants:
        """The way to the blocks' own linear systems."""
        return RankParticipants(
            self.layout, lambda: self._shares, lambda *given: self._transport.call("participate", *given),
            self._explained,
        )  # fmt: skip

    def wait_for_all(self) -> None:
        """The next question is to be answered by all blocks; here every one is."""

    def refuse(self, rule: UpdateRule) -> None:
        """Raises RefusedError for a rule that cannot live with the answers of this pool; here every one can."""

    def mark(self) -> None:
        """This is a moment to come back to: the end of a complete round."""
        self._transport.call("mark")
        self._marked = (self.failed.good, self.counts)

    def roll_back(self) -> None:
        """Back to the last mark, as if nothing had been asked since."""
        self._transport.call("roll_back")
        self.failed.good, self.counts = self._marked

    def rebalance(self) -> bool:
        """Move blocks to other ranks where that pays, after a mark; have any moved?

        Their warm states and last answers go with them, so no answer changes.
        """
        found = self._balance.moves()
        if found is None:
            return False
        owner, text = found
        trouble = self._transport.call("move", given=owner)
        if trouble:
            log.warning("blocks stay where they are: %s", trouble)
            self._balance.every = 0
            return False
        failures = self._explained()
        if failures:
            raise BlockError(failures)
        log.info("%s", text)
        return True

    def save(self, folder: Path) -> dict[str, str]:
        """Every rank writes its blocks' warm states into `folder`: SHA-256 by file name. Raises CheckpointError."""
        found = self._transport.call("save", given=str(folder)) or []
        troubles = [trouble for _, _, trouble in found if trouble]
        if troubles:
            raise CheckpointError("; ".join(troubles))
        missing = [name for name, _, _ in found if not (folder / name).exists()]
        if missing:
            raise CheckpointError(f"{folder} is not the same folder on all ranks: {', '.join(missing)} is not in it")
        return {name: digest for name, digest, _ in found}

    def load(self, folder: Path, names: Sequence[str], good: Answers) -> None:
        """Every rank loads its blocks' warm states; good: the answers of the last round. Raises CheckpointError."""
        troubles = [t for t in self._transport.call("load", given=(str(folder), list(names))) or [] if t]
        if troubles:
            raise CheckpointError("; ".join(troubles))
        self.failed.good = good

    def detail(self) -> dict[Key, Mapping[str, FloatArray]]:
        """Every block's own series at its last kept answer."""
        parts = self._transport.call("detail") or []
        return {key: series for part in parts for key, series in part.items()}

    def _may_be_cut(self) -> bool:
        return self._interruptible

    def _answers(self, name: str, columns: FloatArray, flags: int, question: int) -> Answers:
        found = self._transport.call(name, flags, question, [share.question(columns) for share in self._shares])
        parcels = [Parcel(share, bool(flags & SLOPES), flat) for share, flat in zip(self._shares, found, strict=True)]
        if any(np.any(parcel.tail[2] == SKIPPED) for parcel in parcels):
            raise AskedToStop
        answers = unpack(self.layout, parcels, question)
        solves, seconds = self.counts
        self.counts = Counts(solves + len(self.layout.keys), seconds + self._balance.busiest_s(answers.solve_time))
        return answers

    def _explained(self) -> dict[str, str]:
        texts = self._transport.call("explain")
        return dict(sorted((name, why) for part in texts for name, why in part.items()))

    def _gather_in(self) -> None:
        """Ahead of every call: all ranks are in `serve`; here they always are."""

    # -- operations: on every rank; given: what only the root has ----------------------------------------------------

    def _build(self, flags: int, number: int, given: Any) -> Any:
        return self.ranks.gather_objects((self._worker.build(), self._worker.blocks.built_s))

    def _explain(self, flags: int, number: int, given: Any) -> Any:
        return gathered(self.ranks, self._worker.texts, MESSAGES)

    def _fingerprints(self, flags: int, number: int, given: Any) -> Any:
        return self.ranks.gather_objects(self._worker.blocks.fingerprints())

    def _solve(self, flags: int, number: int, given: Any) -> Any:
        return self._scattered(SOLVE, flags, number, given)

    def _evaluate(self, flags: int, number: int, given: Any) -> Any:
        return self._scattered(EVALUATE, flags, number, given)

    def _scattered(self, op: int, flags: int, question: int, parts: list[FloatArray] | None) -> Any:
        worker = self._worker
        asked = self.ranks.scatter(parts, len(worker.share.entries) * worker.columns(op, flags))
        mine = worker.ask(op, asked, flags, question)
        return self.ranks.gather(mine, [s.length(bool(flags & SLOPES)) for s in self._shares])

    def _detail(self, flags: int, number: int, given: Any) -> Any:
        return self.ranks.gather_objects(self._worker.blocks.detail())

    def _mark(self, flags: int, number: int, given: Any) -> None:
        self._worker.blocks.mark()

    def _roll_back(self, flags: int, number: int, given: Any) -> None:
        self._worker.blocks.roll_back()

    def _save(self, flags: int, number: int, given: str | None) -> Any:
        return self.ranks.gather_objects(self._worker.blocks.save(Path(self.ranks.agree(given))))

    def _load(self, flags: int, number: int, given: tuple[str, list[str]] | None) -> Any:
        place, files = self.ranks.agree(given)
        return self.ranks.gather_objects(self._worker.blocks.load(Path(place), files))

    def _participate(self, flags: int, number: int, given: Any) -> Any:
        """An operation on the blocks' own systems: flags its number, number 2 x values for all + values of entries."""
        numbers, parts = given or (np.zeros(number // 2), None)
        found = exchange(
            self.ranks, self._worker.blocks.conversations, self._shares, NAMES[flags], numbers, parts, bool(number % 2)
        )
        self._worker.explain_systems()
        return found

    def _parts(self, flags: int, number: int, given: Any) -> Any:
        assert self._spread is not None
        return self._spread.exchange(flags, number, given)

    def _move(self, flags: int, number: int, given: IntArray | None) -> str:
        """Every block to its owner (B,), by way of the root; on the root what went wrong, if nothing has moved."""
        ranks, worker = self.ranks, self._worker
        owner = np.empty(len(self.layout.keys), np.int64) if given is None else given
        ranks.broadcast(owner)
        found = gathered(ranks, worker.blocks.leaving(owner), MESSAGES)
        parts, lengths, trouble = None, np.zeros(ranks.size, np.int64), ""
        if found is not None:
            trouble = "; ".join(text for text, _ in found if text)
            states = sorted((state for _, each in found for state in each), key=lambda state: int(state[0]))
            if not trouble:
                parts = [encode([s for s in states if owner[s[0]] == rank], MESSAGES) for rank in range(ranks.size)]
                lengths = np.array([len(part) for part in parts], np.int64)
        ranks.broadcast(lengths)
        if lengths[0]:
            self._balance.owned = [np.flatnonzero(owner == rank) for rank in range(ranks.size)]
            self._shares = [Share(self.layout, own) for own in self.owned]
            mine = decode(ranks.scatter(parts, int(lengths[ranks.rank])), MESSAGES)
            worker.take(mine, self._shares[ranks.rank])
        return trouble

    def _roam(self, flags: int, number: int, given: Any) -> None:
        """Answer questions one by one, where a pool does."""
        raise NotImplementedError


def dealt(keys: Sequence[Key], size: int) -> list[IntArray]:
    """Numbers of the blocks of each rank, in turn; whole units in turn where there are many for each rank.

    A unit's model and solver are then on one rank only. Where a block lies changes no result.
    """
    units = [key.unit for key in keys]
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    whole = len(number) >= UNITS_A_RANK * size
    place = np.array([number[unit] for unit in units] if whole else range(len(keys)), np.int64)
    return [np.flatnonzero(place % size == r) for r in range(size)]
