"""Read a case file: one TOML file that says what is solved, by which rule, and what ends it.

[case], [rule], [start], [stop], [certificate], [run], [checkpoint] and [asynchronous] are the engine's; every other
table belongs to the problem. All mistakes (in the engine's tables, the problem's, and the data files they name) are
collected and raised as one error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np

from decomp.case.file_names import unwritable
from decomp.case.named_settings import table_of
from decomp.case.registry import NotFound, Registry
from decomp.case.toml_file import override, read_toml
from decomp.case.validation import (
    Builder,
    MistakeCollector,
    Place,
    constants,
    find,
    from_dataclass,
    from_model,
    not_finite,
)
from decomp.case.warm_start import StartSettings
from decomp.coordinators import Nobody
from decomp.errors import InputError, Mistake
from decomp.layout import Layout
from decomp.messages import FloatArray
from decomp.parallel.asynchronous import AsynchronousSettings
from decomp.problem import Problem
from decomp.rules import RULES
from decomp.rules.base import Setup, UpdateRule
from decomp.run.certificate import CertificateSettings
from decomp.run.options import Limits, Start
from decomp.run.stopping import CRITERIA, StoppingCriterion
from decomp.steps import STEPS, Step
from decomp.storage.checkpoint import CheckpointSettings
from decomp.storage.provenance import identity

ENGINE_TABLES = ("case", "rule", "start", "stop", "certificate", "run", "checkpoint", "asynchronous")
PROBLEM_GROUP = "tatonnement.problems"  # the entry-point group by which installed packages register problems


@dataclass(frozen=True)
class Title:
    """The [case] table: title, the problem's kind, and what the author wants to say about the case."""

    title: str
    problem: str
    about: str = ""


