"""A block from a cvxpy problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from decomp.errors import InputError, Mistake, told
from decomp.messages import FloatArray, Response, Signal, Status
from decomp.subproblem import Subproblem

TOLERANCE = 1e-7  # what the bound leaves for the solver: relative to the terms of the objective
STATUS_OF = {
    "optimal": Status.OPTIMAL, "optimal_inaccurate": Status.FEASIBLE, "infeasible": Status.INFEASIBLE,
    "infeasible_inaccurate": Status.INFEASIBLE, "unbounded": Status.UNBOUNDED,
    "unbounded_inaccurate": Status.UNBOUNDED, "infeasible_or_unbounded": Status.INFEASIBLE,
    "user_limit": Status.LIMIT,
}  # fmt: skip


class CvxpyModel(NamedTuple):
    """What `build` returns: cost (a convex expression), constraints, coupling (an affine vector), variables to tell."""

    cost: Any
    constraints: list[Any]
    coupling: Any
    detail: Mapping[str, Any] = {}


class CvxpyBlock(Subproblem):
    """min cost - <price, y> + 1/2 <penalty (y - target), y - target>, y = coupling, by any solver of cvxpy.

        def build():
            y = cp.Variable(2)
            return CvxpyModel(cp.sum_squares(y) + cp.norm1(y), [y <= 3], y)

        CvxpyBlock(build)

    build       a function that returns a `CvxpyModel`; it is called once, on the rank that owns the block
    solver      name of a solver of cvxpy (threads = 1 where it has threads); None = CLARABEL
    tolerance   the bound is cost - <price, y> at the optimum less this, relative to 1 + |cost| + |<price, y>|: the
                solver's own tolerance has to be well below it
    weight      (n_u,) or one number: weights of the inner product; None = 1
    options     passed on to the solver

    A problem with whole variables has no bounds: what one of cvxpy's solvers has proven is not told. Every solve is
    from scratch, so that an answer depends on its question alone.
    """

    abilities = frozenset({"penalty", "bound", "evaluate"})

    def __init__(
        self,
        build: Callable[[], CvxpyModel],
        *,
        solver: str | None = None,
        tolerance: float = TOLERANCE,
        weight: FloatArray | float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        wrong = []
        if not callable(build):
            wrong.append(Mistake("CvxpyBlock", "argument", "build", f"is {build!r}", "give a function"))
        if not tolerance > 0:
            wrong.append(Mistake("CvxpyBlock", "argument", "tolerance", f"is {tolerance!r}", "give a number above 0"))
        if wrong:
            raise InputError(wrong)
        self.build, self.solver, self.tolerance = build, solver, tolerance
        self.weight, self.options = 1.0 if weight is None else weight, dict(options or {})
        if self._problems.whole:
            self.abilities = frozenset({"penalty", "evaluate"})  # type: ignore[misc]

    def refusal(self) -> str:
        import cvxpy as cp

        known = cp.installed_solvers()
        name = self._problems.solver
        return "" if name in known else f"cvxpy has no solver '{name}' here; it has {', '.join(known)}"

    def solve(self, signal: Signal) -> Response:
        p = self._problems
        penalised = signal.target is not None and signal.penalty is not None and bool(np.any(signal.penalty > 0))
        p.worth.value = p.weight * signal.price
        if penalised:
            assert signal.target is not None
            assert signal.penalty is not None
            p.root.value = np.sqrt(p.weight * signal.penalty)
            p.aim.value = p.root.value * signal.target
        found = self._solved(p.penalised if penalised else p.priced)
        if not found.status.has_point or penalised or p.whole or found.status is not Status.OPTIMAL:
            return found.but(signal_id=signal.id)
        paid = float(np.sum(p.weight * signal.price * found.y))
        room = self.tolerance * (1 + abs(found.cost) + float(np.sum(np.abs(p.weight * signal.price * found.y))))
        return found.but(bound=found.cost - paid - room, signal_id=signal.id)

    def evaluate(self, y: FloatArray) -> Response:
        p = self._problems
        p.fixed.value = np.asarray(y, float)
        found = self._solved(p.evaluated)
        return found.but(y=np.array(y, float)) if found.status.has_point else found

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """Values of the variables that `CvxpyModel.detail` names, and of what `point` holds."""
        if response.point is None:
            return {}
        out, at = {}, 0
        for name, size in self._problems.sizes.items():
            out[name] = response.point[at : at + size]
            at += size
        return out

    @cached_property
    def _problems(self) -> _Problems:
        return _Problems(self.build(), self.weight, self.solver)

    def _solved(self, problem: Any) -> Response:
        p = self._problems
        nothing = np.full(p.n, np.nan)
        try:
            problem.solve(solver=p.solver, warm_start=False, **p.options, **self.options)
        except Exception as error:  # solvers raise whatever they like; that is an answer and does not end the run
            return Response(nothing, np.nan, status=Status.ERROR, message=f"{p.solver} failed: {told(error)}")
        status = STATUS_OF.get(problem.status, Status.ERROR)
        if not status.has_point:
            return Response(nothing, np.nan, status=status, message=f"{p.solver} ended with '{problem.status}'")
        y, cost = np.ravel(np.asarray(p.coupling.value, float)), float(p.cost.value)
        point = np.concatenate([np.zeros(0), *(np.ravel(v.value).astype(float) for v in p.told)])
        return Response(y, cost, status=status, point=point)


class _Problems:
    """The three problems of a block, compiled by cvxpy once: priced, penalised, and with the offer given."""

    def __init__(self, model: Any, weight: FloatArray | float, solver: str | None) -> None:
        import cvxpy as cp

        if not isinstance(model, CvxpyModel):
            problem = f"returned a {type(model).__name__}"
            raise InputError(
                [Mistake("CvxpyBlock", "model", "build", problem, "return CvxpyModel(cost, constraints, y)")]
            )
        coupling = cp.vec(model.coupling, order="C") if np.ndim(model.coupling) != 1 else model.coupling
        n = coupling.size
        mistakes = []
        if not model.cost.is_convex():
            mistakes.append(Mistake("CvxpyBlock", "model", "cost", "is not convex by cvxpy's rules"))
        if not coupling.is_affine():
            mistakes.append(Mistake("CvxpyBlock", "model", "coupling", "is not affine"))
        given = np.asarray(weight, float)
        if given.ndim and given.shape != (n,):
            mistakes.append(Mistake("CvxpyBlock", "block", "weight", f"has {given.size} values for {n} entries"))
        if mistakes:
            raise InputError(mistakes)
        self.n, self.cost, self.coupling = n, model.cost, coupling
        self.weight = np.broadcast_to(given, (n,)).copy()
        self.worth, self.aim, self.fixed = cp.Parameter(n), cp.Parameter(n), cp.Parameter(n)
        self.root = cp.Parameter(n, nonneg=True)
        priced = model.cost - self.worth @ coupling
        pull = 0.5 * cp.sum_squares(cp.multiply(self.root, coupling) - self.aim)
        self.priced = cp.Problem(cp.Minimize(priced), model.constraints)
        self.penalised = cp.Problem(cp.Minimize(priced + pull), model.constraints)
        self.evaluated = cp.Problem(cp.Minimize(model.cost), [*model.constraints, coupling == self.fixed])
        self.whole = bool(self.priced.is_mixed_integer())
        self.solver = solver or ("HIGHS" if self.whole else "CLARABEL")
        # all HiGHS objects of a process must agree on their threads
        self.options: dict[str, Any] = {"threads": 1} if self.solver == "HIGHS" else {}
        shown = dict(model.detail) or {v.name(): v for v in self.priced.variables()}
        self.told = list(shown.values())
        self.sizes = {name: int(v.size) for name, v in shown.items()}
