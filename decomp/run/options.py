"""The options of a run beside blocks, coordinator and rule: its limits, its start, its ranks, its output.

Every option has a default, and all are frozen: a run is a function of what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from decomp.messages import FloatArray
from decomp.parallel.asynchronous import AsynchronousSettings
from decomp.parallel.ranks import Ranks
from decomp.run.result import Row
from decomp.run.result_files import GrowingFiles
from decomp.storage.checkpoint import Checkpoint, Keeper
from decomp.storage.stored_columns import StoredColumns


@dataclass(frozen=True)
class Limits:
    """When a run ends without success: after so many rounds, or seconds (None = no limit), or when a block fails.

    on_failure  "stop": a block without an answer ends the run, and is named. "hold": its last good answer stands in,
                marked stale; until it answers again nothing is proven, and no criterion ends the run
    rebalance_every  after so many rounds blocks may move to ranks that are less busy, by the time they have taken; 0 =
                they stay. Nothing but the time depends on it
    schedules   every block's own series are in the result; without them a run of very many blocks ends much sooner
    """

    max_rounds: int
    time_limit_s: float | None = None
    schedules: bool = True
    rebalance_every: int = 0
    on_failure: Literal["stop", "hold"] = "stop"

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError("max_rounds must be at least 1")
        if self.rebalance_every < 0:
            raise ValueError("rebalance_every must be 0 (blocks stay where they are) or a number of rounds")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise ValueError("time_limit_s must be positive")
        if self.on_failure not in ("stop", "hold"):
            raise ValueError(f"on_failure is '{self.on_failure}'; it is 'stop' or 'hold'")


@dataclass(frozen=True, eq=False)
class Start:
    """Where a run begins.

    price       (n,) price of every node in round 0; None = the coordinator's neutral price
    columns     what another run has left of blocks with the same data; the rule must keep columns
    checkpoint  the rounds of an interrupted run, which this one goes on from; on the root
    """

    price: FloatArray | None = None
    columns: StoredColumns | None = None
    checkpoint: Checkpoint | None = None


def never() -> bool:
    """Nobody asks the run to stop."""
    return False


@dataclass(frozen=True, eq=False)
class Execution:
    """Where a run is computed.

    ranks        all processes that share the blocks; None = this one alone
    asynchronous rounds end when a share of the blocks has answered; None = all of them
    interrupted  asked on every rank between blocks and while it waits: True on any of them ends the run, as the time
                 limit does; a round that is not complete is thrown away
    """

    ranks: Ranks | None = None
    asynchronous: AsynchronousSettings | None = None
    interrupted: Callable[[], bool] = never


@dataclass(frozen=True, eq=False)
class Output:
    """What a run shows and leaves while it goes on, beside its Result; all of it on the root.

    callbacks  called with the Row of every complete round
    files      tables that grow by a round at a time
    keeper     writes checkpoints
    columns    the Result holds the rule's columns, for another run to begin with
    """

    callbacks: Sequence[Callable[[Row], None]] = ()
    files: GrowingFiles | None = None
    keeper: Keeper | None = None
    columns: bool = False
