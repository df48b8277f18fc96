"""Newton's method on the prices: blocks say how their answer moves with the price."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.linalg import block_diag

from decomp.blocks.solve.piqp import solve
from decomp.layout import Answers
from decomp.messages import FloatArray, QuadraticModel, Request
from decomp.rules.base import Candidate, Setup, State
from decomp.rules.master import coordinator_value, node_balance, split_price, within
from decomp.rules.with_model import ModelRule, ModelState

SATURATED = 1e-4  # of the largest slope: what an entry that cannot move is taken to move


@dataclass(frozen=True, eq=False)
class NewtonState(ModelState):
    """center (N,): the block prices with the best dual value `value` so far."""

    center: FloatArray
    value: float


@dataclass(frozen=True)
class Newton(ModelRule):
    """Every block is replaced by its quadratic model around the answer, the coordinator keeps its own.

        D_us = dy/dlambda + eps I,  c_us = y_us - D_us lambda_us
        z    = argmin g(Z) + 1/2 sum_us pi_s (z_u - c_us)' W D_us^-1 (z_u - c_us),  Z_b = sum of z_u over the units at b
        lambda_us = D_us^-1 (z_u - c_us)

    W = diag(weights): W D^-1 is the block's Hessian. Exact after one round where no block changes its active bounds;
    where the dual value falls, the step from the best price is halved.

    needs: dy/dlambda and costs. reveals: y, cost, dy/dprice. wins when: blocks are strictly convex and smooth.
    Houska, Frasch and Diehl (2016), ALADIN, with one multiplier for each coupling.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"sensitivity"})
    reveals: ClassVar[str] = "y, cost, dy/dprice"

    def init(self, setup: Setup) -> NewtonState:
        w = np.zeros(len(setup.layout.entry))
        state = State(setup, setup.start_price, w, setup.active)
        return NewtonState(setup, state.price, w, setup.active, None, state.block_price(), -np.inf)

    def improve(
        self, k: int, state: State, answers: tuple[Answers, ...], request: Request, model: QuadraticModel
    ) -> tuple[State, Candidate | None]:
        assert isinstance(state, NewtonState)
        setup, layout = state.setup, state.setup.layout
        asked = state.block_price()
        value = _dual_value(setup, model, state.price, asked, answers[0])
        if value < state.value - 1e-12 * abs(state.value):
            price, w = split_price(layout, 0.5 * (state.center + asked), setup.neutral)
            return replace(state, price=price, w=w, active=request.active), None
        z, wanted = _model_step(setup, model, asked, answers[0])
        price, w = split_price(layout, wanted, setup.neutral)
        price = np.where(request.active, price, setup.neutral)
        state = replace(state, price=price, w=w, active=request.active, center=asked, value=value, z=layout.totals(z))
        return state, Candidate(z, mismatch=z - layout.mean(answers[0].y))


def _model_step(
    setup: Setup, model: QuadraticModel, price: FloatArray, answers: Answers
) -> tuple[FloatArray, FloatArray]:
    """z (M,) of the quadratic models and the price (N,) at which each of them answers it."""
    layout, M, n_v = setup.layout, len(setup.layout.node), len(model.q)
    assert answers.sensitivity is not None
    slopes = [0.5 * (D + D.T) if len(D) else D for D in answers.sensitivity]
    largest = max((float(np.max(np.abs(D), initial=0.0)) for D in slopes), default=0.0)
    if largest == 0:  # every entry is at a bound: as if the reference price moved it through the box
        largest = float(np.max((setup.box[1] - setup.box[0]) / setup.scale, initial=1e-300)) / SATURATED
    inverse = [np.linalg.inv(D + SATURATED * largest * np.eye(len(D))) for D in slopes]
    sizes = np.diff(layout.first)
    hessian = [np.zeros((m, m)) for m in sizes]
    slope = np.zeros(M)
    c_of, unit_of = [], {c.unit: i for i, c in enumerate(layout.couplings)}
    for b, key in enumerate(layout.keys):
        at = slice(layout.start[b], layout.start[b + 1])
        c = answers.y[at] - np.linalg.solve(inverse[b], price[at])
        H = layout.prob[b] * layout.weight[layout.entry[at], None] * inverse[b]
        H = 0.5 * (H + H.T)
        u = unit_of[key.unit]
        own = layout.entry[at] - layout.first[u]
        hessian[u][np.ix_(own, own)] += H
        slope[layout.entry[at]] -= H @ c
        c_of.append(c)
    P = sparse.block_diag([sparse.csc_matrix(model.P), sparse.csc_matrix(block_diag(*hessian))])
    own = sparse.hstack([sparse.csr_matrix(model.A), sparse.csr_matrix((len(model.lo), M))])
    A = sparse.vstack([own, node_balance(layout, model)], format="csr")
    zero, free = np.zeros(len(layout.count)), np.full(M, np.inf)
    lb, ub = within(model, setup.box)
    found = solve(
        P, np.concatenate([model.q, slope]), A, np.concatenate([model.lo, zero]), np.concatenate([model.hi, zero]),
        np.concatenate([lb, -free]), np.concatenate([ub, free]),
    )  # fmt: skip
    z = found.v[n_v:]
    spread = layout.to_blocks(z)
    wanted = [inverse[b] @ (spread[layout.start[b] : layout.start[b + 1]] - c_of[b]) for b in range(len(layout.keys))]
    return z, np.concatenate(wanted)


def _dual_value(
    setup: Setup, model: QuadraticModel, node_price: FloatArray, price: FloatArray, answers: Answers
) -> float:
    """d = sum_us pi_s (f - <lambda, y>) + min_Z [g + <TS, Z>]."""
    layout = setup.layout
    blocks = answers.cost - layout.inner(price, answers.y)
    return float(np.sum(layout.prob * blocks)) + coordinator_value(model, setup.box, setup.weight * node_price)
