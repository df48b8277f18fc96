"""A coordinator from a model: a Pyomo model of Z, or any block whose offers are Z.

    block      min f(x) - <price, y> + 1/2 <penalty (y - target), y - target>
    asked      min g(Z) + <TS, Z> + 1/2 <penalty (Z - center), Z - center>        so: price = -TS, target = center

Where g is not convex (whole decisions) prices alone cannot bring the units to agree with it exactly. Then let it be one
more unit that offers -Z beside an exchange of demand 0 (`coordinator_unit`): rules that remember answers and choose
among whole decisions then do so for its own, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
from scipy import sparse

from decomp.blocks.compile.compiler import members
from decomp.blocks.compile.outer_approximation import ConvexTerm, Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.solver_state import BlockSettings
from decomp.coordinator import Coordinator, Reports, Warm
from decomp.coordinators.arguments import Arguments
from decomp.coordinators.quadratic import KEPT, NEAREST, Quadratic
from decomp.coordinators.rows import Exchange, Numbers
from decomp.errors import CoordinatorError, InputError, Mistake
from decomp.messages import BoolArray, Coupling, FloatArray, Key, QuadraticModel, Query, Request, Response, Signal
from decomp.subproblem import Arrays, Subproblem


class BlockCoordinator(Coordinator):
    """A block as the coordinator: its coupling vector is Z, its cost is g(Z); a MILP or a convex program.

    block     must keep its Z bounded by itself, and take a target and a penalty where the rule gives one (admm)
    model     the same as a QuadraticModel, if it is one: then the rules that need it (bundle, newton) can be used
    Other arguments as in `Coordinator`; one number stands for all nodes. Raises InputError.
    """

    def __init__(
        self,
        block: Subproblem,
        nodes: Sequence[str],
        box: Sequence[Numbers],
        *,
        model: QuadraticModel | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        read = Arguments(type(self).__name__)
        names = read.names("nodes", nodes)
        n = len(names)
        limits = read.box(box, n)
        metric = read.optional("weight", weight, n, 1.0, least=0.0)
        if np.any(metric <= 0):
            read.wrong("weight", "must be positive")
        reference = read.optional("scale", scale, n, 1.0)
        if np.any(reference <= 0):
            read.wrong("scale", "must be positive", "give a price worth speaking of, for each node or for all")
        start = read.optional("neutral", neutral, n, 0.0)
        if groups is not None and len(groups) != n:
            read.wrong("groups", f"has {len(groups)} labels for {n} nodes", "give one for each node")
        if not isinstance(block, Subproblem):
            read.wrong("block", f"is {block!r}", "give a Subproblem")
        read.done()
        self.block, self.nodes, self.groups = block, names, names if groups is None else tuple(groups)
        self.weight, self.scale, self.neutral, self.box = metric, reference, start, limits
        self._cold = block.mark()
        self.quadratic: Quadratic | None = None
        if model is not None:
            self.quadratic = Quadratic(model, names, limits, weight=metric, neutral=start, scale=reference)
            self.abilities = frozenset({"model"})  # type: ignore[misc]

    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        if self.quadratic is not None:
            return self.quadratic.answer(part, query, reports, warm)
        self._take_up(warm)
        penalised = bool(query.penalty.any())
        if penalised and "penalty" not in self.block.abilities:
            raise CoordinatorError(
                f"{type(self.block).__name__} takes no penalty; use a rule without one (dual_ascent)"
            )
        signal = Signal(-query.price, exact=query.want_bound)
        if penalised:
            signal = replace(signal, target=query.center, penalty=query.penalty)
        found = self._found(self.block.solve(signal))
        bound = found.bound if query.want_bound and not penalised else None
        if not penalised and "penalty" in self.block.abilities and "kkt" in self.block.abilities:
            # of all minimisers the nearest to the offers; a pull too weak to matter against a price
            pull = NEAREST * self.scale / np.maximum(self.box[1] - self.box[0], 1e-300)
            nearer = self.block.solve(Signal(-query.price, query.center, pull))
            found = nearer if nearer.status.has_point else found
        request = Request(Z=found.y, cost=found.cost, active=np.ones(len(found.y), bool), bound=bound)
        return request, self.block.save()

    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        if self.quadratic is not None:
            return self.quadratic.evaluate(part, Z, reports)
        self._take_up(None)
        found = self.block.evaluate(Z)
        active = np.ones(len(Z), bool)
        kept = found.status.has_point and np.all(np.abs(found.y - Z) <= 1e3 * KEPT * (1 + np.abs(Z)))
        if not kept or not np.isfinite(found.cost):
            return Request(Z=Z, cost=np.inf, active=active, feasible=False)
        return Request(Z=Z, cost=found.cost, active=active)

    def _take_up(self, warm: Warm) -> None:
        """An answer depends on the warm value alone, not on what this rank has been asked before."""
        self.block.reset(self._cold)
        if warm:
            self.block.load(warm)

    def _found(self, response: Response) -> Response:
        if not response.status.has_point:
            why = response.message or response.status.name.lower()
            raise CoordinatorError(f"the coordinator's block {type(self.block).__name__} has no answer: {why}")
        return response


class PyomoCoordinator(BlockCoordinator):
    """A coordinator from a Pyomo model of its own: linear, quadratic, convex, or with whole decisions.

    Write `build()` in a subclass, or give it as `model`. The model has `cost` (an Expression) and `Z` (an indexed Var
    or Expression, in the order of the nodes). Linear and convex quadratic models serve all rules; others those that
    need no model of the coordinator (admm, dual_ascent), or see `coordinator_unit`.

    Arguments
        model    a function without arguments that builds the model
        nodes    names (n,); None = the indices of Z
        box      what the units can do: lower and upper limits of Z, each (n,) or one number
        solver, solver_options, settings   as in `PyomoSubproblem`
        weight, scale, neutral, groups     as in `Coordinator`

    Raises InputError with everything that is wrong with the model or the arguments.
    """

    def __init__(
        self,
        *,
        box: Sequence[Numbers],
        model: Callable[[], pyo.ConcreteModel] | None = None,
        nodes: Sequence[str] | None = None,
        solver: str = "highs",
        solver_options: Mapping[str, object] | None = None,
        settings: BlockSettings | None = None,
        weight: Numbers | None = None,
        scale: Numbers | None = None,
        neutral: Numbers | None = None,
        groups: Sequence[str] | None = None,
    ) -> None:
        name = type(self).__name__
        if model is not None and not callable(model):
            text = "give the function that builds the model: model=build, not model=build()"
            raise InputError([Mistake(name, "argument", "model", f"is {type(model).__name__}", text)])
        self._build = model
        built = self.build()
        if not hasattr(built, "Z"):
            remedy = "add model.Z, an indexed Var or Expression: what is asked for at each node"
            raise InputError([Mistake(name, "model", "Z", "build() returned a model without it", remedy)])
        index = [i for i, _ in enumerate(members(built.Z))]
        names = [str(i) for i in built.Z] if nodes is None and built.Z.is_indexed() else nodes or ["Z"]
        read = Arguments(name)
        if len(names) != len(index):
            read.wrong("nodes", f"has {len(names)} names, model.Z {len(index)} entries", "give one for each")
        n = len(index)
        metric = read.optional("weight", weight, n, 1.0, least=0.0)
        limits = read.box(box, n)
        read.done()
        block = _ModelOfZ(self, limits, metric, solver, solver_options, settings)
        program = _program_of(block) if solver == "highs" and not self.convex_terms(built) else None
        super().__init__(
            block, names, box, model=None if program is None else _quadratic(program), weight=weight, scale=scale,
            neutral=neutral, groups=groups,
        )  # fmt: skip

    def build(self) -> pyo.ConcreteModel:
        """The model with `cost` and `Z`."""
        if self._build is None:
            remedy = "def build(self) -> pyo.ConcreteModel, or model=function"
            raise InputError([Mistake(type(self).__name__, "class", "build", "it is not defined", remedy)])
        return self._build()

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        """Terms epigraph >= function(variables), as in `PyomoSubproblem`."""
        return ()


class _ModelOfZ(PyomoSubproblem):
    """The coordinator's model as a block that offers Z, kept within the box."""

    def __init__(
        self,
        owner: PyomoCoordinator,
        box: tuple[FloatArray, FloatArray],
        weight: FloatArray,
        solver: str,
        options: Mapping[str, object] | None,
        settings: BlockSettings | None,
    ) -> None:
        self.owner, self.limits = owner, box
        super().__init__(weight=weight, solver=solver, solver_options=options, settings=settings)

    def build(self) -> pyo.ConcreteModel:
        m = self.owner.build()
        parts = [part for _, part in members(m.Z)]
        m.coupling = pyo.Expression(range(len(parts)), rule=lambda m, i: parts[i])
        m.within_the_box = pyo.ConstraintList()
        for part, lo, hi in zip(parts, *self.limits, strict=True):
            if np.isfinite(lo) or np.isfinite(hi):
                ends = (float(lo) if np.isfinite(lo) else None, float(hi) if np.isfinite(hi) else None)
                m.within_the_box.add((ends[0], part, ends[1]))
        return m

    def convex_terms(self, model: pyo.ConcreteModel) -> Sequence[ConvexTerm]:
        return self.owner.convex_terms(model)


