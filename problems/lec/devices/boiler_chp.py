"""Biomass boiler that feeds the heating network and the turbine of a CHP. Paper 1, eqs. (14)-(20)."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
import pyomo.environ as pyo
from pydantic import Field, model_validator

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Efficiency, Size, before
from problems.lec.opportunity import opportunity


class BoilerChp(Device):
    """Settings of boiler and turbine.

    boiler_start_kw          heat in the step before the first, for its ramp; None = the first step is free
    ramp_kw_per_h            RR^B
    fuel_sek_per_kwh         c^CHP, per kWh of heat from the boiler
    eta_turbine              eta^T, electricity per heat
    q_per_p_min, q_per_p_max xi of (20), kvar per kW; the lower one is negative
    dump_max_kw              heat that can be thrown away, at dump_sek_per_kwh; 0 = none
    """

    boiler_min_kw: Size
    boiler_max_kw: Size
    boiler_start_kw: Size | None = None
    ramp_kw_per_h: Size
    fuel_sek_per_kwh: Size
    turbine_min_kw: Size = 0.0
    turbine_max_kw: Size
    eta_turbine: Efficiency
    q_per_p_min: Annotated[float, Field(le=0, allow_inf_nan=False)] = -0.4843
    q_per_p_max: Size = 0.4843
    dump_max_kw: Size = 0.0
    dump_sek_per_kwh: Size = 0.01

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> Self:
        if self.boiler_min_kw > self.boiler_max_kw:
            raise ValueError(f"boiler_min_kw = {self.boiler_min_kw:g} is above boiler_max_kw = {self.boiler_max_kw:g}")
        if self.turbine_min_kw > self.turbine_max_kw:
            raise ValueError(
                f"turbine_min_kw = {self.turbine_min_kw:g} is above turbine_max_kw = {self.turbine_max_kw:g}"
            )
        if self.turbine_min_kw > self.eta_turbine * self.boiler_max_kw:
            raise ValueError(
                f"turbine_min_kw = {self.turbine_min_kw:g} is more than all heat of the boiler can drive, "
                f"eta_turbine boiler_max_kw = {self.eta_turbine * self.boiler_max_kw:g}"
            )
        return self

    def advice(self) -> str:
        return (
            f"the boiler gives at least boiler_min_kw = {self.boiler_min_kw:g} and changes by no more than "
            f"ramp_kw_per_h = {self.ramp_kw_per_h:g}: where less heat is wanted, lower "
            "the minimum or allow dump_max_kw or heat_export_max_kw"
        )

    def q_capability_kvar(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        p = min(self.turbine_max_kw, self.eta_turbine * self.boiler_max_kw)
        return np.full(data.n, self.q_per_p_min * p), np.full(data.n, self.q_per_p_max * p)

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        return np.full(data.n, self.turbine_min_kw), np.full(data.n, self.turbine_max_kw)

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        """H^B = H^B2DH + H^T, P = eta^T H^T, H^CHP = (1 - eta^T) H^T, heat given = H^B2DH + H^CHP - dump."""
        steps, dt = data.steps, data.dt_h
        b.boiler_kw = pyo.Var(steps, bounds=(self.boiler_min_kw, self.boiler_max_kw))  # (16)
        b.to_network_kw = pyo.Var(steps, bounds=(0, None))
        b.to_turbine_kw = pyo.Var(steps, bounds=(0, None))
        b.p_kw = pyo.Var(steps, bounds=(self.turbine_min_kw, self.turbine_max_kw))  # (19)
        least, greatest = self.q_capability_kvar(data)
        b.q_kvar = pyo.Var(steps, bounds=lambda _, k: (least[k], greatest[k]))
        b.dump_kw = pyo.Var(steps, bounds=(0, self.dump_max_kw))

        @b.Constraint(steps)
        def boiler_heat_split(b: pyo.Block, k: int) -> object:  # (14)
            return b.boiler_kw[k] == b.to_network_kw[k] + b.to_turbine_kw[k]

        @b.Constraint(steps)
        def boiler_ramp(b: pyo.Block, k: int) -> object:  # (15), per hour
            if k == 0 and self.boiler_start_kw is None:
                return pyo.Constraint.Skip
            limit = self.ramp_kw_per_h * dt
            return (-limit, b.boiler_kw[k] - before(b.boiler_kw, k, self.boiler_start_kw), limit)

        @b.Constraint(steps)
        def turbine_power(b: pyo.Block, k: int) -> object:  # (17)
            return b.p_kw[k] == self.eta_turbine * b.to_turbine_kw[k]

        @b.Constraint(steps)
        def reactive_power_lower(b: pyo.Block, k: int) -> object:  # (20)
            return b.q_kvar[k] >= self.q_per_p_min * b.p_kw[k]

        @b.Constraint(steps)
        def reactive_power_upper(b: pyo.Block, k: int) -> object:  # (20)
            return b.q_kvar[k] <= self.q_per_p_max * b.p_kw[k]

        p, q = [b.p_kw[k] for k in steps], [b.q_kvar[k] for k in steps]
        cost, terms = opportunity(
            b,
            data,
            p,
            q,
            np.maximum(*np.abs(self.q_capability_kvar(data))),
            q_per_p=max(-self.q_per_p_min, self.q_per_p_max),
        )
        fuel = self.fuel_sek_per_kwh * dt * sum(b.boiler_kw[k] for k in steps)
        dumped = self.dump_sek_per_kwh * dt * sum(b.dump_kw[k] for k in steps)
        return Contribution(
            p_kw=p,
            q_kvar=q,
            heat_kw=[
                b.to_network_kw[k] + (1 - self.eta_turbine) * b.to_turbine_kw[k] - b.dump_kw[k] for k in steps
            ],  # (18)
            cost_sek=cost + fuel + dumped,
            convex=terms,
            states={
                ("boiler", "kw"): [b.boiler_kw[k] for k in steps],
                ("turbine_heat", "kw"): [b.to_turbine_kw[k] for k in steps],
                ("dump", "kw"): [b.dump_kw[k] for k in steps],
            },
        )
