"""How large loads or photovoltaics must be for a stated share of the steps to violate voltage limits.

Counted with rated schedules: every community draws its load, its photovoltaics give all they can without reactive
power, heat pumps cover the heat load, stores and responses rest. One batched power flow for each factor; the least
factor is found by bisection, the same on every rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.network.feeder import Network
from problems.network.power_flow import solve
from problems.network.slack import exceedance

Injections = Callable[[float], tuple[FloatArray, FloatArray]]  # factor -> (T, n) kW, (T, n) kvar injected
TOLERANCE_PU = 1e-6
RELATIVE = 1e-4  # width of the last interval, relative to the factor


def violating(network: Network, p_kw: FloatArray, q_kvar: FloatArray) -> FloatArray:
    """(T,) how far the worst voltage of each step is outside its limits; inf where there is no power flow."""
    flow = solve(network, p_kw / network.base_kva, q_kvar / network.base_kva)
    found = np.full(len(p_kw), np.inf)
    found[flow.converged] = exceedance(network, flow.v_pu[flow.converged])
    return found


def least_factor(network: Network, injections: Injections, share: float, limit: float) -> tuple[float, int]:
    """(factor, steps that violate): the least factor with which ceil(share T) steps violate, to within RELATIVE.

    The number of violating steps must not fall with the factor. Share 0: the greatest factor up to 1 with no violation.
    Raises InputError where even `limit` is too little, or no factor above 0 is small enough.
    """
    steps = len(injections(1.0)[0])
    wanted = max(1, math.ceil(share * steps - 1e-9))

    def count(factor: float) -> int:
        return int(np.count_nonzero(violating(network, *injections(factor)) > TOLERANCE_PU))

    if share == 0 and count(1.0) == 0:
        return 1.0, 0
    low, high = 0.0, min(1.0, limit)
    while count(high) < wanted:
        if high >= limit:
            problem = f"a factor of {limit:g} makes {count(limit)} of {steps} steps violate, {wanted} are wanted"
            raise _wrong(problem, "a smaller share, the other side, or tighter voltage limits")
        low, high = high, min(2.0 * high, limit)
    if count(0.0) >= wanted:
        problem = f"{count(0.0)} of {steps} steps violate whatever the factor, {wanted} are wanted"
        raise _wrong(problem, "wider voltage limits, smaller load_kw, or a larger share")
    while high - low > RELATIVE * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if count(middle) >= wanted else (middle, high)
    factor = low if share == 0 else high
    return factor, count(factor)


def _wrong(problem: str, remedy: str) -> InputError:
    return InputError([Mistake("", "fleet.stress", "share", problem, remedy)])
