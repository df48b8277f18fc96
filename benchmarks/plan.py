"""What a benchmark file asks for: every rule on every instance, lists swept, as one flat list of runs.

[benchmark]        title, tolerances, max_rounds, time_limit_s, reference_time_limit_s
[rule.NAME]        the [rule] table of a case file; a list sweeps a constant
[instance.NAME]    either `problem` and the problem's own tables, or `case` = a case file and `set` = {"a.b" = value};
                   a list sweeps. Beside them: `group` (a word, or the dotted key whose value is the group),
                   `measure` (gap | coordination | lagrangian, by group where it is a table), `own_rule` (also run
                   the case file's own rule), `enabled`
[only]             RULE = [groups]: this rule is asked there alone
[start_values]     factors, `where` = {"dotted.key" = [values]} of the instances they are tried on, and
                   [start_values.parameter] RULE = "key": the setting to be multiplied; else the start price is
                   factor x reference price
[quick]            values that replace the others with --quick, in the same places
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from decomp.case.registry import did_you_mean
from decomp.case.toml_file import read_toml
from decomp.case.validation import MistakeCollector
from decomp.errors import InputError
from decomp.rules import RULES

Tables = dict[str, Any]
Measure = Literal["gap", "coordination", "lagrangian"]
OWN_RULE = "case's own"
INSTANCE_KEYS = ("problem", "case", "set", "group", "measure", "own_rule", "enabled")
SECTIONS = ("benchmark", "rule", "instance", "only", "start_values", "quick")


@dataclass(frozen=True)
class Settings:
    """Limits of every run, and the gaps that are counted to.

    stalled_rounds  a run ends where three times its pace of so many rounds leads to no further tolerance; None = never
    """

    title: str
    tolerances: tuple[float, ...]
    max_rounds: int
    time_limit_s: float
    reference_time_limit_s: float
    stalled_rounds: int | None = None


@dataclass(frozen=True, eq=False)
class Instance:
    """One problem with all constants chosen.

    tables  of the case file without the engine's; file: relative paths start at its folder
    chosen  the swept constants, by dotted key
    """

    name: str
    group: str
    file: str
    tables: Tables
    chosen: Mapping[str, Any]
    measure: Measure

    @property
    def label(self) -> str:
        """name(key = value, ...)"""
        return labelled(self.name, self.chosen)


@dataclass(frozen=True, eq=False)
class Run:
    """One rule with one start on one instance; `rule` is the [rule] table as run.

    factor  what the start value is multiplied by; start_price: it is the start price, of the reference price
    """

    instance: Instance
    variant: str
    rule: Tables
    factor: float | None
    start_price: bool

    def record(self) -> Tables:
        """All that the run's outcome depends on, apart from the code."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Plan:
    """A benchmark file, read."""

    file: Path
    settings: Settings
    instances: tuple[Instance, ...]
    runs: tuple[Run, ...]


def content_key(value: Any) -> str:
    """A name for a plain value: equal values, equal names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]


def read_plan(file: Path, quick: bool = False) -> Plan:
    """Read a benchmark file and expand its sweeps. Raises InputError with every mistake of its own tables."""
    tables, book = read_toml(file), MistakeCollector(str(file))
    for name in tables:
        if name not in SECTIONS:
            book.add((name,), f"unknown table '{name}'", f"{did_you_mean(name, SECTIONS)}known: {', '.join(SECTIONS)}")
    changes = tables.pop("quick", {})
    if quick:
        tables = merged(tables, changes)
    settings = _settings(tables.get("benchmark", {}), book)
    instances = [i for name, table in tables.get("instance", {}).items() for i in _instances(name, table, file, book)]
    rules = {name: list(sweep(table)) for name, table in tables.get("rule", {}).items()}
    for name in ("rule", "instance"):
        if not tables.get(name):
            book.add((name,), "is missing", f"add at least one [{name}.NAME]")
    parameters = tables.get("start_values", {}).get("parameter", {})
    for name in (*tables.get("only", {}), *parameters):
        if name not in rules:
            book.add(("only or start_values.parameter", name), "is no rule of this file", f"known: {', '.join(rules)}")
    for name, parameter in parameters.items():
        for _, rule in rules.get(name, ()):
            try:
                _start_value(rule, parameter)
            except ValueError as error:
                book.add(("start_values", "parameter", name), str(error))
                break
    if book.mistakes or settings is None:
        raise InputError(book.mistakes)
    runs = [run for instance in instances for run in _runs(instance, rules, tables, file)]
    return Plan(file, settings, tuple(instances), tuple(runs))


def _settings(table: Tables, book: MistakeCollector) -> Settings | None:
    names = list(Settings.__dataclass_fields__)
    before = len(book.mistakes)
    for name in names:
        if name not in table and name != "stalled_rounds":
            book.add(("benchmark", name), "is missing", f"add {name} = ...")
    for name, value in table.items():
        if name not in names:
            book.add(("benchmark", name), f"unknown key '{name}'", f"known: {', '.join(names)}")
        elif name != "title":
            numbers = value if isinstance(value, list) else [value]
            if not all(isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in numbers):
                book.add(("benchmark", name), "must be positive", "give a positive number")
    if len(book.mistakes) > before:
        return None
    return Settings(**{**table, "tolerances": tuple(sorted(table["tolerances"], reverse=True))})


def merged(base: Tables, changes: Tables) -> Tables:
    """The tables with some values replaced, table by table."""
    out = dict(base)
    for key, value in changes.items():
        inner = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if inner else copy.deepcopy(value)
    return out


def sweep(table: Tables) -> Iterator[tuple[dict[str, Any], Tables]]:
    """Every choice of one element from each list in the table: ({dotted key: element}, table without lists)."""
    places = list(_lists(table))
    for choice in itertools.product(*(_at(table, place) for place in places)):
        plain = copy.deepcopy(table)
        for place, value in zip(places, choice, strict=True):
            _at(plain, place[:-1])[place[-1]] = value
        yield {".".join(p): v for p, v in zip(places, choice, strict=True)}, plain


def labelled(name: str, chosen: Mapping[str, Any]) -> str:
    """name(last key = value, ...)"""
    inside = ", ".join(f"{key.split('.')[-1]} = {value}" for key, value in chosen.items())
    return f"{name}({inside})" if inside else name


def look_up(tables: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted key, or None."""
    value: Any = tables
    for key in dotted.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _lists(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, list):
        yield place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _lists(item, (*place, key))


