"""Modules of the user's own come from files beside the case, and stand in for nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from decomp.case import user_modules
from decomp.case.config import load
from decomp.case.registry import NotFound, Registry

CAMPUS = ROOT / "problems" / "cases" / "chalmers_undervoltage.toml"
ANY = Registry("thing", {"ours": "ours"}, lambda thing: "")
TRAP = "raise SystemExit('a file beside the case was executed')\n"


def put(folder: Path, **modules: str) -> None:
    """Write modules into a folder; three underscores stand between a package and what is in it."""
    for name, text in modules.items():
        file = folder.joinpath(*name.split("___")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_the_search_path_and_the_names_of_others_stay_as_they_are(tmp_path):
    put(tmp_path, queue="thing = 'mine'\n", my_step="import queue\nthing = queue.__file__\n")
    path, queue = list(sys.path), __import__("queue")
    assert ANY.find("queue:thing", [tmp_path]) == "mine"
    assert ANY.find("my_step:thing", [tmp_path]) == queue.__file__  # what is installed means what is installed
    assert sys.path == path
    assert sys.modules["queue"] is queue
    assert "my_step" not in sys.modules


def test_nothing_beside_the_case_stands_in_for_a_library_or_for_us(tmp_path):
    """In a process of its own, as a trap that has been imported once would stay."""
    for name in ("queue", "pandas", "bottleneck", "numexpr", "problems_____init__", "decomp_____init__"):
        put(tmp_path, **{name: TRAP})
    put(tmp_path, problems___market=TRAP, my_rule="from decomp.rules import ADMM as Mine\n")
    text = CAMPUS.read_text().replace('"chalmers/', f'"{CAMPUS.parent}/chalmers/')
    (tmp_path / "case.toml").write_text(text)
    code = (
        "import sys; from decomp.case.config import load; "
        f"case = load({str(tmp_path / 'case.toml')!r}, ['rule={{kind=\"my_rule:Mine\"}}']); import queue, pandas; "
        "print(type(case.problem).__module__, type(case.rule).__module__, len(sys.meta_path))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["problems.market.problem", "decomp.rules.admm"]


@pytest.mark.parametrize(
    "text",
    [
        "import helper\nthing = helper.thing\n",
        "import helper as h\nthing = h.thing\n",
        "from helper import thing\n",
        "from . import helper\nthing = helper.thing\n",
        "def thing():\n    from helper import thing\n    return thing\nthing = thing()\n",
        "import json, helper\nthing = helper.thing\n",
        "import tools.deep\nthing = tools.deep.thing + tools.base\n",
        "import tools.deep as deep\nthing = deep.thing + 'b'\n",
        "from tools.deep import both as thing\n",
        "from spread.far import thing\n",  # a folder without __init__.py
    ],
)
def test_modules_of_a_folder_may_import_each_other(tmp_path, text):
    put(tmp_path, helper="thing = 'ab'\n", mine=text, tools_____init__="base = 'b'\n")
    put(
        tmp_path,
        tools___deep="import tools\nfrom helper import thing as whole\nthing = 'a'\nboth = thing + tools.base\n",
    )
    put(tmp_path, spread___far="from spread import near\nthing = near.thing\n", spread___near="thing = 'ab'\n")
    assert ANY.find("mine:thing", [tmp_path]) == "ab"


def test_modules_of_one_name_in_two_folders_are_two(tmp_path):
    for name in ("one", "two"):
        put(tmp_path / name, mine=f"import helper\nthing = helper.thing + {name!r}\n", helper=f"thing = {name!r}\n")
    assert ANY.find("mine:thing", [tmp_path / "one"]) == "oneone"
    assert ANY.find("mine:thing", [tmp_path / "two"]) == "twotwo"
    assert ANY.find("mine:thing", [tmp_path / "two", tmp_path / "one"]) == "twotwo"


def test_a_class_is_one_class_however_it_is_imported(tmp_path):
    put(
        tmp_path,
        mine="import helper\nfrom helper import Unit\nthing = helper.Unit is Unit\n",
        helper="class Unit: ...\n",
    )
    assert ANY.find("mine:thing", [tmp_path]) is True
    unit = ANY.find("helper:Unit", [tmp_path])
    assert unit is ANY.find("mine:Unit", [tmp_path])
    assert user_modules.plain_name(unit.__module__) == "helper"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise KeyError('x')\n", "cannot be imported: KeyError: 'x'"),
        ("raise SystemExit('no licence')\n", "cannot be imported: SystemExit: no licence"),
        ("raise type('Odd', (BaseException,), {})('x')\n", "cannot be imported: Odd: x"),
        ("class E(Exception):\n    __str__ = lambda self: 1 / 0\nraise E\n", r"no text: its __str__ raised"),
        ("raise ValueError('\\udc80')\n", r"ValueError: \\udc80"),
        ("def f(:\n", "cannot be imported: SyntaxError"),
        ("import nowhere_at_all\n", "needs 'nowhere_at_all'"),
    ],
)
def test_a_module_that_raises_is_named(tmp_path, text, words):
    put(tmp_path, mine=text)
    with pytest.raises(NotFound, match=words):
        ANY.find("mine:thing", [tmp_path])


def test_no_compiled_copy_is_left_beside_the_case(tmp_path):
    put(tmp_path, mine="import helper\nthing = helper.thing\n", helper="thing = 1\n")
    assert ANY.find("mine:thing", [tmp_path]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["helper.py", "mine.py"]


def test_a_device_lies_beside_the_case_whoever_loads_it(tmp_path):
    put(tmp_path, my_device="from problems.lec.devices.pv import Pv\n\nclass Mine(Pv):\n    pass\n")
    text = CAMPUS.read_text().replace('"chalmers/', f'"{CAMPUS.parent}/chalmers/')
    (tmp_path / "case.toml").write_text(text)
    device = "lec.LEC1.device=[{kind='my_device:Mine', name='more', peak_kwp=1.0, inverter_kva=1.0}]"
    units = load(tmp_path / "case.toml", [device]).problem.settings.lec["LEC1"].devices
    assert type(units["more"]).__name__ == "Mine"
