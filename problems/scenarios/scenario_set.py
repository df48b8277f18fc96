"""A set of scenarios: probabilities and, for each series, one value for each scenario and step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray

MASS_TOLERANCE = 1e-9  # the same as of decomp.messages.Coupling, which these probabilities end in


class Place(NamedTuple):
    """Where the input comes from, for the texts of mistakes."""

    file: str = ""
    section: str = "scenarios"

    def mistake(self, key: str, problem: str, remedy: str = "") -> Mistake:
        return Mistake(self.file, self.section, key, problem, remedy)


HERE = Place()


@dataclass(frozen=True, eq=False)
class Moments:
    """Probability mass, and for each series the mean and the standard deviation, both (T,)."""

    mass: float
    mean: Mapping[str, FloatArray]
    std: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class ScenarioSet:
    """S scenarios of T steps.

    names   (S,) unique
    prob    (S,) > 0, their sum is 1 (to 1e-9: they are never scaled silently)
    series  name -> (S, T) finite values, in the unit the name says

    Raises InputError with everything that is wrong.
    """

    names: tuple[str, ...]
    prob: FloatArray
    series: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        object.__setattr__(self, "prob", np.array(self.prob, np.float64))
        object.__setattr__(self, "series", {k: np.array(v, np.float64) for k, v in self.series.items()})
        mistakes = probability_mistakes(self.names, self.prob, Place())
        if len(set(self.names)) < len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            mistakes.append(Place().mistake("names", f"given more than once: {', '.join(twice)}", "name each one once"))
        if not self.series:
            mistakes.append(Place().mistake("series", "there is no series", "give at least one"))
        widths = {values.shape[1:] for values in self.series.values()}
        for name, values in self.series.items():
            if values.ndim != 2 or len(values) != len(self.names) or len(widths) > 1:
                mistakes.append(
                    Place().mistake(
                        name,
                        f"has the shape {values.shape}",
                        f"give one row for each of the {len(self.names)} scenarios, equally many steps in all",
                    )
                )
            elif not np.all(np.isfinite(values)):
                s, t = np.argwhere(~np.isfinite(values))[0]
                mistakes.append(
                    Place().mistake(
                        name,
                        f"{np.count_nonzero(~np.isfinite(values))} values are not finite numbers, "
                        f"first in scenario {self.names[s]} at step {t}",
                        "fill them in",
                    )
                )
        if mistakes:
            raise InputError(mistakes)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def steps(self) -> int:
        return next(iter(self.series.values())).shape[1]

    def moments(self) -> Moments:
        """mass = sum_s pi_s, mean_t = sum_s pi_s x_st, std_t^2 = sum_s pi_s (x_st - mean_t)^2 (of the set itself)."""
        mean = {name: self.prob @ values for name, values in self.series.items()}
        std = {name: np.sqrt(self.prob @ (values - mean[name]) ** 2) for name, values in self.series.items()}
        return Moments(float(self.prob.sum()), mean, std)

    def with_series(self, **series: FloatArray) -> ScenarioSet:
        """The same scenarios with series added or replaced, for instance PV power computed from irradiance."""
        return ScenarioSet(self.names, self.prob, {**self.series, **series})


def probability_mistakes(names: tuple[str, ...], prob: FloatArray, place: Place) -> list[Mistake]:
    """What keeps `prob` from being the probabilities of `names`; empty where nothing does."""
    if np.shape(prob) != (len(names),) or not names:
        return [place.mistake("probability", f"{np.size(prob)} values for {len(names)} scenarios", "give one for each")]
    wrong = [
        place.mistake("probability", f"scenario {name} has {p:g}", "give a number above 0 and not above 1")
        for name, p in zip(names, prob, strict=True)
        if not 0.0 < p <= 1.0 + MASS_TOLERANCE
    ]
    total = float(np.sum(prob))
    if not wrong and abs(total - 1.0) > MASS_TOLERANCE:
        remedy = f"the sum must be 1 to within {MASS_TOLERANCE:g}; write 12 digits of a third"
        wrong.append(place.mistake("probability", f"the probabilities sum to {total:.12g}", remedy))
    return wrong