def _at(table: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        table = table[key]
    return table


def _instances(name: str, table: Tables, file: Path, book: MistakeCollector) -> Iterator[Instance]:
    if not table.get("enabled", True):
        return
    if ("case" in table) == ("problem" in table):
        book.add(("instance", name), "needs either 'case' or 'problem'", 'give problem = "module:Name" or a case file')
        return
    own = {key: value for key, value in table.items() if key in ("problem", "case", "set") or key not in INSTANCE_KEYS}
    for chosen, plain in sweep(own):
        source = file
        if "case" in plain:
            source = (file.parent / plain["case"]).resolve()
            case = read_toml(source)
            for dotted, value in plain.get("set", {}).items():
                _put(case, dotted, value)
            if not table.get("own_rule"):
                case.pop("rule", None)
            chosen = {key.removeprefix("set."): value for key, value in chosen.items()}
        else:
            case = {"case": {"title": name, "problem": plain.pop("problem")}, **plain}
        group = str(table.get("group", name))
        group = str(look_up(case, group) or group)
        measure = table.get("measure", "gap")
        measure = measure.get(group, "gap") if isinstance(measure, dict) else measure
        if measure not in get_args(Measure):
            book.add(("instance", name, "measure"), f"'{measure}' is none", f"known: {', '.join(get_args(Measure))}")
        yield Instance(name, group, str(source), case, chosen, measure)


def _put(tables: Tables, dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for key in path:
        tables = tables.setdefault(key, {})
    tables[last] = value


def _runs(instance: Instance, rules: Mapping[str, Any], tables: Tables, file: Path) -> Iterator[Run]:
    starts = tables.get("start_values", {})
    only = tables.get("only", {})
    tried = all(look_up(instance.tables, key) in values for key, values in starts.get("where", {}).items())
    factors = starts.get("factors", []) if starts and tried else []
    own = instance.tables.get("rule")
    if own is not None:
        yield Run(instance, OWN_RULE, own, None, False)
    for name, variants in rules.items():
        if instance.group not in only.get(name, [instance.group]):
            continue
        for chosen, rule in variants:
            label = labelled(name, chosen)
            yield Run(instance, label, rule, None, False)
            parameter = starts.get("parameter", {}).get(name)
            for factor in factors:
                yield Run(instance, label, _started(rule, parameter, factor), float(factor), parameter is None)


def _started(rule: Tables, parameter: str | None, factor: float) -> Tables:
    if parameter is None:
        return rule
    changed = copy.deepcopy(rule)
    _put(changed, parameter, _start_value(rule, parameter) * factor)
    return changed


def _start_value(rule: Tables, parameter: str) -> float:
    """The number at `parameter` of a rule's table, or its default. Raises ValueError where there is none."""
    value = look_up(rule, parameter)
    if value is None:
        defaults = getattr(RULES.get(str(rule.get("kind"))), "__dataclass_fields__", {})
        value = getattr(defaults.get(parameter), "default", None)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"its rule has no number '{parameter}' to multiply, nor a default; write it into the rule")
    return float(value)
