"""A module written for mpi-sppy as a problem: its scenarios agree along its tree, or its regions on common values."""

from __future__ import annotations

import csv
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.bundling import bundled
from decomp.case.registry import NotFound, Registry
from decomp.coordinator import Coordinator
from decomp.coordinators import Consensus
from decomp.errors import InputError, Mistake, TatonnementError, told
from decomp.messages import Coupling, Key
from decomp.problem import Problem
from decomp.run.result import Result
from decomp.subproblem import Subproblem
from problems.mpisppy.scenario import MpiSppyScenario, NoScenario, Outline, outline
from problems.mpisppy.settings import MpiSppySettings

SOLUTION = "solution.csv"
UNIT = "mpisppy"
MASS_TOLERANCE = 1e-9


class MpiSppy(Problem):
    """A module written for mpi-sppy, unchanged, a block for each scenario.

    min sum_s pi_s f_s(x_s), the variables of a tree node the same in all scenarios that share it.

    A module with `consensus_vars_creator` has regions instead: min sum_r f_r(x_r), variables of the same name equal.
    """

    Settings = MpiSppySettings
    labels: ClassVar[Mapping[str, str]] = {"worst": "spread"}

    def __init__(self, settings: MpiSppySettings, folder: Path, make: Any = None, names: Any = None) -> None:
        self.settings, self.folder = settings, folder
        self.creator: Callable[..., Any] = self._function("scenario_creator", required=True)
        self.read_files = _source(self.creator)
        self.names: tuple[str, ...] = tuple(names or self._names())
        self.make: Callable[[str], pyo.ConcreteModel] = make or self._made
        self.coordinator: Coordinator | None = None
        self.maximise = False
        regions = None if make is not None else self._function("consensus_vars_creator")
        self._decides: dict[str, tuple[str, ...]] = {}
        if regions is None:
            self._scenarios()
        else:
            self._regions(regions)

    def subproblem(self, key: Key) -> Subproblem:
        if self._decides:
            return self._block(key.unit, self._decides[key.unit])
        return self.bundling.block(key, lambda one: self._block(one.scenario, None))

    def sample(self, scenarios: int, seed: int) -> MpiSppy:
        """The module's own fresh scenarios, as `sample_tree_scen_creator` draws them below the first stage."""
        return self._drawn([scenarios, *[1] * (self.stages - 2)], seed, 1)

    def sample_tree(self, branching: Sequence[int], seed: int) -> MpiSppy:
        """A tree of the module's own fresh scenarios, all of it in one block."""
        if len(branching) != self.stages - 1:
            text = f"branching has {len(branching)} numbers for {self.stages} stages"
            raise TatonnementError(f"{text}; give {self.stages - 1}: the nodes below each node, by stage")
        return self._drawn(list(branching), seed, math.prod(branching))

    def _drawn(self, branching: list[int], seed: int, bundle: int) -> MpiSppy:
        draw = self._function("sample_tree_scen_creator")
        if draw is None or self._decides:
            raise TatonnementError(
                f"module {self.settings.mpisppy.module} cannot draw scenarios: it has no sample_tree_scen_creator"
            )
        given = {name: value for name, value in self._kwargs.items() if name != "num_scens"}
        if "branching_factors" in given:
            given["branching_factors"] = branching
        count = math.prod(branching)
        names = self._function("scenario_names_creator", required=True)(count)
        table = self.settings.mpisppy.model_copy(update={"count": count, "bundle": bundle})
        return MpiSppy(
            self.settings.model_copy(update={"mpisppy": table}), self.folder,
            lambda name: draw(name, 1, branching, seed, **given), names,
        )  # fmt: skip

    def unbundled(self) -> MpiSppy:
        """The same with every scenario a block of its own."""
        table = self.settings.mpisppy.model_copy(update={"bundle": 1})
        return MpiSppy(self.settings.model_copy(update={"mpisppy": table}), self.folder)

    def summary(self, result: Result) -> Mapping[str, Any]:
        """The module, its size, and the objective as the module has it where it is to be maximised."""
        found: dict[str, Any] = {"module": self.settings.mpisppy.module, "scenarios": len(self.names)}
        if self.maximise:
            found["maximised_objective"] = None if result.objective is None else -result.objective
        return {"mpisppy": found}

    def write(self, result: Result, folder: Path) -> Sequence[Path]:
        """solution.csv: every variable of every scenario at the final point."""
        if not result.details:
            return ()
        series = result.details if self._decides else self.bundling.details(result.details)
        with (folder / SOLUTION).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("scenario", "variable", "value"))
            for key in sorted(series):
                who = key.unit if self._decides else key.scenario
                for name, values in series[key].items():
                    writer.writerows((who, name, repr(x)) for x in values.tolist())
        return [folder / SOLUTION]

    # -- the module ----------------------------------------------------------------------------------------------------

    def _function(self, name: str, *, required: bool = False) -> Any:
        """A function of the module; None where it has none. Raises InputError where one that must be there is not."""
        module = self.settings.mpisppy.module
        registry = Registry("function", {}, lambda f: "" if callable(f) else "it must be a function")
        try:
            return registry.find(f"{module}:{name}", [self.folder, Path.cwd()])
        except NotFound as error:
            if not required:
                return None
            raise InputError([self._mistake("module", error.problem, error.remedy)]) from error

    def _names(self) -> Sequence[str]:
        table = self.settings.mpisppy
        if isinstance(table.names, list):
            return table.names
        if table.names is not None:
            start = table.start or 0
            return [table.names.replace("{}", str(i)) for i in range(start, start + table.count)]
        creator = self._function("scenario_names_creator")
        if creator is None:
            remedy = 'add names = "Scenario{}", with start = 1 where they count from 1'
            raise InputError([self._mistake("names", "is missing: the module has no scenario_names_creator", remedy)])
        try:
            found = creator(table.count) if table.start is None else creator(table.count, start=table.start)
        except Exception as error:  # whatever the user's function raises
            raise InputError([self._mistake("count", f"scenario_names_creator raised {told(error)}")]) from error
        return [str(name) for name in found]

    @property
    def _kwargs(self) -> dict[str, Any]:
        given = dict(self.settings.mpisppy.kwargs)
        try:
            takes = inspect.signature(self.creator).parameters
        except (TypeError, ValueError):
            return given
        if "num_scens" in takes and "num_scens" not in given:
            given["num_scens"] = self.settings.mpisppy.count
        return given

    def _made(self, name: str) -> pyo.ConcreteModel:
        return self.creator(name, **self._kwargs)

    def _model(self, name: str) -> pyo.ConcreteModel:
        """A scenario's model. Raises InputError with what the user's function raised."""
        try:
            model = self.make(name)
        except Exception as error:  # whatever the user's function raises
            remedy = "see [mpisppy] kwargs for its arguments"
            raise InputError([self._mistake("module", f"scenario {name} raised {told(error)}", remedy)]) from error
        if not isinstance(model, pyo.ConcreteModel):
            raise InputError([self._mistake("module", f"scenario {name} is {type(model).__name__}, no Pyomo model")])
        return model

    def _outline(self, name: str) -> Outline:
        try:
            return outline(self._model(name))
        except NoScenario as error:
            raise InputError([self._mistake("module", f"scenario {name}: {error.problem}", error.remedy)]) from error

    def _block(self, name: str, decides: tuple[str, ...] | None) -> MpiSppyScenario:
        s = self.settings.solver
        chosen = None if decides is None else lambda model: [_variable(model, one) for one in decides]
        return MpiSppyScenario(
            name, self._model, decides=chosen, solver=s.name, solver_options=s.options, settings=s.block()
        )

    # -- scenarios -----------------------------------------------------------------------------------------------------

    def _scenarios(self) -> None:
        first = self._outline(self.names[0])
        alone = len(first.nodes) == 1 and first.prob is None  # all scenarios share the one node, with one probability
        found = [first] * len(self.names) if alone else [first, *map(self._outline, self.names[1:])]
        self.maximise, self.stages = first.maximise, len(first.nodes) + 1
        self._alike(found)
        prob = self._probabilities(found)
        keys = [Key(UNIT, name) for name in self.names]
        numbers: dict[tuple[int, str], int] = {}
        for one in found:
            for stage, node in enumerate(one.nodes):
                numbers.setdefault((stage, node), len(numbers))
        sharing = {
            key: np.array(
                [numbers[k, node] for k, node in enumerate(one.nodes) for _ in one.entries[k]], np.int64
            )
            for key, one in zip(keys, found, strict=True)
        }  # fmt: skip
        entries = tuple(name for stage in first.entries for name in stage)
        coupling = Coupling(
            UNIT, entries, np.ones(len(entries)), np.full(len(entries), -1), dict(zip(keys, prob, strict=True)),
            sharing=sharing,
        )  # fmt: skip
        self.bundling = bundled([coupling], self.settings.mpisppy.bundle)
        self.couplings = self.bundling.couplings

    def _alike(self, found: Sequence[Outline]) -> None:
        """Every scenario decides as much at each stage, in the same sense, and has one root in common."""
        first, mistakes = found[0], []
        for name, one in zip(self.names, found, strict=True):
            if [len(e) for e in one.entries] != [len(e) for e in first.entries]:
                text = f"scenario {name} decides {[len(e) for e in one.entries]} variables by stage, "
                text += f"{self.names[0]} {[len(e) for e in first.entries]}"
                mistakes.append(self._mistake("module", text, "all scenarios of a node decide the same variables"))
            if one.maximise != first.maximise:
                mistakes.append(self._mistake("module", f"scenario {name} has another sense than {self.names[0]}"))
            if one.nodes[:1] != first.nodes[:1]:
                text = f"scenario {name} begins at node {one.nodes[0]}, {self.names[0]} at {first.nodes[0]}"
                mistakes.append(self._mistake("module", text, "all scenarios share the root"))
        if mistakes:
            raise InputError(mistakes)

    def _probabilities(self, found: Sequence[Outline]) -> list[float]:
        given = [one.prob for one in found if one.prob is not None]
        if not given:
            return [1.0 / len(found)] * len(found)
        if len(given) < len(found):
            text = f"{len(given)} of {len(found)} scenarios have a probability"
            raise InputError([self._mistake("module", text, "give all of them one, or none")])
        total = float(np.sum(given))
        if abs(total - 1.0) > MASS_TOLERANCE or min(given) <= 0:
            text = f"the probabilities of the {len(found)} scenarios sum to {total:.12g}, the least is {min(given):g}"
            raise InputError([self._mistake("count", text, "take all scenarios, each with a probability above 0")])
        return [p / total for p in given]

    # -- regions -------------------------------------------------------------------------------------------------------

    def _regions(self, creator: Callable[..., Any]) -> None:
        """One unit for each region, and a node for each of its common variables; those of one name are equal."""
        table = self.settings.mpisppy
        try:
            given = creator(table.count)
        except Exception as error:  # whatever the user's function raises
            remedy = "regions with scenarios of their own (stochastic ADMM) cannot be read"
            text = f"consensus_vars_creator raised {told(error)}"
            raise InputError([self._mistake("count", text, remedy)]) from error
        nodes: list[str] = []
        low: list[float] = []
        high: list[float] = []
        group: list[int] = []
        couplings: list[Coupling] = []
        numbers: dict[str, int] = {}
        for name in self.names:
            own = tuple(one if isinstance(one, str) else one.name for one in given.get(name, ()))
            if not own:
                text = f"region {name} has no common variable"
                raise InputError([self._mistake("module", text, "it would be a problem of its own: leave it out")])
            model = self._model(name)
            for one in own:
                v = _variable(model, one)
                if v is None or v.lb is None or v.ub is None:
                    text = f"region {name}: {one} " + ("is no variable" if v is None else "has no finite bounds")
                    raise InputError(
                        [self._mistake("module", text, "common values need limits, and a name that is there")]
                    )
                low.append(float(v.lb))
                high.append(float(v.ub))
                group.append(numbers.setdefault(one, len(numbers)))
            rows = np.arange(len(nodes), len(nodes) + len(own))
            nodes += [f"{name} {one}" for one in own]
            couplings.append(Coupling(name, own, np.ones(len(own)), rows, {Key(name): 1.0}))
            self._decides[name] = own
        self.stages, self.couplings = 1, tuple(couplings)
        self.coordinator = Consensus(nodes, (np.array(low), np.array(high)), group_of=group)

    @staticmethod
    def _mistake(key: str, problem: str, remedy: str = "") -> Mistake:
        return Mistake("", "mpisppy", key, problem, remedy)


def _source(function: Callable[..., Any]) -> tuple[Path, ...]:
    """The file the function stands in, where there is one."""
    try:
        return (Path(inspect.getfile(function)),)
    except (TypeError, OSError):
        return ()


def _variable(model: pyo.ConcreteModel, name: str) -> Any:
    return model.find_component(name)
