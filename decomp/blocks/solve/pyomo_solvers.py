"""Pyomo's solvers by name, and what a model holds that one of them cannot represent.

Pyomo runs any command of a solver's name that it finds on PATH, and some solvers leave integrality out without a word:
a solver is taken only where it is registered with Pyomo, and what it cannot represent is refused.
"""

from __future__ import annotations

import importlib
import math
from functools import cache
from typing import Any

import pyomo.environ as pyo
from pyomo.common.errors import PyomoException

from decomp.blocks.compile.compiler import UNDERSTOOD, foreign
from decomp.blocks.solve.highs_simplex import faulty_version
from decomp.errors import Mistake

AMPL = "asl"  # "asl:bonmin": the command bonmin, which reads and writes AMPL's files
ORDERED_SETS = ("sos1", "sos2")


@cache
def find_solver(name: str) -> Any | None:
    """A solver by its name; 'module:name', or a package pyomo_<name>, is imported first. None = not usable."""
    module, _, plain = name.rpartition(":")
    try:
        if module == AMPL:
            solver = pyo.SolverFactory(AMPL, executable=plain)
        else:
            if module or plain not in pyo.SolverFactory:
                importlib.import_module(module or f"pyomo_{plain}")
            if plain not in pyo.SolverFactory:
                return None
            solver = pyo.SolverFactory(plain)
        return solver if solver.available(exception_flag=False) else None
    except (ImportError, PyomoException, ValueError, RuntimeError):
        return None


def unusable(name: str) -> str:
    """Why blocks cannot use this solver, in words; "" = they can."""
    if find_solver(name) is not None:
        return ""
    return (
        f"Pyomo has no usable solver '{name}'; install it, or give 'module:name' where a module registers it with "
        f"Pyomo, or '{AMPL}:command' for a command that reads AMPL's files"
    )


@cache
def reports_bounds(name: str) -> bool:
    """Does it solve mixed-integer programs, and tell what it has proven? Tried once, on a program of two variables."""
    solver = find_solver(name)
    able = getattr(solver, "has_capability", None)
    if solver is None or (able is not None and not able("integer")) or (runs_highs(name) and faulty_version()):
        return False
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(domain=pyo.Integers, bounds=(0, 5)), pyo.Var(bounds=(0, 1))
    m.row = pyo.Constraint(expr=m.x + 0.25 * m.y >= 0.75)
    m.cost = pyo.Objective(expr=2 * m.x + m.y + 3)  # 5 at x = 1; its relaxation 4.5
    try:
        result = solver.solve(m, load_solutions=False, options={"threads": 1} if runs_highs(name) else {})
    except Exception:  # a solver that cannot even do this raises whatever it likes
        return False
    found = lower_bound_of(result)
    return found is not None and abs(found - 5.0) < 1e-4


def lower_bound_of(result: Any) -> float | None:
    """What a solver says it has proven of a minimum; None where it says nothing."""
    try:
        found = float(result.problem.lower_bound)
    except (AttributeError, TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def runs_highs(name: str) -> bool:
    """Is it one of Pyomo's ways to HiGHS (highs, appsi_highs)? All HiGHS objects of a process must agree on threads."""
    return "highs" in name


def refused(model: pyo.ConcreteModel, solver: Any, solver_name: str, name: str) -> list[Mistake]:
    """What the model holds that the solver cannot represent."""
    able = getattr(solver, "has_capability", None)
    understood = set(UNDERSTOOD)
    if able is not None and all(able(kind) for kind in ORDERED_SETS):
        understood.add("SOSConstraint")
    mistakes = foreign(model, name, understood)
    whole = [v for v in model.component_data_objects(pyo.Var, active=True) if not (v.fixed or v.is_continuous())]
    if whole and able is not None and not able("integer"):
        problem = f"it must be whole, and {solver_name} has no integers"
        mistakes.append(Mistake(name, "model", whole[0].name, problem, "take a solver for mixed-integer programs"))
    if whole and runs_highs(solver_name) and faulty_version():
        mistakes.append(Mistake(name, "model", whole[0].name, "it must be whole", faulty_version()))
    return mistakes
