"""Backends by name: the compiled one, those of other packages, and any Pyomo solver."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from decomp.blocks.solve.any_pyomo_solver import AnyPyomoSolver
from decomp.blocks.solve.compiled_backend import CompiledBackend
from decomp.blocks.solve.interface import Backend

COMPILED = "highs"  # linear and mixed-integer programs by HiGHS, quadratic ones by PIQP
GROUP = "tatonnement.solvers"


@cache
def find_backend(name: str) -> Backend:
    """The backend a block names: an entry point of the group `tatonnement.solvers` is a function without arguments that
    returns one; what no package gives is left to Pyomo."""
    if name == COMPILED:
        return CompiledBackend()
    for entry in entry_points(group=GROUP, name=name):
        backend: Backend = entry.load()()
        return backend
    return AnyPyomoSolver(name)
