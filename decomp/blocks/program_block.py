"""A block from arrays: no model has to be built, and thousands of scenarios share one template."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.compile.program import Program
from decomp.blocks.fingerprint import fingerprint
from decomp.blocks.solve.compiled_backend import Shared, refuse_integers
from decomp.blocks.solve.compiled_block import CompiledBlock
from decomp.blocks.solve.interface import Built
from decomp.blocks.solve.solver_state import BlockSettings, WarmState
from decomp.messages import BoolArray, FloatArray, IntArray, Response, Signal
from decomp.subproblem import Arrays, Subproblem


class ProgramBlock(Subproblem):
    """min f(x) - <price, y> + penalty term over a `Program`, linear or mixed-integer, y = coupling x + coupling_0.

    program   the block's arrays; or with `shared`, a template and its solver, the block's values theta (p,) in it
    weight    (n_u,) of the inner product; None = 1
    parts     name -> stretch of the point: the series of `detail`; None = the whole point as "x"

    Blocks of one `shared` are solved together and answer to the last bit as each would alone.
    """

    abilities = frozenset({"penalty", "bound", "evaluate", "kkt"})

    def __init__(
        self,
        program: Program | FloatArray,
        settings: BlockSettings,
        *,
        shared: Shared | None = None,
        weight: FloatArray | None = None,
        parts: Mapping[str, slice] | None = None,
    ) -> None:
        self.settings = settings
        if isinstance(program, Program):
            refuse_integers(program, "block")
            like, theta, data = program, None, None
            given: Any = program
        else:
            assert shared is not None, "values alone are no program"
            like, theta = shared.template.program, np.asarray(program, float)
            given, data = partial(shared.template.program_at, theta), partial(shared.template.fingerprint, theta)
        if not like.integer.any():
            self.abilities = self.abilities | {"convex"}  # type: ignore[misc]
        n = len(like.coupling_0)
        self.compiled = CompiledBlock(
            given, np.ones(n) if weight is None else np.asarray(weight, float), settings, data=data,
            solver=None if theta is None or shared is None else shared.solver,
        )  # fmt: skip
        self._built = Built(None, [], len(like.cost), self.compiled, shared, theta)
        self._parts = dict(parts or {"x": slice(0, len(like.cost))})
        self._state: WarmState | None = None

    @property
    def program(self) -> Program:
        """The block's own arrays."""
        return self.compiled.program

    def solve(self, signal: Signal) -> Response:
        response, self._state = self.compiled.solve(signal, self._warm)
        return response

    def evaluate(self, y: FloatArray) -> Response:
        response, after = self.compiled.evaluate(np.asarray(y, float), self._warm)
        if self._state is not None:
            self._state = after
        return response

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        """The stretches of the point that `parts` names."""
        if response.point is None:
            return {}
        return {name: response.point[at] for name, at in self._parts.items()}

    @property
    def batch_key(self) -> Hashable | None:
        shared = self._built.shared
        return id(shared) if shared is not None and shared.batches else None

    @classmethod
    def solve_together(cls, blocks: Sequence[ProgramBlock], signals: Sequence[Signal]) -> Sequence[Response]:
        shared = blocks[0]._built.shared
        assert shared is not None
        answers, states = shared.solve([b._built for b in blocks], [b._state for b in blocks], signals)
        for block, state in zip(blocks, states, strict=True):
            block._state = state
        return [
            block.solve(signal) if answer is None else answer
            for block, signal, answer in zip(blocks, signals, answers, strict=True)
        ]

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        return self.compiled.convex_program(self._warm, active)

    def fingerprint(self) -> bytes | None:
        identity = self.compiled.identity()
        return None if identity is None else fingerprint(*identity, self.settings)

    def save(self) -> Arrays | None:
        return None if self._state is None else self.compiled.arrays(self._state)

    def load(self, arrays: Arrays) -> None:
        self._state = self.compiled.from_arrays(arrays)

    def mark(self) -> Any:
        return self._state  # never changed in place

    def reset(self, mark: Any) -> None:
        self._state = mark

    @property
    def _warm(self) -> WarmState:
        return self.compiled.cold() if self._state is None else self._state


