"""interior_point: against one model on random convex markets; degenerate blocks, refusals, resumed runs."""

from __future__ import annotations

import re

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from resuming import recorded, resumed
from thread_ranks import on_threads

from benchmarks.synthetic import Synthetic, Table
from decomp.blocks.interior.barrier import Barrier, Bounds, drawn_back
from decomp.blocks.interior.participant import Participant
from decomp.blocks.pyomo_block import ConvexTerm, PyomoSubproblem
from decomp.blocks.solve.piqp import NoSolution, solve
from decomp.coordinators import Exchange
from decomp.errors import RefusedError
from decomp.messages import Coupling, Key, Signal
from decomp.rules import Auto, InteriorPoint, price_space
from decomp.rules.price_space import Grouped
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Execution, Limits
from decomp.run.stopping import Gap
from problems.risk import Risk, add_risk

CERTIFY = {"stop": [Gap(1e-5, 1e-9, "total")], "certificate": CertificateSettings(every=1)}


class Random(PyomoSubproblem):
    """Random rows, costs and bounds by seed: free columns, equations, equations twice, fixed columns, empty rows."""

    def __init__(
        self, seed: int, scenario: int, n: int, entries: int, quadratic: bool, degenerate: bool, endless: float = 0.0
    ) -> None:
        """endless: a cost at which anything can be offered, without a limit; 0 = at most 500 either way, at 4."""
        rng = np.random.default_rng((seed, scenario))
        self.n, self.entries = n, entries
        self.lb, self.ub = -rng.random(n) * 10.0 ** rng.integers(-1, 2), rng.random(n) * 10.0 ** rng.integers(-1, 2)
        inside = self.lb + rng.random(n) * (self.ub - self.lb)
        self.free = (rng.random(n) < 0.2) & quadratic
        if degenerate:
            at = rng.integers(n)
            self.lb[at] = self.ub[at] = inside[at]
            self.free[at] = False
        self.A = rng.normal(size=(3, n))
        self.lo = self.A @ inside - np.array([0.0, 0.1, np.inf])
        self.hi = self.A @ inside + np.array([0.0, 0.3, 0.2])
        self.q = rng.random(n) * (rng.random(n) < 0.5) if quadratic else np.zeros(n)
        self.q[self.free] += 0.1
        self.c = rng.normal(size=n)
        self.C = rng.normal(size=(entries, n)) * (rng.random((entries, n)) < 0.7)
        self.twice = degenerate
        # columns of their own let every scenario offer anything at a cost, so that scenarios can agree
        own, none = np.eye(entries), np.zeros(2 * entries)
        self.n, self.C = n + 2 * entries, np.hstack([self.C, own, -own])
        self.A, self.c = np.hstack([self.A, np.zeros((3, 2 * entries))]), np.append(self.c, none + 4.0)
        self.q = np.append(self.q, none + (0.2 if quadratic else 0.0))
        most = np.inf if endless else 500.0
        self.lb, self.ub = np.append(self.lb, none), np.append(self.ub, none + most)
        self.free = np.append(self.free, none > 0)
        if endless:
            self.c[n:] = np.append(np.full(entries, endless), np.full(entries, -endless + 1.0))
        super().__init__()

    def bounds(self, j: int) -> tuple[float | None, float | None]:
        low, high = float(self.lb[j]), float(self.ub[j])
        return low if np.isfinite(low) else None, high if np.isfinite(high) else None

    def build(self) -> pyo.ConcreteModel:
        m, columns = pyo.ConcreteModel(), range(self.n)
        m.x = pyo.Var(columns, bounds=lambda m, j: (None, None) if self.free[j] else self.bounds(j))

        def row(a):
            return sum(float(v) * m.x[j] for j, v in enumerate(a))

        m.rows = pyo.ConstraintList()
        m.rows.add(row(self.A[0]) == self.lo[0])
        m.rows.add((self.lo[1], row(self.A[1]), self.hi[1]))
        m.rows.add(row(self.A[2]) <= self.hi[2])
        if self.twice:
            m.rows.add(row(2 * self.A[0]) == 2 * self.lo[0])
        m.cost = pyo.Expression(expr=row(self.c) + sum(0.5 * float(q) * m.x[j] ** 2 for j, q in enumerate(self.q)))
        m.coupling = pyo.Expression(range(self.entries), rule=lambda m, i: row(self.C[i]))
        return m


