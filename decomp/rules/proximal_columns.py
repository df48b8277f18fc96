"""Answers near a request: where scenarios must agree, what is told by answers to prices alone is not enough.

    asked    y = argmin f - <lambda, y> + tau/2 |y - z|^2
    told     a point of f near z, and f's own slope there:  lambda^ = lambda + tau (z - y)

An answer to a price alone lies at a corner of what the block can do and says of each entry only whether the price is
high or low. An entry that no node prices is priced by few blocks, each of which needs many corners to tell where in
between its scenarios should meet. An answer near the request lies in between, and its slope is the price at which the
block would meet there. Like every answer it is a column of the master; it proves no bound.
"""

from __future__ import annotations

import numpy as np

from decomp.layout import Answers, Layout, Signals
from decomp.messages import BoolArray, FloatArray
from decomp.rules.base import Setup
from decomp.rules.master import split_price


def worth_asking(setup: Setup) -> bool:
    """Blocks can take a penalty, and there is an entry on which several of them must agree."""
    return "penalty" in setup.abilities and bool(np.any(setup.layout.sharers > 1))


def near(layout: Layout, price: FloatArray, z: FloatArray, tau: FloatArray, active: BoolArray, k: int) -> Signals:
    """The question: price (N,) of the blocks, request z (M,), tau (M,); active (N,)."""
    return Signals(layout, price, layout.to_blocks(z), layout.to_blocks(tau), active, id=k)


def slope(setup: Setup, asked: Signals, answers: Answers, active: BoolArray) -> tuple[FloatArray, FloatArray]:
    """TS (n,) and w (N,), sum_s pi_s w_us = 0, of lambda^; neutral where nothing is needed (`active` (n,))."""
    assert asked.target is not None
    assert asked.penalty is not None
    price, w = split_price(setup.layout, asked.price + asked.penalty * (asked.target - answers.y), setup.neutral)
    return np.where(active, price, setup.neutral), w
