"""Find what a case file names: one of ours by its name, anybody's by "module:Name"."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotFound(Exception):
    """What was named cannot be had: the problem and its remedy, both for the reader of the case file."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Registry:
    """Things of one sort, by name.

    what    the sort, in words: "step", "rule"
    known   what can be given by name
    check   says what is wrong with a thing found by "module:Name", or "" if nothing is
    """

    what: str
    known: Mapping[str, Any]
    check: Callable[[Any], str]

    def find(self, kind: str, folders: Sequence[Path]) -> Any:
        """The thing called `kind`; modules are looked for in `folders`, then where Python looks. Raises NotFound."""
        if ":" not in kind:
            if kind in self.known:
                return self.known[kind]
            raise NotFound(
                f"unknown {self.what} '{kind}'",
                f"{did_you_mean(kind, self.known)}known: {', '.join(self.known) or 'none'}; or give 'module:name'",
            )
        module_name, _, name = kind.partition(":")
        module = _import(module_name, folders)
        if not hasattr(module, name):
            own = [n for n, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__]
            public = list(getattr(module, "__all__", own))
            raise NotFound(
                f"module '{module_name}' ({module.__file__}) has no '{name}'",
                f"{did_you_mean(name, public)}it has {', '.join(public) or 'nothing'}",
            )
        thing = getattr(module, name)
        wrong = self.check(thing)
        if wrong:
            raise NotFound(f"'{kind}' is no {self.what}", wrong)
        return thing


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'penalty'? " where something known is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""


def _import(name: str, folders: Sequence[Path]) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        raise NotFound(f"'{name}' is no module name", "write 'module:name', with dots for packages and without '.py'")
    places = [str(folder.resolve()) for folder in folders]
    _forget_namesake(name, places)
    kept = list(sys.path)
    sys.path[:0] = places
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise NotFound(
                f"no module '{name}'",
                f"put {name.replace('.', '/')}.py into {' or '.join(dict.fromkeys(places))}, or install it",
            ) from error
        raise NotFound(f"module '{name}' needs '{error.name}', which is not there", "install it") from error
    except Exception as error:  # whatever a user's module raises while it is imported is a mistake in that module
        raise NotFound(f"module '{name}' cannot be imported: {type(error).__name__}: {error}", "mend it") from error
    finally:
        # at the end, so that the module's own late imports still find its neighbours but never hide other packages
        sys.path[:] = kept + [place for place in places if place not in kept]


def _forget_namesake(name: str, places: Sequence[str]) -> None:
    """Drop a module of the same name that was imported for another case file from another folder."""
    loaded = sys.modules.get(name)
    if loaded is None or "." in name:
        return
    for place in places:
        file = Path(place, f"{name}.py")
        if file.is_file():
            if Path(loaded.__file__ or "") != file:
                del sys.modules[name]
            return
