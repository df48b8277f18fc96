"""All blocks and the coordinator as ONE model: the optimum that a decomposition is measured against.

min  sum_us pi_s f_us(x_us) + g(Z)   s.t.  y_us = ybar_u,  Z_b = sum_{u at b} ybar_u
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import highspy
import numpy as np
from scipy import sparse

from decomp.blocks.compile.program import Program
from decomp.blocks.solve.highs_lp import new_solver
from decomp.blocks.solve.piqp import solve
from decomp.coordinator import Coordinator
from decomp.errors import TatonnementError
from decomp.layout import Layout
from decomp.messages import BoolArray, Coupling, FloatArray, Key, QuadraticModel

REL_GAP = 1e-5  # between optimum and bound of a reference, where its time suffices


class Separable(Protocol):
    """A coordinator whose parts are quadratic models."""

    models: Sequence[QuadraticModel]


@dataclass(frozen=True)
class Reference:
    """What is known of an instance.

    optimum     cost of the best point found
    bound       proven lower bound of the optimum
    lagrangian  the best bound that prices can prove: the optimum of the model with convex blocks
    proven      bound and optimum agree to REL_GAP; otherwise the time was over
    seconds     it took
    """

    optimum: float
    bound: float
    lagrangian: float
    proven: bool
    seconds: float

    def record(self) -> dict[str, Any]:
        return asdict(self)


@runtime_checkable
class HasReference(Protocol):
    """A problem that knows its optimum, or how to find it."""

    def reference(self, time_limit_s: float) -> Reference: ...


@dataclass(frozen=True, eq=False)
class Monolith:
    """min 1/2 x'Qx + cost'x + constant, lo <= A x <= hi, lb <= x <= ub, x_j integer where integer_j."""

    cost: FloatArray
    constant: float
    quad: sparse.csc_matrix
    A: sparse.csc_matrix
    lo: FloatArray
    hi: FloatArray
    lb: FloatArray
    ub: FloatArray
    integer: BoolArray

    @classmethod
    def of(
        cls, couplings: Sequence[Coupling], programs: Mapping[Key, Program], coordinator: Coordinator | None
    ) -> Monolith:
        """Columns: every block's x, every unit entry's ybar, every part's v."""
        layout = Layout.of(couplings, 0 if coordinator is None else len(coordinator.nodes))
        blocks = [(programs[key], float(pi)) for key, pi in zip(layout.keys, layout.prob, strict=True)]
        if any(len(p.terms) for p, _ in blocks):
            raise TatonnementError("a block with convex terms cannot be put into one model of plain arrays")
        N, M = len(layout.entry), len(layout.node)
        models = [] if coordinator is None else list(coordinator.models)  # type: ignore[attr-defined]
        parts = () if coordinator is None else coordinator.parts()
        sizes = [len(m.q) for m in models]
        n_x = sum(len(p.cost) for p, _ in blocks)
        n_v = sum(sizes)

        own = sparse.block_diag([p.A for p, _ in blocks], format="csr")
        offers = sparse.block_diag([p.coupling for p, _ in blocks], format="csr")
        agree = sparse.csr_matrix((np.ones(N), (np.arange(N), layout.entry)), (N, M))
        network = sparse.block_diag([m.A for m in models], format="csr") if models else sparse.csr_matrix((0, 0))
        n = 0 if coordinator is None else len(coordinator.nodes)
        v_first = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        z = np.zeros(n, int)
        for rows, model, at in zip(parts, models, v_first[:-1], strict=True):
            z[rows] = at + model.z_cols
        at_node = np.flatnonzero(layout.node >= 0)
        gather = sparse.csr_matrix((np.ones(len(at_node)), (layout.node[at_node], at_node)), (n, M))
        pick = sparse.csr_matrix((np.ones(n), (np.arange(n), z)), (n, n_v))
        A = sparse.bmat(
            [[own, None, None], [offers, -agree, None], [None, gather, -pick], [None, None, network]], format="csc"
        )
        if A.shape[1] != n_x + M + n_v:
            raise TatonnementError("the blocks of the one model do not fit together")
        given = np.concatenate([p.coupling_0 for p, _ in blocks])
        box = (np.zeros(0), np.zeros(0)) if coordinator is None else coordinator.box
        v_lb, v_ub = (np.concatenate([getattr(m, b) for m in models] or [np.zeros(0)]) for b in ("lb", "ub"))
        v_lb[z], v_ub[z] = np.maximum(v_lb[z], box[0]), np.minimum(v_ub[z], box[1])
        free = np.full(M, np.inf)
        quads = [pi * (sparse.csc_matrix((len(p.cost),) * 2) if p.quad is None else p.quad) for p, pi in blocks]
        zero = np.zeros(n)
        return cls(
            cost=np.concatenate([*(pi * p.cost for p, pi in blocks), np.zeros(M), *(m.q for m in models)]),
            constant=float(sum(pi * p.constant for p, pi in blocks) + sum(m.offset for m in models)),
            quad=sparse.block_diag(
                [*quads, sparse.csc_matrix((M, M)), *(sparse.csc_matrix(m.P) for m in models)], format="csc"
            ),
            A=A,
            lo=np.concatenate([*(p.row_lo for p, _ in blocks), -given, zero, *(m.lo for m in models)]),
            hi=np.concatenate([*(p.row_hi for p, _ in blocks), -given, zero, *(m.hi for m in models)]),
            lb=np.concatenate([*(p.lb for p, _ in blocks), -free, v_lb]),
            ub=np.concatenate([*(p.ub for p, _ in blocks), free, v_ub]),
            integer=np.concatenate([*(p.integer for p, _ in blocks), np.zeros(M + n_v, bool)]),
        )

    def solved(self, time_limit_s: float) -> Reference:
        """The optimum by PIQP where the model is curved, else by HiGHS; with integers also their relaxation's.

        `lagrangian` is the relaxation's value, which is the Lagrangian bound only where the blocks' own rows describe
        the convex hull of what they can do (`benchmarks.commitment`). Raises TatonnementError when there is no optimum.
        """
        began = time.perf_counter()
        if self.quad.nnz:
            if self.integer.any():
                raise TatonnementError("no solver here for a curved model with integers")
            value, bound = self._curved()
            proven = value - bound <= REL_GAP * abs(value)
            return Reference(value, bound, value, proven, time.perf_counter() - began)
        relaxed, _, _ = self._flat(False, time_limit_s)
        if not self.integer.any():
            return Reference(relaxed, relaxed, relaxed, True, time.perf_counter() - began)
        value, bound, proven = self._flat(True, time_limit_s)
        return Reference(value, max(bound, relaxed), relaxed, proven, time.perf_counter() - began)

    def _curved(self) -> tuple[float, float]:
        """(value, bound) by PIQP."""
        found = solve(self.quad, self.cost, self.A, self.lo, self.hi, self.lb, self.ub)
        value = 0.5 * float(found.v @ (self.quad @ found.v)) + float(self.cost @ found.v)
        return value + self.constant, min(found.bound, value) + self.constant

    def _flat(self, whole: bool, time_limit_s: float) -> tuple[float, float, bool]:
        """(value, bound, proven) by HiGHS."""
        solver = new_solver({"presolve": "choose", "solver": "choose", "simplex_scale_strategy": 2})
        solver.setOptionValue("time_limit", time_limit_s)
        solver.setOptionValue("mip_rel_gap", REL_GAP)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.cost), len(self.lo)
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = self.cost, self.lb, self.ub
        lp.row_lower_, lp.row_upper_ = self.lo, self.hi
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_ = self.A.indptr, self.A.indices
        lp.a_matrix_.value_ = self.A.data
        if whole:
            lp.integrality_ = [
                highspy.HighsVarType.kInteger if i else highspy.HighsVarType.kContinuous for i in self.integer
            ]
        solver.passModel(lp)
        solver.run()
        info, status = solver.getInfo(), solver.getModelStatus()
        proven = status == highspy.HighsModelStatus.kOptimal
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible or not (proven or whole):
            raise TatonnementError(f"HiGHS found no optimum of the one model: {solver.modelStatusToString(status)}")
        value = float(info.objective_function_value) + self.constant
        return value, float(info.mip_dual_bound) + self.constant if whole else value, proven
