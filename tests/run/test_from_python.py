"""`run` and `iterate` from a program: strings, arguments that are wrong, ranks found by themselves."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types

import numpy as np
import pytest
from closed_form import QuadraticBlock, exchange, unit
from mpi_jobs import mpiexec

import tatonnement as tt
from decomp.case.named_settings import table_of


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("bundle", {"kind": "bundle"}),
        ("mine:Rule", {"kind": "mine:Rule"}),
        ("bundle(speculative=2)", {"kind": "bundle", "speculative": 2}),
        (
            "dual_ascent(step=exponential(c1={'a': 0.5}, c2=-1.0), start=1e-3)",
            {
                "kind": "dual_ascent",
                "step": {"kind": "exponential", "c1": {"a": 0.5}, "c2": -1.0},
                "start": 1e-3,
            },
        ),
        ("projected(rule=admm, floor=0.0)", {"kind": "projected", "rule": "admm", "floor": 0.0}),
    ],
)
def test_a_name_with_settings_is_a_table(text, table):
    assert table_of(text) == table


@pytest.mark.parametrize("text", ["", "bundle(2)", "bundle(", "a.b(c=1)", "bundle(x=open('f'))", "[1]"])
def test_what_is_no_name_with_settings_is_refused(text):
    blocks, market, coupling = exchange()
    with pytest.raises(tt.InputError):
        tt.run(blocks, market, text, coupling=coupling)


@pytest.mark.parametrize("rule", ["bundle(speculative=1)", "dual_ascent(step=constant(a=0.5))", {"kind": "admm"}])
def test_rules_and_criteria_by_name_with_settings(rule):
    blocks, market, coupling = exchange()
    stop = "gap(tolerance=1e-6, floor=0, measure='total')"
    result = tt.run(blocks, market, rule, coupling=coupling, stop=stop, limits=np.int64(60).item())
    assert result.status == "certified"
    assert result.objective == pytest.approx(3.0, rel=1e-5)


def test_blocks_may_be_named_by_texts():
    _, market, coupling = exchange()
    named = {"a": QuadraticBlock(1.0), ("b", "0"): QuadraticBlock(2.0)}
    result = tt.run(named, market, coupling=coupling, stop=tt.Gap(1e-6, 0.0, "total"))
    assert result.objective == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"rule": "bundel"}, {"kind"}),
        ({"rule": "bundle(speculatve=2)"}, {"speculatve"}),
        ({"rule": "dual_ascent"}, {"step"}),
        ({"rule": tt.Bundle}, {"rule"}),
        ({"rule": None}, {"rule"}),
        ({"coordinator": "exchange"}, {"coordinator"}),
        ({"subproblems": 3}, {"subproblems"}),
        ({"subproblems": {"a": QuadraticBlock(1.0)}}, {"subproblems"}),
        ({"subproblems": {"a": QuadraticBlock, "b": QuadraticBlock(1.0)}}, {"subproblems"}),
        ({"subproblems": {1: QuadraticBlock(1.0)}}, {"subproblems"}),
        ({"coupling": [unit("a")]}, {"coupling"}),
        ({"coupling": [unit("a"), unit("a")]}, {"coupling"}),
        ({"coupling": [unit("a"), unit("b", (3,))]}, {"coupling"}),
        ({"coupling": "a"}, {"coupling"}),
        ({"coupling": []}, {"coupling"}),
        ({"stop": 1e-4}, {"stop"}),
        ({"stop": [tt.Gap]}, {"stop"}),
        ({"stop": "gap(tolerance=1e-4)"}, {"floor"}),
        ({"stop": "gap(tolerance=-1, floor=0)"}, {""}),
        ({"limits": 0}, {"limits"}),
        ({"limits": 2.5}, {"limits"}),
        ({"certificate": "always"}, {"certificate"}),
        ({"start": np.zeros(1)}, {"start"}),
        ({"start": tt.Start(price=np.zeros(2))}, {"start"}),
        ({"output": print}, {"output"}),
        ({"asynchronous": 0.5}, {"asynchronous"}),
        ({"ranks": 4}, {"ranks"}),
        ({"rule": "bundel", "limits": 0, "stop": 3}, {"kind", "limits", "stop"}),
    ],
)
@pytest.mark.parametrize("function", [tt.run, tt.iterate])
def test_every_wrong_argument_is_named(changes, names, function):
    blocks, market, coupling = exchange()
    given = {"subproblems": blocks, "coordinator": market, "rule": "bundle", "coupling": coupling} | changes
    with pytest.raises(tt.InputError) as told:
        function(**given)
    assert {m.key for m in told.value.mistakes} == names


def test_the_signature_has_every_argument_with_its_default():
    for function in (tt.run, tt.iterate):
        parameters = inspect.signature(function).parameters
        assert [p.name for p in parameters.values()][:3] == ["subproblems", "coordinator", "rule"]
        assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    for name in inspect.signature(tt.run).parameters:
        assert name in (tt.run.__doc__ or "")


def test_a_case_takes_a_rule_with_settings():
    result = tt.solve_case("chalmers_undervoltage", set={"run.max_rounds": 1}, rule="admm(penalty_factor=2.0)")
    assert "penalty_factor = 2" in result.rule
    with pytest.raises(tt.InputError, match="penalty_factr"):
        tt.solve_case("chalmers_undervoltage", rule="admm(penalty_factr=2.0)")


def seen(**values):
    return types.SimpleNamespace(
        **{"primal_norm": 10.0, "dual_norm": 5.0, "primal_count": 4.0, "dual_count": 9.0} | values
    )


def test_the_relative_residual_is_boyds():
    criterion = tt.RelativeResidual(eps_abs=0.1, eps_rel=0.01)
    # .1 x 2 + .01 x 10 = .3 and .1 x 3 + .01 x 5 = .35
    assert criterion(seen(primal_residual=0.3, dual_residual=0.35)).status == "residual"
    assert criterion(seen(primal_residual=0.301, dual_residual=0.3)) is None
    assert criterion(seen(primal_residual=0.2, dual_residual=0.351)) is None
    priced = tt.RelativeResidual(eps_abs=0.1, eps_rel=0.01, eps_abs_price=1.0)
    assert priced(seen(primal_residual=0.3, dual_residual=3.05)) is not None
    with pytest.raises(ValueError, match="negative"):
        tt.RelativeResidual(eps_abs=-1.0, eps_rel=0.1)


def test_a_run_ends_by_the_relative_residual_near_the_optimum_in_any_unit():
    for size in (1.0, 1e6):
        blocks = {tt.Key("a"): QuadraticBlock(1.0 / size), tt.Key("b"): QuadraticBlock(2.0 / size)}
        market = tt.Exchange(["m"], 3.0 * size, (-100.0 * size, 100.0 * size))
        result = tt.run(
            blocks, market, "admm", coupling=[unit("a"), unit("b")], stop="relative_residual(eps_abs=0, eps_rel=1e-4)"
        )
        assert result.status == "residual"
        assert result.offers["a", "0", "e0"] == pytest.approx(2.0 * size, rel=1e-3)


PROGRAM = """
import os, sys
sys.path.insert(0, {support!r})
import numpy as np
import tatonnement as tt
from closed_form import QuadraticBlock, exchange

