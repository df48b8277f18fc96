"""Logarithmic barrier of simple bounds lb <= w <= ub: slacks, multipliers, step lengths.

    sl = w - lb > 0,  su = ub - w > 0,  multipliers zl, zu > 0
    stationarity      gradient - zl + zu = 0
    complementarity   sl zl = su zu = mu
    condensed         Theta dw = -gradient + tl / sl - tu / su,   Theta = zl / sl + zu / su
                      dzl = (tl - zl dw) / sl - zl,   dzu = (tu + zu dw) / su - zu

tl and tu are the targets of the products: 0 in the predictor, sigma mu and second-order terms in the correctors. A
value with lb = ub is fixed: it has neither slack nor multiplier, and does not move.

Source: Wright (1997), Primal-Dual Interior-Point Methods, chapters 1 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray

SMALLEST = 1e-18
Pair = tuple[FloatArray, FloatArray]  # one value for each finite lower bound, one for each finite upper bound


@dataclass(frozen=True, eq=False)
class Bounds:
    """lb, ub (n,); lower and upper: indices of the values with a finite bound on that side that are not fixed."""

    lb: FloatArray
    ub: FloatArray
    fixed: BoolArray
    lower: IntArray
    upper: IntArray

    @classmethod
    def of(cls, lb: FloatArray, ub: FloatArray) -> Bounds:
        fixed = lb == ub
        lower, upper = (np.flatnonzero(np.isfinite(side) & ~fixed) for side in (lb, ub))
        return cls(lb, ub, fixed, lower, upper)

    @property
    def count(self) -> int:
        """Number of complementarity products."""
        return len(self.lower) + len(self.upper)


@dataclass(frozen=True, eq=False)
class Barrier:
    """Iterate of bounded values: w (n,), multipliers zl and zu of the finite bounds."""

    bounds: Bounds
    w: FloatArray
    zl: FloatArray
    zu: FloatArray

    def slacks(self) -> Pair:
        """Never 0: a difference of near values can round to it."""
        b = self.bounds
        below, above = self.w[b.lower] - b.lb[b.lower], b.ub[b.upper] - self.w[b.upper]
        return np.maximum(below, SMALLEST), np.maximum(above, SMALLEST)

    def theta(self) -> FloatArray:
        """(n,) zl / sl + zu / su."""
        (sl, su), d = self.slacks(), np.zeros(len(self.w))
        d[self.bounds.lower] += self.zl / sl
        d[self.bounds.upper] += self.zu / su
        return d

    def right_side(self, target: Pair) -> FloatArray:
        """(n,) tl / sl - tu / su: what complementarity adds to the condensed system."""
        (sl, su), d = self.slacks(), np.zeros(len(self.w))
        d[self.bounds.lower] += target[0] / sl
        d[self.bounds.upper] -= target[1] / su
        return d

    def reduced(self) -> FloatArray:
        """(n,) -zl + zu."""
        d = np.zeros(len(self.w))
        d[self.bounds.lower] -= self.zl
        d[self.bounds.upper] += self.zu
        return d

    def dz(self, dw: FloatArray, target: Pair) -> Pair:
        """Steps of the multipliers that go with dw and the targets."""
        (sl, su), b = self.slacks(), self.bounds
        lower = (target[0] - self.zl * dw[b.lower]) / sl - self.zl
        return lower, (target[1] + self.zu * dw[b.upper]) / su - self.zu

    def products(self, dw: FloatArray, dz: Pair, primal: float, dual: float) -> Pair:
        """Complementarity products after a step of these lengths."""
        (sl, su), b = self.slacks(), self.bounds
        low = (sl + primal * dw[b.lower]) * (self.zl + dual * dz[0])
        return low, (su - primal * dw[b.upper]) * (self.zu + dual * dz[1])

    def second_order(self, dw: FloatArray, dz: Pair) -> Pair:
        """-ds dz of both sides, the positive ones at most s z max(ds / s, dz / z, 0).

        Mehrotra's term overshoots where a multiplier has to grow manyfold, as that of a scenario does that enters the
        tail of a risk measure; the bound leaves the step ds / s = -1 there.
        """
        (sl, su), b = self.slacks(), self.bounds
        sides = ((sl, self.zl, dw[b.lower], dz[0]), (su, self.zu, -dw[b.upper], dz[1]))
        out = []
        for s, z, ds, d in sides:
            term = -ds * d
            out.append(np.where(term > 0, np.minimum(term, np.maximum(np.maximum(ds * z, s * d), 0.0)), term))
        return out[0], out[1]

    def longest(self, dw: FloatArray, dz: Pair) -> tuple[float, float]:
        """Longest primal and dual step that keep slacks and multipliers positive; inf where nothing shrinks."""
        (sl, su), b = self.slacks(), self.bounds
        primal = min(_ratio(sl, dw[b.lower]), _ratio(su, -dw[b.upper]))
        return primal, min(_ratio(self.zl, dz[0]), _ratio(self.zu, dz[1]))

    def moved(self, primal: float, dual: float, dw: FloatArray, dz: Pair) -> Barrier:
        return replace(self, w=self.w + primal * dw, zl=self.zl + dual * dz[0], zu=self.zu + dual * dz[1])

    def pushed_inside(self, gradient: FloatArray, price: FloatArray, share: float = 0.1, depth: float = 0.5) -> Barrier:
        """A start: w at least min(share of its range, depth) inside its bounds, z = max(0, +-gradient) + price (n,)."""
        b = self.bounds
        both = np.isfinite(b.lb) & np.isfinite(b.ub)
        inside = np.full(len(self.w), depth)
        inside[both] = np.minimum(share * (b.ub - b.lb)[both], depth)
        inside[b.fixed] = 0.0
        w = np.where(np.isfinite(b.lb), np.maximum(self.w, b.lb + inside), self.w)
        w = np.where(np.isfinite(b.ub), np.minimum(w, b.ub - inside), w)
        return replace(
            self,
            w=np.where(b.fixed, b.lb, w),
            zl=np.maximum(gradient[b.lower], 0.0) + price[b.lower],
            zu=np.maximum(-gradient[b.upper], 0.0) + price[b.upper],
        )


def drawn_back(product: FloatArray, goal: float) -> FloatArray:
    """What brings products back into [0.1, 10] goal, large ones by 10 goal at most; Gondzio (1996), section 4."""
    low, high = 0.1 * goal - product, 10 * goal - product
    off = np.where(product < 0.1 * goal, low, np.where(product > 10 * goal, high, 0.0))
    return np.maximum(off, -10 * goal)


def _ratio(s: FloatArray, ds: FloatArray) -> float:
    falls = ds < 0
    return float(np.min(-s[falls] / ds[falls])) if falls.any() else np.inf
