"""The market as ONE model, all communities and the DSO together: the reference for decentralised runs.

    min  sum_us pi_s f_us(x_us) + sum_t dt [ -c^Q_t sum_b Z_tb + C^LS sum_s pi_s sum_i |shed_tsi| ]
    s.t. the models of all blocks, with the exact opportunity cost t (t + 2 P) >= Q^2, t = S - P
         Z_tb = sum_{u at b} y_ut,  y_ut = y_ust for all s
         v_min^2 <= e^2 + f^2 <= v_max^2 with the AC power-flow equations in rectangular coordinates, all steps

The same information as the market: f counts from the initial schedule, as the blocks' does; where the net active
power of hours with a need is frozen in the market, it is frozen here. With risk-averse communities f is the
risk-adjusted cost, and the value at risk agrees over a unit's scenarios. Scenarios that the DSO leaves out have a power
flow without limits. Integers are fixed at the initial schedules' or relaxed. A nonlinear interior-point method (POUNCE)
solves it to a local optimum; there is no elastic voltage slack.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyomo.environ as pyo

from decomp.errors import TatonnementError
from decomp.messages import BoolArray, FloatArray, Key, Signal
from problems.lec.community import LocalEnergyCommunity, neutral_price
from problems.lec.opportunity import excess
from problems.market.problem import ReactiveMarket


@dataclass(frozen=True, eq=False)
class Reference:
    """The optimum of the one model.

    objective  SEK, of the whole horizon
    neutral    SEK, cost of the initial schedules: no answer to the market can cost less (g >= -<c^Q, Z>)
    dq_kvar    (T,) change of reactive injection by unit
    dp_kw      (T,) change of active injection by unit, where it is a product; else empty
    v_pu       (T, S, n_bus)
    shed_kvar  (T, S, n_bus) magnitude of reactive load taken off
    """

    objective: float
    neutral: float
    dq_kvar: Mapping[str, FloatArray]
    dp_kw: Mapping[str, FloatArray]
    v_pu: FloatArray
    shed_kvar: FloatArray


def reference(
    market: ReactiveMarket,
    *,
    need: Collection[int] = (),
    integers: Literal["fixed", "relaxed"] = "fixed",
    dq_kvar: Mapping[str, Mapping[int, float]] | None = None,
    blocks: Mapping[Key, LocalEnergyCommunity] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Reference:
    """Solve the market as one model.

    need      steps in which net active power is frozen, if the case says freeze_p: the hours t^Q of the market
    integers  "fixed": at the initial schedules' values; "relaxed": anywhere between 0 and 1
    dq_kvar   changes to keep to, by unit and step: the least cost at this allocation instead of the optimum
    blocks    communities that may be asked for their initial schedules; None = build them
    options   of the solver
    Raises TatonnementError where pyomo-pounce is not installed, or the model has no feasible point.
    """
    model = pyo.ConcreteModel("market")
    frozen = frozenset(need) if market.settings.dso.freeze_p else frozenset()
    prob_of = {key: p for coupling in market.bundling.before.values() for key, p in coupling.prob.items()}
    solved = blocks or {key: _community(market, key) for key in prob_of}
    inner = [_add_block(model, market, key, p, solved[key], frozen, integers) for key, p in prob_of.items()]
    _add_coupling(model, market, inner, dq_kvar or {})
    secure = market.coordinator.with_bundles({}).secure({b.key: b.report for b in inner})
    _add_network(model, market, inner, secure)
    dt, c_q, prob = market.axis.dt_h, market.coordinator.neutral_price, market.coordinator.prob
    steps, trades_p = range(market.axis.settings.steps), market.settings.dso.trades_p
    local = sum(b.prob * (b.model.cost - b.credit_sek) for b in inner)
    sold = sum(c_q[t] * model.dq[u, t] for u in market.data for t in steps)
    shed = sum(prob[s] * model.shed[t, s, i] for t, s, i in model.shed)
    model.objective = pyo.Objective(expr=local + dt * (market.settings.dso.shed_cost_sek_per_kvarh * shed - sold))
    _solve(model, options or {})
    taken = np.zeros((len(steps), len(prob), len(market.network.buses)))
    for index in model.shed:
        taken[index] = model.shed[index].value
    v_pu = np.array([np.hypot(model.e[i].value, model.f[i].value) for i in model.e]).reshape(taken.shape)
    return Reference(
        objective=pyo.value(model.objective),
        neutral=sum(b.prob * b.neutral_sek for b in inner),
        dq_kvar={u: np.array([model.dq[u, t].value for t in steps]) for u in market.data},
        dp_kw={u: np.array([model.dq[u, len(steps) + t].value for t in steps]) for u in market.data if trades_p},
        v_pu=v_pu,
        shed_kvar=taken,
    )


@dataclass(frozen=True, eq=False)
class _Block:
    """One block inside the model.

    q0_kvar (T,) its initial injection; credit_sek <c^Q, q0>; neutral_sek f at the neutral price; report there. Where
    active power is a product q0_kvar is (2T,), with the initial active injection in kW behind
    """

    key: Key
    prob: float
    model: Any
    q0_kvar: FloatArray
    credit_sek: float
    neutral_sek: float
    report: FloatArray


def _community(market: ReactiveMarket, key: Key) -> LocalEnergyCommunity:
    return market.community(key)


def _add_block(
    model: pyo.ConcreteModel,
    market: ReactiveMarket,
    key: Key,
    prob: float,
    block: LocalEnergyCommunity,
    frozen: frozenset[int],
    integers: str,
) -> _Block:
    """The block's own Pyomo model, started at its initial schedule, with cones in the place of tangents."""
    builder = _community(market, key)
    neutral = neutral_price(market.data[key.unit], market.settings.dso.trades_p)
    price = block.risk.extended(neutral, 0.0) if block.risk else neutral
    response = block.solve(Signal(price=price, active=np.zeros(len(price), np.bool_)))
    if not response.status.has_point:
        raise TatonnementError(f"{key} has no initial schedule: {response.message}")
    inner = builder.build()
    for variable in inner.component_objects(pyo.Var):
        values = block.value(block.initial.point, variable.name)
        for data, value in zip(variable.values(), values, strict=True):
            data.set_value(value, skip_validation=True)
            if data.is_binary():
                data.domain = pyo.Reals
                data.setlb(0.0), data.setub(1.0)
                if integers == "fixed":
                    data.fix(round(value))
    inner.exact = pyo.ConstraintList()
    for term in builder.convex_terms(inner):
        if term.function is not excess:
            raise TatonnementError(f"{key}: the convex term '{term.name}' has no algebraic form here")
        for t, p, q in zip(term.epigraph, *term.variables, strict=True):
            inner.exact.add(t * (t + 2.0 * p) >= q**2)
    for step, variables in builder.frozen(inner).items():
        for data in variables if step in frozen else ():
            data.fix(data.value)
    model.add_component(f"block_{key.unit}_{key.scenario}", inner)
    q0 = block.initial.offer[: len(neutral)]
    return _Block(key, prob, inner, q0, float(market.axis.dt_h * neutral @ q0), response.cost, response.report)


