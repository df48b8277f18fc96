"""Load that is paid to stay off and may catch up later. Paper 2 names demand response as future work."""

from __future__ import annotations

import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.microgrid.data import Scene
from problems.microgrid.unit import (
    Contribution,
    Setting,
    Share,
    Size,
    Unit,
    add_offers,
    full,
    service_series,
    upward,
)


class DemandResponse(Unit):
    """Table [demand_response.NAME]: no equation of paper 2.

    curtailable_mw     most that can be switched off, called reserves included
    energy_mwh         most that may be outstanding, i.e. switched off and not yet caught up
    catch_up           share of the energy that is caught up within the horizon; its power comes from the other units
    catch_up_mw        most power of catching up
    paid_usd_per_mwh   to the customers, for energy expected to be switched off
    """

    curtailable_mw: Size
    energy_mwh: Size
    catch_up: Share = 1.0
    catch_up_mw: Size
    paid_usd_per_mwh: Size

    def most_mw(self, scene: Scene, name: str) -> FloatArray:
        return full(self.curtailable_mw, scene)

    def cost_range_usd(self, scene: Scene, name: str) -> tuple[float, float]:
        return 0.0, self.paid_usd_per_mwh * self.curtailable_mw * scene.n * scene.dt_h

    def add(self, b: pyo.Block, scene: Scene, setting: Setting, name: str) -> Contribution:
        """Outstanding D(t) = D(t-1) + (a x - r) dt, 0 <= D, x the expected curtailment, r what is caught up, D(T) = 0.

        Reserves count as energy by the probability of their being called, and must fit under the power limit in full.
        """
        steps, dt, call = scene.steps, scene.dt_h, setting.call
        offers = add_offers(b, steps, self.most_mw(scene, name))
        b.catch_up_mw = pyo.Var(steps, bounds=(0.0, self.catch_up_mw))
        b.outstanding_mwh = pyo.Var(steps, bounds=(0.0, self.energy_mwh))
        b.outstanding_mwh[scene.n - 1].setub(0.0)
        curtailed = [
            b.energy_mw[k] + call.upward(offers, k) - float(call["regulation_down"][k]) * b.regulation_down_mw[k]
            for k in steps
        ]

        @b.Constraint(steps)
        def outstanding(b: pyo.Block, k: int) -> object:
            last = b.outstanding_mwh[k - 1] if k else 0.0
            return b.outstanding_mwh[k] == last + (self.catch_up * curtailed[k] - b.catch_up_mw[k]) * dt

        @b.Constraint(steps)
        def curtailable(b: pyo.Block, k: int) -> object:
            return b.energy_mw[k] + upward(offers, k) <= self.curtailable_mw

        @b.Constraint(steps)
        def regulation_down(b: pyo.Block, k: int) -> object:
            return b.regulation_down_mw[k] <= b.energy_mw[k]

        if setting.delivery.lasts:

            @b.Constraint(steps)
            def can_stay_off(b: pyo.Block, k: int) -> object:
                last = b.outstanding_mwh[k - 1] if k else 0.0
                return last + self.catch_up * setting.delivery.energy_mwh(offers, k, dt) <= self.energy_mwh

        return Contribution(
            energy_mw=[b.energy_mw[k] for k in steps],
            service_mw=service_series(offers, steps),
            cost_usd=[self.paid_usd_per_mwh * dt * x for x in curtailed],
            drawn_mw=[b.catch_up_mw[k] for k in steps],
            states={
                ("catch_up", "mw"): [b.catch_up_mw[k] for k in steps],
                ("outstanding", "mwh"): [b.outstanding_mwh[k] for k in steps],
            },
        )
