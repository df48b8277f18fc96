"""Conditional value-at-risk of a unit's cost, written so that its scenarios stay separate blocks.

    min  (1 - beta) E[f] + beta CVaR_alpha[f],   CVaR_alpha[f] = min_v v + E[f - v]+ / (1 - alpha)
       = min  sum_s pi_s [ (1 - beta) f_s + beta (v_s + [f_s - v_s]+ / (1 - alpha)) ],   v_s equal in all scenarios

The value-at-risk v is one more entry that only agrees over the scenarios. A unit of it is money and is worth beta: its
multiplier lies in [-beta alpha / (1 - alpha), beta]. Rockafellar and Uryasev (2000), theorem 1.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np
import pyomo.environ as pyo
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from decomp.errors import InputError, Mistake
from decomp.messages import Coupling, FloatArray

ENTRY = "value_at_risk"


class Risk(BaseModel):
    """Table [risk]: min (1 - beta) E[cost] + beta CVaR_alpha[cost].

    alpha  share of probability outside the tail; towards 1 only the dearest scenario counts
    beta   weight of the tail; 0 = neutral to risk, then there is no further entry
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(gt=0, lt=1, allow_inf_nan=False)
    beta: float = Field(ge=0, le=1, allow_inf_nan=False)

    @property
    def averse(self) -> bool:
        """The tail counts, and the value-at-risk is an entry."""
        return self.beta > 0

    def extended(self, values: ArrayLike, more: float) -> FloatArray:
        """(n_u,) -> (n_u + 1,): values with one for the value-at-risk; unchanged where the unit is neutral."""
        given = np.asarray(values, np.float64)
        return np.append(given, more) if self.averse else given

    def of(self, cost: ArrayLike, prob: ArrayLike) -> float:
        """(1 - beta) E[f] + beta CVaR_alpha[f] of costs (S,) with probabilities (S,)."""
        f, pi = np.asarray(cost, float), np.asarray(prob, float)
        return float((1 - self.beta) * (pi @ f) + self.beta * tail_mean(f, pi, self.alpha))


def tail_mean(cost: FloatArray, prob: FloatArray, alpha: float) -> float:
    """CVaR_alpha: mean of the dearest 1 - alpha of probability, a scenario on the edge counted in part."""
    order = np.argsort(-cost, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(prob[order])[:-1]])
    part = np.clip(1 - alpha - before, 0.0, prob[order])
    return float(part @ cost[order] / part.sum())


def value_at_risk(cost: FloatArray, prob: FloatArray, alpha: float) -> float:
    """VaR_alpha: the least cost that is not exceeded with more than 1 - alpha of probability."""
    order = np.argsort(cost, kind="stable")
    at = int(np.searchsorted(np.cumsum(prob[order]), alpha - 1e-12))
    return float(cost[order[min(at, len(order) - 1)]])


def limit_warning(v: float, limits: tuple[float, float], unit: str) -> str:
    """What is to be said where a value at risk is not inside the limits that `add_risk` gave it; "" = nothing."""
    least, greatest = limits
    edge = 1e-6 * (greatest - least)
    if least + edge < v < greatest - edge:
        return ""
    return (
        f"the value at risk, {v:.6g} {unit}, is not inside its limits, {least:.6g} to {greatest:.6g} {unit}: lower "
        "bound, gap and status are those of the problem with these limits, and prove nothing of the CVaR"
    )


def add_risk(model: pyo.ConcreteModel, risk: Risk, least: float, greatest: float) -> None:
    """Make a block's model averse to risk, as the last step of `build()`; a neutral unit's model stays as it is.

        cost <- (1 - beta) f + beta (v + e / (1 - alpha)),   e >= f - v,   e >= 0,   least <= v <= greatest

    v = `value_at_risk` becomes the last entry of `coupling`; f stays as `plain_cost`. f has to be linear; a quadratic
    part is told by `convex_terms` first. The block counts v from 0: its initial price is nan there.

    least, greatest  what f can be in any scenario, the same in all of them: too narrow, they change the optimum

    Raises InputError for limits that are none.
    """
    if not risk.averse:
        return
    if not (isfinite(least) and isfinite(greatest) and least < greatest):
        problem = f"the cost would lie between {least:g} and {greatest:g}"
        raise InputError([Mistake("", "risk", "least, greatest", problem, "give two finite numbers, the lower first")])
    cost, entries = model.cost, _expressions(model.coupling)
    plain = cost.expr if hasattr(cost, "expr") else cost
    model.del_component(cost)
    model.del_component(model.coupling)
    model.plain_cost = pyo.Expression(expr=plain)
    model.value_at_risk = pyo.Var(bounds=(least, greatest))
    model.excess = pyo.Var(bounds=(0, None))
    model.tail = pyo.Constraint(expr=model.excess >= model.plain_cost - model.value_at_risk)
    in_tail = model.value_at_risk + model.excess / (1 - risk.alpha)
    model.cost = pyo.Expression(expr=(1 - risk.beta) * model.plain_cost + risk.beta * in_tail)
    entries.append(model.value_at_risk)
    model.coupling = pyo.Expression(range(len(entries)), rule=lambda _, i: entries[i])


def with_value_at_risk(coupling: Coupling, risk: Risk) -> Coupling:
    """The coupling of a unit whose blocks are averse to risk: v as last entry, weight 1, shared by all scenarios."""
    if not risk.averse:
        return coupling
    scale = np.full(len(coupling.entries), np.nan) if coupling.scale is None else coupling.scale
    level = np.full(len(coupling.entries), np.nan) if coupling.level is None else coupling.level
    sharing = coupling.sharing
    return replace(
        coupling,
        entries=(*coupling.entries, ENTRY),
        weight=np.append(coupling.weight, 1.0),
        node=np.append(coupling.node, -1),
        scale=np.append(scale, risk.beta),
        level=np.append(level, risk.alpha),
        sharing=None if sharing is None else {key: np.append(nodes, 0) for key, nodes in sharing.items()},
    )


def _expressions(component: pyo.Expression) -> list[object]:
    return [component[i].expr for i in component] if component.is_indexed() else [component.expr]
