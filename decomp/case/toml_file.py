"""Read a TOML file so that whatever is wrong with it is told, and put single values over what it says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from decomp.case.validation import MistakeCollector, Place
from decomp.errors import InputError, Mistake


def read_toml(file: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises InputError for a file that cannot be read as one."""
    collector = MistakeCollector(str(file))
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise _only(collector, "does not exist", f"looked for it at {file.resolve()}") from None
    except OSError as error:
        raise _only(collector, f"cannot be read: {error.strerror}", "give a readable TOML file") from None
    if not data.strip():
        raise _only(collector, "is empty", "a case needs [case], [rule] and [run]; see docs/case_file.md")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _only(collector, f"is no text file (byte {error.start})", "a case file is TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _only(
            collector, f"is no valid TOML: {error}", "mend it there; is it cut off, or a quote missing?"
        ) from None


def override(tables: dict[str, Any], text: str, collector: MistakeCollector) -> None:
    """Put one "a.b.c=value" into the tables; what may stand at a.b.c is found out when the tables are read."""
    origin = f"--set {text}"
    left, equals, right = text.partition("=")
    try:
        if not equals:
            raise tomllib.TOMLDecodeError("there is no '='")
        keys = _keys_of(left)
        value = _value_of(right)
    except tomllib.TOMLDecodeError as error:
        remedy = "write --set table.key=VALUE with a TOML value"
        collector.mistakes.append(Mistake(origin, "", "", f"is not understood: {error}", remedy))
        return None
    node: Any = tables
    for n, key in enumerate(keys):
        here: Place = tuple(keys[: n + 1])
        last = n == len(keys) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                collector.came_from[here] = origin
                return collector.add(here, f"'{key}' is no element", f"give a number below {len(node)}")
            keys[n] = step = int(key)  # type: ignore[call-overload]
            here = tuple(keys[: n + 1])
        elif isinstance(node, dict):
            step = key
        else:
            collector.came_from[here[:-1]] = origin
            whole = ".".join(map(str, here[:-1]))
            return collector.add(here[:-1], "is not a table", f"replace it as a whole: --set {whole}=...")
        if last:
            node[step] = value
            collector.came_from[here] = origin
        else:
            if isinstance(node, dict) and step not in node:
                node[step] = {}
                collector.came_from[here] = origin
            node = node[step]
    return None


def _keys_of(left: str) -> list[Any]:
    if "\n" in left:
        raise tomllib.TOMLDecodeError("more than one line before '='")
    keys, node = [], tomllib.loads(f"{left} = 0")
    while isinstance(node, dict) and node:
        key, node = next(iter(node.items()))
        keys.append(key)
    return keys


def _value_of(right: str) -> Any:
    """A TOML value; a bare word, which TOML does not know, is taken as text (rule.kind=admm)."""
    if re.fullmatch(r"[A-Za-z_][\w.:/-]*", right) and right not in ("true", "false", "nan", "inf"):
        return right
    found = tomllib.loads(f"value = {right}")
    if set(found) != {"value"}:
        raise tomllib.TOMLDecodeError("more than one value")
    return found["value"]


def _only(collector: MistakeCollector, problem: str, remedy: str) -> InputError:
    collector.add((), problem, remedy)
    return InputError(collector.mistakes)
