"""A mixed-integer solve: always on a new object, for HiGHS keeps nothing of one over a change of costs."""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.highs_lp import STATUS_OF, Options, add_rows, new_solver, pass_rows, set_options
from decomp.blocks.solve.highs_simplex import run_highs
from decomp.blocks.solve.scaling import Scaled
from decomp.messages import FloatArray, Status


@dataclass(frozen=True, eq=False)
class MixedAnswer:
    """Point (n,) with whole integers, and the solver's dual bound of cost'x (never the incumbent's value)."""

    status: Status
    x: FloatArray
    bound: float | None


def solve_mixed(
    program: Program,
    scaled: Scaled,
    cost: FloatArray,
    lb: FloatArray,
    ub: FloatArray,
    pool: Pool,
    abs_gap: float,
    rel_gap: float,
    options: Options,
    max_nodes: int,
    time_limit_s: float | None = None,
    presolve: bool = True,
) -> MixedAnswer:
    """min cost'x over the rows, the pool's tangents, lb <= x <= ub and the integers.

    presolve = False: without it, whatever the options say; where an answer is in doubt it is the part at fault.
    """
    solver = new_solver({})
    set_options(
        solver,
        {
            "presolve": "choose",
            "solver": "choose",
            "mip_abs_gap": abs_gap,
            "mip_rel_gap": rel_gap,
            "mip_max_nodes": max_nodes,
            "mip_feasibility_tolerance": 1e-9,
            **({} if time_limit_s is None else {"time_limit": time_limit_s}),
            **options,
            **({} if presolve else {"presolve": "off"}),
        },
    )
    column = scaled.column
    pass_rows(solver, scaled.rows_of(program), cost * column, lb / column, ub / column)
    add_rows(solver, scaled.tangent_rows(pool, lifted=False)[0])  # its bound has to be one of the terms themselves
    whole = np.flatnonzero(program.integer).astype(np.int32)
    kind = np.full(len(whole), int(highspy.HighsVarType.kInteger), np.uint8)
    solver.changeColsIntegrality(len(whole), whole, kind)
    run_highs(solver)
    status, info = STATUS_OF.get(solver.getModelStatus(), Status.ERROR), solver.getInfo()
    bound = float(info.mip_dual_bound)
    proven = bound if np.isfinite(bound) else None
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return MixedAnswer(Status.ERROR if status is Status.OPTIMAL else status, np.zeros(0), proven)
    x = np.array(solver.getSolution().col_value) * column
    x[whole] = np.round(x[whole])
    return MixedAnswer(Status.FEASIBLE if status is Status.LIMIT else status, x, proven)