built = []

def make(key):
    built.append(str(key))
    return QuadraticBlock({{"a": 1.0, "b": 2.0}}[key.unit])

_, market, coupling = exchange()
for rule in ("bundle", "admm"):
    for limits in (tt.Limits(3, time_limit_s=1e-9), tt.Limits(60)):  # the first asks the others to stop
        result = tt.run(make, market, rule, coupling=coupling, stop=tt.Gap(1e-6, 0.0, "total"), limits=limits)
    if result is not None:
        print(rule, result.status, result.ranks, result.objective.hex(), flush=True)
open(os.path.join(sys.argv[1], f"built{{os.getpid()}}"), "w").write(",".join(built))
"""


@pytest.mark.mpi
def test_a_program_under_mpiexec_shares_its_blocks_and_runs_several_times(tmp_path):
    from paths import SUPPORT

    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(support=str(SUPPORT)))
    told = {}
    for ranks in (1, 2, 3):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = mpiexec(ranks, program, folder, module=False)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        assert [line[0] for line in lines] == ["bundle", "admm"]  # once, not once a rank
        assert all(line[1] == "certified" and line[2] == str(ranks) for line in lines)
        told[ranks] = [line[3] for line in lines]
        assert len(list(folder.iterdir())) == ranks
        if ranks == 2:
            each = [set(file.read_text().split(",")) for file in folder.iterdir()]
            assert each[0] & each[1] == set()
    assert told[1] == told[2] == told[3]


def test_processes_that_do_not_find_each_other_are_refused(tmp_path):
    code = (
        "import sys; sys.modules['mpi4py'] = None\nimport tatonnement as tt\n"
        "from closed_form import exchange\nblocks, market, coupling = exchange()\n"
        "try:\n    tt.run(blocks, market, 'bundle', coupling=coupling)\n"
        "except tt.RefusedError as error:\n    print('refused:', error)\n"
    )
    from paths import SUPPORT

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PMI_SIZE": "4", "PYTHONPATH": str(SUPPORT), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.startswith("refused: the launcher started 4 processes")
