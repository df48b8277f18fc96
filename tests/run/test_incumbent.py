"""The best realised point of all rounds: kept, searched for, and returned."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyomo.environ as pyo
import pytest
from closed_form import exchange, unit

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.coordinators import Exchange
from decomp.messages import Key
from decomp.rules import ADMM, Bundle, DantzigWolfe, DualAscent
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Execution, Limits, Output
from decomp.run.stopping import Gap, RunStatus, Stop
from decomp.steps import Step, constant

EVERY = CertificateSettings(every=1)
GAIN = ((9, 4, 7, 3, 8), (6, 8, 5, 7, 4), (5, 6, 9, 6, 7))
LOAD = ((4, 3, 5, 2, 4), (3, 5, 4, 4, 3), (3, 4, 5, 3, 4))
ROOM = (8, 8, 8)


class Agent(PyomoSubproblem):
    """Takes whole jobs, as many as it has room for."""

    def __init__(self, i):
        super().__init__()
        self.i = i

    def build(self):
        m, i = pyo.ConcreteModel(), self.i
        m.x = pyo.Var(range(5), within=pyo.Binary)
        m.room = pyo.Constraint(expr=sum(LOAD[i][j] * m.x[j] for j in range(5)) <= ROOM[i])
        m.cost = pyo.Expression(expr=-sum(GAIN[i][j] * m.x[j] for j in range(5)))
        m.coupling = pyo.Expression(range(5), rule=lambda m, j: m.x[j])
        return m


def best_assignment():
    fits = (
        who
        for who in product(range(3), repeat=5)
        if all(sum(LOAD[i][j] for j in range(5) if who[j] == i) <= ROOM[i] for i in range(3))
    )
    return -max(sum(GAIN[i][j] for j, i in enumerate(who)) for who in fits)


def test_the_best_point_of_all_rounds_is_the_upper_bound_and_the_result():
    blocks, market, coupling = exchange()
    rule = DualAscent(Step(constant, {"a": 1.4}))  # too large: points become worse from some round on
    result = run(
        blocks, market, rule, coupling=coupling, stop=[Gap(1e-12, 0.0, "total")], limits=Limits(12), certificate=EVERY
    )
    uppers = [row.upper_bound for row in result.rows if row.upper_bound is not None]
    assert uppers == sorted(uppers, reverse=True)
    assert len(uppers) == len(result.rows)
    assert result.status != RunStatus.CERTIFIED
    assert result.objective == result.certificate.upper_bound == uppers[-1]
    assert result.point == "the best point found, not proven to be an optimum"
    assert [float(result.details[key]["y"][0]) for key in sorted(result.details)] == result.answers.y.tolist()


def test_rounds_that_prove_nothing_do_not_lose_the_incumbent():
    blocks, market, coupling = exchange()
    seen_rounds = []
    result = run(
        blocks, market, DualAscent(Step(constant, {"a": 0.1})), coupling=coupling, stop=[Gap(1e-12, 0.0, "total")],
        limits=Limits(40), certificate=CertificateSettings(every=3), output=Output([seen_rounds.append]),
        execution=Execution(interrupted=lambda: len(seen_rounds) >= 5),
    )  # fmt: skip
    assert result.status == RunStatus.INTERRUPTED
    assert result.rows[-1].upper_bound is None
    best = min(row.upper_bound for row in result.rows if row.upper_bound is not None)
    assert result.objective == result.certificate.upper_bound == best


def test_a_proof_goes_before_every_other_way_to_end():
    def gloomy(seen):
        c = seen.certificate
        small = c is not None and c.gap is not None and c.gap <= 1e-4
        return Stop("nothing good will come of it", RunStatus.DIVERGED) if small else None

    blocks, market, coupling = exchange()
    result = run(
        blocks, market, ADMM(1.0), coupling=coupling, stop=[gloomy, Gap(1e-4, 0.0, "total")], limits=Limits(80),
        certificate=EVERY,
    )  # fmt: skip
    assert result.status == RunStatus.CERTIFIED


@pytest.mark.parametrize("rule", [Bundle(), DantzigWolfe()])
def test_a_point_is_searched_for_among_the_columns_where_no_average_can_be_realised(rule):
    jobs = [f"job {j}" for j in range(5)]
    market = Exchange(jobs, np.ones(5), (np.zeros(5), np.full(5, 3.0)), scale=np.full(5, 5.0))
    coupling = [unit(f"agent {i}", tuple(range(5)), (1.0,) * 5) for i in range(3)]
    result = run(
        {Key(f"agent {i}"): Agent(i) for i in range(3)}, market, rule, coupling=coupling,
        stop=[Gap(1e-6, 0.0, "total")], limits=Limits(40), certificate=EVERY,
    )  # fmt: skip
    optimum = best_assignment()
    assert result.certificate.upper_bound is not None
    assert result.certificate.lower_bound <= optimum + 1e-6
    assert result.objective == pytest.approx(optimum)