def one_model(
    blocks: dict[Key, Random], prob: dict[Key, float], entries: int, demand: np.ndarray, at_node: bool
) -> float:
    """The optimum of all blocks in one program by PIQP: sum of units' offers = demand, scenarios agree."""
    keys = sorted(blocks)
    units = sorted({key.unit for key in keys})
    first = {key: i * blocks[key].n for i, key in enumerate(keys)}
    n = sum(blocks[key].n for key in keys)
    rows, lo, hi = [], [], []
    q, P = np.zeros(n), np.zeros(n)
    lb, ub = np.full(n, -np.inf), np.full(n, np.inf)
    for key in keys:
        b, at = blocks[key], slice(first[key], first[key] + blocks[key].n)
        q[at], P[at] = prob[key] * b.c, prob[key] * b.q
        lb[at], ub[at] = np.where(b.free, -np.inf, b.lb), np.where(b.free, np.inf, b.ub)
        for a, low, high in zip(b.A, b.lo, b.hi, strict=True):
            rows.append(np.zeros(n))
            rows[-1][at] = a
            lo.append(low)
            hi.append(high)
    for unit in units:
        own = [key for key in keys if key.unit == unit]
        for i in range(entries):
            for key in own[1:]:
                rows.append(np.zeros(n))
                rows[-1][first[own[0]] : first[own[0]] + blocks[own[0]].n] = blocks[own[0]].C[i]
                rows[-1][first[key] : first[key] + blocks[key].n] = -blocks[key].C[i]
                lo.append(0.0)
                hi.append(0.0)
    for i in range(entries if at_node else 0):
        rows.append(np.zeros(n))
        for key in keys:
            rows[-1][first[key] : first[key] + blocks[key].n] = prob[key] * blocks[key].C[i]
        lo.append(demand[i])
        hi.append(demand[i])
    found = solve(np.diag(P), q, np.array(rows), np.array(lo), np.array(hi), lb, ub)
    return float(q @ found.v + 0.5 * P @ found.v**2)


def random_market(
    seed: int, units: int, scenarios: int, entries: int, quadratic: bool, degenerate: bool, kind: str, at_node: bool
):
    rng = np.random.default_rng(seed)
    blocks, coupling, prob = {}, [], {}
    demand = np.zeros(entries)
    endless = 4.0 if kind == "endless" else 0.0
    for u in range(units):
        keys = [Key(f"u{u}", str(s)) for s in range(scenarios)]
        p = rng.dirichlet(np.ones(scenarios) * 5)
        prob |= dict(zip(keys, p.tolist(), strict=True))
        demand += rng.normal(size=entries)
        for s, key in enumerate(keys):
            blocks[key] = Random(seed % 1000 * 7 + u, s, 6, entries, quadratic, degenerate, endless)
        node = np.arange(entries) if at_node else np.full(entries, -1)
        coupling.append(Coupling(f"u{u}", tuple("abc"[:entries]), np.ones(entries), node, {k: prob[k] for k in keys}))
    if kind == "out of reach" and at_node:
        demand = demand + 1e5
    market = Exchange(tuple("abc"[:entries]), demand, box=(np.full(entries, -1e6), np.full(entries, 1e6)))
    return blocks, coupling, prob, demand, market if at_node else None


