"""Is a microgrid the one of paper 2, and which of its units is which: by their sizes in Tables 1 to 4, not by names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from decomp.messages import FloatArray

# kind -> column of units.csv -> what the paper's units have, rising
TABLES: dict[str, dict[str, tuple[float, ...]]] = {
    "mt": {"p_min_mw": (0.2, 0.4), "p_max_mw": (1.0, 2.0)},  # Table 3
    "solar": {"p_max_mw": (2.0,)},  # Table 1
    "wind": {"p_max_mw": (1.0,)},  # Table 2
    "storage": {"capacity_mwh": (6.0,)},  # Table 4
    "demand_response": {"p_max_mw": ()},
    "load": {"p_max_mw": ()},
}


@dataclass(frozen=True)
class Roles:
    """The paper's units under the names that the case gives them."""

    mt1: str
    mt2: str
    pv: str
    wt: str
    ess: str


def roles(units: pd.DataFrame, hours: FloatArray) -> Roles | None:
    """The units of paper 2 in units.csv, or None: other units, other sizes, or another day than its 24 hours."""
    if not np.array_equal(hours, np.arange(1.0, 25.0)):
        return None
    named = {}
    for kind, sizes in TABLES.items():
        rows = units[units.kind == kind]
        for column, wanted in sizes.items():
            found = np.sort(rows[column].to_numpy(float)) if len(rows) else np.zeros(0)
            if len(found) != len(wanted) or not np.allclose(found, wanted):
                return None
        if len(rows):
            named[kind] = list(rows.sort_values(next(iter(sizes)))["unit"])
    mt1, mt2 = named["mt"]
    return Roles(mt1, mt2, named["solar"][0], named["wind"][0], named["storage"][0])
