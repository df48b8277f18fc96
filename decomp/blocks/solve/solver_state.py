"""Settings of a compiled block, and what it remembers between two solves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.solve.highs_simplex import Basis
from decomp.blocks.solve.known_points import KnownPoints
from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray, IntArray
from decomp.subproblem import Arrays


@dataclass(frozen=True)
class BlockSettings:
    """How a block is solved.

    tangents        "adaptive": added where a point violates them; "fixed": only those that touch where the convex terms
                    say. Fixed ones are faster and smaller, and their answers those of a coarser cost
    tangent_tol     a convex term may be this far below its function, in units of the cost, and its tangents where it is
                    a limit: points stay on the safe side by as much (see ConvexTerm.tolerance), 1e-7 at least
    tangent_rounds  most rounds of adding tangents within one solve; reaching it makes the answer FEASIBLE, not OPTIMAL
    tangents_per_term  so many are kept on average; beyond twice as many those idle for longest are thrown away
    mip_abs_gap     absolute gap of mixed-integer solves, in units of the cost
    mip_rel_gap     relative gap of mixed-integer solves
    mip_max_nodes   a mixed-integer solve ends after so many nodes, with its best point and dual bound: both valid and
                    repeatable (no clock is asked)
    milp            "fix": solve once, keep the integers, iterate on the continuous program, and look at the integers
                    again when an exact answer is asked; "each_round": decide the integers in every solve; "relax": no
                    integers at all, the block's problem is its linear relaxation
    time_limit_s    of one solver call; None = none. An answer cut short by the clock is not repeatable
    fresh_every     every k-th solve on a new solver object (0 = never); the answers are the same to the last bit
    """

    tangents: Literal["adaptive", "fixed"] = "adaptive"
    tangent_tol: float = 1e-5
    tangent_rounds: int = 60
    tangents_per_term: float = 12.0
    mip_abs_gap: float = 1e-6
    mip_rel_gap: float = 0.0
    mip_max_nodes: int = 10_000
    milp: Literal["fix", "each_round", "relax"] = "fix"
    time_limit_s: float | None = None
    fresh_every: int = 0

    def __post_init__(self) -> None:
        positive = ("tangent_tol", "tangent_rounds", "mip_max_nodes")
        natural = ("mip_abs_gap", "mip_rel_gap", "fresh_every", "tangents_per_term")
        wrong = [(name, "must be above 0") for name in positive if not getattr(self, name) > 0]
        wrong += [(name, "must not be negative") for name in natural if not getattr(self, name) >= 0]
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            wrong.append(("time_limit_s", "must be above 0, or None for no limit"))
        if self.milp not in ("fix", "each_round", "relax"):
            wrong.append(("milp", "must be 'fix', 'each_round' or 'relax'"))
        if self.tangents not in ("adaptive", "fixed"):
            wrong.append(("tangents", "must be 'adaptive' or 'fixed'"))
        if wrong:
            raise InputError(
                Mistake("BlockSettings", "block", name, f"{getattr(self, name)!r} {problem}") for name, problem in wrong
            )


@dataclass(frozen=True, eq=False)
class Initial:
    """Where offers are measured from, the answer at the initial price: raw offer (n_u,), point (n,) and its cost."""

    offer: FloatArray
    point: FloatArray
    cost: float


@dataclass(frozen=True, eq=False)
class WarmState:
    """All that a block's next answer depends on beside its data and the signal.

    pool of tangents in order, and for how many solves each has been idle; basis of the last continuous solve; values of
    the integers; the initial schedule; which
    entries the last signal called active (their frozen variables stay so in `evaluate`); the points returned so far.
    """

    pool: Pool
    idle: IntArray
    basis: Basis | None = None
    whole: FloatArray | None = None
    initial: Initial | None = None
    active: BoolArray | None = None
    points: KnownPoints | None = None

    def after(self, **changes: Any) -> WarmState:
        """The state with other values; quicker than `dataclasses.replace`, and asked several times a solve."""
        other = object.__new__(WarmState)
        other.__dict__.update(self.__dict__)
        other.__dict__.update(changes)
        return other

    def with_tangents(self, more: Pool) -> WarmState:
        """The state with more tangents at the end of its pool."""
        basis = None if self.basis is None else self.basis.with_tangents(len(more))
        idle = np.append(self.idle, np.zeros(len(more), np.int64))
        return replace(self, pool=self.pool.plus(more), idle=idle, basis=basis)

    def arrays(self) -> Arrays:
        """The state as plain arrays; what is absent has no entry."""
        out: dict[str, np.ndarray] = {
            "tangent_term": self.pool.term,
            "tangent_touch": self.pool.touch,
            "tangent_slope": self.pool.slope,
            "tangent_level": self.pool.level,
            "tangent_idle": self.idle,
        }
        if self.basis is not None:
            out["basis_columns"], out["basis_rows"] = self.basis.apart()
        if self.whole is not None:
            out["whole"] = self.whole
        if self.active is not None:
            out["active"] = self.active
        if self.initial is not None:
            out["initial_offer"], out["initial_point"] = self.initial.offer, self.initial.point
            out["initial_cost"] = np.array([self.initial.cost])
        if self.points is not None and len(self.points):
            out["points_offer"], out["points_cost"] = self.points.y, self.points.cost
        return out

    @classmethod
    def from_arrays(cls, arrays: Arrays, terms: Terms) -> WarmState:
        """The state written by `arrays`."""
        width = terms.column.shape[1]
        shape = (len(arrays["tangent_term"]), width)
        touch, slope = (np.asarray(arrays[f"tangent_{part}"], float).reshape(shape) for part in ("touch", "slope"))
        basis = Basis.of(arrays["basis_columns"], arrays["basis_rows"]) if "basis_rows" in arrays else None
        initial = None
        if "initial_point" in arrays:
            initial = Initial(arrays["initial_offer"], arrays["initial_point"], float(arrays["initial_cost"][0]))
        return cls(
            Pool(
                np.asarray(arrays["tangent_term"], np.int64),
                touch,
                slope,
                np.asarray(arrays["tangent_level"], float),
            ),
            np.asarray(arrays["tangent_idle"], np.int64),
            basis,
            arrays.get("whole"),
            initial,
            arrays.get("active"),
            KnownPoints(arrays["points_offer"], arrays["points_cost"]) if "points_cost" in arrays else None,
        )
