"""Price-coordinated decomposition over MPI: all that a program of one's own needs, under one name.

Names are imported when they are first used, so that `import tatonnement` loads no solver.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

__version__ = version("tatonnement")

_HOME = {
    "decomp.api": ("evaluate", "iterate", "load_result", "run", "solve_case", "StoredResult"),
    "decomp.blocks.cvxpy_block": ("CvxpyBlock", "CvxpyModel"),
    "decomp.blocks.function_block": ("FunctionBlock",),
    "decomp.blocks.linopy_block": ("LinopyBlock",),
    "decomp.blocks.program_block": ("ProgramBlock",),
    "decomp.blocks.self_check": ("check_block",),
    "decomp.blocks.compile.program": ("Program",),
    "decomp.blocks.pyomo_block": ("BlockSettings", "ConvexTerm", "Initial", "PyomoSubproblem"),
    "decomp.case.config": ("Case", "load", "from_tables"),
    "decomp.case.evaluation_figures": ("Evaluation",),
    "decomp.coordinator": ("Coordinator",),
    "decomp.coordinators": (
        "AtLeast", "Band", "BlockCoordinator", "Capacity", "Consensus", "ConvexCost", "Exchange", "Nobody",
        "PyomoCoordinator", "Quadratic", "Rows", "coordinator_unit",
    ),
    "decomp.errors": ("InputError", "Mistake", "RefusedError", "TatonnementError"),
    "decomp.layout": ("Answers", "Layout", "Signals"),
    "decomp.messages": (
        "Check", "Coupling", "Key", "QuadraticModel", "Query", "Request", "Response", "Signal", "Status",
    ),
    "decomp.parallel.asynchronous": ("AsynchronousSettings",),
    "decomp.parallel.ranks": ("Ranks", "Serial", "find_ranks"),
    "decomp.problem": ("Problem",),
    "decomp.rules": (
        "ADMM", "APP", "ATC", "RULES", "Auto", "AveragedAnswers", "AveragedPrices", "BarzilaiBorwein", "Bundle",
        "Candidate", "Damped", "DantzigWolfe", "DeflectedSubgradient", "DualAscent", "InteriorPoint", "Nesterov",
        "Newton", "Polyak", "ProgressiveHedging", "Projected", "Setup", "State", "UpdateRule", "Volume",
    ),
    "decomp.run.certificate": ("Certificate", "CertificateSettings"),
    "decomp.run.options": ("Execution", "Limits", "Output", "Start"),
    "decomp.run.result": ("Result", "Row"),
    "decomp.run.stopping": (
        "Divergence", "Gap", "Iterate", "RelativeResidual", "Residual", "RunStatus", "Secure", "Stop",
    ),
    "decomp.steps": ("STEPS", "Step", "constant", "exponential", "inverse", "inverse_sqrt"),
    "decomp.storage.checkpoint": ("CheckpointSettings",),
    "decomp.subproblem": ("Subproblem",),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

if TYPE_CHECKING:
    from decomp import rules, steps
    from decomp.api import StoredResult, evaluate, iterate, load_result, run, solve_case
    from decomp.blocks.compile.program import Program
    from decomp.blocks.cvxpy_block import CvxpyBlock, CvxpyModel
    from decomp.blocks.function_block import FunctionBlock
    from decomp.blocks.linopy_block import LinopyBlock
    from decomp.blocks.program_block import ProgramBlock
    from decomp.blocks.pyomo_block import BlockSettings, ConvexTerm, Initial, PyomoSubproblem
    from decomp.blocks.self_check import check_block
    from decomp.case.config import Case, from_tables, load
    from decomp.case.evaluation_figures import Evaluation
    from decomp.coordinator import Coordinator
    from decomp.coordinators import (
        AtLeast,
        Band,
        BlockCoordinator,
        Capacity,
        Consensus,
        ConvexCost,
        Exchange,
        Nobody,
        PyomoCoordinator,
        Quadratic,
        Rows,
        coordinator_unit,
    )
    from decomp.errors import InputError, Mistake, RefusedError, TatonnementError
    from decomp.layout import Answers, Layout, Signals
    from decomp.messages import Check, Coupling, Key, QuadraticModel, Query, Request, Response, Signal, Status
    from decomp.parallel.asynchronous import AsynchronousSettings
    from decomp.parallel.ranks import Ranks, Serial, find_ranks
    from decomp.problem import Problem
    from decomp.rules import (
        ADMM,
        APP,
        ATC,
        RULES,
        Auto,
        AveragedAnswers,
        AveragedPrices,
        BarzilaiBorwein,
        Bundle,
        Candidate,
        Damped,
        DantzigWolfe,
        DeflectedSubgradient,
        DualAscent,
        InteriorPoint,
        Nesterov,
        Newton,
        Polyak,
        ProgressiveHedging,
        Projected,
        Setup,
        State,
        UpdateRule,
        Volume,
    )
    from decomp.run.certificate import Certificate, CertificateSettings
    from decomp.run.options import Execution, Limits, Output, Start
    from decomp.run.result import Result, Row
    from decomp.run.stopping import (
        Divergence,
        Gap,
        Iterate,
        RelativeResidual,
        Residual,
        RunStatus,
        Secure,
        Stop,
    )
    from decomp.steps import STEPS, Step, constant, exponential, inverse, inverse_sqrt
    from decomp.storage.checkpoint import CheckpointSettings
    from decomp.subproblem import Subproblem

__all__ = ["__version__", *sorted(_MODULE)]


def __getattr__(name: str) -> Any:
    if name in ("rules", "steps"):
        return importlib.import_module(f"decomp.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module 'tatonnement' has no '{name}'")
    value = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