def bundled_program(
    programs: Mapping[str, Program], share: FloatArray, nodes: IntArray, kept: IntArray
) -> tuple[Program, dict[str, slice]]:
    """min sum_s share_s f_s(x_s), y_s equal for the scenarios that share the entry's node; and where each x_s lies.

    share (k,) probability of each within the bundle, sum 1; nodes (k, n_u) tree node of each entry in each scenario;
    kept: the entries that the bundle offers, on which all its scenarios agree. Linear programs without convex terms.
    """
    members = list(programs.values())
    width = np.array([len(p.cost) for p in members])
    ends = np.cumsum(width)
    stretch = {name: slice(int(end - n), int(end)) for name, n, end in zip(programs, width, ends, strict=True)}
    offers = sparse.csr_matrix(sparse.block_diag([p.coupling for p in members]))
    n_u = nodes.shape[1]
    first = np.argmax(nodes[:, None, :] == nodes[None, :, :], axis=1)  # (k, n_u) the first scenario of the same node
    s, i = np.nonzero(first < np.arange(len(members))[:, None])
    agree = sparse.csr_matrix(offers[s * n_u + i] - offers[first[s, i] * n_u + i])
    origin = np.concatenate([p.coupling_0 for p in members])
    level = origin[first[s, i] * n_u + i] - origin[s * n_u + i]
    rows = sparse.block_diag([p.A for p in members])
    return Program(
        cost=np.concatenate([part * p.cost for part, p in zip(share.tolist(), members, strict=True)]),
        constant=float(sum(part * p.constant for part, p in zip(share.tolist(), members, strict=True))),
        quad=None,
        A=sparse.csr_matrix(sparse.vstack([rows, agree])),
        row_lo=np.concatenate([*(p.row_lo for p in members), level]),
        row_hi=np.concatenate([*(p.row_hi for p in members), level]),
        lb=np.concatenate([p.lb for p in members]),
        ub=np.concatenate([p.ub for p in members]),
        integer=np.concatenate([p.integer for p in members]),
        coupling=sparse.csr_matrix(offers[kept]),
        coupling_0=members[0].coupling_0[kept],
        report=sparse.csr_matrix((0, int(ends[-1]))),
        report_0=np.zeros(0),
        row_names=(
            *(f"{name}/{row}" for name, p in programs.items() for row in p.row_names),
            *(
                f"agreement of scenario {list(programs)[a]}, entry {b}"
                for a, b in zip(s.tolist(), i.tolist(), strict=True)
            ),
        ),
        col_names=tuple(f"{name}/{column}" for name, p in programs.items() for column in p.col_names),
        terms=Terms(()),
    ), stretch


def mean_program(programs: Sequence[Program], prob: FloatArray) -> Program:
    """The program whose every number is the mean of the programs' numbers: that of the mean data, as far as the data
    enter them as they are.

    prob (k,) sum 1. Raises ValueError where the programs differ in more than their numbers, or have convex terms.
    """
    first = programs[0]
    for other in programs[1:]:
        if other.row_names != first.row_names or other.col_names != first.col_names:
            raise ValueError("scenarios have other rows or columns than each other")
        if not np.array_equal(other.integer, first.integer) or (other.quad is None) != (first.quad is None):
            raise ValueError("scenarios differ in which columns are whole, or in whether their cost is quadratic")
    if len(first.terms):
        raise ValueError("it has convex terms")

    def mean(name: str) -> Any:
        """In the order given; equal infinite limits stay."""
        parts = [getattr(program, name) for program in programs]
        if sparse.issparse(parts[0]):
            return sum((p * part for p, part in zip(prob.tolist()[1:], parts[1:], strict=True)), prob[0] * parts[0])
        values = np.stack([np.asarray(part, float) for part in parts])
        return np.where((values == values[0]).all(axis=0), values[0], _weighted(prob, values))

    names = ("cost", "row_lo", "row_hi", "lb", "ub", "coupling_0", "report_0")
    changes = {name: mean(name) for name in names}
    changes |= {"A": sparse.csr_matrix(mean("A")), "coupling": sparse.csr_matrix(mean("coupling"))}
    changes |= {"report": sparse.csr_matrix(mean("report")), "constant": float(mean("constant"))}
    if first.quad is not None:
        changes["quad"] = sparse.csc_matrix(mean("quad"))
    return replace(first, **changes)


def _weighted(prob: FloatArray, values: FloatArray) -> FloatArray:
    """sum_s prob_s values_s, in that order; infinite where one of them is."""
    total = np.zeros(values.shape[1:])
    for p, row in zip(prob.tolist(), values, strict=True):
        total = total + p * row
    return total
