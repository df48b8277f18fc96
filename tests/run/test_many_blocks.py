"""A thousand blocks in one run: one solver for each unit, little memory for each block, nothing kept of old rounds."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import numpy as np

from benchmarks.communities import Communities
from decomp.layout import Layout, Signals
from decomp.messages import Key
from decomp.parallel.block_pool import UNITS_A_RANK, BlockPool, dealt
from decomp.parallel.ranks import Serial
from decomp.run.convergence import MANY, sketch
from problems.lec.community import LocalEnergyCommunity

UNITS, SCENARIOS = 4, 250
PAGE = 4096


def resident() -> int:
    """Bytes in use: what is free already is handed back first, else they say how the heap was before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return PAGE * int(Path("/proc/self/statm").read_text().split()[1])


def test_a_thousand_blocks_share_four_solvers_and_hold_little_each() -> None:
    case = Communities(UNITS, SCENARIOS)
    blocks: list[LocalEnergyCommunity] = []

    def make(key):
        blocks.append(case.make(key))
        return blocks[-1]

    layout, before = Layout.of(case.couplings, case.n), resident()
    price = np.full(len(layout.entry), 0.0222)
    memory = []
    with BlockPool(Serial(), layout, make) as fleet:
        fleet.build()
        for k in range(4):
            moved = price + 0.02 * k * (np.arange(len(price)) % case.n == 16)
            answers = fleet.solve(Signals(layout, moved, id=k))
            memory.append(resident())
    assert len(blocks) == UNITS * SCENARIOS
    assert len({block.batch_key for block in blocks}) == UNITS
    assert (memory[0] - before) / len(blocks) < 60_000  # models and solvers included
    assert memory[3] - memory[1] < 3000 * len(blocks)  # the points of one round take 11 kB a block
    assert np.all(np.isfinite(answers.bound))
    value = answers.cost - layout.inner(moved, answers.y)
    assert np.all(answers.bound <= value + 1e-6)
    assert np.all(value - answers.bound < 0.01 * np.abs(value))
    # what a block answers among a thousand it answers by itself, after the same questions
    for b in (3, 700):
        alone = case.make(layout.keys[b])
        for k in range(4):
            moved = price + 0.02 * k * (np.arange(len(price)) % case.n == 16)
            answer = alone.solve(Signals(layout, moved, id=k).at(b))
        assert np.array_equal(answer.y, answers.at(b).y)
        assert (answer.cost, answer.bound) == (answers.cost[b], answers.bound[b])


def test_many_units_are_dealt_whole_and_few_block_by_block() -> None:
    many = [Key(f"u{u:02d}", str(s)) for u in range(UNITS_A_RANK * 3) for s in range(5)]
    few = many[:25]
    for keys, whole in ((many, True), (few, False)):
        owned = dealt(keys, 3)
        assert sorted(np.concatenate(owned).tolist()) == list(range(len(keys)))
        assert max(map(len, owned)) - min(map(len, owned)) <= (0 if whole else 1)
        units = [{keys[b].unit for b in own} for own in owned]
        assert (sum(map(len, units)) == len({key.unit for key in keys})) == whole


def test_a_point_of_many_entries_is_told_by_a_sketch() -> None:
    rng = np.random.default_rng(1)
    small, large = rng.normal(size=MANY), rng.normal(size=3 * MANY)
    assert sketch(small) is small
    assert len(sketch(large)) == 512
    assert np.array_equal(sketch(large), sketch(large.copy()))
    other = large.copy()
    other[5] += 1e-3
    assert np.max(np.abs(sketch(other) - sketch(large))) > 0.9e-3
