"""A block from a linopy model, and so from a PyPSA network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from decomp.blocks.compile.compiler import check_numbers, rounded_down, rounded_up, smallest_curvature
from decomp.blocks.compile.curve import with_curve_columns
from decomp.blocks.compile.outer_approximation import Pool, Terms
from decomp.blocks.compile.program import Program
from decomp.blocks.program_block import ProgramBlock
from decomp.blocks.solve.solver_state import BlockSettings
from decomp.errors import InputError, Mistake
from decomp.messages import BoolArray, FloatArray, Response, Signal, Status
from decomp.subproblem import Arrays, Subproblem

KINDS = {"C": False, "B": True, "I": True}


class LinopyBlock(Subproblem):
    """A linopy model: its objective is the block's cost, `coupling` of it what the block offers.

        LinopyBlock(model, lambda m: m.variables["p"])                                    # model: a function
        LinopyBlock(network.optimize.create_model, lambda m: m.variables["Link-p"].loc[:, "grid"])     # PyPSA

    model      a function without arguments that returns a linopy.Model; an objective to be maximised is turned round.
               It is called once, on the rank that owns the block
    coupling   a function of the model: a variable or linear expression, its entries in the order of its coordinates
    report     the same for what the block tells without a price; None = nothing
    constant   added to the cost (linopy's objectives have no constant; PyPSA's is `network.objective_constant`)
    weight     (n_u,) or one number: weights of the inner product; None = 1
    settings   tolerances and the way integers are treated

    `detail` gives the values of every variable by its name. Models with semi-continuous variables, special ordered sets
    or indicator rows are refused (InputError).
    """

    abilities = frozenset({"penalty", "bound", "evaluate", "kkt"})

    def __init__(
        self,
        model: Callable[[], Any],
        coupling: Callable[[Any], Any],
        *,
        report: Callable[[Any], Any] | None = None,
        constant: float = 0.0,
        weight: FloatArray | float | None = None,
        settings: BlockSettings | None = None,
    ) -> None:
        self.weight, self.settings = 1.0 if weight is None else weight, settings or BlockSettings()
        wrong = [
            Mistake("LinopyBlock", "argument", name, f"is {value!r}", "give a function")
            for name, value in (("model", model), ("coupling", coupling), ("report", report))
            if not callable(value) and not (name == "report" and value is None)
        ]
        if wrong:
            raise InputError(wrong)
        self._model, self._coupling, self._report, self.constant = model, coupling, report, float(constant)
        self._names: dict[str, np.ndarray] = {}

    def program(self) -> Program:
        """The model's arrays; asked once, when the block is first needed."""
        m = self._model()
        arrays = m.matrices
        _refuse(m, arrays)
        n, turned = len(arrays.vlabels), -1.0 if m.objective.sense == "max" else 1.0
        at = {int(label): j for j, label in enumerate(arrays.vlabels)}
        integer = np.array([KINDS[kind] for kind in arrays.vtypes], bool)
        A, sense, b = sparse.csr_matrix((0, n)), np.zeros(0, str), np.zeros(0)
        if arrays.A is not None:  # a model without constraints has none
            A, sense, b = sparse.csr_matrix(arrays.A), np.asarray(arrays.sense), np.asarray(arrays.b, float) + 0.0
        coupling, coupling_0 = _rows(self._coupling(m), at, n)
        nothing = sparse.csr_matrix((0, n)), np.zeros(0)
        report, report_0 = nothing if self._report is None else _rows(self._report(m), at, n)
        self._names = {
            str(name): np.array([at.get(int(label), -1) for label in np.ravel(m.variables[name].labels.values)])
            for name in m.variables
        }
        quad = None if arrays.Q is None or not arrays.Q.nnz else sparse.csc_matrix(turned * arrays.Q)
        return Program(
            cost=turned * np.asarray(arrays.c, float), constant=self.constant, quad=quad, A=_sorted(A),
            row_lo=np.where(sense == "<", -np.inf, b), row_hi=np.where(sense == ">", np.inf, b),
            lb=rounded_up(np.asarray(arrays.lb, float), integer),
            ub=rounded_down(np.asarray(arrays.ub, float), integer),
            integer=integer, coupling=coupling, coupling_0=coupling_0, report=report, report_0=report_0,
            row_names=tuple(f"row {label}" for label in arrays.clabels),
            col_names=tuple(m.variables.get_name_by_label(int(label)) for label in arrays.vlabels), terms=Terms(),
        )  # fmt: skip

    @cached_property
    def _block(self) -> ProgramBlock:
        name, program = type(self).__name__, self.program()
        check_numbers(program, name)
        if program.quad is not None and smallest_curvature(program.quad) < 0:
            raise InputError([Mistake(name, "model", "cost", "its quadratic part is not convex")])
        n = len(program.coupling_0)
        weight = np.asarray(self.weight, float)
        if weight.ndim and weight.shape != (n,):
            problem = f"weight has {weight.size} values, the coupling {n} entries"
            raise InputError([Mistake(name, "block", "weight", problem, "give one for each entry")])
        if self.settings.milp == "relax":
            program = replace(program, integer=np.zeros(len(program.cost), bool))
        program = with_curve_columns(program) if program.integer.any() else program
        return ProgramBlock(program, self.settings, weight=np.broadcast_to(weight, (n,)).copy())

    @property
    def width(self) -> int:
        """Length of a point of this block."""
        return len(self._block.program.cost)

    def solve(self, signal: Signal) -> Response:
        try:
            block = self._block
        except InputError as error:
            return Response(np.full(len(signal.price), np.nan), np.nan, status=Status.ERROR, message=str(error))
        return block.solve(signal)

    def evaluate(self, y: FloatArray) -> Response:
        return self._block.evaluate(y)

    def convex_program(self, active: BoolArray | None) -> tuple[Program, Pool]:
        return self._block.convex_program(active)

    def fingerprint(self) -> bytes | None:
        return self._block.fingerprint()

    def save(self) -> Arrays | None:
        return self._block.save() if "_block" in self.__dict__ else None

    def load(self, arrays: Arrays) -> None:
        self._block.load(arrays)

    def mark(self) -> Any:
        return self._block.mark() if "_block" in self.__dict__ else None

    def reset(self, mark: Any) -> None:
        if mark is not None or "_block" in self.__dict__:
            self._block.reset(mark)

    def detail(self, response: Response) -> Mapping[str, FloatArray]:
        if response.point is None:
            return {}
        point = np.append(response.point, np.nan)  # a masked variable has no column
        return {name: point[columns] for name, columns in self._names.items()}


