"""Correlated samples of several series over the steps: a Gaussian copula under the given distributions.

The normal scores z (one for each series v and step t) are a stationary first-order autoregression,

    z_t = Phi z_{t-1} + e_t,  Phi = diag(phi_v),  phi_v = a_v^dt_h,  cov z_t = C,  cov e_t = C - Phi C Phi,

so corr(z_vt, z_w,t+h) = C_vw phi_w^h, and x_vt = F_vt^-1(normal cdf(z_vt)). The autocorrelation a_v over one hour and
the correlation C_vw between series at the same step are those of the scores; the rank correlation of the values is
(6/pi) arcsin(corr/2). a_v = 0 makes the steps independent: that has to be written, there is no default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.scenarios.distributions import Marginals
from problems.scenarios.scenario_set import HERE, Place, ScenarioSet

Method = Literal["latin_hypercube", "sobol", "random"]
SMALLEST_SHARE = 2.0**-33  # half a cell of the 2^32 Sobol grid: keeps the scores finite


@dataclass(frozen=True)
class SampleSettings:
    """How a sample is drawn.

    count            number of scenarios, all of probability 1/count; a power of 2 for sobol
    seed             of numpy's default generator: the same seed, the same sample
    autocorrelation  by series: of its normal scores over one hour, 0 <= a < 1
    correlation      by pair of series: of their normal scores at the same step; pairs left out are uncorrelated
    dt_h             length of a step in h
    method           latin_hypercube: exactly one value of each step in each of its `count` equal shares of probability
                     (Stein 1987: the correlated scores are replaced by stratified ones of the same rank);
                     sobol: scrambled quasi-random; random: independent draws
    """

    count: int
    seed: int
    autocorrelation: Mapping[str, float]
    correlation: Mapping[tuple[str, str], float] = field(default_factory=dict)
    dt_h: float = 1.0
    method: Method = "latin_hypercube"


def sample(marginals: Mapping[str, Marginals], settings: SampleSettings, place: Place = HERE) -> ScenarioSet:
    """`count` equally probable scenarios named 0, 1, ... (with leading zeros) of all series.

    Raises InputError with every wrong setting. Source of the stratification: M. Stein, Large sample properties of
    simulations using Latin hypercube sampling, Technometrics 29 (1987).
    """
    names = tuple(marginals)
    wrong = setting_mistakes(marginals, settings, place)
    if wrong:
        raise InputError(wrong)
    phi, together, innovation = recursion(names, settings)
    if (least := float(np.linalg.eigvalsh(together)[0])) < -1e-10:
        problem = f"the correlation matrix of {', '.join(names)} has the negative eigenvalue {least:.4g}"
        raise InputError([place.mistake("correlation", problem, "no quantities can be correlated like this")])
    if (least := float(np.linalg.eigvalsh(innovation)[0])) < -1e-10:
        problem = f"autocorrelations this different cannot go with these correlations (eigenvalue {least:.4g})"
        raise InputError([place.mistake("correlation", problem, "bring the autocorrelations closer or correlate less")])

    rng = np.random.default_rng(settings.seed)
    steps = len(next(iter(marginals.values())).fixed)
    drive = ndtri(shares(settings, steps * len(names), rng)).reshape(settings.count, steps, len(names))
    first, later = root(together), root(innovation)
    scores = np.empty_like(drive)
    scores[:, 0] = drive[:, 0] @ first.T
    for t in range(1, steps):
        scores[:, t] = scores[:, t - 1] * phi + drive[:, t] @ later.T
    u = ndtr(scores)
    if settings.method == "latin_hypercube":
        ranks = np.argsort(np.argsort(scores, axis=0, kind="stable"), axis=0, kind="stable")
        u = (ranks + rng.random(scores.shape)) / settings.count
    u = np.clip(u, SMALLEST_SHARE, 1.0 - SMALLEST_SHARE)
    width = len(str(settings.count - 1))
    return ScenarioSet(
        tuple(f"{s:0{width}d}" for s in range(settings.count)),
        np.full(settings.count, 1.0 / settings.count),
        {name: law.ppf(u[:, :, v]) for v, (name, law) in enumerate(marginals.items())},
    )


def shares(settings: SampleSettings, dimensions: int, rng: np.random.Generator) -> FloatArray:
    """(count, dimensions) points in (0, 1)."""
    if settings.method == "sobol":
        points = qmc.Sobol(dimensions, seed=rng).random_base2(settings.count.bit_length() - 1)
    elif settings.method == "latin_hypercube":
        points = qmc.LatinHypercube(dimensions, seed=rng).random(settings.count)
    else:
        points = rng.random((settings.count, dimensions))
    return np.asarray(np.clip(points, SMALLEST_SHARE, 1.0 - SMALLEST_SHARE))


def recursion(names: tuple[str, ...], settings: SampleSettings) -> tuple[FloatArray, FloatArray, FloatArray]:
    """phi (V,), C (V, V) and C - Phi C Phi (V, V)."""
    phi = np.array([settings.autocorrelation[name] ** settings.dt_h for name in names])
    together = np.eye(len(names))
    for (v, w), value in settings.correlation.items():
        i, j = names.index(v), names.index(w)
        together[i, j] = together[j, i] = value
    return phi, together, together * (1.0 - np.outer(phi, phi))


def root(covariance: FloatArray) -> FloatArray:
    """L with L L' = covariance; unlike Cholesky's also of a singular one (two series that are one)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def autocorrelation_of(data: ArrayLike, dt_h: float = 1.0) -> float:
    """Autocorrelation over one hour, for `SampleSettings`, of data (days, T).

    Each column is replaced by its normal scores (ties share their mean rank); phi = sum z_t z_{t+1} / sum of the mean
    squares of the two, over the neighbouring steps that both vary; the answer is phi^(1/dt_h), 0 where phi < 0.

    Raises InputError: fewer than 3 days, values that are no finite numbers, no two neighbouring steps that vary.
    """
    values = np.asarray(data, np.float64)
    place = Place()
    if values.ndim != 2 or len(values) < 3 or not np.all(np.isfinite(values)):
        problem = f"shape {values.shape}, {np.count_nonzero(~np.isfinite(values))} values are not finite numbers"
        raise InputError([place.mistake("data", problem, "give 3 days (rows) or more without holes")])
    scores = ndtri((stats.rankdata(values, axis=0) - 0.5) / len(values))
    varies = np.ptp(values, axis=0) > 0
    pairs = varies[:-1] & varies[1:]
    if not np.any(pairs):
        raise InputError([place.mistake("data", "no two neighbouring steps vary", "an autocorrelation needs them")])
    before, after = scores[:, :-1][:, pairs], scores[:, 1:][:, pairs]
    phi = 2.0 * np.sum(before * after) / np.sum(before**2 + after**2)
    return float(max(phi, 0.0) ** (1.0 / dt_h))


