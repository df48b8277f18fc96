"""What a finished run's solution is worth: under fresh scenarios, against knowing the future, against the mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
from scipy import stats

from decomp.blocks.program_block import ProgramBlock, mean_program
from decomp.case.config import Case
from decomp.coordinators import Nobody
from decomp.errors import TatonnementError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import FloatArray, Key, Signal
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Ranks
from decomp.problem import Problem
from decomp.run.engine import run
from decomp.run.options import Execution

T = TypeVar("T")
AGREED = 1e-6  # relative; scenarios that differ by more than this do not agree


@dataclass(frozen=True)
class Estimate:
    """Mean of independent values, its standard error, and its two-sided confidence interval by Student's t."""

    mean: float
    standard_error: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Gap:
    """Estimate of E f(x) - v* by replications (Mak, Morton and Wood 1999, section 3.2).

        G_r = 1/n sum_i f(x, xi_ri) - v_r,  v_r <= min_x' 1/n sum_i f(x', xi_ri),  mean_r G_r + t_{R-1} s_G / sqrt(R)

    v_r is the proven lower bound of the replication, so that a gap left in it widens the estimate.

    mean, standard_error   of the R values G_r
    upper                  one-sided limit of the optimality gap: it is below with the confidence asked for
    lower_estimate         mean of v_r: a lower estimate of the optimum v*
    """

    mean: float
    standard_error: float
    upper: float
    lower_estimate: float
    replications: int
    scenarios: int


