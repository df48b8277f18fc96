"""A problem small enough to know: units with quadratic cost share an hourly demand; the tests' case files use it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from decomp.coordinators import Exchange
from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, Key, Response, Status
from decomp.problem import Problem
from decomp.subproblem import Subproblem

FOLDER = Path(__file__).parent


class UnitTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    slope: float = Field(gt=0)
    intercept: float = 0.0
    breaks: bool = False
    writes: str = ""  # a file beside the run's own, with what result.json says at that moment
    links: str = ""  # while it is asked, links appear in the folder "out" that lead there


class MarketTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    demand: str
    steps: int = Field(ge=1)


class Unit(Subproblem):
    """slope/2 y^2 + intercept y in every hour."""

    abilities = frozenset({"bound", "evaluate", "penalty"})

    def __init__(self, table: UnitTable) -> None:
        self.table = table

    def cost(self, y):
        return float(np.sum(self.table.slope / 2 * y**2 + self.table.intercept * y))

    def solve(self, signal):
        if self.table.links and signal.id == 1:
            for name in ("result.json.unfinished", "voltages.csv", "figures"):
                (FOLDER / "out" / name).symlink_to(Path(self.table.links) / name)
        if self.table.breaks:
            return Response(signal.price, np.nan, status=Status.INFEASIBLE, message="its fuse has blown")
        rho = np.zeros_like(signal.price) if signal.penalty is None else signal.penalty
        pull = rho * (0.0 if signal.target is None else signal.target)
        y = (signal.price - self.table.intercept + pull) / (self.table.slope + rho)
        return Response(y, self.cost(y), None if rho.any() else self.cost(y) - float(signal.price @ y))

    def evaluate(self, y):
        return Response(np.asarray(y), self.cost(y))


class Market(Problem):
    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        market: MarketTable
        unit: dict[str, UnitTable]

    labels: ClassVar = {"price": "EUR"}

    def __init__(self, settings, folder: Path) -> None:
        self.settings = settings
        path = folder / settings.market.demand
        where = (str(path), "market", "demand")
        if not path.exists():
            raise InputError([Mistake(*where, "does not exist", "paths start at the case file's folder")])
        with path.open() as file:
            demand = np.array([float(row["demand"]) for row in csv.DictReader(file)])
        mistakes = []
        if len(demand) != settings.market.steps:
            text = f"has {len(demand)} rows for {settings.market.steps} steps"
            mistakes.append(Mistake(*where, text, "give one row a step"))
        mistakes += [Mistake(*where, f"row {i + 1} is nan", "fill it") for i in np.flatnonzero(np.isnan(demand))]
        if "nobody" in settings.unit:
            mistakes.append(Mistake("", "unit", "nobody", "is nobody's name", "choose another"))
        if mistakes:
            raise InputError(mistakes)
        T, wide = len(demand), np.full(len(demand), 100.0)
        entries = tuple(f"h{t}" for t in range(T))
        self.coordinator = Exchange(entries, demand, (-wide, wide))
        self.couplings = tuple(
            Coupling(name, entries, np.ones(T), np.arange(T), {Key(name): 1.0}) for name in settings.unit
        )

    def subproblem(self, key):
        return Unit(self.settings.unit[key.unit])

    def summary(self, result):
        return {"hours": len(self.coordinator.nodes)}

    def write(self, result, folder):
        files = [folder / unit.writes for unit in self.settings.unit.values() if unit.writes]
        files += [folder / "voltages.csv" for unit in self.settings.unit.values() if unit.links]
        for file in files:
            file.write_text((folder / "result.json").read_text())
        return files
