"""What is worked out for each scenario by itself, as work in rows: power flows and their derivatives."""

from __future__ import annotations

import numpy as np

from decomp.messages import BoolArray, FloatArray, IntArray
from decomp.parallel.row_tasks import Found, Steps, Work
from problems.network.feeder import Network
from problems.network.power_flow import ComplexArray, Flow, solve
from problems.network.sensitivity import Derivatives, derivatives

FLOW, DERIVATIVES = "flow", "derivatives"


def do(network: Network, work: Work) -> Found:
    """Do one of the kinds of work that this module asks for."""
    rows, shared = work.rows, work.shared
    if work.kind == FLOW:
        flow = solve(network, rows["p"], rows["q"])
        return {"v": flow.v, "converged": flow.converged, "steps": flow.steps}
    found = derivatives(network, rows["v"], rows["mu"], shared["buses"], shared["active"], int(shared["curved"]))
    return {"slopes": found.slopes, "pulls": found.pulls, "bend": found.bend}


def flow_steps(network: Network, p_pu: FloatArray, q_pu: FloatArray) -> Steps[Flow]:
    """`solve` as work; a flow without solution is solved again for the reason."""
    found = yield Work(FLOW, {"p": p_pu, "q": q_pu}, {})
    reason = [""] * len(p_pu)
    for k in np.flatnonzero(~found["converged"]).tolist():
        reason[k] = solve(network, p_pu[k : k + 1], q_pu[k : k + 1]).reason[0]
    return Flow(found["v"], found["converged"], tuple(reason), found["steps"])


def derivative_steps(
    v: ComplexArray, mu: FloatArray, buses: IntArray, active: BoolArray, curved: int
) -> Steps[Derivatives]:
    """`derivatives` as work."""
    shared = {"buses": buses, "active": active, "curved": np.array(curved)}
    found = yield Work(DERIVATIVES, {"v": v, "mu": mu}, shared)
    return Derivatives(found["slopes"], found["pulls"], found["bend"])
