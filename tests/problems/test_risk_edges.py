"""Risk and probability at their edges: bounds that hold, figures that are numbers, nothing divided by zero."""

from __future__ import annotations

import numpy as np
import pytest
from uncertain_market import MORE, SCENARIOS, Producer, couplings, network, optimum

from decomp.messages import Key
from decomp.rules import ADMM, APP, BarzilaiBorwein, Bundle
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus
from problems.risk import Risk, tail_mean, value_at_risk

FIVE, RARE = (0.3, 0.1, 0.2, 0.25, 0.15), (0.9, 1e-6, 0.1 - 1e-6)
SAME = ("fair", "fair 2", "fair 3")
EDGES = {
    "only the worst of five": (Risk(alpha=0.999, beta=1.0), FIVE, MORE),
    "half the worst of five": (Risk(alpha=0.999, beta=0.5), FIVE, MORE),
    "alpha nearly 1": (Risk(alpha=1 - 1e-9, beta=1.0), FIVE, MORE),
    "alpha nearly 0": (Risk(alpha=1e-9, beta=1.0), FIVE, MORE),
    "beta nearly 0": (Risk(alpha=0.9, beta=1e-9), FIVE, MORE),
    "neutral": (Risk(alpha=0.9, beta=0.0), FIVE, MORE),
    "a rare scenario": (Risk(alpha=0.9, beta=0.5), RARE, SCENARIOS),
    "a tail of one in a million": (Risk(alpha=1 - 1e-6, beta=1.0), RARE, SCENARIOS),
    "one scenario alone": (Risk(alpha=0.9, beta=0.5), (1.0,), SCENARIOS[1:2]),
    "all scenarios equal": (Risk(alpha=0.9, beta=0.5), (0.2, 0.5, 0.3), SAME),
}
NUMBERS = ("cost", "spread", "multiplier_sum", "mismatch", "primal_residual", "dual_residual", "primal_relative")


def ended(rule, risk, prob, names, limit):
    return run(
        lambda key: Producer(key, risk), network(), rule, coupling=couplings(risk, prob, names),
        stop=[Gap(1e-4, 0.0, "total")], limits=Limits(limit), certificate=CertificateSettings(every=1),
    )  # fmt: skip


def of_both(prob):
    return {"one": prob, "two": prob[::-1]}


def encloses(result, best):
    slack = 1e-6 * (1 + abs(best))
    for row in result.rows:
        assert row.lower_bound <= best + slack
        assert row.upper_bound is None or row.upper_bound >= best - slack
        assert all(np.isfinite(getattr(row, name)) for name in NUMBERS)
    assert result.certificate.w_sum < 1e-9
    assert np.isfinite(result.certificate.answers.y).all()


@pytest.mark.parametrize("name", EDGES)
def test_the_optimum_at_the_edge_is_found(name):
    risk, given, names = EDGES[name]
    prob = of_both(given)
    best = optimum(risk, prob, names)
    result = ended(Bundle(), risk, prob, names, 25)
    encloses(result, best)
    assert result.status == RunStatus.CERTIFIED, result.reason
    plain = Risk(alpha=risk.alpha, beta=0.0)
    total = result.request.cost
    for unit, pi in prob.items():
        y = [result.answers[Key(unit, s)].y for s in names]
        costs = [Producer(Key(unit, s), plain).evaluate(y[i][:2]).cost for i, s in enumerate(names)]
        total += risk.of(costs, pi)
        assert np.ptp(np.array(y), axis=0).max() < 1e-6
    assert result.objective == pytest.approx(total, abs=1e-3 * (1 + abs(best)))


@pytest.mark.parametrize("rule", [ADMM(), APP(), BarzilaiBorwein()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("name", EDGES)
def test_other_rules_stay_honest_at_the_edge(name, rule):
    risk, given, names = EDGES[name]
    prob = of_both(given)
    encloses(ended(rule, risk, prob, names, 3), optimum(risk, prob, names))


def test_the_tail_at_its_edges_by_hand():
    costs, prob = np.array([3.0, 8.0, 5.0]), np.array(RARE)
    assert tail_mean(costs, prob, 1 - 1e-9) == 8.0
    assert tail_mean(costs, prob, 1 - 2e-6) == pytest.approx(6.5)
    assert tail_mean(costs, prob, 1e-12) == pytest.approx(prob @ costs)
    assert tail_mean(costs, np.array([0.5, 0.0, 0.5]), 1 - 1e-9) == 5.0  # what cannot happen does not count
    assert [value_at_risk(costs, prob, alpha) for alpha in (1e-9, 0.95, 1 - 1e-9)] == [3.0, 5.0, 8.0]
    assert value_at_risk(np.full(3, 4.0), prob, 0.9) == tail_mean(np.full(3, 4.0), prob, 0.9) == 4.0
