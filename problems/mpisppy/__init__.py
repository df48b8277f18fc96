"""Modules written for mpi-sppy, unchanged: their scenarios as blocks."""

from problems.mpisppy.problem import MpiSppy

__all__ = ["MpiSppy"]
