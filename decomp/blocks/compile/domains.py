"""Domains that are neither an interval nor a run of whole numbers, written with integer variables of their own.

one piece of equal steps    x = first + step k,  k whole
several pieces              x = sum_i x_i,  sum_i b_i = 1,  x_i in piece i where b_i = 1, else 0,  b_i binary
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyomo.environ as pyo
from pyomo.common.modeling import unique_component_name
from pyomo.core.base.range import NonNumericRange, NumericRange

from decomp.errors import InputError, Mistake

EQUAL = 1e-9  # relative to the step: values this near are one


@dataclass(frozen=True)
class Piece:
    """All of [first, last] where step is 0, else first, first + step, ..., last; either end may be infinite."""

    first: float
    last: float
    step: float

    @property
    def count(self) -> float:
        """Number of steps from the first value to the last."""
        return 0.0 if self.first == self.last else (self.last - self.first) / self.step if self.step else math.inf


def with_plain_domains(model: pyo.ConcreteModel, name: str, *, open_bounds: bool = False) -> pyo.ConcreteModel:
    """The model with every free variable real or whole; variables and constraints are added where that takes some.

    open_bounds: bounds that follow mutable Params are not known yet.
    Raises InputError for domains that are no sets of numbers, are empty, or are unions without an end.
    """
    mistakes: list[Mistake] = []
    found: list[tuple[Any, list[Piece]]] = []
    for v in model.component_data_objects(pyo.Var, active=True, descend_into=True):
        if v.fixed or v.is_continuous() or v.is_integer():
            continue
        try:
            found.append((v, _within_bounds(pieces_of(v.domain), v, open_bounds)))
        except ValueError as error:
            problem, remedy = error.args
            mistakes.append(Mistake(name, "model", v.name, f"its domain {v.domain} {problem}", remedy))
    if mistakes:
        raise InputError(mistakes)
    if found:
        blocks = pyo.Block(pyo.Any)
        model.add_component(unique_component_name(model, "values_of"), blocks)
        for v, pieces in found:
            _write(blocks[v.name], v, pieces)
    return model


def pieces_of(domain: Any) -> list[Piece]:
    """The pieces of a Pyomo domain in ascending order. Raises ValueError with the problem and the remedy."""
    pieces = []
    for part in domain.ranges():
        if isinstance(part, NonNumericRange) and isinstance(part.value, bool):
            pieces.append(Piece(float(part.value), float(part.value), 0.0))
        elif isinstance(part, NumericRange):
            ends = sorted((-math.inf if part.start is None else part.start, math.inf if part.end is None else part.end))
            if part.end is None and (part.step or 0) < 0:
                ends = [-math.inf, part.start]
            pieces.append(Piece(float(ends[0]), float(ends[1]), float(abs(part.step or 0))))
        else:
            raise ValueError("holds something that is no number", "give a set of numbers")
    if not pieces:
        raise ValueError("is empty", "give the values it may take")
    joined: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.first, p.last)):
        together = _joined(joined[-1], piece) if joined else None
        joined[-1:] = [together] if together else [*joined[-1:], piece]
    return joined


def _joined(a: Piece, b: Piece) -> Piece | None:
    """Both as one piece, where they are one; a begins no later than b."""
    point_a, point_b = a.first == a.last, b.first == b.last
    if not a.step and not point_a and not b.step and b.first <= a.last:
        return Piece(a.first, max(a.last, b.last), 0.0)
    if point_a and point_b:
        return a if a.first == b.first else Piece(a.first, b.first, b.first - a.first)
    step = a.step or b.step
    if not step or (a.step and b.step and a.step != b.step) or (not a.step and not point_a):
        return None
    if not b.step and not point_b:
        return None
    apart = b.first - a.last
    fits = abs(apart) <= EQUAL * step or abs(apart - step) <= EQUAL * step
    # without a first or last value nothing would say where the steps lie
    return Piece(a.first, b.last, step) if fits and not (math.isinf(a.first) and math.isinf(b.last)) else None


def _within_bounds(pieces: list[Piece], v: Any, open_bounds: bool) -> list[Piece]:
    """The pieces; where several of them go on without an end, only as far as the variable's own bounds."""
    if len(pieces) == 1 or all(math.isfinite(p.first) and math.isfinite(p.last) for p in pieces):
        return pieces
    known = [_number(end, open_bounds) for end in (v.lower, v.upper)]
    lower, upper = (-math.inf if known[0] is None else known[0]), (math.inf if known[1] is None else known[1])
    cut = [_cut(p, lower, upper) for p in pieces]
    if not all(math.isfinite(p.first) and math.isfinite(p.last) for p in cut):
        remedy = "give the variable lower and upper bounds that are numbers"
        raise ValueError("is a union of sets that have no end", remedy)
    inside = [p for p in cut if p.first <= p.last]
    return inside or [Piece(lower, lower, 0.0)]  # no value within the bounds: rows and bounds then say so


def _cut(p: Piece, lower: float, upper: float) -> Piece:
    """An endless piece within lower and upper; the values of steps stay where they are."""
    first, last = p.first, p.last
    if not p.step:
        return Piece(max(first, lower), min(last, upper), 0.0)
    if math.isinf(first) and math.isfinite(lower):
        first = last - p.step * math.floor((last - lower) / p.step + EQUAL)
    if math.isinf(last) and math.isfinite(upper):
        last = first + p.step * math.floor((upper - first) / p.step + EQUAL)
    return Piece(first, last, p.step)


def _number(end: Any, open_bounds: bool) -> float | None:
    if end is None or (open_bounds and hasattr(end, "is_expression_type")):
        return None
    return float(pyo.value(end))


def _write(block: Any, v: Any, pieces: list[Piece]) -> None:
    """Confine a variable, which is a real one from now on, to the pieces."""
    v.domain = pyo.Reals
    if len(pieces) == 1:
        (piece,) = pieces
        count = None if math.isinf(piece.count) else round(piece.count)
        # counted down from the last value where there is no first one
        base, bounds = (piece.last, (None, 0)) if math.isinf(piece.first) else (piece.first, (0, count))
        block.steps = pyo.Var(domain=pyo.Integers, bounds=bounds)
        block.value = pyo.Constraint(expr=v == base + piece.step * block.steps)
        return
    numbers = range(len(pieces))
    block.chosen = pyo.Var(numbers, domain=pyo.Binary)
    block.one = pyo.Constraint(expr=sum(block.chosen[i] for i in numbers) == 1)
    block.steps = pyo.Var([i for i in numbers if pieces[i].step], domain=pyo.Integers)
    block.part = pyo.Var([i for i in numbers if math.isinf(pieces[i].count)])
    block.ends = pyo.ConstraintList()
    total = 0.0
    for i, piece in enumerate(pieces):
        if piece.step:
            count = round(piece.count)
            block.steps[i].setlb(0)
            block.steps[i].setub(count)
            block.ends.add(block.steps[i] <= count * block.chosen[i])
            total += piece.first * block.chosen[i] + piece.step * block.steps[i]
        elif piece.first == piece.last:
            total += piece.first * block.chosen[i]
        else:
            block.part[i].setlb(min(piece.first, 0.0))
            block.part[i].setub(max(piece.last, 0.0))
            block.ends.add(block.part[i] >= piece.first * block.chosen[i])
            block.ends.add(block.part[i] <= piece.last * block.chosen[i])
            total += block.part[i]
    block.value = pyo.Constraint(expr=v == total)
