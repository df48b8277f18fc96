"""The other side of the market: whoever needs something at the nodes, and what the engine asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy import linalg, sparse

from decomp.errors import AskedToStop
from decomp.messages import BoolArray, Check, FloatArray, IntArray, Key, Matrix, QuadraticModel, Query, Request
from decomp.parallel.row_tasks import Found, Steps, Work

Reports = Mapping[Key, FloatArray]
Warm = Any  # a plain value (None, arrays in a dict); whatever `answer` returned last for this part

BOUND_ORDER = ("exact", "relaxed", "linearised")


class Coordinator(ABC):
    """Holds g(Z), the cost of the node totals Z. All methods are pure: any rank may call them.

    nodes    (n,) names of the node rows
    groups   (n,) label of each row by which constants may differ (the PCC of a (PCC, hour) row)
    weight   (n,) weight of each row in the inner product
    box      (lo, hi), each (n,): what the units can do. Pure prices make Z unbounded without it
    neutral  (n,) the price at which there is nothing to ask: minus the slope of g's affine part
    scale    (n,) reference price for step functions, max(lambda_e(t), floor); never the price itself

    abilities  what it can do beyond answering: "model" (its own QuadraticModel when asked). A rule that needs more is
               refused before round 0.
    linearises   g is not convex, and bounds belong to g linearised at the point that was asked about: costs and bounds
                 of different rounds are then not compared
    shares_work  parts ask for work in rows (`steps`), so that ranks help each other even where there is one part
    """

    abilities: ClassVar[frozenset[str]] = frozenset()
    linearises: ClassVar[bool] = False
    shares_work: ClassVar[bool] = False

    nodes: tuple[str, ...]
    groups: tuple[str, ...]
    weight: FloatArray
    box: tuple[FloatArray, FloatArray]
    neutral: FloatArray
    scale: FloatArray

    def parts(self) -> tuple[IntArray, ...]:
        """Node rows of each independent piece of g (an hour); the pieces cover all rows."""
        return (np.arange(len(self.nodes)),)

    def initially_active(self) -> BoolArray:
        """Node rows with a need before anything has been offered; a load flow that has not run yet knows of none."""
        return np.ones(len(self.nodes), bool)

    @abstractmethod
    def answer(self, part: int, query: Query, reports: Reports, warm: Warm) -> tuple[Request, Warm]:
        """argmin g(Z) + <price, Z> + penalty term over the rows of `part`; the query holds these rows only."""

    @abstractmethod
    def evaluate(self, part: int, Z: FloatArray, reports: Reports) -> Request:
        """g at the given Z (rows of `part`): the least cost of whatever else g decides. cost = inf if impossible."""

    def steps(self, what: str, part: int, question: tuple[Any, ...], reports: Reports) -> Steps[Any]:
        """`answer`, `evaluate` or `check` of a part. Override where it asks for work in rows, which ranks can share."""
        return ask(self, what, part, question, reports)
        yield  # none here

    def do(self, work: Work) -> Found:
        """Do a stretch of the work that `steps` asks for. Pure: any rank may."""
        raise NotImplementedError

    def check(self, part: int, Z: FloatArray, reports: Reports) -> Check:
        """Are g's limits met at Z? Override when there is a cheaper way than `evaluate` (a load flow)."""
        request = self.evaluate(part, Z, reports)
        return Check(request.feasible, 0.0 if request.feasible else -np.inf, request.cost, "")


