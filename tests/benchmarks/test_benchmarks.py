"""The benchmark: its units against solvers, its plan, its store, its counts, and what its documentation promises."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bad_worker
import numpy as np
import pandas as pd
import pytest
from paths import ROOT

from benchmarks import __main__ as command
from benchmarks.commitment import Commitment, Machines
from benchmarks.compiled import Compiled
from benchmarks.known import KnownAnswer
from benchmarks.ladder import Ladder, Rungs
from benchmarks.measure import Watch, measure
from benchmarks.plan import Run, Settings, read_plan
from benchmarks.pool import in_processes
from benchmarks.report import METRICS, pairwise, profiles, runs_table, summary
from benchmarks.store import Store
from benchmarks.synthetic import Synthetic
from decomp.case.config import load
from decomp.errors import InputError
from decomp.messages import Key, Signal, Status
from decomp.parallel.ranks import Serial
from decomp.rules import ADMM
from decomp.run.certificate import CertificateSettings
from decomp.run.engine import run
from decomp.run.options import Limits
from decomp.run.stopping import Gap, RunStatus

DOCS = ROOT / "docs" / "benchmarks.md"


def market(kind, blocks=4, prices=48, seed=0, **more):
    table = {"class": kind, "blocks": blocks, "prices": prices, "seed": seed, **more}
    return Synthetic(Synthetic.Settings.model_validate({"synthetic": table}))


def ladder(kind, seed, budget=0.5):
    """A unit of the generator's sort with a budget that binds when it is small."""
    rng = np.random.default_rng(seed)
    n, K = 6, 1 if kind == "curved" else 4
    width = rng.uniform(1, 5, (n, K))
    up, down = (np.sort(rng.uniform(0.1, 2, (n, K)), axis=1) for _ in range(2))
    curvature = rng.uniform(0.5, 2, n) if kind != "flat" else np.zeros(n)
    return Ladder(Rungs.stacked(width, up, down, curvature, budget * width.sum()))


def machines(seed, S=2, T=6, hold=3):
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(0.2, 2, (S, T, 2)), axis=2)
    return Machines(
        rng.uniform(1, 2, S), rng.uniform(1, 3, (S, 2)), cost, rng.uniform(0.5, 3, (S, T)), rng.uniform(0, 2, S), hold
    )


# -- the units answer exactly ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.2, 0.5, np.inf])
@pytest.mark.parametrize("kind", ["flat", "curved", "mixed"])
@pytest.mark.parametrize("penalised", [False, True])
def test_ladder_answers_like_a_solver(kind, budget, penalised):
    for seed in range(4):
        unit, rng = ladder(kind, seed, budget), np.random.default_rng(100 + seed)
        price = rng.uniform(-3, 3, 6)
        signal = Signal(price, *((rng.uniform(-3, 3, 6), np.full(6, 0.7)) if penalised else (None, None)), exact=True)
        mine, theirs = unit.solve(signal), Compiled(unit.program(), np.ones(6)).solve(signal)

        def value(r, signal=signal):
            extra = 0.35 * float(np.sum((r.y - signal.target) ** 2)) if penalised else 0.0
            return r.cost - float(signal.price @ r.y) + extra

        assert value(mine) == pytest.approx(value(theirs), abs=1e-6)
        assert unit.evaluate(mine.y).cost == pytest.approx(mine.cost, abs=1e-9)
        if penalised or kind == "curved":
            assert mine.y == pytest.approx(theirs.y, abs=1e-4)
        if penalised:
            assert mine.bound is None
        else:
            assert mine.bound == pytest.approx(value(mine), abs=1e-9)


def test_ladder_slope_is_the_derivative_of_its_answer():
    for seed, budget in itertools.product(range(5), (0.05, np.inf)):
        unit, price = ladder("curved", seed, budget), np.random.default_rng(seed).uniform(-2, 2, 6)
        slope = unit.solve(Signal(price)).sensitivity
        step = 1e-6
        moved = [unit.solve(Signal(price + step * e)).y - unit.solve(Signal(price - step * e)).y for e in np.eye(6)]
        assert slope == pytest.approx(np.stack(moved, axis=1) / (2 * step), abs=1e-5)


