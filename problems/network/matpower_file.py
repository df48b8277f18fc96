"""The tables of a MATPOWER case file (.m), its closing unit conversions carried out.

Read is the subset of MATLAB that case files are written in: assignments of numbers and matrices to fields of mpc, of
expressions to variables, and of expressions to rows and columns of a matrix. MATPOWER User's Manual, appendix B.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from decomp.errors import InputError, Mistake
from decomp.messages import FloatArray

# MATPOWER's idx_bus, idx_brch, idx_gen: columns counted from 1, and the values of BUS_TYPE
_BUS = "BUS_I BUS_TYPE PD QD GS BS BUS_AREA VM VA BASE_KV ZONE VMAX VMIN LAM_P LAM_Q MU_VMAX MU_VMIN"
_BRANCH = (
    "F_BUS T_BUS BR_R BR_X BR_B RATE_A RATE_B RATE_C TAP SHIFT BR_STATUS ANGMIN ANGMAX "
    "PF QF PT QT MU_SF MU_ST MU_ANGMIN MU_ANGMAX"
)
_GEN = "GEN_BUS PG QG QMAX QMIN VG MBASE GEN_STATUS PMAX PMIN"
COLUMN = {name: i + 1 for names in (_BUS, _BRANCH, _GEN) for i, name in enumerate(names.split())}
# what a power flow needs
_READ = {"bus": list(range(10)), "branch": [0, 1, 2, 3, 4, 8, 9, 10], "gen": [0, 1, 2, 5, 7]}
_CONSTANTS = COLUMN | {"PQ": 1, "PV": 2, "REF": 3, "NONE": 4, "pi": math.pi}
_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "acos": np.arccos, "asin": np.arcsin, "atan": np.arctan,
    "sqrt": np.sqrt, "abs": np.abs, "exp": np.exp,
}  # fmt: skip


@dataclass
class MatpowerCase:
    """base_mva; tables by name ("bus", "branch", "gen", ...), columns as in MATPOWER (`COLUMN`, counted from 1)."""

    base_mva: float = math.nan
    tables: dict[str, FloatArray] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=lambda: dict[str, Any](_CONSTANTS))

    def column(self, table: str, name: str) -> FloatArray:
        """(rows,) of one column."""
        return self.tables[table][:, COLUMN[name] - 1]


def read_matpower(path: Path) -> MatpowerCase:
    """Read a case file. Raises InputError with every line that is not understood, and every table that is missing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror})"
        raise InputError([Mistake(str(path), "network", "source", problem, "give the path of a .m file")]) from None
    case, mistakes = MatpowerCase(), []
    for line, statement in _statements(text):
        try:
            _run(case, statement)
        except (ValueError, KeyError, IndexError, SyntaxError, ArithmeticError, TypeError) as error:
            shown = " ".join(statement.split())[:70]
            problem = f"'{shown}' is not understood ({error})"
            remedy = "read are assignments of numbers and matrices to mpc, and conversions of their columns"
            mistakes.append(Mistake(str(path), "network", f"line {line}", problem, remedy))
    for name, least in (("bus", 13), ("branch", 11), ("gen", 8)):
        table = case.tables.get(name)
        if table is None or table.ndim != 2 or table.shape[1] < least:
            problem = "is missing" if table is None else f"has too few columns (needs {least})"
            remedy = "a case file of format version 2 is needed"
            mistakes.append(Mistake(str(path), "network", f"mpc.{name}", problem, remedy))
        elif not np.isfinite(table[:, _READ[name]]).all():
            mistakes.append(
                Mistake(str(path), "network", f"mpc.{name}", "has figures that are not finite", "fill them")
            )
    if not case.base_mva > 0:
        mistakes.append(Mistake(str(path), "network", "mpc.baseMVA", "is missing or not positive", "give it in MVA"))
    if mistakes:
        raise InputError(mistakes)
    return case


def _statements(text: str) -> list[tuple[int, str]]:
    """(line number, statement) without comments; a line break ends a statement outside brackets."""
    found: list[tuple[int, str]] = []
    parts: list[str] = []
    begin, depth = 1, 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw)
        if depth and not set(line) & set("[]{}()'") and "..." not in line:  # rows of a matrix
            parts.append(line + "\n")
            continue
        goes_on = line.rstrip().endswith("...")
        at = 0
        line = line.rstrip()[:-3] + " " if goes_on else line
        for end, letter in _outside_strings(line):
            depth += (letter in "[{(") - (letter in "]})")
            if letter == ";" and depth == 0:
                found.append((begin, "".join([*parts, line[at:end]])))
                parts, at, begin = [], end + 1, number
        if not any(part.strip() for part in parts):
            begin = number
        parts.append(line[at:])
        if depth:
            parts.append("\n")
        elif not goes_on:
            found.append((begin, "".join(parts)))
            parts = []
    return [(line, s.strip()) for line, s in [*found, (begin, "".join(parts))] if s.strip()]


