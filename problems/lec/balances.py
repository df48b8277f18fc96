"""A community's balances, its exchange with the grids, and their tariffs. Paper 1, eqs. (10)-(13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyomo.environ as pyo

from problems.lec.data import LecData
from problems.lec.device import Contribution
from problems.lec.settings import LecSettings


def add_balances(
    model: pyo.ConcreteModel,
    settings: LecSettings,
    data: LecData,
    parts: Sequence[Contribution],
    trades_p: bool = False,
) -> dict[tuple[str, str], list[Any]]:
    """Add exchange variables, balances and `model.exchange_sek`; returns the exchange's series by (quantity, unit).

    exchange_sek = sum_t [lambda^e (P_im - P_ex) + c^e P_im + C^LS P_LS + lambda^h (H_im - H_ex)] dt
                   + sum_day [c^{H,var} max_t H_im + c^{H,fix}]
    The payment for reactive power is no part of it: the price pays it. Where active power is a product its injection,
    P_ex - P_im, follows in `model.coupling`; the tariff stays in the cost, the price is paid on top of it.
    """
    steps, dt, days = data.steps, data.dt_h, data.days
    model.p_net_kw = pyo.Var(steps, bounds=_limits(settings.export_max_kw, settings.import_max_kw))
    model.p_shed_kw = pyo.Var(steps, bounds=lambda _, k: (0, data.load_p_kw[k]))
    model.heat_net_kw = pyo.Var(steps, bounds=_limits(settings.heat_export_max_kw, settings.heat_import_max_kw))
    p = [sum(part.p_kw[k] for part in parts if part.p_kw is not None) for k in steps]
    heat = [sum(part.heat_kw[k] for part in parts if part.heat_kw is not None) for k in steps]
    # (12) as one net series: import and export apart, at one price, could grow together without end
    injection = [sum(part.q_kvar[k] for part in parts if part.q_kvar is not None) - data.load_q_kvar[k] for k in steps]

    @model.Constraint(steps)
    def electric_balance(m: pyo.ConcreteModel, k: int) -> object:  # (11), P_im - P_ex
        return m.p_net_kw[k] == data.load_p_kw[k] - m.p_shed_kw[k] - p[k]

    @model.Constraint(steps)
    def heat_balance(m: pyo.ConcreteModel, k: int) -> object:  # (13), H_im - H_ex
        return m.heat_net_kw[k] == data.heat_load_kw[k] - heat[k]

    cost = sum(
        data.spot_sek_per_kwh[k] * model.p_net_kw[k]
        + data.shed_cost_sek_per_kwh * model.p_shed_kw[k]
        + data.heat_price_sek_per_kwh[k] * model.heat_net_kw[k]
        for k in steps
    )
    model.exchange_sek = pyo.Expression(
        expr=dt * (cost + _grid_tariff(model, data))
        + _heat_peak(model, data)
        + data.heat_fixed_sek_per_day * len(set(days))
    )
    entries = [*injection, *(-model.p_net_kw[k] for k in steps if trades_p)]
    model.coupling = pyo.Expression(range(len(entries)), rule=lambda _, i: entries[i])
    model.report = pyo.Expression(steps, rule=lambda _, k: model.p_net_kw[k])
    return {
        ("p_import", "kw"): [model.p_net_kw[k] for k in steps],
        ("q_import", "kvar"): [-q for q in injection],
        ("p_load", "kw"): data.load_p_kw.tolist(),
        ("q_load", "kvar"): data.load_q_kvar.tolist(),
        ("p_shed", "kw"): [model.p_shed_kw[k] for k in steps],
        ("heat_load", "kw"): data.heat_load_kw.tolist(),
        ("heat_import", "kw"): [model.heat_net_kw[k] for k in steps],
    }


def _limits(export_max: float | None, import_max: float | None) -> tuple[float | None, float | None]:
    return None if export_max is None else -export_max, import_max


# What a tariff does not charge gets no variable: free of cost and without an upper end it would have no best value.
def _grid_tariff(model: pyo.ConcreteModel, data: LecData) -> Any:
    """c^e sum_t P_im, SEK per hour of step: P_im >= P_im - P_ex, P_im >= 0."""
    if data.grid_tariff_sek_per_kwh == 0:
        return 0.0
    model.p_import_kw = pyo.Var(data.steps, bounds=(0, None))

    @model.Constraint(data.steps)
    def imported_active_power(m: pyo.ConcreteModel, k: int) -> object:
        return m.p_import_kw[k] >= m.p_net_kw[k]

    return data.grid_tariff_sek_per_kwh * sum(model.p_import_kw[k] for k in data.steps)


def _heat_peak(model: pyo.ConcreteModel, data: LecData) -> Any:
    """c^{H,var} sum_day max_t H_im, SEK."""
    if data.heat_peak_sek_per_kw_day == 0:
        return 0.0
    days = data.days
    model.heat_peak_kw = pyo.Var(sorted(set(days)), bounds=(0, None))

    @model.Constraint(data.steps)
    def peak_of_imported_heat(m: pyo.ConcreteModel, k: int) -> object:
        return m.heat_peak_kw[days[k]] >= m.heat_net_kw[k]

    return data.heat_peak_sek_per_kw_day * sum(model.heat_peak_kw[d] for d in set(days))
