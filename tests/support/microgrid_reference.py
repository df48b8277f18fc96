"""The microgrid of paper 2 written down a second time, in cvxpy for Clarabel: it shares no code with the project.

It takes the tables of a case file as plain dictionaries and the series as plain arrays, and writes the equations with
whole arrays (T,) and second-order cones where the project writes them step by step with tangents.

    maximise  w E[profit] + (1 - w) CVaR_delta[profit]
"""

from __future__ import annotations

from dataclasses import dataclass

import cvxpy as cp
import numpy as np

SERVICES = ("regulation_up", "regulation_down", "spinning", "nonspinning")
SOLD = ("energy", *SERVICES)
SCALE = 100.0  # $: the solver's objective is of the order of its variables


@dataclass
class World:
    """Prices and weather: energy (S, T), contract and called by service, available by unit (S, T), prob (S,).

    call: probabilities by service (T,) over those of the case; limit: by product (T,)
    """

    dt: float
    prob: np.ndarray
    energy: np.ndarray
    contract: dict
    called: dict
    available: dict
    reactive_price: float
    limit: dict | None = None
    call: dict | None = None
    load: np.ndarray | None = None


@dataclass
class Solution:
    objective: float
    profit: np.ndarray
    bid: list


class Scenario:
    def __init__(self, case, world, s):
        self.case, self.world, self.s = case, world, s
        self.n, self.dt = world.energy.shape[1], world.dt
        self.market = case["market"]
        self.call = {k: np.broadcast_to(v, self.n) for k, v in {**self.market["call"], **(world.call or {})}.items()}
        self.mode = self.market.get("reactive_cost", "losses")
        self.cons, self.cost, self.lost = [], 0.0, 0.0
        self.given = {name: 0.0 for name in SOLD}
        self.q, self.inside = 0.0, 0.0
        self.unit = {}
        self.stores = bool(case.get("storage")) or world.load is not None
        for name, table in case.get("mt", {}).items():
            self.turbine(name, table)
        for kind in ("solar", "wind"):
            for name, table in case.get(kind, {}).items():
                self.converter(name, table, kind)
        for name, table in case.get("storage", {}).items():
            self.store(name, table)
        if world.load is not None:
            self.inside = self.inside - world.load
        self.sell()

    def states(self, p, x):
        """(weight, power) of being called, eq. (30)."""
        c = self.call
        both, spinning = c["nonspinning"], c["spinning"]
        yield 1 - c["regulation_up"] - c["regulation_down"] - spinning, p
        yield c["regulation_up"], p + x["regulation_up"]
        yield spinning - both, p + x["spinning"]
        yield both, p + x["spinning"] + x["nonspinning"]
        yield c["regulation_down"], p - x["regulation_down"]

    def offers(self, name):
        x = {product: cp.Variable(self.n, nonneg=True) for product in SOLD}
        for product in SOLD:
            self.given[product] = self.given[product] + x[product]
        self.unit[name] = x
        return x, x["regulation_up"] + x["spinning"] + x["nonspinning"]

    def reactive(self, table, most):
        """Q within what the voltage allows, (38)-(39)."""
        v = {"v0_pu": 1.0, "v_min_pu": 0.95, "v_max_pu": 1.05, **table["voltage"]}
        low, high = ((v[k] - v["v0_pu"]) / v["slope_pu_per_mvar"] for k in ("v_min_pu", "v_max_pu"))
        q = cp.Variable(self.n)
        self.cons += [q >= max(low, -most[0]), q <= min(high, most[1])]
        return q

    def offer_price(self, offer, q, q_n):
        """EPF less availability, (4), (13)."""
        g = {"gamma1": 0.0, "gamma2": 0.0, "gamma3": 0.0, "q_under_mvar": 0.0, "q_mnd_mvar": 0.0, **offer}
        under = cp.sum(cp.pos(-q - g["q_under_mvar"])) * g["gamma1"]
        if not g["gamma3"]:
            return self.dt * (under + g["gamma2"] * cp.sum(cp.pos(q - g["q_mnd_mvar"])))
        second, third = cp.Variable(self.n, nonneg=True), cp.Variable(self.n, nonneg=True)
        top = g.get("q_n_mvar", max(q_n, g["q_mnd_mvar"]))
        self.cons += [second <= top - g["q_mnd_mvar"], q <= g["q_mnd_mvar"] + second + third]
        beyond = g["gamma3"] * (top * cp.sum(third) + 0.5 * cp.sum_squares(third))
        return self.dt * (under + g["gamma2"] * cp.sum(second) + beyond)

    def turbine(self, name, t):
        x, up = self.offers(name)
        s, v, low, high = t["rating_mva"], t.get("v_pu", 1.0), t["p_min_mw"], t["p_max_mw"]
        radius, centre = t["e_max_pu"] * v / t["x_s_pu"] * s, -(v**2) / t["x_s_pu"] * s
        at_least = min(np.sqrt((v * s) ** 2 - low**2), centre + np.sqrt(radius**2 - low**2))
        at_most = min(np.sqrt((v * s) ** 2 - high**2), centre + np.sqrt(radius**2 - high**2))
        q = self.reactive(t, (np.sqrt((v * s) ** 2 - low**2), at_least))
        stored = cp.Variable(self.n, nonneg=True)
        loss = cp.Variable(self.n, nonneg=True)
        power = x["energy"] + stored + (loss if self.mode == "losses" else 0.0)
        full = power + up
        terminal = full if self.mode == "losses" else full + loss
        on = np.asarray(t.get("on", np.ones(self.n)), float)
        before = np.append(1.0, on[:-1])
        starts, stops = np.maximum(on - before, 0.0), np.maximum(before - on, 0.0)
        self.cost += t.get("commitment", {}).get("start_usd", 0.0) * starts.sum()
        self.cons += [power >= low * on, full <= high * on, x["regulation_down"] <= x["energy"] - low * on]
        self.cons.append(cp.multiply(1 - on, q) == 0)
        if not self.stores:
            self.cons.append(stored == 0)
        ramped = x["energy"] if t.get("ramp_of", "energy") == "energy" else power
        up_mw, down_mw = t["ramp_up_mw"] * self.dt, t["ramp_down_mw"] * self.dt
        to, away = max(low - up_mw, 0.0) * starts, max(low - down_mw, 0.0) * stops
        if self.n > 1:
            change = ramped[1:] - ramped[:-1]
            self.cons += [change <= up_mw + to[1:], -change <= down_mw + away[1:]]
        if t.get("initial_mw") is not None:
            self.cons += [ramped[0] <= t["initial_mw"] + up_mw, ramped[0] >= t["initial_mw"] - down_mw]
        rules = self.market.get("delivery", {})
        for end in [v for k, v in rules.items() if k.endswith("_within_min") and not k.startswith("regulation_down")]:
            soon = [n for n in ("regulation_up", "spinning", "nonspinning") if rules.get(f"{n}_within_min", 1e9) <= end]
            self.cons.append(sum(x[n] for n in soon) <= t["ramp_up_mw"] * end / 60)
        if "regulation_down_within_min" in rules:
            self.cons.append(x["regulation_down"] <= t["ramp_down_mw"] * rules["regulation_down_within_min"] / 60)
        if t.get("loss"):
            self.lines(loss, q, t["loss"])
        else:
            self.cons.append(loss >= cp.norm(cp.vstack([power, q]), axis=0) - power)
        self.cons += [
            cp.norm(cp.vstack([terminal, q]), axis=0) <= v * s,
            cp.norm(cp.vstack([terminal, q - centre]), axis=0) <= radius,
        ]
        unit = t["cost_unit_mw"]
        for weight, p in self.states(power, x):
            self.cost += self.dt * (
                t["b1"] / unit**2 * weight @ cp.square(p) + t["b2"] / unit * weight @ p + t["b3"] * weight @ on
            )
        if self.mode == "opportunity":
            middle = (2 * t["b1"] * (low + high) / 2 / unit + t["b2"]) / unit
            self.cost += self.dt * np.maximum(self.world.energy[self.s] - middle, 0.0) @ loss
        if self.mode == "offer":
            self.cost += self.offer_price(t.get("offer", {}), q, at_most)
        self.q, self.inside = self.q + q, self.inside + stored

    def lines(self, loss, q, table):
        """The greatest of the straight pieces of a loss that rises by region of |Q|, (8)."""
        so_far = 0.0
        begins, rates = table["from_mvar"], table["w_per_kvar"]
        for i, (begin, rate) in enumerate(zip(begins, rates, strict=True)):
            self.cons.append(loss >= so_far + rate / 1000 * (cp.abs(q) - begin))
            if i + 1 < len(begins):
                so_far += rate / 1000 * (begins[i + 1] - begin)

    def converter(self, name, t, kind):
        standby = t["loss"]["standby_mw"]
        available = np.minimum(self.world.available[name][self.s], t["p_max_mw"])
        on = (available > standby + 1e-6).astype(float)
        x, up = self.offers(name)
        s = t.get("v_pu", 1.0) * t["rating_mva"]
        q = self.reactive(t, (s, s))
        stored, loss = cp.Variable(self.n, nonneg=True), cp.Variable(self.n, nonneg=True)
        power = x["energy"] + stored
        terminal = power + up
        within = 1.0 if self.mode == "losses" else 0.0
        self.cons += [
            cp.multiply(1 - on, q) == 0,
            terminal + within * loss <= cp.multiply(on, available),
            x["regulation_down"] <= x["energy"],
        ]
        if not self.stores:
            self.cons.append(stored == 0)
        size = cp.norm(cp.vstack([terminal, q]), axis=0)
        more = t["loss"]["per_mva2"]
        if within:
            squared = cp.square(terminal) + cp.square(q)
            self.cons.append(loss >= cp.multiply(on, standby) + t["loss"]["per_mva"] * size + more * squared)
        else:
            self.cons.append(loss >= t["loss"]["per_mva"] * (size - terminal) + more * cp.square(q))
        if kind == "solar":
            self.cons.append(cp.norm(cp.vstack([terminal, cp.abs(q) + loss]), axis=0) <= s)
        else:
            v, reach = t.get("v_pu", 1.0), t["rating_mva"] / t["x_pu"]
            self.cons += [size <= s, cp.norm(cp.vstack([terminal, q + v**2 * reach]), axis=0) <= (
                t["converter_v_pu"] * v * reach)]  # fmt: skip
        for weight, p in self.states(power, x):
            apparent = cp.norm(cp.vstack([p, q]), axis=0)
            self.cost += self.dt * t["om_usd_per_mwh"] * weight @ apparent
        if self.mode == "opportunity":
            price = np.maximum(self.world.energy[self.s] - t["om_usd_per_mwh"], 0.0)
            self.cost += self.dt * price @ loss
        if self.mode == "offer":
            self.cost += self.offer_price({**t.get("offer", {}), "gamma3": 0.0}, q, 0.0)
        self.q, self.inside = self.q + q, self.inside + stored

    def store(self, name, t):
        x, up = self.offers(name)
        charge, state = cp.Variable(self.n, nonneg=True), cp.Variable(self.n, nonneg=True)
        delivered = t["discharge_mw"] * (t["eta_discharge"] if t.get("discharge_limit", "state") == "state" else 1.0)
        before = cp.hstack([np.array([t.get("start_mwh", 0.0)]), state[:-1]]) if self.n > 1 else t.get("start_mwh", 0.0)
        held = x["energy"] + up
        used = held
        if t.get("reserve_energy", "full") == "expected":
            upward = ("regulation_up", "spinning", "nonspinning")
            used = x["energy"] + sum(cp.multiply(self.call[n], x[n]) for n in upward)
            used = used - cp.multiply(self.call["regulation_down"], x["regulation_down"])
            self.cons.append(held * self.dt <= t["eta_discharge"] * before)
        rules = self.market.get("delivery", {})
        for_h = {n: rules.get(f"{n}_for_h") for n in ("regulation_up", "spinning", "nonspinning")}
        if any(for_h.values()):
            needed = self.dt * x["energy"] + sum(max(h or 0.0, self.dt) * x[n] for n, h in for_h.items())
            self.cons.append(needed <= t["eta_discharge"] * before)
        self.cost += t.get("wear_usd_per_mwh", 0.0) * self.dt * cp.sum(used)
        if t.get("cycles_per_day") is not None:
            most = t["cycles_per_day"] * t["capacity_mwh"] * self.n * self.dt / 24
            self.cons.append(self.dt * cp.sum(used) / t["eta_discharge"] <= most)
        self.cons += [
            state == before + self.dt * (t["eta_charge"] * charge - used / t["eta_discharge"]),
            state <= t["capacity_mwh"], charge <= t["charge_mw"], held <= delivered, used >= 0, used <= delivered,
            x["regulation_down"] <= x["energy"],
        ]  # fmt: skip
        if t.get("end_mwh") is not None:
            self.cons.append(state[-1] >= t["end_mwh"])
        self.unit[name] |= {"charge": charge, "state": state}
        self.inside = self.inside - charge

    def sell(self):
        """(26)-(29), (48)-(53)."""
        m, energy = self.market, self.world.energy[self.s]
        self.bought = cp.Variable(self.n, nonneg=True) if m.get("buy_mw") else np.zeros(self.n)
        if m.get("buy_mw"):
            self.cons.append(self.bought <= m["buy_mw"])
        inside = self.inside + self.bought
        if not isinstance(inside, float | np.ndarray):
            self.cons.append(inside == 0)
        for name, limit in {**m.get("limit", {}), **(self.world.limit or {})}.items():
            self.cons.append(self.given[name.removesuffix("_mw")] <= limit)
        self.net = {**self.given, "energy": self.given["energy"] - self.bought}
        self.worth = {"energy": energy}
        for name in SERVICES:
            sign = -1 if name == "regulation_down" and m.get("called_down") == "bought_back" else 1
            called = self.world.called[name][self.s]
            contract = np.broadcast_to(self.world.contract[name], self.world.energy.shape)[self.s]
            self.worth[name] = contract + sign * self.call[name] * called
        required, paid = m["reactive_required_mvar"], m.get("reactive_paid_mvar")
        self.paid = required
        if paid is not None and paid > required:
            self.paid = cp.Variable(self.n)
            self.cons += [self.paid >= required, self.paid <= paid]
        self.cons.append(self.q >= self.paid)
        earned = self.dt * self.world.reactive_price * (cp.sum(self.paid) if paid else self.n * required)
        self.base = earned - self.cost - self.dt * m.get("buy_fee_usd_per_mwh", 0.0) * cp.sum(self.bought)


