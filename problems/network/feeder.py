"""The feeder: buses and branches in per unit, and what draws power at its buses.

Per unit: power on base_kva (three-phase), voltage on the base_kv of each bus (line to line); a branch's impedance
refers to the base of its to bus, Z_base = 1000 base_kv^2 / base_kva in ohm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from decomp.messages import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Network:
    """A balanced network with one slack bus; every other bus takes a given power.

    buses          (n,) names
    from_bus, to_bus  (m,) bus numbers of each branch
    r_pu, x_pu     (m,) series impedance; g_pu, b_pu (m,) total shunt admittance, half at either end
    ratio, shift_rad  (m,) transformer ratio and phase shift at the from side (1 and 0 for a line)
    shunt_g_pu, shunt_b_pu  (n,) admittance to earth at each bus, b > 0 for a capacitor
    slack, slack_v_pu  number of the slack bus and the voltage it holds, angle 0
    v_min_pu, v_max_pu  (n,) voltage limits
    """

    buses: tuple[str, ...]
    from_bus: IntArray
    to_bus: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    g_pu: FloatArray
    b_pu: FloatArray
    ratio: FloatArray
    shift_rad: FloatArray
    shunt_g_pu: FloatArray
    shunt_b_pu: FloatArray
    base_kva: float
    slack: int
    slack_v_pu: float
    v_min_pu: FloatArray
    v_max_pu: FloatArray

    def __post_init__(self) -> None:
        n, m = len(self.buses), len(self.from_bus)
        for name in ("to_bus", "r_pu", "x_pu", "g_pu", "b_pu", "ratio", "shift_rad"):
            if np.shape(getattr(self, name)) != (m,):
                raise ValueError(f"{name} needs one value for each of the {m} branches")
        for name in ("shunt_g_pu", "shunt_b_pu", "v_min_pu", "v_max_pu"):
            if np.shape(getattr(self, name)) != (n,):
                raise ValueError(f"{name} needs one value for each of the {n} buses")

    def bus(self, name: str) -> int:
        """Number of a bus. Raises KeyError with the known names."""
        try:
            return self.buses.index(name)
        except ValueError:
            raise KeyError(f"no bus '{name}'; the network has {', '.join(self.buses[:40])}") from None

    def admittance(self) -> sparse.csc_matrix:
        """Ybus (n, n) in per unit.

        With t = ratio e^{j shift} at the from side, y = 1/(r + jx) and s = (g + jb)/2:
        Y_ff += (y + s)/|t|^2, Y_ft -= y/conj(t), Y_tf -= y/t, Y_tt += y + s.
        """
        n = len(self.buses)
        y = 1.0 / (self.r_pu + 1j * self.x_pu)
        half = 0.5 * (self.g_pu + 1j * self.b_pu)
        t = self.ratio * np.exp(1j * self.shift_rad)
        f, k, every = self.from_bus, self.to_bus, np.arange(n)
        values = [(y + half) / np.abs(t) ** 2, -y / np.conj(t), -y / t, y + half]
        values.append(self.shunt_g_pu + 1j * self.shunt_b_pu)
        rows, cols = np.concatenate([f, f, k, k, every]), np.concatenate([f, k, f, k, every])
        return sparse.coo_matrix((np.concatenate(values), (rows, cols)), shape=(n, n)).tocsc()


@dataclass(frozen=True)
class FeederLoad:
    """Power drawn at one bus; generation is a negative load.

    kind     "load", "pv", "wind", "generation" or "storage"
    p_kw, q_kvar  drawn in the source's own power flow
    profile  name of its series in the source's profiles, "" = none
    """

    bus: str
    name: str
    kind: str
    p_kw: float
    q_kvar: float
    profile: str = ""


@dataclass(frozen=True, eq=False)
class Feeder:
    """A network with what a source says beyond it.

    base_kv   (n,) base voltage of each bus
    loads     what draws power; the slack bus's own exchange is none of them
    joins     further names of a bus: buses that closed switches make one with it
    notes     what the source has that takes no part in its power flow, by kind (open lines, fixed tap changers)
    profiles  time (ISO text) and a column by profile, in per unit of p_kw and q_kvar: "NAME_p", "NAME_q"; None = none
    """

    network: Network
    base_kv: FloatArray
    loads: tuple[FeederLoad, ...] = ()
    source: str = ""
    joins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    profiles: pd.DataFrame | None = None

    def injections(self) -> tuple[FloatArray, FloatArray]:
        """(n,), (n,) p and q in per unit injected by all loads as the source has them."""
        p, q = np.zeros(len(self.network.buses)), np.zeros(len(self.network.buses))
        for load in self.loads:
            bus = self.network.bus(load.bus)
            p[bus] -= load.p_kw / self.network.base_kva
            q[bus] -= load.q_kvar / self.network.base_kva
        return p, q
