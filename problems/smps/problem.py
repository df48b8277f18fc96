"""A stochastic program in SMPS files as a problem: a block for each scenario, which agree along the scenario tree."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from decomp.blocks.bundling import bundled, nodes_of
from decomp.blocks.program_block import ProgramBlock, bundled_program
from decomp.blocks.solve.compiled_backend import refuse_integers, shared_of
from decomp.messages import Coupling, FloatArray, Key
from decomp.problem import Problem
from decomp.run.result import Result
from decomp.subproblem import Subproblem
from problems.smps.files import SmpsFiles, read_smps
from problems.smps.model import StochasticProgram, stochastic_program
from problems.smps.scenarios import Scenarios, all_scenarios, sampled
from problems.smps.settings import SmpsSettings

SOLUTION = "solution.csv"
UNIT = "smps"


class Smps(Problem):
    """A stochastic program in SMPS files, two or more stages, a block for each scenario.

    min sum_s pi_s c_s'x_s over the scenarios of the files [smps] names.
    entries of the coupling: the columns of all stages but the last; scenarios agree on them where they share their node
    """

    Settings = SmpsSettings
    labels: ClassVar[Mapping[str, str]] = {"worst": "spread"}
    coordinator = None

    def __init__(self, settings: SmpsSettings, folder: Path, files: SmpsFiles | None = None) -> None:
        self.settings, self.folder, table = settings, folder, settings.smps
        self.files = files or read_smps(table.file, table.time, table.stochastic, folder=folder, form=table.format)
        self.read_files = self.files.paths
        stochastic, children = self.files.stochastic, table.children
        assert table.seed is not None or not children
        scenarios = sampled(stochastic, children, int(table.seed or 0)) if children else all_scenarios(stochastic)
        self._own(scenarios)

    def _own(self, scenarios: Scenarios) -> None:
        relax = self.settings.solver.integers == "relax"
        self.block_settings = self.settings.solver.block()
        self.program: StochasticProgram = stochastic_program(self.files.elements, scenarios, relax=relax)
        refuse_integers(self.program.template.program, self.files.core.name or "core file")
        p = self.program
        self.keys = {Key(UNIT, name): s for s, name in enumerate(scenarios.names)}
        stage = p.stages.column[p.entries]
        sharing = {key: scenarios.node[s, stage] for key, s in self.keys.items()}
        coupling = Coupling(
            UNIT, tuple(p.core.columns[j] for j in p.entries), np.ones(len(p.entries)), np.full(len(p.entries), -1),
            dict(zip(self.keys, scenarios.prob.tolist(), strict=True)), sharing=sharing,
        )  # fmt: skip
        self.bundling = bundled([coupling], self.settings.smps.bundle)
        self.couplings = self.bundling.couplings
        self._shared = shared_of(p.template, p.like, self.block_settings)

    def subproblem(self, key: Key) -> Subproblem:
        members, p = self.bundling.members[key], self.program
        if self.bundling.largest[UNIT] == 1:
            s = self.keys[members[0]]
            if not np.isfinite(p.theta[s]).all():  # a bound that only this scenario lacks: a program of its own
                return ProgramBlock(p.program(s), self.block_settings)
            return ProgramBlock(p.theta[s], self.block_settings, shared=self._shared)
        before = self.bundling.before[UNIT]
        prob = np.array([before.prob[s] for s in members])
        program, parts = bundled_program(
            {s.scenario: p.program(self.keys[s]) for s in members}, prob / prob.sum(), nodes_of(before, members),
            self.bundling.kept[UNIT],
        )  # fmt: skip
        return ProgramBlock(program, self.block_settings, parts={f"{name}/x": at for name, at in parts.items()})

    def sample(self, scenarios: int, seed: int) -> Smps:
        """The same program with scenarios drawn anew; as many below the first stage, one below each later node."""
        children = [scenarios, *[1] * (len(self.program.stages.periods) - 2)]
        table = self.settings.smps.model_copy(update={"scenarios": children, "seed": seed, "bundle": 1})
        return Smps(self.settings.model_copy(update={"smps": table}), self.folder, self.files)

    def sample_tree(self, branching: Sequence[int], seed: int) -> Smps:
        """The same program with a tree drawn anew, all of it in one block."""
        more = {"scenarios": list(branching), "seed": seed, "bundle": math.prod(branching)}
        table = self.settings.smps.model_copy(update=more)
        return Smps(self.settings.model_copy(update={"smps": table}), self.folder, self.files)

    def unbundled(self) -> Smps:
        """The same with every scenario a block of its own."""
        table = self.settings.smps.model_copy(update={"bundle": 1})
        return Smps(self.settings.model_copy(update={"smps": table}), self.folder, self.files)

    def summary(self, result: Result) -> Mapping[str, Any]:
        """The program's size, and the objective as the file has it where it is to be maximised."""
        p = self.program
        found: dict[str, Any] = {
            "smps": {
                "name": p.core.name, "stages": len(p.stages.periods), "scenarios": len(p.scenarios.names),
                "columns": len(p.core.columns), "rows": len(p.core.rows), "integer_columns": int(p.core.integer.sum()),
            }
        }  # fmt: skip
        if p.core.maximise:
            found["smps"]["maximised_objective"] = None if result.objective is None else -result.objective
        return found

    def write(self, result: Result, folder: Path) -> Sequence[Path]:
        """solution.csv: every column of every scenario at the final point, with its period."""
        if not result.details:
            return ()
        p = self.program
        with (folder / SOLUTION).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("scenario", "probability", "period", "column", "value"))
            for key, x in self._points(result):
                prob = float(p.scenarios.prob[self.keys[key]])
                for j, value in enumerate(x.tolist()):
                    period = p.stages.periods[p.stages.column[j]]
                    writer.writerow((key.scenario, repr(prob), period, p.core.columns[j], repr(value)))
        return [folder / SOLUTION]

    def _points(self, result: Result) -> Iterable[tuple[Key, FloatArray]]:
        series = self.bundling.details(result.details)
        for key in sorted(self.keys):
            if "x" in series.get(key, {}):
                yield key, np.asarray(series[key]["x"], float)
