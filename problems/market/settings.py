"""The tables of a case file that describe the reactive-power market."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.blocks.pyomo_block import BlockSettings
from problems.dso.settings import DsoSettings
from problems.lec.settings import LecSettings
from problems.market.scenarios import ScenarioSettings
from problems.network.settings import AnyNetwork
from problems.synthetic_communities.settings import FleetSettings
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
    """Table [network_load]: the loads at buses without a community of [lec].

    file      CSV with the columns bus, Ppeak_kW, pf (peaks, lagging power factors); the series `load` gives the shape.
              Without it the loads of the network's source are taken: as large as there, loads in the shape of `load`,
              photovoltaics in that of `pv`, other generation constant
    profiles  with the source's loads: CSV with the columns NAME_p and NAME_q of the profiles that they name
    scale     multiplies all of them
    """

    file: str | None = Field(default=None, min_length=1)
    profiles: str | None = Field(default=None, min_length=1)
    scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if self.file is not None and self.profiles is not None:
            raise ValueError("profiles belong to the loads of the network's source: leave out file, or profiles")
        return self


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
    time: datetime
    p_kw: float = Field(default=0.0, allow_inf_nan=False)
    q_kvar: float = Field(default=0.0, allow_inf_nan=False)
    fitted_to: FittedTo | None = None


class SolverSettings(_Table):
    """Table [solver]: how a community's problem is solved.

    tangent_sek      a convex cost may be this far below its function; the supply curve's steps shrink with it
    tangents         "adaptive": added where needed, to within tangent_sek; "fixed": 13 for each S - P, which is then
                     known to 1 - cos(3.75 deg) = 0.2 % of S: faster, and a coarser supply curve
    mip_gap_sek      absolute gap of the mixed-integer solves (a relative one of 1e-4 is a tenth of what is traded)
    integers         "fix": decided once, checked when a bound is asked; "each_round": decided in every solve;
                     "relax": none, batteries and stores may charge and discharge in one step
    mip_max_nodes    a mixed-integer solve ends after so many nodes; its bound stays valid, only weaker
    time_limit_s     of one solver call; an answer cut short by the clock is not repeatable
    fresh_every      every k-th solve on a new solver object, 0 = never; no answer depends on it
    """

    tangent_sek: float = Field(gt=0, allow_inf_nan=False)
    mip_gap_sek: float = Field(gt=0, allow_inf_nan=False)
    tangents: Literal["adaptive", "fixed"] = "adaptive"
    integers: Literal["fix", "each_round", "relax"] = "fix"
    mip_max_nodes: int = Field(default=1000, ge=1)
    time_limit_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    fresh_every: int = Field(default=0, ge=0)

    def block(self) -> BlockSettings:
        """The settings of a block."""
        return BlockSettings(
            tangents=self.tangents,
            tangent_tol=self.tangent_sek,
            mip_abs_gap=self.mip_gap_sek,
            milp=self.integers,
            mip_max_nodes=self.mip_max_nodes,
            time_limit_s=self.time_limit_s,
            fresh_every=self.fresh_every,
        )


class MarketSettings(_Table):
    """All tables of the case file that describe the market."""

    time: TimeSettings
    series: SeriesSettings
    tariffs: TariffSettings
    network: AnyNetwork
    network_load: NetworkLoadSettings
    added_load: tuple[AddedLoad, ...] = ()
    dso: DsoSettings
    scenarios: ScenarioSettings | None = None
    solver: SolverSettings
    lec: dict[str, LecSettings] = {}
    fleet: FleetSettings | None = None

    @model_validator(mode="after")
    def _somebody_takes_part(self) -> Self:
        if not self.lec and self.fleet is None:
            raise ValueError("no community takes part: add a table [lec.NAME], or [fleet]")
        return self