def solve(case, world, tight=1e-9):
    """The optimum, or None where there is none."""
    count = len(world.prob)
    scenarios = [Scenario(case, world, s) for s in range(count)]
    market = case["market"]
    stage = market.get("stage", "committed")
    committed = {"committed": SOLD, "energy_committed": ("energy",), "per_scenario": ()}[stage]
    bid = {name: cp.Variable(scenarios[0].n) for name in committed}
    cons, profit = [], []
    for s, one in enumerate(scenarios):
        cons += one.cons
        total = one.base
        for name in SOLD:
            if name not in committed:
                total += one.dt * one.worth[name] @ one.net[name]
                continue
            short = cp.Variable(one.n, nonneg=True)
            surplus = cp.Variable(one.n, nonneg=True) if name == "energy" else 0.0
            cons.append(one.net[name] + short == bid[name] + surplus)
            offered = 0.0 if name == "energy" else np.broadcast_to(world.contract[name], world.energy.shape)[s]
            price = np.maximum(world.energy[s], 0.0) + offered
            total += one.dt * (one.worth[name] @ bid[name] - market.get("shortfall_factor", 4.0) * price @ short)
            if name == "energy":
                e = world.energy[s]
                total += one.dt * (e - (1 - market.get("surplus_factor", 0.0)) * np.abs(e)) @ surplus
        profit.append(total)
    for name in committed:
        cons.append(bid[name] >= (-market.get("buy_mw", 0.0) if name == "energy" else 0.0))
        limit = market.get("limit", {}).get(f"{name}_mw")
        if limit is not None:
            cons.append(bid[name] <= limit)
    if committed == SOLD and market.get("reactive_paid_mvar") is not None:
        cons += [one.paid == scenarios[0].paid for one in scenarios[1:]]
    w, delta = case["risk"]["w"], case["risk"]["delta"]
    var, eta = cp.Variable(), cp.Variable(count, nonneg=True)
    cons += [eta[s] >= var - profit[s] / SCALE for s in range(count)]
    cvar = var - world.prob @ eta / (1 - delta)
    expected = sum(p * x for p, x in zip(world.prob, profit, strict=True)) / SCALE
    problem = cp.Problem(cp.Maximize(w * expected + (1 - w) * cvar), cons)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=tight, tol_gap_rel=tight, tol_feas=tight)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return None
    return Solution(
        SCALE * problem.value,
        np.array([float(x.value) for x in profit]),
        [{name: np.asarray(x.value) for name, x in one.net.items()} for one in scenarios],
    )
