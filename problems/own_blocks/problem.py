"""Coordinators by name and blocks by module, without a Problem class of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from decomp.case.registry import NotFound, Registry, did_you_mean
from decomp.coordinator import Coordinator
from decomp.coordinators import BlockCoordinator, ConvexCost, Quadratic, coordinator_unit
from decomp.errors import InputError, Mistake, TatonnementError, told
from decomp.messages import Coupling, Key, QuadraticModel
from decomp.problem import Problem
from decomp.subproblem import Subproblem
from problems.own_blocks import settings as tables
from problems.own_blocks.settings import UnitSettings

GROUP = "tatonnement.coordinators"
SUPPLIED = ("scenario", "number")  # arguments of a block that the case gives by itself
FROM_MODULES = ("model", "convex", "block")  # arguments of coordinators that are written "module:name"


class OwnBlocks(Problem):
    """What the tables [coordinator] and [unit.NAME] describe."""

    Settings = tables.Settings

    def __init__(self, settings: tables.Settings, folder: Path) -> None:
        self.folders = [folder, Path.cwd()]
        self.mistakes: list[Mistake] = []
        self.coordinator, more, own = self._coordinator(dict(settings.coordinator), folder)
        self.more: Mapping[Key, Subproblem] = more
        self.makers: dict[Key, Callable[[], Any]] = {}
        couplings: list[Coupling] = []
        for name, table in settings.unit.items():
            couplings += self._unit(name, table)
        if self.mistakes:
            raise InputError(self.mistakes)
        self.couplings = tuple(couplings) if own is None else (*couplings, own)

    def subproblem(self, key: Key) -> Subproblem:
        if key in self.more:
            return self.more[key]
        try:
            block = self.makers[key]()
        except TatonnementError:
            raise
        except Exception as error:  # whatever the user's own function raises
            raise InputError([self._mistake(f"unit.{key.unit}", "block", f"{key}: raised {told(error)}")]) from error
        if not isinstance(block, Subproblem):
            problem = f"returned {type(block).__name__}, which is no Subproblem"
            raise InputError([self._mistake(f"unit.{key.unit}", "block", problem, "see docs/python.md")])
        return block

    # -- the coordinator -----------------------------------------------------------------------------------------------

    def _coordinator(
        self, table: dict[str, Any], folder: Path
    ) -> tuple[Coordinator | None, Mapping[Key, Subproblem], Coupling | None]:
        kind = table.pop("kind", None)
        known = {entry.name: entry.value for entry in entry_points(group=GROUP)}
        if not isinstance(kind, str):
            self._note("coordinator", "kind", "is missing", f"one of {', '.join(known)}, or 'module:name'")
            return None, {}, None
        found = self._find(Registry("coordinator", known, _no_coordinator), kind, "coordinator", "kind", known)
        as_unit = table.pop("as_unit", False)
        if found is None:
            return None, {}, None
        arguments = {name: self._argument(found, name, value, folder) for name, value in table.items()}
        if not self._fits(found, arguments, "coordinator") or self.mistakes:
            return None, {}, None
        try:
            coordinator = found(**arguments)
        except InputError as error:
            self.mistakes += [self._mistake("coordinator", m.key, m.problem, m.remedy) for m in error.mistakes]
            return None, {}, None
        except (TypeError, ValueError) as error:
            self._note("coordinator", "kind", f"'{kind}' refuses its arguments: {told(error)}")
            return None, {}, None
        if not as_unit:
            return coordinator, {}, None
        if not isinstance(coordinator, BlockCoordinator):
            self._note("coordinator", "as_unit", f"'{kind}' is no block", "leave it out, or use kind = 'pyomo'")
            return coordinator, {}, None
        return coordinator_unit(coordinator)

    def _argument(self, cls: Any, name: str, value: Any, folder: Path) -> Any:
        """A value of the file as the coordinator takes it: things by module, matrices from files."""
        if name in FROM_MODULES and isinstance(value, str):
            thing = self._find(Registry(name, {}, lambda _: ""), value, "coordinator", name, {})
            if thing is None:
                return None
            wanted = {"convex": ConvexCost, "block": Subproblem, "model": QuadraticModel}[name]
            pyomo = name == "model" and not (isinstance(cls, type) and issubclass(cls, Quadratic))
            if pyomo or isinstance(thing, wanted):
                return thing
            try:
                return thing()
            except Exception as error:  # whatever the user's own function raises
                return self._note("coordinator", name, f"'{value}' raised {told(error)}")
        if name == "A" and isinstance(value, str):
            return self._matrix(folder / value)
        return value

    def _matrix(self, file: Path) -> Any:
        """A matrix as scipy.sparse.save_npz writes it, or a CSV of numbers without a head."""
        try:
            if file.suffix == ".npz":
                return sparse.load_npz(file)
            return np.loadtxt(file, delimiter=",", ndmin=2)
        except (OSError, ValueError) as error:
            text = "give a file of scipy.sparse.save_npz, or a CSV with one line of numbers for each row"
            return self._note("coordinator", "A", f"{file} cannot be read: {error}", text)

    # -- units ---------------------------------------------------------------------------------------------------------

    def _unit(self, name: str, table: UnitSettings) -> list[Coupling]:
        section = f"unit.{name}"
        maker = self._find(Registry("block", {}, _no_block), table.block, section, "block", {})
        if maker is not None:
            self._fits(maker, table.arguments | self._supplied(maker, "", 0), f"{section}.arguments")
        if self.coordinator is None and self.mistakes:
            return []  # its nodes are not known
        nodes = () if self.coordinator is None else self.coordinator.nodes
        at = self._rows(section, table, nodes)
        entries = table.entries or table.nodes or list(nodes)
        if not entries:
            self._note(section, "entries", "is missing", "name what the scenarios of the unit agree on")
        if len(entries) != len(at):
            self._note(section, "entries", f"has {len(entries)} names for {len(at)} nodes", "one for each node")
        if maker is None or self.mistakes:
            return []
        weight = np.full(len(at), table.weight)
        if self.coordinator is not None and len(nodes):
            weight = np.where(at >= 0, np.asarray(self.coordinator.weight, float)[at], table.weight)
        units = [name] if table.count is None else [f"{name}{i}" for i in range(1, table.count + 1)]
        couplings = []
        for number, unit in enumerate(units, 1):
            prob = {Key(unit, s): p for s, p in (table.scenarios or {"0": 1.0}).items()}
            for key in prob:
                arguments = table.arguments | self._supplied(maker, key.scenario, number)
                self.makers[key] = partial(maker, **arguments)
            couplings.append(Coupling(unit, tuple(entries), weight, at, prob, tuple(table.report)))
        return couplings

    def _rows(self, section: str, table: UnitSettings, nodes: Sequence[str]) -> np.ndarray:
        if table.nodes is None:
            if table.entries is not None and not nodes:
                return np.full(len(table.entries), -1)
            return np.arange(len(nodes))
        row = {name: i for i, name in enumerate(nodes)} | {"": -1}
        unknown = [name for name in table.nodes if name not in row]
        for name in unknown[:3]:
            known = f"known: {', '.join(nodes[:10])}"
            self._note(section, "nodes", f"there is no node '{name}'", f"{did_you_mean(name, nodes)}{known}")
        return np.array([row.get(name, -1) for name in table.nodes], np.int64)

    @staticmethod
    def _supplied(maker: Any, scenario: str, number: int) -> dict[str, Any]:
        known = _signature(maker)
        return {k: v for k, v in zip(SUPPLIED, (scenario, number), strict=True) if k in known}

    # -- what is wrong -------------------------------------------------------------------------------------------------

    def _fits(self, function: Any, arguments: Mapping[str, Any], section: str) -> bool:
        """Does it take these arguments, and miss none?"""
        known = _parameters(function)
        if known is None:
            return True
        before = len(self.mistakes)
        for name in arguments:
            if name not in known:
                self._note(section, name, "unknown key", f"{did_you_mean(name, known)}known: {', '.join(known)}")
        for name, required in known.items():
            if required and name not in arguments:
                self._note(section, name, "is missing", f"add {name} = ...")
        return len(self.mistakes) == before

    def _find(self, registry: Registry, kind: str, section: str, key: str, known: Mapping[str, str]) -> Any:
        try:
            return registry.find(known.get(kind, kind), () if kind in known else self.folders)
        except NotFound as error:
            return self._note(section, key, error.problem, error.remedy)

    def _note(self, section: str, key: str, problem: str, remedy: str = "") -> None:
        self.mistakes.append(self._mistake(section, key, problem, remedy))

    @staticmethod
    def _mistake(section: str, key: str, problem: str, remedy: str = "") -> Mistake:
        return Mistake("", section, key, problem, remedy)


def _signature(function: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _parameters(function: Any) -> dict[str, bool] | None:
    """Names of a function's arguments, and whether each is required; None where it takes any."""
    parameters = _signature(function).values()
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None if parameters else {}
    return {p.name: p.default is p.empty for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _no_coordinator(thing: Any) -> str:
    return "" if callable(thing) else "it must be a class of Coordinator, or a function that returns one"


def _no_block(thing: Any) -> str:
    return "" if callable(thing) else "it must be a class of Subproblem, or a function that returns one"
