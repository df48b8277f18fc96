"""What the DSO asks for, when, and what it says of itself."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from three_lines import NEUTRAL, TIMES, UNITS, N, T, three_lines

from decomp.coordinator import answer_all, check_all, evaluate_all
from decomp.errors import CoordinatorError, InputError
from decomp.messages import Key, QuadraticModel, Query
from problems.dso.coordinator import DSO
from problems.dso.settings import DsoSettings
from problems.network.power_flow import solve

QUIET, UNDER, OVER = 0, 1, 2  # the three hours


def _dso(requirement: str = "resolved", **changes) -> DSO:
    units = changes.pop("units", UNITS)
    settings = {"requirement": requirement, "freeze_p": True, "shed_cost_sek_per_kvarh": 10.0}
    settings |= {name: changes.pop(name) for name in list(changes) if name in DsoSettings.model_fields}
    p, q = np.zeros((T, N)), np.zeros((T, N))
    p[QUIET], q[QUIET] = [0, 200, 100, 100], [0, 100, 50, 50]
    p[UNDER], q[UNDER] = [0, 300, 300, 600], [0, 200, 300, 800]
    p[OVER] = [0, -1000, -500, -1500]
    given = {
        "network": three_lines(),
        "settings": DsoSettings(**settings),
        "pcc": units,
        "probabilities": {Key(u): 1.0 for u in units},
        "p_load_kw": p,
        "q_load_kvar": q,
        "times": TIMES,
        "dt_h": 1.0,
        "neutral_price": np.full(T, NEUTRAL),
        "reference_price": np.array([0.5, 0.0, 0.3]),
        "box": {u: (np.full(T, -1000.0), np.full(T, 1000.0)) for u in units},
    }
    return DSO(**{**given, **changes})


def _reports(dso: DSO, import_kw: float = 0.0, q_kvar: float = 0.0):
    one = np.concatenate([np.full(T, import_kw), np.full(T, q_kvar)])
    return {key: one for keys in dso._keys for key in keys}


def _query(dso: DSO, price: float = NEUTRAL, center=0.0, penalty=0.0, **wants) -> Query:
    def rows(x):
        return np.broadcast_to(np.asarray(x, float), (len(dso.nodes),)).copy()

    return Query(rows(price), rows(center), rows(penalty), **wants)


def _ask(dso: DSO, query: Query, reports=None, warm=None):
    return answer_all(dso, query, reports or _reports(dso), warm or (None,) * T)


def test_rows_are_hours_of_pccs_and_units_at_one_bus_share_a_row():
    dso = _dso(units={"LEC1": "b", "LEC2": "c", "LEC3": "b"})
    assert dso.nodes[:3] == (f"busb@{TIMES[0]}", f"busc@{TIMES[0]}", f"busb@{TIMES[1]}")
    assert dso.groups == ("busb", "busc") * T
    assert dso.box[1].tolist() == [2000.0, 1000.0] * T
    assert dso.neutral.tolist() == [NEUTRAL] * 6
    # a floor where the spot price is zero
    assert dso.scale.tolist() == [0.5, 0.5, 0.01, 0.01, 0.3, 0.3]
    assert [rows.tolist() for rows in dso.parts()] == [[0, 1], [2, 3], [4, 5]]
    assert not dso.initially_active().any()


def test_only_hours_outside_the_limits_ask_and_each_for_its_own_direction():
    dso = _dso()
    request, warm = _ask(dso, _query(dso))
    assert request.active.tolist() == [False, False, True, True, True, True]
    assert request.Z[:2].tolist() == [0.0, 0.0]
    assert request.Z[2:4].min() >= 0
    assert request.Z[3] > 100
    assert request.Z[4:].max() <= 0
    assert request.Z[5] < -100
    assert request.feasible
    assert warm[QUIET] is None
    v = request.info["v_pu"]
    assert v[UNDER].min() == pytest.approx(0.95, abs=1e-9)
    assert v[OVER].max() == pytest.approx(1.05, abs=1e-9)
    assert request.cost == pytest.approx(-NEUTRAL * request.Z.sum())


def test_an_hour_once_asked_for_stays_even_when_the_offers_cure_it():
    for requirement in ("held", "resolved"):
        dso = _dso(requirement)
        request, warm = _ask(dso, _query(dso))
        again, warm = _ask(dso, _query(dso, center=request.Z), warm=warm)
        assert again.active.tolist() == request.active.tolist()
        # and an hour may join: more import, lower voltages
        joined, warm = _ask(dso, _query(dso, center=request.Z), _reports(dso, import_kw=1000.0), warm)
        assert joined.active[:2].all()
        back, _ = _ask(dso, _query(dso, center=request.Z), warm=warm)
        assert back.active[:2].all()


def test_imports_and_absorbed_power_lower_the_voltage_and_requests_add_to_the_first_schedule():
    dso = _dso()
    zero = np.zeros(6)
    base = dso.voltages(zero, _reports(dso))
    assert np.all(dso.voltages(zero, _reports(dso, import_kw=10.0))[:, 0, 1:] < base[:, 0, 1:])
    assert np.all(dso.voltages(zero, _reports(dso, q_kvar=-10.0))[:, 0, 1:] < base[:, 0, 1:])
    assert np.all(dso.voltages(zero + 10.0, _reports(dso))[:, 0, 1:] > base[:, 0, 1:])
    assert np.array_equal(dso.voltages(zero + 10.0, _reports(dso)), dso.voltages(zero, _reports(dso, q_kvar=10.0)))
    assert base.shape == (T, 1, N)


def test_a_higher_price_asks_for_less():
    dso = _dso()
    totals = []
    for price in (NEUTRAL, 0.03, 0.05, 0.2):
        request, _ = _ask(dso, _query(dso, price=price, penalty=1e-4))
        totals.append([request.Z[2:4].sum(), request.Z[4:].sum()])
    assert np.all(np.diff(totals, axis=0) < 0)


def test_where_limits_bind_the_price_is_the_neutral_price_plus_the_pull_of_the_limits():
    dso = _dso()
    query = _query(dso, price=0.05, center=100.0, penalty=1e-4)
    request, _ = _ask(dso, query)
    marginal = query.price + query.penalty * (request.Z - query.center)
    at_pcc = request.info["nodal_price"][:, [2, 3]].ravel()
    inside = (np.abs(request.Z) < 999.0) & request.active
    assert inside.sum() >= 2
    assert marginal[inside] == pytest.approx(at_pcc[inside], abs=1e-6)
    assert request.info["nodal_price"][QUIET] == pytest.approx(NEUTRAL)
    assert request.info["mu"][UNDER].max() > 0
    assert request.info["mu"][OVER].min() < 0
    # X'mu by finite differences of the batched flow
    h = 0.01
    for t, row in ((UNDER, 3), (OVER, 5)):
        nudge = h * (np.arange(6) == row)
        slope = (dso.voltages(request.Z + nudge, _reports(dso)) - dso.voltages(request.Z - nudge, _reports(dso))) / (
            2 * h
        )
        pull = float((slope[t] * request.info["mu"][t]).sum())
        assert at_pcc[row] == pytest.approx(NEUTRAL + pull, rel=1e-5)


def test_at_the_neutral_price_the_nearest_cure_is_asked_for():
    """min |Z - offers|^2 subject to the worst voltage: the step is along the sensitivities."""
    dso = _dso()
    offers = np.array([0.0, 0.0, 30.0, 50.0, 0.0, 0.0])
    request, _ = _ask(dso, _query(dso, center=offers))
    move = (request.Z - offers)[2:4]
    h, v = 0.01, []
    for row in (2, 3):
        nudge = h * (np.arange(6) == row)
        v.append(dso.voltages(request.Z + nudge, _reports(dso)) - dso.voltages(request.Z - nudge, _reports(dso)))
    slopes = np.array([x[UNDER, 0, 3] / (2 * h) for x in v])
    assert move / np.linalg.norm(move) == pytest.approx(slopes / np.linalg.norm(slopes), abs=1e-4)


def test_held_asks_the_most_sensitive_pcc_and_keeps_asking_while_prices_move():
    dso = _dso("held")
    request, warm = _ask(dso, _query(dso))
    # bus c is the low one and feels its own injection most
    assert request.Z[2] == pytest.approx(0.0, abs=1e-3)
    assert request.Z[3] > 100
    again, warm = _ask(dso, _query(dso, price=0.5, center=0.3 * request.Z), warm=warm)
    assert np.array_equal(again.Z, request.Z)
    met, _ = _ask(dso, _query(dso, price=0.5, center=request.Z), warm=warm)
    assert np.array_equal(met.Z, request.Z)
    assert met.feasible
    resolved, _ = _ask(_dso(), _query(dso, price=np.tile([NEUTRAL, 0.5], T)))
    assert resolved.Z[2] > 100


def test_a_held_request_that_is_met_and_not_enough_grows():
    dso = _dso("held")
    request, warm = _ask(dso, _query(dso))
    worse = _reports(dso, import_kw=40.0)
    short, same = _ask(dso, _query(dso, center=0.9 * request.Z), worse, warm)
    assert np.array_equal(short.Z, request.Z)
    grown, _ = _ask(dso, _query(dso, center=request.Z), worse, same)
    assert np.all(np.abs(grown.Z) >= np.abs(request.Z) - 1e-9)
    assert grown.Z[3] > request.Z[3] + 1
    assert dso.voltages(grown.Z, worse)[UNDER].min() >= 0.95 - 1e-8


def test_a_held_request_keeps_what_was_asked_when_the_need_moves_to_another_bus():
    dso = _dso("held")
    request, warm = _ask(dso, _query(dso))
    moved = _reports(dso)
    moved[Key("LEC1")] = np.concatenate([np.full(T, 1700.0), np.zeros(T)])  # bus b now
    moved[Key("LEC2")] = np.concatenate([np.full(T, -500.0), np.zeros(T)])
    anew, _ = _ask(dso, _query(dso), moved)
    assert anew.Z[3] < request.Z[3] - 1  # alone, the new need would ask less of c
    grown, _ = _ask(dso, _query(dso, center=request.Z), moved, warm)
    assert grown.Z[3] >= request.Z[3] - 1e-9
    assert grown.Z[2] > 1
    assert grown.feasible


def test_a_held_request_that_itself_causes_the_violation_is_asked_anew():
    dso = _dso("held")
    request, warm = _ask(dso, _query(dso))
    export = _reports(dso, import_kw=-3000.0)
    assert dso.voltages(request.Z, export)[UNDER].max() > 1.05
    turned, _ = _ask(dso, _query(dso, center=request.Z), export, warm)
    assert turned.Z[3] < request.Z[3] - 1
    assert dso.voltages(turned.Z, export)[UNDER].max() <= 1.05 + 1e-8


def test_requests_with_a_margin_leave_room_and_cost_what_the_limits_themselves_cost():
    request, _ = _ask(_dso(margin_pu=0.002), _query(_dso()))
    assert request.info["v_pu"][UNDER].min() == pytest.approx(0.952, abs=1e-9)
    assert request.info["v_pu"][OVER].max() == pytest.approx(1.048, abs=1e-9)
    assert request.cost == pytest.approx(-NEUTRAL * request.Z.sum())
    assert request.active.tolist() == [False, False, True, True, True, True]
    small = {"box": {u: (np.full(T, -100.0), np.full(T, 100.0)) for u in UNITS}}
    tight = _dso(margin_pu=0.004, **small)
    request, _ = _ask(tight, _query(tight))
    assert request.cost == pytest.approx(evaluate_all(_dso(**small), request.Z, _reports(tight)).cost)


def test_what_is_missing_is_shed_and_no_more():
    dso = _dso()
    request, _ = _ask(dso, _query(dso))
    full = evaluate_all(dso, request.Z, _reports(dso))
    assert full.cost == pytest.approx(request.cost, abs=1e-5)
    assert full.info["shed_kvar"].sum() == pytest.approx(0.0, abs=1e-6)
    half = evaluate_all(dso, 0.9 * request.Z, _reports(dso))
    shed = half.info["shed_kvar"]
    # in the hour of over-voltage there is no reactive load to shed: the slack takes the rest
    assert shed[UNDER].sum() > 1
    assert not shed[OVER].any()
    assert not half.feasible
    left = half.info["outside_pu"]
    assert left[OVER].max() > 1e-4
    assert left[UNDER].max() == 0
    assert half.penalty == pytest.approx(1e8 * left.sum(), rel=1e-9)  # what could be cured counts in full
    assert half.cost - half.penalty == pytest.approx(-NEUTRAL * 0.9 * request.Z.sum() + 10.0 * shed.sum(), rel=1e-9)
    assert not half.enough
    v = half.info["v_pu"][UNDER, 0]
    q = -dso.q_load_kvar[UNDER] + shed[UNDER, 0]
    q[dso.pcc_bus] += 0.9 * request.Z[2:4]
    flow = solve(dso.network, -dso.p_load_kw[UNDER][None] / 1000, q[None] / 1000)
    assert flow.v_pu[0] == pytest.approx(v, abs=1e-10)
    assert v.min() == pytest.approx(0.95, abs=1e-9)


def test_where_nothing_helps_the_least_violation_is_asked_for_and_said():
    dso = _dso(box={u: (np.full(T, -50.0), np.full(T, 50.0)) for u in UNITS})
    request, _ = _ask(dso, _query(dso))
    assert not request.feasible
    assert request.Z[4:].tolist() == pytest.approx([-50.0, -50.0], abs=1e-5)
    left = request.info["outside_pu"]
    assert left[OVER].max() == pytest.approx(request.info["v_pu"][OVER].max() - 1.05)
    assert left[OVER].max() > 0.003
    # under-voltage can still be cured by shedding
    assert left[UNDER].max() == 0
    assert request.info["shed_kvar"][UNDER].sum() > 100


def cheapest_slack(model: QuadraticModel, v: np.ndarray) -> np.ndarray:
    """The columns behind v that meet the rows at least cost: each belongs to rows of its own, cheaper ones first."""
    A, free = model.A[:, len(v) :], np.zeros(model.A.shape[1] - len(v))
    cost, upper = model.q[len(v) :], model.ub[len(v) :]
    for column in np.argsort(cost, kind="stable"):
        rows = A[:, column] > 0
        missing = (model.lo - model.A[:, : len(v)] @ v - A @ free)[rows].max(initial=0.0)
        free[column] = min(max(missing, 0.0), upper[column])
    return free


def test_the_linear_model_costs_at_the_offers_what_the_exact_one_costs():
    dso = _dso()
    best, _ = _ask(dso, _query(dso))
    for offers in (best.Z, 0.95 * best.Z, np.zeros(6)):
        exact = evaluate_all(dso, offers, _reports(dso))
        for part, rows in enumerate(dso.parts()):
            query = _query(dso, center=offers, want_model=True).rows(rows)
            model = dso.answer(part, query, _reports(dso), None)[0].model
            shed = exact.info["shed_kvar"][part]
            load = np.flatnonzero(dso.q_load_kvar[part])
            resting = np.abs(shed[0, load])
            if len(model.q) == len(rows):  # no voltage can reach a limit: the model leaves the rest out
                assert not resting.any()
                resting = resting[:0]
            v = np.concatenate([offers[rows], resting])
            v = np.concatenate([v, cheapest_slack(model, v)])
            own = float(dso.evaluate(part, offers[rows], _reports(dso)).cost)
            assert model.q @ v == pytest.approx(own, rel=1e-7, abs=1e-5)  # slack at 1e11 per pu, of rounding
            assert np.all(model.A @ v >= model.lo - 1e-8)
            assert np.all((model.lb <= v + 1e-9) & (v <= model.ub + 1e-9))


def test_bounds_lie_below_the_cost_of_the_offers_and_meet_it_at_the_right_price():
    dso = _dso()
    reports = _reports(dso)
    best, warm = _ask(dso, _query(dso, price=0.05, center=50.0, penalty=1e-4))
    price = best.info["nodal_price"][:, [2, 3]].ravel()
    cost = evaluate_all(dso, best.Z, reports).cost + float(price @ best.Z)
    answer, _ = _ask(dso, _query(dso, price=price, center=best.Z, want_bound=True), warm=warm)
    assert answer.bound_of == "linearised"
    assert answer.bound <= cost + 1e-9
    assert answer.bound == pytest.approx(cost, abs=1e-4 * abs(cost))
    for other in (NEUTRAL, 0.03, 0.3):
        looser, _ = _ask(dso, _query(dso, price=other, center=best.Z, want_bound=True), warm=warm)
        assert looser.bound <= evaluate_all(dso, best.Z, reports).cost + other * best.Z.sum() + 1e-9


def test_quarter_hours_have_the_same_requests_and_prices_and_a_quarter_of_the_cost():
    hourly, quarterly = _dso(), _dso(dt_h=0.25)
    assert quarterly.weight.tolist() == [0.25] * 6
    for price, offers in ((0.05, 20.0), (NEUTRAL, 0.0)):
        a, _ = _ask(hourly, _query(hourly, price=price, center=offers, penalty=1e-4))
        b, _ = _ask(quarterly, _query(quarterly, price=price, center=offers, penalty=1e-4))
        assert pytest.approx(b.Z, abs=1e-4) == a.Z
        assert a.info["mu"] == pytest.approx(b.info["mu"], rel=1e-5, abs=1e-3)
        assert a.info["nodal_price"] == pytest.approx(b.info["nodal_price"], rel=1e-6)
        assert b.cost == pytest.approx(0.25 * a.cost, rel=1e-6)
    a, b = (evaluate_all(dso, np.zeros(6), _reports(dso)) for dso in (hourly, quarterly))
    assert a.info["shed_kvar"].sum() > 100
    assert b.info["shed_kvar"] == pytest.approx(a.info["shed_kvar"], abs=1e-3)
    assert b.cost == pytest.approx(0.25 * a.cost, rel=1e-6)


def test_scenarios_share_one_request_that_keeps_every_ones_limits():
    probabilities = {Key("LEC1", "calm"): 0.7, Key("LEC1", "windy"): 0.3, Key("LEC2"): 1.0}
    dso = _dso(probabilities=probabilities)
    assert dso.scenarios == ("calm", "windy")
    reports = _reports(dso)
    reports[Key("LEC1", "windy")] = np.concatenate([np.full(T, 150.0), np.zeros(T)])
    request, _ = _ask(dso, _query(dso, penalty=1e-4), reports)
    v = request.info["v_pu"]
    assert v.shape == (T, 2, N)
    assert v[UNDER].min() == pytest.approx(0.95, abs=1e-9)
    assert v[UNDER, 0].min() > v[UNDER, 1].min() + 1e-4
    assert check_all(dso, request.Z, reports).feasible
    alone, _ = _ask(_dso(), _query(_dso(), penalty=1e-4))
    assert request.Z[2:4].sum() > alone.Z[2:4].sum() + 1
    check = dso.check(UNDER, np.zeros(2), reports)
    assert check.where == f"bus c, {TIMES[UNDER]}, scenario windy"


def test_the_check_names_the_worst_bus_and_hour():
    dso = _dso()
    check = check_all(dso, np.zeros(6), _reports(dso))
    assert not check.feasible
    v = dso.voltages(np.zeros(6), _reports(dso))
    assert check.violation == pytest.approx(max(0.95 - v.min(), v.max() - 1.05))
    assert check.where in (f"bus c, {TIMES[UNDER]}", f"bus c, {TIMES[OVER]}")
    assert check.worst in (v.min(), v.max())
    request, _ = _ask(dso, _query(dso))
    assert check_all(dso, request.Z, _reports(dso)).feasible


def test_answers_are_a_function_of_the_question_alone():
    dso = _dso()
    query = _query(dso, price=0.05, center=20.0, penalty=1e-5, want_bound=True)
    before = query.center.copy()
    first, _ = _ask(dso, query)
    _ask(dso, _query(dso, price=0.5))
    second, _ = _ask(dso, query)
    assert np.array_equal(first.Z, second.Z)
    assert first.bound == second.bound
    assert np.array_equal(first.info["mu"], second.info["mu"])
    assert np.array_equal(query.center, before)
    third, _ = _ask(_dso(), query)
    assert np.array_equal(first.Z, third.Z)


def test_a_feeder_that_cannot_carry_its_load_is_said_with_time_and_scenario():
    dso = _dso(probabilities={Key("LEC1", "a"): 0.5, Key("LEC1", "b"): 0.5, Key("LEC2"): 1.0})
    reports = _reports(dso)
    reports[Key("LEC1", "b")] = np.concatenate([[0.0, 90000.0, 0.0], np.zeros(T)])
    for call in (
        lambda: _ask(dso, _query(dso), reports),
        lambda: check_all(dso, np.zeros(6), reports),
        lambda: evaluate_all(dso, np.zeros(6), reports),
        lambda: dso.voltages(np.zeros(6), reports),
    ):
        with pytest.raises(CoordinatorError) as caught:
            call()
        for words in (TIMES[1], "scenario b", "no power-flow solution", "kVA", "at bus", "length_factor"):
            assert words in str(caught.value)


def test_a_block_that_reports_nothing_is_named():
    dso = _dso()
    with pytest.raises(CoordinatorError, match=r"LEC2/0 reported 0 figures.*needs 6"):
        _ask(dso, _query(dso), _reports(dso) | {Key("LEC2"): np.zeros(0)})
    with pytest.raises(CoordinatorError, match="LEC1/0 reported nothing"):
        dso.check(0, np.zeros(2), {})


def test_all_mistakes_of_the_inputs_are_told_at_once():
    box = {"LEC1": (np.full(T, 5.0), np.full(T, -5.0)), "LEC2": (np.zeros(T), np.full(2, 1.0))}
    with pytest.raises(InputError) as caught:
        _dso(
            units={"LEC1": "x", "LEC2": "grid", "LEC3": "b"},
            box=box,
            p_load_kw=np.full((T, N), np.nan),
            neutral_price=np.zeros(2),
            probabilities={**{Key("LEC1", s): 0.5 for s in "ab"}, Key("LEC2", "a"): 0.4, Key("LEC2", "b"): 0.6},
        )
    text = str(caught.value)
    for words in (
        "no bus 'x'",
        "'grid' is the slack bus",
        "box.LEC1: lo is above hi",
        "box.LEC2.hi: has shape (2,)",
        "box.LEC3: the unit has no box",
        "p_load_kw: the figure at [0, 0] is not finite",
        "neutral_price: has shape (2,)",
        "probabilities.LEC2: its scenarios or their probabilities differ from those of LEC1",
        "probabilities.LEC3: the unit has no block",
    ):
        assert words in text


@pytest.mark.parametrize(
    "change", [{"requirement": "sometimes"}, {"shed_cost_sek_per_kvarh": 0}, {"margin_pu": -1}, {"colour": "red"}]
)
def test_unknown_or_impossible_settings_are_refused(change):
    given = {"requirement": "held", "freeze_p": False, "shed_cost_sek_per_kvarh": 10.0}
    DsoSettings(**given)
    with pytest.raises(ValidationError):
        DsoSettings(**{**given, **change})


def test_held_reports_the_multipliers_of_its_requirement():
    """min c^Q |Z|: the limits pull with c^Q where something is asked for, on top of the neutral price."""
    dso = _dso("held")
    request, warm = _ask(dso, _query(dso))
    assert request.info["nodal_price"][UNDER, 3] == pytest.approx(2 * NEUTRAL, rel=1e-3)
    assert request.info["nodal_price"][OVER, 3] == pytest.approx(0.0, abs=1e-3 * NEUTRAL)
    again, _ = _ask(dso, _query(dso, price=0.3, center=0.5 * request.Z), warm=warm)
    assert np.array_equal(again.info["mu"], request.info["mu"])
