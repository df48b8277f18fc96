"""From weather to power: PV by irradiance, wind turbine by wind speed."""

from __future__ import annotations

import numpy as np

from decomp.messages import FloatArray


def pv_power_kw(irradiance_wm2: FloatArray, rated_kw: float, r_std_wm2: float) -> FloatArray:
    """E_pv = E_pvr r / r_std, linear also above r_std. Shapes are kept. Paper 2, eq. (22)."""
    return np.asarray(rated_kw * np.asarray(irradiance_wm2, np.float64) / r_std_wm2)


def wind_power_kw(
    speed_ms: FloatArray, rated_kw: float, *, cut_in_ms: float, rated_ms: float, cut_out_ms: float
) -> FloatArray:
    """p = 0 for v <= v_in or v >= v_out, p_r (v - v_in)/(v_r - v_in) up to v_r, p_r up to v_out.

    Shapes are kept. Raises ValueError unless 0 <= v_in < v_r < v_out. Paper 2, eq. (24).
    """
    if not 0.0 <= cut_in_ms < rated_ms < cut_out_ms:
        raise ValueError(
            f"the wind speeds must rise: cut-in {cut_in_ms:g}, rated {rated_ms:g}, cut-out {cut_out_ms:g} m/s"
        )
    speed = np.asarray(speed_ms, np.float64)
    rising = np.clip((speed - cut_in_ms) / (rated_ms - cut_in_ms), 0.0, 1.0)
    return np.asarray(np.where(speed < cut_out_ms, rated_kw * rising, 0.0))
