"""All scenarios of a microgrid in ONE model: the reference for decomposed runs.

    min  sum_s pi_s f_s(x_s)   s.t.  y_s(x_s) = y  for all s

f_s is -profit in $, or the risk-adjusted cost, and y the bids (and the value at risk), exactly as in the blocks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from decomp.errors import TatonnementError
from decomp.messages import FloatArray, Key, Signal, Status
from problems.microgrid.bundle import ScenarioBundle

if TYPE_CHECKING:
    from problems.microgrid.problem import Microgrid


@dataclass(frozen=True, eq=False)
class Extensive:
    """The solved one model.

    objective, bound  $; bound is None where the solver proves none
    y                 (n_u,) bids, product by product and step by step, and the value at risk
    details           series of every scenario, as in `Result.details`
    columns, rows     size of the model, tangents not counted
    wall_time_s       of building and solving
    """

    objective: float
    bound: float | None
    y: FloatArray
    details: Mapping[Key, Mapping[str, FloatArray]]
    columns: int
    rows: int
    wall_time_s: float


def extensive_form(microgrid: Microgrid, *, solver: str = "highs", **options: Any) -> ScenarioBundle:
    """The one model as a block, which can be asked for other prices of its bids too."""
    data = microgrid.data
    prob = dict(zip(data.names, map(float, data.prob), strict=True))
    blocks = {name: microgrid.scenario(name) for name in data.names}
    weight, settings = microgrid.couplings[0].weight, microgrid.settings.solver.block()
    return ScenarioBundle(blocks, prob, weight, settings, solver=solver, **options)


def solve_extensive(microgrid: Microgrid, solver: str = "highs", options: Mapping[str, Any] | None = None) -> Extensive:
    """Solve all scenarios at once with HiGHS or any Pyomo solver that takes the model. Raises TatonnementError."""
    begin = time.perf_counter()
    form = extensive_form(microgrid, solver=solver, solver_options=options)
    response = form.solve(Signal(np.zeros(form.n), exact=True))
    if response.status is not Status.OPTIMAL:
        raise TatonnementError(f"the extensive form was not solved: {response.status.name} {response.message}")
    details = {Key(microgrid.couplings[0].unit, "all"): form.detail(response)}
    taken = time.perf_counter() - begin
    return Extensive(response.cost, response.bound, response.y, details, *form.size, taken)
