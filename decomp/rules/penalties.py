"""How large an ADMM penalty starts, and how it follows what the rounds show. Nothing here has a unit of its own.

Every formula is taken in the metric of the penalties in use: quantities are measured by rho, prices by 1/rho, so that
both are costs. Multiplying all costs or all quantities by a number leaves every factor below unchanged. A factor is
found for each group of entries: all entries at nodes are one group, each entry without a node is one of its own (a
value-at-risk in money beside acres of land), in all its tree nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from decomp.layout import Answers, Layout
from decomp.messages import BoolArray, FloatArray
from decomp.rules.base import Constant, Setup

LEAP = 10.0  # a penalty changes by no more in one round
FAR = 1e4  # and that of an entry without a node by no more in all: where whole numbers agree or do not, no size helps


@dataclass(frozen=True, eq=False)
class Penalty:
    """sigma (n,) of each node row; alone (M,) rho of the entries without a node, 0 elsewhere or while unknown."""

    sigma: FloatArray
    alone: FloatArray

    def rho(self, layout: Layout) -> FloatArray:
        """(M,) rho_u = n_b sigma_b at nodes."""
        return layout.to_units(self.sigma * layout.count) + self.alone

    def times(self, layout: Layout, factor: FloatArray) -> Penalty:
        """Every group's penalty times its factor; factor (number of groups,)."""
        return Penalty(self.sigma * factor[0], self.alone * factor[group_of(layout)])

    def bounded(self, begun: FloatArray) -> Penalty:
        """With rho of the entries without a node within a factor of FAR of `begun` (M,)."""
        return Penalty(self.sigma, np.clip(self.alone, begun / FAR, begun * FAR))


@dataclass(frozen=True, eq=False)
class Seen:
    """One round's points on the cost curves of both sides.

    y, y_price (N,)  an offer and the price at which it is the block's best: lambda + rho (t - y)
    z (M,), z_price (N,)  a request and the price at which it is the coordinator's best: the new lambda
    """

    y: FloatArray
    y_price: FloatArray
    z: FloatArray
    z_price: FloatArray


def group_of(layout: Layout) -> np.ndarray:
    """(M,) group of each unit entry: 0 at nodes, 1, 2, ... for the entries without."""
    alone = layout.node < 0
    _, number = np.unique(layout.declared[alone], return_inverse=True)
    group = np.zeros(len(alone), np.int64)
    group[alone] = 1 + number
    return group


def kept(layout: Layout, active: BoolArray) -> BoolArray:
    """(M,) entries that carry a penalty: several blocks that must agree, or a need at the node."""
    return (layout.sharers > 1) | (layout.to_units(active.astype(float)) > 0)


def start_sigma(setup: Setup) -> FloatArray:
    """sigma_b = scale_b / (hi_b - lo_b): the reference price over what all units at the node can do.

    Rows in which nothing can be done are measured by a thousandth of the widest row. Raises ValueError for a box
    that is unbounded.
    """
    width = setup.box[1] - setup.box[0]
    if not np.all(np.isfinite(width)):
        raise ValueError("the coordinator's box is unbounded, which leaves no start value: add penalty")
    if len(width) and width.max() <= 0:
        return np.asarray(setup.scale, float)
    return setup.scale / np.maximum(width, 1e-3 * np.max(width, initial=0.0))


def per_entry(setup: Setup, name: str, given: Constant) -> FloatArray:
    """(M,) one value for each entry without a node, by entry name where they differ; 0 at nodes."""
    layout = setup.layout
    names, alone = layout.names, layout.node < 0
    if isinstance(given, Mapping):
        missing = sorted({n for n, a in zip(names, alone, strict=True) if a} - set(given))
        if missing:
            raise ValueError(f"{name} has no value for {', '.join(missing)}")
        values = np.array([given.get(n, 0.0) for n in names])
    else:
        values = np.full(len(names), float(given))
    if np.any(values[alone] <= 0):
        raise ValueError(f"{name} must be positive")
    return np.where(alone, values, 0.0)


def cost_proportional(layout: Layout, answers: Answers, unit_cost: FloatArray | None, factor: float) -> FloatArray:
    """rho_i = factor c_i / sum_s pi_s |y_is - ybar_i| for the entries without a node: (M,), 0 elsewhere.

    c_i is the cost of one unit of the entry: as given, or else the entry's scale; where neither is known, the unit's
    expected |cost| over the expected size of what it offers in such entries, E|f_u| / E sum_i weight_i |ybar_i|. An
    entry on which the scenarios agree already takes the mean spread of its unit, and its own size when the unit agrees
    altogether. Watson and Woodruff (2011).
    """
    ybar = layout.mean(answers.y)
    spread = layout.mean(np.abs(layout.to_blocks(ybar) - answers.y))
    rho, prices = np.zeros(len(layout.node)), layout.scale if unit_cost is None else unit_cost
    unit_of_block = np.cumsum([0] + [a.unit != b.unit for a, b in zip(layout.keys[:-1], layout.keys[1:], strict=True)])
    cost = np.bincount(unit_of_block, layout.prob * np.abs(answers.cost), minlength=len(layout.couplings))
    for u, (begin, end) in enumerate(zip(layout.first[:-1], layout.first[1:], strict=True)):
        at = slice(begin, end)
        unknown = np.isnan(prices[at])
        size = float(np.sum((layout.share[at] * layout.weight[at] * np.abs(ybar[at]))[unknown]))
        several = layout.sharers[at] > 1  # what only one scenario decides has no spread and needs no penalty
        mean_spread = float(np.mean(spread[at][several])) if several.any() else 0.0
        width = np.where(spread[at] > 1e-9 * np.abs(ybar[at]), spread[at], mean_spread)
        width = np.where(width > 1e-9 * np.abs(ybar[at]), width, np.abs(ybar[at]))
        price = np.where(unknown, cost[u] / size if size > 0 else 0.0, prices[at])
        rho[at] = factor * np.where(price > 0, price, 1.0) / np.where(width > 0, width, 1.0)
    return np.where(layout.node < 0, rho, 0.0)


