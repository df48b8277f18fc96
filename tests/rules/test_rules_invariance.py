"""What must not matter: names, how a unit is cut up, and how far a solver's own gap is open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from closed_form import unit
from scipy import sparse

from benchmarks.band import VoltageBand
from benchmarks.compiled import Compiled
from benchmarks.ladder import Ladder, Rows, linear_program
from benchmarks.synthetic import PRICE, SHED, Synthetic
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.solver_state import BlockSettings
from decomp.coordinators import Exchange
from decomp.messages import Key
from decomp.rules import ADMM, Bundle, Newton
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits, Start
from decomp.run.stopping import Gap, RunStatus

PAIRS = [(Newton(), "qp"), (ADMM(), "qp"), (Bundle(), "lp")]


def market(kind, blocks=10):
    return Synthetic(Synthetic.Settings(synthetic={"class": kind, "blocks": blocks, "prices": 48, "seed": 0}))


def certified(problem, rule, subproblem=None, couplings=None, limit=60):
    return run(
        subproblem or problem.subproblem, problem.coordinator, rule, coupling=couplings or problem.couplings,
        stop=[Gap(1e-3, 0.0, "total")], limits=Limits(limit), certificate=CertificateSettings(every=1),
    )  # fmt: skip


def named(coupling, name, **changes):
    prob = {Key(name, key.scenario): p for key, p in coupling.prob.items()}
    return replace(coupling, unit=name, prob=prob, **changes)


@pytest.mark.parametrize(("rule", "kind"), PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_names_do_not_matter(rule, kind, turned):
    problem = market(kind)
    before = certified(problem, rule)
    assert before.status == RunStatus.CERTIFIED
    # other names turn the order of the units round, and of every sum: what the bundle's master makes of it is its
    # solver's own rounding
    number = [len(problem.couplings) - u if turned else u for u in range(len(problem.couplings))]
    new = {c.unit: f"v{i:03d}" for c, i in zip(problem.couplings, number, strict=True)}
    old = {b: a for a, b in new.items()}
    after = certified(
        problem,
        rule,
        lambda key: problem.subproblem(Key(old[key.unit], key.scenario)),
        [named(c, new[c.unit]) for c in problem.couplings],
    )
    assert len(after.rows) == len(before.rows)
    assert after.objective == pytest.approx(before.objective, rel=1e-6 if turned and isinstance(rule, Bundle) else 1e-9)


def half(block):
    """Half of every rung and of the budget at the same prices: two of them are the block."""
    g = block.rungs
    return Ladder(replace(g, width=g.width / 2, inner=g.inner / 2, curvature=g.curvature * 2, budget=g.budget / 2))


@pytest.mark.parametrize(("rule", "kind"), PAIRS)
def test_two_halves_are_as_good_as_the_whole(rule, kind):
    problem = market(kind)
    whole = certified(problem, rule)
    halves = certified(
        problem,
        rule,
        lambda key: half(problem.subproblem(Key(key.unit[:-1], key.scenario))),
        [named(c, c.unit + side) for c in problem.couplings for side in "ab"],
    )
    assert halves.status == RunStatus.CERTIFIED
    assert abs(len(halves.rows) - len(whole.rows)) <= 2
    assert halves.objective == pytest.approx(whole.objective, rel=2e-3)


def in_other_units(problem, cost, quantity):
    """The same market with every money figure `cost` times as large and every offer `quantity` times."""

    def block(key):
        unit, scenario = int(key.unit[1:]), int(key.scenario)
        p = problem._block(unit, scenario).program()
        other = replace(
            p, cost=cost * p.cost, constant=cost * p.constant, quad=None if p.quad is None else cost * p.quad,
            coupling=quantity * p.coupling, coupling_0=quantity * p.coupling_0,
        )  # fmt: skip
        return Compiled(other, np.ones(len(p.coupling_0)))

    g, n = problem.coordinator, problem.n
    box = (quantity * g.box[0][:n], quantity * g.box[1][:n])
    price = cost / quantity
    market = VoltageBand(g.X / quantity, g.V0, g.v_min, g.v_max, SHED * price, box, scale=PRICE * price)
    return block, market


@pytest.mark.parametrize(("rule", "kind"), [(ADMM(), "qp"), (ADMM(), "lp"), (Bundle(), "lp"), (Bundle(), "stochastic")])
@pytest.mark.parametrize(("cost", "quantity"), [(1024.0, 1.0), (1.0, 1024.0)])
def test_units_do_not_matter_to_blocks_that_a_solver_answers(rule, kind, cost, quantity):
    problem = market(kind, blocks=4)

    def outcome(cost, quantity):
        block, network = in_other_units(problem, cost, quantity)
        return run(
            block, network, rule, coupling=problem.couplings, stop=[Gap(1e-3, 0.0, "total")], limits=Limits(60),
            certificate=CertificateSettings(every=1),
        )  # fmt: skip

    one, other = outcome(1.0, 1.0), outcome(cost, quantity)
    assert one.status == other.status == RunStatus.CERTIFIED
    assert abs(len(one.rows) - len(other.rows)) <= 1
    assert other.objective / cost == pytest.approx(one.objective, rel=1e-3)


def knapsacks(rel_gap):
    """Three units that earn by what they pack and sell its third property to a market, solved to a relative gap."""
    blocks = {}
    for u in range(3):
        rng = np.random.default_rng(u)
        gain, size = rng.integers(10, 60, 20) / 1.0, rng.integers(10, 60, (3, 20)) / 1.0
        sold = sparse.csr_matrix(rng.integers(0, 3, (1, 20)) / 1.0)
        rows = Rows(sparse.csr_matrix(size), np.full(3, 200.0))
        program = linear_program(-gain, rows, np.zeros(20), np.ones(20), sold, integer=np.ones(20))
        blocks[Key(f"u{u}")] = Careless(program, rel_gap)
    market = Exchange(["sold"], np.array([30.0]), (np.zeros(1), np.full(1, 200.0)), scale=np.full(1, 5.0))
    return blocks, market, [unit(f"u{u}") for u in range(3)]


class Careless(Compiled):
    """A unit whose solver stops at a gap of its own."""

    worst = 0.0  # largest distance of an answer from its bound

    def __init__(self, program, rel_gap):
        self._block = CompiledBlock(program, np.ones(1), BlockSettings(milp="each_round", mip_rel_gap=rel_gap))
        self._state = self._block.cold()

    def solve(self, signal):
        answer = super().solve(signal)
        self.worst = max(self.worst, answer.cost - float(signal.price @ answer.y) - answer.bound)
        return answer


def test_an_open_mip_gap_lifts_no_bound_above_what_prices_can_prove():
    def certificate(rel_gap, rounds, start_price=None):
        blocks, market, coupling = knapsacks(rel_gap)
        result = run(
            blocks, market, Bundle(), coupling=coupling, stop=[Gap(1e-9, 0.0, "total")], limits=Limits(rounds),
            certificate=CertificateSettings(every=1), start=Start(price=start_price),
        )  # fmt: skip
        return result.certificate, max(block.worst for block in blocks.values())

    proven, closed = certificate(1e-9, 8)
    careless, opened = certificate(0.05, 1, proven.bound_price)  # at the best price, where there is least room
    assert closed < 1e-6
    assert opened > 1.0  # the searches did end early
    assert careless.bound_price == pytest.approx(proven.bound_price)
    assert careless.lower_bound <= proven.lower_bound + 1e-6
    assert careless.lower_bound >= proven.lower_bound - 0.2 * abs(proven.lower_bound)  # and is worth something
