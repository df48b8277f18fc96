"""What the paper says would happen under other data: the same microgrid solved again with them, as one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from problems.microgrid.extensive import solve_extensive
from problems.microgrid.folder import QUANTITIES, expected
from problems.microgrid.results import bids_table, storage_table
from problems.microgrid.settings import MicrogridSettings

if TYPE_CHECKING:
    from problems.microgrid.problem import Microgrid

MOST_SCENARIOS = 10  # beyond, the one model takes longer than the claims are worth
NO_DISCHARGE_LIMIT = "no discharge limit"
HALF_CALLED = "half the call probabilities"
HALF = 0.5


def solve_variants(microgrid: Microgrid) -> pd.DataFrame:
    """Columns variant, unit, hour, the expected bids and discharge_mw. Raises TatonnementError."""
    given = microgrid.settings
    changed = {NO_DISCHARGE_LIMIT: without_discharge_limit(given), HALF_CALLED: with_calls(given, HALF)}
    found = []
    for name, settings in changed.items():
        other = type(microgrid)(settings, microgrid.folder, microgrid.data)
        solved = solve_extensive(other)
        bids = expected(bids_table(other, solved.details))[["unit", "hour", *QUANTITIES]]
        stores = expected(storage_table(other, solved.details))[["unit", "hour", "discharge_mw"]]
        found.append(bids.merge(stores, on=["unit", "hour"], how="left").fillna(0.0).assign(variant=name))
    return pd.concat(found, ignore_index=True)[["variant", "unit", "hour", *QUANTITIES, "discharge_mw"]]


def without_discharge_limit(settings: MicrogridSettings) -> MicrogridSettings:
    """The stores may give all they hold in one step."""
    dt = settings.time.step_min / 60.0
    free = {
        name: store.model_copy(update={"discharge_mw": store.capacity_mwh / dt})
        for name, store in settings.storage.items()
    }
    return settings.model_copy(update={"storage": free})


def with_calls(settings: MicrogridSettings, factor: float) -> MicrogridSettings:
    """All services are called so many times as often."""
    call = settings.market.call
    fewer = call.model_copy(update={name: factor * value for name, value in call.model_dump().items()})
    return settings.model_copy(update={"market": settings.market.model_copy(update={"call": fewer})})