def _refuse(model: Any, arrays: Any) -> None:
    """Raise InputError for what has no rows of numbers."""
    wrong = []
    if set(arrays.vtypes) - set(KINDS):
        wrong.append(
            Mistake("LinopyBlock", "model", "variables", "some are semi-continuous", "write them with binaries")
        )
    if list(getattr(model.variables, "sos", ())):
        wrong.append(Mistake("LinopyBlock", "model", "variables", "there are special ordered sets", "use binaries"))
    if getattr(arrays, "indicator_A", None) is not None and arrays.indicator_A.shape[0]:
        wrong.append(Mistake("LinopyBlock", "model", "constraints", "there are indicator rows", "write them as rows"))
    if wrong:
        raise InputError(wrong)


def _rows(expression: Any, at: Mapping[int, int], n: int) -> tuple[sparse.csr_matrix, FloatArray]:
    """Coefficients and constants of a linear expression, a row for each place of its coordinates."""
    expression = 1 * expression  # a variable becomes an expression
    if not all(hasattr(expression, name) for name in ("vars", "coeffs", "const")) or "_factor" in expression.vars.dims:
        problem = f"is a {type(expression).__name__}, not a linear expression"
        raise InputError([Mistake("LinopyBlock", "argument", "coupling", problem)])
    terms = int(expression.vars.sizes.get("_term", 1))
    order = [dim for dim in expression.vars.dims if dim != "_term"]
    labels = expression.vars.transpose(*order, "_term").values.reshape(-1, terms)
    values = expression.coeffs.transpose(*order, "_term").values.reshape(-1, terms)
    row = np.repeat(np.arange(len(labels)), terms)
    used = labels.ravel() >= 0
    column = np.array([at[int(label)] for label in labels.ravel()[used]], np.int64)
    matrix = sparse.csr_matrix((values.ravel()[used].astype(float), (row[used], column)), (len(labels), n))
    return _sorted(matrix), np.ravel(expression.const.transpose(*order).values).astype(float)


def _sorted(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    matrix.sum_duplicates()
    matrix.sort_indices()
    return sparse.csr_matrix(
        (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)), matrix.shape
    )
