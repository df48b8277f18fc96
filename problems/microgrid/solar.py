"""Photovoltaics behind a converter. Paper 2, eqs. (16)-(18), (22)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.microgrid.capability import armature_disc
from problems.microgrid.converter import Converter
from problems.microgrid.unit import AlgebraicTerm, Positive


class Solar(Converter):
    """Table [solar.NAME].

    irradiance_std_wm2  r_std of (22), at which the panels give p_max_mw
    """

    irradiance_std_wm2: Positive

    def capability(self, b: pyo.Block, steps: Sequence[int], p_max_mw: FloatArray) -> list[AlgebraicTerm]:
        """|Q| + loss <= sqrt(S^2 - P^2). Paper 2, eq. (17), on both sides; nothing where it cannot bind."""
        rating = self.v_pu * self.rating_mva
        widest = max(abs(q) for q in self.q_limits_mvar)
        losses = self._most_loss_mw
        steps = [k for k in steps if np.hypot(float(p_max_mw[k]), widest + losses) > rating]
        if not steps:
            return []
        b.q_and_loss_mvar = pyo.Var(steps, bounds=(0.0, rating))

        @b.Constraint(steps, (1, -1))
        def reactive_power_and_loss(b: pyo.Block, k: int, side: int) -> object:
            return b.q_and_loss_mvar[k] >= side * b.q_mvar[k] + b.loss_mw[k]

        disc = armature_disc(self.rating_mva, self.v_pu)
        return disc.add(b, "capability", b.terminal_mw, b.q_and_loss_mvar, steps, p_max_mw)
