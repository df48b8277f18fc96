"""The tables of a case file that describe a microgrid and its markets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.blocks.pyomo_block import BlockSettings
from problems.microgrid.calls import CallSettings
from problems.microgrid.data import WHOLE
from problems.microgrid.delivery import Delivery
from problems.microgrid.demand_response import DemandResponse
from problems.microgrid.input_settings import PriceSettings, ScenarioSettings, SeriesSettings
from problems.microgrid.load import Load
from problems.microgrid.micro_turbine import MicroTurbine
from problems.microgrid.solar import Solar
from problems.microgrid.storage import Storage
from problems.microgrid.unit import AlgebraicTerm, ReactiveCost, Size, Unit
from problems.microgrid.wind import WindTurbine
from problems.time_series import TimeSettings


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridLimits(_Table):
    """Table [market.limit]: most that the grid takes of each product, of all units together. None = no limit.

    Paper 2, eqs. (48)-(52). Limits by hour are columns <product>_limit_mw of the price file.
    """

    energy_mw: Size | None = None
    regulation_up_mw: Size | None = None
    regulation_down_mw: Size | None = None
    spinning_mw: Size | None = None
    nonspinning_mw: Size | None = None


class MarketSettings(_Table):
    """Table [market].

    stage                   "committed": bids are equal in all scenarios, the units' dispatch adapts;
                            "energy_committed": the bids of energy are, those of the services adapt too, as (27) and
                            (29) print; "per_scenario": all bids adapt, and only the value at risk is one for all
    shortfall_factor        what is committed and cannot be delivered or held ready is bought back at so many times the
                            product's price (energy: of the energy price, services: of the contract price and the
                            energy price together)
    surplus_factor          energy beyond what is committed is paid this share of the energy price; where the price is
                            negative it costs (2 - surplus_factor) times the price
    buy_mw                  most that is bought from the grid for stores and loads; 0 = nothing, as in paper 2
    buy_fee_usd_per_mwh     on top of the energy price
    called_down             "paid": energy called down is paid the called price, as (29) prints it; "bought_back": the
                            microgrid pays that price for the energy that it need not generate
    call                    probabilities of being called
    limit                   of each product
    delivery                how soon services have to be there, and for how long
    reactive_usd_per_mvarh  availability price gamma_0 of (28)
    reactive_required_mvar  contract Q_req of (53), of every hour
    reactive_paid_mvar      most that is paid for; None = the contract
    reactive_cost           "losses": additional losses take power away, in (36)-(37) and in the fuel;
                            "opportunity": they are charged by (31) instead;
                            "offer": the units' offers (4), (13) are charged instead
    """

    stage: Literal["committed", "energy_committed", "per_scenario"] = "committed"
    shortfall_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 4.0
    surplus_factor: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    buy_mw: Size = 0.0
    buy_fee_usd_per_mwh: Size = 0.0
    called_down: Literal["paid", "bought_back"] = "paid"
    call: CallSettings
    limit: GridLimits = GridLimits()
    delivery: Delivery = Delivery()
    reactive_usd_per_mvarh: Size
    reactive_required_mvar: Size
    reactive_paid_mvar: Size | None = None
    reactive_cost: ReactiveCost = "losses"

    @model_validator(mode="after")
    def _contract_is_paid(self) -> Self:
        if self.reactive_paid_mvar is not None and self.reactive_paid_mvar < self.reactive_required_mvar:
            raise ValueError(
                f"reactive_paid_mvar = {self.reactive_paid_mvar:g} is below "
                f"reactive_required_mvar = {self.reactive_required_mvar:g}"
            )
        return self

    @property
    def paid_mvar(self) -> float:
        return self.reactive_required_mvar if self.reactive_paid_mvar is None else self.reactive_paid_mvar


class RiskSettings(_Table):
    """Table [risk]: maximise w E[profit] + (1 - w) CVaR_delta. Paper 2, eqs. (32)-(35).

    w      1 = risk-neutral
    delta  confidence level: CVaR is the mean of the worst 1 - delta of the probability
    """

    w: Annotated[float, Field(ge=0, le=1)]
    delta: Annotated[float, Field(gt=0, lt=1)]


class Curve(_Table):
    """One bidding curve: of a unit, or of the microgrid ("MG"), at an hour as the results name it.

    product  whose price is swept: energy, or a service by its contract price
    """

    unit: str
    product: Literal["energy", "regulation_up", "regulation_down", "spinning", "nonspinning"] = "energy"
    hour: float = Field(gt=0, allow_inf_nan=False)


class BiddingSettings(_Table):
    """Table [bidding]: bidding curves after the run, and the prices in $/MWh to ask. Paper 2, Figs. 22-23.

    Each curve also has the own price of its hour and twice that.
    """

    curves: tuple[Curve, ...] = ()
    prices: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()

    @model_validator(mode="after")
    def _prices_are_given(self) -> Self:
        if self.curves and len(set(self.prices)) < 2:
            raise ValueError("a bidding curve needs at least two different prices")
        return self


class SolverSettings(_Table):
    """Table [solver]: how one scenario's problem is solved.

    tangent_usd   how far tangents may be below a convex cost
    tangent_mw    how far they may be below losses and apparent powers. Points stay on the safe side of these limits by
                  as much, so that they keep them, and the bound counts it: it goes into the gap. Below 1e-7 neither can
                  be met, for rows are not held closer, and 1e-7 is taken
    mip_gap_usd   absolute gap of mixed-integer solves
    """

    tangent_usd: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    tangent_mw: float = Field(default=1e-7, gt=0, allow_inf_nan=False)
    mip_gap_usd: float = Field(default=1e-3, gt=0, allow_inf_nan=False)

    def block(self) -> BlockSettings:
        """The settings of a block."""
        return BlockSettings(tangent_tol=self.tangent_usd, mip_abs_gap=self.mip_gap_usd)

    def met(self, terms: Sequence[AlgebraicTerm]) -> list[AlgebraicTerm]:
        """The terms with the tolerance that they are met to."""
        return [replace(term, tolerance=self.tangent_usd if term.money else self.tangent_mw) for term in terms]


class UnitTables(_Table):
    """The microgrid's units by kind and name."""

    mt: dict[str, MicroTurbine] = {}
    wind: dict[str, WindTurbine] = {}
    solar: dict[str, Solar] = {}
    storage: dict[str, Storage] = {}
    demand_response: dict[str, DemandResponse] = {}
    load: dict[str, Load] = {}

    @model_validator(mode="after")
    def _have_names_of_their_own(self) -> Self:
        kinds: tuple[Mapping[str, Unit], ...] = (
            self.mt, self.wind, self.solar, self.storage, self.demand_response, self.load,
        )  # fmt: skip
        names = [name for kind in kinds for name in kind]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two units are called {', '.join(twice)}; give each a name of its own")
        if WHOLE in names:
            raise ValueError("a unit cannot be called MG: the microgrid as a whole is called so")
        return self

    @property
    def units(self) -> dict[str, Unit]:
        """Every unit by name, kind by kind."""
        return {**self.mt, **self.solar, **self.wind, **self.storage, **self.demand_response, **self.load}

    @property
    def convex(self) -> bool:
        """No unit has integers: none may be off, and no store keeps (59) by binaries."""
        never = all(mt.commitment is None for mt in self.mt.values())
        return never and all(store.exclusive == "relaxed" for store in self.storage.values())

    @property
    def takes_power(self) -> bool:
        """There is something that takes power from the units: a store, load that catches up, or a load of its own."""
        return bool(self.storage or self.demand_response or self.load)


class MicrogridSettings(UnitTables):
    """All tables of the case file that describe the microgrid."""

    time: TimeSettings
    series: SeriesSettings
    prices: PriceSettings
    scenarios: ScenarioSettings
    market: MarketSettings
    risk: RiskSettings
    bidding: BiddingSettings = BiddingSettings()
    solver: SolverSettings = SolverSettings()
