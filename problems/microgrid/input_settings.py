"""The tables of a case file that say where a microgrid's prices and weather come from."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from problems.scenarios.sampling import Method
from problems.time_series import SeriesColumn

MARKETS = ("regulation_up", "regulation_down", "spinning", "nonspinning")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesSettings(_Table):
    """Table [series]: the forecast of the weather.

    wind_speed  m/s at hub height; irradiance: W/m2 on the panels; both may be of another day than [time], which then
    begins at `start`
    """

    wind_speed: SeriesColumn
    irradiance: SeriesColumn
    start: AwareDatetime | None = None


class PriceSettings(_Table):
    """Table [prices]: a CSV file, whose columns `problems.microgrid.price_file` lists.

    series  which of the file's series: A, B or C in the shipped one
    called  what a called MW is paid besides its contract: the energy price ("energy"), its contract price
            ("contract"), or prices of its own, columns <market>_called_<series>_usd_per_mwh ("own"). Paper 2, eq. (29),
            Figs. 11 and 12
    """

    file: str = Field(min_length=1)
    series: str = Field(min_length=1, pattern=r"^\w+$")
    called: Literal["energy", "contract", "own"]


class PriceUncertainty(_Table):
    """Table [scenarios.prices]: prices are drawn with the weather. Paper 2, section 2.7: gamma_s, o-gamma_s.

    energy_std_share    deviation of the energy price over its size in the file; normal, so that it may be negative
    services_std_share  deviation of one factor of mean 1 on all contract prices of a step; log-normal
    autocorrelation     of the normal scores of both over one hour, 0 <= a < 1
    services_correlation, wind_correlation, irradiance_correlation   of the energy price's normal scores with those of
                        the services' factor, of the wind and of the irradiance at the same step

    What is called is paid the scenario's price where [prices] called = "energy" or "contract", else the file's.
    """

    energy_std_share: float = Field(ge=0, allow_inf_nan=False)
    services_std_share: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    autocorrelation: float = Field(ge=0, lt=1)
    services_correlation: float = Field(default=0.0, ge=-1, le=1)
    wind_correlation: float = Field(default=0.0, ge=-1, le=1)
    irradiance_correlation: float = Field(default=0.0, ge=-1, le=1)


class ScenarioSettings(_Table):
    """Table [scenarios]: a large sample of the weather, and the few scenarios that stand for it; or a CSV file.

    bundle                      so many scenarios in one block, which need fewer rounds and have tighter bounds
    file                        CSV with scenario, probability, time, wind_speed_ms, irradiance_wm2: used as it is,
                                instead of everything below. It may have energy_usd_per_mwh and, by service,
                                <service>_usd_per_mw and <service>_called_usd_per_mwh: prices by scenario
    count, sample, seed, method, reduction   `count` of `sample` draws are kept, see problems/scenarios
    distance                    between two draws, for the reduction: "weather" in deviations of wind speed and
                                irradiance, "power" in MW that the units could generate, "value" in $ of that power
    moments                     "as_reduced": the kept draws are taken as they are; "kept": the power of each unit and,
                                where they are drawn, the prices get the mean and the deviation of the large sample in
                                every step. The wind speed and the irradiance shown stay those of the kept draws
    energy_error_share          a warning says where the scenarios' energy of a unit differs by more from the sample's
    wind_std_share              standard deviation over the forecast; without it the Weibull shape is 2, as paper 2's
                                scale under eq. (23) has it (share .523)
    irradiance_std_share        standard deviation over the forecast
    irradiance_max_wm2          where the Beta distribution ends
    wind_autocorrelation, irradiance_autocorrelation   of the normal scores over one hour, 0 <= a < 1
    wind_irradiance_correlation of the normal scores at the same step
    """

    bundle: int = Field(default=1, ge=1)
    file: str | None = None
    count: int = Field(default=3, ge=1)
    sample: int = Field(default=1000, ge=1)
    seed: int | None = Field(default=None, ge=0)
    method: Method = "latin_hypercube"
    reduction: Literal["fast_forward", "k_medoids"] = "k_medoids"
    distance: Literal["weather", "power", "value"] = "weather"
    moments: Literal["as_reduced", "kept"] = "as_reduced"
    energy_error_share: float = Field(default=0.05, ge=0, allow_inf_nan=False)
    prices: PriceUncertainty | None = None
    wind_std_share: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    irradiance_std_share: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    irradiance_max_wm2: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    wind_autocorrelation: float | None = Field(default=None, ge=0, lt=1)
    irradiance_autocorrelation: float | None = Field(default=None, ge=0, lt=1)
    wind_irradiance_correlation: float | None = Field(default=None, ge=-1, le=1)

    @model_validator(mode="after")
    def _all_that_a_sample_needs(self) -> ScenarioSettings:
        needed = (
            "seed",
            "irradiance_std_share",
            "irradiance_max_wm2",
            "wind_autocorrelation",
            "irradiance_autocorrelation",
            "wind_irradiance_correlation",
        )
        absent = [name for name in needed if getattr(self, name) is None]
        if self.file is None and absent:
            raise ValueError(f"without `file` scenarios are drawn, which needs {', '.join(absent)}")
        if self.file is None and self.count > self.sample:
            raise ValueError(f"count = {self.count} cannot be kept of sample = {self.sample}; raise sample")
        return self
