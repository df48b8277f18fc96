"""One block's share of a primal-dual interior point over all blocks: its iterate, and what it answers in a round.

    min f(x) - <lambda, y>,   y = C x + c0,   r = A x,   lb <= w = (x, r) <= ub,   f = 1/2 x'Qx + c'x

lambda is the multiplier of y = ybar. A round is a short conversation with the root: curvature H, then t for the right
side, the block's step for the offers' move dy that the root found, its longest step lengths. Nothing but vectors of the
length of the offers and a matrix H of that size leaves the block, whatever its model.

Source: Mehrotra (1992) for predictor and corrector, Gondzio (1996) for the centrality corrections, Colombo and Gondzio
(2008) for their weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.interior.barrier import Barrier, Bounds, Pair, drawn_back
from decomp.blocks.interior.kkt import Factor, Kkt
from decomp.blocks.interior.program import with_tangents
from decomp.blocks.interior.units import natural_units, row_factors
from decomp.messages import BoolArray, FloatArray
from decomp.subproblem import Arrays

WEIGHTS = np.linspace(1.0, 0.1, 9)  # of a corrector beside the direction before it
ARRAYS = ("w", "zl", "zu", "nu", "price")
NUMBERS = 10  # behind price and offer, see `Participant.move`
ROUNDING = 1e-12
POOL = ("term", "touch", "slope", "level")


class Direction(NamedTuple):
    """Steps of w (n + m,), of the rows' multipliers nu (m,), of lambda (n_u,) and of the bounds' multipliers."""

    dw: FloatArray
    dnu: FloatArray
    dprice: FloatArray
    dz: Pair

    def plus(self, more: Direction, primal: float, dual: float) -> Direction:
        return Direction(
            self.dw + primal * more.dw,
            self.dnu + dual * more.dnu,
            self.dprice + dual * more.dprice,
            (self.dz[0] + dual * more.dz[0], self.dz[1] + dual * more.dz[1]),
        )


@dataclass(frozen=True, eq=False)
class Iterate:
    """Barrier of w = (x, r) in scaled units, nu (m,), price = lambda (n_u,) scaled."""

    barrier: Barrier
    nu: FloatArray
    price: FloatArray


class Participant:
    """A scaled program and its iterate. Columns, rows, offers (y_unit (n_u,)) and money (cost_unit) count in units of
    their own; all that comes in and goes out is in the program's. The tangents of `pool` stand for its convex terms,
    as rows behind its own. unit (n,): of the columns, None = found from their ranges. Raises ValueError for integers.
    """

    def __init__(
        self,
        program: Program,
        pool: Pool,
        y_unit: FloatArray,
        cost_unit: float,
        reg: float,
        unit: FloatArray | None = None,
    ) -> None:
        if program.integer.any():
            raise ValueError("it has integers; relax them (milp = 'relax') or take the rule bundle")
        self.reg, self.y_unit, self.cost_unit, self.pool, self.whole = reg, y_unit, cost_unit, pool, program
        program = with_tangents(program, pool)
        self.unit = natural_units(program, y_unit) if unit is None else unit
        self.row = row_factors(program.A, self.unit, program.lb == program.ub)
        D, R, Y = sparse.diags(self.unit), sparse.diags(self.row), sparse.diags(1 / y_unit)
        n = len(program.cost)
        quad = sparse.csr_matrix((n, n)) if program.quad is None else sparse.csr_matrix(program.quad)
        self.Q = sparse.csr_matrix(D @ quad @ D) / cost_unit
        self.c = program.cost * self.unit / cost_unit
        self.A = sparse.csr_matrix(R @ program.A @ D)
        self.C = sparse.csr_matrix(Y @ program.coupling @ D)
        self.A_t, self.C_t = sparse.csr_matrix(self.A.T), sparse.csr_matrix(self.C.T)
        self.c0, self.constant = program.coupling_0 / y_unit, program.constant
        self.n, self.m = n, len(program.row_lo)
        lb = np.concatenate([program.lb / self.unit, program.row_lo * self.row])
        ub = np.concatenate([program.ub / self.unit, program.row_hi * self.row])
        self.bounds = Bounds.of(lb, ub)
        self.fixed = self.bounds.fixed[:n]
        bounded = np.isfinite(program.lb) | np.isfinite(program.ub)
        self.kkt = Kkt.of(self.Q, self.A, bounded, self.fixed)
        none = np.zeros(len(self.bounds.lower)), np.zeros(len(self.bounds.upper))
        self.none = none
        inside = np.clip(0.0, lb, ub)
        self.iterate = Iterate(Barrier(self.bounds, inside, *none), np.zeros(self.m), np.zeros(len(y_unit)))
        self._factor: Factor | None = None
        self._right: tuple[FloatArray, FloatArray, FloatArray, Pair | None] | None = None
        self._step: Direction | None = None
        self._more: Direction | None = None

    # -- what the root asks, in its order ------------------------------------------------------------------------------

    def curvature(self, reg: float, start: bool) -> FloatArray:
        """H (n_u, n_u), money per quantity^2, at the iterate; start: with Theta = 1 everywhere."""
        self.reg = reg
        theta = np.ones(self.n + self.m) if start else self.iterate.barrier.theta()
        first, rows = theta[: self.n].copy(), theta[self.n :].copy()
        first[self.fixed] = np.nan
        rows[self.bounds.fixed[self.n :]] = np.inf
        self._factor = self.kkt.factor(self.C, first, rows, reg)
        return np.asarray(self._factor.H * (self.cost_unit / (self.y_unit[:, None] * self.y_unit[None, :])))

    def response(self, ybar: FloatArray, start: bool) -> FloatArray:
        """t (n_u,) of the residuals at the iterate, where offers are to become ybar; targets of the products 0."""
        target = self.none
        return self._reduced(*self._residuals(ybar), target, start)

    def correction(self, goal: float, kind: str, primal: float, dual: float) -> FloatArray:
        """t (n_u,) of targets alone: goal less Mehrotra's second-order term, or Gondzio's correction.

        kind: "second_order", or "centrality" for products after steps of the lengths `primal` and `dual`.
        """
        assert self._step is not None
        barrier, step = self.iterate.barrier, self._step
        if kind == "second_order":
            low, up = barrier.second_order(step.dw, step.dz)
            target = goal + low, goal + up
        else:
            low, up = barrier.products(step.dw, step.dz, primal, dual)
            target = drawn_back(low, goal), drawn_back(up, goal)
        nothing = np.zeros(self.n + self.m), np.zeros(self.m), np.zeros(len(self.y_unit))
        return self._reduced(*nothing, target, False)

    def step(self, dy: FloatArray) -> FloatArray:
        """The direction at which the offers move by dy: longest primal and dual step, and the sums that give the
        complementarity after any step, sum s z + a sum z ds + b sum s dz + a b sum ds dz: four numbers."""
        self._step = self._expanded(dy)
        barrier, (dw, dz) = self.iterate.barrier, (self._step.dw, self._step.dz)
        here, all_primal, all_dual, both = (
            sum(float(np.sum(p)) for p in barrier.products(dw, dz, *ends))
            for ends in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
        )
        primal, dual = barrier.longest(dw, dz)
        cross = both - all_primal - all_dual + here
        return np.array([primal, dual, here, all_primal - here, all_dual - here, cross])

    def correct(self, dy: FloatArray) -> FloatArray:
        """The corrector at which the offers move by dy: longest primal, then dual steps of the direction with WEIGHTS
        of it added (18,)."""
        assert self._step is not None
        more = self._expanded(dy)
        # a response to targets alone: the multipliers' own value is in the direction before it already
        barrier = self.iterate.barrier
        self._more = more._replace(dz=(more.dz[0] + barrier.zl, more.dz[1] + barrier.zu))
        both = [barrier.longest(*_parts(self._step.plus(self._more, w, w))) for w in WEIGHTS]
        return np.array([p for p, _ in both] + [d for _, d in both])

    def take(self, primal: float, dual: float) -> None:
        """Add the corrector with these weights to the direction."""
        assert self._step is not None
        assert self._more is not None
        self._step = self._step.plus(self._more, primal, dual)

    def begin(self) -> FloatArray:
        """Take the whole step from Theta = 1, push it inside the bounds; the new price and offer, see `move`."""
        assert self._step is not None
        it, d = self.iterate, self._step
        w, nu, price = it.barrier.w + d.dw, it.nu + d.dnu, it.price + d.dprice
        self.iterate = Iterate(replace(it.barrier, w=w), nu, price)
        gradient, _, _ = self._residuals(self.y_unit * (self.C @ w[: self.n] + self.c0))
        some = (self.c != 0) & ~self.fixed
        size = max(float(np.mean(np.abs(self.c[some]))) if some.any() else 0.0, 1e-3)
        barrier = self.iterate.barrier.pushed_inside(gradient, np.full(len(w), size))
        self.iterate = Iterate(barrier, nu, price)
        return self._told()

    def move(self, primal: float, dual: float) -> FloatArray:
        """Move by these lengths; lambda (n_u,), offer (n_u,) and NUMBERS numbers.

        These are f, the sum of the products, the number of them, the largest primal and dual residual (scaled), what
        the pool falls short of the terms (money, in the program's units), and those of `_contradiction` and `_ray`.
        """
        assert self._step is not None
        it, d = self.iterate, self._step
        barrier = it.barrier.moved(primal, dual, d.dw, d.dz)
        self.iterate = Iterate(barrier, it.nu + dual * d.dnu, it.price + dual * d.dprice)
        self._step = self._more = self._factor = self._right = None
        return self._told()

    def refined(self, allowed: float, product: float, takes: float = 0.1) -> Participant:
        """With tangents at the iterate for the terms that the pool falls short of by more than their share of
        `allowed` (money); the iterate goes on in it.

        An added row has to come in with a slack and a multiplier whose product is near `product`. So the epigraph
        variable t is lifted, and the slacks of its rows with it, until the new row's slack is product / (takes z_t),
        z_t = the sum of the multipliers of the term's rows; these give up as much as the new row's multiplier is, so
        that t stays stationary. Other rows that t is in keep a residual of the size of the lift.
        """
        x, held = self._point(), self._held()
        wanted = np.flatnonzero(held * self._lacking(x) > allowed / max(len(held), 1))
        new = self.whole.terms.tangents(self.whole.terms.arguments(x), wanted)
        if not len(new):
            return self
        after = Participant(self.whole, self.pool.plus(new), self.y_unit, self.cost_unit, self.reg, self.unit)
        n, own, old, added = self.n, len(self.whole.row_lo), self.m, slice(self.m, after.m)
        epigraph, it, bounds = self.whole.terms.epigraph, self.iterate, after.bounds
        barrier, z, row = it.barrier, np.maximum(held / self.cost_unit, 1e-12), after.row
        lower, upper = np.zeros(n + old), np.zeros(n + old)
        lower[self.bounds.lower], upper[self.bounds.upper] = barrier.zl, barrier.zu
        low = bounds.lb[n:]
        # t lifted, in the program's units: slack z is the same there as in the scaled ones
        slack = (after.A @ barrier.w[:n] - low)[added] / row[added]
        lift = np.zeros(len(epigraph))
        lift[new.term] = np.maximum(product / (takes * z[new.term]) - slack, 0.0)
        top = (self.bounds.ub[:n] - barrier.w[:n])[epigraph] * self.unit[epigraph]
        lift = np.where(np.isfinite(top), np.minimum(lift, 0.9 * top), lift)
        w = barrier.w[:n].copy()
        np.add.at(w, epigraph, lift / self.unit[epigraph])
        older = slice(own, old)
        r = np.concatenate([barrier.w[n:], np.zeros(len(new))])
        r[older] += lift[self.pool.term] * row[older]
        slack = (after.A @ w - low)[added]
        zn = np.minimum(product / np.maximum(slack, 1e-300), 0.5 * z[new.term] / row[added])
        r[added] = low[added] + np.maximum(slack, 0.1 * product / zn)
        taken = np.bincount(new.term, zn * row[added], len(epigraph))
        lower = np.concatenate([lower, zn])
        lower[n + own : n + old] *= 1 - (taken / z)[self.pool.term]
        nu = np.concatenate([it.nu, -zn])
        nu[older] = -lower[n + own : n + old]
        upper = np.concatenate([upper, np.zeros(len(new))])
        moved = Barrier(bounds, np.concatenate([w, r]), lower[bounds.lower], upper[bounds.upper])
        after.iterate = Iterate(moved, nu, it.price)
        return after

    def save(self) -> Arrays:
        """The iterate, the pool of tangents and the columns' units as plain arrays."""
        b, pool = self.iterate.barrier, {f"pool_{name}": getattr(self.pool, name) for name in POOL}
        found = {"w": b.w, "zl": b.zl, "zu": b.zu, "nu": self.iterate.nu, "price": self.iterate.price}
        return {**found, **pool, "unit": self.unit}

    def load(self, arrays: Arrays) -> None:
        w, zl, zu, nu, price = (np.asarray(arrays[name], float) for name in ARRAYS)
        self.iterate = Iterate(Barrier(self.bounds, w, zl, zu), nu, price)

    # -- behind it -----------------------------------------------------------------------------------------------------

    def _told(self) -> FloatArray:
        x = self.iterate.barrier.w[: self.n]
        offer = self.C @ x + self.c0
        gradient, rows, _ = self._residuals(self.y_unit * offer)
        dual = (gradient + self.iterate.barrier.reduced())[~self.bounds.fixed]
        cost = float(x @ (self.c + 0.5 * (self.Q @ x))) * self.cost_unit + self.constant
        products = self.iterate.barrier.products(np.zeros(self.n + self.m), self.none, 0.0, 0.0)
        total = sum(float(np.sum(p)) for p in products)
        short = float(self._held() @ self._lacking(self._point()))
        largest = np.max(np.abs(rows), initial=0), np.max(np.abs(dual), initial=0)
        numbers = [cost, total, self.bounds.count, *largest, short, *self._contradiction(), *self._ray()]
        price = self.iterate.price * self.cost_unit / self.y_unit
        return np.concatenate([price, offer * self.y_unit, numbers])

    def _contradiction(self) -> tuple[float, float]:
        """V, h of the multipliers as a proof of infeasibility, in scaled money; Farkas' lemma.

        g = (A'nu - C'lambda, -nu) and any point with Ax = r have  g'w = lambda'c0 - lambda'y.  Within the bounds g'w
        is at least V + lambda'c0 but for values without a bound where g pulls: h is the sum of |g| there. So summed
        over all participants, whose lambda'y cancel, V > 0 leaves no point whose values without bounds are below V / h.
        """
        it, b = self.iterate, self.bounds
        g = np.concatenate([self.A_t @ it.nu - self.C_t @ it.price, -it.nu])
        end = np.where(g > 0, b.lb, b.ub)
        fits = np.isfinite(end) | (g == 0)
        each = np.append(
            np.where(fits & (g != 0), g * np.where(np.isfinite(end), end, 0.0), 0.0), -(it.price @ self.c0)
        )
        rounding = ROUNDING * float(np.sum(np.abs(each)))
        return float(np.sum(each)) - rounding, float(np.sum(np.abs(g[~fits])))

    def _ray(self) -> tuple[float, float]:
        """c'x, and the most by which x misses being a direction that can be followed for ever at no other cost:
        the largest of |Qx|, |Ax - r|, and what runs into a bound, in scaled units."""
        b, w = self.bounds, self.iterate.barrier.w
        x, r = w[: self.n], w[self.n :]
        into = np.where(b.fixed, np.abs(w), 0.0)
        into[b.lower] = np.maximum(into[b.lower], -w[b.lower])
        into[b.upper] = np.maximum(into[b.upper], w[b.upper])
        misses = (np.max(np.abs(v), initial=0.0) for v in (self.Q @ x, self.A @ x - r, into))
        return float(self.c @ x), float(max(misses))

    def _point(self) -> FloatArray:
        """x (n,) in the program's units."""
        return np.asarray(self.iterate.barrier.w[: self.n] * self.unit)

    def _held(self) -> FloatArray:
        """(terms,) what one more of each term costs: the sum of the multipliers of its tangents, money per unit."""
        z = np.zeros(self.n + self.m)
        z[self.bounds.lower] = self.iterate.barrier.zl
        rows = slice(len(self.whole.row_lo), self.m)
        each = z[self.n :][rows] * self.row[rows] * self.cost_unit
        return np.asarray(np.bincount(self.pool.term, each, len(self.whole.terms)), float)

    def _lacking(self, x: FloatArray) -> FloatArray:
        """(terms,) how far the pool's tangents lie below each term at x."""
        terms = self.whole.terms
        if not len(terms):
            return np.zeros(0)
        arguments, low = terms.arguments(x), np.full(len(terms), -np.inf)
        np.maximum.at(
            low, self.pool.term, self.pool.level + np.sum(self.pool.slope * arguments[self.pool.term], axis=1)
        )
        lack = terms.values(arguments) - low
        return np.where(terms.open & np.isfinite(lack), np.maximum(lack, 0.0), 0.0)

    def _residuals(self, ybar: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Gradient (Qx + c + A'nu - C'lambda, -nu), rows Ax - r, link Cx + c0 - ybar, scaled."""
        it = self.iterate
        x, r = it.barrier.w[: self.n], it.barrier.w[self.n :]
        gradient = self.Q @ x + self.c + self.A_t @ it.nu - self.C_t @ it.price
        link = self.C @ x + self.c0 - ybar / self.y_unit
        return np.concatenate([gradient, -it.nu]), self.A @ x - r, link

    def _reduced(
        self, gradient: FloatArray, rows: FloatArray, link: FloatArray, target: Pair, start: bool
    ) -> FloatArray:
        """t = H (link + C K^-1 b): what the right side adds to lambda at dy = 0, with its sign turned."""
        assert self._factor is not None
        b = -gradient if start else self.iterate.barrier.right_side(target) - gradient
        b[self.bounds.fixed] = 0.0
        inverse_r = np.where(self.bounds.fixed[self.n :], 0.0, self._factor.inverse_r)
        own = b[self.n :]
        d = self._factor.solve(np.concatenate([b[: self.n], -rows + inverse_r * own]))
        self._right = d, link + self.C @ d[: self.n], own, None if start else target
        return np.asarray(self._factor.H @ self._right[1] * self.cost_unit / self.y_unit)

    def _expanded(self, dy: FloatArray) -> Direction:
        assert self._factor is not None
        assert self._right is not None
        d, link, own, target = self._right
        dprice = self._factor.H @ (dy / self.y_unit - link)
        d = d + self._factor.V @ dprice
        dx, dnu = d[: self.n], d[self.n :]
        inverse_r = np.where(self.bounds.fixed[self.n :], 0.0, self._factor.inverse_r)
        dw = np.concatenate([dx, inverse_r * (own + dnu)])
        dz = self.none if target is None else self.iterate.barrier.dz(dw, target)
        return Direction(dw, dnu, dprice, dz)


def _parts(direction: Direction) -> tuple[FloatArray, Pair]:
    return direction.dw, direction.dz


def spans(program: Program, money: BoolArray) -> FloatArray:
    """(n_u + 1,) how large each offer can be, then how much money a bounded column costs at its range, median.

    money (n_u,): offers that are themselves amounts of money, whose columns say nothing of what others cost.

    inf where nothing is known of an offer's columns; nan where no column with a cost has a range.
    """
    width = np.where(program.ub > program.lb, program.ub - program.lb, 0.0)
    unit = np.where(program.ub > program.lb, natural_units(program, None), 0.0)
    offer = np.asarray(abs(program.coupling) @ unit)
    paid = np.abs(program.cost) * np.where(np.isfinite(width), width, 0.0)
    paid = paid[(paid > 0) & ~(abs(program.coupling).T @ money.astype(float) > 0)]
    return np.append(np.where(offer > 0, offer, np.inf), np.median(paid) if len(paid) else np.nan)
