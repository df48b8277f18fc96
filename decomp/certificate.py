"""How far from the optimum: a point that can be realised, a proven lower bound, and the gaps between them.

    D(lambda) = sum_us pi_s min[f_us - <lambda_us, y>] + min_Z [g + <TS, Z>] <= optimum,  sum_s pi_s w_us = 0
    UB        = sum_us pi_s f_us(ybar_u) + g(Ybar), every block at the same ybar_u in all its scenarios
    gap       = (UB - LB) / |UB|
    gap_coordination = (UB - LB) / (UB - LB0), LB0 = D(neutral price): the share of what coordination can win that is
                still open. A gap relative to a total cost of which 0.05 % is traded proves nothing.

A bound comes from one complete sweep at one price without penalty, from proven bounds of every block; answers that
carry none (a LP with fixed binaries) give no bound. Bounds and costs are compared within one problem only: a
coordinator that is not convex is linearised at the recovered point itself, so that LB and UB speak of the same model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from decomp.coordinator import Coordinator, Warm, answer_all, check_all, evaluate_all
from decomp.errors import BoundError
from decomp.fleet import Fleet
from decomp.layout import Answers, Signals
from decomp.messages import Check, FloatArray, Query, Request
from decomp.rules.base import State


@dataclass(frozen=True)
class CertificateSettings:
    """every: a certificate every so many rounds; 0 = only before stopping. bounds: also prove a lower bound."""

    every: int = 0
    bounds: bool = True

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError("every must be 0 (only before stopping) or a number of rounds")


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is proven of a point.

    upper_bound    cost of the recovered point, None if none could be realised
    lower_bound    best proven bound of the problem named by bound_of; price (n,) is where it was found
    neutral_bound  the bound at the neutral price, LB0
    feasible       the coordinator's limits hold at the recovered point
    revised        an exact solve found better integer decisions: the run has not ended yet
    recovered      "offers" or "request": which point was realised; answers, request, check are of that point
    w_sum          largest |sum_s pi_s w_us|, 0 up to rounding where the bound is valid
    """

    upper_bound: float | None
    lower_bound: float | None
    neutral_bound: float | None
    bound_of: str
    feasible: bool
    revised: bool
    recovered: str
    answers: Answers
    request: Request
    check: Check
    price: FloatArray
    w_sum: float

    @property
    def gap(self) -> float | None:
        """(UB - LB) / |UB|."""
        if self.upper_bound is None or self.lower_bound is None or self.upper_bound == 0:
            return None
        return max(self.upper_bound - self.lower_bound, 0.0) / abs(self.upper_bound)

    @property
    def gap_coordination(self) -> float | None:
        """(UB - LB) / (UB - LB0); None where coordination has nothing to win."""
        if self.upper_bound is None or self.lower_bound is None or self.neutral_bound is None:
            return None
        stake = self.upper_bound - self.neutral_bound
        return max(self.upper_bound - self.lower_bound, 0.0) / stake if stake > 0 else None


@dataclass(frozen=True, eq=False)
class Realised:
    """A point with its cost."""

    name: str
    cost: float
    answers: Answers
    request: Request