def test_ladder_beyond_its_reach_or_budget_is_infeasible():
    unit = ladder("flat", 0, 0.3)
    assert unit.evaluate(np.full(6, 1e3)).status is Status.INFEASIBLE
    reach = np.bincount(unit.rungs.entry[unit.rungs.side > 0], unit.rungs.width[unit.rungs.side > 0])
    assert unit.evaluate(0.9 * reach).status is Status.INFEASIBLE
    assert unit.evaluate(0.2 * reach).status is Status.OPTIMAL


def test_offers_that_are_not_convex_are_refused():
    one = np.ones((1, 2))
    with pytest.raises(ValueError, match="not convex"):
        Rungs.stacked(one, np.array([[2.0, 1.0]]), one, np.zeros(1))


@pytest.mark.parametrize("seed", range(6))
def test_machines_are_scheduled_like_a_solver_and_their_relaxation_is_tight(seed):
    block, price = Commitment(machines(seed)), np.random.default_rng(seed).uniform(0, 4, 12)
    signal = Signal(price, exact=True)
    mine, theirs = block.solve(signal), Compiled(block.program(), np.ones(12)).solve(signal)
    value = mine.cost - float(price @ mine.y)
    assert value == pytest.approx(theirs.cost - float(price @ theirs.y), abs=1e-6)
    assert mine.bound == pytest.approx(value, abs=1e-9)
    relaxed = replace(block.program(), integer=np.zeros(len(block.program().cost), bool))
    assert Compiled(relaxed, np.ones(12)).solve(signal).bound == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_machines_with_a_penalty_are_scheduled_like_by_enumeration(seed):
    m, rng = machines(seed, S=1), np.random.default_rng(50 + seed)
    block, price, target, rho = Commitment(m), rng.uniform(0, 3, 6), rng.uniform(0, 4, 6), np.full(6, 0.8)
    answer = block.solve(Signal(price, target, rho))

    def total(y):
        return block.evaluate(y).cost - float(price @ y) + 0.5 * float(rho @ (y - target) ** 2)

    grid = m.least[0] + np.linspace(0, 1, 4001) * m.width[0].sum()
    q = np.clip(grid[:, None] - m.inner[0], 0, m.width[0])
    hourly = [q @ m.cost[0, t] - price[t] * grid + 0.4 * (grid - target[t]) ** 2 for t in range(6)]
    on = np.array([grid[np.argmin(cost)] for cost in hourly])
    best = min(total(on * u) for u in itertools.product((0, 1), repeat=6))
    assert answer.bound is None
    assert total(answer.y) <= best + 1e-9
    assert total(answer.y) == pytest.approx(best, abs=1e-3)


def test_machine_may_not_stop_too_soon_nor_give_too_little():
    m = machines(0, S=1)
    block, on = Commitment(m), m.least[0] + 0.1
    assert block.evaluate(np.array([0, on, on, 0, 0, 0])).status is Status.INFEASIBLE
    assert block.evaluate(np.array([0, on, on, on, 0, 0])).status is Status.OPTIMAL
    assert block.evaluate(np.array([0, 0, 0, 0, on, on])).status is Status.OPTIMAL  # the end of the day
    assert block.evaluate(np.array([0, 0.5 * m.least[0], 0, 0, 0, 0])).status is Status.INFEASIBLE


# -- the generator -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["qp", "lp", "milp", "stochastic"])
def test_bounds_enclose_the_optimum_of_the_one_model(kind):
    problem = market(kind)
    known = problem.reference(30)
    result = run(
        problem.subproblem, problem.coordinator, ADMM(1e-3), coupling=problem.couplings, stop=[Gap(1e-4, 0, "total")],
        limits=Limits(12), certificate=CertificateSettings(every=1),
    )  # fmt: skip
    assert known.lagrangian <= known.bound * (1 + 1e-9) <= known.optimum * (1 + 1e-6)
    for row in result.rows:
        assert row.lower_bound <= known.lagrangian * (1 + 1e-6)
        assert row.upper_bound >= known.optimum * (1 - 1e-6)
    if kind != "milp":
        assert result.rows[-1].gap < 0.05
        assert known.lagrangian == known.optimum


