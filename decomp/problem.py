"""What a case file describes: the units, how they couple, and who coordinates them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from decomp.coordinator import Coordinator
from decomp.errors import Mistake, TatonnementError
from decomp.messages import Coupling, Key
from decomp.subproblem import Subproblem

if TYPE_CHECKING:
    from decomp.run.result import Result


class Problem(ABC):
    """Built once on every rank from the tables of a case file; each rank then builds only its own blocks.

    Settings  pydantic model (extra = "forbid") of all tables of the case file that are not the engine's own.
              Field validators may raise; their messages are shown with section and key. What only shows up when the
              data are read (missing CSV, NaN in a series) is raised by __init__ as one InputError with every mistake.
    details   detail.csv is written: what `Subproblem.detail` tells of every block at the end. False where `write` has
              tables of these series itself
    read_files  files it has read that the tables do not name themselves: a checkpoint does not belong to others
    labels    what the lines of rounds call "worst", "mismatch", "price" and "cost" here: {"worst": "voltage pu"}
    """

    Settings: ClassVar[type[BaseModel]]
    labels: ClassVar[Mapping[str, str]] = {}
    read_files: Sequence[Path] = ()
    details: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, settings: Any, folder: Path) -> None:
        """settings: a Settings object; folder: where the case file lies, relative paths start there."""

    couplings: tuple[Coupling, ...]
    coordinator: Coordinator | None

    @classmethod
    def inspect(cls, tables: Mapping[str, Any], folder: Path) -> Sequence[Mistake]:
        """Mistakes in the data that the tables name, as far as those tables are right themselves.

        Asked only where Settings found mistakes, so that the data's are told in the same breath.
        """
        return ()

    @abstractmethod
    def subproblem(self, key: Key) -> Subproblem:
        """Build one block; called on the rank that owns it."""

    def sample(self, scenarios: int, seed: int) -> Problem:
        """The same problem with fresh scenarios, equally likely; the same seed, the same scenarios, on every rank.

        Raises TatonnementError where the problem cannot draw any.
        """
        raise TatonnementError(f"{type(self).__name__} cannot draw fresh scenarios: it defines no sample()")

    def sample_tree(self, branching: Sequence[int], seed: int) -> Problem:
        """A fresh scenario tree with so many nodes below each node of the first stage, the second, ... as one block.

        Its entries are those of the first stage. Raises TatonnementError where the problem cannot draw one.
        """
        raise TatonnementError(f"{type(self).__name__} cannot draw scenario trees: it defines no sample_tree()")

    def unbundled(self) -> Problem:
        """The same problem with every scenario a block of its own; itself where it is so already."""
        return self

    def write(self, result: Result, folder: Path) -> Sequence[Path]:
        """Write the problem's own tables and figures beside the engine's; returns what was written."""
        return ()

    def summary(self, result: Result) -> Mapping[str, Any]:
        """Figures of the final point for result.json (min_voltage_pu, max_voltage_pu)."""
        return {}

    def tables(self, result: Result, folder: Path) -> Sequence[Any]:
        """Rich renderables for the end of the terminal output; `write` has been called with the folder."""
        return ()
