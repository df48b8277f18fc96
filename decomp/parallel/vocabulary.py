"""Which kinds of data may be written down and read back, and whether a value is what an annotation says."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from decomp.messages import Response


class Vocabulary:
    """Dataclasses, named tuples and enumerations by a registered name: the last part of their module, and their own.

    Kinds come from what the run has at hand, never from what is read. What can be called (a step) and what is abstract
    (a rule, a coordinator, a subproblem) is no data.
    """

    def __init__(self, kinds: Mapping[str, type]) -> None:
        self._kinds = dict(kinds)
        self._names = {cls: name for name, cls in self._kinds.items()}
        self._hints: dict[type, Mapping[str, Any]] = {}

    @classmethod
    def of(cls, *origins: Any) -> Vocabulary:
        """The kinds that the modules of these classes or objects define or import, and the modules of what they import.

        A module of another package is not searched: of it only the kinds that are imported by name are known.
        """
        waiting = [sys.modules[cls.__module__] for thing in origins for cls in _classes(thing)]
        seen, kinds = set(), set()
        while waiting:
            module = waiting.pop()
            if module.__name__ in seen:
                continue
            seen.add(module.__name__)
            for thing in list(vars(module).values()):
                if is_kind(thing):
                    kinds.add(thing)
                home = thing.__name__ if isinstance(thing, types.ModuleType) else getattr(thing, "__module__", None)
                if isinstance(home, str) and home in sys.modules and _top(home) == _top(module.__name__):
                    waiting.append(sys.modules[home])
        return cls(dict(_named(sorted(kinds, key=lambda c: (c.__module__, c.__qualname__)))))

    def kind(self, name: Any) -> type | None:
        """The kind of this name, None where it has none."""
        return self._kinds.get(name) if isinstance(name, str) else None

    def name_of(self, cls: type) -> str | None:
        """The name of this kind, None where it has none."""
        return self._names.get(cls)

    def hints(self, cls: type) -> Mapping[str, Any]:
        """The annotations of a kind's fields; none where one of them cannot be worked out at run time."""
        if cls not in self._hints:
            try:
                self._hints[cls] = get_type_hints(cls)
            except (NameError, TypeError):
                self._hints[cls] = {}
        return self._hints[cls]


def _classes(thing: Any) -> Iterator[type]:
    """The class of an object and those of the dataclasses in it: a rule may hold another one."""
    yield thing if isinstance(thing, type) else type(thing)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            value = getattr(thing, field.name)
            if dataclasses.is_dataclass(value):
                yield from _classes(value)


def is_named_tuple(cls: type) -> bool:
    """Is it a class of tuples with named fields?"""
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_make")


def is_kind(thing: Any) -> bool:
    """Is it a class whose objects are data?"""
    if not isinstance(thing, type) or any(map(_acts, thing.__mro__)):
        return False
    return dataclasses.is_dataclass(thing) or is_named_tuple(thing) or issubclass(thing, enum.Enum)


def misfit(value: Any, hint: Any) -> str:
    """In words, what `value` is instead of what the annotation says; "" where it fits."""
    return "" if _fits(value, hint) else f"a {type(value).__name__} where {_text(hint)} belongs"


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or hint is object:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if isinstance(origin, type) and issubclass(origin, np.ndarray):
        return isinstance(value, np.ndarray) and _of_type(value, arguments)
    if isinstance(origin, type):
        return _fits_container(value, origin, arguments)
    if not isinstance(hint, type):
        return True  # a type variable, a forward reference: nothing that could be compared
    if hint is float:
        return isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    return isinstance(value, hint)


def _fits_container(value: Any, origin: type, arguments: tuple[Any, ...]) -> bool:
    if issubclass(origin, tuple):
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if not isinstance(value, origin):
        return False
    if isinstance(value, Mapping) and len(arguments) == 2:
        return all(_fits(k, arguments[0]) and _fits(v, arguments[1]) for k, v in value.items())
    if isinstance(value, list | frozenset) and arguments:
        return all(_fits(item, arguments[0]) for item in value)
    return True


def _of_type(value: np.ndarray, arguments: tuple[Any, ...]) -> bool:
    """Numbers where numbers belong: NDArray[np.float64] is an array of shape Any and dtype np.dtype[np.float64]."""
    wanted = get_args(arguments[-1]) if arguments else ()
    if not wanted or not isinstance(wanted[0], type):
        return True
    if issubclass(wanted[0], np.bool_):
        return value.dtype.kind == "b"
    if issubclass(wanted[0], np.integer):
        return value.dtype.kind in "iu"
    return value.dtype.kind in "iuf" if issubclass(wanted[0], np.floating) else True


def _acts(base: type) -> bool:
    """Can objects with this base be called, or are they what an abstract class of ours or the user's promises?"""
    return "__call__" in vars(base) or (inspect.isabstract(base) and base.__module__ != "collections.abc")


def _named(kinds: list[type]) -> Iterator[tuple[str, type]]:
    taken: dict[str, int] = {}
    for cls in kinds:
        name = f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__}"
        taken[name] = taken.get(name, 0) + 1
        yield name if taken[name] == 1 else f"{name} {taken[name]}", cls


def _top(name: str) -> str:
    return name.partition(".")[0]


def _text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint).replace("typing.", "")


MESSAGES = Vocabulary.of(Response)  # what travels between ranks beside what a coordinator's parts say
