"""Coordinators for the classic forms: limits, balances, agreements, and models of one's own."""

from decomp.coordinators.consensus import Consensus
from decomp.coordinators.convex_cost import ConvexCost
from decomp.coordinators.from_block import BlockCoordinator, PyomoCoordinator, coordinator_unit
from decomp.coordinators.quadratic import Nobody, Quadratic
from decomp.coordinators.rows import AtLeast, Band, Capacity, Exchange, Rows

__all__ = [
    "AtLeast",
    "Band",
    "BlockCoordinator",
    "Capacity",
    "Consensus",
    "ConvexCost",
    "Exchange",
    "Nobody",
    "PyomoCoordinator",
    "Quadratic",
    "Rows",
    "coordinator_unit",
]