def _outside_strings(line: str) -> Iterator[tuple[int, str]]:
    """Places and letters that are in no string; a quote behind a name or a bracket is a transpose."""
    quoted = False
    for i, letter in enumerate(line):
        if letter == "'" and (quoted or i == 0 or not (line[i - 1].isalnum() or line[i - 1] in "])'")):
            quoted = not quoted
        elif not quoted:
            yield i, letter


def _without_comment(line: str) -> str:
    if "%" not in line:
        return line
    return line[: next((i for i, letter in _outside_strings(line) if letter == "%"), len(line))]


def _run(case: MatpowerCase, statement: str) -> None:
    if re.match(r"function\b|end$|return$", statement) or re.match(
        r"\[[\w\s,]*\]\s*=\s*(idx_\w+|define_constants)$", statement
    ):
        return
    if statement == "define_constants":
        return
    matched = re.match(r"([\w.]+)\s*(\(.*?\))?\s*=\s*(?!=)(.*)$", statement, re.S)
    if matched is None:
        raise ValueError("no assignment")
    name, index, right = matched.groups()
    table = name.removeprefix("mpc.")
    if index is not None:
        if table == name or table not in case.tables:
            raise ValueError(f"there is no table {name}")
        rows, cols = (_index(case, part) for part in _halves(index[1:-1]))
        value = _value(case, right)
        target = case.tables[table]
        target[np.ix_(*_places(target, rows, cols))] = (
            value if np.ndim(value) == 0 else np.reshape(value, (-1, np.size(cols)))
        )
    elif right.startswith(("'", "{")):
        return  # names and the format's version
    elif right.startswith("["):
        rows_of = [row.replace(",", " ").split() for row in re.split(r"[;\n]", right.strip("[] \n\t")) if row.strip()]
        if table == name:
            raise ValueError("a matrix that is no field of mpc")
        case.tables[table] = np.array([[_number(case, cell) for cell in row] for row in rows_of], float)
    elif name == "mpc.baseMVA":
        case.base_mva = float(_value(case, right))
    elif table == name:
        case.variables[name] = _value(case, right)
    else:
        raise ValueError("an unknown field")


def _number(case: MatpowerCase, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float(_value(case, cell))


def _halves(text: str) -> tuple[str, str]:
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            return text[:i], text[i + 1 :]
    raise ValueError("one index where rows and columns are needed")


def _index(case: MatpowerCase, text: str) -> Any:
    return None if text.strip() == ":" else _value(case, text)


def _places(table: FloatArray, rows: Any, cols: Any) -> tuple[Any, Any]:
    """Row and column numbers from 0; None = all."""
    every = (
        np.arange(size) if at is None else np.atleast_1d(at).astype(int) - 1
        for at, size in zip((rows, cols), table.shape, strict=True)
    )
    return tuple(every)  # type: ignore[return-value]


def _value(case: MatpowerCase, text: str) -> Any:
    """A number or array from a MATLAB expression of + - * / ^, columns of tables and a few functions."""
    text = re.sub(r"\[([^\]]*)\]", lambda m: "[" + ",".join(m[1].replace(",", " ").split()) + "]", text)
    text = text.replace(".*", "*").replace("./", "/").replace(".^", "**").replace("^", "**")
    text = re.sub(r"([(,]\s*):(?=\s*[,)])", r"\1None", text)
    return _walk(case, ast.parse(text.strip(), mode="eval").body)


def _walk(case: MatpowerCase, node: ast.AST) -> Any:
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, int | float)):
        return node.value
    if isinstance(node, ast.Name):
        return case.variables[node.id]
    if isinstance(node, ast.List):
        return np.array([_walk(case, item) for item in node.elts], float)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_walk(case, node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_walk(case, node.left), _walk(case, node.right))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mpc":
        return case.base_mva if node.attr == "baseMVA" else case.tables[node.attr]
    if isinstance(node, ast.Call):
        values = [_walk(case, argument) for argument in node.args]
        if isinstance(node.func, ast.Name):
            return _FUNCTIONS[node.func.id](*values)
        table = _walk(case, node.func)
        part = table[np.ix_(*_places(table, *values))]
        return part.item() if part.size == 1 else part
    raise ValueError("an expression of another kind")
