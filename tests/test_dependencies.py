"""Only what a dependency documents is used, and nothing of what a solver prints reaches standard output."""

from __future__ import annotations

import ast
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lowest
import pytest
from paths import ROOT

OURS = ("decomp", "problems", "benchmarks", "tatonnement")
# named tuples document these
DOCUMENTED = {"_asdict", "_fields", "_make", "_replace"}
# pandapower explains its solved tables in a tutorial of their own; no function gives the rows of its buses.
# mpi-sppy tells its users to override and read these where they look into its rounds.
EXPLAINED = {
    "problems/network/from_pandapower.py": {"_ppc", "_pd2ppc_lookups"},
    "benchmarks/peers_sppy.py": {"_PHIter", "_mpisppy_data", "_mpisppy_model", "_solver_plugin"},
}


def sources() -> list[Path]:
    files = [file for package in OURS for file in sorted((ROOT / package).rglob("*.py"))]
    return [*files, *sorted(ROOT.glob("*.py"))]


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def defined(tree: ast.AST) -> Iterator[str]:
    """Private names that a module gives to what is its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value  # __slots__


def foreign(tree: ast.AST, own: set[str]) -> Iterator[str]:
    """Private modules and names that are imported from others, private attributes that nobody here defines, ctypes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in own | DOCUMENTED:
                yield f"{ast.unparse(node)} in line {node.lineno}"
            continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr") and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)) and name.value not in own | DOCUMENTED:
                yield f"{ast.unparse(node)} in line {node.lineno}"
            continue
        else:
            continue
        for name in names:
            top, *parts = name.split(".")
            if top in ("ctypes", "cffi", "_ctypes") or (
                top not in (*OURS, "__future__") and any(map(is_private, parts))
            ):
                yield f"{name} in line {node.lineno}"


@pytest.fixture(scope="module")
def own() -> set[str]:
    return {name for file in sources() for name in defined(ast.parse(file.read_text()))}


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_private_symbol_of_a_dependency_is_used(file, own):
    allowed = EXPLAINED.get(str(file.relative_to(ROOT)), set())
    assert list(foreign(ast.parse(file.read_text()), own | allowed)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import ctypes",
        "from ctypes import CDLL",
        "import highspy._core",
        "from highspy import _core",
        "from scipy.sparse._base import spmatrix",
        "import highspy as h\\nh.Highs()._something_inside()",
        "import numpy as np\\nnp.core._multiarray_umath.add",
        "getattr(thing, '_something_inside')",
    ],
)
def test_the_search_for_private_symbols_finds_them(own, text):
    assert len(list(foreign(ast.parse(text.replace("\\n", "\n")), own))) == 1


def test_every_dependency_has_a_lowest_version():
    found = dict(line.split("==") for line in lowest.lowest())
    assert {"numpy", "highspy", "mpi4py", "pandapower", "pytest"} <= set(found)
    newest = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    missing = {name for name in found if name.lower() not in {n.lower() for n in newest}}
    assert not missing, "constraints.txt does not name them"


QUIET = (
    "import sys; from decomp.blocks.solve.highs_simplex import new_highs; "
    "sys.stdout.write('before '); solver = new_highs(); solver.addVar(0.0, 1.0); solver.run(); "
    "again = new_highs(); again.run(); print('after', flush=True)"
)


def test_nothing_that_highs_prints_reaches_a_pipe():
    done = subprocess.run(
        [sys.executable, "-c", QUIET], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("before after\n", "")


def test_nothing_that_highs_prints_reaches_a_terminal():
    terminal, side = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", QUIET], stdout=side, stderr=side, cwd=ROOT) as process:
        assert process.wait(60) == 0
    os.close(side)
    assert os.read(terminal, 10_000).replace(b"\r\n", b"\n") == b"before after\n"
    os.close(terminal)


def test_nothing_that_highs_prints_reaches_a_run_s_output(tiny):
    command = [sys.executable, "mpi_run.py", str(tiny), "--out", str(tiny.parent / "out"), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "HiGHS" not in done.stdout
