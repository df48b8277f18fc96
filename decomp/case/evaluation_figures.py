"""The figures of an evaluation, and the statistics behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from decomp.messages import FloatArray


@dataclass(frozen=True)
class Estimate:
    """Mean of independent values, its standard error, and its two-sided confidence interval by Student's t."""

    mean: float
    standard_error: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Gap:
    """Estimate of E f(x) - v* by replications (Mak, Morton and Wood 1999, section 3.2).

        G_r = 1/n sum_i f(x, xi_ri) - v_r,  v_r <= min_x' 1/n sum_i f(x', xi_ri),  mean_r G_r + t_{R-1} s_G / sqrt(R)

    v_r is the proven lower bound of the replication, so that a gap left in it widens the estimate.

    mean, standard_error   of the R values G_r
    upper                  one-sided limit of the optimality gap: it is below with the confidence asked for
    lower_estimate         mean of v_r: a lower estimate of the optimum v*
    """

    mean: float
    standard_error: float
    upper: float
    lower_estimate: float
    replications: int
    scenarios: int


@dataclass(frozen=True)
class Value:
    """What the stochastic solution is worth, over the run's own scenarios.

        EVPI = RP - WS,  VSS = EEV - RP      (Birge and Louveaux 2011, sections 4.1 and 4.2)

    recourse      RP: expected cost of the run's solution; the run's gap lies in EVPI and VSS
    wait_and_see  WS: expected cost where every scenario is known beforehand
    mean_solution EEV: expected cost of the first stage that is best for the mean of the data; None = it was not found,
                  and `mean_why` says why; inf = it has no answer in some scenario
    """

    recourse: float
    wait_and_see: float
    evpi: float
    mean_solution: float | None
    vss: float | None
    mean_why: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The first stage of a run, evaluated.

    first_stage   its values by entry
    cost          under `scenarios` fresh scenarios, those in which it has an answer; None = none was feasible
    infeasible    share of them in which it has none: then its expected cost is infinite
    conflict      what is in conflict in the first of these
    gap, value    see there; None = not asked for
    """

    first_stage: Mapping[str, float]
    scenarios: int
    seed: int
    confidence: float
    cost: Estimate | None
    infeasible: float
    conflict: str
    gap: Gap | None
    value: Value | None

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def estimate(values: FloatArray, confidence: float) -> Estimate:
    """Of independent values (n,), n at least 2."""
    n, mean = len(values), float(np.mean(values))
    error = float(np.std(values, ddof=1) / math.sqrt(n))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return Estimate(mean, error, mean - half, mean + half, n)


def gap_of(values: FloatArray, lower: FloatArray, size: int, confidence: float) -> Gap:
    """Of the replications' gaps (R,) and lower bounds (R,); size: scenarios of each."""
    count = len(values)
    error = float(np.std(values, ddof=1) / math.sqrt(count)) if np.all(np.isfinite(values)) else math.inf
    mean = float(np.mean(values))
    upper = mean + float(stats.t.ppf(confidence, count - 1)) * error
    return Gap(mean, error, upper, float(np.mean(lower)), count, size)
