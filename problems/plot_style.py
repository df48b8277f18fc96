"""How the figures look: 3.5 in wide (a journal's column), colours of Okabe and Ito, doubled by line styles."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

COLUMN_IN = 3.5
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#9a9a9a"
MARKERS = "os^vDX"
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.color": "#d0d0d0",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 300,
}


def hours_of_day(axis: Axes, hour: pd.Series) -> None:
    """Axis and ticks of a horizon whose steps are shown by these hours."""
    axis.set(xlabel="Hour of the day", xlim=(hour.min() - 0.6, hour.max() + 0.6))
    axis.xaxis.set_major_locator(MultipleLocator(4 if hour.max() - hour.min() > 12 else 1))
