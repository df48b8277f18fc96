"""Series that stay open in a community's model, so that one model serves all its scenarios."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.lec.data import SCENARIO_SERIES, LecData

WorkedOut = Callable[[LecData], FloatArray]


class OpenData:
    """LecData to the eyes of a device, but the series are mutable parameters of the model.

    What a device works out of the series (`derived`) is a parameter, too; `functions` says by parameter how, so that it
    can be worked out for other data of the same community.
    """

    def __init__(self, model: pyo.ConcreteModel, data: LecData) -> None:
        self.data = data
        self.functions: dict[str, WorkedOut] = {}
        model.data = pyo.Block()
        for name in SCENARIO_SERIES:
            setattr(self, name, self._parameter(model.data, name, attrgetter(name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def derived(self, b: pyo.Block, name: str, function: WorkedOut) -> list[Any]:
        """(T,) function(data), as parameters of the block."""
        return list(self._parameter(b, name, function))

    def able(self, limit: WorkedOut) -> list[int]:
        """The steps with sun, whatever the limit is in one scenario or another."""
        return able_steps(self.data)

    def _parameter(self, b: pyo.Block, name: str, function: WorkedOut) -> Any:
        start = dict(enumerate(function(self.data).tolist()))
        b.add_component(name, parameter := pyo.Param(self.data.steps, mutable=True, within=pyo.Reals, initialize=start))
        self.functions[parameter.name] = function
        series = np.empty(self.data.n, object)
        series[:] = [parameter[k] for k in self.data.steps]
        return series


def able_steps(data: LecData) -> list[int]:
    """The steps in which a PV can give anything: the part of the series that shapes the model."""
    return [k for k in data.steps if data.pv_pu[k] > 0]
