"""Rounds that do not wait for everybody: the root goes on when a share of the blocks has answered.

    round k ends when  |{b : answered_b = k}| >= wait B  and  answered_b >= k - max_stale for all b

The others are represented by their last answers; a block that has fallen behind skips the questions it has missed.
With wait = 1 every answer is of the round, and a run is the synchronous one bit for bit. Below that it depends on
measured time: it cannot be repeated. Asynchronous ADMM with a partial barrier: Zhang and Kwok (2014).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from decomp.errors import AskedToStop, RefusedError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, IntArray
from decomp.parallel.block_pool import BlockPool, Counts, dealt
from decomp.parallel.failures import OnFailure
from decomp.parallel.packing import Parcel, Share, unpack
from decomp.parallel.rank_blocks import Make
from decomp.parallel.ranks import Ranks
from decomp.parallel.serialization import decode, encode
from decomp.parallel.vocabulary import MESSAGES
from decomp.parallel.worker import SLOPES, SOLVE
from decomp.rules.base import UpdateRule

NAP_S = 2e-4
COME_IN = -1.0  # to a worker: back to the collectives; from a worker: nothing of mine is under way


@dataclass(frozen=True)
class AsynchronousSettings:
    """The [asynchronous] table; without it rounds are synchronous.

    wait       a round ends when this share of the blocks has answered its question; 1 = all, and the run is the
               synchronous one bit for bit
    max_stale  no answer may be older than so many rounds: then the round waits for it
    damping    factor on every move of the prices, see the rule `damped`; 1 = none. Small shares need it
    """

    wait: float
    max_stale: int = 5
    damping: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.wait <= 1:
            raise ValueError("wait is a share of the blocks: above 0, at most 1")
        if self.max_stale < 1:
            raise ValueError("max_stale must be at least 1 round")
        if not 0 < self.damping <= 1:
            raise ValueError("damping is a factor: above 0, at most 1")


class AsynchronousBlockPool(BlockPool):
    """A block pool whose root solves the coordinator's parts and no blocks, and whose answers may be some rounds old.

    Everything else (a sweep for a certificate, an evaluation, a checkpoint) calls the workers in first: each ends the
    block it is solving, and the collectives go on as ever.
    """

    def __init__(
        self, ranks: Ranks, layout: Layout, make: Make, on_failure: OnFailure, settings: AsynchronousSettings
    ) -> None:
        if ranks.size < 2:
            raise RefusedError("[asynchronous] needs at least 2 ranks, of which the root solves no blocks")
        blocks = len(layout.keys)
        owned = [np.zeros(0, np.int64), *dealt(layout.keys, ranks.size - 1)]
        super().__init__(ranks, layout, make, on_failure, owned=owned)
        self.settings = settings
        self._enough = int(np.ceil(settings.wait * blocks - 1e-9))
        self._single = [Share(layout, np.array([b])) for b in range(blocks)]
        self._parcels: list[Parcel | None] = [None] * blocks
        self._why: dict[str, str] = {}  # what the blocks said whose newest answer is none
        self._answered = np.full(blocks, -1)  # number of the question each block has answered last
        self._question = -1
        self._roaming = False
        self._complete = False

    @property
    def exact(self) -> bool:
        """Is the run the synchronous one?"""
        return self.settings.wait == 1.0

    def refuse(self, rule: UpdateRule) -> None:
        """Raises RefusedError for a rule that cannot live with answers of several rounds."""
        beyond = sorted(rule.needs & {"bound", "sensitivity"})
        if beyond and not self.exact:
            raise RefusedError(
                f"rule {type(rule).__name__} builds on {', '.join(beyond)} of answers to one price; with "
                "asynchronous.wait below 1 answers are of several: use admm or dual_ascent, or wait = 1"
            )

    def rebalance(self) -> bool:
        return False  # a rank with costly blocks is late with them, and nobody waits

    def wait_for_all(self) -> None:
        self._complete = True

    def solve(self, signals: Signals, *, keep: bool = True, aside: bool = False) -> Answers:
        if not keep or aside:
            return super().solve(signals, keep=keep, aside=aside)
        flags, columns = self.question(signals, keep=True, aside=False)
        if not self._roaming:
            self._transport.call("roam")
            self._roaming = True
        self._question += 1
        for r in range(1, self.ranks.size):
            asked = self._shares[r].question(columns)
            self.ranks.send(r, np.concatenate([[self._question, flags, signals.id], asked]))
        self._listen()
        late = self._answered < self._question
        sensitivity = bool(flags & SLOPES)
        answers = unpack(self.layout, [p for p in self._parcels if p is not None], signals.id)
        busiest_s = self._balance.busiest_s(np.where(late, 0.0, answers.solve_time))
        self.counts = Counts(self.counts.block_solves, self.counts.solver_time_s + busiest_s)
        answers = replace(
            answers,
            bound=np.where(late, np.nan, answers.bound),
            revised=answers.revised & ~late,
            sensitivity=answers.sensitivity if sensitivity else None,
            late=late if late.any() else None,
        )
        self.failed.good = self.failed.settled(answers, lambda: dict(sorted(self._why.items())))
        return self.failed.good

    def mark(self) -> None:
        if self.exact:
            super().mark()
        else:  # blocks that are under way have no moment in common
            self._marked = (self.failed.good, self.counts)

    def roll_back(self) -> None:
        if self.exact:
            super().roll_back()
        else:
            self.failed.good, self.counts = self._marked

    def _listen(self) -> None:
        oldest = 0 if self._complete else self.settings.max_stale
        enough = len(self._answered) if self._complete else self._enough
        self._complete = False
        while True:
            self._take_all()
            fresh = int(np.sum(self._answered == self._question))
            if fresh >= enough and np.all(self._answered >= max(self._question - oldest, 0)):
                return
            if self._interruptible and self.ranks.asked():
                raise AskedToStop
            time.sleep(NAP_S)

    def _take_all(self) -> int:
        """Take what has arrived; how many workers have come in."""
        came_in = 0
        while (mail := self.ranks.mail()) is not None:
            if mail[1][0] == COME_IN:
                came_in += 1
                continue
            number, b, sensitivity = (int(x) for x in mail[1][:3])
            end = 3 + self._single[b].length(bool(sensitivity))
            self._parcels[b] = Parcel(self._single[b], bool(sensitivity), mail[1][3:end])
            self._answered[b] = number
            name = str(self.layout.keys[b])
            self._why.pop(name, None)
            if len(mail[1]) > end:
                self._why[name] = decode(mail[1][end:], MESSAGES)
            self.counts = Counts(self.counts.block_solves + 1, self.counts.solver_time_s)
        return came_in

    def _gather_in(self) -> None:
        """Ahead of every call: the workers end the block they are solving and come back to the collectives."""
        if self._roaming:
            missing = self.ranks.size - 1
            for r in range(1, self.ranks.size):
                self.ranks.send(r, np.array([COME_IN]))
            while missing:
                missing -= self._take_all()
                self.ranks.asked()
                time.sleep(NAP_S)
            self._roaming = False

    # -- a worker's side ---------------------------------------------------------------------------------------------

    def _roam(self, flags: int, number: int, given: object) -> None:
        """Answer the newest question, the block that has waited longest first, until called in; the root goes on."""
        if self.ranks.rank:
            self._answer_until_called()

    def _answer_until_called(self) -> None:
        worker, mine = self._worker, self.owned[self.ranks.rank].tolist()
        starts = worker.share.start.tolist()
        answered: IntArray = np.full(len(mine), -1)
        newest: FloatArray | None = None
        worker.texts = {}
        while True:
            while (mail := self.ranks.mail()) is not None:
                if mail[1][0] == COME_IN:
                    self.ranks.send(0, np.array([COME_IN]))
                    return
                newest = mail[1]
            if newest is None or not len(mine) or answered.min() == newest[0]:
                self.ranks.asked()  # a signal that came to this rank has to reach the root
                time.sleep(NAP_S)
                continue
            i = int(np.argmin(answered))
            number, flags, name = (int(x) for x in newest[:3])
            columns = newest[3:].reshape(worker.columns(SOLVE, flags), -1)
            response = worker.answer(mine[i], SOLVE, columns[:, starts[i] : starts[i + 1]], flags, name)
            parcel = Parcel(self._single[mine[i]], bool(flags & SLOPES))
            parcel.put(0, response)
            answered[i] = number
            head = np.array([number, mine[i], float(bool(flags & SLOPES))])
            why = worker.texts.get(str(self.layout.keys[mine[i]]), "")
            self.ranks.send(0, np.concatenate([head, parcel.flat, encode(why, MESSAGES) if why else np.zeros(0)]))
