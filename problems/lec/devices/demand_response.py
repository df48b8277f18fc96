"""Load that may be curtailed and is caught up later. Paper 1, eqs. (29)-(31)."""

from __future__ import annotations

import pyomo.environ as pyo

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.device import Contribution, Device, Size, before


class DemandResponse(Device):
    """Settings, relative to the community's load P^L.

    energy_kwh_per_kw       xi^DR: energy that may be outstanding, per kW of load
    power_kw_per_kwh        kappa^DR: power per energy of (30)
    """

    energy_kwh_per_kw: Size
    power_kw_per_kwh: Size

    def p_capability_kw(self, data: LecData) -> tuple[FloatArray, FloatArray]:
        power = self.power_kw_per_kwh * self.energy_kwh_per_kw * data.load_p_kw
        return -power, power

    def add(self, b: pyo.Block, data: LecData) -> Contribution:
        """Outstanding energy E[k] = E[k-1] + P dt, P > 0 curtailed, 0 <= E <= xi P^L, |P| <= kappa xi P^L.

        E = 0 before the first and after the last step: what was curtailed is caught up within the horizon.
        """
        energy = self.energy_kwh_per_kw * data.load_p_kw
        power = self.power_kw_per_kwh * energy
        b.curtailed_kw = pyo.Var(data.steps, bounds=lambda _, k: (-power[k], power[k]))  # (31)
        b.outstanding_kwh = pyo.Var(data.steps, bounds=lambda _, k: (0, energy[k]))  # (30)

        @b.Constraint(data.steps)
        def outstanding_energy(b: pyo.Block, k: int) -> object:  # (29), with dt
            return b.outstanding_kwh[k] == before(b.outstanding_kwh, k, 0.0) + b.curtailed_kw[k] * data.dt_h

        @b.Constraint()
        def caught_up_at_the_end(b: pyo.Block) -> object:
            return b.outstanding_kwh[data.n - 1] <= 0.0

        return Contribution(
            p_kw=[b.curtailed_kw[k] for k in data.steps],
            states={("outstanding", "kwh"): [b.outstanding_kwh[k] for k in data.steps]},
        )
