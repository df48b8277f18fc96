"""What a microgrid's inputs were, as written to its result folder: market.csv, inputs.csv, scenario_moments.csv."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from problems.microgrid.data import SERVICES, MicrogridData
from problems.scenarios.scenario_set import ScenarioSet

if TYPE_CHECKING:
    from problems.microgrid.settings import MicrogridSettings


def write(settings: MicrogridSettings, data: MicrogridData, folder: Path) -> list[Path]:
    """Write the three files."""
    files = {
        "market.csv": market_table(settings, data),
        "inputs.csv": weather_table(data),
        "scenario_moments.csv": moments_table(data),
    }
    for name, table in files.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    return [folder / name for name in files]


def market_table(settings: MicrogridSettings, data: MicrogridData) -> pd.DataFrame:
    """One row a step: prices (expected where they differ by scenario) and probabilities of being called."""
    called = {name: data.prob @ price for name, price in data.called_usd_per_mwh.items()}
    call = settings.market.call
    return pd.DataFrame(
        {
            "time": data.axis.stamps,
            "hour": data.axis.hours,
            "energy_usd_per_mwh": data.prob @ data.energy_usd_per_mwh,
            **{f"{name}_contract_usd_per_mw": data.contract_usd_per_mwh[name] for name in SERVICES},
            **{f"{name}_called_usd_per_mwh": called[name] for name in SERVICES},
            **{f"{name}_call_probability": np.full(len(data.axis.stamps), getattr(call, name)) for name in SERVICES},
            "reactive_usd_per_mvarh": data.reactive_usd_per_mvarh,
            "reactive_required_mvar": data.reactive_required_mvar,
        }
    )


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
        }
    )


def moments_table(data: MicrogridData) -> pd.DataFrame:
    """Forecast, mean and deviation of the large sample (of the scenarios, if none was drawn) and of the scenarios."""
    forecasts = {"wind_speed_ms": data.wind_forecast_ms, "irradiance_wm2": data.irradiance_forecast_wm2}
    kept = {"wind_speed_ms": data.wind_speed_ms, "irradiance_wm2": data.irradiance_wm2}
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