@settings(max_examples=12, derandomize=True, deadline=None, phases=[Phase.generate])
@given(
    seed=st.integers(0, 10**6),
    units=st.integers(1, 3),
    scenarios=st.integers(1, 3),
    entries=st.integers(1, 3),
    quadratic=st.booleans(),
    degenerate=st.booleans(),
    kind=st.sampled_from(["bounded", "bounded", "out of reach", "endless"]),
    at_node=st.booleans(),
)
def test_random_convex_problems_end_as_the_one_model_does(
    seed, units, scenarios, entries, quadratic, degenerate, kind, at_node
):
    """The same optimum, or the same word for there being none: free and fixed columns, equations, equations twice.

    An exchange whose demand one point of every unit, common to its scenarios, can meet, or cannot; offers without a
    limit at a cost below what others pay for them.
    """
    blocks, coupling, prob, demand, market = random_market(
        seed, units, scenarios, entries, quadratic, degenerate, kind, at_node
    )
    try:
        best = one_model(blocks, prob, entries, demand, at_node)
    except NoSolution:
        best = None
    result = run(blocks, market, InteriorPoint(), coupling=coupling, limits=Limits(30), **CERTIFY)
    if best is None:
        assert result.status == "failed"
        assert ("infeasible" if kind == "out of reach" else "unbounded") in result.reason
    else:
        assert result.status == "certified", result.reason
        assert result.objective == pytest.approx(best, rel=2e-5, abs=1e-6)


@pytest.mark.parametrize(("kind", "blocks"), [("lp", 10), ("qp", 10), ("stochastic", 10)])
def test_the_benchmarks_instances_are_certified_in_seventeen_rounds(kind, blocks):
    problem = Synthetic(Synthetic.Settings(synthetic=Table(**{"class": kind}, blocks=blocks, prices=48, seed=1)))
    result = run(
        problem.subproblem, problem.coordinator, InteriorPoint(), coupling=problem.couplings, limits=Limits(17),
        stop=[Gap(1e-4, 1e-9, "total")], certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(problem.reference(60.0).optimum, rel=1e-4)


class Curved(PyomoSubproblem):
    """min steepness t, t >= y^2 / 2 as a convex term: what its first tangents tell of the cost is coarse."""

    def __init__(self, steepness: float) -> None:
        self.steepness = steepness
        super().__init__()

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.y, m.t = pyo.Var(bounds=(-10, 10)), pyo.Var(bounds=(0, None))
        m.cost = pyo.Expression(expr=self.steepness * m.t)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.y)
        return m

    def convex_terms(self, m: pyo.ConcreteModel) -> list[ConvexTerm]:
        return [ConvexTerm(m.t, (m.y,), lambda y: 0.5 * y**2, lambda y: (y,))]


@pytest.mark.parametrize("ends_at", [1e-4, 1e-5])
def test_convex_terms_get_tangents_where_the_iterate_is(ends_at):
    """min sum_i w_i y_i^2 / 2, sum_i y_i = d costs d^2 / (2 sum_i 1 / w_i)."""
    weight, demand = np.array([0.5, 1.0, 3.0]), 7.3
    blocks = {Key(f"u{i}"): Curved(w) for i, w in enumerate(weight)}
    coupling = [Coupling(key.unit, ("a",), np.ones(1), np.array([0]), {key: 1.0}) for key in blocks]
    market = Exchange(("a",), np.array([demand]), box=(np.full(1, -1e3), np.full(1, 1e3)))
    stop = [Gap(ends_at, 1e-9, "total")]
    result = run(
        blocks, market, InteriorPoint(), coupling=coupling, limits=Limits(20), stop=stop,
        certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(demand**2 / (2 * np.sum(1 / weight)), rel=2 * ends_at)


def test_a_point_goes_on_in_a_pool_with_more_tangents():
    """The new row comes in with the product that is asked for, and the epigraph variable stays stationary."""
    block = Curved(1.0)
    block.solve(Signal(np.array([2.0]), exact=True))
    program, pool = block.convex_program(None)
    coarse = Participant(program, pool.only(slice(0, 3)), np.ones(1), 1.0, 1e-9)
    coarse.curvature(1e-9, True)
    coarse.response(np.array([3.0]), True)
    coarse.step(np.zeros(1))
    coarse.begin()
    for _ in range(6):
        coarse.curvature(1e-9, False)
        coarse.response(np.array([3.0]), False)
        coarse.step(np.zeros(1))
        coarse.correction(0.01, "second_order", 1.0, 1.0)
        primal, dual = np.minimum(1.0, 0.9 * coarse.correct(np.zeros(1))[[0, 9]])
        coarse.take(1.0, 1.0)
        told = coarse.move(primal, dual)
    assert told[-1] > 0.05
    fine = coarse.refined(0.001, 0.01)
    assert fine.m == coarse.m + 1
    barrier = fine.iterate.barrier
    (slack, _), z = barrier.slacks(), barrier.zl
    assert slack[-1] * z[-1] == pytest.approx(0.01, rel=1e-6), "of the new row, the last with a lower bound"
    t = program.terms.epigraph[0]
    before, after = (
        (p.c + p.A_t @ p.iterate.nu)[t] + p.iterate.barrier.reduced()[t] for p in (coarse, fine)
    )  # stationarity of t
    assert after == pytest.approx(before, abs=1e-9)
    again = fine.refined(0.001, 0.01)
    assert again.m == fine.m, "nothing is lacking where a tangent was just added"
    loaded = Participant(program, fine.pool, np.ones(1), 1.0, 1e-9, fine.unit)
    loaded.load(fine.save())
    assert np.array_equal(loaded.iterate.barrier.w, barrier.w)


class Range(PyomoSubproblem):
    """min cost y, low <= y <= high."""

    def __init__(self, low: float | None, high: float | None, cost: float = 1.0) -> None:
        self.range, self.slope = (low, high), cost
        super().__init__()

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.y = pyo.Var(bounds=self.range)
        m.cost = pyo.Expression(expr=self.slope * m.y)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.y)
        return m


