"""Heat pump: its heat appears in paper 1, eq. (13), its power in (11); it has no equation of its own there."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Positive, Size


class HeatPump(Device):
    """Settings: electric power and H = COP P."""

    power_kw: Size
    cop: Positive

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        return np.full(data.n, -self.power_kw), np.zeros(data.n)

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        b.power_kw = pyo.Var(data.steps, bounds=(0, self.power_kw))
        return Contribution(
            p_kw=[-b.power_kw[k] for k in data.steps],
            heat_kw=[self.cop * b.power_kw[k] for k in data.steps],
        )
