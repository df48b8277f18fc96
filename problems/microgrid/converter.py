"""What wind turbine and photovoltaics have in common: power from the weather, sold through a converter.

Paper 2, eqs. (9)-(18).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
import pyomo.environ as pyo
from pydantic import Discriminator, Tag, model_validator

from decomp.messages import FloatArray
from problems.microgrid.calls import CallSettings, expected, over_calls
from problems.microgrid.data import Scene
from problems.microgrid.losses import SMOOTH, ConverterLoss, LossSteps, add_lines
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
    service_series,
    services,
    upward,
)


def _kind_of_loss(value: Any) -> str:
    steps = isinstance(value, LossSteps) or (isinstance(value, dict) and "x_percent" in value)
    return "steps" if steps else "curve"


Loss = Annotated[
    Annotated[ConverterLoss, Tag("curve")] | Annotated[LossSteps, Tag("steps")], Discriminator(_kind_of_loss)
]


class Converter(Unit):
    """A unit behind a converter.

    p_max_mw        E^max, most power at the grid side
    om_usd_per_mwh  G, operation and maintenance per MVAh of apparent power
    rating_mva      V_g I_c,max or S of the converter, at v_pu
    voltage         how far the voltage lets Q go
    loss            of the converter: the curve (14), (18), or steps (15)
    offer           what it expects to be paid for reactive power
    """

    p_max_mw: Positive
    om_usd_per_mwh: Size
    rating_mva: Positive
    v_pu: Positive = 1.0
    voltage: Reactive
    loss: Loss
    offer: ReactiveOffer = ReactiveOffer()

    @model_validator(mode="after")
    def _third_region_begins_somewhere(self) -> Self:
        if self.offer.gamma3 > 0 and self.offer.q_n_mvar is None:
            raise ValueError(f"offer: gamma3 = {self.offer.gamma3:g} needs q_n_mvar, where its region begins")
        return self

    @abstractmethod
    def capability(self, b: pyo.Block, steps: Sequence[int], p_max_mw: FloatArray) -> list[AlgebraicTerm]:
        """Keep b.terminal_mw and b.q_mvar inside what the converter can do; b.loss_mw are its losses."""

    @property
    def q_limits_mvar(self) -> tuple[float, float]:
        low, high = self.voltage.limits_mvar
        rating = self.v_pu * self.rating_mva
        return max(low, -rating), min(high, rating)

    @property
    def standby_mw(self) -> float:
        return self.loss.standby_mw if isinstance(self.loss, ConverterLoss) else 0.0

    def most_mw(self, scene: Scene, name: str) -> FloatArray:
        """Available power, 0 where it does not even cover the converter's standby losses: it is switched off."""
        available = np.minimum(scene.available_mw[name], self.p_max_mw)
        return np.where(available > self.standby_mw + OFF_MW, available, 0.0)

    def cost_range_usd(self, scene: Scene, name: str) -> tuple[float, float]:
        hours, q = scene.n * scene.dt_h, max(np.abs(self.q_limits_mvar))
        reactive = hours * float(np.max(self.offer.payment_usd_per_h(self.q_limits_mvar)))
        lost = scene.dt_h * float(np.sum(np.maximum(scene.energy_usd_per_mwh, 0.0))) * self._most_loss_mw
        return 0.0, hours * self.om_usd_per_mwh * float(np.hypot(self.p_max_mw, q)) + max(reactive, lost)

    @property
    def _most_loss_mw(self) -> float:
        q = max(np.abs(self.q_limits_mvar))
        if isinstance(self.loss, LossSteps):
            return float(self.loss.loss_mw(q, q))
        return float(self.loss.loss_mw(self.p_max_mw, q))

    def add(self, b: pyo.Block, scene: Scene, setting: Setting, name: str) -> Contribution:
        most = self.most_mw(scene, name)
        steps = [k for k in scene.steps if most[k] > 0]
        offers = add_offers(b, scene.steps, most)
        stored = most if setting.stores else np.zeros(scene.n)
        b.stored_mw = pyo.Var(scene.steps, bounds=lambda _, k: (0.0, float(stored[k])))
        b.q_mvar = pyo.Var(steps, bounds=self.q_limits_mvar)  # (38), (39)
        b.power_mw = pyo.Var(steps, bounds=lambda _, k: (0.0, float(most[k])))
        b.terminal_mw = pyo.Var(steps, bounds=lambda _, k: (0.0, float(most[k])))
        b.loss_mw = pyo.Var(steps, bounds=(0.0, None))
        within = 1.0 if setting.reactive_cost == "losses" else 0.0

        @b.Constraint(steps)
        def power(b: pyo.Block, k: int) -> object:
            return b.power_mw[k] == b.energy_mw[k] + b.stored_mw[k]

        @b.Constraint(steps)
        def power_when_all_is_called(b: pyo.Block, k: int) -> object:
            return b.terminal_mw[k] == b.power_mw[k] + upward(offers, k)

        @b.Constraint(steps)
        def available(b: pyo.Block, k: int) -> object:  # (36), (37)
            return b.terminal_mw[k] + within * b.loss_mw[k] <= float(most[k])

        @b.Constraint(steps)
        def regulation_down(b: pyo.Block, k: int) -> object:  # (45)
            return b.regulation_down_mw[k] <= b.energy_mw[k]

        b.cost_usd = pyo.Var(steps, bounds=(0.0, None))
        terms = [self._cost_term(b, offers, some, call, scene.dt_h) for call, some in setting.call.alike(steps)]
        terms += self._loss(b, steps, additional=not within)
        terms += self.capability(b, steps, most) if steps else []
        q_cost, more = self._reactive_cost(b, scene, setting, steps)
        cost = dict(zip(steps, q_cost, strict=True))
        return Contribution(
            energy_mw=[b.energy_mw[k] for k in scene.steps],
            service_mw=service_series(offers, scene.steps),
            cost_usd=[b.cost_usd[k] + cost[k] if k in cost else 0.0 for k in scene.steps],
            reactive_mvar=[b.q_mvar[k] if k in cost else 0.0 for k in scene.steps],
            stored_mw=[b.stored_mw[k] for k in scene.steps],
            convex=[*terms, *more],
            states={
                ("loss", "mw"): [b.loss_mw[k] if k in cost else 0.0 for k in scene.steps],
                ("terminal", "mw"): [b.terminal_mw[k] if k in cost else 0.0 for k in scene.steps],
            },
        )

    def approximations(
        self, scene: Scene, reactive_cost: ReactiveCost, series: Mapping[str, FloatArray]
    ) -> list[Approximation]:
        """(36) at the grid's side of the converter, (15) by its convex envelope, (31) not below 0."""
        loss, q = series["loss_mw"], np.abs(series["reactive_mvar"])
        grid = series["terminal_mw"]
        more = np.hypot(grid + loss, q) - np.hypot(grid, q)
        text = "the apparent power is that at the grid's side: the converter's own losses are not in it"
        found = [Approximation("(36)", text, float(np.max(more, initial=0.0)), self._most_loss_mw, "MW")]
        if isinstance(self.loss, LossSteps):
            widest = max(abs(x) for x in self.q_limits_mvar)
            short = self.loss.loss_mw(np.minimum(q, widest), widest) - loss
            text = "losses with jumps are their convex envelope"
            at_point = float(np.max(short, initial=0.0))
            found.append(Approximation("(15)", text, at_point, self.loss.error_mw(widest), "MW"))
        if reactive_cost == "opportunity":
            below = np.maximum(self.om_usd_per_mwh - scene.energy_usd_per_mwh, 0.0) * scene.dt_h
            text = "what is charged is not below 0"
            worst = float(np.sum(below)) * self._most_loss_mw
            found.append(Approximation("(31)", text, float(below @ loss), worst, "$"))
        return found

    def _cost_term(
        self, b: pyo.Block, offers: Any, steps: Sequence[int], call: CallSettings, dt: float
    ) -> AlgebraicTerm:
        """cost_usd >= dt sum_k w_k G sqrt((P + r_k)^2 + Q^2), same probabilities. Paper 2, eqs. (9), (16), (30)."""
        function, gradient = over_calls(call, _apparent, _apparent_gradient, dt * self.om_usd_per_mwh)
        reserves = [list(a) for a in zip(*(services(offers, k) for k in steps), strict=True)]
        arguments = [[b.power_mw[k] for k in steps], *reserves, [b.q_mvar[k] for k in steps]]

        def exact(t: Any, p: Any, *args: Any) -> Any:
            apparent = expected(call, lambda p, q: (p**2 + q**2 + SMOOTH) ** 0.5, p, args[:4], args[4])
            return t >= dt * self.om_usd_per_mwh * apparent

        return AlgebraicTerm(
            [b.cost_usd[k] for k in steps], arguments, function, gradient, f"{b.name}.cost_usd", exact=exact, money=True
        )

    def _loss(self, b: pyo.Block, steps: Sequence[int], *, additional: bool) -> list[AlgebraicTerm]:
        """Losses with everything called, or what reactive power adds to them."""
        if not steps:
            return []
        if isinstance(self.loss, LossSteps):
            q = max(abs(x) for x in self.q_limits_mvar)
            add_lines(b, b.loss_mw, b.q_mvar, steps, self.loss.lines(q))
            return []
        return [self.loss.term(b, b.loss_mw, b.terminal_mw, b.q_mvar, steps, additional)]

    def _reactive_cost(
        self, b: pyo.Block, scene: Scene, setting: Setting, steps: Sequence[int]
    ) -> tuple[Sequence[Any], Sequence[AlgebraicTerm]]:
        if setting.reactive_cost == "opportunity":  # (31)
            price = np.maximum(scene.energy_usd_per_mwh - self.om_usd_per_mwh, 0.0) * scene.dt_h
            return [float(price[k]) * b.loss_mw[k] for k in steps], ()
        if setting.reactive_cost == "offer":
            return self.offer.add(b, b.q_mvar, steps, scene.dt_h)
        return [0.0] * len(steps), ()


OFF_MW = 1e-6


def _apparent(p: FloatArray, q: FloatArray) -> FloatArray:
    return np.hypot(p, q)


def _apparent_gradient(p: FloatArray, q: FloatArray) -> Sequence[FloatArray]:
    s = np.hypot(p, q)
    safe = np.where(s > 0, s, 1.0)
    return [p / safe, q / safe]
