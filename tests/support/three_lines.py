"""A network of three lines, a few hours and two communities, for tests of the DSO."""

from __future__ import annotations

import numpy as np

from problems.network.feeder import Network

TIMES = ("2021-04-14T13:00+02:00", "2021-04-14T14:00+02:00", "2021-04-14T15:00+02:00")
T, N = len(TIMES), 4
NEUTRAL = 0.02
UNITS = {"LEC1": "b", "LEC2": "c"}


def three_lines() -> Network:
    """grid - a - b, a - c: c is the more sensitive end."""
    line = np.zeros(3)
    return Network(
        buses=("grid", "a", "b", "c"),
        from_bus=np.array([0, 1, 1]),
        to_bus=np.array([1, 2, 3]),
        r_pu=np.array([0.01, 0.01, 0.02]),
        x_pu=np.array([0.01, 0.01, 0.02]),
        g_pu=line,
        b_pu=line,
        ratio=np.ones(3),
        shift_rad=line,
        shunt_g_pu=np.zeros(N),
        shunt_b_pu=np.zeros(N),
        base_kva=1000.0,
        slack=0,
        slack_v_pu=1.0,
        v_min_pu=np.full(N, 0.95),
        v_max_pu=np.full(N, 1.05),
    )