def test_blocks_are_the_same_whichever_are_built():
    signal = Signal(np.linspace(-0.2, 0.3, 24), exact=True)
    for kind in ("qp", "lp", "milp", "stochastic"):
        one, other = market(kind, 10), market(kind, 10)
        keys = sorted(key for c in one.couplings for key in c.prob)
        backwards = {key: one.subproblem(key).solve(signal).y for key in reversed(keys)}
        assert all(np.array_equal(other.subproblem(key).solve(signal).y, backwards[key]) for key in keys)


def test_seeds_and_scenarios_differ_and_probabilities_are_unequal():
    a, b = market("stochastic", 10, seed=0), market("stochastic", 10, seed=1)
    key, other = Key("u001", "0"), Key("u001", "1")
    signal = Signal(np.full(24, 0.15))
    answers = [p.subproblem(k).solve(signal).y for p, k in ((a, key), (a, other), (b, key))]
    assert not any(np.allclose(x, y) for x, y in itertools.combinations(answers, 2))
    assert len(set(a.couplings[0].prob.values())) == 2


def test_every_node_has_a_unit_where_units_are_fewer():
    problem = market("lp", 2, 480)
    assert sorted(set(np.concatenate([c.node for c in problem.couplings]))) == list(range(480))


def test_solver_blocks_lead_the_same_way_as_exact_ones():
    rows = []
    for solver in ("exact", "highs"):
        problem = market("qp", 2, solver=solver)
        result = run(problem.subproblem, problem.coordinator, ADMM(1e-3), coupling=problem.couplings, stop=[],
                     limits=Limits(3), certificate=CertificateSettings(every=1))  # fmt: skip
        rows.append([(r.lower_bound, r.upper_bound) for r in result.rows])
    assert np.array(rows[0]) == pytest.approx(np.array(rows[1]), rel=1e-5)


@pytest.mark.parametrize("name", ["two_communities", "exchange", "three_buses", "farmer", "two_machines"])
def test_known_answers_are_found(name):
    problem = KnownAnswer(KnownAnswer.Settings.model_validate({"known": {"name": name}}))
    known = problem.reference(1)
    penalty = {"two_communities": 7.5, "exchange": 0.5, "three_buses": 0.1}.get(name, 1.0)
    result = run(
        problem.subproblem, problem.coordinator, ADMM(penalty, agreement_penalty=1.0, first_round="free"),
        coupling=problem.couplings, stop=[Gap(1e-6, 0, "total")], limits=Limits(60),
        certificate=CertificateSettings(every=1),
    )  # fmt: skip
    slack = 1e-6 * abs(known.optimum)
    assert all(row.lower_bound <= known.lagrangian + slack for row in result.rows)
    # the farmer's rounds without a penalty that suits him, and integers, do not come to an end
    if name in ("two_communities", "exchange", "three_buses"):
        assert result.status is RunStatus.CERTIFIED
        assert result.objective == pytest.approx(known.optimum, rel=1e-5)
    if name == "farmer":
        assert min(r.upper_bound for r in result.rows if r.upper_bound is not None) >= known.optimum - slack


# -- plan, runs, store -------------------------------------------------------------------------------------------------

PLAN = """
[benchmark]
title = "Small"
tolerances = [1e-2, 1e-4]
max_rounds = 30
time_limit_s = 60
reference_time_limit_s = 10

[rule]
admm = {kind = "admm", penalty = [0.25, 0.5], agreement_penalty = 1.0}
ascent = {kind = "dual_ascent", step = {kind = "constant", a = 0.5}}

[instance.known]
problem = "benchmarks.known:KnownAnswer"
known = {name = ["exchange", "two_communities"]}
group = "known.name"

[only]
ascent = ["exchange"]

[start_values]
factors = [0.1, 10]
where = {"known.name" = ["exchange"]}
parameter = {admm = "penalty"}

[quick.instance.known]
known = {name = ["exchange"]}
"""


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(PLAN)
    return file


