"""What a unit is to its microgrid: a table of settings that adds itself to the model and says what it can sell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pyomo.environ as pyo
from pydantic import BaseModel, ConfigDict, Field

from decomp.blocks.compile.outer_approximation import ConvexTerm
from decomp.messages import FloatArray
from problems.microgrid.calls import Calls
from problems.microgrid.data import SERVICES, Scene
from problems.microgrid.delivery import Delivery

Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Efficiency = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

ReactiveCost = Literal["losses", "opportunity", "offer"]
Series = Sequence[Any]  # (T,) numbers, variables or linear expressions


@dataclass(frozen=True, eq=False)
class AlgebraicTerm(ConvexTerm):
    """A convex term that can also be written as a constraint, for solvers that take nonlinear models.

    exact  (epigraph, x_1, .., x_k) -> a Pyomo relation, for one term
    money  its epigraph is a cost in $, else a power in MW or MVA
    """

    exact: Callable[..., Any] = lambda t, *x: t >= sum(x)
    money: bool = False


@dataclass(frozen=True)
class Setting:
    """What all units of a microgrid share.

    call           probabilities of being called
    reactive_cost  how reactive power is accounted for, see `problems.microgrid.settings.MarketSettings`
    stores         there is something that takes the units' power: a store, a load
    load           there is a load of its own: a turbine's output need not be sold
    delivery       how soon services have to be there, and for how long
    """

    call: Calls
    reactive_cost: ReactiveCost
    stores: bool
    load: bool = False
    delivery: Delivery = field(default_factory=Delivery)


@dataclass(frozen=True)
class Approximation:
    """Where the model departs from an equation of the paper, and by how much.

    equation, text  which one, and what stands for it
    at_point        how far apart both are at the point found;  at_most: at any point;  measure: "MW" or "$"
    """

    equation: str
    text: str
    at_point: float
    at_most: float
    measure: str


@dataclass(frozen=True, eq=False)
class Contribution:
    """What a unit sells, stores and costs, each (T,); every power leaves the unit.

    energy_mw, service_mw  energy, and by service what is held ready
    reactive_mvar          None = takes no part in the reactive-power market
    stored_mw              what goes into the stores; None = nothing
    drawn_mw               what a store or a load takes back from the other units; None = nothing
    cost_usd               expected over being called or not, of the step
    convex                 convex terms of its model
    states                 further series for the result files by (quantity, unit): ("state", "mwh")
    """

    energy_mw: Series
    service_mw: Mapping[str, Series]
    cost_usd: Series
    reactive_mvar: Series | None = None
    stored_mw: Series | None = None
    drawn_mw: Series | None = None
    convex: Sequence[AlgebraicTerm] = ()
    states: Mapping[tuple[str, str], Series] = field(default_factory=dict)


class Unit(BaseModel):
    """One unit's table in the case file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def add(self, b: pyo.Block, scene: Scene, setting: Setting, name: str) -> Contribution:
        """Add variables and constraints to the unit's own block `b`; names are read by users in error messages."""

    @abstractmethod
    def most_mw(self, scene: Scene, name: str) -> FloatArray:
        """(T,) the most it can sell or hold ready."""

    def cost_range_usd(self, scene: Scene, name: str) -> tuple[float, float]:
        """The least and the greatest cost of the horizon."""
        return 0.0, 0.0

    def approximations(
        self, scene: Scene, reactive_cost: ReactiveCost, series: Mapping[str, FloatArray]
    ) -> list[Approximation]:
        """Where its model is not what the paper prints; `series` (T,) are its results by "<quantity>_<unit>"."""
        return []


class Reactive(BaseModel):
    """How far the voltage lets a unit go with its reactive power: V = v0 + slope Q within v_min..v_max.

    The straight line stands for paper 2, eqs. (38)-(39) and Fig. 6, which gives sample curves and no model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v0_pu: Positive = 1.0
    slope_pu_per_mvar: Positive
    v_min_pu: Positive = 0.95
    v_max_pu: Positive = 1.05

    @property
    def limits_mvar(self) -> tuple[float, float]:
        slope = self.slope_pu_per_mvar
        return (self.v_min_pu - self.v0_pu) / slope, (self.v_max_pu - self.v0_pu) / slope


def add_offers(b: pyo.Block, steps: Sequence[int], most_mw: FloatArray) -> dict[str, Any]:
    """Variables energy_mw and <service>_mw, 0 <= . <= most_mw. Paper 2, eqs. (40)-(44)."""
    for name in ("energy", *SERVICES):
        b.add_component(f"{name}_mw", pyo.Var(steps, bounds=lambda _, k: (0.0, float(most_mw[k]))))
    return {name: b.component(f"{name}_mw") for name in ("energy", *SERVICES)}


def upward(offers: Mapping[str, Any], k: int) -> Any:
    """Regulation up, spinning and non-spinning reserve together: what may be called on top of the energy."""
    return offers["regulation_up"][k] + offers["spinning"][k] + offers["nonspinning"][k]


def services(offers: Mapping[str, Any], k: int) -> list[Any]:
    """The four services in the order of `calls.STATES`."""
    return [offers[name][k] for name in SERVICES]


def service_series(offers: Mapping[str, Any], steps: Sequence[int]) -> dict[str, Series]:
    return {name: [offers[name][k] for k in steps] for name in SERVICES}


def full(value: float, scene: Scene) -> FloatArray:
    return np.full(scene.n, float(value))