def _program_of(block: PyomoSubproblem) -> Program | None:
    """The convex program; None where there are whole decisions. Raises InputError where the model cannot be read."""
    trouble = block._try(None)
    if isinstance(trouble, Response):
        raise InputError([Mistake(type(block).__name__, "model", "build", trouble.message)])
    try:
        program, _ = block.convex_program(None)  # it has no convex terms, so nothing is approximated
        return program
    except ValueError:
        return None


def _quadratic(program: Program) -> QuadraticModel:
    """The program with Z = coupling x + coupling_0 as columns beside x; its own columns where Z are columns of x."""
    n, m = len(program.cost), len(program.coupling_0)
    P = sparse.csc_matrix((n, n)) if program.quad is None else program.quad
    C = program.coupling.tocsr()
    alone = np.all(np.diff(C.indptr) == 1) and np.all(C.data == 1) and len(np.unique(C.indices)) == m
    if alone and not program.coupling_0.any():
        return QuadraticModel(
            P, program.cost, program.A, program.row_lo, program.row_hi, program.lb, program.ub,
            C.indices.astype(np.int64), program.constant,
        )  # fmt: skip
    free = np.full(m, np.inf)
    return QuadraticModel(
        P=sparse.block_diag([P, sparse.csc_matrix((m, m))], format="csc"),
        q=np.concatenate([program.cost, np.zeros(m)]),
        A=sparse.bmat([[program.A, None], [C, -sparse.identity(m)]], format="csr"),
        lo=np.concatenate([program.row_lo, -program.coupling_0]),
        hi=np.concatenate([program.row_hi, -program.coupling_0]),
        lb=np.concatenate([program.lb, -free]),
        ub=np.concatenate([program.ub, free]),
        z_cols=n + np.arange(m),
        offset=program.constant,
    )


