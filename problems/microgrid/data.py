"""What a microgrid knows before it bids: prices, what its units could generate, and how probable that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from decomp.messages import FloatArray
from problems.microgrid.input_settings import MARKETS as SERVICES
from problems.scenarios.scenario_set import Moments
from problems.time_series import TimeAxis

if TYPE_CHECKING:
    from problems.microgrid.settings import MarketSettings

WHOLE = "MG"  # what the microgrid as a whole is called among its units
PRODUCTS = ("energy", *SERVICES, "reactive")
UNIT_OF = {**dict.fromkeys(("energy", *SERVICES), "mw"), "reactive": "mvar"}


@dataclass(frozen=True, eq=False)
class MicrogridData:
    """S scenarios of T steps.

    axis                     of the T steps
    names, prob              (S,) of the scenarios
    energy_usd_per_mwh       (S, T)
    contract_usd_per_mwh     by service (T,) or (S, T): price o-gamma of a MW held ready for an hour
    called_usd_per_mwh       by service (S, T): price gamma_as of the energy when called
    reactive_usd_per_mvarh   (T,) availability price gamma_0
    reactive_required_mvar   (T,) contract Q_req
    wind_speed_ms, irradiance_wm2                    (S, T)
    wind_forecast_ms, irradiance_forecast_wm2        (T,) what the scenarios were drawn around
    available_mw             by wind or solar unit (S, T): most that it could generate
    sample                   moments of the large sample the scenarios stand for, of weather and of the power of each
                             unit (available_<unit>_mw); None where they are given
    call_probability         by service (T,): over those of the case file, which are of every step
    market_limit_mw          by product (T,): most that the grid takes, over those of the case file
    load_mw                  by load unit (T,): its own consumption
    """

    axis: TimeAxis
    names: tuple[str, ...]
    prob: FloatArray
    energy_usd_per_mwh: FloatArray
    contract_usd_per_mwh: Mapping[str, FloatArray]
    called_usd_per_mwh: Mapping[str, FloatArray]
    reactive_usd_per_mvarh: FloatArray
    reactive_required_mvar: FloatArray
    wind_speed_ms: FloatArray
    irradiance_wm2: FloatArray
    wind_forecast_ms: FloatArray
    irradiance_forecast_wm2: FloatArray
    available_mw: Mapping[str, FloatArray]
    sample: Moments | None = None
    call_probability: Mapping[str, FloatArray] = field(default_factory=dict)
    market_limit_mw: Mapping[str, FloatArray] = field(default_factory=dict)
    load_mw: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def prices_differ(self) -> bool:
        """Some price is another in another scenario."""
        every = (self.energy_usd_per_mwh, *self.contract_usd_per_mwh.values(), *self.called_usd_per_mwh.values())
        return any(np.ndim(x) == 2 and np.any(x != x[0]) for x in every)

    def expected_contract(self, service: str) -> FloatArray:
        """(T,) expected contract price of a service."""
        return np.asarray(self.prob @ np.broadcast_to(self.contract_usd_per_mwh[service], self.wind_speed_ms.shape))

    def energy_errors(self) -> dict[str, float]:
        """By wind or solar unit: how much more energy the scenarios carry than the sample, as a share of it."""
        if self.sample is None:
            return {}
        out = {}
        for name, power in self.available_mw.items():
            full = float(np.sum(self.sample.mean.get(f"available_{name}_mw", np.zeros(1))))
            out[name] = float(np.sum(self.prob @ power)) / full - 1.0 if full > 0 else 0.0
        return out

    def scene(self, scenario: str) -> Scene:
        """One scenario on its own. Raises ValueError for a name that is none."""
        s = self.names.index(scenario)
        shape = self.energy_usd_per_mwh.shape
        return Scene(
            dt_h=self.axis.dt_h,
            energy_usd_per_mwh=self.energy_usd_per_mwh[s],
            contract_usd_per_mwh={n: np.broadcast_to(x, shape)[s] for n, x in self.contract_usd_per_mwh.items()},
            called_usd_per_mwh={name: price[s] for name, price in self.called_usd_per_mwh.items()},
            reactive_usd_per_mvarh=self.reactive_usd_per_mvarh,
            reactive_required_mvar=self.reactive_required_mvar,
            available_mw={name: power[s] for name, power in self.available_mw.items()},
            call_probability=self.call_probability,
            market_limit_mw=self.market_limit_mw,
            load_mw=self.load_mw,
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """One scenario: the series of `MicrogridData`, each (T,)."""

    dt_h: float
    energy_usd_per_mwh: FloatArray
    contract_usd_per_mwh: Mapping[str, FloatArray]
    called_usd_per_mwh: Mapping[str, FloatArray]
    reactive_usd_per_mvarh: FloatArray
    reactive_required_mvar: FloatArray
    available_mw: Mapping[str, FloatArray]
    call_probability: Mapping[str, FloatArray] = field(default_factory=dict)
    market_limit_mw: Mapping[str, FloatArray] = field(default_factory=dict)
    load_mw: Mapping[str, FloatArray] = field(default_factory=dict)

    def limit_mw(self, market: MarketSettings, product: str) -> FloatArray | None:
        """(T,) most that the grid takes of a product, None where it takes all. Paper 2, eqs. (48)-(52)."""
        flat = getattr(market.limit, f"{product}_mw")
        hourly = self.market_limit_mw.get(product)
        return hourly if hourly is not None else None if flat is None else np.full(self.n, float(flat))

    @property
    def n(self) -> int:
        return len(self.energy_usd_per_mwh)

    @property
    def steps(self) -> range:
        return range(self.n)
