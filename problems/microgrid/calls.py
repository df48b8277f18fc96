"""Being called: how probable each ancillary service is, and what a cost is worth over being called or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.blocks.compile.outer_approximation import Function, Gradient
from decomp.messages import FloatArray

Probability = Annotated[float, Field(ge=0, le=1)]

# what is added to the power in each state: of regulation up, regulation down, spinning, non-spinning
STATES = ((0, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 1, 1), (0, -1, 0, 0))
OF_STATES = ("regulation_up", "regulation_down", "spinning", "nonspinning")
UPWARD = ("regulation_up", "spinning", "nonspinning")


class CallSettings(BaseModel):
    """Table [market.call]: probability lambda with which each service is called. Paper 2, Table 5."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    regulation_up: Probability
    regulation_down: Probability
    spinning: Probability
    nonspinning: Probability

    @model_validator(mode="after")
    def _weights_are_probabilities(self) -> Self:
        if self.nonspinning > self.spinning:
            raise ValueError(
                f"nonspinning = {self.nonspinning:g} is above spinning = {self.spinning:g}; "
                "non-spinning reserve is called only while spinning reserve is"
            )
        total = self.regulation_up + self.regulation_down + self.spinning
        if total > 1:
            raise ValueError(f"regulation_up + regulation_down + spinning = {total:g} is above 1")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """Probability of each of STATES: none called, regulation up, spinning, both reserves, regulation down.

        They sum to 1 and none is negative, so that costs weighted by them stay convex. Paper 2, eq. (30).
        """
        up, down, spinning, both = self.regulation_up, self.regulation_down, self.spinning, self.nonspinning
        return (1.0 - up - down - spinning, up, spinning - both, both, down)


@dataclass(frozen=True, eq=False)
class Calls:
    """How probable each service is called in each step: `at` (T,) holds the probabilities of every step."""

    at: tuple[CallSettings, ...]

    @classmethod
    def of(cls, call: CallSettings, steps: int, hourly: Mapping[str, FloatArray] | None = None) -> Calls:
        """The probabilities of the case file, those of `hourly` (T,) by service over them.

        Raises pydantic.ValidationError where those of a step are no probabilities.
        """
        if not hourly:
            return cls((call,) * steps)
        rows = ({**call.model_dump(), **{name: float(p[k]) for name, p in hourly.items()}} for k in range(steps))
        return cls(tuple(CallSettings(**row) for row in rows))

    def __getitem__(self, service: str) -> FloatArray:
        """(T,) probability of one service."""
        return np.array([getattr(call, service) for call in self.at])

    def upward(self, offers: Mapping[str, Any], k: int) -> Any:
        """Power that is expected to be called upwards in step k, of offers by service and step."""
        return sum(getattr(self.at[k], name) * offers[name][k] for name in UPWARD)

    def alike(self, steps: Sequence[int]) -> list[tuple[CallSettings, list[int]]]:
        """The steps with the same probabilities together, in the order of their first ones."""
        found: dict[tuple[float, ...], tuple[CallSettings, list[int]]] = {}
        for k in steps:
            found.setdefault(self.at[k].weights, (self.at[k], []))[1].append(k)
        return list(found.values())


def call_probability(requirement_mw: ArrayLike, load_mw: ArrayLike) -> float:
    """lambda = mean hourly requirement / mean hourly consumption. Paper 2, eq. (60).

    Raises ValueError where either is empty or negative, or the quotient is no probability.
    """
    requirement, load = (np.asarray(x, np.float64) for x in (requirement_mw, load_mw))
    if not requirement.size or not load.size or np.any(requirement < 0) or not np.mean(load) > 0:
        raise ValueError("requirement and consumption are power in MW: not empty, not negative, consumption above 0")
    probability = float(np.mean(requirement) / np.mean(load))
    if probability > 1:
        raise ValueError(f"the requirement is {probability:.3g} times the consumption: check the units")
    return probability


def over_calls(
    call: CallSettings, function: Function, gradient: Gradient, scale: float = 1.0
) -> tuple[Function, Gradient]:
    """F(P, ru, rd, sp, ns, *rest) = scale sum_k w_k f(P + r_k, *rest) and its gradient; convex where f is.

    r_k is what the state k of STATES adds to the power. Paper 2, eq. (30).
    """
    weighted = [(scale * w, state) for w, state in zip(call.weights, STATES, strict=True) if w > 0]

    def total(p: FloatArray, *args: FloatArray) -> FloatArray:
        r, rest = args[:4], args[4:]
        return np.asarray(sum(w * function(_shifted(p, r, state), *rest) for w, state in weighted))

    def slopes(p: FloatArray, *args: FloatArray) -> Sequence[FloatArray]:
        r, rest = args[:4], args[4:]
        out = [np.zeros_like(p) for _ in range(5 + len(rest))]
        for w, state in weighted:
            by_power, *others = gradient(_shifted(p, r, state), *rest)
            for j, factor in enumerate((1, *state)):
                out[j] = out[j] + w * factor * by_power
            for j, slope in enumerate(others):
                out[5 + j] = out[5 + j] + w * slope
        return out

    return total, slopes


def expected(call: CallSettings, function: Any, p: Any, services: Sequence[Any], *rest: Any) -> Any:
    """The same as an algebraic expression: sum_k w_k function(P + r_k, *rest)."""
    return sum(
        w * function(_shifted(p, services, state), *rest)
        for w, state in zip(call.weights, STATES, strict=True)
        if w > 0
    )


def _shifted(p: Any, r: Sequence[Any], state: Sequence[int]) -> Any:
    return p + sum(factor * x for factor, x in zip(state, r, strict=True) if factor)
