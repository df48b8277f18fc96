"""Any stochastic program of linear blocks as one that SMPS files can hold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import sparse

from decomp.blocks.compile.program import Program
from decomp.messages import Coupling, FloatArray, IntArray
from decomp.problem import Problem
from problems.smps.core import Core
from problems.smps.elements import Elements, Place
from problems.smps.scenarios import Scenarios
from problems.smps.stages import Stages


def smps_of(problem: Problem) -> tuple[Elements, Scenarios]:
    """The scenarios of a problem of one unit without a coordinator, for `write_smps`.

    Every number that is not the same in all scenarios becomes a random one. Columns that scenarios agree on belong to
    the stage at which they part, all others to the last; rows to the latest stage of their columns. Spaces in names
    become underscores.

    Raises ValueError that says what an SMPS file cannot hold: a coordinator, quadratic costs or convex terms, offers
    that are no variables, scenarios with other rows or columns.
    """
    alone = problem.unbundled()
    if alone.coordinator is not None or len(alone.couplings) != 1:
        raise ValueError("a stochastic program has one unit, whose scenarios agree, and no coordinator")
    coupling = alone.couplings[0]
    keys = sorted(coupling.prob)
    programs = [cast(Any, alone.subproblem(key)).program for key in keys]
    entries = _entries(programs)
    stage, node = _stages(coupling, entries, len(programs[0].cost))
    core, elements = _core(programs, stage, node.shape[1])
    value = _values(programs, core, elements)
    prob = np.array([coupling.prob[key] for key in keys])
    names = _plain([key.scenario for key in keys])
    return elements, Scenarios(names, prob, node, value)


def _entries(programs: Sequence[Program]) -> IntArray:
    """The column of each entry."""
    first = programs[0]
    for program in programs:
        if program.quad is not None or len(program.terms):
            raise ValueError("a scenario has a quadratic cost or convex terms")
        if program.row_names != first.row_names or program.col_names != first.col_names:
            raise ValueError("scenarios have other rows or columns than each other")
        if not np.array_equal(program.integer, first.integer):
            raise ValueError("scenarios differ in which columns are whole")
        single = np.all(np.diff(program.coupling.indptr) == 1) and np.all(program.coupling.data == 1)
        if not single or np.any(program.coupling_0 != 0):
            raise ValueError("an offer is no variable of the block; define a variable equal to it")
    return np.asarray(first.coupling.indices, np.int64)


def _stages(coupling: Coupling, entries: IntArray, n: int) -> tuple[IntArray, IntArray]:
    """Stage of each column (n,), and node of each scenario at every stage (S, K)."""
    keys = sorted(coupling.prob)
    if coupling.sharing is None:
        rows = np.zeros((len(keys), len(entries)), np.int64)
    else:
        rows = np.stack([np.asarray(coupling.sharing[key], np.int64) for key in keys])
    groups = [tuple(np.unique(rows[:, i], return_inverse=True)[1].tolist()) for i in range(len(entries))]
    first = tuple([0] * len(keys))
    inner = sorted({g for g in groups if g != first and max(g) + 1 < len(keys)}, key=max)
    known = [first, *inner]
    for coarse, fine in itertools.pairwise(known):
        if len(set(zip(coarse, fine, strict=True))) > max(fine) + 1:
            raise ValueError("the nodes of the scenarios are no tree")
    stage = np.full(n, len(known), np.int64)
    for j, group in zip(entries.tolist(), groups, strict=True):
        stage[j] = known.index(group) if group in known else len(known)
    if not np.any(stage == 0):
        raise ValueError("there is nothing on which all scenarios agree")
    return stage, np.column_stack([*(np.array(g) for g in known), np.arange(len(keys))])


def _core(programs: Sequence[Program], stage: IntArray, count: int) -> tuple[Core, Elements]:
    """The first scenario's program, with every entry that any scenario has."""
    first = programs[0]
    pattern = sum((abs(p.A) for p in programs[1:]), abs(first.A)).tocoo()
    lo, hi = np.stack([p.row_lo for p in programs]), np.stack([p.row_hi for p in programs])
    for name, side in (("lower", lo), ("upper", hi)):
        part = np.flatnonzero((np.isfinite(side) != np.isfinite(side[0])).any(axis=0))
        if len(part):
            raise ValueError(f"row '{first.row_names[part[0]]}' has a {name} limit in some scenarios only")
    kept = np.flatnonzero(np.isfinite(lo[0]) | np.isfinite(hi[0]))
    number = {int(i): k for k, i in enumerate(kept)}
    kind, rhs, span = [], [], []
    for i in kept.tolist():
        both = np.isfinite(lo[0, i]) and np.isfinite(hi[0, i])
        equal = both and np.array_equal(lo[:, i], hi[:, i])
        kind.append("E" if equal else "G" if np.isfinite(lo[0, i]) else "L")
        rhs.append(lo[0, i] if np.isfinite(lo[0, i]) else hi[0, i])
        span.append(hi[0, i] - lo[0, i] if both and not equal else np.nan)
    stored = sparse.csr_matrix(first.A)
    A = {
        (number[int(i)], int(j)): float(stored[int(i), int(j)])
        for i, j in zip(pattern.row, pattern.col, strict=True) if int(i) in number
    }  # fmt: skip
    rows, columns = _plain([first.row_names[i] for i in kept]), _plain(first.col_names)
    objective = "OBJ" if "OBJ" not in rows else "OBJ_"
    row_stage = np.zeros(len(kept), np.int64)
    for i, j in A:
        row_stage[i] = max(row_stage[i], stage[j])
    core = Core(
        name="", objective=objective, rows=rows, kind=tuple(kind), columns=columns, integer=first.integer,
        cost=first.cost, constant=first.constant, A=A, rhs=np.array(rhs, float), span=np.array(span, float),
        lb=first.lb, ub=first.ub, maximise=False, order=(objective, *rows),
    )  # fmt: skip
    return core, Elements(core, Stages(tuple(f"STAGE{k + 1}" for k in range(count)), stage, row_stage))


