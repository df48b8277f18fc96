"""The microgrid's units one by one: their formulas against hand-computed points and dense sampling."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from microgrid import SIZES, TURBINE, tables
from pydantic import ValidationError

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.solver_state import BlockSettings
from decomp.messages import Signal, Status
from problems.microgrid.calls import STATES, Calls, CallSettings, call_probability, over_calls
from problems.microgrid.data import SERVICES, Scene
from problems.microgrid.losses import ConverterLoss, LossRegions, LossSteps, excess
from problems.microgrid.micro_turbine import MicroTurbine
from problems.microgrid.reactive_offer import ReactiveOffer
from problems.microgrid.settings import MicrogridSettings
from problems.microgrid.storage import Storage
from problems.microgrid.tables import printed
from problems.microgrid.unit import Setting

CALL = CallSettings(regulation_up=0.0069, regulation_down=0.0067, spinning=0.055, nonspinning=0.032)
NO_LOSS = {"from_mvar": [0.0], "w_per_kvar": [0.0]}


def scene(available_mw=2.0, n=1, energy=100.0):
    flat = np.full(n, energy)
    return Scene(1.0, flat, dict.fromkeys(SERVICES, flat), dict.fromkeys(SERVICES, flat), np.zeros(n), np.zeros(n),
                 {"PV": np.full(n, available_mw), "WT": np.full(n, available_mw)})  # fmt: skip


class Alone(PyomoSubproblem):
    """One unit: y = energy and reactive power of every step, then upward reserve; `evaluate` tells what it can do."""

    def __init__(self, name, unit, given, reactive_cost="opportunity", stores=False, call=CALL):
        self.name, self.unit, self.scene = name, unit, given
        self.setting = Setting(Calls.of(call, given.n), reactive_cost, stores)
        super().__init__(settings=BlockSettings(tangent_tol=1e-6))

    def build(self):
        m = pyo.ConcreteModel()
        m.u = pyo.Block()
        part = self.unit.add(m.u, self.scene, self.setting, self.name)
        self.part = part
        m.cost = pyo.Expression(expr=sum(part.cost_usd))
        up = [sum(part.service_mw[s][k] for s in SERVICES if s != "regulation_down") for k in self.scene.steps]
        q = part.reactive_mvar or [0.0] * self.scene.n
        series = [*part.energy_mw, *q, *up]
        m.coupling = pyo.Expression(range(len(series)), rule=lambda _, i: series[i])
        return m

    def convex_terms(self, model):
        return self.part.convex


def settings():
    return MicrogridSettings.model_validate(tables())


def turbine(name="MT1", **other):
    return MicroTurbine.model_validate({**TURBINE, **SIZES[name], **other})


def able(block, p, q, up=0.0):
    return block.evaluate(np.array([p, q, up])).status is Status.OPTIMAL


def test_turbine_gives_what_armature_and_field_allow_and_no_more():
    unit = turbine(loss=NO_LOSS, e_max_pu=1.9, voltage={"slope_pu_per_mvar": 0.02})
    block, s = Alone("MT1", unit, scene()), 1.2
    wrong = []
    for p in np.linspace(0.2, 1.0, 6):
        armature = np.sqrt(s**2 - p**2)
        field = s * (-1 / 1.2 + np.sqrt((1.9 / 1.2) ** 2 - (p / s) ** 2))
        for q in np.linspace(-1.3, 1.3, 14):
            room = min(armature, field) - q if q > 0 else armature + q
            if abs(room) > 1e-3 and able(block, p, q) != (room > 0):
                wrong.append((p, q, room))
    assert not wrong
    assert field < armature  # else (6) was not tested


def test_reserve_that_may_be_called_counts_in_the_turbines_capability():
    unit = turbine(loss=NO_LOSS, voltage={"slope_pu_per_mvar": 0.02})
    block = Alone("MT1", unit, scene())
    limit = min(disc.q_max_mvar(0.9) for disc in unit.discs)
    assert able(block, 0.5, limit - 1e-3, up=0.4)
    assert not able(block, 0.5, limit + 1e-3, up=0.4)
    assert able(block, 0.5, limit + 1e-3, up=0.3)


def test_wind_converter_keeps_its_current_and_its_voltage_on_both_sides():
    table = {**tables()["wind"]["WT"], "voltage": {"slope_pu_per_mvar": 0.02}, "converter_v_pu": 1.2,
             "loss": {"standby_mw": 0.0, "per_mva": 0.0, "per_mva2": 0.0}}  # fmt: skip
    unit = settings().wind["WT"].model_validate(table)
    block, s, x = Alone("WT", unit, scene()), 1.1, 0.3
    wrong = []
    for p in np.linspace(0.0, 1.0, 5):
        q_c = np.sqrt(s**2 - p**2)
        q_y = s * (np.sqrt((1.2 / x) ** 2 - (p / s) ** 2) - 1 / x)
        for q in np.linspace(-1.2, 1.2, 13):
            room = min(q_c, q_y) - q if q > 0 else q_c + q
            if abs(room) > 1e-3 and able(block, p, q) != (room > 0):
                wrong.append((p, q, room))
    assert not wrong
    assert q_y < s


def test_solar_converter_loses_reactive_power_to_its_losses():
    table = {**tables()["solar"]["PV"], "voltage": {"slope_pu_per_mvar": 0.02}, "rating_mva": 2.05,
             "loss": {"standby_mw": 0.0, "per_mva": 0.0, "per_mva2": 0.05}}  # fmt: skip
    unit = settings().solar["PV"].model_validate(table)
    block = Alone("PV", unit, scene(2.0))
    for p in (0.5, 1.2, 2.0):
        q = np.linspace(0, 2.05, 20001)
        room = np.sqrt(2.05**2 - p**2) - 0.05 * q**2 - q  # (17): what reactive power adds to the losses
        limit = q[room >= 0][-1]
        assert able(block, p, limit - 1e-3)
        assert able(block, p, -limit + 1e-3)
        assert not able(block, p, limit + 1e-3)


def test_a_converter_in_the_dark_is_off():
    block = Alone("PV", settings().solar["PV"], scene(0.0015))  # standby takes .002
    assert able(block, 0.0, 0.0)
    assert not able(block, 0.0, 0.01)


def test_losses_at_points_computed_by_hand():
    assert float(excess(np.array(0.8), np.array(0.6))) == pytest.approx(0.2)
    assert LossRegions(from_mvar=(0.0, 0.2), w_per_kvar=(5.0, 20.0)).loss_mw([0.1, -0.1, 0.3]) == pytest.approx(
        [0.0005, 0.0005, 0.003]
    )
    curve = ConverterLoss(standby_mw=0.01, per_mva=0.02, per_mva2=0.03)
    assert float(curve.loss_mw(0.6, 0.8)) == pytest.approx(0.06)
    assert float(curve.additional_mw(0.6, 0.8)) == pytest.approx(float(curve.loss_mw(0.6, 0.8) - curve.loss_mw(0.6, 0)))


@pytest.mark.parametrize("x", [(1.0, 2.0, 4.0), (1.0, 2.0, 2.01), (3.0, 3.0, 3.0)])
def test_envelope_of_stepped_losses_is_convex_below_and_as_far_as_it_says(x):
    steps = LossSteps(x_percent=x, y_percent=(0.0, 50.0, 55.0, 100.0))
    q = np.linspace(0, 0.5, 5001)
    printed, envelope = steps.loss_mw(q, 0.5), steps.envelope_mw(q, 0.5)
    assert np.all(envelope <= printed + 1e-12)
    assert np.all(np.diff(envelope, 2) >= -1e-12)
    assert envelope[-1] == pytest.approx(printed[-1])
    assert np.max(printed - envelope) <= steps.error_mw(0.5) + 1e-12
    assert np.max(printed - envelope) == pytest.approx(steps.error_mw(0.5), abs=2e-5)
    assert float(steps.loss_mw(0.25, 0.5)) == pytest.approx(0.25 * x[0] / 100)


def test_expected_payment_by_region():
    offer = ReactiveOffer(gamma0_usd_per_h=1.0, gamma1=2.0, gamma2=3.0, gamma3=10.0, q_mnd_mvar=0.1, q_n_mvar=0.5)
    assert offer.payment_usd_per_h([-0.2, 0.0, 0.1, 0.3, 0.5, 0.7]) == pytest.approx(
        [1.4, 1.0, 1.0, 1.6, 2.2, 2.2 + 5 * (0.49 - 0.25)]
    )
    as_printed = offer.model_copy(update={"third": "linear"})
    assert float(as_printed.payment_usd_per_h(0.7)) == pytest.approx(2.2 + 2.0)


@pytest.mark.parametrize("third", ["quadratic", "linear"])
def test_offer_in_the_model_is_the_expected_payment(third):
    offer = {"gamma1": 2.0, "gamma2": 3.0, "gamma3": 10.0, "q_mnd_mvar": 0.1, "q_n_mvar": 0.4, "third": third}
    unit = turbine(offer=offer)
    block, base = Alone("MT1", unit, scene(), "offer"), float(unit.offer.payment_usd_per_h(0.0))
    free = block.evaluate(np.array([0.5, 0.0, 0.0])).cost
    for q in (-0.4, 0.05, 0.3, 0.5):
        paid = float(unit.offer.payment_usd_per_h(q)) - base
        assert block.evaluate(np.array([0.5, q, 0.0])).cost - free == pytest.approx(paid, abs=1e-5)


def test_call_probabilities_of_table_5():
    """Table 5 times the mean load of July 2020, 54 025 MW, as the requirement: (60) gives Table 5 back."""
    load = 54025.0 * np.array([0.8, 0.9, 1.1, 1.2])
    for requirement, table_5 in ((372.8, 0.0069), (362.0, 0.0067), (2971.4, 0.055), (1728.8, 0.032)):
        assert call_probability(requirement * np.array([1.5, 0.5]), load) == pytest.approx(table_5, rel=1e-4)
    with pytest.raises(ValueError, match="check the units"):
        call_probability([54025.0e3], load)


def test_weights_of_being_called_are_probabilities_and_keep_costs_convex():
    assert sum(CALL.weights) == pytest.approx(1.0)
    assert min(CALL.weights) >= 0
    unit, rng = turbine(), np.random.default_rng(1)
    cost, slope = over_calls(CALL, unit.cost_usd_per_h, lambda p: [unit.marginal_usd_per_mwh(p)])
    a, b = rng.uniform(0, 1, (2, 5, 200))
    assert np.all(cost(*(a + b) / 2) <= (cost(*a) + cost(*b)) / 2 + 1e-12)
    by_hand = sum(
        w * unit.cost_usd_per_h(a[0] + sum(f * r for f, r in zip(state, a[1:], strict=True)))
        for w, state in zip(CALL.weights, STATES, strict=True)
    )
    assert cost(*a) == pytest.approx(by_hand)
    step = 1e-6
    for j, g in enumerate(slope(*a)):
        moved = a.copy()
        moved[j] += step
        assert (cost(*moved) - cost(*a)) / step == pytest.approx(g, rel=1e-3, abs=1e-3)


def test_calls_whose_weights_are_no_probabilities_are_refused():
    with pytest.raises(ValidationError, match="above spinning"):
        CallSettings(regulation_up=0.0, regulation_down=0.0, spinning=0.1, nonspinning=0.2)
    with pytest.raises(ValidationError, match=r"above 1"):
        CallSettings(regulation_up=0.5, regulation_down=0.4, spinning=0.2, nonspinning=0.1)


def test_table_6_follows_from_table_7_by_the_stores_balance():
    """Eq. (54) with 6 MWh and 90 %; hour 7 of Table 7 is a misprint (.4150 for .3709)."""
    store = Storage(capacity_mwh=6.0, charge_mw=2.0, discharge_mw=2.0, eta_charge=0.9, eta_discharge=0.9)
    rows = printed().to_dict("records")
    state, off = 0.0, []
    for row in rows[:17]:
        charged = 0.3709 if row["hour"] == 7 else row["stored_mw"]
        discharged = store.delivered_mw if row["hour"] >= 15 else 0.0
        state = store.next_state_mwh(state, charged, discharged, 1.0)
        off.append(abs(100 * state / 6 - row["state_percent"]))
    assert max(off) < 0.01
    assert store.delivered_mw == pytest.approx(1.8)


def test_reserve_counts_as_discharged_in_full_or_as_expected():
    given = {"capacity_mwh": 6.0, "start_mwh": 1.5, "charge_mw": 0.0, "discharge_mw": 2.0, "eta_charge": 0.9,
             "eta_discharge": 0.9}  # fmt: skip
    hold = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])  # energy, Q, upward reserve of two steps
    full = Alone("ESS", Storage(**given), scene(n=2))
    expected = Alone("ESS", Storage(**given, reserve_energy="expected"), scene(n=2))
    assert full.evaluate(hold).status is Status.INFEASIBLE  # 2 MWh / .9 of 1.5 MWh
    answer = expected.evaluate(hold)
    assert answer.status is Status.OPTIMAL
    used = 1.5 - expected.value(answer.point, "u.state_mwh")[-1]
    assert 2 * 0.0069 / 0.9 - 1e-9 <= used <= 2 * (0.0069 + 0.055) / 0.9
    assert expected.evaluate(1.5 * hold).status is Status.INFEASIBLE  # not there when called


@pytest.mark.parametrize(("change", "possible"), [(0.5, True), (0.51, False), (-0.5, True), (-0.51, False)])
def test_turbine_ramps(change, possible):
    block = Alone("MT1", turbine(loss=NO_LOSS), scene(n=2))
    low = 0.3 if change > 0 else 0.9
    answer = block.evaluate(np.array([low, low + change, 0.0, 0.0, 0.0, 0.0]))
    assert (answer.status is Status.OPTIMAL) == possible


class Storing(Alone):
    """A turbine that stores .6 MW in the second step after nothing in the first."""

    def build(self):
        m = super().build()
        m.u.stored_mw[0].setub(0.0)
        m.u.stored_mw[1].setlb(0.6)
        return m


@pytest.mark.parametrize(("ramp_of", "possible"), [("energy", True), ("output", False)])
def test_output_ramps_hold_back_what_energy_ramps_let_into_the_store(ramp_of, possible):
    block = Storing("MT1", turbine(loss=NO_LOSS, ramp_of=ramp_of), scene(n=2), stores=True)
    assert block.evaluate(np.array([0.3, 0.3, 0.0, 0.0, 0.0, 0.0])).status.has_point == possible


def test_turbine_cost_is_the_printed_one():
    unit, block = turbine(), Alone("MT1", turbine(), scene())
    assert unit.cost_usd_per_h(1.0) == pytest.approx(27.0)
    assert unit.marginal_usd_per_mwh(0.2) == pytest.approx(20.8)
    assert block.solve(Signal(np.zeros(3))).cost == pytest.approx(0.02 * 4 + 2 * 2 + 5, abs=1e-4)


def test_mistakes_of_a_unit_are_told_in_words():
    for wrong, words in (
        ({"p_min_mw": 1.5}, "above p_max_mw"),
        ({"rating_mva": 0.9}, "below p_max_mw"),
        ({"e_max_pu": 0.5}, "field limit"),
        ({"loss": {"from_mvar": [0.0, 0.2], "w_per_kvar": [9.0, 5.0]}}, "not be convex"),
        ({"offer": {"gamma2": 5.0, "gamma3": 0.1}}, "not convex"),
        ({"ramp_up_mw": -1.0}, "greater than or equal to 0"),
    ):
        with pytest.raises(ValidationError, match=words):
            turbine(**wrong)
    with pytest.raises(ValidationError, match="rise from 0 to 100"):
        LossSteps(x_percent=(1.0,), y_percent=(0.0, 90.0))
    with pytest.raises(ValidationError, match="above capacity_mwh"):
        Storage(capacity_mwh=1.0, start_mwh=2.0, charge_mw=1, discharge_mw=1, eta_charge=0.9, eta_discharge=0.9)
