"""python -m benchmarks.peers_sppy SCENARIOS MULTIPLIER FIRST ROUNDS: progressive hedging on the farmer by mpi-sppy.

The settings that were found fastest for it with HiGHS and that solve the same problem:
- Pyomo's `highs`, which keeps one solver object a scenario (its `appsi_highs` refuses the penalty);
- from the second penalised round on that object is told that only parameters change;
- one thread; no regularisation of quadratic programs, or the averages are off by 5e-6.
"""

from __future__ import annotations

import sys
from typing import Any

import highspy
from mpisppy.opt.ph import PH
from mpisppy.tests.examples import farmer

from benchmarks.peers_rounds import Rounds, SolverClock

RHO = 1.0
SOLVER = {"threads": 1, "qp_regularization_value": 0.0}
UNCHANGED = (
    "check_for_new_or_removed_constraints", "check_for_new_or_removed_vars", "check_for_new_or_removed_params",
    "check_for_new_objective", "update_constraints", "update_vars", "update_named_expressions",
)  # fmt: skip


class Told(PH):  # type: ignore[misc]
    """The same iteration; notes the moment each round's solves end, and its averages."""

    def __init__(self, *arguments: Any, clock: SolverClock, **named: Any) -> None:
        self.clock, self.stamps = clock, [clock.stamp()]
        self.averages: dict[str, list[float]] = {}
        super().__init__(*arguments, **named)

    def solve_loop(self, *arguments: Any, **named: Any) -> None:
        if self._PHIter == 2:
            for scenario in self.local_scenarios.values():
                for name in UNCHANGED:
                    setattr(scenario._solver_plugin.config.auto_updates, name, False)
        super().solve_loop(*arguments, **named)
        self.stamps.append(self.clock.stamp())

    def Compute_Xbar(self, verbose: bool = False) -> None:
        super().Compute_Xbar(verbose)
        scenario = next(iter(self.local_scenarios.values()))
        for place, variable in scenario._mpisppy_data.nonant_indices.items():
            crop = variable.index()
            self.averages.setdefault(crop, []).append(float(scenario._mpisppy_model.xbars[place].value))


def main(scenarios: int, multiplier: int, first: int, rounds: int) -> None:
    clock = SolverClock()
    highspy.Highs.run = clock.timed(highspy.Highs.run)
    options = {
        "solver_name": "highs", "PHIterLimit": rounds, "defaultPHrho": RHO, "convthresh": -1.0, "verbose": False,
        "display_progress": False, "display_timing": False, "display_convergence_detail": False, "smoothed": 0,
        "time_limit": None, "iter0_solver_options": SOLVER, "iterk_solver_options": SOLVER, "toc": False,
    }  # fmt: skip
    names = farmer.scenario_names_creator(scenarios, start=first)
    given = {"num_scens": scenarios, "crops_multiplier": multiplier}
    hedging = Told(options, names, farmer.scenario_creator, scenario_creator_kwargs=given, clock=clock)
    hedging.ph_main(finalize=False)
    hedging.Compute_Xbar()
    stamps = hedging.mpicomm.gather(hedging.stamps)
    if hedging.cylinder_rank == 0:
        print(Rounds.of(stamps, dict(hedging.averages)).line(), flush=True)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
