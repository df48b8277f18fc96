"""Backends of blocks: by name, with what they are capable of; one more is a file and an entry point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest

from decomp.blocks.pyomo_block import PyomoSubproblem
from decomp.blocks.solve.backends import find_backend
from decomp.blocks.solve.interface import Capability, abilities_of
from decomp.messages import Signal, Status

BACKEND = '''
import numpy as np
from decomp.blocks.solve.interface import Built, Capability
from decomp.messages import Response

class Half:
    """Answers half the price, whatever the model."""
    def cold(self): return 0
    def solve(self, signal, state): return Response(signal.price / 2, float(np.sum(signal.price**2)), 0.0), state + 1
    def evaluate(self, y, state): return Response(y, float(np.sum(y))), state
    def arrays(self, state): return {"count": np.array([state])}
    def from_arrays(self, arrays): return int(arrays["count"][0])
    def identity(self): return None

class Backend:
    capabilities = frozenset({Capability.DUAL_BOUND})
    def refusal(self): return ""
    def looks_inside(self): return False
    def refused_options(self, options): return [name for name in options if name != "patience"]
    def build(self, block): return Built(block.build(), [], 0, Half())
'''


class Trade(PyomoSubproblem):
    def build(self) -> pyo.ConcreteModel:
        m = pyo.ConcreteModel()
        m.x = pyo.Var(bounds=(0, 1))
        m.cost = pyo.Expression(expr=m.x)
        m.coupling = pyo.Expression([0], rule=lambda m, i: m.x)
        return m


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with a backend `half`, as pip would leave it."""
    (tmp_path / "half_solver.py").write_text(BACKEND)
    info = tmp_path / "half_solver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half-solver\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tatonnement.solvers]\nhalf = half_solver:Backend\n")
    monkeypatch.syspath_prepend(tmp_path)
    find_backend.cache_clear()
    yield
    find_backend.cache_clear()


@pytest.mark.usefixtures("installed")
def test_a_backend_of_another_package_is_a_file_and_an_entry_point() -> None:
    block = Trade(solver="half", solver_options={"patience": 3})
    assert block.abilities == {"penalty", "evaluate", "bound"}
    answer = block.solve(Signal(np.array([3.0])))
    assert (answer.y.tolist(), answer.bound) == ([1.5], 0.0)
    assert block.save() == {"count": np.array([1])}
    assert block.refusal() == ""
    with pytest.raises(Exception, match="half refuses it"):
        Trade(solver="half", solver_options={"haste": 1})


def test_without_it_the_name_is_looked_for_among_pyomos_solvers() -> None:
    answer = Trade(solver="half").solve(Signal(np.array([3.0])))
    assert answer.status is Status.ERROR
    assert "no usable solver 'half'" in answer.message


def test_capabilities_say_what_a_block_declares() -> None:
    compiled, outside = find_backend("highs"), find_backend("appsi_highs")
    assert {Capability.WARM_BASIS, Capability.BATCH, Capability.TANGENTS} <= compiled.capabilities
    assert abilities_of(compiled) == Trade().abilities == {"penalty", "evaluate", "bound", "kkt"}
    assert abilities_of(outside) == Trade(solver="appsi_highs").abilities == {"penalty", "evaluate", "bound"}
    assert abilities_of(find_backend("pounce")) == {"penalty", "evaluate"}
