"""A primal-dual interior point in the space of prices: every block factorises its own system, the root joins them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.linalg import LinAlgError

from decomp.blocks.interior.participant import NUMBERS, WEIGHTS, Participant
from decomp.blocks.interior.program import coordinator_program
from decomp.errors import BlockError, InfeasibleError, TatonnementError, UnboundedError
from decomp.layout import Answers, Layout
from decomp.messages import BoolArray, FloatArray, IntArray, QuadraticModel, Request
from decomp.rules.base import Candidate, Setup, State
from decomp.rules.participants import Participants
from decomp.rules.price_space import PriceSpace, Residuals
from decomp.rules.with_model import ModelRule, ModelState

ATTEMPTS = 4
MORE = 30.0  # times the regularisation where a factor breaks down
log = logging.getLogger(__name__)

MONEY = 8.0  # units of money that a value-at-risk counts in: its limits are those of the dearest case
MOST_STEPS = 30  # Newton steps without a sweep
PROOF = 1e-6  # what a proof may lack, relative to what it says
MOST = 3  # names of those that a proof is about
SMALLEST = 1e-7  # own gap relative to the cost that tangents are refined for
WORTH = 0.02  # a correction is kept where it lengthens the two steps by so much together


@dataclass(frozen=True, eq=False)
class InteriorState(ModelState):
    """Price T (n,) of the nodes' balance, weights in it, offers ybar (M,), requests Z (n,); of the blocks lambda (N,),
    offers (N,) and numbers (B, 6) of `Participant.move`: cost, sum of products, their count,
    primal and dual residual, what the pool of tangents falls short; the parts' iterates.

    steps: iterations done
    """

    T: FloatArray
    ybar: FloatArray
    Z: FloatArray
    block_price_weighted: FloatArray
    offers: FloatArray
    numbers: FloatArray
    part_price: FloatArray
    part_numbers: FloatArray
    parts: tuple[Mapping[str, FloatArray], ...]
    reg: float
    steps: int
    y_unit: FloatArray
    cost_unit: float


@dataclass(frozen=True)
class InteriorPoint(ModelRule):
    """Mehrotra's predictor and corrector and Gondzio's corrections over all blocks and the coordinator's model.

        min  sum_u sum_s pi_s f_us(x_us) + g(Z),   y_us = ybar_u  (lambda_us),   sum_u ybar_u = Z  (T)

    One Newton step of the whole problem, eliminated from the blocks to the root (decomp.rules.price_space): a block
    sends its curvature H once a round and vectors of the length of its offers; agreement over scenarios is eliminated
    within each unit. Every round proves its bound at lambda and proposes ybar.

        sigma = min(sigma_max, (mu_aff / mu)^3),  step = d_affine + w d_corrector, 0.1 <= w <= 1 for the longest

    corrections  centrality corrections a round, at most; each is an exchange, none a factorisation
    back         share of the way to the boundary that a step takes
    regularisation  of the factorised systems, in scaled units; thirty times more where a factor breaks down
    aspiration   so much longer a step each correction aims at
    tangents     of convex terms are added where the pool falls short by more than this share of the point's own gap
    sweep_below  a round holds as many iterations as bring the point's own gap, relative, below this, and then asks all
                 blocks for exact answers; inf = one iteration a round. 20 times the gap that is wanted costs the least
                 time where an exact answer costs more than an iteration

    needs: blocks with `kkt` (compiled, convex) and bounds; a coordinator with its model. reveals: y, curvature.
    wins when: every convex case; rounds hardly grow with the number of blocks, prices and scenarios.
    Mehrotra (1992); Gondzio (1996); Colombo and Gondzio (2008).
    """

    corrections: int = 4
    back: float = 0.995
    regularisation: float = 1e-9
    sigma_max: float = 0.3
    aspiration: float = 0.5
    tangents: float = 0.1
    sweep_below: float = np.inf
    needs: ClassVar[frozenset[str]] = frozenset({"kkt", "bound"})
    reveals: ClassVar[str] = "y, curvature"
    unbounded_goes_on: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.corrections < 0:
            raise ValueError("corrections must not be negative")
        for name in ("back", "sigma_max", "aspiration", "tangents"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1")
        if not self.sweep_below > 0:
            raise ValueError("sweep_below must be positive")
        if not 0 < self.regularisation < 1e-3:
            raise ValueError("regularisation must lie between 0 and 1e-3")

    def init(self, setup: Setup) -> InteriorState:
        layout, zeros = setup.layout, np.zeros
        if setup.participants is not None:
            try:
                setup.participants.ask("spans", np.zeros(len(layout.entry)))
            except BlockError as error:
                raise ValueError(f"{error}") from error
        M, n, N = len(layout.node), len(layout.count), len(layout.entry)
        return InteriorState(
            setup, setup.start_price, zeros(N), setup.active, None,
            T=zeros(n), ybar=zeros(M), Z=zeros(n), block_price_weighted=zeros(N), offers=zeros(N),
            numbers=zeros((len(layout.keys), NUMBERS)), part_price=zeros(0), part_numbers=zeros((0, NUMBERS)), parts=(),
            reg=self.regularisation, steps=0, y_unit=zeros(M), cost_unit=1.0,
        )  # fmt: skip

    def improve(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request, model: QuadraticModel
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, InteriorState)
        participants = state.setup.participants
        if participants is None:
            raise TatonnementError("interior_point has no way to the blocks' own systems; run it by the engine")
        if state.steps and not np.array_equal(state.active, request.active):
            state = replace(self.init(state.setup), reg=state.reg)  # other columns are fixed now: from the start again
        state = replace(state, active=request.active)
        work = _Work(self, state, participants, model)
        work.iterate()
        after = work.state()
        setup, layout = state.setup, state.setup.layout
        node = after.T / setup.weight
        price = after.block_price_weighted / layout.weight[layout.entry]
        w = price - layout.to_blocks(layout.mean(price))
        after = replace(
            after, price=np.where(layout.count > 0, node, setup.neutral), w=w, active=request.active, z=after.Z
        )
        mismatch = layout.to_units((after.Z - layout.totals(after.ybar)) / np.maximum(layout.count, 1))
        return after, Candidate(after.ybar, mismatch=mismatch)


class _Work:
    """One round at the root: its unknowns, the coordinator's parts, and the blocks behind `participants`."""

    def __init__(
        self, rule: InteriorPoint, state: InteriorState, participants: Participants, model: QuadraticModel
    ) -> None:
        self.rule, self.setup, self.layout, self.ask = rule, state.setup, state.setup.layout, participants.ask
        self.before, self.reg = state, state.reg
        self.T, self.ybar, self.Z = state.T, state.ybar, state.Z
        self.price, self.offers, self.numbers = state.block_price_weighted, state.offers, state.numbers
        self.part_price, self.part_numbers = state.part_price, state.part_numbers
        self.y_unit, self.cost_unit = self._units() if state.steps == 0 else (state.y_unit, state.cost_unit)
        self.y_unit_at = np.ones(len(self.layout.count))
        at = self.layout.node >= 0
        self.y_unit_at[self.layout.node[at]] = self.y_unit[at]
        self.parts, self.rows = self._parts(model)
        self.at = np.concatenate([np.zeros(0, np.int64), *self.rows]).astype(np.int64)
        self.cut = np.cumsum([len(rows) for rows in self.rows])[:-1]
        self.space: PriceSpace | None = None
        self.steps = state.steps

    def state(self) -> InteriorState:
        saved = tuple(dict(part.save()) for part in self.parts)
        return replace(
            self.before, T=self.T, ybar=self.ybar, Z=self.Z, block_price_weighted=self.price, offers=self.offers,
            numbers=self.numbers, part_price=self.part_price, part_numbers=self.part_numbers, parts=saved,
            reg=self.reg, steps=self.steps, y_unit=self.y_unit, cost_unit=self.cost_unit,
        )  # fmt: skip

    def iterate(self) -> None:
        """One iteration, more while the own gap is above `sweep_below`; the first time from the start, and twice:
        neither the start nor its first step is worth a sweep of all blocks."""
        if self.steps == 0:
            self._start()
            self._iteration()
        self._iteration()
        more = MOST_STEPS
        while self.own_gap() > self.rule.sweep_below and more:
            self._iteration()
            more -= 1
        log.debug("%d Newton steps, own gap %.2e, regularisation %.0e", self.steps, self.own_gap(), self.reg)

    def own_gap(self) -> float:
        """Sum of the products by |cost|: the gap of the point itself once it is feasible."""
        cost, products = self._weight() @ np.concatenate([self.numbers, self.part_numbers])[:, :2]
        return float(products * self.cost_unit / max(abs(cost), 1e-300))

    def _weight(self) -> FloatArray:
        return np.concatenate([self.layout.prob, np.ones(len(self.parts))])

    # -- units, parts --------------------------------------------------------------------------------------------------

    def _units(self) -> tuple[FloatArray, float]:
        """y_unit (M,): a unit entry counts in its share of the node's box or, where less, in what blocks can offer;
        money in a middling price times a middling entry, or in what a middling column costs."""
        layout, setup = self.layout, self.setup
        told = self.ask("spans", layout.to_blocks(_is_money(layout).astype(float)))
        largest = np.zeros(len(layout.node))
        np.maximum.at(largest, layout.entry, np.concatenate([np.zeros(0), *(t[:-1] for t in told)]))
        box = np.append(np.maximum(np.abs(setup.box[0]), np.abs(setup.box[1])), 1.0)
        share = box[layout.node] / np.maximum(np.append(layout.count, 1)[layout.node], 1)
        y_unit = np.minimum(
            np.where((layout.node >= 0) & (share > 0), share, np.inf), np.where(largest > 0, largest, np.inf)
        )
        y_unit = np.where(np.isfinite(y_unit) & (y_unit > 0), np.maximum(y_unit, 1e-9), 1.0)
        money = np.array([t[-1] for t in told])
        if len(setup.scale) and len(y_unit):
            cost = float(np.median(setup.scale) * np.median(y_unit))
        else:
            cost = float(np.median(money[np.isfinite(money)])) if np.isfinite(money).any() else 1.0
        cost = cost if np.isfinite(cost) and cost > 0 else 1.0
        return np.where(_is_money(layout), MONEY * cost, y_unit), cost

    def _parts(self, model: QuadraticModel) -> tuple[list[Participant], list[IntArray]]:
        """The coordinator's model as participants that offer -Z, one for each independent part of it."""
        parts, rows = [], []
        for program, own in coordinator_program(model, self.setup.box):
            none = program.terms.no_tangents()
            parts.append(Participant(program, none, self.y_unit_at[own], self.cost_unit, self.reg))
            rows.append(own)
        if self.before.steps:
            for part, saved in zip(parts, self.before.parts, strict=True):
                part.load(saved)
        return parts, rows

    # -- Newton --------------------------------------------------------------------------------------------------------

    def _residuals(self) -> Residuals:
        layout = self.layout
        expected = np.bincount(layout.entry, layout.pi * self.price, minlength=len(layout.node))
        return Residuals(
            layout.to_units(self.T) - expected,
            self.T[self.at] - self.part_price,
            layout.totals(self.ybar) - self.Z,
        )

    def _factor(self, start: bool) -> None:
        """With thirty times the regularisation where a factor breaks down."""
        for attempt in range(ATTEMPTS):
            try:
                hessians = self.ask("curvature", None, (self.reg, float(start)))
                own = [part.curvature(self.reg, start) for part in self.parts]
                self.space = PriceSpace(self.layout, [_square(h) for h in hessians], own, self.rows)
                return
            except LinAlgError:
                if attempt + 1 == ATTEMPTS:
                    raise
                self.reg *= MORE

    def _newton(self, t: list[FloatArray], part_t: list[FloatArray], residuals: Residuals) -> _Root:
        assert self.space is not None
        found = self.space.solve(np.concatenate([np.zeros(0), *t]), np.concatenate([np.zeros(0), *part_t]), residuals)
        return _Root(*found)

    def _parts_of(self, values: FloatArray) -> list[FloatArray]:
        return np.split(values, self.cut) if self.parts else []

    def _predict(self, start: bool) -> tuple[_Root, FloatArray]:
        """The direction with targets 0, and of every participant the numbers of `Participant.step`."""
        t = self.ask("response", self.layout.to_blocks(self.ybar), (float(start),))
        own = [p.response(y, start) for p, y in zip(self.parts, self._parts_of(-self.Z[self.at]), strict=True)]
        root = self._newton(t, own, self._residuals())
        told = self.ask("step", self.layout.to_blocks(root.dybar))
        told += [p.step(dy) for p, dy in zip(self.parts, self._parts_of(root.dy), strict=True)]
        return root, np.stack(told)

    def _correct(self, goal: float, kind: str, primal: float, dual: float) -> tuple[_Root, FloatArray]:
        """A corrector, and of every participant the longest steps with each weight of it."""
        centrality = float(kind == "centrality")
        t = self.ask("correction", None, (goal, centrality, primal, dual))
        own = [part.correction(goal, kind, primal, dual) for part in self.parts]
        root = self._newton(t, own, self._residuals().none())
        told = self.ask("correct", self.layout.to_blocks(root.dybar))
        told += [p.correct(dy) for p, dy in zip(self.parts, self._parts_of(root.dy), strict=True)]
        return root, np.stack(told)

    # -- interior point ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """One Newton step with Theta = 1, pushed inside the bounds."""
        self.part_price = np.zeros(len(self.at))
        self.ask("active", self.before.block_active().astype(float))
        self.ask("prepare", self.layout.to_blocks(self.y_unit), (self.cost_unit, self.reg))
        self._factor(start=True)
        root, _ = self._predict(start=True)
        self.T, self.ybar, self.Z = self.T + root.dT, self.ybar + root.dybar, self.Z + self._to_nodes(-root.dy)
        self._told(self.ask("begin"), [part.begin() for part in self.parts])

    def _iteration(self) -> None:
        rule = self.rule
        self._factor(start=False)
        root, told = self._predict(start=False)
        weight = self._weight()
        sums = weight @ told[:, 2:]
        primal, dual = (min(1.0, rule.back * float(np.min(told[:, i], initial=np.inf))) for i in (0, 1))
        count = float(weight @ np.concatenate([self.numbers[:, 2], self.part_numbers[:, 2]]))
        if count > 0:
            here = float(sums[0])
            after = here + primal * sums[1] + dual * sums[2] + primal * dual * sums[3]
            sigma = min(rule.sigma_max, max(1e-8, float(after) / here) ** 3) if here > 0 else 0.0
            goal = sigma * here / count
            root, primal, dual = self._added(root, goal, "second_order", primal, dual, -np.inf)
            for _ in range(rule.corrections):
                aims = min(1.0, primal + rule.aspiration), min(1.0, dual + rule.aspiration)
                better, longer, dual_longer = self._added(root, goal, "centrality", *aims, primal + dual + WORTH)
                if better is root:
                    break
                root, primal, dual = better, longer, dual_longer
        self.T = self.T + dual * root.dT
        self.ybar = self.ybar + primal * root.dybar
        self.Z = self.Z + primal * self._to_nodes(-root.dy)
        self._told(self.ask("move", None, (primal, dual)), [part.move(primal, dual) for part in self.parts])
        self.steps += 1
        self._named(weight)
        self._refine(weight)

    def _named(self, weight: FloatArray) -> None:
        """Raises InfeasibleError or UnboundedError where the iterate proves it, see `Participant`.

        What multipliers and point lack of agreeing (T = sum pi lambda, y = ybar, sum ybar = Z) counts as theirs.
        """
        layout, residuals = self.layout, self._residuals()
        told = np.concatenate([self.numbers, self.part_numbers])
        sums, most = weight @ told[:, 6:], np.max(told[:, 6:], axis=0, initial=0.0)
        unit = np.concatenate([self.y_unit, self.y_unit_at[self.at]]) / self.cost_unit
        lack = np.abs(np.concatenate([residuals.lack, residuals.part_lack])) * unit
        proof = sums[0] > 0 and self.before.active.all()  # with more rows in need, frozen columns move
        if proof and sums[1] + np.sum(lack) <= PROOF * sums[0]:
            raise InfeasibleError(_culprits(self))
        apart = np.abs(self.offers - layout.to_blocks(self.ybar)) / layout.to_blocks(self.y_unit)
        off = max(most[3], np.max(apart, initial=0.0), np.max(np.abs(residuals.balance) / self.y_unit_at, initial=0.0))
        off = max(off, float(layout.prob @ self.numbers[:, 5]) / self.cost_unit)  # tangents are still missing
        if -sums[2] > 0 and off <= PROOF * -sums[2]:
            gains = layout.prob * self.numbers[:, 8]
            named = [
                str(layout.keys[b]) for b in np.argsort(gains, kind="stable")[:MOST] if gains[b] < 0.1 * min(gains)
            ]
            raise UnboundedError(named)

    def _refine(self, weight: FloatArray) -> None:
        """Add tangents where the blocks' pools fall short of their convex terms by more than a share of the own gap."""
        cost, products, count = weight @ np.concatenate([self.numbers, self.part_numbers])[:, :3]
        open_gap = max(float(products) * self.cost_unit, SMALLEST * abs(float(cost)))
        allowed = self.rule.tangents * open_gap
        if count > 0 and float(self.layout.prob @ self.numbers[:, 5]) > allowed:
            self.ask("refine", None, (0.3 * allowed, float(products / count)))

    def _added(
        self, root: _Root, goal: float, kind: str, primal: float, dual: float, least: float
    ) -> tuple[_Root, float, float]:
        """The direction with a corrector added, where its two steps together are at least `least` long."""
        more, told = self._correct(goal, kind, primal, dual)
        each = np.minimum(1.0, self.rule.back * np.min(told, axis=0, initial=np.inf))
        found = [_first_longest(side) for side in np.split(each, 2)]
        if sum(length for _, length in found) < least:
            return root, primal, dual
        weights = [float(WEIGHTS[i]) for i, _ in found]
        self.ask("take", None, weights)
        for part in self.parts:
            part.take(*weights)
        return root.plus(more, *weights), found[0][1], found[1][1]

    def _told(self, blocks: list[FloatArray], parts: list[FloatArray]) -> None:
        sizes, own = np.diff(self.layout.start), [len(rows) for rows in self.rows]
        self.price = np.concatenate([np.zeros(0), *(b[:m] for b, m in zip(blocks, sizes, strict=True))])
        self.offers = np.concatenate([np.zeros(0), *(b[m : 2 * m] for b, m in zip(blocks, sizes, strict=True))])
        self.numbers = np.stack([b[2 * m :] for b, m in zip(blocks, sizes, strict=True)])
        self.part_price = np.concatenate([np.zeros(0), *(b[:m] for b, m in zip(parts, own, strict=True))])
        self.part_numbers = np.array([b[2 * m :] for b, m in zip(parts, own, strict=True)]).reshape(len(parts), NUMBERS)

    def _to_nodes(self, z: FloatArray) -> FloatArray:
        out = np.zeros(len(self.layout.count))
        out[self.at] = z
        return out