def test_lists_are_swept_and_start_values_multiplied(small):
    plan = read_plan(small)
    told = [(r.instance.group, r.variant, r.factor, r.rule.get("penalty")) for r in plan.runs]
    assert told.count(("two_communities", "admm(penalty = 0.25)", None, 0.25)) == 1
    assert ("exchange", "admm(penalty = 0.5)", 0.1, 0.05) in told
    assert ("exchange", "ascent", 10.0, None) in told
    assert not any(group == "two_communities" and rule == "ascent" for group, rule, _, _ in told)
    assert len(told) == 2 + 3 + 6
    assert {r.instance.group for r in read_plan(small, quick=True).runs} == {"exchange"}


def test_a_start_value_is_a_multiple_of_the_rules_default(small):
    text = small.read_text().replace('parameter = {admm = "penalty"}', 'parameter = {admm = "penalty_factor"}')
    small.write_text(text)
    starts = [r.rule["penalty_factor"] for r in read_plan(small).runs if r.factor and "0.25" in r.variant]
    assert starts == [0.1 * ADMM().penalty_factor, 10 * ADMM().penalty_factor]
    small.write_text(text.replace("penalty_factor", "first"))
    with pytest.raises(InputError, match="no number 'first' to multiply"):
        read_plan(small)


def test_all_mistakes_of_a_plan_are_told_at_once(small):
    small.write_text("[benchmark]\ntitle = 'x'\nrounds = 3\n[rules]\n[only]\nnobody = ['x']\n[instance.a]\n")
    with pytest.raises(InputError) as told:
        read_plan(small)
    text = str(told.value)
    for part in ("unknown table 'rules'; did you mean 'rule'", "tolerances", "unknown key 'rounds'", "'problem'",
                 "is no rule of this file", "add at least one [rule.NAME]"):  # fmt: skip
        assert part in text


def outcome(plan, variant, **changes):
    job = next(r for r in plan.runs if r.variant == variant and r.factor is None)
    return measure(replace(job, **changes), plan.settings, plan.file.parent, {})


def test_runs_that_cannot_be_done_are_rows_that_say_why(small):
    (small.parent / "bad.py").write_text(
        "from dataclasses import dataclass\nfrom decomp.rules import ADMM\n\n\n@dataclass(frozen=True)\n"
        "class Raises(ADMM):\n    def update(self, k, state, answers, request):\n"
        "        if k == 2:\n            raise ZeroDivisionError('oh')\n"
        "        return super().update(k, state, answers, request)\n\n\n"
        "@dataclass(frozen=True)\nclass Demands(ADMM):\n    needs = frozenset({'clairvoyance'})\n"
    )
    plan = read_plan(small)
    crashed = outcome(plan, "ascent", rule={"kind": "bad:Raises", "penalty": 0.5})
    assert (crashed["status"], len(crashed["rows"])) == ("crashed", 2)
    assert "ZeroDivisionError: oh" in crashed["message"]
    refused = outcome(plan, "ascent", rule={"kind": "bad:Demands", "penalty": 0.5})
    assert (refused["status"], refused["rows"]) == ("refused", [])
    assert "clairvoyance" in refused["message"]
    bad = outcome(plan, "ascent", rule={"kind": "admm", "penalti": 0.5})
    assert bad["status"] == "bad_input"
    assert "did you mean 'penalty'" in bad["message"]


def test_a_worker_that_dies_or_hangs_is_a_row_and_the_others_go_on():
    records = dict(in_processes(bad_worker.work, [(n, (n,)) for n in range(5)], 2, patience_s=2.0))
    assert {n: r["status"] for n, r in records.items()} == {0: "done", 1: "died", 2: "hung", 3: "done", 4: "done"}
    assert "exit code 7" in records[1]["message"]


