"""Figures of a microgrid's result folder, drawn from its files alone: paper 2, Figs. 7-23."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from problems.market.figures import STYLE
from problems.microgrid.figures_bids import hour_of_all, operating_cost, reactive_shares, storage, unit_bids
from problems.microgrid.figures_curves import bidding_curves, risk_frontier
from problems.microgrid.figures_inputs import prices, weather
from problems.microgrid.folder import WHOLE, MicrogridFolder, read
from problems.microgrid.paper_case import roles

DEAREST = 15  # the hour of Fig. 21, of the paper's microgrid


def draw(folder: Path) -> tuple[Path, ...]:
    """Draw every figure of a result folder into folder/figures; returns the files.

    Bidding curves and the risk frontier are drawn where the folder has their CSV files.
    """
    out = folder / "figures"
    out.mkdir(exist_ok=True)
    found = MicrogridFolder.read(folder)
    papers = roles(found.units_table, found.hours)
    with mpl.rc_context(STYLE):
        figures: dict[str, Figure] = {
            "weather": weather(found.moments, found.inputs, papers=papers is not None),
            "prices": prices(found.market, papers=papers is not None),
            "reactive_power": reactive_shares(found),
            "unit_bids": unit_bids(found),
        }
        if found.of_kind("storage"):
            figures["storage"] = storage(found)
        if found.of_kind("mt"):
            figures["operating_cost"] = operating_cost(found)
        dearest = float(found.hours[int(found.market.energy_usd_per_mwh.to_numpy(float).argmax())])
        hour = float(DEAREST) if papers is not None else dearest
        figures[f"hour_{hour:g}".replace(".", "_")] = hour_of_all(found, hour)
        if found.curves is not None:
            named = {} if papers is None else {(WHOLE, 21): "22", (papers.mt1, 13): "23"}
            figures["bidding_curves"] = bidding_curves(found.curves, named)
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
