"""The fleet of a market: built on its feeder, and stressed so that the stated share of steps violates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from decomp.messages import FloatArray
from problems.lec.data import LecData
from problems.lec.devices.heat_pump import HeatPump
from problems.lec.devices.pv import Pv
from problems.lec.settings import LecSettings
from problems.network.feeder import Network
from problems.synthetic_communities.build import stressed
from problems.synthetic_communities.draw import Fleet
from problems.synthetic_communities.settings import StressSettings
from problems.synthetic_communities.stress import least_factor

Rated = tuple[FloatArray, FloatArray, FloatArray]  # (T,) kW without photovoltaics, kW of photovoltaics, kvar


def rated(lec: LecSettings, data: LecData) -> Rated:
    """(T,) injections of a community whose stores and responses rest.

    It draws its load and the heat pumps' share of the heat load; its photovoltaics give what they can, without
    reactive power.
    """
    pv, heat, pumped = np.zeros(data.n), data.heat_load_kw.copy(), np.zeros(data.n)
    for device in lec.devices.values():
        if isinstance(device, Pv):
            pv = pv + device.p_kw(data)
        elif isinstance(device, HeatPump):
            power = np.minimum(device.power_kw, heat / device.cop)
            pumped, heat = pumped + power, heat - power * device.cop
    return -data.load_p_kw - pumped, pv, -data.load_q_kvar


def with_stress(
    fleet: Fleet,
    stress: StressSettings | None,
    network: Network,
    lecs: Mapping[str, LecSettings],
    data: Mapping[str, LecData],
    drawn: tuple[FloatArray, FloatArray],
) -> Fleet:
    """The fleet with the factor that makes its share of steps violate. Raises InputError where there is none.

    lecs, data  all communities of the market, the fleet's with photovoltaics at factor 1
    drawn       (T, n) kW and kvar of the network's other loads at factor 1
    """
    if stress is None:
        return fleet
    still_p, still_q = np.zeros_like(drawn[0]), np.zeros_like(drawn[1])
    scaled_p, scaled_q = np.zeros_like(drawn[0]), np.zeros_like(drawn[1])
    for name, lec in lecs.items():
        bus = network.bus(lec.bus)
        p, pv, q = rated(lec, data[name])
        still_p[:, bus] += p
        still_q[:, bus] += q
        side = scaled_p if stress.side == "high" and fleet.unit(name) else still_p
        side[:, bus] += pv
    if stress.side == "low":
        scaled_p, scaled_q = -drawn[0], -drawn[1]
    else:
        still_p, still_q = still_p - drawn[0], still_q - drawn[1]

    def injections(factor: float) -> tuple[FloatArray, FloatArray]:
        return still_p + factor * scaled_p, still_q + factor * scaled_q

    factor, _ = least_factor(network, injections, stress.share, stress.limit)
    return stressed(fleet, factor, 1.0) if stress.side == "low" else stressed(fleet, 1.0, factor)