def test_documented_rule_step_and_instance_run_and_only_what_changed_runs_again(tmp_path, capsys):
    text = DOCS.read_text()
    for name in ("my_rule", "my_step", "my_problem"):
        (tmp_path / f"{name}.py").write_text(re.search(rf"`{name}\.py`.*?```python\n(.*?)```", text, re.S)[1])
    own = re.findall(r"```toml\n(\[(?:rule|instance)\]\n.*?)```", text, re.S)
    assert len(own) == 3
    lines = {head: [] for head in ("[rule]", "[instance]")}
    for part in own:
        head, *rest = part.splitlines()
        lines[head] += rest
    lines["[rule]"].append("admm = {kind = 'admm', penalty = 0.5}")
    file = tmp_path / "mine.toml"
    tables = PLAN[: PLAN.index("[rule]")] + "\n".join("\n".join([head, *rest]) for head, rest in lines.items())
    file.write_text(tables)
    arguments = [str(file), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert command.main(arguments, Serial()) == 0
    first = capsys.readouterr().err
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert first.count("\nrun ") == len(runs) == 8
    assert set(runs.rule) == {"mine(first = 0.5)", "mine(first = 1.0)", "my_steps", "admm"}
    assert set(runs.optimum) == {3.0, 12.0}
    assert list(runs[runs.rule == "admm"].status) == ["certified", "certified"]
    assert set(runs.status) <= {"certified", "iteration_limit"}
    rounds = pd.read_csv(tmp_path / "out" / "rounds.csv.gz")
    assert len(rounds) == runs.rounds.sum()
    page = (tmp_path / "out" / "index.md").read_text()
    assert "8 of 8 runs" in page
    assert all((tmp_path / "out" / name).stat().st_size > 5000 for name in re.findall(r"\]\((\w+\.png)\)", page))

    before = (tmp_path / "out" / "runs.csv").read_bytes()
    assert command.main([*arguments, "--report"], Serial()) == 0
    assert (tmp_path / "out" / "runs.csv").read_bytes() == before

    rule = tmp_path / "my_rule.py"
    rule.write_text(rule.read_text() + "\n# changed\n")
    assert command.main(arguments, Serial()) == 0
    again = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run ")]
    assert len(again) == 4
    assert all("mine(" in line for line in again)


@pytest.mark.mpi
def test_runs_dealt_over_ranks_give_the_same_tables(small):
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    tables = []
    for launch in ([], [mpiexec, "-n", "2"]):
        out, store = small.parent / f"out{len(launch)}", small.parent / f"store{len(launch)}"
        line = [*launch, sys.executable, "-m", "benchmarks", small, "--quick", "--out", out, "--store", store]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=DOCS.parents[1])
        assert done.returncode == 0, done.stderr
        tables.append(pd.read_csv(out / "runs.csv").drop(columns="wall_time_s"))
    assert tables[0].equals(tables[1])


def test_a_record_that_was_cut_off_counts_as_not_done(tmp_path):
    store = Store(tmp_path)
    store.put("a", {"status": "certified"})
    assert store.get("a") == {"status": "certified"}
    (tmp_path / "a.json").write_text('{"status": "cert')
    assert store.get("a") is None
    assert store.get("b") is None


def test_documented_case_of_an_instance_is_a_case_file(tmp_path):
    text = re.search(r"```toml\n(\[case\].*?)```", DOCS.read_text(), re.S)[1]
    (tmp_path / "case.toml").write_text(
        text.replace("blocks = 50", "blocks = 4").replace("prices = 120", "prices = 48")
    )
    case = load(tmp_path / "case.toml")
    result = run(case.problem.subproblem, case.problem.coordinator, case.rule, coupling=case.problem.couplings,
                 stop=case.stop, limits=Limits(2), certificate=case.certificate)  # fmt: skip
    assert result.status is RunStatus.ITERATION_LIMIT
    assert result.certificate.lower_bound < result.certificate.upper_bound


# -- counting ----------------------------------------------------------------------------------------------------------


class Seen:
    """What a criterion sees, as far as Watch looks."""

    def __init__(self, k, lower, upper, neutral=0.0, bound_of="exact"):
        self.k = k
        self.certificate = type("C", (), dict(
            lower_bound=lower, upper_bound=upper, neutral_bound=neutral, bound_of=bound_of))  # fmt: skip


def test_the_best_bounds_of_all_rounds_count():
    watch = Watch("gap", (1e-3,), None)
    for seen in (Seen(0, 90.0, 200.0), Seen(1, 80.0, 100.0), Seen(2, None, None)):
        assert watch(seen) is None
    assert [r["gap"] for r in watch.rows] == pytest.approx([0.55, 0.1, 0.1])
    assert watch(Seen(3, 99.95, 150.0)).status is RunStatus.CERTIFIED


