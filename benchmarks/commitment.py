"""A unit that must be switched on before it can sell: start cost, least output, minimum time on. Solved exactly.

    min  sum_t noload u_t + start v_t + sum_k cost_kt q_kt
    s.t. y_t = least u_t + sum_k q_kt,  0 <= q_kt <= width_k u_t,  u_t - u_{t-1} <= v_t,  u_{-1} = 0
         sum_{i = t-hold+1..t} v_i <= u_t <= 1,  u and v binary

Hours are coupled by u alone, so a dynamic program over the hours is exact, with a penalty too; and since the rows of u
and v describe their convex hull (Rajan and Takriti 2005) and q follows u hour by hour, the linear relaxation of this
model has the block's Lagrangian bound as its value: the optimum of a price-coordinated MILP is known from an LP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from benchmarks.ladder import ROUNDING, Rows, linear_program
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.integer_pattern import pattern_of
from decomp.messages import FloatArray, Response, Signal, Status
from decomp.subproblem import Subproblem


@dataclass(frozen=True, eq=False)
class Machines:
    """S machines over T hours of dt 1; entries of the block are machine by machine, hour by hour.

    least (S,) output when on; width (S, K), cost (S, T, K) of the rungs above it, rising; noload (S, T) cost of an
    hour on, the least output included; start (S,) cost of switching on; hold: hours a machine stays on at least,
    the end of the day ends them.
    """

    least: FloatArray
    width: FloatArray
    cost: FloatArray
    noload: FloatArray
    start: FloatArray
    hold: int

    def __post_init__(self) -> None:
        if np.any(self.least <= 0) or np.any(self.width < 0) or np.any(np.diff(self.cost, axis=2) < 0):
            raise ValueError("machines need a positive least output and costs that rise from rung to rung")
        if self.hold < 1 or np.any(self.start < 0):
            raise ValueError("machines need hold >= 1 and start costs that are not negative")

    @property
    def inner(self) -> FloatArray:
        """(S, K) output at which each rung begins."""
        before = np.cumsum(self.width, axis=1) - self.width
        return self.least[:, None] + before


class Commitment(Subproblem):
    """Answers by dynamic programming, machine by machine."""

    abilities = frozenset({"penalty", "bound", "evaluate"})

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.shape = machines.noload.shape

    def solve(self, signal: Signal) -> Response:
        """argmin f - <price, y> + 1/2 <penalty (y - target), y - target>; without penalty the value is the bound."""
        m = self.machines
        price = signal.price.reshape(self.shape)
        penalised = signal.target is not None and signal.penalty is not None and bool(np.any(signal.penalty > 0))
        rho = np.zeros(self.shape) if signal.penalty is None or not penalised else signal.penalty.reshape(self.shape)
        target = np.zeros(self.shape) if signal.target is None or not penalised else signal.target.reshape(self.shape)
        margin = (price + rho * target)[:, :, None] - rho[:, :, None] * m.inner[:, None, :] - m.cost
        with np.errstate(divide="ignore", invalid="ignore"):
            curved = np.clip(margin / rho[:, :, None], 0.0, m.width[:, None, :])
        q = np.where(rho[:, :, None] > 0, curved, np.where(margin > 0, m.width[:, None, :], 0.0))
        y = m.least[:, None] + q.sum(axis=2)
        on = m.noload + (m.cost * q).sum(axis=2) - price * y
        on += 0.5 * rho * ((y - target) ** 2 - target**2)
        u, value = schedule(on, m.start, m.hold)
        y = np.where(u, y, 0.0)
        q = np.where(u[:, :, None], q, 0.0)
        bound = None if penalised else value
        return Response(y.ravel(), self._cost(u, q), bound, pattern=pattern_of(u.ravel()))

    def fingerprint(self) -> bytes | None:
        return fingerprint(self.machines)

    def evaluate(self, y: FloatArray) -> Response:
        m = self.machines
        given = y.reshape(self.shape)
        scale = (m.least + m.width.sum(axis=1))[:, None]
        u = given > ROUNDING * scale
        above = np.where(u, given - m.least[:, None], 0.0)
        q = np.clip(above[:, :, None] - (m.inner - m.least[:, None])[:, None, :], 0.0, m.width[:, None, :])
        missed = np.abs(np.where(u, m.least[:, None] + q.sum(axis=2), 0.0) - given)
        if np.any(missed > ROUNDING * scale):
            return self._impossible(y, "a machine can stand still or give between its least and its greatest output")
        if _shortest_stay(u) < m.hold:
            return self._impossible(y, f"a machine stays on for {m.hold} hours at least")
        return Response(np.array(y), self._cost(u, q), pattern=pattern_of(u.ravel()))

    def _impossible(self, y: FloatArray, why: str) -> Response:
        return Response(np.array(y), np.inf, status=Status.INFEASIBLE, message=why)

    def _cost(self, u: np.ndarray, q: FloatArray) -> float:
        m = self.machines
        starts = u & ~np.hstack([np.zeros((len(u), 1), bool), u[:, :-1]])
        return float(np.sum(m.noload * u) + np.sum(m.cost * q) + np.sum(m.start[:, None] * starts))

    def program(self) -> Program:
        """The same block as arrays: columns u (S, T), v (S, T), q (S, T, K)."""
        m, (S, T), K = self.machines, self.shape, self.machines.width.shape[1]
        u = np.arange(S * T).reshape(S, T)
        v, q = u + S * T, 2 * S * T + np.arange(S * T * K).reshape(S, T, K)
        n = 2 * S * T + S * T * K
        rows: list[tuple[np.ndarray, np.ndarray]] = []  # (columns, values), all of them <= 0
        for s in range(S):
            for t in range(T):
                before = [u[s, t - 1]] if t else []
                rows.append((np.array([u[s, t], v[s, t], *before]), np.array([1.0, -1.0, *[-1.0] * len(before)])))
                recent = v[s, max(0, t - m.hold + 1) : t + 1]
                rows.append((np.append(recent, u[s, t]), np.append(np.ones(len(recent)), -1.0)))
                rows += [(np.array([q[s, t, k], u[s, t]]), np.array([1.0, -m.width[s, k]])) for k in range(K)]
        at = np.repeat(np.arange(len(rows)), [len(c) for c, _ in rows])
        A = sparse.csr_matrix(
            (np.concatenate([x for _, x in rows]), (at, np.concatenate([c for c, _ in rows]))), (len(rows), n)
        )
        cost = np.concatenate([m.noload.ravel(), np.repeat(m.start, T), m.cost.ravel()])
        ub = np.concatenate([np.ones(2 * S * T), np.broadcast_to(m.width[:, None, :], (S, T, K)).ravel()])
        entry = np.concatenate([u.ravel(), np.repeat(u.ravel(), K)])
        column = np.concatenate([u.ravel(), q.ravel()])
        output = np.concatenate([np.repeat(m.least, T), np.ones(S * T * K)])
        coupling = sparse.csr_matrix((output, (entry, column)), (S * T, n))
        integer = (np.arange(n) < 2 * S * T).astype(float)
        return linear_program(cost, Rows(A, np.zeros(len(rows))), np.zeros(n), ub, coupling, integer=integer)


def schedule(on: FloatArray, start: FloatArray, hold: int) -> tuple[np.ndarray, float]:
    """Cheapest u (S, T) given the cost `on` (S, T) of each hour on, and its total cost.

    off[t] = min(off[t+1], start + on[t..t+hold-1] + held[t+hold]);  held[t] = min(on[t] + held[t+1], off[t]),
    both the cost from hour t on: `off` of a machine that stands still, `held` of one that may stop.
    """
    S, T = on.shape
    off, held = np.zeros((S, T + hold + 1)), np.zeros((S, T + hold + 1))
    begin, go_on = np.zeros((S, T), bool), np.zeros((S, T), bool)
    padded = np.hstack([on, np.zeros((S, hold))])
    for t in range(T - 1, -1, -1):
        begun = start + padded[:, t : t + hold].sum(axis=1) + held[:, t + hold]
        begin[:, t] = begun < off[:, t + 1]
        off[:, t] = np.where(begin[:, t], begun, off[:, t + 1])
        further = on[:, t] + held[:, t + 1]
        go_on[:, t] = further < off[:, t]
        held[:, t] = np.where(go_on[:, t], further, off[:, t])
    u = np.zeros((S, T), bool)
    stay = np.zeros(S, int)  # hours a machine that is on still has to stay on
    running = np.zeros(S, bool)
    for t in range(T):
        stays = running & ((stay > 0) | go_on[:, t])
        starts = ~stays & begin[:, t]
        stay = np.where(starts, hold - 1, np.maximum(stay - 1, 0))
        running = stays | starts
        u[:, t] = running
    return u, float(off[:, 0].sum())


def _shortest_stay(u: np.ndarray) -> float:
    """Hours of the shortest stay that the end of the day has not cut; inf where there is none."""
    S, T = u.shape
    edge = np.diff(np.hstack([np.zeros((S, 1)), u.astype(float), np.zeros((S, 1))]), axis=1)
    begin, end = np.nonzero(edge > 0), np.nonzero(edge < 0)
    stays = np.where(end[1] == T, np.inf, end[1] - begin[1])
    return float(stays.min(initial=np.inf))
