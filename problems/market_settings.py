"""The tables of a case file that describe the reactive-power market."""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from problems.dso import DsoSettings
from problems.lec.settings import LecSettings
from problems.network.feeder import NetworkSettings
from problems.time_series import SeriesColumn, TimeSettings


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesSettings(_Table):
    """Table [series]: where each series is.

    spot  spot price in SEK/kWh, may be negative; pv: AC output in kW per kWp; load, heat: in per unit of the peaks
    """

    spot: SeriesColumn
    pv: SeriesColumn
    load: SeriesColumn
    heat: SeriesColumn


class TariffSettings(_Table):
    """Table [tariffs].

    transfer_sek_per_kwh       c^e, on imported energy
    reactive_sek_per_kvarh     c^Q, outside the reactive-power market
    heat_sek_per_kwh           lambda^h
    heat_peak_sek_per_kw_day   c^{H,var}, per kW of the day's peak of imported heat
    heat_fixed_sek_per_day     c^{H,fix}
    shedding_sek_per_kwh       C^LS, involuntary shedding of a community's load
    """

    transfer_sek_per_kwh: float = Field(ge=0, allow_inf_nan=False)
    reactive_sek_per_kvarh: float = Field(ge=0, allow_inf_nan=False)
    heat_sek_per_kwh: float = Field(ge=0, allow_inf_nan=False)
    heat_peak_sek_per_kw_day: float = Field(ge=0, allow_inf_nan=False)
    heat_fixed_sek_per_day: float = Field(ge=0, allow_inf_nan=False)
    shedding_sek_per_kwh: float = Field(gt=0, allow_inf_nan=False)


class NetworkLoadSettings(_Table):
    """Table [network_load]: peaks and power factors (lagging) of the loads at buses without a community.

    file  CSV with the columns bus, Ppeak_kW, pf; the series `load` gives the shape
    """

    file: str = Field(min_length=1)


class FittedTo(_Table):
    """The voltage at a bus that an added load is fitted to, with the initial schedules of the communities."""

    bus: str
    v_pu: float = Field(gt=0, allow_inf_nan=False)


class AddedLoad(_Table):
    """One table of [[added_load]]: a load at one bus in one step that emulates a disturbance; q_kvar < 0 is capacitive.

    time       the beginning of the step
    fitted_to  what q_kvar has been fitted to; says where the figure comes from, `problems.cases.fit_chalmers` uses it
    """

    bus: str
    time: AwareDatetime
    p_kw: float = Field(default=0.0, allow_inf_nan=False)
    q_kvar: float = Field(default=0.0, allow_inf_nan=False)
    fitted_to: FittedTo | None = None


class MarketSettings(_Table):
    """All tables of the case file that describe the market."""

    time: TimeSettings
    series: SeriesSettings
    tariffs: TariffSettings
    network: NetworkSettings
    network_load: NetworkLoadSettings
    added_load: tuple[AddedLoad, ...] = ()
    dso: DsoSettings
    lec: dict[str, LecSettings] = Field(min_length=1)