def test_bounds_of_a_linearised_problem_do_not_outlive_their_point():
    watch = Watch("coordination", (1e-3,), None)
    for seen in (Seen(0, 99.0, 100.0, 90.0, "linearised"), Seen(1, 95.0, 101.0, 91.0, "linearised")):
        watch(seen)
    assert [r["gap"] for r in watch.rows] == pytest.approx([0.1, 0.6])


def test_a_run_whose_gap_falls_too_slowly_ends_as_not_reached():
    watch = Watch("gap", (1e-2, 1e-3), None, patience=3, max_rounds=12)
    ended = {}
    for k, upper in enumerate([40.0, 30.0, 20.0, 16.0, 15.9, 15.9, 15.8, 12.0]):
        ended[k] = watch(Seen(k, 10.0, upper))
    # gaps .75 .67 .5 .375 .371 ...: in round 5, .371 (.371 / .5) ** (3 * 6 / 3) = .062 > 1e-2; round 7 jumps
    assert [k for k, stop in ended.items() if stop] == [5, 6]
    assert ended[6].status == RunStatus.ITERATION_LIMIT
    assert "as in its last 3 rounds" in ended[6].reason


def test_the_lagrangian_gap_asks_for_the_bound_alone():
    watch = Watch("lagrangian", (1e-3,), 50.0)
    assert watch(Seen(0, 45.0, None)) is None
    assert watch.rows[0]["gap"] == pytest.approx(0.1)
    assert watch(Seen(1, 49.99, None)).status is RunStatus.CERTIFIED
    assert Watch("lagrangian", (1e-3,), None)._gap(None) == np.inf


def table(counts):
    return pd.DataFrame(
        [
            {"group": "g", "instance": f"p{i}", "rule": rule, "rounds_to_0.1": c, "block_solves_to_0.1": c}
            for rule, of in counts.items()
            for i, c in enumerate(of)
        ]
    )


def test_profile_is_the_share_of_instances_within_a_ratio_of_the_best():
    inf = np.inf
    p = profiles(table({"a": [2, 2, inf, inf], "b": [4, 1, 8, inf]}), "rounds", 0.1)
    at = {(r.rule, round(r.ratio, 3)): r.share for r in p.itertuples()}
    first = p.ratio.min()
    assert (at["a", first], at["b", first]) == (0.25, 0.5)
    a, b = (p[(p.rule == rule) & (p.ratio >= 2)].share.iloc[0] for rule in "ab")
    assert (a, b) == (0.5, 0.75)
    assert p.share.max() == 0.75  # where all fail, nobody is best


def test_pairs_that_a_profile_puts_into_the_wrong_order_are_found():
    # against c, a is near the best and b is not, yet b beats a on two of three instances
    counts = {"a": [4, 4, 2], "b": [3, 3, 30], "c": [1, 1, 1]}
    p = pairwise(table(counts), "rounds", 0.1).set_index(["rule", "other"])
    assert (p.loc[("a", "b"), "less"], p.loc[("a", "b"), "more"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert not p.loc[("a", "b"), "agrees"]
    assert p.loc[("a", "c"), "agrees"]


def test_failures_count_as_infinite(small):
    plan = read_plan(small)
    jobs: list[Run] = [r for r in plan.runs if r.instance.group == "exchange" and r.variant == "ascent"][:1]
    good = {"status": "certified", "blocks": 2, "prices": 1, "rows": [
        {"round": k, "lower_bound": 0.0, "upper_bound": 1.0, "gap": g, "block_solves": 10 * (k + 1), "wall_time_s": 0.0}
        for k, g in enumerate((None, 5e-3, 1e-5))]}  # fmt: skip
    bad = {"status": "refused", "message": "no", "rows": []}
    settings: Settings = plan.settings
    t = runs_table([(jobs[0], good), (jobs[0], bad), (jobs[0], good)], settings.tolerances)
    assert list(t["rounds_to_0.01"]) == [2, np.inf, 2]
    assert list(t["block_solves_to_0.0001"]) == [30, np.inf, 30]
    row = summary(t, settings.tolerances).iloc[0]
    assert (row.reached, row["rounds_to_0.0001_median"], row["rounds_to_0.0001_max"]) == (2, 3, np.inf)
    assert METRICS == ("rounds", "block_solves")
