"""A solved pandapower net as a Network; pandapower is imported only when this is called."""

from __future__ import annotations

from typing import Any

import numpy as np

from decomp.messages import FloatArray
from problems.network.feeder import Network


def from_pandapower(net: Any, v_min_pu: float = 0.9, v_max_pu: float = 1.1) -> tuple[Network, FloatArray, FloatArray]:
    """(network, p_pu (n,), q_pu (n,)) of a balanced net on which `pandapower.runpp` has converged.

    Generators keep the power they have in that solution (their Q is no longer regulated). Three-winding transformers
    are the star that pandapower makes of them. Raises ValueError where there is not exactly one slack bus, or where a
    branch has unequal ends.
    """
    from pandapower.pypower import idx_brch, idx_bus  # type: ignore[import-untyped]

    ppc = net._ppc["internal"]
    bus, branch = np.real(ppc["bus"]), ppc["branch"]
    slack = np.flatnonzero(bus[:, idx_bus.BUS_TYPE] == 3)
    if len(slack) != 1:
        raise ValueError(f"the net has {len(slack)} slack buses; one external grid and no other is needed")
    unequal = [idx_brch.BR_R_ASYM, idx_brch.BR_X_ASYM, idx_brch.BR_G_ASYM, idx_brch.BR_B_ASYM]
    if np.any(np.abs(branch[:, unequal]) > 0):
        raise ValueError("a branch has different impedances at its two ends; such branches cannot be represented")
    v = bus[:, idx_bus.VM] * np.exp(1j * np.deg2rad(bus[:, idx_bus.VA]))
    ratio = np.real(branch[:, idx_brch.TAP])
    base_mva = float(ppc["baseMVA"])
    network = Network(
        buses=tuple(str(int(i)) for i in bus[:, idx_bus.BUS_I]),
        from_bus=np.real(branch[:, idx_brch.F_BUS]).astype(np.int64),
        to_bus=np.real(branch[:, idx_brch.T_BUS]).astype(np.int64),
        r_pu=np.real(branch[:, idx_brch.BR_R]),
        x_pu=np.real(branch[:, idx_brch.BR_X]),
        g_pu=np.real(branch[:, idx_brch.BR_G]),
        b_pu=np.real(branch[:, idx_brch.BR_B]),
        ratio=np.where(ratio == 0, 1.0, ratio),
        shift_rad=np.deg2rad(np.real(branch[:, idx_brch.SHIFT])),
        shunt_g_pu=bus[:, idx_bus.GS] / base_mva,
        shunt_b_pu=bus[:, idx_bus.BS] / base_mva,
        base_kva=1000.0 * base_mva,
        slack=int(slack[0]),
        slack_v_pu=float(np.abs(v[slack[0]])),
        v_min_pu=np.full(len(bus), v_min_pu),
        v_max_pu=np.full(len(bus), v_max_pu),
    )
    s = v * np.conj(np.asarray(ppc["Ybus"] @ v))
    return network, s.real.copy(), s.imag.copy()