def ended(blocks, demand=None):
    """A run on units that offer at one node, or on the scenarios of one that have to agree."""
    if demand is None:
        units = [Coupling("u", ("a",), np.ones(1), np.array([-1]), dict.fromkeys(blocks, 1 / len(blocks)))]
        return run(blocks, None, InteriorPoint(), coupling=units, limits=Limits(25), **CERTIFY)
    units = [Coupling(key.unit, ("a",), np.ones(1), np.array([0]), {key: 1.0}) for key in blocks]
    market = Exchange(("a",), np.array([demand]), box=(np.full(1, -1e4), np.full(1, 1e4)))
    return run(blocks, market, InteriorPoint(), coupling=units, limits=Limits(25), **CERTIFY)


def test_a_demand_out_of_reach_is_infeasible_at_its_node():
    result = ended({Key("u0"): Range(0, 1), Key("u1"): Range(0, 1)}, demand=5.0)
    assert result.status == "failed"
    assert re.search("infeasible.*node a", result.reason)


def test_scenarios_that_cannot_agree_are_infeasible_by_name():
    result = ended({Key("u", "0"): Range(0, 1), Key("u", "1"): Range(2, 3)})
    assert result.status == "failed"
    assert re.search("infeasible.*u a in scenario [01]", result.reason)


def test_a_cost_without_end_is_named_with_its_blocks():
    result = ended({Key("u0"): Range(0, None, -2.0), Key("u1"): Range(None, 0)}, demand=0.0)
    assert result.status == "failed"
    assert re.search("unbounded.*block u0/0", result.reason)


def test_blocks_that_are_unbounded_alone_do_not_end_a_run_that_is_bounded():
    result = ended({Key("u0"): Range(0, None, -2.0), Key("u1"): Range(-3, 0)}, demand=0.0)
    assert result.status == "certified"
    assert result.objective == pytest.approx(-9.0, rel=1e-5)


def test_auto_takes_it_where_scenarios_agree_at_nodes_and_goes_on_from_unbounded_blocks(caplog):
    class Endless(Range):
        abilities = Range.abilities | {"convex"}

    blocks = {Key("u", "0"): Endless(0, None, -2.0), Key("u", "1"): Endless(0, None, -1.0), Key("v"): Endless(-3, 0)}
    prob = {"u": {Key("u", "0"): 0.5, Key("u", "1"): 0.5}, "v": {Key("v"): 1.0}}
    units = [Coupling(name, ("a",), np.ones(1), np.array([0]), p) for name, p in prob.items()]
    market = Exchange(("a",), np.zeros(1), box=(np.full(1, -1e4), np.full(1, 1e4)))
    with caplog.at_level("INFO"):
        result = run(blocks, market, Auto(), coupling=units, limits=Limits(25), **CERTIFY)
    assert "auto picks InteriorPoint" in caplog.text
    assert result.status == "certified", result.reason
    assert result.objective == pytest.approx(-3 * 1.5 - 3, rel=1e-5)


