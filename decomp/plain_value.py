"""Any plain value as JSON structure and arrays, and back: frozen dataclasses, tuples, dicts, numbers, texts, arrays.

No pickle: reading runs no code of the file's choosing. Classes are looked up by name among the modules that the run has
already loaded, and only dataclasses, named tuples and enumerations are made from what is read.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from decomp.errors import CheckpointError

Structure = Any  # what the json module can write


def flatten(value: Any, shared: Mapping[str, Any]) -> tuple[Structure, list[np.ndarray]]:
    """Structure and arrays of a value; an object that `is` one of `shared` is written as its name.

    Raises CheckpointError that names the place of what is no plain value (an open file, a solver object, a closure).
    """
    writer = _Writer(shared)
    return writer.write(value, "state"), writer.arrays


def unflatten(structure: Structure, arrays: Mapping[int, np.ndarray], shared: Mapping[str, Any]) -> Any:
    """The value written by `flatten`; the objects named by it are taken from `shared`. Raises CheckpointError."""
    try:
        return _Reader(arrays, shared).read(structure)
    except CheckpointError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"its structure is not understood: {type(error).__name__}: {error}") from error


class _Writer:
    def __init__(self, shared: Mapping[str, Any]) -> None:
        self.arrays: list[np.ndarray] = []
        self._shared = {id(thing): name for name, thing in shared.items()}
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is only good as long as its object lives

    def write(self, value: Any, where: str) -> Structure:
        if id(value) in self._shared:
            return {"shared": self._shared[id(value)]}
        if value is None or isinstance(value, bool) or type(value) in (int, float, str):
            return value
        if isinstance(value, np.ndarray):
            return {"array": self._array(value, where)}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), where)}
        if isinstance(value, enum.Enum):
            return {"enum": _name(type(value)), "value": self.write(value.value, where)}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {"named": _name(type(value)), "of": self._each(value, where)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            told = {f.name: self.write(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
            return {"class": _name(type(value)), "fields": told}
        return self._container(value, where)

    def _container(self, value: Any, where: str) -> Structure:
        if isinstance(value, tuple):
            return {"tuple": self._each(value, where)}
        if isinstance(value, list):
            return {"list": self._each(value, where)}
        if isinstance(value, frozenset):
            return {"set": self._each(sorted(value), where)}
        if isinstance(value, Mapping):
            return {"dict": [self._each(pair, f"{where}[{pair[0]!r}]") for pair in value.items()]}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, types.FunctionType) and "<" not in value.__qualname__:
            return {"function": _name(value)}
        raise CheckpointError(
            f"{where} is of type {type(value).__name__}, which cannot be written down; a rule's state and a "
            "coordinator's warm value hold frozen dataclasses, tuples, dicts, numbers, texts and arrays"
        )

    def _each(self, values: Iterable[Any], where: str) -> list[Structure]:
        return [self.write(item, f"{where}[{i}]") for i, item in enumerate(values)]

    def _array(self, value: np.ndarray, where: str) -> int:
        if value.dtype.hasobject:
            raise CheckpointError(f"{where} is an array of objects, which cannot be written down")
        if id(value) not in self._seen:
            self._seen[id(value)] = len(self.arrays)
            self.arrays.append(value)
            self._alive.append(value)
        return self._seen[id(value)]


class _Reader:
    def __init__(self, arrays: Mapping[int, np.ndarray], shared: Mapping[str, Any]) -> None:
        self._arrays, self._shared = arrays, shared

    def read(self, item: Structure) -> Any:
        if not isinstance(item, dict):
            return item
        kind, content = next(iter(item.items()))
        if kind == "shared":
            return self._shared[content]
        if kind == "array":
            return self._arrays[content]
        if kind == "scalar":
            return self._arrays[content][()]
        if kind == "enum":
            return _find(content, enum.Enum)(self.read(item["value"]))
        if kind == "named":
            return _find(content, tuple)._make(self._each(item["of"]))
        if kind == "class":
            return self._object(_find(content, object), item["fields"])
        return self._container(kind, content)

    def _container(self, kind: str, content: Any) -> Any:
        if kind == "tuple":
            return tuple(self._each(content))
        if kind == "list":
            return self._each(content)
        if kind == "set":
            return frozenset(self._each(content))
        if kind == "dict":
            return {self.read(name): self.read(value) for name, value in content}
        if kind == "bytes":
            return bytes.fromhex(content)
        if kind == "function":
            found = _look_up(content)
            if isinstance(found, types.FunctionType):
                return found
        raise CheckpointError(f"its structure is not understood: {kind}")

    def _each(self, items: list[Structure]) -> list[Any]:
        return [self.read(item) for item in items]

    def _object(self, cls: Any, told: Mapping[str, Structure]) -> Any:
        names = {f.name for f in dataclasses.fields(cls)}
        if names != set(told):
            changed = ", ".join(sorted(names ^ set(told)))
            raise CheckpointError(f"{_name(cls)} has other fields than when it was written: {changed}")
        made = object.__new__(cls)
        for name, value in told.items():
            object.__setattr__(made, name, self.read(value))
        return made


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _look_up(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _find(name: str, base: type) -> Any:
    found = _look_up(name)
    plain = isinstance(found, type) and issubclass(found, base)
    if not plain or (base is object and not dataclasses.is_dataclass(found)):
        raise CheckpointError(f"it holds a {name}, which this run does not know")
    return found
