"""The DSO's scenarios over the ranks under real mpiexec: the same bytes, however few hours there are."""

from __future__ import annotations

import numpy as np
import pytest
from dso_program import market, solved
from mpi_jobs import contents, mpiexec
from paths import SUPPORT
from thread_ranks import ThreadRanks, on_threads

from decomp.parallel.block_pool import BlockPool
from problems.network.row_tasks import derivative_steps, do

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize(("hours", "products"), [(1, "q"), (2, "pq")], ids=["one hour", "two hours, both products"])
def test_few_hours_with_scenarios_are_shared_and_give_the_same_files_on_any_number_of_ranks(tmp_path, hours, products):
    for ranks in (1, 2, 3):
        out = tmp_path / str(ranks)
        done = mpiexec(ranks, SUPPORT / "dso_program.py", out, hours, products)
        assert done.returncode == 0, done.stderr
        status, *stretches = done.stdout.split()
        assert status != "failed"
        # every rank has its stretch of every piece of work
        assert len(set(stretches)) == 1
        assert int(stretches[0]) > 10
    first = tmp_path / "1"
    for ranks in ("2", "3"):
        assert contents(tmp_path / ranks) == contents(first)
        assert (tmp_path / ranks / "request.bin").read_bytes() == (first / "request.bin").read_bytes()
    voltage_raised = np.frombuffer((first / "request.bin").read_bytes(), np.float64)[: 2 * hours]
    assert voltage_raised.max() > 50.0


def test_only_buffers_travel_in_a_round(monkeypatch):
    pickled: list[str] = []
    asking = []
    for name in ("gather_objects", "agree"):
        plain = getattr(ThreadRanks, name)

        def noted(self, value, name=name, plain=plain):
            if asking:
                pickled.append(name)
            return plain(self, value)

        monkeypatch.setattr(ThreadRanks, name, noted)
    mark, detail = BlockPool.mark, BlockPool.detail

    def marked(self):  # the first mark is the beginning of round 0
        mark(self)
        asking.append(True)

    def end(self):  # the schedules are gathered once, at the end of a run
        asking.clear()
        return detail(self)

    monkeypatch.setattr(BlockPool, "mark", marked)
    monkeypatch.setattr(BlockPool, "detail", end)
    shared = market(1, "q")
    assert on_threads(2, lambda ranks: solved(shared, ranks))[0].status != "failed"
    assert shared.done > 10
    assert pickled == []


def test_derivatives_do_not_depend_on_where_the_rows_are_cut():
    dso, rng = market(1, "q"), np.random.default_rng(0)
    v = rng.uniform(0.9, 1.0, (9, 4)) * np.exp(-1j * rng.uniform(0, 0.1, (9, 4)))
    v[:, dso.network.slack] = 1.0
    mu = rng.normal(size=(9, 4)) * (rng.random((9, 1)) < 0.7)
    buses, active = np.array([2, 3, 1]), np.array([False, False, True])
    work = next(derivative_steps(v, mu, buses, active, 2))
    whole = do(dso.network, work)
    for cut in (1, 4, 8):
        parts = [do(dso.network, work.stretch(*ends)) for ends in ((0, cut), (cut, 9))]
        for name, array in whole.items():
            assert np.array_equal(np.concatenate([part[name] for part in parts]), array)