@dataclass(frozen=True, eq=False)
class _Root:
    """Steps of T (n,), of ybar (M,), and of what the parts offer."""

    dT: FloatArray
    dybar: FloatArray
    dy: FloatArray

    def plus(self, more: _Root, primal: float, dual: float) -> _Root:
        return _Root(self.dT + dual * more.dT, self.dybar + primal * more.dybar, self.dy + primal * more.dy)


def _is_money(layout: Layout) -> BoolArray:
    """(M,) unit entries that are a value-at-risk."""
    level = [
        np.full(len(c.entries), np.nan) if c.level is None else np.asarray(c.level, float) for c in layout.couplings
    ]
    return np.asarray(np.isfinite(np.concatenate([np.zeros(0), *level]))[layout.declared])


def _culprits(work: _Work) -> list[str]:
    """Nodes and entries at which multipliers are largest: what cannot be met together."""
    layout = work.layout
    apart = work.price - layout.to_blocks(layout.to_units(work.T))
    size = np.concatenate([np.abs(work.T) * work.y_unit_at, np.abs(apart) * layout.to_blocks(work.y_unit)])
    names = [f"node {name}" for name in work.setup.nodes]
    names += [
        f"{layout.entry_name(int(i))} in scenario {layout.keys[b].scenario}"
        for i, b in zip(layout.entry, layout.block, strict=True)
    ]
    order = np.argsort(-size, kind="stable")[:MOST]
    return [names[i] for i in order if size[i] >= 0.1 * size[order[0]] and size[i] > 0]


def _first_longest(lengths: FloatArray) -> tuple[int, float]:
    """Position and value of the longest, the first of those within 1e-3 of what came before."""
    best, at = -1.0, 0
    for i, length in enumerate(lengths):
        if length > best + 1e-3:
            best, at = float(length), i
    return at, best


def _square(flat: FloatArray) -> FloatArray:
    m = round(len(flat) ** 0.5)
    return flat.reshape(m, m)
