"""What has to be known of a result: where the model departs from the paper, and what its schedule or data break."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from decomp.messages import FloatArray
from problems.microgrid.data import MicrogridData
from problems.microgrid.unit import Approximation

if TYPE_CHECKING:
    from problems.microgrid.problem import Microgrid

MW = 1e-6  # powers below this are rounding

Series = Mapping[str, Mapping[str, FloatArray]]  # by scenario and "<unit>/<quantity>"


def approximations_table(microgrid: Microgrid, series: Series) -> pd.DataFrame:
    """One row for each unit and equation: how far the model is from it at the point found, and at most.

    Both are the greatest over the scenarios.
    """
    rows = []
    for name, unit in microgrid.settings.units.items():
        by_scenario: list[list[Approximation]] = []
        for scenario, found in series.items():
            own = {label.split("/", 1)[1]: x for label, x in found.items() if label.split("/", 1)[0] == name}
            scene = microgrid.data.scene(scenario)
            by_scenario.append(unit.approximations(scene, microgrid.settings.market.reactive_cost, own))
        for same in zip(*by_scenario, strict=True):
            first = same[0]
            at = (max(x.at_point for x in same), max(x.at_most for x in same))
            rows.append((name, first.equation, first.text, *at, first.measure))
    return pd.DataFrame(rows, columns=["unit", "equation", "instead", "at_point", "at_most", "measure"])


def charged_while_held_mw(storage: pd.DataFrame) -> FloatArray:
    """(rows of storage.csv,) MW charged while as many are discharged or held ready: what (59) forbids."""
    return np.asarray(np.minimum(storage["charge_mw"].to_numpy(float), storage["held_mw"].to_numpy(float)))


def of_result(microgrid: Microgrid, storage: pd.DataFrame) -> list[str]:
    """Sentences for the end of the run and for result.json; none where there is nothing to say."""
    return [*exclusive_remarks(microgrid, storage), *reduction_remarks(microgrid), *risk_remarks(microgrid)]


def risk_remarks(microgrid: Microgrid) -> list[str]:
    """w = 0: only the tail counts, and what the scenarios outside it do is whatever a solver comes to first."""
    risk, prob = microgrid.settings.risk, microgrid.data.prob
    said = []
    if risk.w == 0.0 and risk.delta > 0.0:
        outside = 1.0 - max(1.0 - risk.delta, float(prob.min()))
        said.append(
            f"risk.w = 0: only the worst {1.0 - risk.delta:.3g} of the probability counts. In the other scenarios, "
            f"up to {outside:.3g} of it, any schedule that earns no less than the value at risk is as good: profits "
            "and schedules there are arbitrary; a small w, 1e-3, settles them"
        )
    if microgrid.settings.market.stage == "per_scenario" and 0.0 < risk.w < 1.0:
        said.append(
            'market.stage = "per_scenario": every scenario earns the most it can whatever w and delta are; they change '
            "what is reported, not what is bid"
        )
    return said


def exclusive_remarks(microgrid: Microgrid, storage: pd.DataFrame) -> list[str]:
    """Stores that charge while they discharge or hold reserve, which (59) forbids."""
    said = []
    for name, store in microgrid.settings.storage.items():
        rows = storage[storage.unit == name]
        both = charged_while_held_mw(rows)
        if store.exclusive == "binary" or not np.any(both > MW):
            continue
        steps = rows[both > MW].time.nunique()
        said.append(
            f"{name} charges up to {np.max(both):.3g} MW while it discharges or holds reserve, in {steps} of "
            f"{rows.time.nunique()} steps: (59) forbids that. Objective and bound are those of the store without (59); "
            f'storage.{name}.exclusive = "binary" keeps it'
        )
    return said


def reduction_remarks(microgrid: Microgrid) -> list[str]:
    """Units whose energy the kept scenarios carry wrongly, beyond the share that the case allows."""
    data: MicrogridData = microgrid.data
    allowed = microgrid.settings.scenarios.energy_error_share
    return [
        f"the {len(data.names)} scenarios carry {abs(error):.0%} {'more' if error > 0 else 'less'} energy of {name} "
        f'than the sample they stand for (allowed: {allowed:.0%}); scenarios.moments = "kept" gives them its mean and '
        "deviation"
        for name, error in data.energy_errors().items()
        if abs(error) > allowed
    ]
