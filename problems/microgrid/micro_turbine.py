"""Micro-turbine with a synchronous generator. Paper 2, eqs. (3)-(8), (36)-(47)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import pyomo.environ as pyo
from pydantic import model_validator

from decomp.messages import FloatArray
from problems.microgrid.calls import CallSettings, expected, over_calls
from problems.microgrid.capability import armature_disc, field_disc
from problems.microgrid.commitment import Commitment, States
from problems.microgrid.data import Scene
from problems.microgrid.delivery import add_ramp_limits
from problems.microgrid.losses import LossRegions, add_lines, excess_term
from problems.microgrid.reactive_offer import ReactiveOffer
from problems.microgrid.unit import (
    AlgebraicTerm,
    Approximation,
    Contribution,
    Positive,
    Reactive,
    ReactiveCost,
    Setting,
    Size,
    Unit,
    add_offers,
    full,
    service_series,
    services,
    upward,
)


class MicroTurbine(Unit):
    """Table [mt.NAME].

    p_min_mw, p_max_mw        it always runs, unless it has a table `commitment`
    ramp_up_mw, ramp_down_mw  change of the energy sold from one step to the next, per hour
    initial_mw                what is ramped, before the first step; None = the first step is free, as in paper 2
    commitment                it may be switched off
    ramp_of                   "energy": of P^E, as eqs. (46)-(47) say; "output": of P^E and what is stored
    b1, b2, b3                $/h of b1 x^2 + b2 x + b3, x = P / cost_unit_mw
    rating_mva, v_pu          armature: V I = v_pu rating_mva
    x_s_pu, e_max_pu          synchronous reactance and greatest inner voltage, of the rating
    voltage                   how far the voltage lets Q go
    loss                      additional losses by region of Q; None = S - P of eq. (7)
    offer                     what it expects to be paid for reactive power; its region 3 begins at Q_N, the capability
                              at P_max, where offer.q_n_mvar is not given
    """

    p_min_mw: Size
    p_max_mw: Positive
    ramp_up_mw: Size
    ramp_down_mw: Size
    ramp_of: Literal["energy", "output"] = "energy"
    initial_mw: Size | None = None
    commitment: Commitment | None = None
    b1: Size
    b2: Size
    b3: Size
    cost_unit_mw: Positive
    rating_mva: Positive
    v_pu: Positive = 1.0
    x_s_pu: Positive
    e_max_pu: Positive
    voltage: Reactive
    loss: LossRegions | None = None
    offer: ReactiveOffer = ReactiveOffer()

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        if self.p_min_mw > self.p_max_mw:
            raise ValueError(f"p_min_mw = {self.p_min_mw:g} is above p_max_mw = {self.p_max_mw:g}")
        if self.v_pu * self.rating_mva < self.p_max_mw:
            raise ValueError(f"rating_mva = {self.rating_mva:g} at v_pu = {self.v_pu:g} is below p_max_mw")
        if min(disc.q_max_mvar(self.p_max_mw) for disc in self.discs) < 0:
            raise ValueError(
                f"e_max_pu = {self.e_max_pu:g} is too low for p_max_mw = {self.p_max_mw:g}: "
                "the field limit (6) is below 0"
            )
        if self.initial_mw is not None and self.initial_mw > self.p_max_mw:
            raise ValueError(f"initial_mw = {self.initial_mw:g} is above p_max_mw = {self.p_max_mw:g}")
        try:
            _ = self.offer_with_region
        except ValueError as error:
            raise ValueError(f"offer, with Q_N = {self.q_n_mvar:g} Mvar: {error}") from error
        return self

    @property
    def discs(self) -> tuple[Any, Any]:
        """Armature limit (5) and field limit (6)."""
        return (
            armature_disc(self.rating_mva, self.v_pu),
            field_disc(self.rating_mva, self.v_pu, self.e_max_pu, self.x_s_pu),
        )

    @property
    def q_limits_mvar(self) -> tuple[float, float]:
        """Least and greatest Q by the voltage (38)-(39) and by the capability at P_min."""
        low, high = self.voltage.limits_mvar
        armature, field = self.discs
        top = min(armature.q_max_mvar(self.p_min_mw), field.q_max_mvar(self.p_min_mw))
        return max(low, -armature.q_max_mvar(self.p_min_mw)), min(high, top)

    @property
    def q_n_mvar(self) -> float:
        """Q_N: the most that takes no active power away, the capability at P_max."""
        return min(disc.q_max_mvar(self.p_max_mw) for disc in self.discs)

    def cost_usd_per_h(self, p_mw: Any) -> Any:
        """b1 x^2 + b2 x + b3, any shape. Paper 2, eq. (3)."""
        x = p_mw * (1.0 / self.cost_unit_mw)
        return self.b1 * x**2 + self.b2 * x + self.b3

    def marginal_usd_per_mwh(self, p_mw: Any) -> Any:
        return (2 * self.b1 * p_mw / self.cost_unit_mw + self.b2) / self.cost_unit_mw

    def most_mw(self, scene: Scene, name: str) -> FloatArray:
        return full(self.p_max_mw, scene)

    def cost_range_usd(self, scene: Scene, name: str) -> tuple[float, float]:
        hours = scene.n * scene.dt_h
        reactive = hours * float(np.max(self.offer_with_region.payment_usd_per_h(self.q_limits_mvar)))
        lost = scene.dt_h * float(np.sum(np.maximum(scene.energy_usd_per_mwh, 0.0))) * self.p_max_mw
        least, greatest = (hours * self.cost_usd_per_h(p) for p in (self.p_min_mw, self.p_max_mw))
        greatest += max(reactive, lost)
        return (least, greatest) if self.commitment is None else (0.0, greatest + scene.n * self.commitment.start_usd)

    @property
    def least_mw(self) -> float:
        """What it gives at any time."""
        return self.p_min_mw if self.commitment is None else 0.0

    def add(self, b: pyo.Block, scene: Scene, setting: Setting, name: str) -> Contribution:
        steps, dt, least = scene.steps, scene.dt_h, self.least_mw
        offers = add_offers(b, steps, self.most_mw(scene, name))
        b.stored_mw = pyo.Var(steps, bounds=(0.0, self.p_max_mw if setting.stores else 0.0))
        b.q_mvar = pyo.Var(steps, bounds=self.q_range_mvar)  # (38), (39)
        b.power_mw = pyo.Var(steps, bounds=(least, self.p_max_mw))
        b.full_mw = pyo.Var(steps, bounds=(least, self.p_max_mw))  # (37)
        b.loss_mw = pyo.Var(steps, bounds=(0.0, self.p_max_mw))
        within = 1.0 if setting.reactive_cost == "losses" else 0.0
        state = States.always_on(steps)
        if self.commitment is not None:
            state = self.commitment.add(b, steps, dt, self.p_min_mw)
            self._only_while_on(b, steps, state, offers)

        @b.Constraint(steps)
        def power(b: pyo.Block, k: int) -> object:
            return b.power_mw[k] == b.energy_mw[k] + b.stored_mw[k] + within * b.loss_mw[k]

        @b.Constraint(steps)
        def power_when_all_is_called(b: pyo.Block, k: int) -> object:
            return b.full_mw[k] == b.power_mw[k] + upward(offers, k)

        @b.Constraint(steps)
        def regulation_down(b: pyo.Block, k: int) -> object:  # (45)
            return b.regulation_down_mw[k] <= (b.power_mw if setting.load else b.energy_mw)[k] - (
                self.p_min_mw * state.on[k]
            )

        self._ramps(b, scene, state)
        spinning = {**offers, "nonspinning": {k: offers["nonspinning"][k] - state.offline_mw[k] for k in steps}}
        ramps = (self.ramp_up_mw, self.ramp_down_mw)
        add_ramp_limits(b, steps, spinning, offers["regulation_down"], setting.delivery, ramps)

        b.cost_usd = pyo.Var(steps)
        terms = [self._cost_term(b, offers, some, call, dt) for call, some in setting.call.alike(steps)]
        terms += self._loss(b, steps)
        terms += self._capability(b, steps, within, scene)
        q_cost, more = self._reactive_cost(b, scene, setting)
        switching = self._switching_usd(setting, state, scene)
        running = {("running", "share"): [state.on[k] for k in steps]} if self.commitment is not None else {}
        return Contribution(
            energy_mw=[b.energy_mw[k] for k in steps],
            service_mw=service_series(offers, steps),
            cost_usd=[b.cost_usd[k] + q_cost[k] + switching[k] for k in steps],
            reactive_mvar=[b.q_mvar[k] for k in steps],
            stored_mw=[b.stored_mw[k] for k in steps],
            convex=[*terms, *more],
            states={
                ("loss", "mw"): [b.loss_mw[k] for k in steps],
                ("power", "mw"): [b.power_mw[k] for k in steps],
                **running,
            },
        )

    @property
    def q_range_mvar(self) -> tuple[float, float]:
        """`q_limits_mvar`, and 0 where it may be off."""
        low, high = self.q_limits_mvar
        return (low, high) if self.commitment is None else (min(low, 0.0), max(high, 0.0))

    def _only_while_on(self, b: pyo.Block, steps: Sequence[int], state: States, offers: Any) -> None:
        """Power between its limits, services and reactive power while it is on; offline reserve while it is off."""
        low, high = self.q_limits_mvar

        @b.Constraint(steps)
        def least_while_on(b: pyo.Block, k: int) -> object:
            return b.power_mw[k] >= self.p_min_mw * state.on[k]

        @b.Constraint(steps)
        def most_while_on(b: pyo.Block, k: int) -> object:  # (37)
            return b.full_mw[k] - state.offline_mw[k] <= self.p_max_mw * state.on[k]

        @b.Constraint(steps)
        def offline_is_nonspinning(b: pyo.Block, k: int) -> object:
            return offers["nonspinning"][k] >= state.offline_mw[k]

        @b.Constraint(steps)
        def reactive_at_least(b: pyo.Block, k: int) -> object:
            return b.q_mvar[k] >= low * state.on[k]

        @b.Constraint(steps)
        def reactive_at_most(b: pyo.Block, k: int) -> object:
            return b.q_mvar[k] <= high * state.on[k]

    def _ramps(self, b: pyo.Block, scene: Scene, state: States) -> None:
        """(46), (47); a start may reach p_min_mw, a stop may leave it, whatever the ramps are."""
        dt = scene.dt_h
        ramped = b.energy_mw if self.ramp_of == "energy" else b.power_mw
        up, down = self.ramp_up_mw * dt, self.ramp_down_mw * dt
        to_start, to_stop = max(self.p_min_mw - up, 0.0), max(self.p_min_mw - down, 0.0)
        steps = scene.steps[1:] if self.initial_mw is None else scene.steps

        def change(k: int) -> Any:
            return ramped[k] - (ramped[k - 1] if k else self.initial_mw)

        @b.Constraint(steps)
        def ramp_up(b: pyo.Block, k: int) -> object:
            return change(k) <= up + to_start * state.starts[k]

        @b.Constraint(steps)
        def ramp_down(b: pyo.Block, k: int) -> object:
            return -change(k) <= down + to_stop * state.stops[k]

    def _switching_usd(self, setting: Setting, state: States, scene: Scene) -> list[Any]:
        """$ of each step: starts, and b3 only while it runs or is expected to be called from the off state."""
        if self.commitment is None:
            return [0.0] * scene.n
        start, hourly = self.commitment.start_usd, scene.dt_h * self.b3
        called = setting.call["nonspinning"]
        return [
            start * state.starts[k]
            + hourly * (state.on[k] - 1.0)
            + float(called[k]) * (hourly + start) * state.ready[k]
            for k in scene.steps
        ]

    def approximations(
        self, scene: Scene, reactive_cost: ReactiveCost, series: Mapping[str, FloatArray]
    ) -> list[Approximation]:
        """(31) takes the cost of the power that is lost at the middle of the range, and charges no negative price."""
        if reactive_cost != "opportunity":
            return []
        energy = scene.energy_usd_per_mwh
        charged = np.maximum(energy - self.marginal_usd_per_mwh((self.p_min_mw + self.p_max_mw) / 2), 0.0)

        def off(power_mw: Any) -> FloatArray:
            return np.asarray(np.abs(charged - (energy - self.marginal_usd_per_mwh(power_mw))))

        worst = np.maximum(off(self.p_min_mw), off(self.p_max_mw)) * self._most_loss_mw
        found = off(series["power_mw"]) * series["loss_mw"]
        text = "oc is the marginal cost at the middle of the range, and what is charged is not below 0"
        dt = scene.dt_h
        return [Approximation("(31)", text, dt * float(np.sum(found)), dt * float(np.sum(worst)), "$")]

    @property
    def _most_loss_mw(self) -> float:
        q = max(abs(x) for x in self.q_range_mvar)
        return float(q if self.loss is None else self.loss.loss_mw(q))

    def _cost_term(
        self, b: pyo.Block, offers: Any, steps: Sequence[int], call: CallSettings, dt: float
    ) -> AlgebraicTerm:
        """cost_usd >= dt sum_k w_k C(P + r_k) in steps with the same probabilities. Paper 2, eqs. (3), (30)."""
        function, gradient = over_calls(
            call, self.cost_usd_per_h, lambda p: [np.asarray(self.marginal_usd_per_mwh(p))], dt
        )
        arguments = [[b.power_mw[k] for k in steps], *zip(*(services(offers, k) for k in steps), strict=True)]

        def exact(t: Any, p: Any, *r: Any) -> Any:
            return t >= dt * expected(call, self.cost_usd_per_h, p, r)

        return AlgebraicTerm(
            [b.cost_usd[k] for k in steps], [list(a) for a in arguments], function, gradient, f"{b.name}.cost_usd",
            exact=exact, money=True,
        )  # fmt: skip

    def _loss(self, b: pyo.Block, steps: Sequence[int]) -> list[AlgebraicTerm]:
        if self.loss is None:
            return [excess_term(b, b.loss_mw, b.power_mw, b.q_mvar, steps)]
        add_lines(b, b.loss_mw, b.q_mvar, steps, self.loss.lines)
        return []

    def _capability(self, b: pyo.Block, steps: Sequence[int], within: float, scene: Scene) -> list[AlgebraicTerm]:
        """(5), (6) with (36): all that may be called and the losses."""
        p, most = b.full_mw, self.p_max_mw
        if not within:
            most += float(b.loss_mw[steps[0]].ub)
            b.terminal_mw = pyo.Var(steps, bounds=(self.least_mw, most))
            p = b.terminal_mw

            @b.Constraint(steps)
            def terminal(b: pyo.Block, k: int) -> object:
                return b.terminal_mw[k] == b.full_mw[k] + b.loss_mw[k]

        armature, field = self.discs
        at_most = full(most, scene)
        return [
            *armature.add(b, "armature", p, b.q_mvar, steps, at_most),
            *field.add(b, "field", p, b.q_mvar, steps, at_most),
        ]

    def _reactive_cost(
        self, b: pyo.Block, scene: Scene, setting: Setting
    ) -> tuple[Sequence[Any], Sequence[AlgebraicTerm]]:
        """What reactive power costs beside its losses: nothing, eq. (31), or what the offer (4) asks."""
        if setting.reactive_cost == "opportunity":  # (31)
            avoided = self.marginal_usd_per_mwh((self.p_min_mw + self.p_max_mw) / 2)
            price = np.maximum(scene.energy_usd_per_mwh - avoided, 0.0) * scene.dt_h
            return [float(price[k]) * b.loss_mw[k] for k in scene.steps], ()
        if setting.reactive_cost == "offer":
            return self.offer_with_region.add(b, b.q_mvar, scene.steps, scene.dt_h)
        return [0.0] * scene.n, ()

    @property
    def offer_with_region(self) -> ReactiveOffer:
        """The offer, its third region beginning at Q_N where it does not say so itself."""
        offer = self.offer
        if offer.q_n_mvar is not None or offer.gamma3 == 0:
            return offer
        return ReactiveOffer(**{**offer.model_dump(), "q_n_mvar": max(self.q_n_mvar, offer.q_mnd_mvar)})
