"""The table [fleet] of a case file: how many communities, where, and from which ranges their devices are drawn."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = tuple[NonNegative, NonNegative]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StressSettings(_Table):
    """Table [fleet.stress]: in which share of the steps a voltage is to be outside its limits, with rated schedules.

    side   "low": all other loads of the network are multiplied by what it takes; "high": the fleet's photovoltaics are
    share  of the steps; the factor is the least with which at least this share violates
    limit  greatest factor that is tried
    """

    side: Literal["low", "high"] = "low"
    share: Share
    limit: float = Field(default=100.0, gt=0, allow_inf_nan=False)


class FleetSettings(_Table):
    """Table [fleet]: communities LEC0001, LEC0002, ..., each drawn from its own stream of random numbers.

    A pair is a range of a uniform draw, a share the probability with which a community has the device.

    units            how many
    seed             the same seed draws the same communities; more units leave the first ones as they are
    buses            where their PCCs may be, several at one bus; none = every bus with a load
    load_kw          peak load; what they draw comes on top of the network's own loads
    power_factor     of the load, lagging
    load_shift_h     the load's shape is moved by up to so many hours, either way
    profiles         CSV with time and the columns NAME_p, NAME_q of loads and PV..._p of photovoltaics, from which
                     every community draws one; none = the case's series `load` and `pv`
    pv_share, pv_kwp_per_kw      photovoltaics, per kW of peak load
    pv_q_share                   part of the inverter that reactive power may use
    battery_share, battery_kw_per_kw, battery_h   power per kW of peak load, capacity in hours of that power
    heat_kw_per_kw               peak heat load of communities with a heat pump or a CHP, per kW of peak load
    heat_pump_share, heat_pump_cop   a heat pump for the whole heat load
    chp_share                    boiler with turbine for the whole heat load
    demand_response_share, demand_response_kwh_per_kw
    smart_boiler_share           one household-sized boiler for each 20 kW of peak load
    """

    units: int = Field(ge=1)
    seed: int = Field(ge=0)
    buses: tuple[str, ...] | None = Field(default=None, min_length=1)
    load_kw: Range = (20.0, 100.0)
    power_factor: tuple[float, float] = (0.9, 0.98)
    load_shift_h: NonNegative = 2.0
    profiles: str | None = Field(default=None, min_length=1)
    pv_share: Share = 0.8
    pv_kwp_per_kw: Range = (0.3, 1.2)
    pv_q_share: tuple[Share, Share] = (0.5, 1.0)
    battery_share: Share = 0.5
    battery_kw_per_kw: Range = (0.1, 0.4)
    battery_h: Range = (1.0, 3.0)
    heat_kw_per_kw: Range = (0.3, 0.8)
    heat_pump_share: Share = 0.3
    heat_pump_cop: tuple[float, float] = (2.5, 4.0)
    chp_share: Share = 0.15
    demand_response_share: Share = 0.4
    demand_response_kwh_per_kw: Range = (0.05, 0.2)
    smart_boiler_share: Share = 0.2
    stress: StressSettings | None = None

    @model_validator(mode="after")
    def _ranges_in_order(self) -> Self:
        wrong = []
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) == 2 and all(isinstance(x, float) for x in value):
                if value[0] > value[1]:
                    wrong.append(f"{name} = [{value[0]:g}, {value[1]:g}]: the first is above the second")
                if info.annotation == tuple[float, float] and not value[0] > 0:
                    wrong.append(f"{name} = [{value[0]:g}, {value[1]:g}] must be above 0")
        if self.power_factor[1] > 1:
            wrong.append(f"power_factor = {self.power_factor[1]:g} is above 1")
        if self.heat_pump_share + self.chp_share > 1:
            wrong.append("heat_pump_share + chp_share is above 1: a community has one of the two")
        if self.load_kw[0] <= 0:
            wrong.append("load_kw must begin above 0")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self
