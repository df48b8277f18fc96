"""A thing and its settings in one line: `bundle(speculative=2)`, `dual_ascent(step=constant(a=0.5))`."""

from __future__ import annotations

import ast
from typing import Any


def table_of(text: str) -> dict[str, Any]:
    """The table that `name(setting=value, ...)` stands for: {"kind": name, setting: value, ...}.

    Values are numbers, texts, lists, dicts, and further such names with settings. Raises ValueError.
    """
    if text and all(part.isidentifier() for part in text.replace(":", ".").split(".")):
        return {"kind": text}
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError("is not a name with settings") from None
    return _called(node)


def _called(node: ast.expr) -> dict[str, Any]:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("is not a name with settings")
    if node.args:
        raise ValueError("has a value without a name")
    return {"kind": node.func.id} | {str(k.arg): _value(k.value) for k in node.keywords}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        return _called(node)
    if isinstance(node, ast.Name):
        return node.id
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"has '{ast.unparse(node)}', which is no value") from None
