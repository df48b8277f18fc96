"""The one place where PIQP is called: a fresh setup for every program, so that an answer depends on its data alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import piqp

from decomp.messages import FloatArray, Status

ACCURACIES = ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel")  # the settings that say how exact
STATUS_OF = {
    piqp.PIQP_SOLVED: Status.OPTIMAL,
    piqp.PIQP_PRIMAL_INFEASIBLE: Status.INFEASIBLE,
    piqp.PIQP_DUAL_INFEASIBLE: Status.UNBOUNDED,
}


@dataclass(frozen=True, eq=False)
class PiqpAnswer:
    """Where PIQP ended: point x, multipliers y of equations, lower and upper (>= 0) of inequalities, its own account.

    status: OPTIMAL where the tolerances are met, else ERROR unless it names a reason; said: its own word for it
    """

    status: Status
    said: str
    x: FloatArray
    equal: FloatArray
    lower: FloatArray
    upper: FloatArray
    info: Any


def call_piqp(
    data: tuple[Any, ...], settings: Mapping[str, float], *, dense: bool = False, condensed: bool = False
) -> PiqpAnswer:
    """min 1/2 x'Px + c'x,  E x = b,  lo <= G x <= hi,  lb <= x <= ub;  data = P, c, E, b, G, lo, hi, lb, ub.

    dense: plain arrays instead of sparse matrices; condensed: the equations eliminated from the linear systems.
    """
    solver = piqp.DenseSolver() if dense else piqp.SparseSolver()
    for name, value in settings.items():
        setattr(solver.settings, name, value)
    if condensed:
        solver.settings.kkt_solver = piqp.KKTSolver.sparse_ldlt_eq_cond
        solver.settings.iterative_refinement_always_enabled = True
    solver.setup(*data)
    ended, result = solver.solve(), solver.result
    return PiqpAnswer(
        STATUS_OF.get(ended, Status.ERROR), str(ended), np.array(result.x), np.array(result.y), np.array(result.z_l),
        np.array(result.z_u), result.info,
    )  # fmt: skip
