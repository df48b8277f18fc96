"""Figures of a microgrid's result folder, drawn from its files alone: paper 2, Figs. 7-23."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from problems.market.figures import STYLE
from problems.microgrid.figures_bids import hour_of_all, operating_cost, reactive_shares, storage, unit_bids
from problems.microgrid.figures_curves import bidding_curves, risk_frontier
from problems.microgrid.figures_inputs import prices, weather
from problems.microgrid.folder import MicrogridFolder, read

DEAREST = 15  # the hour of Fig. 21


def draw(folder: Path) -> tuple[Path, ...]:
    """Draw every figure of a result folder into folder/figures; returns the files.

    Bidding curves and the risk frontier are drawn where the folder has their CSV files.
    """
    out = folder / "figures"
    out.mkdir(exist_ok=True)
    found = MicrogridFolder.read(folder)
    with mpl.rc_context(STYLE):
        figures: dict[str, Figure] = {
            "weather": weather(found.moments, found.inputs),
            "prices": prices(found.market),
            "reactive_power": reactive_shares(found),
            "unit_bids": unit_bids(found),
            "storage": storage(found),
        }
        if any(unit.startswith("MT") for unit in found.units):
            figures["operating_cost"] = operating_cost(found)
        if DEAREST in found.hours:
            figures[f"hour_{DEAREST}"] = hour_of_all(found, DEAREST)
        if found.curves is not None:
            figures["bidding_curves"] = bidding_curves(found.curves)
        if (folder / "risk_frontier.csv").exists():
            figures["risk_frontier"] = risk_frontier(read(folder / "risk_frontier.csv"))
        paths = []
        for name, figure in figures.items():
            paths.append(out / f"{name}.png")
            figure.savefig(paths[-1])
    return tuple(paths)


def draw_frontier(folder: Path) -> Path:
    """Draw figures/risk_frontier.png from risk_frontier.csv alone."""
    path = folder / "figures" / "risk_frontier.png"
    path.parent.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        risk_frontier(read(folder / "risk_frontier.csv")).savefig(path)
    return path
