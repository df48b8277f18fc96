"""What travels between the blocks and the coordinator.

Signs, once and for all
    y > 0       what a unit offers (reactive power: injected into the grid, raises the voltage)
    price       paid to the block per unit of y and of weight; a block minimises f(x) - <price, y>
    <a, b>      = sum_i weight_i a_i b_i, with weight = dt (h) for hourly entries and 1 for others
    R = Z - Y   requested minus offered: the price rises where more is requested than offered
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Matrix: TypeAlias = FloatArray | sparse.spmatrix | sparse.sparray  # large ones are sparse


class Key(NamedTuple):
    """Name of a block. Sorted keys fix the order of every sum."""

    unit: str
    scenario: str = "0"

    def __str__(self) -> str:
        return f"{self.unit}/{self.scenario}"


@dataclass(frozen=True, eq=False)
class Coupling:
    """How one unit takes part: its coupling entries and its scenarios.

    Arguments
        unit     name of the unit
        entries  names of the n_u coupling entries, equal for all its scenarios
        weight   (n_u,) weight of each entry in the inner product: dt in h for hourly entries, else 1
        node     (n_u,) row of the coordinator's node the entry feeds; -1 = only agrees over the scenarios
        prob     probability of each of the unit's blocks; they sum to 1
        report   names of what the unit tells the coordinator without a price (net P at the PCC)
        sharing  (n_u,) for each block: number of the scenario-tree node in which it decides each entry. Blocks agree on
                 an entry only where their numbers are the same. None = on every entry all of them agree
        scale    (n_u,) reference price of one unit of an entry without a node, what `Coordinator.scale` is for node
                 rows; nan = not known, then rules estimate it from the first answers. None = no entry's is known
        level    (n_u,) level alpha of the entries that are a value-at-risk, with `scale` the weight of their tail
                 (problems.risk); nan for the others. None = no entry is one
    """

    unit: str
    entries: tuple[str, ...]
    weight: FloatArray
    node: IntArray
    prob: Mapping[Key, float]
    report: tuple[str, ...] = ()
    sharing: Mapping[Key, IntArray] | None = None
    scale: FloatArray | None = None
    level: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.entries)
        weight = np.asarray(self.weight, float)
        if weight.shape != (n,) or np.shape(self.node) != (n,):
            raise ValueError(f"unit {self.unit}: weight and node need one value for each of the {n} entries")
        if not np.all(weight > 0):
            raise ValueError(f"unit {self.unit}: weights must be positive")
        total = sum(self.prob.values())
        if not self.prob or abs(total - 1.0) > 1e-9 or min(self.prob.values()) <= 0:
            raise ValueError(f"unit {self.unit}: probabilities must be positive and sum to 1, they sum to {total!r}")
        if any(key.unit != self.unit for key in self.prob):
            raise ValueError(f"unit {self.unit}: a key of another unit is among its probabilities")
        if self.scale is not None and (np.shape(self.scale) != (n,) or np.any(np.asarray(self.scale) <= 0)):
            raise ValueError(f"unit {self.unit}: scale needs one positive value, or nan, for each of the {n} entries")
        if self.level is not None and np.shape(self.level) != (n,):
            raise ValueError(f"unit {self.unit}: level needs one value, or nan, for each of the {n} entries")
        if self.sharing is not None:
            self._check_sharing(self.sharing, n)

    def _check_sharing(self, sharing: Mapping[Key, IntArray], n: int) -> None:
        if set(sharing) != set(self.prob):
            apart = ", ".join(str(key) for key in sorted(set(sharing) ^ set(self.prob)))
            raise ValueError(f"unit {self.unit}: sharing and prob must name the same blocks, they differ in {apart}")
        rows = [np.asarray(sharing[key]) for key in sorted(sharing)]
        if any(row.shape != (n,) or not np.issubdtype(row.dtype, np.integer) for row in rows):
            raise ValueError(f"unit {self.unit}: sharing needs one whole number for each of the {n} entries of a block")
        parted = np.any(np.stack(rows) != rows[0], axis=0) & (np.asarray(self.node) >= 0)
        if parted.any():
            names = ", ".join(self.entries[i] for i in np.flatnonzero(parted))
            raise ValueError(
                f"unit {self.unit}: what feeds a node of the coordinator must be the same in all scenarios, but their "
                f"tree nodes differ in {names}; give these entries one number in all blocks, or the node -1"
            )


@dataclass(frozen=True, eq=False)
class Signal:
    """What a block is asked.

    A block answers y = argmin f(x) - <price, y> + 1/2 sum_i weight_i penalty_i (y_i - target_i)^2.

    price    (n_u,) per unit of y and weight
    target   (n_u,) or None: no penalty term at all
    penalty  (n_u,) or None; >= 0, equal over the scenarios of a unit
    active   (n_u,) True where the coordinator has declared a need (paper 1: the hours t^Q); None = everywhere
    exact    the answer must come with a proven bound: a MILP is solved as a MILP, not with fixed binaries
    mip_gap  relative gap that a mixed-integer solve may leave; the bound of the answer is the proven one, below the
             cost of its point by as much. None, or less than the block's own gap = the block's own
    id       number of the question; comes back in the response
    """

    price: FloatArray
    target: FloatArray | None = None
    penalty: FloatArray | None = None
    active: BoolArray | None = None
    exact: bool = False
    id: int = 0
    mip_gap: float | None = None


class Status(IntEnum):
    """What a solve ended with. Only OPTIMAL and FEASIBLE carry a point."""

    OPTIMAL = 0
    FEASIBLE = 1  # a limit was reached, the point is feasible
    INFEASIBLE = 2
    UNBOUNDED = 3
    LIMIT = 4  # a limit was reached and there is no point
    ERROR = 5

    @property
    def has_point(self) -> bool:
        return self <= Status.FEASIBLE


@dataclass(frozen=True, eq=False)
class Response:
    """What a block answers.

    y            (n_u,) the offer
    cost         f(x): the true cost of the point, without price and penalty
    bound        proven lower bound of min f - <price, y> without penalty (MILP: the solver's dual bound), or None
    status       how the solve ended
    report       (m,) what the coordinator must know and nobody prices
    sensitivity  (n_u, n_u) dy/dprice, or None
    pattern      number of the integer decisions of the point (`pattern_of`): answers with the same may be averaged;
                 0 = the block has none, None = it does not say
    revised      the exact solve found better integer decisions than the block iterated with, and adopted them
    message      why there is no point, in words for the user
    point        the block's private solution; never leaves the rank, is given back to `Subproblem.detail`
    """

    y: FloatArray
    cost: float
    bound: float | None = None
    status: Status = Status.OPTIMAL
    report: FloatArray = field(default_factory=lambda: np.zeros(0))
    sensitivity: FloatArray | None = None
    pattern: int | None = None
    revised: bool = False
    message: str = ""
    point: FloatArray | None = None
    signal_id: int = 0
    solve_time: float = 0.0

    def but(self, **changes: object) -> Response:
        """The same answer with other values; quicker than `dataclasses.replace`."""
        other = object.__new__(Response)
        other.__dict__.update(self.__dict__)
        other.__dict__.update(changes)
        return other


@dataclass(frozen=True, eq=False)
class Query:
    """What the coordinator is asked: argmin g(Z) + <price, Z> + 1/2 sum_b weight_b penalty_b (Z_b - center_b)^2.

    All arrays are per node row. With penalty = 0 the answer is the minimiser nearest to `center` (the offers).
    want_bound   also return a lower bound of min g + <price, Z>, linearised at `center` where g is not convex
    want_model   also return the coordinator's own model (QuadraticModel)
    """

    price: FloatArray
    center: FloatArray
    penalty: FloatArray
    want_bound: bool = False
    want_model: bool = False

    def rows(self, rows: IntArray) -> Query:
        """The same question for some of the node rows."""
        return Query(self.price[rows], self.center[rows], self.penalty[rows], self.want_bound, self.want_model)


@dataclass(frozen=True, eq=False)
class QuadraticModel:
    """g(Z) = min 1/2 v'Pv + q'v + offset,  lo <= A v <= hi,  lb <= v <= ub,  Z = v[z_cols]. Free bounds are +-inf."""

    P: Matrix
    q: FloatArray
    A: Matrix
    lo: FloatArray
    hi: FloatArray
    lb: FloatArray
    ub: FloatArray
    z_cols: IntArray
    offset: float = 0.0

    @property
    def linear(self) -> bool:
        """Has it no quadratic cost?"""
        return not sparse.csr_matrix(self.P).count_nonzero()


@dataclass(frozen=True, eq=False)
class Request:
    """What the coordinator answers, for the rows of one part or for all nodes.

    Z         requested total at each node row
    cost      g(Z)
    active    True where the coordinator has a need; elsewhere g is affine, the price stays neutral and Z = offers
    bound     lower bound of min_Z g + <price, Z>, or None where not asked or not proven
    bound_of  the problem the bound belongs to: "exact", "relaxed" or "linearised"
    feasible  g's limits are met without elastic slack
    penalty   what of the cost is for limits that are not met
    enough    the limits are met at Z itself, without dearer measures that g decides on (a load that is shed)
    info      named figures for tables and files (multipliers, shed reactive power, voltages)
    """

    Z: FloatArray
    cost: float
    active: BoolArray
    bound: float | None = None
    bound_of: str = "exact"
    feasible: bool = True
    model: QuadraticModel | None = None
    info: Mapping[str, FloatArray] = field(default_factory=dict)
    penalty: float = 0.0
    enough: bool = True


@dataclass(frozen=True)
class Check:
    """What the coordinator sees at the offers themselves: are its limits met, and how far is the worst one?

    margin  distance of the worst figure from its limit, negative outside; `feasible` allows for a tolerance
    worst   the worst figure itself (a voltage in pu)
    where   its name ("bus 7, 17:00")
    """

    feasible: bool
    margin: float
    worst: float
    where: str

    @property
    def violation(self) -> float:
        """How far the worst limit is exceeded, 0 when all are met."""
        return max(-self.margin, 0.0)
