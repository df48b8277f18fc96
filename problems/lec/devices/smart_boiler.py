"""Electric hot-water tank behind a converter that can give reactive power. Paper 1, eqs. (41)-(44)."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, Self

import numpy as np
import pyomo.environ as pyo
from pydantic import Field, model_validator

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Efficiency, Positive, Share, Size, before
from problems.lec.opportunity import opportunity

Hour = Annotated[float, Field(ge=0, le=24)]
Celsius = Annotated[float, Field(ge=-50, le=200)]


class SmartBoiler(Device):
    """Settings of heater, converter and tank.

    converter_kva             S of (43)
    q_share                   0.1 of (42): |Q| <= q_share P
    volume_m3                 V; the tank is always full: what is drawn is replaced by cold water
    heat_capacity_kwh_per_m3k C^W of water
    loss_kw_per_k             kA
    draw_day_m3_per_h         V^HW between day_from_h and day_to_h (clock time), else draw_night_m3_per_h
    """

    power_kw: Size
    converter_kva: Positive
    eta_heater: Efficiency = 1.0
    q_share: Share = 0.1
    volume_m3: Positive
    heat_capacity_kwh_per_m3k: Positive = 1.163
    loss_kw_per_k: Size = 0.0
    min_c: Celsius = 60.0
    max_c: Celsius = 88.0
    start_c: Celsius = 70.0
    cold_water_c: Celsius = 8.0
    ambient_c: Celsius = 20.0
    draw_day_m3_per_h: Size
    draw_night_m3_per_h: Size = 0.0
    day_from_h: Hour = 7.0
    day_to_h: Hour = 22.0

    @model_validator(mode="after")
    def _temperatures_are_in_order(self) -> Self:
        if not self.min_c <= self.start_c <= self.max_c:
            raise ValueError(
                f"start_c = {self.start_c:g} must lie between min_c = {self.min_c:g} and max_c = {self.max_c:g}"
            )
        if self.day_from_h > self.day_to_h:
            raise ValueError(f"day_from_h = {self.day_from_h:g} is after day_to_h = {self.day_to_h:g}")
        return self

    def advice(self) -> str:
        return (
            f"power_kw = {self.power_kw:g} must keep the tank at min_c = {self.min_c:g} to max_c = {self.max_c:g} "
            f"and at start_c = {self.start_c:g} in the end: raise it, or let less be drawn"
        )

    def q_limit_kvar(self) -> float:
        """Largest q with q <= xi p, p <= power_kw and p^2 + q^2 <= S^2: min(xi P_max, S xi / sqrt(1 + xi^2))."""
        return self.q_share * min(self.power_kw, self.converter_kva / sqrt(1.0 + self.q_share**2))

    def q_capability_kvar(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        return np.full(data.n, -self.q_limit_kvar()), np.full(data.n, self.q_limit_kvar())

    def draw_m3_per_h(self, data: LecData) -> FloatArray:
        """(T,) hot water drawn, by the clock time at which a step begins."""
        clock = np.array([t.hour + t.minute / 60.0 for t in data.times])
        day = (clock >= self.day_from_h) & (clock < self.day_to_h)
        return np.where(day, self.draw_day_m3_per_h, self.draw_night_m3_per_h)

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        return np.full(data.n, -min(self.power_kw, self.converter_kva)), np.zeros(data.n)

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        """Tank temperature at the end of step k, with v the volume drawn in the step and C = V C^W:

        T[k] = (v T_cold + (V - v) T[k-1]) / V + eta P dt / C - kA (T[k-1] - T_ambient) dt / C,  T[T-1] >= T_start.
        The heat stays in the tank; it is no part of the heat balance of the community.
        """
        steps, dt = data.steps, data.dt_h
        tank_kwh_per_k = self.volume_m3 * self.heat_capacity_kwh_per_m3k
        drawn = self.draw_m3_per_h(data) * dt / self.volume_m3
        lost = self.loss_kw_per_k * dt / tank_kwh_per_k
        if drawn.max() + lost >= 1.0:
            problem = f"a step of {dt:g} h draws or cools more than the whole tank"
            raise InputError([Mistake("", b.name, "volume_m3", problem, "take shorter steps or a larger tank")])
        b.power_kw = pyo.Var(steps, bounds=(0, min(self.power_kw, self.converter_kva)))
        b.q_kvar = pyo.Var(steps, bounds=(-self.q_limit_kvar(), self.q_limit_kvar()))
        b.temperature_c = pyo.Var(steps, bounds=(self.min_c, self.max_c))

        @b.Constraint(steps)
        def tank_temperature(b: pyo.Block, k: int) -> object:  # (41), (44)
            last = before(b.temperature_c, k, self.start_c)
            mixed = drawn[k] * self.cold_water_c + (1.0 - drawn[k]) * last
            heated = self.eta_heater * b.power_kw[k] * dt / tank_kwh_per_k
            return b.temperature_c[k] == mixed + heated - lost * (last - self.ambient_c)

        @b.Constraint(steps)
        def reactive_power_lower(b: pyo.Block, k: int) -> object:  # (42), two-sided
            return b.q_kvar[k] >= -self.q_share * b.power_kw[k]

        @b.Constraint(steps)
        def reactive_power_upper(b: pyo.Block, k: int) -> object:  # (42)
            return b.q_kvar[k] <= self.q_share * b.power_kw[k]

        @b.Constraint()
        def temperature_at_the_end(b: pyo.Block) -> object:
            return b.temperature_c[data.n - 1] >= self.start_c

        p, q = [b.power_kw[k] for k in steps], [b.q_kvar[k] for k in steps]
        cost, terms = opportunity(b, data, p, q, self.q_capability_kvar(data)[1], q_per_p=self.q_share)

        if self.power_kw * sqrt(1.0 + self.q_share**2) > self.converter_kva:  # else (42) keeps it inside

            @b.Constraint(steps)
            def converter_capability(b: pyo.Block, k: int) -> object:  # (43), S = P + (S - P)
                return b.power_kw[k] + b.excess_kva[k] <= self.converter_kva

        return Contribution(
            p_kw=[-x for x in p],
            q_kvar=q,
            cost_sek=cost,
            convex=terms,
            states={("temperature", "c"): [b.temperature_c[k] for k in steps]},
        )
