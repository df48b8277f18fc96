"""Electricity storage, charged by the microgrid's own units. Paper 2, eqs. (54)-(59)."""

from __future__ import annotations

from typing import Any, Literal, Self

import pyomo.environ as pyo
from pydantic import model_validator

from decomp.messages import FloatArray
from problems.microgrid.data import Scene
from problems.microgrid.unit import (
    Contribution,
    Efficiency,
    Positive,
    Setting,
    Size,
    Unit,
    add_offers,
    full,
    service_series,
    upward,
)


class Storage(Unit):
    """Table [storage.NAME].

    capacity_mwh, start_mwh     greatest and first state; end_mwh: the last is at least this, None = no condition
    charge_mw, discharge_mw     limits in an hour (55), (56)
    eta_charge, eta_discharge   eta, zeta of (54)
    discharge_limit             "state": discharge_mw is what leaves the state, so that discharge_mw zeta is delivered;
                                "delivered": it is what is delivered, as (56) prints it. Paper 2's Table 6 falls by a
                                third of the state in an hour, which needs "state"
    reserve_energy              "full": energy held ready counts as discharged, as in paper 2's results;
                                "expected": only the share that is called on average does, and a full hour of everything
                                that is held ready must be in the store
    exclusive                   "relaxed": nothing forbids charging and discharging in the same step, or holding reserve
                                while charging: the result says where that happens; "binary": (59)
    wear_usd_per_mwh            of what is discharged; 0 in paper 2
    cycles_per_day              most full discharges of the capacity in 24 h; None = no limit, as in paper 2
    """

    capacity_mwh: Positive
    start_mwh: Size = 0.0
    end_mwh: Size | None = None
    charge_mw: Size
    discharge_mw: Size
    eta_charge: Efficiency
    eta_discharge: Efficiency
    discharge_limit: Literal["state", "delivered"] = "state"
    reserve_energy: Literal["full", "expected"] = "full"
    exclusive: Literal["relaxed", "binary"] = "relaxed"
    wear_usd_per_mwh: Size = 0.0
    cycles_per_day: Size | None = None

    @model_validator(mode="after")
    def _states_are_in_order(self) -> Self:
        for name, value in (("start_mwh", self.start_mwh), ("end_mwh", self.end_mwh or 0.0)):
            if value > self.capacity_mwh:
                raise ValueError(f"{name} = {value:g} is above capacity_mwh = {self.capacity_mwh:g}")
        return self

    @property
    def delivered_mw(self) -> float:
        """The most that reaches the grid."""
        return self.discharge_mw * (self.eta_discharge if self.discharge_limit == "state" else 1.0)

    def next_state_mwh(self, state_mwh: Any, charge_mw: Any, discharge_mw: Any, dt_h: float) -> Any:
        """E(t) = E(t-1) + (eta P_sh - P_dsh / zeta) dt. Paper 2, eq. (54)."""
        return state_mwh + (self.eta_charge * charge_mw - discharge_mw / self.eta_discharge) * dt_h

    def most_mw(self, scene: Scene, name: str) -> FloatArray:
        return full(self.delivered_mw, scene)

    def cost_range_usd(self, scene: Scene, name: str) -> tuple[float, float]:
        return 0.0, self.wear_usd_per_mwh * self.delivered_mw * scene.n * scene.dt_h

    def add(self, b: pyo.Block, scene: Scene, setting: Setting, name: str) -> Contribution:
        steps, dt = scene.steps, scene.dt_h
        offers = add_offers(b, steps, self.most_mw(scene, name))
        b.charge_mw = pyo.Var(steps, bounds=(0.0, self.charge_mw))  # (55)
        b.discharge_mw = pyo.Var(steps, bounds=(0.0, self.delivered_mw))
        b.state_mwh = pyo.Var(steps, bounds=(0.0, self.capacity_mwh))  # (57)
        if self.end_mwh is not None:
            b.state_mwh[scene.n - 1].setlb(self.end_mwh)
        call = setting.call

        def last(k: int) -> Any:
            return b.state_mwh[k - 1] if k else self.start_mwh

        @b.Constraint(steps)
        def state(b: pyo.Block, k: int) -> object:  # (54)
            return b.state_mwh[k] == self.next_state_mwh(last(k), b.charge_mw[k], b.discharge_mw[k], dt)

        @b.Constraint(steps)
        def discharged(b: pyo.Block, k: int) -> object:
            if self.reserve_energy == "full":
                return b.discharge_mw[k] == b.energy_mw[k] + upward(offers, k)
            called = call.upward(offers, k) - float(call["regulation_down"][k]) * b.regulation_down_mw[k]
            return b.discharge_mw[k] == b.energy_mw[k] + called

        @b.Constraint(steps)
        def ready_power(b: pyo.Block, k: int) -> object:  # (56), of all that may be called
            return b.energy_mw[k] + upward(offers, k) <= self.delivered_mw

        if self.reserve_energy == "expected" or setting.delivery.lasts:  # else the state says so

            @b.Constraint(steps)
            def ready_energy(b: pyo.Block, k: int) -> object:  # (58), of the state before the step
                return setting.delivery.energy_mwh(offers, k, dt) <= self.eta_discharge * last(k)

        if self.cycles_per_day is not None:
            days = scene.n * dt / 24.0
            taken = sum(b.discharge_mw[k] for k in steps) * dt / self.eta_discharge
            b.cycles = pyo.Constraint(expr=taken <= self.cycles_per_day * days * self.capacity_mwh)

        @b.Constraint(steps)
        def regulation_down(b: pyo.Block, k: int) -> object:  # (45)
            return b.regulation_down_mw[k] <= b.energy_mw[k]

        if self.exclusive == "binary":
            b.is_charging = pyo.Var(steps, domain=pyo.Binary)

            @b.Constraint(steps)
            def charge_only_when_charging(b: pyo.Block, k: int) -> object:  # (55)
                return b.charge_mw[k] <= self.charge_mw * b.is_charging[k]

            @b.Constraint(steps)
            def discharge_only_when_not_charging(b: pyo.Block, k: int) -> object:  # (56), (59)
                return b.energy_mw[k] + upward(offers, k) <= self.delivered_mw * (1 - b.is_charging[k])

        return Contribution(
            energy_mw=[b.energy_mw[k] for k in steps],
            service_mw=service_series(offers, steps),
            cost_usd=[self.wear_usd_per_mwh * dt * b.discharge_mw[k] for k in steps],
            drawn_mw=[b.charge_mw[k] for k in steps],
            states={
                ("charge", "mw"): [b.charge_mw[k] for k in steps],
                ("discharge", "mw"): [b.discharge_mw[k] for k in steps],
                ("held", "mw"): [b.energy_mw[k] + upward(offers, k) for k in steps],
                ("state", "mwh"): [b.state_mwh[k] for k in steps],
            },
        )
