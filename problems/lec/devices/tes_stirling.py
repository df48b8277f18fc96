"""Latent heat store charged electrically, discharged through a Stirling engine. Paper 1, eqs. (32)-(40)."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
import pyomo.environ as pyo
from pydantic import Field, model_validator

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Efficiency, Share, Size, before


class TesStirling(Device):
    """Settings of store, engine and generator.

    heater_kw                electric power of the heater
    discharge_kw             greatest heat to the engine
    loss_per_h               part of the stored energy lost in an hour; a constant loss would empty an empty store
    eta_work, eta_generator  work per heat of the engine, electricity per work
    residual_heat            epsilon^{H,Stir}: heat to the network per heat to the engine
    """

    capacity_kwh: Size
    min_kwh: Size = 0.0
    start_kwh: Size
    heater_kw: Size
    discharge_kw: Size
    eta_heater: Efficiency
    loss_per_h: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eta_work: Share
    residual_heat: Share
    eta_generator: Efficiency = 1.0

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        if not self.min_kwh <= self.start_kwh <= self.capacity_kwh:
            raise ValueError(
                f"start_kwh = {self.start_kwh:g} must lie between min_kwh = {self.min_kwh:g} "
                f"and capacity_kwh = {self.capacity_kwh:g}"
            )
        if self.eta_work + self.residual_heat > 1:
            raise ValueError(
                f"eta_work + residual_heat = {self.eta_work + self.residual_heat:g}: more than the engine takes"
            )
        return self

    def advice(self) -> str:
        return (
            f"heater_kw = {self.heater_kw:g} must make up the losses of the store, which ends at start_kwh = "
            f"{self.start_kwh:g} or above: raise it, or lower the start"
        )

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        most = self.eta_generator * self.eta_work * self.discharge_kw
        return np.full(data.n, -self.heater_kw), np.full(data.n, most)

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        """At the end of step k: phi[k] = (1 - loss)^dt phi[k-1] + (eta_h P_in - H_dis) dt, phi[T-1] >= phi_start.

        With dt = 1 h this is (32); the power of dt makes four quarters lose what one hour loses.
        """
        steps, dt = data.steps, data.dt_h
        kept = (1.0 - self.loss_per_h) ** dt
        b.heater_kw = pyo.Var(steps, bounds=(0, self.heater_kw))
        b.discharge_kw = pyo.Var(steps, bounds=(0, self.discharge_kw))
        b.energy_kwh = pyo.Var(steps, bounds=(self.min_kwh, self.capacity_kwh))  # (33)
        b.is_charging = pyo.Var(steps, domain=pyo.Binary)

        @b.Constraint(steps)
        def energy_balance(b: pyo.Block, k: int) -> object:  # (32), (34)
            gain = self.eta_heater * b.heater_kw[k] - b.discharge_kw[k]
            return b.energy_kwh[k] == kept * before(b.energy_kwh, k, self.start_kwh) + gain * dt

        @b.Constraint(steps)
        def charge_only_when_charging(b: pyo.Block, k: int) -> object:  # (35)
            return b.heater_kw[k] <= self.heater_kw * b.is_charging[k]

        @b.Constraint(steps)
        def discharge_only_when_not_charging(b: pyo.Block, k: int) -> object:  # (36)-(37), u_dis = 1 - u_ch
            return b.discharge_kw[k] <= self.discharge_kw * (1 - b.is_charging[k])

        @b.Constraint()
        def energy_at_the_end(b: pyo.Block) -> object:
            return b.energy_kwh[data.n - 1] >= self.start_kwh

        electric = self.eta_generator * self.eta_work  # (38), (40)
        return Contribution(
            p_kw=[electric * b.discharge_kw[k] - b.heater_kw[k] for k in steps],
            heat_kw=[self.residual_heat * b.discharge_kw[k] for k in steps],  # (39)
            states={
                ("soc", "kwh"): [b.energy_kwh[k] for k in steps],
                ("heater", "kw"): [b.heater_kw[k] for k in steps],
                ("engine_heat", "kw"): [b.discharge_kw[k] for k in steps],
            },
        )
