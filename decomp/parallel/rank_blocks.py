"""The blocks of one rank as objects: built, marked, saved, moved to another rank."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from decomp.errors import TatonnementError
from decomp.layout import Layout
from decomp.messages import FloatArray, IntArray, Key, Response
from decomp.parallel.packing import Share
from decomp.parallel.participation import Conversations
from decomp.parallel.serialization import encode
from decomp.parallel.vocabulary import MESSAGES
from decomp.storage.checkpoint import read_arrays, write_arrays
from decomp.storage.warm_states import packed, unpacked
from decomp.subproblem import Arrays, Subproblem

log = logging.getLogger(__name__)

Make = Callable[[Key], Subproblem]
Moving = tuple[int, Arrays | None, Response | None]  # number, warm state, last kept answer


class RankBlocks:
    """The blocks of this rank by number, their last kept answers, and the moment to go back to.

    mine     numbers of the blocks, ascending
    built_s  what building each of them took
    """

    def __init__(self, rank: int, layout: Layout, make: Make, share: Share) -> None:
        self.rank, self.layout, self._make = rank, layout, make
        self.mine: list[int] = share.blocks.tolist()
        self.of: dict[int, Subproblem] = {}
        self.conversations = Conversations(self.of)
        self.built_s: dict[int, float] = {}
        self._last: dict[int, tuple[Sequence[Response], int]] = {}  # answers to several blocks, and which of them
        self._marked: tuple[dict[int, Any], dict[int, tuple[Sequence[Response], int]], dict[int, Any]] = ({}, {}, {})

    def __getitem__(self, b: int) -> Subproblem:
        return self.of[b]

    def build(self, b: int) -> str:
        """Build block number b; why it cannot be used, or ""."""
        key, began = self.layout.keys[b], time.perf_counter()
        try:
            block = self.of[b] = self._make(key)
            return block.refusal()
        except TatonnementError as error:
            return str(error)
        except (Exception, SystemExit) as error:
            log.debug("building block %s", key, exc_info=True)
            return f"could not be built: {type(error).__name__}: {error}"
        finally:
            self.built_s[b] = time.perf_counter() - began

    def keep(self, b: int, answers: Sequence[Response], i: int = 0) -> None:
        """The i-th of `answers` is what `detail` speaks of."""
        self._last[b] = answers, i

    def fingerprints(self) -> dict[int, str]:
        """Which data each block has, in hexadecimal digits, by number; without those that cannot tell."""
        found: dict[int, str] = {}
        for b, block in self.of.items():
            try:
                digest = block.fingerprint()
            except (Exception, SystemExit):  # what is wrong with it the block says when it is solved
                log.debug("fingerprint of block %s", self.layout.keys[b], exc_info=True)
                continue
            if digest is not None:
                found[b] = digest.hex()
        return found

    def mark(self) -> None:
        """This is the moment to come back to."""
        marks = {b: block.mark() for b, block in self.of.items()}
        self._marked = (marks, dict(self._last), self.conversations.mark())

    def roll_back(self) -> None:
        """Back to the last mark, as if nothing had been asked since."""
        marks, last, conversations = self._marked
        self.conversations.reset(conversations)
        for b, mark in marks.items():
            self.of[b].reset(mark)
        self._last = dict(last)

    def save(self, folder: Path) -> tuple[str, str, str]:
        """Write the blocks' warm states: file name, SHA-256, and what went wrong."""
        name, digest, trouble = f"blocks-{self.rank:04d}.npz", "", ""
        try:
            digest = write_arrays(folder / name, packed(self.mine, [self._saved(b) for b in self.mine]))
        except Exception as error:  # a run goes on without a checkpoint, whatever a block of the user's raises
            log.debug("writing %s", name, exc_info=True)
            trouble = f"rank {self.rank}: {error if str(error) else type(error).__name__}"
        return name, digest, trouble

    def load(self, folder: Path, names: Sequence[str]) -> str:
        """Load the warm states of this rank's blocks, whichever files they are in; what went wrong."""
        try:
            for name in names:
                for b, state in unpacked(read_arrays(folder / name), self.mine):
                    self.of[b].load(self.conversations.load(b, state))
        except Exception as error:
            log.debug("reading %s", folder, exc_info=True)
            return f"rank {self.rank}: {type(error).__name__}: {error}"
        return ""

    def leaving(self, owner: IntArray) -> tuple[str, list[Moving]]:
        """Number, warm state and last kept answer of the blocks that go to another rank, or why there is none."""
        blocks = [b for b in self.mine if owner[b] != self.rank]
        try:
            states = [(b, self._saved(b), self._kept(b)) for b in blocks]
            encode(states, MESSAGES)  # what cannot be sent is found before anything has moved
        except Exception as error:  # a run goes on with its blocks where they are, whatever one of the user's raises
            log.debug("blocks of rank %d", self.rank, exc_info=True)
            return f"rank {self.rank}: {error if str(error) else type(error).__name__}", []
        return "", states

    def take(self, arriving: Sequence[Moving], share: Share) -> dict[int, str]:
        """From now on this rank has the blocks of `share`, some from other ranks; which cannot be used, and why."""
        self.mine = share.blocks.tolist()
        here, troubles = set(self.mine), {}
        for b in [b for b in self.of if b not in here]:
            del self.of[b]
            self.conversations.forget(b)
            self._last.pop(b, None)
        for b, state, last in arriving:
            troubles[b] = self.build(b)
            if b not in self.of:
                continue
            try:
                self.of[b].load(self.conversations.load(b, {} if state is None else state))
            except Exception as error:
                log.debug("block %s", self.layout.keys[b], exc_info=True)
                troubles[b] = f"{type(error).__name__}: {error}"
            if last is not None:
                self.keep(b, [last])
        self.mark()
        return troubles

    def detail(self) -> dict[Key, Mapping[str, FloatArray]]:
        """Every block's own series at its last kept answer."""
        return {self.layout.keys[b]: self._series(b, some[i]) for b, (some, i) in sorted(self._last.items())}

    def _series(self, b: int, response: Response) -> Mapping[str, FloatArray]:
        try:
            return self.of[b].detail(response)
        except (Exception, SystemExit) as error:  # a finished run is not lost for a table
            log.warning("block %s has no detail: %s: %s", self.layout.keys[b], type(error).__name__, error)
            return {}

    def _saved(self, b: int) -> Arrays | None:
        """A block's warm state, with that of its part in a method over all blocks."""
        own, more = self.of[b].save(), self.conversations.arrays(b)
        return own if not more else {**(own or {}), **more}

    def _kept(self, b: int) -> Response | None:
        some, i = self._last.get(b, ([], 0))
        return some[i] if some else None
