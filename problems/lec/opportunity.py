"""What reactive power costs a device: the apparent power it no longer has for active power. Paper 1, eqs. (1)-(7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.messages import FloatArray
from problems.lec.data import LecData

SETTLED = 13  # tangents of each term where they are settled beforehand; S - P is homogeneous: only angles count


def excess(p_kw: FloatArray, q_kvar: FloatArray) -> FloatArray:
    """S - P = Q^2 / (S + P) in kVA, S = sqrt(P^2 + Q^2), P >= 0: convex, and without cancellation for a small Q."""
    total = np.hypot(p_kw, q_kvar) + p_kw
    return np.where(total > 0, q_kvar**2 / np.where(total > 0, total, 1.0), np.abs(q_kvar))


def excess_gradient(p_kw: FloatArray, q_kvar: FloatArray) -> Sequence[FloatArray]:
    """d(S - P)/dP = -(S - P)/S and d(S - P)/dQ = Q/S; at the tip of the cone the subgradient 0."""
    apparent = np.hypot(p_kw, q_kvar)
    safe = np.where(apparent > 0, apparent, 1.0)
    return [np.where(apparent > 0, -excess(p_kw, q_kvar) / safe, 0.0), q_kvar / safe]


def opportunity(
    b: pyo.Block,
    data: LecData,
    p_kw: Any,
    q_kvar: Any,
    q_max_kvar: Any,
    steps: Sequence[int] | None = None,
    q_per_p: float = 1.0,
) -> tuple[Any, list[ConvexTerm]]:
    """Opportunity cost sum_t max(lambda^e, 0) (S - P) dt in SEK of a device, and the convex term that defines S - P.

    S - P is convex and homogeneous in (P, Q), so that tangents do without the grid and the binaries of eqs. (3)-(6).
    Where lambda^e < 0, S - P would be rewarded and the cost no longer convex: it is 0 there.

    Arguments
        b           the device's block; gets the variables `excess_kva`, S - P
        p_kw        by step: active power, numbers or variables, >= 0 whichever way it flows
        q_kvar      by step: reactive power, variables
        q_max_kvar  (T,) greatest |Q|, which S - P cannot exceed
        steps       the steps in which the device can give reactive power at all; None = all
        q_per_p     greatest |Q| / P: settled tangents are spread over these angles
    """
    steps = data.steps if steps is None else steps
    b.excess_kva = pyo.Var(steps, bounds=lambda _, k: (0, q_max_kvar[k]))
    if not steps:
        return 0.0, []
    price = data.derived(b, "opportunity_sek_per_kwh", _opportunity_price)
    cost = data.dt_h * sum(price[k] * b.excess_kva[k] for k in steps)
    arguments = ([p_kw[k] for k in steps], [q_kvar[k] for k in steps])
    epigraph = [b.excess_kva[k] for k in steps]
    angles = np.linspace(-1.0, 1.0, SETTLED) * np.arctan(q_per_p)
    touches = [(1.0, float(t)) for t in np.tan(angles)]
    return cost, [ConvexTerm(epigraph, arguments, excess, excess_gradient, f"{b.name}.excess_kva", touches)]


def settled_error(q_per_p: float = 1.0) -> float:
    """How far S - P can be above its settled tangents, as a part of S: 1 - cos of half the angle between two."""
    return float(1.0 - np.cos(np.arctan(q_per_p) / (SETTLED - 1)))


def _opportunity_price(data: LecData) -> FloatArray:
    return np.maximum(data.spot_sek_per_kwh, 0.0)
