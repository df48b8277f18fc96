"""The coordinator's independent parts (hours), each asked on one of the ranks, and their work in rows on all of them.

A part's answer depends on the part, the question, the reports and the warm value alone, so it is the same on whichever
rank it is found; answers are put back in order of parts before anything is summed. The parts go on together, from one
piece of work to the next; where there are few of them, every piece (the flows of an hour, a scenario each) is cut over
the ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from decomp.coordinator import Coordinator, Parts, Reports
from decomp.errors import AskedToStop, CoordinatorError, TatonnementError
from decomp.layout import Layout
from decomp.messages import BoolArray, FloatArray, IntArray, Request
from decomp.parallel.ranks import Ranks
from decomp.parallel.row_tasks import Found, Steps, Work, joined
from decomp.parallel.serialization import decode, encode
from decomp.parallel.vocabulary import Vocabulary

NEW_REPORTS, MAY_BE_CUT = 1, 2  # flags of a question to the parts
WHOLE = 4  # pieces of work for each rank from which on none is cut: whole ones are dealt out evenly enough


class SpreadParts(Parts):
    """Every part on one of the ranks. The root asks, the others are in `serve`.

    Parts with a need are the dear ones: they are dealt out first, so that they lie on different ranks. What has been
    reported travels as one stretch of floats, and only where it has changed.

    call        runs `exchange` on all ranks: the question's flags and length, and on the root the question
    may_be_cut  may parts be left out when a rank is asked to stop?
    """

    def __init__(
        self,
        coordinator: Coordinator,
        ranks: Ranks,
        layout: Layout,
        call: Callable[[int, int, FloatArray], list[Any]],
        may_be_cut: Callable[[], bool],
    ) -> None:
        super().__init__(coordinator, lambda: may_be_cut() and ranks.asked())
        self.may_be_cut = may_be_cut
        self.ranks, self.layout, self._call = ranks, layout, call
        self._needed: BoolArray = np.zeros(len(self.rows), bool)
        self._flat: FloatArray = np.zeros(0)
        self._reports: Reports = {}
        self._known = False  # nothing has been reported yet
        self._vocabulary = Vocabulary.of(coordinator, Work, Request)

    def _heard(self, requests: Sequence[Request]) -> None:
        self._needed = np.array([bool(np.any(request.active)) for request in requests])

    def _each(self, what: str, questions: list[tuple[Any, ...]], reports: Reports) -> list[Any]:
        owner = shared_out(self._needed, self.ranks.size)
        message = encode((what, owner, questions), self._vocabulary)
        new = self._learn(reports)
        told = self._call(NEW_REPORTS * new + MAY_BE_CUT * self.may_be_cut(), len(message), message)
        found: dict[int, tuple[str, Any]] = {part: (kind, value) for each in told for part, kind, value in each}
        for part in range(len(questions)):
            kind, value = found.get(part, ("skipped", None))
            if kind == "skipped":
                raise AskedToStop
            if kind == "failed":
                raise CoordinatorError(value)
        return [found[part][1] for part in range(len(questions))]

    def exchange(self, flags: int, length: int, given: FloatArray | None) -> list[Any] | None:
        """A question for every rank's parts: what all ranks answer, on the root; given: the question, on the root."""
        message = np.empty(length) if given is None else given
        self.ranks.broadcast(message)
        if flags & NEW_REPORTS:
            if given is None:
                self._flat = np.empty(int(self.layout.report_start[-1]))
            self.ranks.broadcast(self._flat)
            self._reports = self._by_key(self._flat) if given is None else self._reports
        what, owner, questions = decode(message, self._vocabulary)
        asked = self.ranks.asked if flags & MAY_BE_CUT else lambda: False
        return gathered(self.ranks, self._own(what, owner, questions, asked), self._vocabulary)

    def _learn(self, reports: Reports) -> bool:
        """Take the reports up, unless they are the last ones again; are they new?"""
        if self._known and reports is self._reports:
            return False
        flat = np.concatenate([np.zeros(0), *(reports[key] for key in self.layout.keys)])
        if self._known and np.array_equal(flat, self._flat):
            return False
        self._flat, self._reports, self._known = flat, self._by_key(flat), True
        return True

    def _by_key(self, flat: FloatArray) -> Reports:
        start = self.layout.report_start.tolist()
        return {key: flat[start[b] : start[b + 1]] for b, key in enumerate(self.layout.keys)}

    def _own(
        self, what: str, owner: IntArray, questions: list[tuple[Any, ...]], asked: Callable[[], bool]
    ) -> list[tuple[int, str, Any]]:
        """This rank's answers. All ranks take the same turns: what is missing was skipped."""
        told: list[tuple[int, str, Any]] = []
        steps: dict[int, Steps[Any]] = {}
        wanted: dict[int, Work] = {}

        def go_on(part: int, found: Found | None) -> None:
            wanted.pop(part, None)
            try:
                wanted[part] = next(steps[part]) if found is None else steps[part].send(found)
            except StopIteration as end:
                told.append((part, "found", end.value))
            except TatonnementError as error:
                told.append((part, "failed", str(error)))

        mine = np.flatnonzero(owner == self.ranks.rank).tolist()
        for part in mine:
            if asked():
                break
            steps[part] = self.coordinator.steps(what, part, questions[part], self._reports)
            go_on(part, None)
        while True:
            counts = self.ranks.share(np.array([float(len(wanted)), float(asked())]))
            open_, stop = np.sum(counts, axis=0)
            if stop or not open_:
                return told
            if open_ < WHOLE * self.ranks.size:
                for part, found in self._together(wanted).items():
                    go_on(part, found)
                continue
            for part, work in list(wanted.items()):
                if asked():
                    break
                go_on(part, self.coordinator.do(work))

    def _together(self, wanted: dict[int, Work]) -> dict[int, Found]:
        """What was found for this rank's parts, every rank having done a stretch of every piece of work."""
        rank, size = self.ranks.rank, self.ranks.size
        told = shared(self.ranks, list(wanted.items()), self._vocabulary)
        every: list[tuple[int, Work]] = [each for theirs in told for each in theirs]
        done = []
        for i, (_, work) in enumerate(every):
            # the longer stretches of several pieces of work lie on different ranks
            begin, end = ((work.length * turn) // size for turn in ((rank + i) % size, (rank + i) % size + 1))
            done.append(self.coordinator.do(work.stretch(begin, end)) if end > begin else None)
        stretches = shared(self.ranks, done, self._vocabulary)
        found: dict[int, Found] = {}
        for i, (part, _) in enumerate(every):
            if part in wanted:
                in_order = [stretches[(turn - i) % size][i] for turn in range(size)]
                found[part] = joined([stretch for stretch in in_order if stretch is not None])
        return found


def shared(ranks: Ranks, value: Any, vocabulary: Vocabulary) -> list[Any]:
    """Every rank's plain data, on all of them; without pickles."""
    return [decode(message, vocabulary) for message in ranks.share(encode(value, vocabulary))]


def gathered(ranks: Ranks, value: Any, vocabulary: Vocabulary) -> list[Any] | None:
    """Every rank's plain data, on the root; without pickles."""
    message = encode(value, vocabulary)
    lengths = ranks.gather(np.array([float(len(message))]), [1] * ranks.size)
    messages = ranks.gather(message, [] if lengths is None else [int(n[0]) for n in lengths])
    return None if messages is None else [decode(m, vocabulary) for m in messages]


def shared_out(needed: BoolArray, size: int) -> IntArray:
    """(P,) the rank of each part: those with a need first, one rank after the other, the root last."""
    order = np.argsort(~needed, kind="stable")
    owner: IntArray = np.empty(len(needed), np.int64)
    owner[order] = size - 1 - np.arange(len(needed)) % size
    return owner
