"""A device that is not of this project."""

from __future__ import annotations

import pyomo.environ as pyo

from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Size


class Windmill(Device):
    """A device of a user's own."""

    power_kw: Size

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        b.used_kw = pyo.Var(data.steps, bounds=(0, self.power_kw))
        return Contribution(p_kw=[b.used_kw[k] for k in data.steps])
