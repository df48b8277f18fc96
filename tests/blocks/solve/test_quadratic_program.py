"""Programs that the interior point gives up on: a linear one is left to the simplex method, no other is made up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from decomp.blocks.solve import piqp as quadratic_program
from decomp.blocks.solve.piqp import NoSolution, solve


@pytest.fixture
def given_up(monkeypatch):
    """An interior point that may take one iteration."""
    monkeypatch.setattr(quadratic_program, "ATTEMPTS", ((1.0, 1, False),))


def program(curve, need):
    """min 3 x + 1e9 y + curve/2 x^2 over x + y = need, x <= 2, y <= 5."""
    A = sparse.csr_matrix(np.array([[1.0, 1.0], [1.0, 0.0]]))
    q, hi = np.array([3.0, 1e9]), np.array([need, 2.0])
    return sparse.diags([curve, 0.0]).tocsc(), q, A, np.array([need, -np.inf]), hi, np.zeros(2), np.array([np.inf, 5.0])


def test_a_linear_program_is_solved_by_its_vertices(given_up):
    for P in (sparse.csc_matrix((2, 2)), program(0.0, 3.0)[0]):
        found = solve(P, *program(0.0, 3.0)[1:])
        assert found.v == pytest.approx([2.0, 1.0])
        assert found.rows == pytest.approx([-1e9, 1e9 - 3.0])
        assert found.bound == pytest.approx(1e9 + 6.0, rel=1e-12)


@pytest.mark.parametrize(("curve", "need"), [(1.0, 3.0), (0.0, 8.0)], ids=["curved", "infeasible"])
def test_what_has_no_vertex_to_give_is_refused(given_up, curve, need):
    with pytest.raises(NoSolution, match="2 columns and 2 rows has no solution"):
        solve(*program(curve, need))
