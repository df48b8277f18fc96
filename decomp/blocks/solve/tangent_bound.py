"""A lower bound of a convex nonlinear program from any point of it, with everything the solver left over counted.

    min f(x),  lo <= c(x) <= hi,  lb <= x <= ub,   f convex, c_j convex where hi_j binds, concave where lo_j binds

For multipliers mu >= 0 at the upper sides and <= 0 at the lower ones L(x) = f(x) + sum_j mu_j (c_j(x) - side_j) is
convex and at most f(x) wherever the rows hold. It lies above its tangent plane at any point x*, so that

    min f >= L(x*) + min_{lb <= x <= ub} grad L(x*)'(x - x*)              (Boyd and Vandenberghe 2004, section 5.1)

An infeasible x*, multipliers that are not the best and a gradient that is not 0 make the bound lower, never wrong. The
multipliers are those that leave least of the gradient on the columns inside their bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.calculus.derivatives import Modes, differentiate
from pyomo.core.expr.visitor import identify_variables
from scipy import sparse
from scipy.optimize import lsq_linear

from decomp.blocks.solve.bounds import of_columns
from decomp.messages import FloatArray

NEAR = 1e-4  # of a row's side, relative: it may have a multiplier
INSIDE = 1e-5  # of a column's bound, relative to 1 + |x|: it is strictly inside


def tangent_bound(objective: Any, rows: Sequence[Any], columns: Sequence[Any]) -> float | None:
    """The bound at the values the columns have now; None where nothing is proven, for instance where a column without
    a bound is left with a gradient."""
    at = {id(v): j for j, v in enumerate(columns)}
    x = np.array([float(v.value) for v in columns])
    lb = np.array([-np.inf if v.lb is None else v.lb for v in columns], float)
    ub = np.array([np.inf if v.ub is None else v.ub for v in columns], float)
    slope = _gradient(objective, at, len(x))
    value = pyo.value(objective, exception=False)
    if slope is None or value is None:
        return None
    lo, hi, body, jacobian = [], [], [], []
    for row in rows:
        at_row, of_row = pyo.value(row.body, exception=False), _gradient(row.body, at, len(x))
        low, high = (np.inf * sign if side is None else side for side, sign in ((row.lb, -1), (row.ub, 1)))
        if at_row is None or of_row is None:
            return None
        tight = NEAR * (1 + abs(at_row))
        if at_row - low <= tight or high - at_row <= tight:
            lo.append(low if at_row - low <= tight else -np.inf)
            hi.append(high if high - at_row <= tight else np.inf)
            body.append(at_row)
            jacobian.append(of_row)
    total, rest = float(value), slope
    if body:
        J = np.array(jacobian)
        mu = _multipliers(slope, J, np.array(lo), np.array(hi), (x, lb, ub))
        side = np.where(mu > 0, hi, lo)
        used = mu != 0
        total += float(mu[used] @ (np.array(body) - side)[used])
        rest = slope + J.T @ mu
    tangent = np.array([total - float(rest @ x)])
    found = float(of_columns(tangent, rest[None].copy(), slope[None], (lb[None], ub[None]), x[None])[0])
    return found if np.isfinite(found) else None


def _multipliers(
    slope: FloatArray, J: FloatArray, lo: FloatArray, hi: FloatArray, where: tuple[FloatArray, FloatArray, FloatArray]
) -> FloatArray:
    """argmin |slope + J'mu| over the columns inside their bounds; >= 0 without a lower side, <= 0 without an upper."""
    x, lb, ub = where
    room = INSIDE * (1 + np.abs(x))
    inside = (x - lb > room) & (ub - x > room)
    least, most = np.where(np.isfinite(lo), -np.inf, 0.0), np.where(np.isfinite(hi), np.inf, 0.0)
    size = np.maximum(np.max(np.abs(J), axis=1), 1e-12)
    A = (J / size[:, None])[:, inside].T
    if not A.size:
        return np.zeros(len(J))
    given: Any = A if A.shape[1] < 200 else sparse.csr_matrix(A)
    found = lsq_linear(given, -slope[inside], bounds=(least, most), tol=1e-14, max_iter=500)
    return np.clip(found.x / size, least, most)


def _gradient(expression: Any, at: dict[int, int], n: int) -> FloatArray | None:
    """(n,) derivatives by the columns; None where one is not a number."""
    out = np.zeros(n)
    variables = [v for v in identify_variables(expression, include_fixed=False) if id(v) in at]
    if variables:
        try:
            slopes = differentiate(expression, wrt_list=variables, mode=Modes.reverse_numeric)
        except (ValueError, ZeroDivisionError, OverflowError):
            return None
        for v, d in zip(variables, slopes, strict=True):
            out[at[id(v)]] += float(d)
    return out if np.all(np.isfinite(out)) else None
