"""The measurements of speed measure what they say, on sizes that take seconds."""

from __future__ import annotations

import numpy as np

from benchmarks.overhead import shares
from benchmarks.pyomo_ways import compare
from benchmarks.stopwatch import solver_calls
from decomp.blocks.solve.highs_simplex import Simplex
from decomp.parallel.ranks import Serial


def test_shares_are_parts_of_a_whole_and_the_solver_is_part_of_its_use() -> None:
    row = shares(6, 3, Serial())
    assert row is not None
    assert row["blocks"] == 6
    assert 0 < row["outside_cpu"] < row["outside_run"] < 1
    assert 0 < row["outside_clock"] < 1
    assert row["run_ms"] * 6 < row["ms_per_round"]


def test_the_stopwatch_leaves_no_trace() -> None:
    before = (Simplex.run, Simplex.sweep)
    with solver_calls():
        assert before != (Simplex.run, Simplex.sweep)
    assert before == (Simplex.run, Simplex.sweep)


def test_all_ways_of_a_comparison_solve_the_same_program() -> None:
    """The comparison refuses ways that do not come to the same value."""
    lines = list(compare(1, in_a_row=2))
    ratios = {tuple(c.strip() for c in line.split("|")[1:3]): float(line.split("|")[5]) for line in lines[2:]}
    assert len(ratios) == 10
    assert all(np.isclose(ratio, 1.0) == (way == "ours") for (_, way), ratio in ratios.items())
