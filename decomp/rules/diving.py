"""Diving: whole decisions fixed a few blocks at a time in the restricted master, what is missing asked for in between.

    repeat  solve the master over the columns that agree with what is fixed; of the open blocks, fix those whose
            decisions carry most weight sum_{k of pattern p} alpha_usk; ask all blocks at the master's price

Columns made for the optimum of the relaxed master seldom fit together as whole decisions. The prices of a master in
which part is decided say what the rest should supply: a residual r that nobody covers costs REACH reference prices.
Joncour, Michel, Sadykov, Sverdlov and Vanderbeck (2010); Sadykov, Vanderbeck, Pessoa, Tahiri and Uchoa (2019).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from decomp.blocks.solve.piqp import NoSolution
from decomp.integer_pattern import UNKNOWN
from decomp.messages import FloatArray, IntArray, QuadraticModel
from decomp.rules.base import Ask, Recover, Setup
from decomp.rules.columns import Columns
from decomp.rules.master import MasterPoint, solve_master
from decomp.rules.restricted import choose

STEPS = 8  # sweeps over all blocks that a dive costs at most
REACH = 20.0  # reference prices
MET = 1e-6  # residual up to which a point balances, relative to the requests
WHOLE = 0.99  # weight from which a decision counts as taken


def recovering(setup: Setup, model: QuadraticModel, columns: Columns, price: FloatArray) -> Recover | None:
    """What finds points from `columns` around the price (N,); None where g is not linear."""
    return partial(_search, setup, model, columns, price) if model.linear else None


def _search(
    setup: Setup, model: QuadraticModel, columns: Columns, price: FloatArray, ask: Ask
) -> tuple[FloatArray, ...]:
    """Points (M,) worth realising: chosen from the columns and, where nodes have to balance, from those of a dive."""
    layout, box = setup.layout, setup.box
    if not np.any(layout.node >= 0):  # what scenarios agree on is not supplied by one for another
        found = choose(layout, model, box, columns, price)
        return () if found is None else (found,)
    last, columns = dive(setup, model, columns, price, ask)
    chosen = choose(layout, model, box, columns, price)
    ends = () if last is None else (last.offered, last.z)
    return ends if chosen is None else (*ends, chosen)


def dive(
    setup: Setup, model: QuadraticModel, columns: Columns, price: FloatArray, ask: Ask
) -> tuple[MasterPoint | None, Columns]:
    """The master with every block decided, None where there was no way there; and all columns met on the way."""
    layout = setup.layout
    B = len(layout.keys)
    reach = layout.to_units(REACH * setup.scale, REACH * float(np.max(setup.scale, initial=1.0)))
    price_range = np.maximum(reach, 1e-6)
    decided: dict[int, int] = {}
    for step in range(STEPS + 1):
        names = _names(columns)
        pairs = zip(columns.block.tolist(), names.tolist(), strict=True)
        agreeing = np.flatnonzero([decided.get(block, name) == name for block, name in pairs])
        kept = columns.only(agreeing)
        try:
            point = solve_master(layout, model, setup.box, kept, price, None, price_range)
        except NoSolution:
            return None, columns
        apart, size = (np.max(np.abs(x), initial=0.0) for x in (point.z - point.offered, point.z))
        if len(decided) == B and apart <= MET * (1 + size):
            return point, columns
        open_blocks = B - len(decided)
        if open_blocks:
            decided |= _next(kept, names[agreeing], point.alpha, decided, -(-open_blocks // (STEPS - step)))
        if step < STEPS or len(decided) == B:  # what is missing in the end is asked for, too
            answers = ask(point.price)
            if answers.stale is not None or not np.isfinite([*answers.y, *answers.cost]).all():
                return None, columns
            columns = columns.plus(answers)
        if len(decided) == B:
            break
    return None, columns


def _names(columns: Columns) -> IntArray:
    """(K,) what stands for the decisions of each column: its pattern; where that is unknown, the column itself."""
    return np.where(columns.pattern == UNKNOWN, -2 - np.arange(len(columns.block)), columns.pattern)


def _next(
    columns: Columns, names: IntArray, alpha: FloatArray, decided: dict[int, int], at_least: int
) -> dict[int, int]:
    """Decisions of further blocks: the `at_least` with most weight, and all that are whole already."""
    weight: dict[tuple[int, int], float] = {}
    wanted: dict[int, float] = {}
    for block, name, share in zip(columns.block.tolist(), names.tolist(), alpha.tolist(), strict=True):
        if block not in decided:
            weight[block, name] = weight.get((block, name), 0.0) + share
            wanted[name] = wanted.get(name, 0.0) + share
    by_weight = sorted(weight, key=lambda d: (-round(weight[d], 6), d))
    taken: dict[int, int] = {}
    # blocks that are alike share one decision out among them: no more of them take it than the master wants
    for block, name in by_weight:
        enough = len(taken) >= at_least and weight[block, name] < WHOLE
        often = sum(t == name for t in taken.values())
        if block not in taken and not enough and often < max(1.0, np.floor(wanted[name] + 1e-6)):
            taken[block] = name
    for block, name in by_weight:
        if len(taken) < at_least:
            taken.setdefault(block, name)
    return taken
