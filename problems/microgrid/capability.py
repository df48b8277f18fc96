"""How much reactive power a machine or a converter can give beside its active power: discs in the (P, Q) plane."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, inf, sqrt
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.microgrid.unit import AlgebraicTerm


class Disc:
    """P^2 + (Q - centre)^2 <= radius^2, all in MVA."""

    def __init__(self, radius_mva: float, centre_mvar: float = 0.0) -> None:
        self.radius, self.centre = radius_mva, centre_mvar

    def q_max_mvar(self, p_mw: float) -> float:
        """centre + sqrt(radius^2 - P^2), the upper arc; -inf where no Q allows P."""
        return self.centre + sqrt(self.radius**2 - p_mw**2) if p_mw <= self.radius else -inf

    def holds(self, p_mw: float, q_mvar: tuple[float, float]) -> bool:
        """Every point with 0 <= P <= p_mw and Q in the interval q_mvar is inside."""
        return all(hypot(p_mw, q - self.centre) <= self.radius for q in q_mvar)

    def add(
        self, b: pyo.Block, name: str, p_mw: Any, q_mvar: Any, steps: Sequence[int], p_max_mw: FloatArray
    ) -> list[AlgebraicTerm]:
        """The term that keeps variables p_mw[k], q_mvar[k] inside; nothing in steps whose box is inside anyway.

        Adds `<name>_mva`, the distance from the centre, to the block b.
        """
        binding = [k for k in steps if not self.holds(float(p_max_mw[k]), (q_mvar[k].lb, q_mvar[k].ub))]
        if not binding:
            return []
        b.add_component(f"{name}_mva", pyo.Var(binding, bounds=(0.0, self.radius)))
        distance, centre = b.component(f"{name}_mva"), self.centre

        def length(p: FloatArray, q: FloatArray) -> FloatArray:
            return np.hypot(p, q - centre)

        def direction(p: FloatArray, q: FloatArray) -> Sequence[FloatArray]:
            r = np.hypot(p, q - centre)
            safe = np.where(r > 0, r, 1.0)
            return [p / safe, (q - centre) / safe]

        return [
            AlgebraicTerm(
                [distance[k] for k in binding],
                ([p_mw[k] for k in binding], [q_mvar[k] for k in binding]),
                length,
                direction,
                f"{b.name}.{name}",
                exact=lambda t, p, q: t**2 >= p**2 + (q - centre) ** 2,
            )
        ]


def armature_disc(rating_mva: float, v_pu: float) -> Disc:
    """Q <= sqrt((V I)^2 - P^2) on both sides. Paper 2, eqs. (5) and (11)."""
    return Disc(v_pu * rating_mva)


def field_disc(rating_mva: float, v_pu: float, inner_v_pu: float, x_pu: float) -> Disc:
    """Q <= -V^2/X + sqrt((E V/X)^2 - P^2), in per unit of the rating. Paper 2, eqs. (6) and (12).

    E is the machine's greatest inner voltage, or the converter's greatest voltage behind the reactance X.
    """
    return Disc(inner_v_pu * v_pu / x_pu * rating_mva, -(v_pu**2) / x_pu * rating_mva)
