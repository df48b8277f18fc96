"""One run of the benchmark: a rule on an instance, every round certified, the outcome a plain record.

A run that cannot be built, is refused, fails or raises gives a record like any other, with what went wrong in words.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.monolith import HasReference, Reference
from benchmarks.plan import Instance, Measure, Run, Settings
from decomp.case.config import Case, from_tables
from decomp.errors import InputError, RefusedError
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Start
from decomp.run.stopping import Iterate, RunStatus, Stop

FASTER = 3
# a rule to build an instance with, never run
PLACEHOLDER = {"kind": "dual_ascent", "step": {"kind": "constant"}, "agreement_step": {"kind": "constant"}}


@dataclass
class Watch:
    """Follows the best bounds of a run and stops it at the smallest tolerance.

    Bounds of an exact (or relaxed) problem hold for good: the best of all rounds count. Bounds of a linearised problem
    speak of one point only: there the newest certificate counts alone.

        gap           (UB - LB) / |UB|
        coordination  (UB - LB) / (UB - LB0)
        lagrangian    (D* - LB) / |D*|, D* the optimum with convex blocks, from the one model

    A run has stalled, and ends, too, where at FASTER times the pace of its last `patience` rounds its gap would not
    come to the next of the tolerances by the last round.
    """

    measure: Measure
    tolerances: tuple[float, ...]
    lagrangian: float | None
    patience: int | None = None
    max_rounds: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    lower: float = -np.inf
    upper: float = np.inf

    def __call__(self, seen: Iterate) -> Stop | None:
        c = seen.certificate
        if c is None or (self.rows and self.rows[-1]["round"] == seen.k):
            return None
        if c.bound_of == "linearised":
            self.lower, self.upper = -np.inf, np.inf
        self.lower = max(self.lower, -np.inf if c.lower_bound is None else c.lower_bound)
        self.upper = min(self.upper, np.inf if c.upper_bound is None else c.upper_bound)
        gap = self._gap(c.neutral_bound)
        self.rows.append(
            {
                "round": seen.k,
                "lower_bound": c.lower_bound,
                "upper_bound": c.upper_bound,
                "gap": gap if np.isfinite(gap) else None,
            }
        )
        tolerance = min(self.tolerances)
        if gap > tolerance:
            return self._stalled()
        linearised = c.bound_of == "linearised"
        status = RunStatus.CERTIFIED_LINEARISED if linearised else RunStatus.CERTIFIED
        return Stop(f"{self.measure} {gap:.2e} <= {tolerance:g}", status)

    def _stalled(self) -> Stop | None:
        """The gap falls on by (now / before) ^ (FASTER * rounds left / patience); an unknown one has not fallen."""
        if self.patience is None or len(self.rows) <= self.patience:
            return None
        before, now = (np.inf if g is None else g for g in (self.rows[i]["gap"] for i in (-1 - self.patience, -1)))
        if np.isfinite(now):
            pace = min(now / before, 1.0) if before > 0 else 1.0
            left = FASTER * (self.max_rounds - 1 - self.rows[-1]["round"]) / self.patience
            wanted = max((t for t in self.tolerances if t < now), default=0.0)
            if now * pace**left <= wanted:
                return None
        reason = f"stalled: even {FASTER} times as fast as in its last {self.patience} rounds it reaches nothing more"
        return Stop(reason, RunStatus.ITERATION_LIMIT)

    def _gap(self, neutral: float | None) -> float:
        if self.measure == "lagrangian":
            if self.lagrangian is None:
                return np.inf
            return max(self.lagrangian - self.lower, 0.0) / abs(self.lagrangian)
        missing = max(self.upper - self.lower, 0.0)
        whole = abs(self.upper)
        if self.measure == "coordination":
            whole = np.inf if neutral is None else self.upper - neutral
        if not np.isfinite(missing) or not np.isfinite(whole) or whole <= 0:
            return np.inf
        return missing / whole


def case_of(instance: Instance, rule: dict[str, Any], settings: Settings, folder: Path) -> Case:
    """The instance as a case under a rule. Raises InputError."""
    tables = {key: value for key, value in instance.tables.items() if key != "stop"}
    certificate = {**tables.get("certificate", {}), "every": 1}
    limits = {"max_rounds": settings.max_rounds, "time_limit_s": settings.time_limit_s}
    return from_tables({**tables, "rule": rule, "certificate": certificate, "run": limits}, instance.file, [folder])


def find_reference(instance: Instance, settings: Settings, folder: Path) -> dict[str, Any]:
    """The instance's optimum as a record; {} where it does not know it; {"message": ...} where that went wrong."""
    try:
        problem = case_of(instance, PLACEHOLDER, settings, folder).problem
        return problem.reference(settings.reference_time_limit_s).record() if isinstance(problem, HasReference) else {}
    except Exception as error:
        return {"message": f"{type(error).__name__}: {error}"}


def measure(job: Run, settings: Settings, folder: Path, reference: dict[str, Any]) -> dict[str, Any]:
    """Do the run; never raises for what the rule, the blocks or the case do."""
    began = time.perf_counter()
    known = Reference(**reference) if "optimum" in reference else None
    lagrangian = known.lagrangian if known else None
    watch = Watch(job.instance.measure, settings.tolerances, lagrangian, settings.stalled_rounds, settings.max_rounds)
    outcome: dict[str, Any] = {"blocks": None, "prices": None, "rows": []}
    try:
        outcome |= _run(job, settings, folder, watch)
    except InputError as error:
        outcome |= {"status": "bad_input", "message": str(error)}
    except RefusedError as error:
        outcome |= {"status": "refused", "message": str(error)}
    except Exception as error:
        outcome |= {"status": "crashed", "message": f"{type(error).__name__}: {error}", "rows": watch.rows}
    return outcome | {"reference": asdict(known) if known else None, "seconds": time.perf_counter() - began}


def _run(job: Run, settings: Settings, folder: Path, watch: Watch) -> dict[str, Any]:
    case = case_of(job.instance, job.rule, settings, folder)
    coordinator, problem = case.problem.coordinator, case.problem
    start = None
    if job.factor is not None and job.start_price and coordinator is not None:
        start = job.factor * np.asarray(coordinator.scale, float)
    result = run(
        problem.subproblem,
        coordinator,
        case.rule,
        coupling=problem.couplings,
        stop=[watch],
        limits=case.limits,
        certificate=CertificateSettings(every=1),
        start=Start(price=start),
    )
    assert result is not None  # one rank
    told = {row.round: row for row in result.rows}
    rows = [
        {
            **seen,
            "mismatch": told[seen["round"]].mismatch,
            "block_solves": told[seen["round"]].block_solves,
            "wall_time_s": told[seen["round"]].wall_time_s,
            "solver_time_s": told[seen["round"]].solver_time_s,
        }
        for seen in watch.rows
        if seen["round"] in told
    ]
    return {
        "status": str(result.status),
        "message": result.reason,
        "blocks": len(result.layout.keys),
        "prices": len(result.layout.count) or sum(len(c.entries) for c in problem.couplings),
        "rows": rows,
    }
