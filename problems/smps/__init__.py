"""Stochastic programs in the SMPS format: read, written, and solved by price coordination over their scenarios."""

from problems.smps.problem import Smps

__all__ = ["Smps"]
