"""The whole communities against an exact second-order cone program, solved by an interior-point method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
import pytest
from lec_cases import LEC1, LEC2, NEUTRAL, campus
from scipy import sparse

from decomp.blocks.compile.compiler import compile_model
from decomp.blocks.compile.program import Program
from decomp.messages import FloatArray, Signal, Status
from problems.lec.community import LocalEnergyCommunity

PRICES = (-0.25, -0.12, -0.03, 0.0, 0.06, 0.14, 0.2, 0.3, 0.6)
T14, T17 = 13, 16


@dataclass
class Exact:
    """One community as its block and as the arrays of the same model."""

    block: LocalEnergyCommunity
    program: Program

    def price(self, ts: float) -> FloatArray:
        price = self.block.data.reactive_price_sek_per_kvarh.copy()
        price[[T14, T17]] = ts
        return price


@pytest.fixture(scope="module", params=["LEC1", "LEC2"])
def both(request: pytest.FixtureRequest) -> Exact:
    own, data = campus({"LEC1": LEC1, "LEC2": LEC2}[request.param])
    model = LocalEnergyCommunity(request.param, own, data, freeze_p=False)
    built = model.build()
    program = compile_model(built, model.convex_terms(built))
    return Exact(LocalEnergyCommunity(request.param, own, data, freeze_p=False), program)


def exact_solution(program: Program, price: FloatArray, whole: FloatArray, weight: float = 1.0) -> tuple[Any, float]:
    """min cost'x - <price, c(x)> over the rows, the bounds and the cones |(P, Q)| <= P + (S - P); binaries fixed."""
    n = len(program.cost)
    lb, ub = program.lb.copy(), program.ub.copy()
    lb[program.integer] = ub[program.integer] = whole
    cost = program.cost - weight * (program.coupling.T @ price)
    eye = sparse.identity(n, format="csr")
    rows, right, cones = [], [], []

    def add(A: Any, b: FloatArray, cone: Any) -> None:
        if A.shape[0]:
            rows.append(A)
            right.append(b)
            cones.append(cone(A.shape[0]))

    same = program.row_lo == program.row_hi
    below, above = ~same & np.isfinite(program.row_hi), ~same & np.isfinite(program.row_lo)
    fixed = lb == ub
    add(program.A[same], program.row_hi[same], clarabel.ZeroConeT)
    add(eye[fixed], lb[fixed], clarabel.ZeroConeT)
    add(program.A[below], program.row_hi[below], clarabel.NonnegativeConeT)
    add(-program.A[above], -program.row_lo[above], clarabel.NonnegativeConeT)
    up, down = ~fixed & np.isfinite(ub), ~fixed & np.isfinite(lb)
    add(eye[up], ub[up], clarabel.NonnegativeConeT)
    add(-eye[down], -lb[down], clarabel.NonnegativeConeT)
    for group in program.terms.groups:
        for i, t in enumerate(group.epigraph):
            A, b = sparse.lil_matrix((3, n)), np.zeros(3)
            A[0, t] = -1.0
            for j, column in enumerate(group.column[:, i]):
                if column >= 0:
                    A[j + 1, column] = -1.0
                    A[0, column] -= 1.0 if j == 0 else 0.0
                else:
                    b[j + 1] = group.given[j, i]
                    b[0] += group.given[j, i] if j == 0 else 0.0
            rows.append(A.tocsr())
            right.append(b)
            cones.append(clarabel.SecondOrderConeT(3))
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix((n, n)), cost, sparse.csc_matrix(sparse.vstack(rows)), np.concatenate(right), cones, settings
    )
    answer = solver.solve()
    assert str(answer.status) in ("Solved", "AlmostSolved")
    return np.array(answer.x), float(answer.obj_val) + program.constant


@pytest.mark.parametrize("ts", PRICES)
def test_offer_is_that_of_the_exact_cone(both: Exact, ts: float) -> None:
    price = both.price(ts)
    response = both.block.solve(Signal(price))
    assert response.status is Status.OPTIMAL
    assert response.point is not None
    x, value = exact_solution(both.program, price, response.point[both.program.integer])
    dq = both.program.offer(x) - both.block.initial.offer
    assert response.y[[T14, T17]] == pytest.approx(dq[[T14, T17]], abs=1.0)
    assert np.median(np.abs(response.y - dq)) < 0.3
    ours = response.cost - price @ response.y
    theirs = (
        value
        + price @ (both.program.coupling_0 * -1.0 + both.block.initial.offer)
        - NEUTRAL * both.block.initial.offer.sum()
    )
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours >= theirs - 1e-5


def test_bound_lies_below_the_optimum_and_close_to_it(both: Exact) -> None:
    price = both.price(0.14)
    response = both.block.solve(Signal(price, exact=True))
    assert response.bound is not None
    assert response.bound <= response.cost - price @ response.y + 1e-9
    assert response.bound == pytest.approx(response.cost - price @ response.y, abs=2e-3)
