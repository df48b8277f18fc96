"""A block given as arrays, answered by HiGHS and PIQP: the same unit without an algorithm of its own."""

from __future__ import annotations

from decomp.blocks.compile.outer_approximation import Pool
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.solver_state import BlockSettings, WarmState
from decomp.messages import BoolArray, FloatArray, Response, Signal
from decomp.subproblem import Arrays, Subproblem


class Compiled(Subproblem):
    """Any Program as a block; integers are decided in every solve."""

    abilities = frozenset({"penalty", "bound", "evaluate", "kkt"})

    def __init__(self, program: Program, weight: FloatArray) -> None:
        self._block = CompiledBlock(program, weight, BlockSettings(milp="each_round"))
        self._state: WarmState = self._block.cold()

    def solve(self, signal: Signal) -> Response:
        response, self._state = self._block.solve(signal, self._state)
        return response

    def evaluate(self, y: FloatArray) -> Response:
        return self._block.evaluate(y, self._state)[0]

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        return self._block.convex_program(self._state, active)

    def fingerprint(self) -> bytes | None:
        return fingerprint(self._block.program.data(), self._block.weight)

    def save(self) -> Arrays:
        return self._block.arrays(self._state)

    def load(self, arrays: Arrays) -> None:
        self._state = self._block.from_arrays(arrays)