def balance(layout: Layout, rho: FloatArray, before: FloatArray, first: Seen, now: Seen, on: BoolArray) -> FloatArray:
    """Relative residual balancing: factor = sqrt(r / s) for each group, between 1/LEAP and LEAP.

        r = |z - y| / max(|y - y_first|, |z - z_first|)        s = rho |z - z_before| / |lambda - lambda_first|

    rho (M,), before (M,) the target of the round, on (M,) the entries that carried a penalty. 1 where a figure is 0.
    lambda is the price the offers stand for or the new one, whichever travelled less: a far too large penalty throws
    the new price far away at once. Wohlberg (2017), with residuals relative to what was travelled since
    the first round in place of |y|, |z| and |lambda|: those would make the penalty depend on where the zero of a
    quantity or of a price lies.
    """
    y, z, before, rho = now.y, layout.to_blocks(now.z), layout.to_blocks(before), layout.to_blocks(rho)
    dot = Groups(layout, on)
    way = np.maximum(dot(rho, (y - first.y) ** 2), dot(rho, (z - layout.to_blocks(first.z)) ** 2))
    r2 = _ratio(dot(rho, (z - y) ** 2), way)
    asked, stood_for = ((price - first.y_price) ** 2 for price in (now.z_price, now.y_price))
    s2 = _ratio(dot(rho, (z - before) ** 2), np.minimum(dot.inverse(rho, asked), dot.inverse(rho, stood_for)))
    return np.clip(_ratio(r2, s2) ** 0.25, 1 / LEAP, LEAP)


def spectral(layout: Layout, rho: FloatArray, before: Seen, now: Seen, on: BoolArray, least: float = 0.2) -> FloatArray:
    """Spectral penalty: the geometric mean of both sides' curvatures, each from two rounds, as a factor on rho.

        blocks:       dx = y - y_before,   dp = y_price - before
        coordinator:  dx = z - z_before,   dp = -(z_price - before)
        steepest descent a = |dp|^2/<dx,dp>, minimum gradient b = <dx,dp>/|dx|^2; curvature b if 2b > a else a - b/2

    A side counts only if it moved, and if dx and dp are correlated by more than `least`; with no side left the factor
    is 1.
    Xu, Figueiredo and Goldstein (2017).
    """
    rho_b, dot = layout.to_blocks(rho), Groups(layout, on)
    sides = (
        (now.y - before.y, now.y_price - before.y_price),
        (layout.to_blocks(now.z - before.z), before.z_price - now.z_price),
    )
    log, count, size = np.zeros(dot.number), np.zeros(dot.number), dot(rho_b, now.y**2)
    for dx, dp in sides:
        xx, xp, pp = dot(rho_b, dx**2), dot(np.ones_like(rho_b), dx * dp), dot.inverse(rho_b, dp**2)
        moved = xx > 1e-16 * size  # less is rounding, and its curvature anything
        known = moved & (pp > 0) & (xp > least * np.sqrt(xx * pp))
        a, b = _ratio(pp, xp), _ratio(xp, xx)
        curvature = np.where(2 * b > a, b, a - b / 2)
        log += np.where(known, np.log(np.where(known, curvature, 1.0)), 0.0)
        count += known
    return np.clip(np.exp(log / np.maximum(count, 1)), 1 / LEAP, LEAP)


class Groups:
    """Sums of pi weight scale x over the groups, entries that are not `on` left out."""

    def __init__(self, layout: Layout, on: BoolArray) -> None:
        group = group_of(layout)
        self.number = int(np.max(group, initial=0)) + 1
        self.group = layout.to_blocks(group)
        self.mass = layout.pi * layout.to_blocks(layout.weight * on)

    def __call__(self, scale: FloatArray, x: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(self.group, self.mass * scale * x, minlength=self.number), np.float64)

    def inverse(self, scale: FloatArray, x: FloatArray) -> FloatArray:
        return self(1.0 / np.where(scale > 0, scale, 1.0), x)


def _ratio(a: FloatArray, b: FloatArray) -> FloatArray:
    """a / b, 1 where either is 0: no evidence, no change."""
    known = (a > 0) & (b > 0)
    return np.where(known, a, 1.0) / np.where(known, b, 1.0)
