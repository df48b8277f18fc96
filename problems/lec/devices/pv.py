"""Photovoltaics whose inverter can give and take reactive power. Paper 1, eqs. (21)-(23)."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Positive, Share, Size
from problems.lec.opportunity import opportunity


class Pv(Device):
    """Settings of one PV plant.

    peak_kwp       power at pv_pu = 1, AC side
    inverter_kva   S; active power above it is clipped
    q_share        xi^PV: the part of S that reactive power may use
    """

    peak_kwp: Size
    inverter_kva: Positive
    q_share: Share = 1.0

    def p_kw(self, data: LecData) -> FloatArray:
        """(T,) P = min(peak_kwp pv_pu, S): known beforehand, not decided."""
        return np.minimum(self.peak_kwp * data.pv_pu, self.inverter_kva)

    def q_limit_kvar(self, data: LecData) -> FloatArray:
        """(T,) largest |Q|: xi S by (21), P by (22) on both sides, sqrt(S^2 - P^2) by (23). Exact, as P is known."""
        p = self.p_kw(data)
        circle = np.sqrt(np.maximum(self.inverter_kva**2 - p**2, 0.0))
        return np.minimum(np.minimum(self.q_share * self.inverter_kva, p), circle)

    def q_capability_kvar(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        limit = self.q_limit_kvar(data)
        return -limit, limit

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        return self.p_kw(data), self.p_kw(data)

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        limit = data.derived(b, "q_limit_kvar", self.q_limit_kvar)
        able = data.able(self.q_limit_kvar)
        b.q_kvar = pyo.Var(able, bounds=lambda _, k: (-limit[k], limit[k]))  # (21)-(23)
        p = data.derived(b, "known_p_kw", self.p_kw)
        cost, terms = opportunity(b, data, p, b.q_kvar, limit, able)
        given = set(able)
        q = [b.q_kvar[k] if k in given else 0.0 for k in data.steps]
        return Contribution(p_kw=p, q_kvar=q, cost_sek=cost, convex=terms)
