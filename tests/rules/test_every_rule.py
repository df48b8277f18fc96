"""Every rule on units under uncertainty: bounds that are bounds, offers equal in all scenarios, and honest ends."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from uncertain_market import PROB, SCENARIOS, Producer, by_hand, couplings, network, optimum

from decomp.errors import RefusedError
from decomp.messages import Key
from decomp.rules import RULES, DualAscent
from decomp.run.certificate import CertificateSettings
from decomp.run.console import last_lines
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.result_files import write
from decomp.run.stopping import Gap, RunStatus
from decomp.steps import Step, constant
from problems.risk import Risk

STEP = Step(constant, {"a": 0.3})
ASCENT = DualAscent(STEP, agreement_step=STEP)
REQUIRED = {  # what has no default
    "dual_ascent": {"step": STEP, "agreement_step": STEP},
    "transactive": {"step": STEP, "agreement_step": STEP},
    **{name: {"rule": ASCENT} for name in ("averaged_answers", "averaged_prices", "damped", "projected")},
}
AVERSE = Risk(alpha=0.7, beta=0.5)


@cache
def problem(name):
    if name in ("at nodes", "alone"):
        return by_hand(name == "at nodes")
    risk = AVERSE if name == "averse" else Risk(alpha=0.7, beta=0.0)
    return lambda key: Producer(key, risk), network(), couplings(risk), optimum(risk)


PROVEN = {  # rounds to a gap of 1e-4; whatever is not here is not asked to come that far
    ("auto", "linear"): 12, ("bundle", "linear"): 12, ("dantzig_wolfe", "linear"): 20, ("admm", "linear"): 30,
    **{("interior_point", name): 12 for name in ("linear", "averse")},
    ("auto", "averse"): 14, ("bundle", "averse"): 16, ("dantzig_wolfe", "averse"): 25,
    **{(rule, "at nodes"): 40 for rule in ("admm", "atc", "barzilai_borwein", "nesterov")},
    **{(rule, "alone"): 40 for rule in ("admm", "barzilai_borwein", "progressive_hedging")}, ("app", "alone"): 150,
    **{(rule, name): 12 for rule in ("auto", "bundle", "newton") for name in ("at nodes", "alone")},
}  # fmt: skip
REFUSED = {
    ("newton", "linear"): "needs blocks with sensitivity",
    ("newton", "averse"): "needs blocks with sensitivity",
    **{("interior_point", name): "needs blocks with kkt" for name in ("at nodes", "alone")},
    **{("progressive_hedging", name): "use admm" for name in ("linear", "averse", "at nodes")},
    **{("value_at_risk", name): "is no value-at-risk" for name in ("linear", "averse", "at nodes", "alone")},
}


@pytest.mark.parametrize("name", ["linear", "averse", "at nodes", "alone"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_encloses_the_optimum_and_says_how_it_ended(rule, name):
    blocks, coordinator, coupling, best = problem(name)
    limit = PROVEN.get((rule, name))

    def ended():
        return run(
            blocks, coordinator, RULES[rule](**REQUIRED.get(rule, {})), coupling=coupling,
            stop=[Gap(1e-4, 0.0, "total")], limits=Limits(limit or 6), certificate=CertificateSettings(every=1),
        )  # fmt: skip

    if (rule, name) in REFUSED:
        with pytest.raises(RefusedError, match=REFUSED[rule, name]):
            ended()
        return
    result = ended()
    slack = 1e-6 * (1 + abs(best))
    assert all(row.lower_bound <= best + slack for row in result.rows)
    assert all(row.upper_bound is None or row.upper_bound >= best - slack for row in result.rows)
    assert result.certificate.w_sum < 1e-9
    assert result.certificate.gap is None or result.certificate.gap >= 0
    if limit:
        assert result.status == RunStatus.CERTIFIED, result.reason
        assert result.objective == pytest.approx(best, rel=1.1e-4)
    else:
        assert result.status in (RunStatus.CERTIFIED, RunStatus.ITERATION_LIMIT), result.reason
        proven = result.certificate.gap is not None and result.certificate.gap <= 1e-4
        assert (result.status == RunStatus.CERTIFIED) == proven
    if result.certificate.upper_bound is not None:
        for unit in PROB:
            y = np.array([result.certificate.answers[Key(unit, s)].y for s in SCENARIOS])
            assert np.ptp(y, axis=0).max() < 1e-6


@pytest.mark.parametrize(("rule", "limit"), [("dual_ascent", 2), ("bundle", 12)])
def test_a_run_says_of_which_point_its_series_are(rule, limit, tmp_path):
    blocks, coordinator, coupling, _ = problem("linear")
    result = run(
        blocks, coordinator, RULES[rule](**REQUIRED.get(rule, {})), coupling=coupling,
        stop=[Gap(1e-4, 0.0, "total")], limits=Limits(limit), certificate=CertificateSettings(every=1),
    )  # fmt: skip
    write(result, tmp_path, case={}, extra={})
    told = json.loads((tmp_path / "result.json").read_text())["point"]
    assert told in last_lines(result, [], Path("results"))
    if result.status == RunStatus.CERTIFIED:
        assert told == "the certified point"
    elif result.certificate.upper_bound is not None:
        assert told == "the best point found, not proven to be an optimum"
        assert result.objective == min(row.upper_bound for row in result.rows if row.upper_bound is not None)
    else:
        spread, where = result.layout.spread(result.final.answers.y)
        assert told.startswith("the offers of the last round, not proven")
        assert told.endswith(f"scenarios differ there by up to {spread:.3g} at {where}")