def coordinator_unit(
    coordinator: BlockCoordinator, name: str = "coordinator"
) -> tuple[Exchange, dict[Key, Subproblem], Coupling]:
    """The coordinator's block as one more unit that offers -Z, and the exchange that makes sum y - Z = 0.

    market, more, own = coordinator_unit(network)
    run(blocks | more, market, "bundle", coupling=[*coupling, own], ...)
    """
    n, key = len(coordinator.nodes), Key(name)
    lo, hi = coordinator.box
    reach = np.maximum(np.abs(lo), np.abs(hi))
    market = Exchange(
        coordinator.nodes, np.zeros(n), (-reach, reach), weight=coordinator.weight, scale=coordinator.scale,
        neutral=coordinator.neutral, groups=coordinator.groups,
    )  # fmt: skip
    own = Coupling(name, coordinator.nodes, coordinator.weight, np.arange(n), {key: 1.0})
    return market, {key: Negated(coordinator.block)}, own


class Negated(Subproblem):
    """A block that offers minus what another one does."""

    def __init__(self, block: Subproblem) -> None:
        self.block = block
        self.abilities = block.abilities  # type: ignore[misc]

    def solve(self, signal: Signal) -> Response:
        target = None if signal.target is None else -signal.target
        return self._turned(self.block.solve(replace(signal, price=-signal.price, target=target)))

    def evaluate(self, y: FloatArray) -> Response:
        return self._turned(self.block.evaluate(-y))

    def refusal(self) -> str:
        return self.block.refusal()

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        return self.block.detail(self._turned(response))

    def save(self) -> Arrays | None:
        return self.block.save()

    def load(self, arrays: Arrays) -> None:
        self.block.load(arrays)

    def mark(self) -> Any:
        return self.block.mark()

    def reset(self, mark: Any) -> None:
        self.block.reset(mark)

    def fingerprint(self) -> bytes | None:
        found = self.block.fingerprint()
        return None if found is None else b"negated:" + found

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        program, pool = self.block.convex_program(active)
        return replace(program, coupling=-program.coupling, coupling_0=-program.coupling_0), pool

    @staticmethod
    def _turned(response: Response) -> Response:
        return response.but(y=-response.y)
