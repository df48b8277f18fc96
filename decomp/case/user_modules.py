"""Modules of the user's own, loaded by file from a folder under a name of their own: tatonnement_user.FOLDER.MODULE.

Nothing is put into Python's search path, so no file beside a case stands in for a module of a library. The modules of a
folder may import each other, with a dot or without; a name that is installed means what is installed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

USER = "tatonnement_user"
INIT = "__init__.py"


def load(name: str, folders: Sequence[Path]) -> ModuleType | None:
    """The module `name` ("pkg.mod") of the first folder that has a file for it; None where none has."""
    for folder in folders:
        if _file(folder, name) is not None:
            return importlib.import_module(f"{_package(folder.resolve())}.{name}")
    return None


def plain_name(module: str) -> str:
    """The name by which a user calls a module: without the name of its folder."""
    return module.split(".", 2)[2] if module.startswith(f"{USER}.") and module.count(".") > 1 else module


def _file(folder: Path, name: str) -> Path | None:
    place = folder.joinpath(*name.split("."))
    files = (place / INIT, place.with_name(place.name + ".py"))
    return next((file for file in files if file.is_file()), None)


def _package(folder: Path) -> str:
    """The name of the package that stands for a folder; made where there is none yet."""
    name = f"{USER}.f{hashlib.sha256(str(folder).encode(errors='surrogateescape')).hexdigest()[:16]}"
    if name not in sys.modules:
        if USER not in sys.modules:
            sys.modules[USER] = _empty(USER, [])
            sys.meta_path.insert(0, _Finder())  # it answers for names below USER only
        sys.modules[name] = _empty(name, [str(folder)])
    importlib.invalidate_caches()
    return name


def _empty(name: str, path: list[str]) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = path
    return module


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        parts = fullname.split(".")
        if parts[0] != USER or len(parts) < 3:
            return None
        package = ".".join(parts[:2])
        folder = Path(sys.modules[package].__path__[0])
        file = _file(folder, ".".join(parts[2:]))
        if file is None:
            return None
        inside = [str(file.parent)] if file.name == INIT else None
        loader = _Loader(fullname, str(file), package, folder)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)


class _Loader(SourceFileLoader):
    """Reads the source and keeps no compiled copy of it: there, imports without a dot would mean something else."""

    def __init__(self, fullname: str, path: str, package: str, folder: Path) -> None:
        super().__init__(fullname, path)
        self._own, self._folder = package, folder

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        _Neighbours(self._own, self._folder).visit(tree)
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)
        return code


class _Neighbours(ast.NodeTransformer):
    """`import helper` means the helper in the same folder, if one is there and none is installed."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package, self.folder = package, folder

    def visit_Import(self, node: ast.Import) -> Any:
        return [new for alias in node.names for new in self._instead(node, alias)]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.level == 0 and node.module is not None and self._is_neighbour(node.module):
            node.module = f"{self.package}.{node.module}"
        return node

    def _instead(self, node: ast.Import, alias: ast.alias) -> list[ast.stmt]:
        if not self._is_neighbour(alias.name):
            return [ast.copy_location(ast.Import([alias]), node)]
        top = alias.name.partition(".")[0]
        shown = alias.name if alias.asname else top
        wanted = [ast.alias(f"{self.package}.{shown}", alias.asname or top)]
        if shown != alias.name:  # import a.b binds a, and makes b an attribute of it
            wanted.insert(0, ast.alias(f"{self.package}.{alias.name}", f"_{top}_"))
        return [ast.copy_location(ast.Import([each]), node) for each in wanted]

    def _is_neighbour(self, name: str) -> bool:
        top = name.partition(".")[0]
        there = _file(self.folder, top) is not None or (self.folder / top).is_dir()
        return there and not _installed(top, self.folder)


def _installed(top: str, folder: Path) -> bool:
    """Does Python find a module of this name, and elsewhere than in `folder`?"""
    if top in sys.builtin_module_names:
        return True
    try:
        spec: ModuleSpec | None = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return top in sys.modules
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return spec is not None and not any(place and folder in Path(place).resolve().parents for place in places)
