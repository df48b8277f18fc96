"""Consumption of the microgrid itself, met by its units or bought. Not in paper 2, whose microgrid only sells."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.microgrid.data import SERVICES, Scene
from problems.microgrid.unit import Contribution, Setting, Unit, full
from problems.time_series import SeriesColumn


class Load(Unit):
    """Table [load.NAME]: power that has to be there in every step.

    consumption  MW by step: {file, column}; the same in all scenarios
    """

    consumption: SeriesColumn

    def most_mw(self, scene: Scene, name: str) -> FloatArray:
        return full(0.0, scene)

    def add(self, b: pyo.Block, scene: Scene, setting: Setting, name: str) -> Contribution:
        nothing = [0.0] * scene.n
        drawn = np.asarray(scene.load_mw[name], np.float64).tolist()
        return Contribution(
            energy_mw=nothing,
            service_mw=dict.fromkeys(SERVICES, nothing),
            cost_usd=nothing,
            drawn_mw=drawn,
            states={("consumption", "mw"): drawn},
        )