def certify(
    fleet: Fleet,
    coordinator: Coordinator,
    state: State,
    signals: Signals,
    answers: Answers,
    request: Request,
    warm: tuple[Warm, ...],
    abilities: frozenset[str],
    bounds: bool,
) -> Certificate:
    """Recover a feasible point from the offers or the request, and prove a bound at the newest common price.

    Raises BoundError when the bound lies above the cost of the recovered point of the same problem.
    """
    layout = state.setup.layout
    point = _recover(fleet, coordinator, answers, request, "evaluate" in abilities)
    center = layout.totals(layout.mean(point.answers.y))
    reports = point.answers.reports()
    lower = neutral = None
    revised, bound_of = False, "exact"
    # a penalised answer stands for another price than the one it saw: there the newest price bounds best
    price = state if signals.target is not None else None
    node_price = state.price if price is not None else _node_price(signals, state)
    block_price = state.block_price() if price is not None else signals.price
    if bounds and "bound" in abilities:
        exact = Signals(layout, block_price, active=state.block_active(), exact=True, id=signals.id)
        sweep = fleet.solve(exact, keep=False)
        revised = bool(sweep.revised.any())
        lower, bound_of = _bound(coordinator, sweep, node_price, center, reports, warm)
        zero = Signals(layout, layout.to_blocks(layout.to_units(state.setup.neutral)), active=exact.active, exact=True)
        neutral, _ = _bound(coordinator, fleet.solve(zero, keep=False), state.setup.neutral, center, reports, warm)
    upper = point.cost if np.isfinite(point.cost) else None
    if upper is not None and lower is not None and lower > upper + 1e-7 * (1 + abs(upper)):
        raise BoundError(
            f"lower bound {lower!r} lies above the cost {upper!r} of a feasible point of the same ({bound_of}) "
            "problem: a block's or the coordinator's bound is not a bound"
        )
    return Certificate(
        upper_bound=upper,
        lower_bound=lower,
        neutral_bound=neutral,
        bound_of=bound_of,
        feasible=point.request.feasible,
        revised=revised,
        recovered=point.name,
        answers=point.answers,
        request=point.request,
        check=check_all(coordinator, center, reports),
        price=node_price,
        w_sum=float(np.max(np.abs(layout.mean(state.w)), initial=0.0)),
    )


def _recover(fleet: Fleet, coordinator: Coordinator, answers: Answers, request: Request, evaluate: bool) -> Realised:
    """The cheaper of two points: everybody at ybar, or everybody at what the coordinator asked for."""
    layout = answers.layout
    ybar = layout.mean(answers.y)
    agreed = layout.to_blocks(ybar)
    offers = answers if np.array_equal(agreed, answers.y) or not evaluate else fleet.evaluate(agreed, keep=False)
    points = [_realise(coordinator, "offers", offers)]
    mismatch = np.where(request.active, request.Z - layout.totals(ybar), 0.0)
    if evaluate and np.any(mismatch != 0):
        asked = ybar + layout.to_units(mismatch / np.maximum(layout.count, 1))
        points.append(_realise(coordinator, "request", fleet.evaluate(layout.to_blocks(asked), keep=False)))
    return min(points, key=lambda p: p.cost)


def _realise(coordinator: Coordinator, name: str, answers: Answers) -> Realised:
    layout = answers.layout
    ybar = layout.mean(answers.y)
    spread = np.max(np.abs(layout.to_blocks(ybar) - answers.y), initial=0.0)
    cost = answers.expected_cost()
    if not np.isfinite(cost):
        nothing = Request(layout.totals(np.zeros_like(ybar)), np.inf, np.ones(len(layout.count), bool), feasible=False)
        return Realised(name, np.inf, answers, nothing)
    request = evaluate_all(coordinator, layout.totals(ybar), answers.reports())
    scale = 1e-9 * (1 + np.max(np.abs(ybar), initial=0.0))
    return Realised(name, cost + request.cost if spread <= scale else np.inf, answers, request)


def _bound(
    coordinator: Coordinator,
    sweep: Answers,
    price: FloatArray,
    center: FloatArray,
    reports: dict,  # type: ignore[type-arg]
    warm: tuple[Warm, ...],
) -> tuple[float | None, str]:
    query = Query(price, center, np.zeros_like(price), want_bound=True)
    answer, _ = answer_all(coordinator, query, reports, warm)
    blocks = sweep.expected_bound()
    if answer.bound is None or np.isnan(blocks):
        return None, answer.bound_of
    return blocks + answer.bound, answer.bound_of


def _node_price(signals: Signals, state: State) -> FloatArray:
    """The node prices behind the signals of a round: what every unit's price is, less its agreement multipliers."""
    layout = state.setup.layout
    at = layout.node >= 0
    price = state.price.copy()
    price[layout.node[at]] = layout.mean(signals.price)[at]
    return price
