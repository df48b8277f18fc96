"""The driver of the convex instances: which it runs, and what it says of a run that does not arrive."""

from __future__ import annotations

from benchmarks.convex import convex_instances, main, rounds_to


def test_it_runs_all_convex_instances_of_the_benchmark():
    found = convex_instances()
    assert len({i.label for i in found}) == 108
    assert {i.group for i in found} == {"lp", "qp", "stochastic"}


def test_it_prints_one_row_for_each_class(capsys):
    assert main(["--blocks", "2", "--prices", "48", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    for name in ("lp", "qp", "stochastic"):
        assert f"| {name} | 1 of 1 |" in out


def test_rounds_to_a_gap():
    rows = [{"round": 0, "gap": None}, {"round": 1, "gap": 1e-2}, {"round": 2, "gap": 1e-5}]
    assert rounds_to({"rows": rows}, 1e-4) == 3
    assert rounds_to({"rows": rows}, 1e-6) is None
