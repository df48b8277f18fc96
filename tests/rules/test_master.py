"""The master problem itself: its linear systems are factorised in the way that suits its shape, to the same answer."""

from __future__ import annotations

import numpy as np
import pytest
from closed_form import unit

from decomp.layout import Layout
from decomp.messages import QuadraticModel
from decomp.rules import master
from decomp.rules.columns import Columns


def layout_of(units, scenarios, hours, node=None):
    """Units of so many scenarios and hours; all at the rows of one bus, or at rows of their own."""
    names = tuple(str(s) for s in range(scenarios))
    first = range(units) if node is None else [node] * units
    rows = [tuple(range(f * hours, (f + 1) * hours)) for f in first]
    n = (max(first) + 1) * hours
    return Layout.of([unit(f"u{i}", rows[i], (1.0,) * hours, names) for i in range(units)], n)


def columns_of(layout, each):
    B = len(layout.keys)
    block = np.tile(np.arange(B), each)
    sizes = np.diff(layout.start)[block]
    y = np.random.default_rng(0).normal(size=int(sizes.sum()))
    start = np.concatenate([[0], np.cumsum(sizes)])
    none = np.zeros(len(block), np.int64)
    return Columns(block, start, y, np.zeros(len(block)), none, none)


@pytest.mark.parametrize(
    ("layout", "each", "condensed"),
    [
        (layout_of(10, 5, 48), 30, True),  # 240 rows of a unit hang together: measured .2 s condensed, 1.2 s whole
        (layout_of(10, 5, 24), 90, False),  # many answers: measured 1 s condensed, .2 s whole
        (layout_of(40, 5, 24, node=0), 20, False),  # many units at one node
        (layout_of(100, 1, 24, node=0), 3, False),  # no scenarios: measured 24 s condensed, .01 s whole
        (layout_of(10, 1, 24), 1, False),
    ],
)
def test_a_master_is_condensed_where_its_columns_are_fewer_than_the_rows_that_hang_together(layout, each, condensed):
    assert master.few_columns(layout, columns_of(layout, each)) == condensed


def test_both_ways_to_factorise_a_master_give_the_same_point(monkeypatch):
    layout, n = layout_of(4, 5, 12), 48
    columns, random = columns_of(layout, 20), np.random.default_rng(1)
    model = QuadraticModel(
        P=0.1 * np.eye(n), q=random.normal(size=n), A=np.zeros((0, n)), lo=np.zeros(0), hi=np.zeros(0),
        lb=np.full(n, -np.inf), ub=np.full(n, np.inf), z_cols=np.arange(n),
    )  # fmt: skip
    price, box, solve = random.normal(size=len(layout.entry)), (np.full(n, -3.0), np.full(n, 3.0)), master.solve
    asked, found = [], []

    def watched(*arguments, condensed):
        asked.append(condensed)
        return solve(*arguments, condensed=condensed)

    monkeypatch.setattr(master, "solve", watched)
    for way in (True, False):
        monkeypatch.setattr(master, "few_columns", lambda *_, way=way: way)
        found.append(master.solve_master(layout, model, box, columns, price, np.full(len(layout.node), 0.5)))
    assert asked == [True, False]
    assert np.ptp(found[0].z) > 0.1
    assert found[0].z == pytest.approx(found[1].z, abs=1e-7)
    assert found[0].price == pytest.approx(found[1].price, abs=1e-7)
