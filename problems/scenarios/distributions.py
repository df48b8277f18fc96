"""What one series may be at each step: a distribution for every step, or a fixed value.

The moments given are of the quantity itself (W/m2, m/s, kW, price), each (T,). `moments_of` takes them from data, so
that fitting to data is `beta_irradiance(*moments_of(days), r_max_wm2=1000.0)`: the method of moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray
from problems.scenarios.scenario_set import HERE, Place

SHAPES = (0.1, 1000.0)  # Weibull shapes looked at: std/mean from 430 down to .0013


@dataclass(frozen=True, eq=False)
class Marginals:
    """The distribution of each of T steps. `law` is a frozen scipy distribution; `fixed` (T,) is NaN where it rules."""

    law: Any
    fixed: FloatArray

    @property
    def certain(self) -> BoolArray:
        return ~np.isnan(self.fixed)

    def ppf(self, u: FloatArray) -> FloatArray:
        """(n, T) values at the probabilities u (n, T), 0 < u < 1."""
        return np.where(self.certain, self.fixed, self.law.ppf(u))

    def mean(self) -> FloatArray:
        return np.where(self.certain, self.fixed, self.law.mean())

    def std(self) -> FloatArray:
        return np.where(self.certain, 0.0, self.law.std())


def moments_of(data: ArrayLike, place: Place = HERE) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (with n - 1) of each column of data (n, T), one row a day. Raises InputError."""
    values = np.asarray(data, np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise InputError([place.mistake("data", f"has the shape {values.shape}", "give two days (rows) or more")])
    holes = np.argwhere(~np.isfinite(values))
    if len(holes):
        raise InputError(
            [place.mistake("data", f"row {r}, step {t} is not a finite number", "fill it in") for r, t in holes]
        )
    return values.mean(axis=0), values.std(axis=0, ddof=1)


def beta_irradiance(
    mean_wm2: ArrayLike,
    std_wm2: ArrayLike,
    *,
    r_max_wm2: float,
    place: Place = HERE,
) -> Marginals:
    """Beta-distributed irradiance from its mean and standard deviation; hours with mean and deviation 0 are night.

    With mu = mean/r_max and sigma = std/r_max:
    beta = (1 - mu) [mu (1 - mu)/sigma^2 - 1], alpha = mu beta/(1 - mu).

    Raises InputError with every step of which no Beta distribution can have the moments: mu outside (0, 1), or sigma^2
    not in (0, mu (1 - mu)). Paper 2, eqs. (19)-(21); the print of (20) lacks the bracket, without which alpha and beta
    do not give mu and sigma back.
    """
    mean, std, night, wrong = checked_moments(mean_wm2, std_wm2, place)
    if not (np.isfinite(r_max_wm2) and r_max_wm2 > 0):
        raise InputError(
            [*wrong, place.mistake("r_max_wm2", f"is {r_max_wm2:g}", "give the highest irradiance, above 0")]
        )
    mu, sigma = mean / r_max_wm2, std / r_max_wm2
    for t in np.flatnonzero(~night & (mean >= r_max_wm2)):
        remedy = "the mean must lie below r_max_wm2"
        wrong.append(place.mistake(f"step {t}", f"mean {mean[t]:g} of at most {r_max_wm2:g} W/m2", remedy))
    for t in np.flatnonzero(~night & (mean > 0) & (mean < r_max_wm2) & (sigma**2 >= mu * (1 - mu))):
        most = r_max_wm2 * np.sqrt(mu[t] * (1 - mu[t]))
        problem = (
            f"no Beta distribution on 0..{r_max_wm2:g} W/m2 has mean {mean[t]:g} and standard deviation {std[t]:g}"
        )
        wrong.append(place.mistake(f"step {t}", problem, f"with this mean the deviation must be below {most:.6g}"))
    if wrong:
        raise InputError(wrong)
    mu, sigma = np.where(night, 0.5, mu), np.where(night, 0.1, sigma)  # any Beta: night is fixed
    b = (1 - mu) * (mu * (1 - mu) / sigma**2 - 1)
    return beta_given(mu * b / (1 - mu), b, r_max_wm2=r_max_wm2, night=night, place=place)


def beta_given(
    alpha: ArrayLike,
    beta: ArrayLike,
    *,
    r_max_wm2: float,
    night: ArrayLike | None = None,
    place: Place = HERE,
) -> Marginals:
    """r = r_max x with x ~ Beta(alpha, beta), both (T,) > 0; 0 where `night` (T,) is True. Paper 2, eq. (19)."""
    a, b = (np.atleast_1d(np.asarray(p, np.float64)) for p in (alpha, beta))
    raise_unless_positive({"alpha": a, "beta": b, "r_max_wm2": np.atleast_1d(r_max_wm2)}, place)
    dark = np.zeros(len(a), np.bool_) if night is None else np.asarray(night, np.bool_)
    return Marginals(stats.beta(a, b, scale=r_max_wm2), np.where(dark, 0.0, np.nan))


def weibull_wind(
    mean_ms: ArrayLike,
    std_ms: ArrayLike | None = None,
    *,
    place: Place = HERE,
) -> Marginals:
    """Weibull-distributed wind speed from its mean and, where known, its standard deviation.

    c = mean/Gamma(1 + 1/k), and k solves Gamma(1 + 2/k)/Gamma(1 + 1/k)^2 = 1 + (std/mean)^2.
    Without a deviation k = 2 (Rayleigh), the shape at which the scale that paper 2 prints under eq. (23) holds:
    c = 2 mean/sqrt(pi).

    Raises InputError with every step whose moments no Weibull shape in .1..1000 has.
    """
    if std_ms is None:
        mean = np.atleast_1d(np.asarray(mean_ms, np.float64))
        raise_unless_positive({"mean_ms": mean}, place)
        return weibull_given(np.full(len(mean), 2.0), 2.0 * mean / np.sqrt(np.pi), place=place)
    mean, std, calm, wrong = checked_moments(mean_ms, std_ms, place)
    shape = np.full(len(mean), 2.0)
    for t in np.flatnonzero(~calm & (mean > 0) & (std > 0)):
        target = 2.0 * np.log(std[t] / mean[t])
        if not log_variation(SHAPES[1]) < target < log_variation(SHAPES[0]):
            problem = f"no Weibull shape in {SHAPES[0]:g}..{SHAPES[1]:g} has std/mean = {std[t] / mean[t]:.4g}"
            wrong.append(place.mistake(f"step {t}", problem, "check the unit of mean and deviation"))
            continue
        shape[t] = optimize.brentq(lambda k, goal=target: log_variation(k) - goal, *SHAPES, xtol=1e-13, rtol=1e-14)
    if wrong:
        raise InputError(wrong)
    scale = np.where(calm, 1.0, mean / special.gamma(1.0 + 1.0 / shape))
    return Marginals(stats.weibull_min(shape, scale=scale), np.where(calm, 0.0, np.nan))


def log_variation(k: float) -> float:
    """log of (std/mean)^2 of a Weibull distribution of shape k; falls with k."""
    return float(np.log(np.expm1(special.gammaln(1.0 + 2.0 / k) - 2.0 * special.gammaln(1.0 + 1.0 / k))))


def weibull_given(shape_k: ArrayLike, scale_c_ms: ArrayLike, *, place: Place = HERE) -> Marginals:
    """f(v) = (k/c) (v/c)^(k-1) exp(-(v/c)^k), k and c (T,) > 0. Paper 2, eq. (23)."""
    k, c = (np.atleast_1d(np.asarray(p, np.float64)) for p in (shape_k, scale_c_ms))
    raise_unless_positive({"k": k, "c": c}, place)
    return Marginals(stats.weibull_min(k, scale=c), np.full(len(c), np.nan))


def normal(mean: ArrayLike, std: ArrayLike, *, place: Place = HERE) -> Marginals:
    """Normal distribution, for what may be negative (energy prices); fixed where the deviation is 0."""
    m, s, _, wrong = checked_moments(mean, std, place, signed=True, may_be_certain=True)
    if wrong:
        raise InputError(wrong)
    return Marginals(stats.norm(m, np.where(s > 0, s, 1.0)), np.where(s > 0, np.nan, m))


def lognormal(mean: ArrayLike, std: ArrayLike, *, place: Place = HERE) -> Marginals:
    """Log-normal distribution with this mean and deviation of the quantity itself, for what is positive (load).

    s^2 = log(1 + (std/mean)^2), scale = mean exp(-s^2/2); fixed where the deviation is 0.
    """
    m, s, _, wrong = checked_moments(mean, std, place, may_be_certain=True)
    if wrong:
        raise InputError(wrong)
    log_std = np.sqrt(np.log1p(np.divide(s, m, out=np.ones_like(m), where=s > 0) ** 2))
    positive = np.where(s > 0, m, 1.0)
    return Marginals(stats.lognorm(log_std, scale=positive * np.exp(-(log_std**2) / 2)), np.where(s > 0, np.nan, m))


def checked_moments(
    mean: ArrayLike, std: ArrayLike, place: Place, *, signed: bool = False, may_be_certain: bool = False
) -> tuple[FloatArray, FloatArray, BoolArray, list[Mistake]]:
    """(T,) mean, (T,) std, where both are 0, and what no distribution can have."""
    m, s = (np.atleast_1d(np.asarray(p, np.float64)) for p in (mean, std))
    if m.ndim != 1 or m.shape != s.shape:
        shapes = f"mean has the shape {m.shape}, standard deviation {s.shape}"
        raise InputError([place.mistake("mean, std", shapes, "give one of each for every step")])
    wrong = []
    for t, (mt, st) in enumerate(zip(m, s, strict=True)):
        what = f"mean {mt:g}, standard deviation {st:g}"
        if not (np.isfinite(mt) and np.isfinite(st)):
            wrong.append(place.mistake(f"step {t}", f"{what}: not finite numbers", "fill them in"))
        elif st < 0:
            wrong.append(place.mistake(f"step {t}", f"{what}: no deviation is negative", "give 0 or more"))
        elif not signed and mt < 0:
            wrong.append(place.mistake(f"step {t}", f"{what}: this quantity is never negative", "give a mean above 0"))
        elif not signed and mt == 0 < st:
            wrong.append(place.mistake(f"step {t}", f"{what}: what is never negative and 0 on average is 0"))
        elif not may_be_certain and st == 0 < mt:
            remedy = "give a deviation above 0, or mean 0 and deviation 0 for a step that is certainly 0"
            wrong.append(place.mistake(f"step {t}", f"{what}: nothing would be uncertain", remedy))
    return m, s, (m == 0) & (s == 0), wrong


def raise_unless_positive(parameters: dict[str, FloatArray], place: Place) -> None:
    """Raises InputError with every step at which a parameter is not finite and above 0."""
    wrong = [
        place.mistake(name, f"is {values[t]:g} at step {t}", "give a finite number above 0")
        for name, values in parameters.items()
        for t in np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    ]
    if wrong:
        raise InputError(wrong)
