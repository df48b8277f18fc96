"""The table [dso]: what the distribution system operator asks for, and what it may cost."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DsoSettings(BaseModel):
    """The [dso] table of a case file.

    requirement   "resolved": every round the least-cost request at the round's prices
                  "held": (47) is evaluated once at equal neutral signals, min c^Q sum_b |Z_b| + shedding, so that each
                  need goes to the most sensitive PCC; that request is kept while the signals move. It is evaluated
                  again, and grows, when the offers meet it and a voltage is still outside its limits (asked anew
                  where growing does not keep them)
    products      ["q"], or ["p", "q"]: what a community may change for the DSO, and at which nodes there are prices
    freeze_p      the net active power of hours with a need stays as first scheduled (the communities keep to it; the
                  flow here always uses the power that they report). Without it no bound is proven: active power moves
                  the voltages too, nobody prices it, and a bound at the reported power is none where it may change
    shed_cost_sek_per_kvarh  C^LS, for each kvarh of reactive load taken off
    voltage_slack_cost_sek_per_pu_h  C^V: the most that is paid for bringing a voltage inside its limits, and what each
                  remaining pu outside costs (told apart from the cost). 1e8 buys reactive power at .15 SEK/kvarh where
                  a kvar moves the voltage by 1.5e-9 pu or more, and shedding at 100 SEK/kvarh from 1e-6 pu per kvar on
    voltage_improvement_sek_per_pu_h  the same for a voltage that stays outside whatever is bought and shed: 4e4 buys
                  reactive power at .15 SEK/kvarh from 4e-6 pu per kvar on (the sum over such buses), and no shedding
    voltage_tolerance_pu  a limit exceeded by no more than this counts as kept when violations are looked for
    margin_pu     requests are for limits tightened by this much, so that offers that come near a request from one side
                  end inside the limits; costs, checks and bounds are of the limits themselves
    price_floor   least reference price for the step functions, SEK/kWh (spot prices may be zero or negative)
    secure_share  the voltages keep their limits in scenarios of this probability. Which ones are left out is decided
                  once, by power flows of the initial schedules: the largest violation first, as long as the share
                  allows; every bound is for that choice
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    requirement: Literal["held", "resolved"]
    products: tuple[Literal["p", "q"], ...] = ("q",)
    freeze_p: bool
    shed_cost_sek_per_kvarh: Positive
    voltage_slack_cost_sek_per_pu_h: Positive = 1e8
    voltage_improvement_sek_per_pu_h: Positive = 4e4
    voltage_tolerance_pu: Positive = 1e-6
    margin_pu: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    price_floor: Positive = 0.01
    secure_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _products_fit(self) -> Self:
        wrong = []
        if sorted(self.products) not in (["q"], ["p", "q"]):
            wrong.append(f'products = {list(self.products)}: give ["q"] or ["p", "q"]')
        if self.trades_p and self.freeze_p:
            wrong.append('freeze_p = true leaves nothing of the product "p": set it to false')
        if self.trades_p and self.requirement == "held":
            wrong.append('requirement = "held" is a reading of eq. (47), which asks for reactive power: use "resolved"')
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @property
    def trades_p(self) -> bool:
        """Active power is a product."""
        return "p" in self.products
