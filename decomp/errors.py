"""What can go wrong, told so that the reader knows what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MOST_NAMES = 3  # of blocks with the same trouble


class TatonnementError(Exception):
    """Base of every error this package raises on purpose."""


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake in the input: where it is, what is wrong and what would be right."""

    file: str
    section: str
    key: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        section = f"[{self.section}]" if self.section else ""
        place = " ".join(part for part in (self.file, section, self.key) if part)
        return f"{place}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


class InputError(TatonnementError):
    """Bad input. Carries every mistake found, not only the first (exit code 2)."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        count = len(self.mistakes)
        head = f"{count} mistake{'s' if count != 1 else ''} in the input:"
        super().__init__("\n".join([head, *(f"  - {m}" for m in self.mistakes)]))


class RefusedError(TatonnementError):
    """The rule needs something that the blocks or the coordinator of this case cannot give (exit code 2)."""


class BlockError(TatonnementError):
    """One or more subproblems gave no usable answer (exit code 1). `failures` maps the block's name to its message."""

    def __init__(self, failures: dict[str, str]) -> None:
        self.failures = dict(failures)
        alike: dict[str, list[str]] = {}
        for name, why in self.failures.items():
            alike.setdefault(why, []).append(name)
        super().__init__("\n".join(f"{_named(names)}: {why}" for why, names in alike.items()))


def _named(names: list[str]) -> str:
    """The blocks of which the same is true; the first ones of many."""
    rest = len(names) - MOST_NAMES
    return ", ".join(f"block {name}" for name in names[:MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


class InfeasibleError(TatonnementError):
    """No point of all blocks and the coordinator meets all limits (exit code 1): `where` names what contradicts."""

    def __init__(self, where: Iterable[str]) -> None:
        self.where = tuple(where)
        at = f"; what cannot be met together lies at {', '.join(self.where)}" if self.where else ""
        super().__init__(f"the problem is infeasible: its multipliers prove that no offers meet all limits{at}")


class UnboundedError(TatonnementError):
    """The cost of all blocks and the coordinator falls for ever (exit code 1): `where` names blocks it falls in."""

    def __init__(self, where: Iterable[str]) -> None:
        self.where = tuple(where)
        of = f" in {', '.join(f'block {name}' for name in self.where)}" if self.where else ""
        super().__init__(f"the problem is unbounded: its cost falls for ever{of}; a limit is missing there")


class CoordinatorError(TatonnementError):
    """The coordinator has no answer, for instance a network without a power-flow solution (exit code 1)."""


class BoundError(TatonnementError):
    """A lower bound came out above an upper bound of the same problem: one of the two is wrong."""


class CheckpointError(TatonnementError):
    """A checkpoint cannot be written, is damaged, or belongs to something else."""


def told(error: BaseException) -> str:
    """Kind and text of an exception of the user's in one line; its own way to make a text may raise, or be no text."""
    try:
        text = str(error)
    except Exception as failed:
        text = f"(no text: its __str__ raised {type(failed).__name__})"
    name = type(error).__name__
    return f"{name}: {text}".encode(errors="backslashreplace").decode() if text else name


class AskedToStop(Exception):
    """Some rank was asked to stop while blocks or parts were being solved: the round is not complete."""
