"""What a microgrid's inputs were, as written to its result folder: market.csv, units.csv, inputs.csv,
scenario_moments.csv."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from decomp.messages import FloatArray
from problems.microgrid.calls import Calls
from problems.microgrid.data import SERVICES, MicrogridData
from problems.microgrid.inputs import available_mw
from problems.scenarios.scenario_set import ScenarioSet

if TYPE_CHECKING:
    from problems.microgrid.settings import MicrogridSettings


def write(settings: MicrogridSettings, data: MicrogridData, folder: Path) -> list[Path]:
    """Write the four files."""
    files = {
        "market.csv": market_table(settings, data),
        "units.csv": units_table(settings),
        "inputs.csv": weather_table(data),
        "scenario_moments.csv": moments_table(settings, data),
    }
    for name, table in files.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    return [folder / name for name in files]


def market_table(settings: MicrogridSettings, data: MicrogridData) -> pd.DataFrame:
    """One row a step: prices (expected where they differ by scenario) and probabilities of being called."""
    called = {name: data.prob @ price for name, price in data.called_usd_per_mwh.items()}
    calls = Calls.of(settings.market.call, len(data.axis.stamps), data.call_probability)
    limits = {name: data.scene(data.names[0]).limit_mw(settings.market, name) for name in ("energy", *SERVICES)}
    return pd.DataFrame(
        {
            "time": data.axis.stamps,
            "hour": data.axis.hours,
            "price_series": settings.prices.series,
            "energy_usd_per_mwh": data.prob @ data.energy_usd_per_mwh,
            **{f"{name}_contract_usd_per_mw": data.expected_contract(name) for name in SERVICES},
            **{f"{name}_called_usd_per_mwh": called[name] for name in SERVICES},
            **{f"{name}_call_probability": calls[name] for name in SERVICES},
            **{f"{name}_limit_mw": limit for name, limit in limits.items() if limit is not None},
            "reactive_usd_per_mvarh": data.reactive_usd_per_mvarh,
            "reactive_required_mvar": data.reactive_required_mvar,
        }
    )


def units_table(settings: MicrogridSettings) -> pd.DataFrame:
    """One row a unit: its kind, and its sizes where it has them."""
    rows = []
    for kind in ("mt", "solar", "wind", "storage", "demand_response", "load"):
        for name, unit in getattr(settings, kind).items():
            q = getattr(unit, "q_limits_mvar", (0.0, 0.0))
            row = {"unit": name, "kind": kind, "q_max_mvar": q[1]}
            row |= {size: getattr(unit, size, np.nan) for size in SIZES}
            rows.append(row)
    return pd.DataFrame(rows, columns=["unit", "kind", "q_max_mvar", *SIZES])


SIZES = ("p_min_mw", "p_max_mw", "capacity_mwh", "delivered_mw", "eta_charge", "eta_discharge")


def weather_table(data: MicrogridData) -> pd.DataFrame:
    """One row for each scenario and step: weather, and the power of each unit that it makes available."""
    count, steps = data.wind_speed_ms.shape
    return pd.DataFrame(
        {
            "scenario": np.repeat(np.array(data.names, object), steps),
            "probability": np.repeat(data.prob, steps),
            "time": np.tile(np.array(data.axis.stamps, object), count),
            "hour": np.tile(data.axis.hours, count),
            "wind_speed_ms": data.wind_speed_ms.ravel(),
            "irradiance_wm2": data.irradiance_wm2.ravel(),
            **{f"available_{unit}_mw": power.ravel() for unit, power in data.available_mw.items()},
            **(scenario_prices(data) if data.prices_differ else {}),
        }
    )


def scenario_prices(data: MicrogridData) -> dict[str, FloatArray]:
    """(S T,) prices by scenario and step, in the columns that a file of scenarios may have."""
    shape = data.wind_speed_ms.shape
    named = {
        "energy_usd_per_mwh": data.energy_usd_per_mwh,
        **{f"{name}_usd_per_mw": price for name, price in data.contract_usd_per_mwh.items()},
        **{f"{name}_called_usd_per_mwh": price for name, price in data.called_usd_per_mwh.items()},
    }
    return {name: np.broadcast_to(price, shape).ravel() for name, price in named.items()}


def moments_table(settings: MicrogridSettings, data: MicrogridData) -> pd.DataFrame:
    """Forecast, mean and deviation of the large sample (of the scenarios, if none was drawn) and of the scenarios.

    Of wind speed and irradiance, and of the power of every wind and solar unit in MW (available_<unit>_mw).
    """
    weather = {"wind_speed_ms": data.wind_forecast_ms, "irradiance_wm2": data.irradiance_forecast_wm2}
    power = available_mw(settings, data.wind_forecast_ms, data.irradiance_forecast_wm2)
    forecasts = weather | {f"available_{name}_mw": power[name] for name in data.available_mw}
    kept = {"wind_speed_ms": data.wind_speed_ms, "irradiance_wm2": data.irradiance_wm2}
    kept |= {f"available_{name}_mw": mw for name, mw in data.available_mw.items()}
    after = ScenarioSet(data.names, data.prob, kept).moments()
    before = after if data.sample is None else data.sample
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "series": name,
                    "time": data.axis.stamps,
                    "hour": data.axis.hours,
                    "forecast": forecast,
                    "sample_mean": before.mean[name],
                    "sample_std": before.std[name],
                    "kept_mean": after.mean[name],
                    "kept_std": after.std[name],
                }
            )
            for name, forecast in forecasts.items()
        ],
        ignore_index=True,
    )
