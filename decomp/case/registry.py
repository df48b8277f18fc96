"""Find what a case file names: one of ours by its name, anybody's by "module:Name"."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decomp.case import user_modules
from decomp.errors import told

OURS = ("decomp", "problems", "benchmarks", "tatonnement")


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
        """The thing called `kind`; a module is the file in the first of `folders` that has it, else what is installed.

        Modules of this project are never looked for in `folders`. Raises NotFound.
        """
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
    try:
        module = None if name.partition(".")[0] in OURS else user_modules.load(name, folders)
        return importlib.import_module(name) if module is None else module
    except ModuleNotFoundError as error:
        missing = user_modules.plain_name(error.name or "")
        if missing and (name == missing or name.startswith(missing + ".")):
            places = dict.fromkeys(str(folder.resolve()) for folder in folders)
            raise NotFound(
                f"no module '{name}'", f"put {name.replace('.', '/')}.py into {' or '.join(places)}, or install it"
            ) from error
        raise NotFound(f"module '{name}' needs '{missing}', which is not there", "install it") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's module raises while it is imported is a mistake in that module
        raise NotFound(f"module '{name}' cannot be imported: {told(error)}", "mend it") from error
