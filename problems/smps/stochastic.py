"""The stochastic file: independent random numbers, blocks of them, or scenarios that branch from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from decomp.errors import InputError
from decomp.messages import FloatArray
from problems.smps.core import nearest
from problems.smps.elements import Elements
from problems.smps.lines import Line, Reading

MANNERS = ("REPLACE", "ADD", "MULTIPLY")
DISTRIBUTIONS = ("UNIFORM", "NORMAL", "GAMMA", "BETA", "LOGNORM", "LOGNORMAL")
ROOTS = ("ROOT", "CORE")
MASS_TOLERANCE = 1e-9  # probabilities sum to 1 within this, and are then divided by their sum


@dataclass(frozen=True, eq=False)
class RandomVector:
    """Numbers that are drawn together, independent of all others, and known at a stage.

    positions  (e,) of the random numbers
    outcomes   (k, e) their values, with probability (k,); or none of both, where one number has a continuous
    law        (kind, first parameter, second parameter): UNIFORM on an interval, NORMAL by mean and variance, GAMMA by
               scale and shape, BETA by its two exponents, LOGNORM by mean and variance of the logarithm
    manner     how a continuous number enters: "REPLACE", "ADD", "MULTIPLY"
    """

    name: str
    stage: int
    positions: tuple[int, ...]
    outcomes: FloatArray
    prob: FloatArray
    law: tuple[str, float, float] | None = None
    manner: str = "REPLACE"


@dataclass(frozen=True)
class Branch:
    """One scenario of a list: it is its parent ("" = the core file) up to a stage, and has these values from there."""

    name: str
    parent: str
    prob: float
    stage: int
    values: tuple[tuple[int, float], ...]
    line: int


@dataclass(frozen=True, eq=False)
class Stochastic:
    """What a stochastic file says: independent vectors, or a list of scenarios; never both."""

    elements: Elements
    vectors: tuple[RandomVector, ...] = ()
    branches: tuple[Branch, ...] = ()


@dataclass
class _Outcomes:
    """A vector being read."""

    name: str
    period: str
    manner: str
    first_line: int
    rows: list[tuple[float, dict[int, float]]] = field(default_factory=list)
    law: tuple[str, float, float] | None = None


def read_stochastic(source: Reading, elements: Elements) -> Stochastic:
    """The random numbers of a stochastic file. Raises InputError with every mistake, each with its line."""
    vectors: dict[tuple[str, ...], _Outcomes] = {}
    branches: list[Branch] = []
    for head, below in source.sections():
        section = head.fields[0].upper()
        if section in ("STOCH", "ENDATA"):
            continue
        words = [word.upper() for word in head.fields[1:]]
        manner = next((word for word in words if word in MANNERS), "REPLACE")
        kinds = [word for word in words if word not in MANNERS]
        kind = kinds[0] if kinds else "DISCRETE"
        if section == "INDEP" and kind in ("DISCRETE", *DISTRIBUTIONS):
            _independent(source, elements, below, kind, manner, vectors)
        elif section == "BLOCKS" and kind == "DISCRETE":
            _blocks(source, elements, below, manner, vectors)
        elif section == "SCENARIOS" and kind == "DISCRETE":
            _scenarios(source, elements, below, manner, branches)
        elif section in ("INDEP", "BLOCKS", "SCENARIOS"):
            known = ", ".join(("DISCRETE", *(DISTRIBUTIONS if section == "INDEP" else ())))
            source.note(
                head, f"{section} {kind} cannot be read", f"known: {known}; a program of yours can draw the rest"
            )
        else:
            source.note(head, f"unknown section {section}", "known: INDEP, BLOCKS, SCENARIOS, ENDATA")
    source.section = ""
    if vectors and branches:
        source.note(branches[0].line, "SCENARIOS stand beside INDEP or BLOCKS", "give all of them as scenarios")
    if not vectors and not branches and not source.mistakes:
        source.note(1, "there is nothing random", "add a section INDEP, BLOCKS or SCENARIOS")
    found = tuple(_vector(source, elements, one) for one in vectors.values())
    if branches:
        source.section = "SCENARIOS"
        _mass(source, branches[0].line, "the scenarios", [b.prob for b in branches])
    if source.mistakes:
        raise InputError(source.mistakes)
    return Stochastic(elements, tuple(v for v in found if v is not None), tuple(branches))


# -- the sections ------------------------------------------------------------------------------------------------------


def _independent(
    source: Reading, elements: Elements, below: Sequence[Line], kind: str, manner: str,
    vectors: dict[tuple[str, ...], _Outcomes],
) -> None:  # fmt: skip
    for line in below:
        fields = list(line.fields)
        last = source.value(line, fields.pop()) if len(fields) >= 4 else None
        if last is None:
            if len(line.fields) < 4:
                source.note(
                    line, f"{len(line.fields)} fields", "a column (or RHS), a row, a value, [a period,] a number"
                )
            continue
        period = fields.pop() if fields[-1] in elements.stages.periods else ""
        if not period and len(fields) in (4, 6) and not _number(fields[-1]):
            near = nearest(fields[-1], elements.stages.periods)
            source.note(line, f"there is no period '{fields[-1]}'", near)
            continue
        found = elements.read(source, line, tuple(fields))
        if found is None:
            continue
        if len(found) > 1 and fields[0].upper() != "FX":
            source.note(line, "two numbers in one line, of which each is to be independent", "give each its own line")
            continue
        key = ("INDEP", *(str(p) for p, _ in found))
        if kind == "DISCRETE":
            one = vectors.setdefault(key, _Outcomes(elements.name(found[0][0]), period, manner, line.number))
            if one.law is not None:
                source.note(line, f"{one.name} has a continuous distribution already")
            one.rows.append((last, {p: elements.combined(p, v, manner) for p, v in found}))
            _probability(source, line, last)
        elif key in vectors:
            source.note(line, f"{elements.name(found[0][0])} is given more than once")
        elif len(found) > 1:
            source.note(line, "a fixed bound cannot follow a continuous distribution", "give it as DISCRETE")
        else:
            law = ("LOGNORM" if kind.startswith("LOGN") else kind, found[0][1], last)
            if not _law_holds(law):
                source.note(line, f"{found[0][1]:g} and {last:g} are no parameters of {kind}", LAWS)
            one = _Outcomes(elements.name(found[0][0]), period, manner, line.number, law=law)
            one.rows.append((1.0, dict(found)))
            vectors[key] = one


LAWS = "UNIFORM a < b, NORMAL mean and variance, GAMMA scale and shape, BETA two exponents, LOGNORM mean and variance"


def _law_holds(law: tuple[str, float, float]) -> bool:
    kind, a, b = law
    if kind == "UNIFORM":
        return a < b
    return b > 0 if kind in ("NORMAL", "LOGNORM") else a > 0 and b > 0


def _blocks(
    source: Reading, elements: Elements, below: Sequence[Line], manner: str, vectors: dict[tuple[str, ...], _Outcomes]
) -> None:
    now: _Outcomes | None = None
    for line in below:
        f = line.fields
        if f[0].upper() == "BL" and f[0] not in elements.columns:
            now = None
            prob = source.value(line, f[-1]) if len(f) == 4 else None
            if len(f) != 4:
                source.note(line, f"{len(f)} fields", "BL, the block's name, its period and a probability")
            elif f[2] not in elements.stages.periods:
                source.note(line, f"there is no period '{f[2]}'", nearest(f[2], elements.stages.periods))
            elif prob is not None:
                now = vectors.setdefault(("BLOCKS", f[1]), _Outcomes(f"block {f[1]}", f[2], manner, line.number))
                if now.period != f[2]:
                    source.note(line, f"block {f[1]} belongs to period {now.period} above")
                _probability(source, line, prob)
                now.rows.append((prob, dict(now.rows[0][1]) if now.rows else {}))
            continue
        if now is None:
            if not source.mistakes:
                source.note(line, "stands before the first BL", "each realisation begins with a line BL")
            continue
        for position, value in elements.read(source, line, f) or ():
            if len(now.rows) > 1 and position not in now.rows[0][1]:
                name = elements.name(position)
                source.note(
                    line, f"{name} is not in the first realisation of {now.name}", "which must have all numbers"
                )
            now.rows[-1][1][position] = elements.combined(position, value, manner)


def _scenarios(source: Reading, elements: Elements, below: Sequence[Line], manner: str, branches: list[Branch]) -> None:
    known = {b.name: b for b in branches}
    periods = elements.stages.periods
    now: tuple[str, str, float, int, dict[int, float], int] | None = None

    def close() -> None:
        if now is not None:
            name, parent, prob, stage, values, number = now
            known[name] = Branch(name, parent, prob, stage, tuple(values.items()), number)
            branches.append(known[name])

    for line in below:
        f = line.fields
        if f[0].upper() == "SC" and f[0] not in elements.columns:
            close()
            now = None
            if len(f) not in (4, 5):
                source.note(
                    line, f"{len(f)} fields", "SC, its name, its parent, its probability, the period it branches in"
                )
                continue
            name, parent = f[1], f[2].strip("'\"")
            prob = source.value(line, f[3])
            period = f[4] if len(f) == 5 else periods[min(1, len(periods) - 1)]
            root = parent.upper() in ROOTS and parent not in known
            if name in known or (branches and name == branches[-1].name):
                source.note(line, f"scenario '{name}' is given more than once")
            if not root and parent not in known:
                source.note(
                    line, f"scenario '{name}' branches from '{parent}', which is not above", nearest(parent, known)
                )
            if period not in periods:
                source.note(line, f"there is no period '{period}'", nearest(period, periods))
            elif prob is not None and (root or parent in known) and name not in known:
                _probability(source, line, prob)
                now = name, "" if root else parent, prob, periods.index(period), {}, line.number
            continue
        if now is None:
            if not source.mistakes:
                source.note(line, "stands before the first SC", "each scenario begins with a line SC")
            continue
        name, parent, _, stage, values, _ = now
        for position, value in elements.read(source, line, f) or ():
            at, late = elements.stage[position], elements.is_cost(position)
            if at == 0 and not late and elements.combined(position, value, manner) != elements.base[position]:
                text = f"{elements.name(position)} is random in the first period, which is certain"
                source.note(line, text, "give its value in the core file")
            elif at < stage and not late and at > 0:
                text = f"{elements.name(position)} is known in period {periods[at]}, before the scenario branches"
                source.note(line, text, f"let '{name}' branch in {periods[at]}")
            if position in values:
                source.note(line, f"{elements.name(position)} has a second value in scenario '{name}'")
            values[position] = elements.combined(position, value, manner)
    close()


# -- checks ------------------------------------------------------------------------------------------------------------


def _vector(source: Reading, elements: Elements, one: _Outcomes) -> RandomVector | None:
    source.section = "BLOCKS" if one.name.startswith("block ") else "INDEP"
    positions = tuple(one.rows[0][1])
    periods = elements.stages.periods
    needed = [elements.stage[p] for p in positions if not elements.is_cost(p)]
    earliest = min(needed, default=len(periods) - 1)
    stage = periods.index(one.period) if one.period else min(max(elements.stage[p] for p in positions), earliest)
    if stage > earliest:
        text = f"{one.name} is of period {one.period}, but period {periods[earliest]} needs it"
        source.note(one.first_line, text, "give the period in which it is known")
    if stage == 0:
        text = f"{one.name} is random in the first period, which is certain"
        source.note(one.first_line, text, "what is decided before anything is known has one value: the core file's")
        return None
    prob = np.array([p for p, _ in one.rows])
    if one.law is not None:
        return RandomVector(one.name, stage, positions, np.zeros((0, 1)), np.zeros(0), one.law, one.manner)
    if not _mass(source, one.first_line, one.name, prob.tolist()):
        return None
    kept = prob > 0
    outcomes = np.array([[values[p] for p in positions] for _, values in one.rows]).reshape(len(prob), len(positions))
    return RandomVector(one.name, stage, positions, outcomes[kept], prob[kept] / prob.sum())


def _mass(source: Reading, line: int, what: str, prob: Sequence[float]) -> bool:
    total = float(np.sum(prob))
    if abs(total - 1.0) <= MASS_TOLERANCE:
        return True
    remedy = f"the sum must be 1 to within {MASS_TOLERANCE:g}: write more digits, they are never scaled silently"
    source.note(line, f"the probabilities of {what} sum to {total:.12g}, not 1", remedy)
    return False


def _probability(source: Reading, line: Line, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        source.note(line, f"{value:g} is no probability", "a number from 0 to 1")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