def setting_mistakes(marginals: Mapping[str, Marginals], settings: SampleSettings, place: Place) -> list[Mistake]:
    """Everything in the settings that can be told to be wrong one by one."""
    wrong = []
    lengths = {name: len(law.fixed) for name, law in marginals.items()}
    if len(set(lengths.values())) != 1:
        wrong.append(place.mistake("series", f"numbers of steps: {lengths}", "give series of equally many steps"))
    if settings.count < 1:
        wrong.append(place.mistake("count", f"is {settings.count}", "give 1 or more"))
    if settings.method not in get_args(Method):
        wrong.append(place.mistake("method", f"unknown: {settings.method!r}", f"known: {', '.join(get_args(Method))}"))
    if settings.method == "sobol" and settings.count & (settings.count - 1):
        near = 1 << settings.count.bit_length()
        wrong.append(
            place.mistake("count", f"{settings.count} is no power of 2, as sobol needs", f"take {near // 2} or {near}")
        )
    if settings.method == "sobol" and sum(lengths.values()) > qmc.Sobol.MAXDIM:
        problem = f"series times steps is {sum(lengths.values())}, sobol goes to {qmc.Sobol.MAXDIM}"
        wrong.append(place.mistake("method", problem, "take latin_hypercube"))
    if not settings.dt_h > 0:
        wrong.append(place.mistake("dt_h", f"is {settings.dt_h:g}", "give the length of a step in h, above 0"))
    for name in marginals:
        a = settings.autocorrelation.get(name)
        if a is None:
            wrong.append(place.mistake("autocorrelation", f"none is given for {name}", "0 makes its steps independent"))
        elif not 0.0 <= a < 1.0:
            wrong.append(place.mistake("autocorrelation", f"{name} has {a:g}", "give 0 or more and less than 1"))
    for name in sorted(set(settings.autocorrelation) - set(marginals)):
        wrong.append(place.mistake("autocorrelation", f"there is no series {name}", f"known: {', '.join(marginals)}"))
    for (v, w), value in settings.correlation.items():
        if v not in marginals or w not in marginals or v == w:
            remedy = f"name two different ones of {', '.join(marginals)}"
            wrong.append(place.mistake("correlation", f"({v}, {w}) are not two series", remedy))
        elif not -1.0 <= value <= 1.0:
            wrong.append(place.mistake("correlation", f"({v}, {w}) has {value:g}", "give a number in -1..1"))
        elif settings.correlation.get((w, v), value) != value:
            wrong.append(place.mistake("correlation", f"({v}, {w}) is given twice, differently", "give it once"))
    return wrong
