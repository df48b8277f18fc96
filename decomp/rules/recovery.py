"""Which unit takes which share of what is requested beyond the offers: those that have just shown they can move."""

from __future__ import annotations

import numpy as np

from decomp.layout import Layout
from decomp.messages import FloatArray

MOVED = 1e-8


def realisable(layout: Layout, ybar: FloatArray, mismatch: FloatArray, slope: FloatArray) -> FloatArray:
    """ybar_u + R_b slope_u / sum of the slopes at b; (M,). In equal shares where nobody at the node has moved.

    ybar (M,) offers, mismatch (n,) R = Z - Y, slope (M,) change of offer per change of price, see `slopes`. Equal
    shares ask a unit at a limit for what it cannot do; then the point has no cost and proves nothing. For quadratic
    costs, shares by slope are the cheapest.
    """
    total = layout.to_units(layout.totals(slope))
    moved = total > 0
    equal = layout.to_units(1.0 / np.maximum(layout.count, 1))
    return ybar + layout.to_units(mismatch) * np.where(moved, slope / np.where(moved, total, 1.0), equal)


def slopes(layout: Layout, dy: FloatArray, dprice: FloatArray) -> FloatArray:
    """max(dybar / dlambda, 0) of each unit entry between two rounds; (N,), (N,) -> (M,). 0 for what did not move.

    Moves below MOVED of the largest are rounding: a share of what is missing must not hang on them.
    """
    dy, dprice = (np.where(np.abs(d) > MOVED * np.max(np.abs(d), initial=0.0), d, 0.0) for d in (dy, dprice))
    dy, dprice = layout.mean(dy), layout.mean(dprice)
    return np.where(dy * dprice > 0, dy, 0.0) / np.where(dy * dprice > 0, dprice, 1.0)