@dataclass(frozen=True)
class RunSettings(Limits):
    """The [run] table: when a run ends without success, what a failing block does, and what is written.

    record      "last": offers.csv has the last round; "all": every round
    columns     true: columns.npz keeps what the rule holds of the blocks' answers, for [start] columns of another run
    """

    record: Literal["last", "all"] = "last"
    columns: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """A case file, read and found right.

    tables  the file's tables as run, overrides included: what goes into result.json
    start   the prices of round 0, and columns of another run
    """

    file: Path
    title: str
    tables: Mapping[str, Any]
    problem: Problem
    rule: UpdateRule
    stop: tuple[StoppingCriterion, ...]
    certificate: CertificateSettings
    limits: RunSettings
    checkpoint: CheckpointSettings
    start: Start
    asynchronous: AsynchronousSettings | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint of this case belongs to."""
        return identity(self.tables, self.file.parent, self.problem.read_files)

    @property
    def rule_text(self) -> str:
        """The rule with all its settings, defaults included, in one line."""
        return described(self.rule, str(self.tables["rule"]["kind"]))


def load(file: str | Path, overrides: Sequence[str] = (), rule: str | None = None) -> Case:
    """Read a case file, replace its [rule] by `rule` (a kind, or a TOML file) and values by `overrides` ("a.b=1").

    Raises InputError with every mistake.
    """
    path = Path(file)
    tables = read_toml(path)
    folders = [path.parent, Path.cwd()]
    came_from: dict[Place, str] = {}
    if rule is not None:
        tables["rule"] = _other_rule(rule)
        came_from[("rule",)] = f"--rule {rule}"
        folders.insert(1, Path(rule).parent)
    collector = MistakeCollector(str(file), came_from)
    for text in overrides:
        override(tables, text, collector)
    return _case(path, tables, folders, collector)


def from_tables(tables: Mapping[str, Any], file: str | Path, folders: Sequence[Path] = ()) -> Case:
    """A case from tables that a program has put together; relative paths in them start at the folder of `file`.

    folders: where modules are looked for beside that one. Raises InputError with every mistake.
    """
    collector = MistakeCollector(str(file))
    return _case(Path(file), dict(tables), [Path(file).parent, *folders, Path.cwd()], collector)


def described(settings: Any, kind: str) -> str:
    """A frozen dataclass of settings as kind(name = value, ...); what is None is left out."""
    shown = ((f.name, getattr(settings, f.name)) for f in dataclasses.fields(settings))
    return f"{kind}({', '.join(f'{name} = {_text(value)}' for name, value in shown if value is not None)})"


def _text(value: Any) -> str:
    if isinstance(value, Step):
        return f"{getattr(value.function, '__name__', 'step')}({_pairs(value.constants)})"
    if isinstance(value, Mapping):
        return f"{{{_pairs(value)}}}"
    if dataclasses.is_dataclass(value):
        return described(value, type(value).__name__)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_text(value)}" for name, value in values.items())


def _case(file: Path, tables: dict[str, Any], folders: Sequence[Path], collector: MistakeCollector) -> Case:
    parts = _parts(folders)
    for name in ("case", "rule", "run"):
        if name not in tables:
            collector.add((name,), "is missing", f"add a table [{name}]; see docs/case_file.md")
    head = from_dataclass(Title, tables["case"], ("case",), collector, {}) if "case" in tables else None
    rule = parts[UpdateRule](tables["rule"], ("rule",), collector) if "rule" in tables else None
    stop = _criteria(tables.get("stop", {}), folders, collector)
    certificate = from_dataclass(CertificateSettings, tables.get("certificate", {}), ("certificate",), collector, {})
    limits = from_dataclass(RunSettings, tables["run"], ("run",), collector, {}) if "run" in tables else None
    saved = from_dataclass(CheckpointSettings, tables.get("checkpoint", {}), ("checkpoint",), collector, {})
    table = tables.get("asynchronous")
    apart = None if table is None else from_dataclass(AsynchronousSettings, table, ("asynchronous",), collector, {})
    problem = _problem(tables, file.parent, folders, collector)
    if problem is not None:
        collector.adopt(unwritable(problem.couplings))
    start = from_dataclass(StartSettings, tables.get("start", {}), ("start",), collector, {})
    price = columns = None
    if problem is not None and rule is not None and start is not None:
        coordinator = problem.coordinator or Nobody()
        try:
            columns = start.earlier(problem.couplings, file.parent)
            price = start.price(coordinator.nodes, np.asarray(coordinator.neutral, float), file.parent, columns)
            _try_on(rule, problem, price, collector)
        except InputError as error:
            collector.adopt(error.mistakes)
    for place in not_finite(tables):
        if not collector.told(place):
            collector.add(place, "is not a finite number", "give a finite number, or leave the key out")
    if collector.mistakes or head is None or rule is None or problem is None or limits is None or price is None:
        raise InputError(collector.mistakes)
    return Case(file, head.title, tables, problem, rule, stop, certificate, limits, saved, Start(price, columns), apart)


def _parts(folders: Sequence[Path]) -> dict[type, Builder]:
    """How objects inside settings are built: steps by a function, rules by a dataclass that may hold both."""
    steps = Registry("step", STEPS, lambda f: "" if callable(f) else "it must be a function of (k, scale)")
    rules = Registry("rule", RULES, _no_rule)
    parts: dict[type, Builder] = {}

    def step(table: Any, path: Place, collector: MistakeCollector) -> Step | None:
        function = find(steps, table, path, collector, folders)
        values = None if function is None else constants(function, 2, table, path, collector)
        return None if values is None else Step(function, values)

    def rule(table: Any, path: Place, collector: MistakeCollector) -> Any:
        cls = find(rules, table, path, collector, folders)
        return None if cls is None else from_dataclass(cls, table, path, collector, parts)

    parts |= {Step: step, UpdateRule: rule}
    return parts


def _no_rule(cls: Any) -> str:
    if not (isinstance(cls, type) and issubclass(cls, UpdateRule)):
        return "it must be a subclass of decomp.rules.UpdateRule"
    return (
        "" if dataclasses.is_dataclass(cls) else "decorate it with @dataclass(frozen=True): its fields are its settings"
    )


def _criteria(table: Any, folders: Sequence[Path], collector: MistakeCollector) -> tuple[StoppingCriterion, ...]:
    if not isinstance(table, Mapping):
        collector.add(("stop",), "is not a table", "write one table for each criterion: [stop.secure]")
        return ()
    built = [_criterion(name, item, folders, collector) for name, item in table.items()]
    return tuple(c for c in built if c is not None)


def rule_from(table: Any, collector: MistakeCollector) -> Any:
    """A rule from the table of a program: its kind and its settings. None after a mistake."""
    return _parts([Path.cwd()])[UpdateRule](table, ("rule",), collector)


def criterion_from(table: Mapping[str, Any], collector: MistakeCollector) -> Any:
    """A stopping criterion from the table of a program. None after a mistake."""
    return _criterion(str(table.get("kind", "")), table, [Path.cwd()], collector)


def _criterion(name: str, table: Any, folders: Sequence[Path], collector: MistakeCollector) -> Any:
    callables = "it must be a function of the iterate, or a frozen dataclass with __call__"
    registry = Registry("stopping criterion", CRITERIA, lambda c: "" if callable(c) else callables)
    path: Place = ("stop", name)
    found = find(registry, table, path, collector, folders, default=name)
    if found is None:
        return None
    if isinstance(found, type):
        if not dataclasses.is_dataclass(found):
            return collector.add_of_table(
                path, f"'{found.__name__}' is no dataclass", "decorate it with @dataclass(frozen=True)"
            )
        return from_dataclass(found, table, path, collector, {})
    values = constants(found, 1, table, path, collector)
    return None if values is None else _with(found, values)


def _with(function: Callable[..., Any], values: Mapping[str, Any]) -> StoppingCriterion:
    return lambda iterate: function(iterate, **values)


def _problem(
    tables: Mapping[str, Any], folder: Path, folders: Sequence[Path], collector: MistakeCollector
) -> Problem | None:
    head = tables.get("case")
    kind = head.get("problem") if isinstance(head, Mapping) else None
    if not isinstance(kind, str):
        return None  # said already: [case] has no problem, or one that is no text
    known = {e.name: e.value for e in entry_points(group=PROBLEM_GROUP)}
    registry = Registry("problem", known, _no_problem)
    try:
        cls = registry.find(known.get(kind, kind), () if kind in known else folders)
    except NotFound as error:
        collector.add(("case", "problem"), error.problem, error.remedy)
        return None
    own = {name: table for name, table in tables.items() if name not in ENGINE_TABLES}
    settings = from_model(cls.Settings, own, collector, ENGINE_TABLES, folders)
    if settings is None:
        collector.adopt(cls.inspect(own, folder))
        return None
    try:
        problem: Problem = cls(settings, folder)
    except InputError as error:
        collector.adopt(error.mistakes)
        return None
    except OSError as error:
        collector.add(
            ("case",), f"cannot read {error.filename}: {error.strerror}", "paths start at the case file's folder"
        )
        return None
    return problem


def _no_problem(cls: Any) -> str:
    return (
        "" if isinstance(cls, type) and issubclass(cls, Problem) else "it must be a subclass of decomp.problem.Problem"
    )


def _try_on(rule: UpdateRule, problem: Problem, price: FloatArray, collector: MistakeCollector) -> None:
    """Does the rule fit this case? A constant may lack a value for a group of nodes, an entry may need a step."""
    coordinator = problem.coordinator or Nobody()
    try:
        rule.init(Setup.of(Layout.of(problem.couplings, len(coordinator.nodes)), coordinator, price))
    except ValueError as error:
        collector.add(("rule",), str(error))


def _other_rule(rule: str) -> dict[str, Any]:
    if not rule.endswith(".toml"):
        try:
            return table_of(rule) if "(" in rule else {"kind": rule}
        except ValueError as error:
            problem = f"'{rule}' {error}"
            raise InputError([Mistake("--rule", "", "", problem, "write bundle, or bundle(speculative=2)")]) from None
    tables = read_toml(Path(rule))
    collector = MistakeCollector(rule)
    for name in tables:
        if name != "rule":
            collector.add((name,), "does not belong into a rule's file", "it holds [rule] and nothing else")
    if not isinstance(tables.get("rule"), Mapping):
        collector.add(("rule",), "is missing", "add a table [rule] with its kind")
    if collector.mistakes:
        raise InputError(collector.mistakes)
    return dict(tables["rule"])
