"""Case files: what is right is built, what is wrong is told, all of it at once."""

from __future__ import annotations

import contextlib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from decomp.case import config
from decomp.case.config import load
from decomp.errors import InputError
from decomp.rules import ADMM, DualAscent
from decomp.run.stopping import Residual


def edit(case: Path, old: str, new: str) -> Path:
    text = case.read_text()
    assert old in text
    case.write_text(text.replace(old, new, 1))
    return case


def mistakes(case: Path, *overrides: str, rule: str | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(case, overrides, rule)
    return [str(m) for m in caught.value.mistakes]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("run.max_rounds=nan", "[run] max_rounds: should be a valid integer, it is nan"),
        ("run.time_limit_s=inf", "[run] time_limit_s: is not a finite number"),
        ("asynchronous.wait=nan", "[asynchronous] wait: is not a finite number"),
        ("rule.step.a=nan", "[rule.step] a: is not a finite number"),
        ("market.steps=nan", "[market] steps: should be a valid integer"),
        ("run.rounds=nan", "[run] rounds: unknown key 'rounds'"),
        ("surprise={a=nan,b=[inf]}", "[surprise]: unknown key 'surprise'"),
    ],
)
def test_a_value_that_is_not_finite_is_told_once(tiny, override, problem):
    (told,) = mistakes(tiny, override)
    assert problem in told


def test_a_right_file_becomes_objects(tiny):
    case = load(tiny)
    assert isinstance(case.rule, DualAscent)
    assert case.stop == (Residual(1e-6, 1e-6),)
    assert (case.title, case.limits.max_rounds, case.limits.time_limit_s) == ("Two units share a demand", 200, None)
    assert [c.unit for c in case.problem.couplings] == ["coal", "gas"]
    assert case.rule_text == "dual_ascent(step = constant(a = 0.5), proximal = 0)"


