"""Real mpiexec with 1, 2, 3, 5 ranks and more ranks than blocks: the same bytes, and nobody ever hangs."""

from __future__ import annotations

import pytest
from mpi_jobs import contents, mpiexec
from paths import SUPPORT

pytestmark = pytest.mark.mpi


def test_results_are_identical_on_any_number_of_ranks(tmp_path):
    for ranks in (1, 2, 3, 5, 16):
        done = mpiexec(ranks, SUPPORT / "mpi_program.py", tmp_path / str(ranks))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("certified ")
    first = contents(tmp_path / "1")
    assert len(first["rows"]) > 3
    for ranks in (2, 3, 5, 16):
        assert contents(tmp_path / str(ranks)) == first


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize("ranks", [1, 3])
def test_raising_block_ends_the_run_everywhere_and_is_named(tmp_path, ranks, module):
    done = mpiexec(ranks, SUPPORT / "mpi_program.py", tmp_path, "raise-in-block", module=module)
    assert done.returncode == 1
    assert "block u5/0: ZeroDivisionError: a community without heat" in done.stdout
    assert "Traceback" not in done.stderr
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize("module", [True, False])
@pytest.mark.parametrize("ranks", [2, 5])
def test_rank_that_raises_takes_the_job_with_it(tmp_path, ranks, module):
    done = mpiexec(ranks, SUPPORT / "mpi_program.py", tmp_path, "raise-on-rank", module=module)
    assert done.returncode != 0


def test_block_that_cannot_be_built_is_named(tmp_path):
    done = mpiexec(3, SUPPORT / "mpi_program.py", tmp_path, "cannot-build")
    assert done.returncode == 1
    assert "block u7/0: its boiler is larger than its heat load" in done.stdout


def test_block_that_exits_is_a_failed_block_and_nobody_waits(tmp_path):
    done = mpiexec(3, SUPPORT / "mpi_program.py", tmp_path, "exit-in-block")
    assert done.returncode == 1
    assert "block u5/0: SystemExit: no licence" in done.stdout
