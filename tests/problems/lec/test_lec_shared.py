"""All scenarios of a community on one model and one solver: the same schedules as with a model for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from lec_cases import LEC1, LEC2, NEUTRAL, campus

from decomp.blocks.pyomo_block import BlockSettings
from decomp.messages import Signal
from problems.lec.community import LocalEnergyCommunity
from problems.lec.data import LecData
from problems.lec.opportunity import excess, settled_error

SCENARIOS = 3
FAST = BlockSettings(tangents="fixed", milp="relax")


def scenario(data: LecData, number: int) -> LecData:
    rng = np.random.default_rng(number)
    return replace(
        data,
        pv_pu=data.pv_pu * rng.uniform(0.5, 1.4),
        load_p_kw=data.load_p_kw * rng.uniform(0.9, 1.1, data.n),
        load_q_kvar=data.load_q_kvar * rng.uniform(0.9, 1.1, data.n),
        spot_sek_per_kwh=data.spot_sek_per_kwh - 0.3 * rng.uniform(size=data.n),
        heat_load_kw=data.heat_load_kw * rng.uniform(0.9, 1.1, data.n),
        heat_price_sek_per_kwh=data.heat_price_sek_per_kwh * rng.uniform(0.9, 1.1, data.n),
    )


def signals(n: int) -> list[Signal]:
    out = [Signal(np.full(n, NEUTRAL))]
    for k in range(2):
        price = np.full(n, NEUTRAL)
        price[13 + k] += 0.06 * (1 - 2 * k)
        out.append(Signal(price, active=price != NEUTRAL))
    return [*out, Signal(out[1].price, np.full(n, 1.0), np.full(n, 0.01), out[1].active)]


@pytest.mark.parametrize("table", [LEC1, LEC2], ids=["LEC1", "LEC2"])
def test_shared_communities_answer_as_those_with_a_model_of_their_own(table: dict[str, Any]) -> None:
    own, data = campus(table)
    days = [scenario(data, s) for s in range(SCENARIOS)]
    options: dict[str, Any] = {"freeze_p": True, "settings": FAST}
    together = [LocalEnergyCommunity("LEC", own, day, shared=True, **options) for day in days]
    # an equal table that is another object has a template of its own
    alone = [LocalEnergyCommunity("LEC", own.model_copy(), day, shared=True, **options) for day in days]
    plain = [LocalEnergyCommunity("LEC", own, day, **options) for day in days]
    for signal in signals(data.n):
        answers = [block.solve(signal) for block in together]
        for block, other, answer in zip(alone, plain, answers, strict=True):
            same, near = block.solve(signal), other.solve(signal)
            assert np.array_equal(same.y, answer.y)
            assert np.array_equal(same.report, answer.report)
            assert (same.cost, same.bound) == (answer.cost, answer.bound)
            assert near.cost - signal.price @ near.y == pytest.approx(answer.cost - signal.price @ answer.y, rel=1e-7)
            if signal.target is None:
                assert near.bound == pytest.approx(answer.bound, rel=1e-7)
    for block, other, answer in zip(together, plain, answers, strict=True):
        shown, meant = block.detail(answer), other.detail(other.solve(signal))
        assert shown.keys() == meant.keys()
        for name in ("p_load_kw", "q_load_kvar", "heat_load_kw"):
            assert np.array_equal(shown[name], meant[name])


@pytest.mark.parametrize("table", [LEC1, LEC2], ids=["LEC1", "LEC2"])
def test_communities_asked_together_answer_to_the_bit_as_asked_one_by_one(table: dict[str, Any]) -> None:
    own, data = campus(table)
    other = own.model_copy()
    days = [scenario(data, s) for s in range(5)]
    together, alone = (
        [LocalEnergyCommunity("LEC", lec, day, shared=True, freeze_p=True, settings=FAST) for day in days]
        for lec in (own, other)
    )
    assert len({block.batch_key for block in together}) == 1
    assert together[0].batch_key != alone[0].batch_key
    for signal in [*signals(data.n)[:3], signals(data.n)[0], *signals(data.n)[1:]]:
        asked = [Signal(signal.price * (1 + 0.1 * i), signal.target, signal.penalty, signal.active) for i in range(5)]
        some = LocalEnergyCommunity.solve_together(together[:2], asked[:2])
        answers = [*some, *LocalEnergyCommunity.solve_together(together[2:], asked[2:])]
        for block, question, answer in zip(alone, asked, answers, strict=True):
            same = block.solve(question)
            assert np.array_equal(same.y, answer.y)
            assert np.array_equal(same.point, answer.point)
            assert np.array_equal(same.report, answer.report)
            assert (same.cost, same.bound, same.status) == (answer.cost, answer.bound, answer.status)


def test_settled_tangents_are_off_by_no_more_than_is_said() -> None:
    own, data = campus(LEC1)
    block = LocalEnergyCommunity("LEC", own, data, shared=True, freeze_p=False, settings=FAST)
    worst = 0.0
    for signal in signals(data.n)[:3]:
        answer = block.solve(signal)
        assert answer.bound is not None
        shown = block.detail(answer)
        allowed = 0.0
        for device in ("pv", "boiler_chp"):
            p, q = shown[f"p_{device}_kw"], shown[f"q_{device}_kvar"]
            apparent = excess(p, q) + p
            allowed += settled_error() * float(np.maximum(data.spot_sek_per_kwh, 0.0) @ apparent) * data.dt_h
        short = answer.cost - signal.price @ answer.y - answer.bound
        assert -1e-6 <= short <= allowed + 1e-6
        worst = max(worst, short / allowed)
    assert worst > 0.02, "tangents too fine for the test to show anything"
