"""What a finished run's solution is worth: under fresh scenarios, against knowing the future, against the mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from decomp.blocks.program_block import ProgramBlock, mean_program
from decomp.case.config import Case
from decomp.case.evaluation_figures import Evaluation, Gap, Value, estimate, gap_of
from decomp.coordinators import Nobody
from decomp.errors import TatonnementError
from decomp.layout import Answers, Layout, Signals
from decomp.messages import Coupling, FloatArray, Key, Signal
from decomp.parallel.block_pool import BlockPool
from decomp.parallel.ranks import Ranks
from decomp.problem import Problem
from decomp.run.engine import run
from decomp.run.options import Execution
from decomp.subproblem import Subproblem

T = TypeVar("T")
AGREED = 1e-6  # relative; scenarios that differ by more than this do not agree


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
    branching: Sequence[int] = (),
    confidence: float = 0.95,
    value: bool = True,
) -> Evaluation | None:
    """Evaluate the first stage of a run of the case, on all ranks; None on ranks other than the root.

    offers   y of every scenario by entry, at the run's final point; recourse: its expected cost
    seed     of the fresh scenarios; replication r has seed + 1 + r
    branching  with more than two stages: of each of `scenarios` fresh trees the nodes below each node, by stage.
               Tree i has seed + i, replication r is one tree of seed + scenarios + r
    Raises TatonnementError where the problem cannot draw scenarios, its scenarios do not agree, or has several units.
    """
    if scenarios < 2 or replications == 1 or replications < 0 or not 0 < confidence < 1:
        raise TatonnementError(
            "scenarios must be at least 2, replications 0 or at least 2, and confidence between 0 and 1"
        )
    problem = case.problem
    first = first_stage(problem, offers)
    gap = None
    if _stages(problem) > 2 or branching:
        if len(branching) == 0 or math.prod(branching) < 2:
            text = "what is decided later depends on what is known then, and is decided anew in fresh scenario trees"
            raise TatonnementError(f"{text}: give --branching 5,5, the nodes below each node, by stage")
        trees = _Trees(problem, tuple(first), tuple(branching), range(seed, seed + scenarios))
        answers = _on_all(trees, ranks, lambda pool, layout: _fixed(pool, layout, first))
        if replications:
            seeds = range(seed + scenarios, seed + scenarios + replications)
            gap = _gap_of_trees(_Trees(problem, tuple(first), tuple(branching), seeds), first, ranks, confidence)
    else:
        fresh = problem.sample(scenarios, seed)
        answers = _on_all(fresh, ranks, lambda pool, layout: _fixed(pool, layout, first))
        if replications:
            size = replication_scenarios or scenarios
            gap = _gap(case, first, ranks, [seed + 1 + r for r in range(replications)], size, confidence)
    worth = _value(problem, recourse, ranks) if value else None
    if answers is None:
        return None
    cost, why = answers
    feasible = cost[np.isfinite(cost)]
    cost_estimate = estimate(feasible, confidence) if len(feasible) > 1 else None
    return Evaluation(
        first, scenarios, seed, confidence, cost_estimate, float(np.mean(~np.isfinite(cost))), why, gap, worth
    )


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
        found[name] = float(y[0])  # one block's own answer, to the last digit: rows hold there that a mean may miss
    if not found:
        raise TatonnementError("the run's blocks have no first stage in common")
    return found


# -- behind it ---------------------------------------------------------------------------------------------------------


def _stages(problem: Problem) -> int:
    """2 where all scenarios agree on every entry, else more."""
    c = problem.couplings[0]
    rows = [] if c.sharing is None else [np.asarray(c.sharing[key]) for key in sorted(c.sharing)]
    return 2 if all(np.array_equal(row, rows[0]) for row in rows) else 3


class _Trees(Problem):
    """Fresh scenario trees, each one block with the first stage for its offer; built on the rank that owns it."""

    coordinator = None

    def __init__(
        self, problem: Problem, names: tuple[str, ...], branching: tuple[int, ...], seeds: Sequence[int]
    ) -> None:
        self.problem, self.branching = problem, branching
        width = len(str(len(seeds)))
        self.seeds = {Key("tree", f"{i:0{width}d}"): seed for i, seed in enumerate(seeds)}
        n, prob = len(names), dict.fromkeys(self.seeds, 1.0 / len(seeds))
        self.couplings = (Coupling("tree", names, np.ones(n), np.full(n, -1), prob),)

    def subproblem(self, key: Key) -> Subproblem:
        tree = self.problem.sample_tree(self.branching, self.seeds[key])
        (own,) = tree.couplings[0].prob
        if tree.couplings[0].entries != self.couplings[0].entries:
            raise TatonnementError("a fresh tree decides other variables in its first stage than the run")
        return tree.subproblem(own)


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
    return gap_of(np.array(gaps), np.array(lower), size, confidence) if gaps else None


def _gap_of_trees(trees: _Trees, first: Mapping[str, float], ranks: Ranks, confidence: float) -> Gap | None:
    """Every replication is one tree: with the first stage fixed, against the proven bound of its optimum."""

    def ask(pool: BlockPool, layout: Layout) -> tuple[FloatArray, FloatArray]:
        bound = pool.solve(Signals(layout, np.zeros(len(layout.entry)), exact=True), keep=False).bound
        return _fixed(pool, layout, first)[0], bound

    found = _on_all(trees, ranks, ask)
    if ranks.agree(found is not None and bool(np.isnan(found[1]).any())):
        raise TatonnementError("a replication has no proven lower bound; take a solver that gives bounds")
    return None if found is None else gap_of(found[0] - found[1], found[1], math.prod(trees.branching), confidence)


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