@pytest.mark.parametrize("spread", [0.0, 6.0])
def test_a_root_by_hours_solves_what_the_dense_one_does(spread):
    """Hours apart at the network, tied by one budget of each unit; entries of a factor 10^spread apart."""
    rng = np.random.default_rng(3)
    hours, buses, units = 8, 10, 6
    n = hours * buses
    rows = [np.arange(h * buses, (h + 1) * buses) for h in range(hours)]
    pieces = []
    for at in rows:
        half = rng.normal(size=(buses, buses))
        pieces.append((at, half @ half.T))
    for u in range(units):
        at = np.arange(hours) * buses + u
        d = 10 ** rng.uniform(-spread / 2, spread / 2, hours)
        pieces.append((at, np.diag(d) - np.outer(d, d) / d.sum()))
    S = np.zeros((n, n))
    for at, matrix in pieces:
        S[np.ix_(at, at)] += matrix
    grouped, b = Grouped(n, pieces, rows), rng.normal(size=n)
    x = grouped.solve(b)
    assert grouped._whole is None, "iterations were enough"
    assert S @ x == pytest.approx(b, abs=1e-7)
    assert x == pytest.approx(np.linalg.solve(S, b), rel=1e-5, abs=1e-6 * np.abs(x).max())


def test_a_market_is_certified_with_the_root_by_hours(monkeypatch):
    monkeypatch.setattr(price_space, "DENSE", 10)
    problem = Synthetic(Synthetic.Settings(synthetic=Table(**{"class": "lp"}, blocks=10, prices=48, seed=1)))
    result = run(
        problem.subproblem, problem.coordinator, InteriorPoint(), coupling=problem.couplings, limits=Limits(17),
        stop=[Gap(1e-4, 1e-9, "total")], certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert result.status == "certified", result.reason


def test_integers_are_refused_with_the_block_and_a_remedy():
    class Switch(PyomoSubproblem):
        def build(self):
            m = pyo.ConcreteModel()
            m.on = pyo.Var(domain=pyo.Binary)
            m.cost = pyo.Expression(expr=m.on)
            m.coupling = pyo.Expression([0], rule=lambda m, i: m.on)
            return m

    coupling = [Coupling("u", ("a",), np.ones(1), np.array([0]), {Key("u"): 1.0})]
    market = Exchange(("a",), np.array([0.5]), box=(np.zeros(1), np.ones(1)))
    with pytest.raises(RefusedError, match=r"u/0.*integers.*relax"):
        run({Key("u"): Switch()}, market, InteriorPoint(), coupling=coupling, limits=Limits(5), **CERTIFY)


def test_steps_keep_slacks_and_multipliers_positive():
    bounds = Bounds.of(np.array([0.0, -np.inf, 1.0]), np.array([1.0, 2.0, 1.0]))
    barrier = Barrier(bounds, np.array([0.5, 1.0, 1.0]), np.array([1.0]), np.array([1.0, 2.0]))
    dw, dz = np.array([-1.0, 0.5, 0.0]), (np.array([-4.0]), np.array([0.0, 1.0]))
    primal, dual = barrier.longest(dw, dz)
    assert (primal, dual) == (0.5, 0.25)
    after = barrier.moved(0.9 * primal, 0.9 * dual, dw, dz)
    assert min(after.slacks()[0].min(), after.slacks()[1].min(), after.zl.min(), after.zu.min()) > 0
    assert drawn_back(np.array([0.01, 1.0, 50.0]), 1.0) == pytest.approx([0.09, 0.0, -10.0])


def test_a_round_can_hold_all_iterations_that_no_exact_answer_is_worth():
    problem = Synthetic(Synthetic.Settings(synthetic=Table(**{"class": "stochastic"}, blocks=10, prices=48, seed=1)))
    result = run(
        problem.subproblem, problem.coordinator, InteriorPoint(sweep_below=2e-3), coupling=problem.couplings,
        stop=[Gap(1e-4, 1e-9, "total")], certificate=CertificateSettings(every=1), limits=Limits(17),
    )  # fmt: skip
    assert result.status == "certified", result.reason
    assert len(result.rows) <= 5
    assert result.objective == pytest.approx(problem.reference(60.0).optimum, rel=1e-4)


def test_a_value_at_risk_counts_in_money_whatever_its_limits():
    """min (1 - beta) E[f] + beta CVaR[f], f_s = s + (a - s)^2 by tangents, a agreed: limits of v that are a thousand
    times as wide change no round."""
    rounds, (_, _, coupling) = [], tails()
    for limit in (1e2, 1e5):
        blocks = {key: Tail(float(key.scenario), limit) for key in coupling[0].prob}
        result = run(blocks, None, InteriorPoint(), coupling=coupling, limits=Limits(25), **CERTIFY)
        assert result.status == "certified", result.reason
        a = np.linspace(-1, 5, 60001)
        f = np.array([s + (a - s) ** 2 for s in range(5)])
        top = np.sort(f, axis=0)[::-1]
        assert result.objective == pytest.approx(np.min(0.5 * f.mean(axis=0) + 0.5 * top[:2].mean(axis=0)), rel=2e-5)
        rounds.append(len(result.rows))
    assert abs(rounds[0] - rounds[1]) <= 2


class Tail(PyomoSubproblem):
    """f = s + t, t >= (a - s)^2, averse to risk with alpha .6, beta .5; the value-at-risk lies within +-limit."""

    def __init__(self, s: float, limit: float) -> None:
        self.s, self.limit = s, limit
        super().__init__()

    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.a, m.t = pyo.Var(bounds=(-10, 10)), pyo.Var(bounds=(0, None))
        m.cost = pyo.Expression(expr=self.s + m.t)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.a)
        add_risk(m, Risk(alpha=0.6, beta=0.5), -self.limit, self.limit)
        return m

    def convex_terms(self, m: pyo.ConcreteModel) -> list[ConvexTerm]:
        return [ConvexTerm(m.t, (m.a,), lambda a: (a - self.s) ** 2, lambda a: (2 * (a - self.s),))]


