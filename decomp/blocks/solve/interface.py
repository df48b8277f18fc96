"""What stands behind a block: a backend makes of its model something that answers signals.

A backend is one object with a name, what it is capable of, and `build`. One of your own is a file and an entry point of
the group `tatonnement.solvers`; its name is then what a block's `solver` says.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import pyomo.environ as pyo

from decomp.blocks.batches import ResponseBatch
from decomp.blocks.compile.outer_approximation import ConvexTerm, Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.solve.solver_state import BlockSettings, Initial
from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray, IntArray, Response, Signal
from decomp.subproblem import Arrays

Options = Mapping[str, object]


class Capability(StrEnum):
    """What a backend can do beyond answering a signal and evaluating an offer."""

    WARM_BASIS = "warm_basis"  # a solve starts from the basis of the one before
    DUAL_BOUND = "dual_bound"  # answers come with proven lower bounds
    BATCH = "batch"  # blocks of one template are solved together
    TANGENTS = "tangents"  # convex terms are met by tangents
    SENSITIVITY = "sensitivity"  # dy/dprice
    KKT = "kkt"  # the convex program itself, for an interior point over all blocks


ABILITY_OF = {Capability.DUAL_BOUND: "bound", Capability.SENSITIVITY: "sensitivity", Capability.KKT: "kkt"}


class BlockModel(Protocol):
    """What a backend is given: a model still to be built, and how it is to be solved; see `PyomoSubproblem`."""

    weight: FloatArray | float
    settings: BlockSettings
    solver_options: Options | None
    later_options: Options | None
    initial_price: FloatArray | None
    template: Hashable | None

    def build(self) -> pyo.ConcreteModel: ...
    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]: ...
    def frozen(self, model: pyo.ConcreteModel) -> Mapping[int, Sequence[Any]]: ...
    def parameters(self, model: pyo.ConcreteModel) -> Mapping[str, Any]: ...


class BlockSolver(Protocol):
    """What answers for one block. Warm states go in and come out: an answer depends on nothing else but the signal."""

    def cold(self) -> Any:
        """The state before the first solve."""

    def initial(self, state: Any) -> tuple[Initial | None, Any, str]:
        """The schedule offers count from, the state with it; None and why where there is none."""

    def solve(self, signal: Signal, state: Any) -> tuple[Response, Any]:
        """argmin f - <price, y> + penalty term."""

    def evaluate(self, y: FloatArray, state: Any) -> tuple[Response, Any]:
        """min f with the offers fixed at y."""

    def arrays(self, state: Any) -> Arrays:
        """The state as plain arrays."""

    def from_arrays(self, arrays: Arrays) -> Any:
        """The state written by `arrays`."""

    def identity(self) -> tuple[Any, ...] | None:
        """All numbers that its points and their costs follow from; None = it cannot tell."""

    def convex_program(self, state: Any, active: BoolArray | None) -> tuple[Program, Pool]:
        """The block's convex program as the coordinator sees it, and tangents of its convex terms.

        Raises ValueError where there is none.
        """


class BatchSolver(Protocol):
    """What the blocks of one template have in common."""

    @property
    def batches(self) -> bool:
        """Is anything gained by solving them together?"""

    def solve(
        self, built: Sequence[Built], states: Sequence[Any], signals: Sequence[Signal]
    ) -> tuple[ResponseBatch | Sequence[Response | None], Sequence[Any]]:
        """Answers, None for a block that has to be solved alone, and states; the bits are those of each alone."""

    def put(self, theta: FloatArray) -> None:
        """Give the model's own parameters these values."""


@dataclass(frozen=True, eq=False)
class Built:
    """The model, its variables in point order, the length of a point (a backend may append) and what answers.

    shared, theta: where the block has a template, what its blocks have in common, and this block's parameters.
    """

    model: pyo.ConcreteModel
    columns: list[Any]
    width: int
    backend: BlockSolver
    shared: BatchSolver | None = None
    theta: FloatArray | None = None


class Backend(Protocol):
    """A way to solve blocks."""

    capabilities: frozenset[Capability]

    def refusal(self) -> str:
        """Why this installation cannot use it; "" = it can. Looked at before any block is solved."""

    def looks_inside(self) -> bool:
        """Does it depend on the model whether this installation can solve it? Then blocks are built beforehand."""

    def refused_options(self, options: Options) -> list[str]:
        """Names of options that are known to be wrong."""

    def build(self, block: BlockModel) -> Built:
        """What answers for the block. Raises InputError with everything that is wrong with its model."""


def abilities_of(backend: Backend) -> frozenset[str]:
    """What a block with this backend declares, see `Subproblem`."""
    return frozenset({"penalty", "evaluate"} | {a for c, a in ABILITY_OF.items() if c in backend.capabilities})


def price_of(block: BlockModel) -> FloatArray | None:
    """The block's initial price as an array."""
    return None if block.initial_price is None else np.asarray(block.initial_price, float)


def frozen_of(block: BlockModel, model: pyo.ConcreteModel, order: Sequence[Any]) -> dict[int, IntArray]:
    """Numbers of the variables that keep their initial value, by entry."""
    number = {id(v): j for j, v in enumerate(order)}
    return {
        i: np.array([number[id(v)] for v in variables if id(v) in number], np.int64)
        for i, variables in block.frozen(model).items()
    }


def weight_of(block: BlockModel, size: int) -> FloatArray:
    """(size,) weights of the entries. Raises InputError where their number is another."""
    weight = np.asarray(block.weight, float)
    if weight.ndim and weight.shape != (size,):
        problem = f"weight has {weight.size} values, model.coupling {size} entries"
        raise InputError([Mistake(type(block).__name__, "block", "weight", problem, "give one for each entry")])
    return np.broadcast_to(weight, (size,)).copy()
