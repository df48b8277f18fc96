"""Arguments of a run from Python, made what the engine takes; everything that is wrong with them is told at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from decomp.case.config import criterion_from, rule_from
from decomp.case.named_settings import table_of
from decomp.case.validation import MistakeCollector
from decomp.coordinator import Coordinator
from decomp.coordinators import Nobody
from decomp.errors import InputError, Mistake
from decomp.layout import Layout
from decomp.messages import Coupling, Key
from decomp.rules.base import UpdateRule
from decomp.run.certificate import CertificateSettings
from decomp.run.options import Limits, Start
from decomp.run.stopping import StoppingCriterion
from decomp.subproblem import Subproblem

MOST_ROUNDS = 200  # of a run that is not told when to end
MOST_NAMES = 5


class RunArguments:
    """Checks the arguments of `run` one by one. `done` raises InputError with every mistake."""

    def __init__(self, function: str) -> None:
        self.collector = MistakeCollector(function)

    def done(self) -> None:
        """Raises InputError if anything was wrong."""
        if self.collector.mistakes:
            raise InputError(self.collector.mistakes)

    def wrong(self, name: str, problem: str, remedy: str = "") -> None:
        """Note a mistake in an argument."""
        self.collector.adopt([Mistake(self.collector.file, "argument", name, problem, remedy)])

    def subproblems(self, value: Any) -> Any:
        """A function of the key as it is; a mapping with its keys made Keys."""
        if not isinstance(value, Mapping):
            if not callable(value):
                self.wrong("subproblems", f"is {_kind(value)}", "give blocks by Key, or a function that builds them")
            return value
        blocks = {}
        for name, block in value.items():
            key = self._key(name)
            if key is None:
                continue
            if not isinstance(block, Subproblem):
                problem = f"has {_kind(block)} for {key}"
                self.wrong("subproblems", problem, "give an object of a subclass of Subproblem, not the class")
            blocks[key] = block
        return blocks

    def _key(self, name: Any) -> Key | None:
        if isinstance(name, Key):
            return name
        if isinstance(name, str):
            return Key(name)
        if isinstance(name, tuple) and len(name) == 2 and all(isinstance(part, str) for part in name):
            return Key(*name)
        self.wrong("subproblems", f"has the key {name!r}", 'keys are Key("unit"), or Key("unit", "scenario")')
        return None

    def coordinator(self, value: Any) -> Any:
        """A coordinator, or None."""
        if value is not None and not isinstance(value, Coordinator):
            self.wrong("coordinator", f"is {_kind(value)}", "give a Coordinator, or None where nobody coordinates")
            return None
        return value

    def rule(self, value: Any) -> UpdateRule | None:
        """A rule; from its name, from its name with settings, or from a table as in a case file."""
        if isinstance(value, UpdateRule):
            return value
        if isinstance(value, type) and issubclass(value, UpdateRule):
            self.wrong("rule", f"is the class {value.__name__}", f"give an object: {value.__name__}()")
            return None
        table = self._table("rule", value)
        return None if table is None else rule_from(table, self.collector)

    def stop(self, value: Any) -> tuple[StoppingCriterion, ...]:
        """Criteria: objects, functions, names with settings; one of them needs no list."""
        several = list(value) if isinstance(value, list | tuple) else [value]
        found = []
        for one in several:
            if isinstance(one, str | Mapping):
                table = self._table("stop", one)
                made = None if table is None else criterion_from(table, self.collector)
            elif callable(one) and not isinstance(one, type):
                made = one
            else:
                remedy = "give Gap(1e-4, 0.0), 'gap(tolerance=1e-4, floor=0)', or a function of the Iterate"
                self.wrong("stop", f"has {_kind(one)}", remedy)
                made = None
            found += [] if made is None else [made]
        return tuple(found)

    def limits(self, value: Any) -> Limits:
        """Limits; a number is that of rounds."""
        if isinstance(value, int) and not isinstance(value, bool):
            if value >= 1:
                return Limits(value)
            self.wrong("limits", f"is {value} rounds", "give at least 1")
        elif value is not None and not isinstance(value, Limits):
            self.wrong("limits", f"is {_kind(value)}", "give Limits(max_rounds), or a number of rounds")
        return value if isinstance(value, Limits) else Limits(MOST_ROUNDS)

    def certificate(self, value: Any, stop: Sequence[Any]) -> CertificateSettings:
        """When bounds are proven; where nothing is said in every round if a criterion asks for it."""
        if value is None:
            return CertificateSettings(every=int(any(getattr(c, "needs_certificate", False) for c in stop)))
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return CertificateSettings(every=value)
        if not isinstance(value, CertificateSettings):
            self.wrong("certificate", f"is {value!r}", "give CertificateSettings(every=1), or a number of rounds")
            return CertificateSettings()
        return value

    def coupling(self, value: Any) -> tuple[Coupling, ...]:
        """One Coupling a unit."""
        several = [value] if isinstance(value, Coupling) else value
        if not isinstance(several, Iterable) or isinstance(several, str | Mapping):
            self.wrong("coupling", f"is {_kind(value)}", "give a list with one Coupling for each unit")
            return ()
        found = tuple(several)
        for one in found:
            if not isinstance(one, Coupling):
                self.wrong("coupling", f"has {_kind(one)}", "give a list with one Coupling for each unit")
                return ()
        if not found:
            self.wrong("coupling", "is empty", "give one Coupling for each unit")
        return found

    def option(self, name: str, value: Any, kind: type) -> None:
        """None, or an object of its kind."""
        if value is not None and not isinstance(value, kind):
            self.wrong(name, f"is {_kind(value)}", f"give {kind.__name__}(...)")

    def ranks(self, value: Any) -> None:
        """Ranks, or None."""
        if value is not None and not all(hasattr(value, name) for name in ("rank", "size", "broadcast")):
            self.wrong("ranks", f"is {_kind(value)}", "leave it out, or give what find_ranks() returns")

    def together(
        self, subproblems: Any, coordinator: Coordinator | None, coupling: Sequence[Coupling], start: Any
    ) -> None:
        """Do blocks, coupling and coordinator speak of the same keys and nodes?"""
        nodes = (coordinator or Nobody()).nodes
        try:
            layout = Layout.of(coupling, len(nodes))
        except ValueError as error:
            self.wrong("coupling", str(error), f"the coordinator has {len(nodes)} nodes: 0 to {len(nodes) - 1}")
            return
        if isinstance(subproblems, Mapping):
            keys = set(layout.keys)
            lacking, alone = sorted(keys - set(subproblems)), sorted(set(subproblems) - keys)
            if lacking:
                self.wrong("subproblems", f"has no block for {_names(lacking)}", "coupling names it in prob")
            if alone:
                self.wrong("coupling", f"does not name {_names(alone)}", "give its Coupling, with the key in prob")
        if isinstance(start, Start) and start.price is not None and len(start.price) != len(nodes):
            self.wrong("start", f"has {len(start.price)} prices for {len(nodes)} nodes", "give one for each node")

    def _table(self, name: str, value: Any) -> Mapping[str, Any] | None:
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, str):
            self.wrong(name, f"is {_kind(value)}", "give a name, a name with settings, or an object")
            return None
        try:
            return table_of(value)
        except ValueError as error:
            self.wrong(name, f"'{value}' {error}", "write bundle, or bundle(speculative=2)")
            return None


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else f"a {type(value).__name__}"


def _names(keys: Sequence[Key]) -> str:
    rest = len(keys) - MOST_NAMES
    return ", ".join(map(str, keys[:MOST_NAMES])) + (f" and {rest} more" if rest > 0 else "")