WRONG = {  # name: (what is written, what is written instead, section and key, what the text must say)
    "unknown rule": (
        'kind = "dual_ascent"',
        'kind = "dual_asent"',
        "[rule] kind",
        ["unknown rule", "did you mean 'dual_ascent'?", "admm"],
    ),
    "unknown step": (
        'kind = "constant"',
        'kind = "exponental"',
        "[rule.step] kind",
        ["unknown step 'exponental'", "did you mean 'exponential'?", "inverse_sqrt", "'module:name'"],
    ),
    "no kind": ('kind = "constant"', "", "[rule.step] kind", ["is missing", "exponential"]),
    "kind is a number": ('kind = "constant"', "kind = 7", "[rule.step] kind", ["is 7, not a name"]),
    "unknown constant": ("a = 0.5", "aa = 0.5", "[rule.step] aa", ["unknown key 'aa'", "did you mean 'a'?"]),
    "constant is text": ("a = 0.5", 'a = "0.5"', "[rule.step] a", ["valid number", "it is '0.5'"]),
    "constant is nan": ("a = 0.5", "a = nan", "[rule.step] a", ["is not a finite number"]),
    "constant is inf": ("a = 0.5", "a = {h0 = -inf, h1 = 1}", "[rule.step.a] h0", ["is not a finite number"]),
    "step is no table": ("[rule.step]", "step = 3\n[rule.stepp]", "[rule] step", ["is 3, not a table"]),
    "unknown setting of the rule": (
        'kind = "dual_ascent"',
        'kind = "dual_ascent"\nproxmal = 1',
        "[rule] proxmal",
        ["did you mean 'proximal'?"],
    ),
    "a setting of the wrong type": (
        'kind = "dual_ascent"',
        'kind = "dual_ascent"\nproximal = [1]',
        "[rule] proximal",
        ["valid number", "table", "it is [1]"],
    ),
    "unknown criterion": (
        "[stop.residual]",
        "[stop.residuum]",
        "[stop.residuum] kind",
        ["did you mean 'residual'?", "gap"],
    ),
    "tolerance missing": ("quantity = 1e-6", "", "[stop.residual] quantity", ["is missing", "no default"]),
    "tolerance negative": ("quantity = 1e-6", "quantity = -1e-6", "[stop.residual]", ["must be positive"]),
    "criterion is no table": (
        "[stop.residual]",
        "[stop]\nsecure = true\n[stop.residual]",
        "[stop] secure",
        ["is True, not a table"],
    ),
    "no end": ("max_rounds = 200", "", "[run] max_rounds", ["is missing"]),
    "no rounds": ("max_rounds = 200", "max_rounds = 0", "[run]", ["max_rounds must be at least 1"]),
    "rounds not whole": ("max_rounds = 200", "max_rounds = 2.5", "[run] max_rounds", ["valid integer", "it is 2.5"]),
    "unknown key of the run": (
        "max_rounds = 200",
        "max_rounds = 200\ntime_limit = 3",
        "[run] time_limit",
        ["did you mean 'time_limit_s'?"],
    ),
    "certificate of wrong type": ("every = 0", "every = true", "[certificate] every", ["valid integer"]),
    "unknown problem module": (
        "tiny_market:Market",
        "tiny_markt:Market",
        "[case] problem",
        ["no module 'tiny_markt'", "put tiny_markt.py into"],
    ),
    "unknown problem class": (
        "tiny_market:Market",
        "tiny_market:Markt",
        "[case] problem",
        ["has no 'Markt'", "did you mean 'Market'?"],
    ),
    "problem is no problem": (
        "tiny_market:Market",
        "tiny_market:Unit",
        "[case] problem",
        ["is no problem", "subclass of decomp.problem.Problem"],
    ),
    "title missing": ('title = "Two units share a demand"', "", "[case] title", ["is missing"]),
    "unknown table": (
        "[market]",
        "[markets]\n[market]",
        "[markets]",
        ["unknown key 'markets'", "did you mean 'market'?"],
    ),
    "engine table misspelt": ("[certificate]", "[certifcate]", "[certifcate]", ["did you mean 'certificate'?"]),
    "unknown key of the problem": (
        "slope = 2.0",
        "slope = 2.0\nslop = 3",
        "[unit.gas] slop",
        ["did you mean 'slope'?", "intercept"],
    ),
    "negative size": ("slope = 2.0", "slope = -2.0", "[unit.gas] slope", ["greater than 0", "it is -2.0"]),
    "problem's key missing": ("steps = 2", "", "[market] steps", ["is missing", "add steps"]),
    "problem's table missing": ('[market]\ndemand = "demand.csv"\nsteps = 2', "", "[market]", ["is missing"]),
    "number in quotes": ("steps = 2", 'steps = "2"', "[market] steps", ["valid integer", "it is '2'"]),
    "no such data": ("demand.csv", "demands.csv", "[market] demand", ["demands.csv", "does not exist"]),
    "wrong number of steps": ("steps = 2", "steps = 24", "[market] demand", ["has 2 rows for 24 steps"]),
    "constant lacks a node": ("a = 0.5", "a = {h0 = 0.5}", "[rule]", ["no value for 'h1'", "add a.h1"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_with_its_place_and_remedy(tiny, name):
    old, new, place, said = WRONG[name]
    found = mistakes(edit(tiny, old, new))
    telling = [text for text in found if f" {place}: " in text]
    assert len(telling) == 1, found
    assert all(part in telling[0] for part in said), telling[0]


def test_every_mistake_of_the_data_is_told(tiny):
    (tiny.parent / "demand.csv").write_text("demand\n3\nnan\n5\n")
    few, nan = mistakes(tiny)
    assert "has 3 rows for 2 steps" in few
    assert "row 2 is nan" in nan


def test_a_problems_mistake_without_a_file_is_one_of_the_case_file_or_of_what_replaced_it(tiny):
    assert mistakes(tiny, "unit.nobody.slope=1") == [
        "--set unit.nobody.slope=1 [unit] nobody: is nobody's name; choose another"
    ]
    edit(tiny, "[unit.gas]", "[unit.nobody]")
    assert mistakes(tiny) == [f"{tiny} [unit] nobody: is nobody's name; choose another"]


@pytest.mark.parametrize("table", ["case", "rule", "run"])
def test_the_engines_tables_are_required(tiny, table):
    text = "\n".join(line for line in tiny.read_text().splitlines())
    kept = [part for part in text.split("\n\n") if not part.strip().startswith(f"[{table}]")]
    tiny.write_text("\n\n".join(kept))
    assert any(f"[{table}]: is missing" in text for text in mistakes(tiny))


def test_all_mistakes_come_at_once_from_engine_problem_and_data(tiny):
    edit(edit(edit(tiny, '"constant"', '"constnt"'), "max_rounds", "max_round"), "steps = 2", "steps = 3")
    found = mistakes(tiny, "certificate.evry=1", "stop.residual.price=-1")
    assert len(found) == 6  # max_round is unknown and max_rounds is missing
    for part in ("constnt", "max_round'", "max_rounds: is missing", "2 rows for 3 steps", "evry", "must be positive"):
        assert sum(part in text for text in found) == 1, part


def test_wrong_overrides_come_with_all_other_mistakes(tiny):
    assert len(mistakes(edit(tiny, "steps = 2", "steps = 3"), "rule", "rule.step.a=", "rule.step.b=1")) == 4


def test_several_mistakes_of_the_problem_come_at_once(tiny):
    found = mistakes(tiny, "unit.coal.slope=0", "unit.gas.slope=true", "market.demand=3")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\x7fELF\x02\x01\x00\xff\xfe", "is no text file"),
        (b'[case]\ntitle = "Two un', "is no valid TOML"),
        (b"[case]\n[case]\n", "is no valid TOML"),
        (b"[rule\n", "is no valid TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tiny, content, said):
    tiny.write_bytes(content)
    (text,) = mistakes(tiny)
    assert said in text
    assert str(tiny) in text


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    assert "does not exist" in mistakes(tmp_path / "nothing.toml")[0]
    assert "cannot be read" in mistakes(tmp_path)[0]


def test_every_cut_of_a_right_file_is_told_or_right(tiny):
    whole = tiny.read_bytes()
    for length in range(0, len(whole), 7):
        tiny.write_bytes(whole[:length])
        with contextlib.suppress(InputError):  # and nothing else
            assert load(tiny).stop in ((), (Residual(1e-6, 1e-6),))


def test_set_replaces_adds_and_is_kept_in_the_tables_as_run(tiny):
    case = load(tiny, ["rule.step.a=0.25", "run.time_limit_s=60", "unit.coal.intercept=1", 'case.title="other = name"'])
    assert case.rule.step(0, np.ones(2), ("h0", "h1")).tolist() == [0.25, 0.25]
    assert case.limits.time_limit_s == 60
    assert case.title == "other = name"
    assert case.tables["rule"]["step"]["a"] == 0.25
    assert case.tables["unit"]["coal"] == {"slope": 1.0, "intercept": 1}


def test_set_takes_tables_bare_words_and_elements_of_arrays(tiny):
    case = load(tiny, ["rule.step.kind=inverse", "rule.step.a={h0 = 1, h1 = 2}"])
    assert case.rule_text == "dual_ascent(step = inverse(a = {h0 = 1, h1 = 2}), proximal = 0)"
    edit(tiny, "a = 0.5", "a = [1, 2]")
    assert "[rule.step] a: " in mistakes(tiny, "rule.step.a.1=5")[0]
    assert "it is [1, 5]" in mistakes(tiny, "rule.step.a.1=5")[0]
    assert "give a number below 2" in mistakes(tiny, "rule.step.a.2=5")[0]


@pytest.mark.parametrize(
    ("override", "place", "said"),
    [
        ("rule.step.aa=1", "[rule.step] aa", "did you mean 'a'?"),
        ("ruel.kind=admm", "[ruel]", "did you mean 'rule'?"),
        ("rule.step.a.h0=1", "[rule.step] a", "replace it as a whole: --set rule.step.a=..."),
        ("unit.oil.slop=1", "[unit.oil] slop", "did you mean 'slope'?"),
        ("rule.step.a", "", "there is no '='"),
        ("rule.step.a=", "", "is not understood"),
        ("rule.step.a=1,5", "", "is not understood"),
        ("rule..a=1", "", "is not understood"),
        ("=1", "", "is not understood"),
        ("rule.step\n.a=1", "", "more than one line"),
        ("rule.step.a=1\nb=2", "", "more than one value"),
        ("rule.step.a=nan", "[rule.step] a", "is not a finite number"),
    ],
)
def test_a_wrong_override_is_told_by_its_own_name(tiny, override, place, said):
    told = [text for text in mistakes(tiny, override) if text.startswith(f"--set {override} {place}".rstrip())]
    assert len(told) >= 1
    assert said in told[0]


def test_a_rule_by_name_replaces_the_whole_table(tiny):
    case = load(tiny, ["rule.penalty=0.7"], rule="admm")
    assert case.rule == ADMM(penalty=0.7)
    assert case.tables["rule"] == {"kind": "admm", "penalty": 0.7}
    assert mistakes(tiny, rule="amdm")[0].startswith("--rule amdm [rule] kind: unknown rule 'amdm'")


def test_a_rule_by_file_replaces_the_whole_table(tiny):
    other = tiny.parent / "other.toml"
    other.write_text('[rule]\nkind = "admm"\npenalty = 2.0\n')
    assert load(tiny, rule=str(other)).rule == ADMM(penalty=2.0)
    other.write_text('kind = "admm"\n')
    assert len(mistakes(tiny, rule=str(other))) == 2


OWN = """
from dataclasses import dataclass
from decomp.rules import ADMM, UpdateRule
from decomp.run.stopping import RunStatus, Stop

def halving(k, scale, first):
    return first * 0.5**k

def no_constants(k, scale):
    return 0.1

@dataclass(frozen=True)
class Mine(ADMM):
    trust: float = 1.0

class NoDataclass(UpdateRule):
    pass

@dataclass(frozen=True)
class Patience:
    rounds: int
    def __call__(self, iterate):
        return Stop("enough", RunStatus.RESIDUAL) if iterate.k + 1 >= self.rounds else None

def early(iterate, above):
    return Stop("early", RunStatus.RESIDUAL) if iterate.mismatch < above else None
"""


def test_anybodys_step_rule_and_criterion_are_one_line_of_toml(tiny):
    (tiny.parent / "own.py").write_text(OWN)
    case = load(tiny, ["rule.step={kind = 'own:halving', first = 4}"])
    assert case.rule.step(2, np.ones(2), ("h0", "h1")).tolist() == [1.0, 1.0]
    assert "halving(first = 4)" in case.rule_text
    assert load(tiny, ["rule.step={kind = 'own:no_constants'}"]).rule.step(3, np.ones(1), ("h0",)).tolist() == [0.1]
    assert load(tiny, ["rule={kind = 'own:Mine', trust = 2, penalty = 1}"]).rule.trust == 2
    case = load(tiny, ["stop={patience = {kind = 'own:Patience', rounds = 3}, b = {kind = 'own:early', above = 1}}"])
    assert case.stop[0].rounds == 3
    assert callable(case.stop[1])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rule.step={kind = 'own:halving'}", "first: is missing"),
        ("rule.step={kind = 'own:halving', second = 1}", "second: unknown key"),
        ("rule.step={kind = 'own:no_constants', a = 1}", "leave it out"),
        ("rule.step={kind = 'own:halvin'}", "did you mean 'halving'?"),
        ("rule.step={kind = 'own.py:halving'}", "no module 'own.py'"),
        ("rule.step={kind = '../own:halving'}", "is no module name"),
        ("rule={kind = 'own:NoDataclass'}", "decorate it with @dataclass(frozen=True)"),
        ("rule={kind = 'own:Patience'}", "must be a subclass of decomp.rules.UpdateRule"),
        ("rule={kind = 'own:Mine', trust = 'x', penalty = 1}", "trust: should be a valid number"),
        ("stop={p = {kind = 'own:Patience', rounds = 0.5}}", "rounds: should be a valid integer"),
        ("rule={kind = 'broken:Mine'}", "cannot be imported: SyntaxError"),
        ("rule={kind = 'needy:Mine'}", "needs 'no_such_package_anywhere'"),
    ],
)
def test_mistakes_with_anybodys_own_are_told(tiny, override, said):
    (tiny.parent / "own.py").write_text(OWN)
    (tiny.parent / "broken.py").write_text("class Mine(:\n")
    (tiny.parent / "needy.py").write_text("import no_such_package_anywhere\n")
    found = mistakes(tiny, override)
    assert any(said in text for text in found), found


def test_modules_of_the_same_name_in_two_folders_are_two_modules(tiny, tmp_path):
    for folder, factor in (("a", 1.0), ("b", 2.0)):
        place = tmp_path / folder
        place.mkdir()
        for name in ("tiny_market.py", "demand.csv", "case.toml"):
            (place / name).write_bytes((tmp_path / name).read_bytes())
        (place / "mine.py").write_text(f"def step(k, scale):\n    return {factor}\n")
    steps = [
        load(tmp_path / folder / "case.toml", ["rule.step={kind = 'mine:step'}"]).rule.step(0, np.ones(1), ("h0",))[0]
        for folder in ("a", "b", "a")
    ]
    assert steps == [1.0, 2.0, 1.0]


def test_no_criterion_is_legal_because_the_rounds_are_written(tiny):
    edit(tiny, "[stop.residual]\nquantity = 1e-6\nprice = 1e-6", "")
    assert load(tiny).stop == ()


def test_installed_packages_register_problems_by_name(tiny, monkeypatch):
    registered = [EntryPoint("tiny", "tiny_market:Market", config.PROBLEM_GROUP)]
    monkeypatch.setattr(config, "entry_points", lambda group: registered if group == config.PROBLEM_GROUP else [])
    edit(tiny, "tiny_market:Market", "tiny")
    assert type(load(tiny).problem).__name__ == "Market"
    (told,) = mistakes(edit(tiny, '"tiny"', '"tinny"'))
    assert "unknown problem 'tinny'; did you mean 'tiny'? known: tiny; or give 'module:name'" in told
