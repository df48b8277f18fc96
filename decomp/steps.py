"""Step functions: pure functions of the round k (from 0) and the coordinator's reference price `scale`.

A step has no memory. Any function (k, scale, **constants) will do; a constant given as a table in a case file
(`c1 = {LEC1 = 0.013, LEC2 = 0.002}`) reaches it as an array with one value per node row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from decomp.messages import FloatArray

StepFunction = Callable[..., float | FloatArray]


def constant(k: int, scale: FloatArray, a: float | FloatArray = 1.0) -> float | FloatArray:
    """a."""
    return a


def inverse(k: int, scale: FloatArray, a: float | FloatArray = 1.0, b: float = 1.0) -> float | FloatArray:
    """a / (k + b): diverging sum, converging sum of squares."""
    return a / (k + b)


def inverse_sqrt(k: int, scale: FloatArray, a: float | FloatArray = 1.0) -> float | FloatArray:
    """a / sqrt(k + 1)."""
    return a / np.sqrt(k + 1)


def exponential(
    k: int,
    scale: FloatArray,
    c1: float | FloatArray,
    c2: float | FloatArray,
    c3: float | FloatArray,
    c4: float | FloatArray,
) -> FloatArray:
    """c1 lambda_e (c2 + c3 exp(c4 k)), lambda_e = scale; paper 1, eq. (9)."""
    return c1 * scale * (c2 + c3 * np.exp(c4 * k))


STEPS: dict[str, StepFunction] = {f.__name__: f for f in (constant, inverse, inverse_sqrt, exponential)}


@dataclass(frozen=True)
class Step:
    """A step function with its constants; constants by group are spread over the node rows when called."""

    function: StepFunction
    constants: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)

    def __call__(self, k: int, scale: FloatArray, groups: tuple[str, ...]) -> FloatArray:
        """Step of each node row at round k. Raises ValueError where a group has no constant."""
        values = {
            name: np.array([_of_group(name, value, g) for g in groups]) if isinstance(value, Mapping) else value
            for name, value in self.constants.items()
        }
        return np.broadcast_to(np.asarray(self.function(k, scale, **values), float), scale.shape)


def _of_group(name: str, values: Mapping[str, float], group: str) -> float:
    if group not in values:
        known = ", ".join(sorted(values))
        raise ValueError(f"step constant {name} has no value for '{group}' (it has {known}); add {name}.{group}")
    return values[group]