class Parts:
    """All parts of a coordinator, asked here one after the other.

    asked  looked at before every part: True ends it with AskedToStop
    """

    def __init__(self, coordinator: Coordinator, asked: Callable[[], bool] = lambda: False) -> None:
        self.coordinator, self.asked = coordinator, asked
        self.rows = coordinator.parts()

    def answer(self, query: Query, reports: Reports, warm: tuple[Warm, ...]) -> tuple[Request, tuple[Warm, ...]]:
        """Ask every part and put the answers together in node order."""
        found = self._each("answer", [(query.rows(rows), w) for rows, w in zip(self.rows, warm, strict=True)], reports)
        self._heard([request for request, _ in found])
        return _merge(self.coordinator, [request for request, _ in found]), tuple(w for _, w in found)

    def evaluate(self, Z: FloatArray, reports: Reports) -> Request:
        """g(Z) over all parts."""
        return _merge(self.coordinator, self._each("evaluate", [(Z[rows],) for rows in self.rows], reports))

    def check(self, Z: FloatArray, reports: Reports) -> Check:
        """The worst part's check."""
        checks: list[Check] = self._each("check", [(Z[rows],) for rows in self.rows], reports)
        return min(checks, key=lambda c: c.margin)

    def _heard(self, requests: Sequence[Request]) -> None:
        """What the parts have answered."""

    def _each(self, what: str, questions: list[tuple[Any, ...]], reports: Reports) -> list[Any]:
        found = []
        for part, question in enumerate(questions):
            if self.asked():
                raise AskedToStop
            found.append(ask(self.coordinator, what, part, question, reports))
        return found


def ask(coordinator: Coordinator, what: str, part: int, question: tuple[Any, ...], reports: Reports) -> Any:
    """One part's answer."""
    if what == "answer":
        query, warm = question
        return coordinator.answer(part, query, reports, warm)
    if what == "evaluate":
        return coordinator.evaluate(part, question[0], reports)
    return coordinator.check(part, question[0], reports)


def answer_all(
    coordinator: Coordinator, query: Query, reports: Reports, warm: tuple[Warm, ...]
) -> tuple[Request, tuple[Warm, ...]]:
    """Ask every part and put the answers together in node order."""
    return Parts(coordinator).answer(query, reports, warm)


def evaluate_all(coordinator: Coordinator, Z: FloatArray, reports: Reports) -> Request:
    """g(Z) over all parts."""
    return Parts(coordinator).evaluate(Z, reports)


def check_all(coordinator: Coordinator, Z: FloatArray, reports: Reports) -> Check:
    """The worst part's check."""
    return Parts(coordinator).check(Z, reports)


def _merge(coordinator: Coordinator, requests: list[Request]) -> Request:
    Z = np.zeros(len(coordinator.nodes))
    active = np.zeros(len(coordinator.nodes), bool)
    for rows, request in zip(coordinator.parts(), requests, strict=True):
        Z[rows], active[rows] = request.Z, request.active
    bounds = [r.bound for r in requests]
    names = sorted({name for r in requests for name in r.info})
    return Request(
        Z=Z,
        cost=float(sum(r.cost for r in requests)),
        active=active,
        bound=None if any(b is None for b in bounds) else float(sum(b for b in bounds if b is not None)),
        bound_of=max((r.bound_of for r in requests), key=BOUND_ORDER.index),
        feasible=all(r.feasible for r in requests),
        penalty=float(sum(r.penalty for r in requests)),
        enough=all(r.enough for r in requests),
        model=_join(coordinator, [r.model for r in requests]),
        # one row per part; a part that has no such figure is filled with nan
        info={name: _stack([r.info.get(name) for r in requests]) for name in names},
    )


def _join(coordinator: Coordinator, models: list[QuadraticModel | None]) -> QuadraticModel | None:
    """The parts' models side by side as one, its z_cols in node order; None where a part gave none."""
    given = [m for m in models if m is not None]
    if len(given) < len(models):
        return None
    z_cols, at = np.zeros(len(coordinator.nodes), np.int64), 0
    for rows, model in zip(coordinator.parts(), given, strict=True):
        z_cols[rows] = model.z_cols + at
        at += len(model.q)
    return QuadraticModel(
        P=_beside([m.P for m in given]),
        A=_beside([m.A for m in given]),
        **{name: np.concatenate([getattr(m, name) for m in given]) for name in ("q", "lo", "hi", "lb", "ub")},
        z_cols=z_cols,
        offset=sum(m.offset for m in given),
    )


def _beside(matrices: list[Matrix]) -> Matrix:
    if any(sparse.issparse(matrix) for matrix in matrices):
        return sparse.block_diag(matrices, format="csr")
    return np.asarray(linalg.block_diag(*matrices))


def _stack(values: list[FloatArray | None]) -> FloatArray:
    shape = next(np.shape(v) for v in values if v is not None)
    return np.stack([np.full(shape, np.nan) if v is None else np.asarray(v, float) for v in values])