def tails():
    """Five scenarios averse to risk that agree on a: convex terms, whose tangents are added as the run goes."""
    weights = {Key("u", str(s)): 0.2 for s in range(5)}
    scale, level = np.array([np.nan, 0.5]), np.array([np.nan, 0.6])
    unit = Coupling("u", ("a", "v"), np.ones(2), np.full(2, -1), weights, scale=scale, level=level)
    return (lambda key: Tail(float(key.scenario), 1e3)), None, [unit]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_any_number_of_ranks_gives_the_same_bits(size):
    def bits(ranks):
        blocks, _, coupling = tails()
        found = run(
            blocks, None, InteriorPoint(), coupling=coupling, limits=Limits(12), execution=Execution(ranks=ranks),
            stop=[], certificate=CertificateSettings(every=1),
        )  # fmt: skip
        if found is None:
            return None
        return [(r.cost, r.lower_bound, r.upper_bound, r.mismatch) for r in found.rows], found.final.answers.y.tobytes()

    assert on_threads(size, bits)[0] == bits(None)


def test_it_is_resumed_to_the_same_bytes_with_the_tangents_it_has_added(tmp_path):
    def started(folder, resume=None):
        return recorded(tails(), InteriorPoint(), folder, 10, resume)

    resumed(started, tmp_path, [4, 8])


def stochastic_part():
    problem = Synthetic(Synthetic.Settings(synthetic=Table(**{"class": "stochastic"}, blocks=4, prices=24, seed=0)))
    return problem.subproblem, problem.coordinator, problem.couplings


def test_it_is_resumed_to_the_same_bytes(tmp_path):
    resumed(_started, tmp_path, [1, 3])


def _started(folder, resume=None):
    return recorded(stochastic_part(), InteriorPoint(), folder, 6, resume)
