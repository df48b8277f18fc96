"""A separable convex cost given by functions, and its minimum together with a quadratic program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from decomp.blocks.solve.piqp import lower_bound, solve
from decomp.errors import CoordinatorError, told
from decomp.messages import FloatArray, QuadraticModel

ENOUGH = 1e-11  # relative decrease from which on a step gains nothing
MOST_STEPS = 200
HALVINGS = 60

Function = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class ConvexCost:
    """h(z) = sum_i h_i(z_i), in cost units. All three functions take z (n,) and return (n,) values, one for each i.

    value      h_i(z_i)
    gradient   its derivative
    curvature  its second derivative, >= 0; where it is 0 throughout (a linear piece) the steps are those of a linear
               program, and slower
    """

    value: Function
    gradient: Function
    curvature: Function

    def at(self, what: str, z: FloatArray) -> FloatArray:
        """One of the functions at z. Raises CoordinatorError where it fails, or is not one number for each node."""
        try:
            with np.errstate(all="ignore"):
                found = np.asarray(getattr(self, what)(z), float)
        except Exception as error:  # a function of the user's may raise anything
            raise CoordinatorError(f"the cost's {what} raised {told(error)}") from error
        if found.shape != z.shape:
            raise CoordinatorError(f"the cost's {what} returned shape {found.shape} for {z.shape} values of Z")
        if np.any(np.isnan(found)) or (what != "value" and not np.all(np.isfinite(found))):
            worst = int(np.flatnonzero(~np.isfinite(found))[0])
            raise CoordinatorError(f"the cost's {what} is {found[worst]} at Z = {z[worst]:g} (node {worst})")
        if what == "curvature" and np.any(found < 0):
            worst = int(np.argmin(found))
            raise CoordinatorError(f"the cost is not convex: its curvature is {found[worst]:g} at Z = {z[worst]:g}")
        return found

    def total(self, z: FloatArray) -> float:
        """h(z); inf outside its domain."""
        return float(np.sum(self.at("value", z)))


def expanded(model: QuadraticModel, cost: ConvexCost, columns: np.ndarray, z: FloatArray) -> QuadraticModel:
    """The model with h by its second-order expansion at z: h + h'(v - z) + 1/2 h''(v - z)^2."""
    slope, curve = cost.at("gradient", z), cost.at("curvature", z)
    q = model.q.copy()
    q[columns] += slope - curve * z
    P = with_diagonal(model.P, columns, curve)
    offset = model.offset + cost.total(z) - float(slope @ z) + 0.5 * float(curve @ z**2)
    return QuadraticModel(P, q, model.A, model.lo, model.hi, model.lb, model.ub, model.z_cols, offset)


def minimum(
    model: QuadraticModel, cost: ConvexCost, columns: np.ndarray, start: FloatArray
) -> tuple[FloatArray, float]:
    """argmin of the model's objective + h(v[columns]) by Newton's method, and a proven lower bound of the minimum.

    start: v[columns] to begin near. Every step solves the quadratic program of `expanded` and goes as far towards its
    minimiser as the objective falls (Nocedal and Wright 2006, section 18.1, for linear constraints). The bound is that
    of the objective's tangent plane at the last point. Raises NoSolution, CoordinatorError.
    """
    m = model
    # the point of the rows nearest to the start: from there on every point keeps them
    near = np.zeros(len(m.q))
    near[columns] = start
    weight = np.full(len(m.q), 1e-6)
    weight[columns] = 1.0
    v = solve(sparse.diags(weight), -weight * near, m.A, m.lo, m.hi, m.lb, m.ub).v
    value = _objective(m, cost, columns, v)
    if not np.isfinite(value):
        raise CoordinatorError("the cost has no value at the point of the limits nearest to the offers")
    for _ in range(MOST_STEPS):
        local = expanded(m, cost, columns, v[columns])
        found = solve(local.P, local.q, m.A, m.lo, m.hi, m.lb, m.ub)
        slope = m.P @ v + m.q
        slope[columns] += cost.at("gradient", v[columns])
        way = found.v - v
        promised = -float(slope @ way)
        bound = lower_bound(value - float(slope @ v), slope, v, found.rows, m.A, m.lo, m.hi, m.lb, m.ub)
        if promised <= ENOUGH * (1 + abs(value)):
            return v, bound
        t = 1.0
        for _ in range(HALVINGS):
            after = _objective(m, cost, columns, v + t * way)
            if after <= value - 0.1 * t * promised:
                break
            t /= 2
        else:
            return v, bound  # what is left is rounding
        v, value = v + t * way, after
    return v, bound


def with_diagonal(P: FloatArray | sparse.spmatrix, columns: np.ndarray, more: FloatArray) -> FloatArray:
    """P with `more` added on the diagonal of `columns`, as sparse or dense as P."""
    if sparse.issparse(P):
        diagonal = np.zeros(P.shape[0])
        diagonal[columns] = more
        return sparse.csc_matrix(P + sparse.diags(diagonal))
    P = P.copy()
    P[columns, columns] += more
    return P


def _objective(model: QuadraticModel, cost: ConvexCost, columns: np.ndarray, v: FloatArray) -> float:
    return float(0.5 * v @ (model.P @ v) + model.q @ v + model.offset) + cost.total(v[columns])
