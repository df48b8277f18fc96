"""Battery storage with wear. Paper 1, eqs. (24)-(28)."""

from __future__ import annotations

from typing import Self

import numpy as np
import pyomo.environ as pyo
from pydantic import model_validator

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Efficiency, Share, Size, before


class Battery(Device):
    """Settings of one battery; shares are parts of its capacity.

    wear_sek_per_kwh  c^deg, on what is charged and on what is discharged
    """

    capacity_kwh: Size
    power_kw: Size
    eta_charge: Efficiency = 0.95
    eta_discharge: Efficiency = 0.95
    min_share: Share = 0.2
    max_share: Share = 1.0
    start_share: Share = 0.5
    wear_sek_per_kwh: Size = 0.0496

    @model_validator(mode="after")
    def _start_lies_between_the_limits(self) -> Self:
        if not self.min_share <= self.start_share <= self.max_share:
            raise ValueError(
                f"start_share = {self.start_share:g} must lie between min_share = {self.min_share:g} "
                f"and max_share = {self.max_share:g}"
            )
        return self

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        return np.full(data.n, -self.power_kw), np.full(data.n, self.power_kw)

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        """Energy at the end of step k: e[k] = e[k-1] + (eta_c P_ch - P_dis / eta_d) dt, e[T-1] >= e_start."""
        start, dt = self.start_share * self.capacity_kwh, data.dt_h
        limits = (self.min_share * self.capacity_kwh, self.max_share * self.capacity_kwh)
        b.charge_kw = pyo.Var(data.steps, bounds=(0, self.power_kw))
        b.discharge_kw = pyo.Var(data.steps, bounds=(0, self.power_kw))
        b.energy_kwh = pyo.Var(data.steps, bounds=limits)  # (28)
        b.is_charging = pyo.Var(data.steps, domain=pyo.Binary)

        @b.Constraint(data.steps)
        def energy_balance(b: pyo.Block, k: int) -> object:  # (24), with dt
            gain = self.eta_charge * b.charge_kw[k] - b.discharge_kw[k] / self.eta_discharge
            return b.energy_kwh[k] == before(b.energy_kwh, k, start) + gain * dt

        @b.Constraint(data.steps)
        def charge_only_when_charging(b: pyo.Block, k: int) -> object:  # (25)
            return b.charge_kw[k] <= self.power_kw * b.is_charging[k]

        @b.Constraint(data.steps)
        def discharge_only_when_not_charging(b: pyo.Block, k: int) -> object:  # (26)-(27), u_dis = 1 - u_ch
            return b.discharge_kw[k] <= self.power_kw * (1 - b.is_charging[k])

        @b.Constraint()
        def energy_at_the_end(b: pyo.Block) -> object:
            return b.energy_kwh[data.n - 1] >= start

        return Contribution(
            p_kw=[b.discharge_kw[k] - b.charge_kw[k] for k in data.steps],
            cost_sek=self.wear_sek_per_kwh * dt * sum(b.charge_kw[k] + b.discharge_kw[k] for k in data.steps),
            states={
                ("soc", "kwh"): [b.energy_kwh[k] for k in data.steps],
                ("charge", "kw"): [b.charge_kw[k] for k in data.steps],
                ("discharge", "kw"): [b.discharge_kw[k] for k in data.steps],
            },
        )
