"""Few scenarios with the mean and the deviation of many: the values of each step are shifted and stretched.

Kept scenarios carry the probability of those they stand for, and so neither the mean nor the deviation of any step;
power that is a curved function of the weather is hit most. Here each step's values x_s become

    x'_s = clip(c + a (x_s - m), low, high),   sum_s pi_s x'_s = mean,   sum_s pi_s (x'_s - mean)^2 = std^2,

which keeps their order. Hoeyland and Wallace, Generating scenario trees for multistage decision problems, Management
Science 47 (2001) match moments by optimisation; two moments of one series in a step need only these two numbers.
"""

from __future__ import annotations

import numpy as np

from decomp.messages import FloatArray

HALVINGS = 60


def with_moments(
    values: FloatArray, prob: FloatArray, mean: FloatArray, std: FloatArray, low: float, high: float
) -> FloatArray:
    """(n, T) values within low..high, with these means (T,) and, as far as n values can have them, deviations (T,).

    values (n, T) and prob (n,): the scenarios; a step in which all of them are equal gets its mean alone. Raises
    ValueError where a mean is outside low..high.
    """
    if np.any(mean < low - 1e-9) or np.any(mean > high + 1e-9):
        raise ValueError(f"means from {np.min(mean):g} to {np.max(mean):g} cannot lie within {low:g}..{high:g}")
    target = np.clip(mean, low, high)
    around = values - prob @ values
    spread = np.sqrt(prob @ around**2)
    alive = (spread > 1e-12 * max(high - low, 1e-300)) & (std > 0)
    z = np.where(alive, around / np.where(alive, spread, 1.0), 0.0)  # mean 0, deviation 1

    def stretched(a: FloatArray) -> FloatArray:
        """The clipped values of stretch a (T,) at the shift that gives them their mean."""
        reach = a * np.max(np.abs(z), axis=0)
        under, over = low - reach, high + reach
        for _ in range(HALVINGS):
            c = 0.5 * (under + over)
            short = prob @ np.clip(c + a * z, low, high) < target
            under, over = np.where(short, c, under), np.where(short, over, c)
        return np.clip(0.5 * (under + over) + a * z, low, high)

    def deviation(a: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(prob @ (stretched(a) - target) ** 2))

    least, most = np.zeros(len(target)), std.copy()
    for _ in range(HALVINGS):  # clipping takes deviation away: the stretch that gives it back is greater than std
        growing = alive & (deviation(most) < std) & (most < 1e6 * np.maximum(std, 1e-300))
        if not growing.any():
            break
        most = np.where(growing, 2.0 * most, most)
    for _ in range(HALVINGS):
        a = 0.5 * (least + most)
        short = deviation(a) < std
        least, most = np.where(short, a, least), np.where(short, most, a)
    return stretched(np.where(alive, 0.5 * (least + most), 0.0))
