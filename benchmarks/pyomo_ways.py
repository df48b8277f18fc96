"""One community, prices that change in two hours, and ways to solve it anew; the same tangents in all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.contrib.appsi.solvers import Highs

from benchmarks.communities import SETTLED, campus
from decomp.messages import FloatArray, Signal
from problems.lec.community import LocalEnergyCommunity

IN_A_ROW = 4
MANY = "ours, in a round"
TOGETHER = 64  # blocks of one template that a rank asks together


def compare(rounds: int, in_a_row: int = IN_A_ROW) -> Iterator[str]:
    """The lines of a table: CPU ms a solve of each way, and how many times ours it takes.

    in_a_row: solves of one way before the next has its turn; each turn begins on caches that the others have filled,
    which weighs most on the fastest way
    """
    market = campus()
    yield "| community | way | what it does each round | CPU ms a block | times ours alone | times ours in a round |"
    yield "|---|---|---|---|---|---|"
    for name, data in market.data.items():
        rng = np.random.default_rng(0)
        prices = []
        for _ in range(rounds * in_a_row):
            price = data.reactive_price_sek_per_kvarh.copy()
            price[[13, 16]] += 0.1 + 0.02 * rng.normal(size=2)
            prices.append(price)
        ways = _ways(market, name, rounds)
        taken: dict[str, list[float]] = {key: [] for key in ways}
        values: dict[str, list[float]] = {key: [] for key in ways}
        for first in range(0, len(prices), in_a_row):
            for key, (_, solve) in ways.items():
                gc.collect()  # what one way leaves behind is not swept up in another's time
                for price in prices[first : first + in_a_row]:
                    begin = time.process_time()
                    values[key].append(solve(price))
                    taken[key].append(1e3 * (time.process_time() - begin) / (TOGETHER if key == MANY else 1))
        alone, ours = (float(np.median(taken[key])) for key in ("ours", MANY))
        for key, (what, _) in ways.items():
            if key not in ("ours", "rebuilt, MILP"):
                off = np.abs(np.subtract(values[key], values["ours"])).max()
                assert off < 1e-4, f"{key} and ours do not solve the same problem: {off:g} apart"
            ms = float(np.median(taken[key]))
            yield f"| {name} | {key} | {what} | {ms:.2f} | {ms / alone:.1f} | {ms / ours:.1f} |"


def _ways(market: Any, name: str, rounds: int) -> dict[str, tuple[str, Callable[[FloatArray], float]]]:
    """Each way: what it does, and (price) -> optimal value of f - <price, y + y0>."""
    lec, data = market.settings.lec[name], market.data[name]

    def block() -> LocalEnergyCommunity:
        return LocalEnergyCommunity(name, lec, data, freeze_p=False, settings=SETTLED)

    warm = block()
    paid = float(data.dt_h * data.reactive_price_sek_per_kvarh @ warm.initial.offer)

    def ours(price: FloatArray) -> float:
        answer = warm.solve(Signal(price))
        assert answer.bound is not None
        return answer.bound + paid - float(data.dt_h * price @ warm.initial.offer)

    many = [
        LocalEnergyCommunity(name, lec, data, freeze_p=False, shared=True, settings=SETTLED) for _ in range(TOGETHER)
    ]
    apart = 0.002 * np.random.default_rng(1).normal(size=(TOGETHER, 2))
    apart[0] = 0.0

    def together(price: FloatArray) -> float:
        asked = np.tile(price, (TOGETHER, 1))
        asked[:, [13, 16]] += apart
        answers = list(LocalEnergyCommunity.solve_together(many, [Signal(p) for p in asked]))
        assert answers[0].bound is not None
        return answers[0].bound + paid - float(data.dt_h * price @ many[0].initial.offer)

    held = _model(block(), True)
    persistent = Highs()
    update = persistent.update_config
    for flag in ("constraints", "vars", "params", "objective"):
        setattr(update, f"check_for_new_{'or_removed_' if flag != 'objective' else ''}{flag}", False)
    update.update_constraints = update.update_vars = update.update_named_expressions = False
    update.treat_fixed_vars_as_params = False

    def kept(price: FloatArray) -> float:
        for k, value in enumerate(price):
            held.price[k] = float(value)
        return _solved(persistent, held)

    def rebuilt(relax: bool) -> Callable[[FloatArray], float]:
        def solve(price: FloatArray) -> float:
            model = _model(block(), relax)
            for k, value in enumerate(price):
                model.price[k] = float(value)
            return _solved(Highs(), model)

        return solve

    ours(data.reactive_price_sek_per_kvarh)
    kept(data.reactive_price_sek_per_kvarh)
    for one in many:
        one.solve(Signal(data.reactive_price_sek_per_kvarh))
    return {
        "ours": ("changed costs into the HiGHS object that is kept, warm LP, offer, cost, proven bound", ours),
        MANY: (
            f"the same for {TOGETHER} scenarios' blocks in one go, as in a round of many; for each of them",
            together,
        ),
        "persistent": ("Pyomo's persistent HiGHS, the same LP: told that only the prices change", kept),
        "rebuilt": ("Pyomo model built anew, the same LP by Pyomo's HiGHS", rebuilt(True)),
        "rebuilt, MILP": ("Pyomo model built anew, integers decided (relative gap 1e-4)", rebuilt(False)),
    }


def _model(block: LocalEnergyCommunity, relax: bool) -> pyo.ConcreteModel:
    """The community with its tangents as constraints and the price as a mutable parameter."""
    model = block.build()
    steps = list(block.data.steps)
    model.price = pyo.Param(steps, mutable=True, initialize=0.0, within=pyo.Reals)
    model.tangent = pyo.ConstraintList()
    for term in block.convex_terms(model):
        p, q = term.variables
        points = np.array(term.touches)
        slopes, values = np.column_stack(term.gradient(*points.T)), term.function(*points.T)
        for t, x, y in zip(term.epigraph, p, q, strict=True):
            for (dp, dq), (p0, q0), f0 in zip(slopes.tolist(), points.tolist(), values.tolist(), strict=True):
                model.tangent.add(t >= f0 + dp * (x - p0) + dq * (y - q0))
    if relax:
        for v in model.component_data_objects(pyo.Var):
            if v.is_binary():
                v.domain = pyo.UnitInterval
    dt = block.data.dt_h
    worth = sum(model.price[k] * model.coupling[k] * dt for k in steps)
    model.objective = pyo.Objective(expr=model.cost - worth)
    return model


def _solved(solver: Highs, model: pyo.ConcreteModel) -> float:
    solver.config.load_solution = True
    solver.highs_options = {"threads": 1}
    result = solver.solve(model)
    return float(result.best_feasible_objective)
