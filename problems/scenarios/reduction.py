"""Few scenarios in place of many: fast forward selection and k-medoids, with what is lost.

Both keep n of the scenarios, give every dropped one's probability to the nearest kept one, and try to make

    D = sum_j p_j min_{i kept} |x_j - x_i|     small, |x|^2 = sum_v sum_t (x_vt / scale_v)^2,

the least Kantorovich distance between the set and any set on the kept scenarios. By the triangle inequality no mean
moves by more than scale_v D: `Reduction.mean_error_bound`. Deviations shrink; `before` and `after` show by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray, IntArray
from problems.scenarios.scenario_set import Moments, Place, ScenarioSet


@dataclass(frozen=True, eq=False)
class Reduction:
    """The reduced set and what it stands for.

    scenarios  the kept ones, under their names, in their order
    kept       (n,) their rows in the set given
    nearest    (S,) position in `kept` of the one that carries each scenario's probability
    distance   D, in units of the scales
    scale      by series: the deviation by which it was divided
    before     moments of the set given
    after      moments of the reduced set
    """

    scenarios: ScenarioSet
    kept: IntArray
    nearest: IntArray
    distance: float
    scale: Mapping[str, float]
    before: Moments
    after: Moments

    @property
    def mean_error_bound(self) -> dict[str, float]:
        """By series: no step's mean differs by more, in the series' unit."""
        return {name: scale * self.distance for name, scale in self.scale.items()}

    @property
    def mean_error(self) -> dict[str, float]:
        """By series: the largest difference of a step's mean, in the series' unit."""
        return {n: float(np.max(np.abs(self.after.mean[n] - m))) for n, m in self.before.mean.items()}


def fast_forward(scenarios: ScenarioSet, count: int, scale: Mapping[str, float] | None = None) -> Reduction:
    """Fast forward selection: again and again keep the scenario that lowers D most.

    `scale` by series is what differences are divided by; without it the root mean square deviation of the series over
    the steps, so that kW and prices weigh alike. Raises InputError: count outside 1..S, a scale that is not positive.
    Heitsch and Roemisch, Scenario reduction algorithms in stochastic programming, Comput. Optim. Appl. 24 (2003),
    algorithm 2.4.
    """
    scales = scales_of(scenarios, count, scale)
    costs = distances(scenarios, scales)
    return result(scenarios, costs, scales, forward(costs, scenarios.prob, count))


def k_medoids(scenarios: ScenarioSet, count: int, scale: Mapping[str, float] | None = None) -> Reduction:
    """Partitioning around medoids: fast forward selection, then exchange kept for dropped ones while that lowers D.

    No single exchange lowers the D that is returned, which is never above that of fast forward selection; ties are
    decided by order, so the answer is always the same. Arguments and errors as there.
    Kaufman and Rousseeuw, Finding Groups in Data (1990), ch. 2.
    """
    scales = scales_of(scenarios, count, scale)
    costs = distances(scenarios, scales)
    start = forward(costs, scenarios.prob, count)
    return result(scenarios, costs, scales, exchange(costs, scenarios.prob, start))


def forward(costs: FloatArray, prob: FloatArray, count: int) -> list[int]:
    """Rows kept by fast forward selection, in the order of their choice."""
    kept: list[int] = []
    nearest = np.full(len(prob), np.inf)
    for _ in range(count):
        total = prob @ np.minimum(costs, nearest[:, None])
        total[kept] = np.inf
        best = int(np.argmin(total))
        kept.append(best)
        nearest = np.minimum(nearest, costs[:, best])
    return kept


def exchange(costs: FloatArray, prob: FloatArray, start: list[int]) -> list[int]:
    """Exchanges one kept for one dropped row at a time, the best for each kept one in turn, until none lowers D."""
    kept = list(start)
    best = float(prob @ costs[:, kept].min(axis=1))
    idle = 0  # kept ones looked at since the last exchange
    place = 0
    while idle < len(kept):
        others = kept[:place] + kept[place + 1 :]
        without = costs[:, others].min(axis=1) if others else np.full(len(prob), np.inf)
        total = prob @ np.minimum(costs, without[:, None])
        total[others] = np.inf
        candidate = int(np.argmin(total))
        if total[candidate] < best - 1e-12 * (1.0 + best):  # strictly: rounding must not let it go round in circles
            kept[place], best, idle = candidate, float(total[candidate]), 0
        else:
            idle += 1
        place = (place + 1) % len(kept)
    return kept


def distances(scenarios: ScenarioSet, scale: Mapping[str, float]) -> FloatArray:
    """(S, S) distance of each two scenarios."""
    points = np.hstack([values / scale[name] for name, values in scenarios.series.items()])
    return np.asarray(cdist(points, points))


def result(scenarios: ScenarioSet, costs: FloatArray, scale: Mapping[str, float], chosen: list[int]) -> Reduction:
    """The reduced set: every probability goes to the nearest kept scenario (of equals to the first)."""
    kept = np.array(sorted(chosen), np.int64)
    nearest = np.argmin(costs[:, kept], axis=1)
    nearest[kept] = np.arange(len(kept))  # of two equal scenarios that are both kept, each carries its own
    prob = np.bincount(nearest, weights=scenarios.prob, minlength=len(kept)).astype(np.float64)
    reduced = ScenarioSet(
        tuple(scenarios.names[i] for i in kept), prob, {n: values[kept] for n, values in scenarios.series.items()}
    )
    distance = float(scenarios.prob @ costs[np.arange(len(nearest)), kept[nearest]])
    return Reduction(reduced, kept, nearest, distance, dict(scale), scenarios.moments(), reduced.moments())


def scales_of(scenarios: ScenarioSet, count: int, scale: Mapping[str, float] | None) -> dict[str, float]:
    """What each series is divided by; a series that is the same in all scenarios adds no distance, its scale is 1."""
    place = Place()
    wrong: list[Mistake] = []
    if not 1 <= count <= len(scenarios):
        wrong.append(place.mistake("count", f"{count} of {len(scenarios)} scenarios", "give 1 or more, not above all"))
    if scale is None:
        spread = {name: float(np.sqrt(np.mean(std**2))) for name, std in scenarios.moments().std.items()}
        chosen = {name: value if value > 0 else 1.0 for name, value in spread.items()}
    else:
        chosen = dict(scale)
        if set(chosen) != set(scenarios.series):
            problem = f"is given for {', '.join(chosen) or 'nothing'}"
            wrong.append(place.mistake("scale", problem, f"give it for {', '.join(scenarios.series)}"))
        for name, value in chosen.items():
            if not (np.isfinite(value) and value > 0):
                wrong.append(place.mistake("scale", f"{name} has {value:g}", "give a finite number above 0"))
    if wrong:
        raise InputError(wrong)
    return chosen