def _values(programs: Sequence[Program], core: Core, elements: Elements) -> FloatArray:
    """(S, P) of every number that differs between scenarios; their places are entered into `elements`."""
    first, columns = programs[0], []

    def enter(kind: str, i: int, j: int, values: FloatArray) -> None:
        elements.position(Place(kind, i, j))
        columns.append(values)

    for kind, attribute in (("cost", "cost"), ("lb", "lb"), ("ub", "ub")):
        values = np.stack([getattr(p, attribute) for p in programs])
        for j in np.flatnonzero((values != values[0]).any(axis=0)).tolist():
            enter(kind, -1, j, values[:, j])
    constant = np.array([p.constant for p in programs])
    if np.any(constant != constant[0]):
        enter("constant", -1, -1, -constant)
    where = {name: i for i, name in enumerate(_plain(first.row_names))}
    for k, row in enumerate(core.rows):
        i = where[row]
        lo, hi = np.array([p.row_lo[i] for p in programs]), np.array([p.row_hi[i] for p in programs])
        rhs = lo if core.kind[k] in "EG" else hi
        if np.any(rhs != rhs[0]):
            enter("rhs", k, -1, rhs)
        if not np.isnan(core.span[k]) and np.any(hi - lo != hi[0] - lo[0]):
            enter("span", k, -1, hi - lo)
    matrices = [sparse.csr_matrix(p.A) for p in programs]
    differ = sum((abs(m - matrices[0]) for m in matrices[1:]), sparse.csr_matrix(matrices[0].shape)).tocoo()
    back = {where[row]: k for k, row in enumerate(core.rows)}
    for i, j, size in zip(differ.row.tolist(), differ.col.tolist(), differ.data.tolist(), strict=True):
        if size > 0 and i in back:
            enter("A", back[i], j, np.array([float(m[i, j]) for m in matrices]))
    return np.column_stack(columns) if columns else np.zeros((len(programs), 0))


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    """The names without spaces. Raises ValueError where two become one."""
    found = tuple("_".join(name.split()) for name in names)
    if len(set(found)) < len(found) or "" in found:
        raise ValueError("two names, or an empty one, are the same without their spaces")
    return found
