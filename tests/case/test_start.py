"""Prices of round 0: from a CSV, from an earlier result folder, or from nothing."""

from __future__ import annotations

import numpy as np
import pytest

from decomp.case.warm_start import StartSettings, read_prices
from decomp.errors import InputError

NODES = ("a@1", "a@2")


def test_last_round_of_a_result_folder_counts(tmp_path):
    (tmp_path / "prices.csv").write_text("round,node,price\n0,a@1,1.0\n0,a@2,2.0\n1,a@1,1.5\n1,a@2,2.5\n")
    assert read_prices(tmp_path, NODES).tolist() == [1.5, 2.5]
    assert StartSettings(str(tmp_path), 2.0).price(NODES, np.zeros(2), tmp_path).tolist() == [3.0, 5.0]


def test_without_a_file_the_neutral_price_is_scaled(tmp_path):
    assert StartSettings(factor=10.0).price(NODES, np.array([0.5, 1.0]), tmp_path).tolist() == [5.0, 10.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node,price\na@1,1\n", "1 nodes have no price, first a@2"),
        ("node,price\na@1,1\na@2,1\nb,1\n", "unknown nodes, first b"),
        ("node,price\na@1,x\na@2,1\n", "line 2 has no price"),
        ("node,price\na@1,nan\na@2,1\n", "not finite"),
        ("x,y\n1,2\n", "no columns node and price"),
        (None, "cannot be read"),
    ],
)
def test_wrong_files_are_refused_in_words(tmp_path, text, words):
    if text is not None:
        (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_prices(tmp_path / "p.csv", NODES)
