"""Points for blocks with whole decisions whose columns do not fit together by themselves."""

import itertools

import numpy as np
import pytest

from decomp.coordinators import Quadratic
from decomp.integer_pattern import pattern_of
from decomp.messages import Coupling, Key, QuadraticModel, Response, Signal
from decomp.rules import Bundle, DantzigWolfe
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap
from decomp.subproblem import Subproblem

AGENTS, JOBS = 3, 9
rng = np.random.default_rng(3)
PROFIT = rng.integers(15, 25, (AGENTS, JOBS)).astype(float)
WORK = rng.integers(5, 25, (AGENTS, JOBS)).astype(float)
CAPACITY = np.floor(0.85 * WORK.sum(1) / AGENTS)


class Job(Subproblem):
    """One agent i does it: y = work_i e_i at cost -profit_i."""

    abilities = frozenset({"bound", "evaluate"})

    def __init__(self, j: int) -> None:
        self.cost, self.work = -PROFIT[:, j], WORK[:, j]

    def _by(self, i: int, bound: float | None) -> Response:
        y = self.work[i] * np.eye(AGENTS)[i]
        return Response(y=y, cost=float(self.cost[i]), bound=bound, pattern=pattern_of(np.eye(AGENTS)[i]))

    def solve(self, signal: Signal) -> Response:
        value = self.cost - signal.price * self.work
        return self._by(int(np.argmin(value)), float(value.min()))

    def evaluate(self, y: np.ndarray) -> Response:
        same = [i for i in range(AGENTS) if np.allclose(y, self.work[i] * np.eye(AGENTS)[i])]
        return self._by(same[0], None) if same else Response(y=y, cost=np.inf, bound=None)


def optimum() -> float:
    each = np.arange(JOBS)
    best = 0.0
    for by in itertools.product(range(AGENTS), repeat=JOBS):
        if np.all(np.bincount(by, WORK[by, each], AGENTS) <= CAPACITY):
            best = min(best, -PROFIT[by, each].sum())
    return best


def assigned(rule, rounds=12):
    none = np.full(AGENTS, np.inf)
    model = QuadraticModel(
        np.zeros((AGENTS, AGENTS)), np.zeros(AGENTS), np.eye(AGENTS), -none, CAPACITY, -none, none, np.arange(AGENTS)
    )
    agents = tuple(f"agent{i}" for i in range(AGENTS))
    market = Quadratic(model, agents, (np.zeros(AGENTS), WORK.sum(1)), scale=np.ones(AGENTS))
    jobs = [Coupling(f"job{j}", agents, np.ones(AGENTS), np.arange(AGENTS), {Key(f"job{j}"): 1.0}) for j in range(JOBS)]
    blocks = {Key(f"job{j}"): Job(j) for j in range(JOBS)}
    return run(
        blocks, market, rule, coupling=jobs, stop=[Gap(1e-6, 0.0, "total")], limits=Limits(rounds),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip


@pytest.mark.parametrize("rule", [Bundle(), DantzigWolfe()])
def test_a_point_is_put_together_where_no_round_has_a_feasible_one(rule):
    result, best = assigned(rule), optimum()
    assert best < 0
    found = result.certificate
    assert found.upper_bound is not None
    assert found.lower_bound <= best + 1e-6 <= found.upper_bound + 2e-6
    assert found.upper_bound <= 0.98 * best  # within two per cent
    assert np.all(result.layout.totals(result.layout.mean(found.answers.y)) <= CAPACITY + 1e-9)
