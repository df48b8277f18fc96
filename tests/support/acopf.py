"""The hour's problem written down a second time, in rectangular coordinates, for an NLP solver."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyomo.environ as pe
import pyomo_pounce  # noqa: F401  registers the solver

from problems.network.hour import ALL, HourProblem

KVAR = 100.0  # a unit of the NLP's controls


class Optimum(NamedTuple):
    u: np.ndarray
    slack: np.ndarray
    cost: float


def optimum(problem: HourProblem, elastic: bool = False) -> Optimum:
    """Solve with POUNCE to 1e-10 without relaxed bounds; with hard voltage limits unless `elastic`."""
    controls, network = problem.controls, problem.network
    n, S, C = len(network.buses), len(problem.prob), len(controls.bus)
    Y = network.admittance().tocoo()
    m = pe.ConcreteModel()
    m.u = pe.Var(range(C), bounds=lambda m, c: (controls.lo[c] / KVAR, controls.hi[c] / KVAR))
    m.t = pe.Var(range(S), bounds=(0, None), initialize=0.0)
    m.e = pe.Var(range(S), range(n), initialize=network.slack_v_pu)
    m.f = pe.Var(range(S), range(n), initialize=0.0)
    m.limits = pe.ConstraintList()
    for c in range(C):
        m.u[c].value = float(np.clip(0, controls.lo[c], controls.hi[c])) / KVAR
    for s in range(S):
        if not elastic:
            m.t[s].fix(0.0)
        m.e[s, network.slack].fix(network.slack_v_pu)
        m.f[s, network.slack].fix(0.0)
        real: list[list] = [[] for _ in range(n)]
        imag: list[list] = [[] for _ in range(n)]
        for i, j, y in zip(Y.row, Y.col, Y.data, strict=True):
            real[i].append(y.real * m.e[s, int(j)] - y.imag * m.f[s, int(j)])
            imag[i].append(y.real * m.f[s, int(j)] + y.imag * m.e[s, int(j)])
        for i in range(n):
            if i == network.slack:
                continue
            e, f, a, b = m.e[s, i], m.f[s, i], sum(real[i]), sum(imag[i])
            own = [c for c in range(C) if controls.bus[c] == i and controls.scenario[c] in (ALL, s)]
            moved = sum(controls.effect[c] * m.u[c] * KVAR / network.base_kva for c in own)
            m.limits.add(e * a + f * b == problem.p_kw[s, i] / network.base_kva)
            m.limits.add(f * a - e * b == problem.q_kvar[s, i] / network.base_kva + moved)
            m.limits.add(e * e + f * f >= (network.v_min_pu[i] - m.t[s]) ** 2)
            m.limits.add(e * e + f * f <= (network.v_max_pu[i] + m.t[s]) ** 2)
    cost = sum(
        controls.linear[c] * m.u[c] * KVAR + 0.5 * controls.quad[c] * (m.u[c] * KVAR - controls.center[c]) ** 2
        for c in range(C)
    )
    m.cost = pe.Objective(expr=cost + problem.slack_cost * sum(problem.prob[s] * m.t[s] for s in range(S)))
    solver = pe.SolverFactory("pounce")
    solver.options.update({"tol": 1e-10, "bound_relax_factor": 0.0, "max_iter": 500})
    result = solver.solve(m)
    assert result.solver.termination_condition == pe.TerminationCondition.optimal
    u = np.array([pe.value(m.u[c]) * KVAR for c in range(C)])
    return Optimum(u, np.array([pe.value(m.t[s]) for s in range(S)]), pe.value(m.cost))
