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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from decomp.coordinator import Coordinator, Parts, Reports, Warm
from decomp.errors import BoundError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import Check, FloatArray, Query, Request
from decomp.parallel.block_pool import BlockPool
from decomp.rules.base import Candidate, State
from decomp.rules.master import split_price
from decomp.run.result import Round

SETTLED = 1e-3  # a bound that should gain no more than this, relative to the cost, has nearly settled
BISECTIONS = 16  # a share of a mixture is known to 1.5e-5
WORTH = 1e-4  # relative gap below which no further point is looked for


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
    lower_bound    best proven bound of the problem named by bound_of, found at bound_price (n,)
    price          (n,) newest common price, the one that goes with the recovered point
    neutral_bound  the bound at the neutral price, LB0
    feasible       the coordinator's limits hold at the recovered point
    revised        an exact solve found better integer decisions: the run has not ended yet
    recovered      "offers" or "request": which point was realised; answers, request, check are of that point
    surplus        how far the offers of the round are from the recovered point, relative to the offers (norms of the
                   nodes' totals)
    is_incumbent   the point is the cheapest one of all rounds, and its cost is that of the problem itself
    w_sum          largest |sum_s pi_s w_us| over scenarios that agree, 0 up to rounding where the bound is valid
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
    bound_price: FloatArray
    w_sum: float
    is_incumbent: bool = False
    surplus: float = 0.0

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


@dataclass(frozen=True, eq=False)
class Sweep:
    """Exact answers of all blocks at one price: price (n,), blocks = sum_us pi_s bound_us, needed = the active rows.

    network: the coordinator's part, where it holds for good: of an exact problem that no block reports anything to.
    """

    price: FloatArray
    blocks: float
    needed: bytes
    network: float | None = None


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a search for decisions found, ybar (M,) or nothing, and what the bound was then expected to gain."""

    ybar: FloatArray | None
    expected: float


@dataclass(frozen=True, eq=False)
class Incumbent:
    """The cheapest point realised so far; needed = the active rows of the problem it belongs to."""

    point: Realised
    needed: bytes


Memory = tuple[tuple[bytes, Answers] | None, Sweep | None, Sweep | None, Chosen | None, Incumbent | None]


class Certifier:
    """Proves what can be proven of a round. Remembers the sweep at the neutral price, which rounds have in common."""

    def __init__(
        self, block_pool: BlockPool, coordinator: Coordinator, abilities: frozenset[str], bounds: bool
    ) -> None:
        self.block_pool, self.coordinator = block_pool, coordinator
        self.evaluates, self.exact, self.bounds = "evaluate" in abilities, "bound" in abilities, bounds
        self._neutral: tuple[bytes, Answers] | None = None
        self._zero: Sweep | None = None
        self._best: Sweep | None = None
        self._chosen: Chosen | None = None
        self._incumbent: Incumbent | None = None

    @property
    def memory(self) -> Memory:
        """What is remembered between rounds, as a plain value."""
        return self._neutral, self._zero, self._best, self._chosen, self._incumbent

    def restore(self, memory: Memory) -> None:
        """Go on from what `memory` gave."""
        self._neutral, self._zero, self._best, self._chosen, self._incumbent = memory

    def certify(
        self,
        state: State,
        asked: Sequence[Signals],
        answered: Sequence[Answers],
        said: Round,
        candidate: Candidate | None,
        warm: tuple[Warm, ...],
        before: Round | None = None,
    ) -> Certificate:
        """Recover a feasible point and prove a bound at the newest common price.

        before: the round ahead of this one; where its offers did not meet the limits and these do, the nearest mixture
        of both that does is tried too: answers that jump meet a limit by far more than it needs.
        state is the one after the round's update; asked, answered and said are what the round was about (the first
        signals are the round's own, others speculative). Raises BoundError when the bound lies above the cost of the
        recovered point of the same problem.
        """
        layout, signals = state.setup.layout, asked[0]
        point, average = self._recover(said, candidate, before)
        center, reports = _where(point, said)
        # a penalised answer stands for another price than the one it saw: there the newest price bounds best
        penalised = signals.target is not None
        node_price = state.price if penalised else said.node_price
        lower = neutral = None
        bound_price, revised, bound_of = node_price, False, "exact"
        if self.exact:  # also where no bound is wanted: integer decisions are looked at before a run may end
            answers = self._sweep(state, signals, said)
            revised = bool(answers.revised.any())
        # a row that joins in this very round belongs to another problem than the point that was recovered
        same = signals.active is None or np.array_equal(signals.active, state.block_active())
        if self.exact and self.bounds and same:
            needed = state.block_active().tobytes()
            sweep = Sweep(node_price, answers.expected_bound(), needed)
            zero = self._zero
            if zero is None or zero.needed != needed or np.isnan(zero.blocks):  # nan: a held block proved nothing
                zero = Sweep(state.setup.neutral, self._neutral_sweep(state).expected_bound(), needed)
            more = [
                Sweep(split_price(layout, s.price, state.setup.neutral)[0], a.expected_bound(), needed)
                for s, a in zip(asked[1:], answered[1:], strict=True)
                if s.exact and s.target is None
            ]
            if self._best is not None and self._best.needed == needed:
                more.append(self._best)
            found = [self._bound(s, center, reports, warm) for s in (zero, sweep, *more)]
            neutral, bound_of, self._zero = found[0]
            lower = max((b for b, _, _ in found if b is not None), default=None)
            best = next((s for b, _, s in found if b is not None and b == lower), sweep)
            bound_price, self._best = best.price, best
            if not self.coordinator.linearises:
                point = self._best_so_far(point, needed)
                point = self._more(state, point, average, candidate, lower)
        if same and not self.coordinator.linearises:  # a bound linearised at one point says nothing of another
            point = self._best_so_far(point, state.block_active().tobytes())
            center, reports = _where(point, said)
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
            check=self._parts().check(center, reports),
            price=node_price,
            bound_price=bound_price,
            w_sum=layout.multiplier_sum(state.w)[0],
            is_incumbent=upper is not None and same and not self.coordinator.linearises,
            surplus=_apart(state.setup.weight, layout.totals(layout.mean(said.answers.y)), center),
        )

    def _sweep(self, state: State, signals: Signals, said: Round) -> Answers:
        """Exact answers without penalty; the round's own where it asked for just that."""
        if signals.exact and signals.target is None:
            return said.answers
        price = signals.price if signals.target is None else state.block_price()
        exact = Signals(signals.layout, price, active=state.block_active(), exact=True, id=signals.id)
        return self.block_pool.solve(exact, keep=False)

    def _neutral_sweep(self, state: State) -> Answers:
        """Exact answers to the neutral price; asked anew only when the rows with a need have changed.

        An aside: integer decisions that suit the neutral price must not reach the iteration.
        """
        layout, active = state.setup.layout, state.block_active()
        if self._neutral is None or self._neutral[0] != active.tobytes():
            price = layout.to_blocks(layout.to_units(state.setup.neutral))
            signals = Signals(layout, price, active=active, exact=True)
            answers = self.block_pool.solve(signals, keep=False, aside=True)
            if answers.stale is not None:
                return answers  # without a bound, and to be asked again
            self._neutral = (active.tobytes(), answers)
        return self._neutral[1]

    def _recover(self, said: Round, candidate: Candidate | None, before: Round | None) -> tuple[Realised, Realised]:
        """The cheapest point, everybody at ybar or at what the rule or the request proposes; and the last one tried.

        Where ybar cannot be realised (integers), what one of the scenarios offers is tried instead, never rounded.
        """
        answers, layout = said.answers, said.answers.layout
        ybar = layout.mean(answers.y)
        agreed = layout.to_blocks(ybar)
        if not np.array_equal(agreed, answers.y) and self.evaluates:
            answers = self.block_pool.evaluate(agreed, keep=False)
        offers = self._realise("offers", answers)
        points, jumped = [offers], before is not None and said.check.feasible and not before.check.feasible
        if candidate is None:
            mismatch = np.where(said.request.active, said.request.Z - layout.totals(ybar), 0.0)
            candidate = Candidate(ybar + layout.to_units(mismatch / np.maximum(layout.count, 1)))
        proposed = [candidate.ybar, *candidate.others] if self.evaluates else []
        if before is not None and jumped and self.evaluates:
            proposed.append(self._between(before, said))
        if proposed and not np.isfinite(offers.cost):
            proposed = [nearest_answers(layout, said.answers.y), in_turn(layout, said.answers.y, said.k), *proposed]
        for asked in proposed:
            if not np.array_equal(asked, ybar):
                realised = self.block_pool.evaluate(layout.to_blocks(asked), keep=False)
                points.append(self._realise("request", realised))
        return min(points, key=lambda p: p.cost), points[-1]

    def _between(self, before: Round, said: Round) -> FloatArray:
        """(M,) the mixture of two rounds' offers that is nearest to the first and meets the limits, by bisection."""
        layout, reports = said.answers.layout, said.answers.reports()
        first, last = layout.mean(before.answers.y), layout.mean(said.answers.y)
        least, enough = 0.0, 1.0
        for _ in range(BISECTIONS):
            share = 0.5 * (least + enough)
            if self._parts().check(layout.totals(first + share * (last - first)), reports).feasible:
                enough = share
            else:
                least = share
        return first + enough * (last - first)

    def _more(
        self, state: State, point: Realised, average: Realised, candidate: Candidate | None, lower: float | None
    ) -> Realised:
        """A point that takes more effort, where the bound has settled, a gap is left and averaged answers are dear.

        Then the blocks' answers cannot be averaged: what each decides has to be chosen. That is done anew where the
        expected gain has fallen to a tenth since, to a half while there is no point at all; what was found before
        stays a point.
        """
        if candidate is None or candidate.recover is None or candidate.expected is None or lower is None:
            return point
        if candidate.averaged is None or average.answers.expected_cost() <= candidate.averaged + WORTH * abs(lower):
            return point
        none = not np.isfinite(point.cost)  # then the search does not wait for the bound to settle
        settled = none or candidate.expected <= SETTLED * abs(lower)
        near = not none and point.cost - lower <= WORTH * abs(point.cost)
        if not self.evaluates or not settled or near:
            return point
        known, found = self._chosen, None if self._chosen is None else self._chosen.ybar
        points = [] if found is None else [(self._chosen_point(found, point), found)]
        if known is None or candidate.expected < (0.5 if none else 0.1) * known.expected:
            points += [(self._chosen_point(y, point), y) for y in candidate.recover(partial(self._beside, state))]
            found = min(points, key=lambda p: p[0].cost)[1] if points else None
            self._chosen = Chosen(found, candidate.expected)
        return min(point, *(p for p, _ in points), key=lambda p: p.cost) if points else point

    def _beside(self, state: State, price: FloatArray) -> Answers:
        """Exact answers to a price that is no price of the iteration, which goes on as if nothing had been asked."""
        signals = Signals(state.setup.layout, price, active=state.block_active(), exact=True)
        return self.block_pool.solve(signals, keep=False, aside=True)

    def _best_so_far(self, point: Realised, needed: bytes) -> Realised:
        """The incumbent: this point, or a cheaper one that an earlier round has realised of the same problem."""
        known = self._incumbent
        if known is not None and known.needed == needed and known.point.cost <= point.cost:
            return known.point
        if np.isfinite(point.cost):
            self._incumbent = Incumbent(point, needed)
        return point

    def _chosen_point(self, ybar: FloatArray, like: Realised) -> Realised:
        return self._realise("request", self.block_pool.evaluate(like.answers.layout.to_blocks(ybar), keep=False))

    def _realise(self, name: str, answers: Answers) -> Realised:
        layout = answers.layout
        ybar = layout.mean(answers.y)
        spread = np.max(np.abs(layout.to_blocks(ybar) - answers.y), initial=0.0)
        cost = answers.expected_cost()
        if not np.isfinite(cost) or spread > 1e-9 * (1 + np.max(np.abs(ybar), initial=0.0)):
            n = len(layout.count)
            return Realised(name, np.inf, answers, Request(np.zeros(n), np.inf, np.ones(n, bool), feasible=False))
        request = self._parts().evaluate(layout.totals(ybar), answers.reports())
        return Realised(name, cost + request.cost, answers, request)

    def _parts(self) -> Parts:
        return self.block_pool.parts_of(self.coordinator)

    def _bound(
        self, sweep: Sweep, center: FloatArray, reports: Reports, warm: tuple[Warm, ...]
    ) -> tuple[float | None, str, Sweep]:
        """The blocks' part is proven once and for all; the coordinator's mostly belongs to its model at `center`."""
        if sweep.network is not None:
            return sweep.blocks + sweep.network, "exact", sweep
        query = Query(sweep.price, center, np.zeros_like(sweep.price), want_bound=True)
        answer, _ = self._parts().answer(query, reports, warm)
        if answer.bound is None or np.isnan(sweep.blocks):
            return None, answer.bound_of, sweep
        if answer.bound_of == "exact" and not any(len(report) for report in reports.values()):
            sweep = replace(sweep, network=answer.bound)
        return sweep.blocks + answer.bound, answer.bound_of, sweep


def _where(point: Realised, said: Round) -> tuple[FloatArray, Reports]:
    """Totals (n,) and reports at the point; the blocks' own where nothing is known of it."""
    answers = point.answers if np.isfinite(point.answers.y).all() else said.answers
    return answers.layout.totals(answers.layout.mean(answers.y)), answers.reports()


def _apart(weight: FloatArray, offers: FloatArray, other: FloatArray) -> float:
    size = float(np.sqrt(np.sum(weight * offers**2)))
    return float(np.sqrt(np.sum(weight * (offers - other) ** 2))) / size if size > 0 else 0.0


def nearest_answers(layout: Layout, y: FloatArray) -> FloatArray:
    """(M,) for each unit entry the y of one whole answer: of those that agree, the block nearest to the averages."""
    apart = layout.to_blocks(layout.mean(y)) - y
    distance = layout.inner(apart, apart)[layout.block]
    order = np.lexsort((layout.block, distance, layout.entry))
    first = np.unique(layout.entry[order], return_index=True)[1]
    return y[order][first]


def in_turn(layout: Layout, y: FloatArray, k: int) -> FloatArray:
    """(M,) for each unit entry the y of the k-th of the blocks that agree, counted round and round; y (N,)."""
    order = np.lexsort((layout.block, layout.entry))
    first = np.concatenate([[0], np.cumsum(layout.sharers)[:-1]]).astype(np.int64)
    return np.asarray(y[order][first + k % np.maximum(layout.sharers, 1)])