def _add_coupling(
    model: pyo.ConcreteModel,
    market: ReactiveMarket,
    blocks: list[_Block],
    dq_kvar: Mapping[str, Mapping[int, float]],
) -> None:
    """dq[u, t] = y_ust for every entry and scenario, fixed where the caller gives it; one value at risk a unit."""
    entries = range(len(blocks[0].q0_kvar))
    model.dq = pyo.Var(list(market.data), entries, initialize=0.0)
    model.agree = pyo.ConstraintList()
    model.value_at_risk = pyo.Var(list(market.data))
    for block in blocks:
        for t, index in zip(entries, block.model.coupling, strict=False):
            model.agree.add(block.model.coupling[index] - float(block.q0_kvar[t]) == model.dq[block.key.unit, t])
        if len(block.model.coupling) > len(entries):
            model.agree.add(block.model.value_at_risk == model.value_at_risk[block.key.unit])
    for unit, given in dq_kvar.items():
        for t, value in given.items():
            model.dq[unit, t].fix(value)


def _add_network(model: pyo.ConcreteModel, market: ReactiveMarket, blocks: list[_Block], secure: BoolArray) -> None:
    """AC power flow in every step and scenario: P + jQ = V conj(Y V), V = e + jf in per unit."""
    dso, network = market.coordinator, market.network
    steps, scenarios, n = range(len(dso.times)), range(len(dso.scenarios)), len(network.buses)
    model.e = pyo.Var(steps, scenarios, range(n), initialize=network.slack_v_pu)
    model.f = pyo.Var(steps, scenarios, range(n), initialize=0.0)
    shape = (len(dso.times), len(dso.scenarios), n)
    p_load, q_load = (
        np.broadcast_to(load[:, None, :] if load.ndim < 3 else load, shape) for load in (dso.p_load_kw, dso.q_load_kvar)
    )
    loads = zip(*np.nonzero(q_load), strict=True)
    model.shed = pyo.Var([(t, s, i) for t, s, i in loads if i != network.slack and secure[s]], initialize=0.0)
    for t, s, i in model.shed:
        model.shed[t, s, i].setlb(0.0), model.shed[t, s, i].setub(abs(q_load[t, s, i]))
    pcc = {unit: network.bus(name) for unit, name in market.pcc.items()}
    admittance = network.admittance().tocsr()
    model.flow = pyo.ConstraintList()
    for s, label in enumerate(dso.scenarios):
        taking_part = [b for b in blocks if b.key.scenario == label or _alone(blocks, b)]
        for t in steps:
            p, q = list(-p_load[t, s]), list(-q_load[t, s])
            for b in taking_part:
                bus, index = pcc[b.key.unit], list(b.model.report)[t]
                p[bus] -= b.model.report[index]
                q[bus] += float(b.q0_kvar[t]) + model.dq[b.key.unit, t]
            for i in range(n):
                if (t, s, i) in model.shed:
                    q[i] += np.sign(q_load[t, s, i]) * model.shed[t, s, i]
            model.e[t, s, network.slack].fix(network.slack_v_pu)
            model.f[t, s, network.slack].fix(0.0)
            for i in (i for i in range(n) if i != network.slack):
                e, f = model.e[t, s, i], model.f[t, s, i]
                at = slice(admittance.indptr[i], admittance.indptr[i + 1])
                row = list(zip(admittance.indices[at].tolist(), admittance.data[at].tolist(), strict=True))
                real = sum(y.real * model.e[t, s, j] - y.imag * model.f[t, s, j] for j, y in row)
                imag = sum(y.real * model.f[t, s, j] + y.imag * model.e[t, s, j] for j, y in row)
                model.flow.add(e * real + f * imag == p[i] / network.base_kva)
                model.flow.add(f * real - e * imag == q[i] / network.base_kva)
                if secure[s]:
                    model.flow.add((float(network.v_min_pu[i]) ** 2, e**2 + f**2, float(network.v_max_pu[i]) ** 2))


def _alone(blocks: list[_Block], block: _Block) -> bool:
    """A unit with a single scenario takes part in all of them."""
    return sum(b.key.unit == block.key.unit for b in blocks) == 1


def _solve(model: pyo.ConcreteModel, options: Mapping[str, Any]) -> None:
    try:
        import pyomo_pounce  # noqa: F401 - registers the solver; only this reference needs it
    except ImportError:
        raise TatonnementError("the reference model needs POUNCE: pip install pyomo-pounce (extra 'test')") from None
    solver = pyo.SolverFactory("pounce")
    result = solver.solve(model, options={"tol": 1e-9, **options}, load_solutions=True)
    if result.solver.termination_condition != pyo.TerminationCondition.optimal:
        raise TatonnementError(
            f"the market as one model was not solved: {result.solver.termination_condition}; "
            "is there an allocation that keeps all voltages?"
        )
