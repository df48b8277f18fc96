"""`tatonnement run` from a checkout: mpiexec -n N python mpi_run.py CASE.toml --out DIR."""

from __future__ import annotations

import sys

from decomp.command import launch, main

__all__ = ["main"]

if __name__ == "__main__":
    launch(sys.argv[1:])