@dataclass(frozen=True)
class Value:
    """What the stochastic solution is worth, over the run's own scenarios.

        EVPI = RP - WS,  VSS = EEV - RP      (Birge and Louveaux 2011, sections 4.1 and 4.2)

    recourse      RP: expected cost of the run's solution; the run's gap lies in EVPI and VSS
    wait_and_see  WS: expected cost where every scenario is known beforehand
    mean_solution EEV: expected cost of the first stage that is best for the mean of the data; None = it was not found,
                  and `mean_why` says why; inf = it has no answer in some scenario
    """

    recourse: float
    wait_and_see: float
    evpi: float
    mean_solution: float | None
    vss: float | None
    mean_why: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The first stage of a run, evaluated.

    first_stage   its values by entry
    cost          under `scenarios` fresh scenarios, those in which it has an answer; None = none was feasible
    infeasible    share of them in which it has none: then its expected cost is infinite
    conflict      what is in conflict in the first of these
    gap, value    see there; None = not asked for
    """

    first_stage: Mapping[str, float]
    scenarios: int
    seed: int
    confidence: float
    cost: Estimate | None
    infeasible: float
    conflict: str
    gap: Gap | None
    value: Value | None

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def evaluated(
    case: Case,
    offers: Mapping[str, FloatArray],
    recourse: float,
    ranks: Ranks,
    *,
    scenarios: int,
    seed: int,
    replications: int = 0,
    replication_scenarios: int | None = None,
    confidence: float = 0.95,
    value: bool = True,
) -> Evaluation | None:
    """Evaluate the first stage of a run of the case, on all ranks; None on ranks other than the root.

    offers   y of every scenario by entry, at the run's final point; recourse: its expected cost
    seed     of the fresh scenarios; replication r has seed + 1 + r
    Raises TatonnementError where the problem cannot draw scenarios, its scenarios do not agree, or has several units.
    """
    if scenarios < 2 or replications == 1 or replications < 0 or not 0 < confidence < 1:
        raise TatonnementError(
            "scenarios must be at least 2, replications 0 or at least 2, and confidence between 0 and 1"
        )
    problem = case.problem
    first = first_stage(problem, offers)
    fresh = problem.sample(scenarios, seed)
    if _stages(fresh) > 2:
        text = "what is decided in later stages depends on what is known then, which no run has decided for fresh "
        raise TatonnementError(text + "scenarios: only programs of two stages can be evaluated")
    answers = _on_all(fresh, ranks, lambda pool, layout: _fixed(pool, layout, first))
    gap = None
    if replications:
        size = replication_scenarios or scenarios
        gap = _gap(case, first, ranks, [seed + 1 + r for r in range(replications)], size, confidence)
    worth = _value(problem, recourse, ranks) if value else None
    if answers is None:
        return None
    cost, why = answers
    feasible = cost[np.isfinite(cost)]
    estimate = _estimate(feasible, confidence) if len(feasible) > 1 else None
    return Evaluation(first, scenarios, seed, confidence, estimate, float(np.mean(~np.isfinite(cost))), why, gap, worth)


def first_stage(problem: Problem, offers: Mapping[str, FloatArray]) -> dict[str, float]:
    """Value of every entry on which all scenarios agree. Raises TatonnementError where they do not."""
    if problem.coordinator is not None or len(problem.couplings) != 1:
        raise TatonnementError("only stochastic programs can be evaluated: one unit, whose scenarios agree")
    c = problem.couplings[0]
    rows = None if c.sharing is None else np.stack([np.asarray(c.sharing[key]) for key in sorted(c.sharing)])
    found: dict[str, float] = {}
    for i, name in enumerate(c.entries):
        if rows is not None and np.any(rows[:, i] != rows[0, i]):
            continue
        y = np.asarray(offers[name], float)
        if not np.all(np.isfinite(y)) or np.ptp(y) > AGREED * (1 + np.max(np.abs(y))):
            text = f"the scenarios of the run do not agree on {name}: {np.min(y):.6g} to {np.max(y):.6g}"
            raise TatonnementError(f"{text}; let it run until they do")
        mean = float(np.mean(y))
        found[name] = float(np.round(mean)) if abs(mean - np.round(mean)) <= 1e-9 * (1 + abs(mean)) else mean
    if not found:
        raise TatonnementError("the run's blocks have no first stage in common")
    return found


# -- behind it ---------------------------------------------------------------------------------------------------------


def _stages(problem: Problem) -> int:
    """2 where all scenarios agree on every entry, else more."""
    c = problem.couplings[0]
    rows = [] if c.sharing is None else [np.asarray(c.sharing[key]) for key in sorted(c.sharing)]
    return 2 if all(np.array_equal(row, rows[0]) for row in rows) else 3


def _on_all(problem: Problem, ranks: Ranks, ask: Callable[[BlockPool, Layout], T]) -> T | None:
    """What `ask` makes of the problem's blocks, on the root; the other ranks serve it and get None.

    A TatonnementError there is raised on all ranks: none goes on alone.
    """
    layout = Layout.of(problem.couplings, 0)
    found, failure = None, None
    with BlockPool(ranks, layout, problem.subproblem) as pool:
        if ranks.rank:
            pool.serve()
        else:
            try:
                pool.build()
                found = ask(pool, layout)
            except TatonnementError as error:
                failure = error
    told = ranks.agree(None if failure is None else str(failure))
    if told is not None:
        raise failure or TatonnementError(told)
    return found


def _fixed(pool: BlockPool, layout: Layout, first: Mapping[str, float]) -> tuple[FloatArray, str]:
    """(B,) cost of each scenario with the first stage fixed, inf where there is no answer, and why in the first."""
    y = np.array([first[name] for name in layout.couplings[0].entries])
    answers = pool.evaluate(layout.to_blocks(y), keep=False)
    cost = np.where(np.isfinite(answers.cost), answers.cost, np.inf)
    return cost, "" if np.all(np.isfinite(cost)) else _first(pool)


def _first(pool: BlockPool) -> str:
    """Why the first of the blocks without an answer has none."""
    return next((f"{name}: {why}" for name, why in pool.reasons().items()), "")


def _estimate(values: FloatArray, confidence: float) -> Estimate:
    n, mean = len(values), float(np.mean(values))
    error = float(np.std(values, ddof=1) / math.sqrt(n))
    half = float(stats.t.ppf(0.5 + confidence / 2, n - 1)) * error
    return Estimate(mean, error, mean - half, mean + half, n)


def _gap(
    case: Case, first: Mapping[str, float], ranks: Ranks, seeds: Sequence[int], size: int, confidence: float
) -> Gap | None:
    gaps, lower = [], []
    for seed in seeds:
        problem = case.problem.sample(size, seed)
        fixed = _on_all(problem, ranks, lambda pool, layout: _fixed(pool, layout, first))
        result = run(
            problem.subproblem, Nobody(), case.rule, coupling=problem.couplings, stop=case.stop,
            limits=replace(case.limits, schedules=False), certificate=case.certificate, execution=Execution(ranks),
        )  # fmt: skip
        bound = None if result is None or result.certificate is None else result.certificate.lower_bound
        if ranks.agree(ranks.rank == 0 and bound is None):
            raise TatonnementError(
                f"the replication with seed {seed} ended without a lower bound; let the case's rule and stop prove one"
            )
        if fixed is not None and bound is not None:
            gaps.append(float(np.mean(fixed[0])) - bound)
            lower.append(bound)
    if not gaps:
        return None
    values, count = np.array(gaps), len(gaps)
    error = float(np.std(values, ddof=1) / math.sqrt(count)) if np.all(np.isfinite(values)) else math.inf
    mean = float(np.mean(values))
    upper = mean + float(stats.t.ppf(confidence, count - 1)) * error
    return Gap(mean, error, upper, float(np.mean(lower)), count, size)


def _value(problem: Problem, recourse: float, ranks: Ranks) -> Value | None:
    alone = problem.unbundled()
    found = _on_all(alone, ranks, lambda pool, layout: _seen(pool, layout, alone))
    if found is None:
        return None
    wait, mean, why = found
    return Value(recourse, wait, recourse - wait, mean, None if mean is None else mean - recourse, why)


def _seen(pool: BlockPool, layout: Layout, problem: Problem) -> tuple[float, float | None, str]:
    """Wait-and-see, the cost of the mean's first stage, and why there is none."""
    zero = np.zeros(len(layout.entry))
    answers: Answers = pool.solve(Signals(layout, zero, exact=True), keep=False)
    wait = answers.expected_cost()
    if _stages(problem) > 2:
        return wait, None, "with more than two stages the mean's first stage has no single continuation"
    try:
        blocks: dict[Key, Any] = {key: problem.subproblem(key) for key in layout.keys}
        program = mean_program([block.program for block in blocks.values()], layout.prob)
    except (AttributeError, ValueError) as error:
        return wait, None, f"the mean of the blocks' data is no block: {error}"
    best = ProgramBlock(program, next(iter(blocks.values())).settings).solve(
        Signal(np.zeros(len(layout.node)), exact=True)
    )
    if not best.status.has_point:
        return wait, None, f"the problem with mean data: {best.message}"
    cost = pool.evaluate(layout.to_blocks(best.y), keep=False)
    total = float(np.sum(layout.prob * np.where(np.isfinite(cost.cost), cost.cost, np.inf)))
    return wait, total, "" if math.isfinite(total) else f"the mean's first stage: {_first(pool)}"
