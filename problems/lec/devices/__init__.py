"""The devices of a community, one a file; a file's name is the name of the device's table in a case file."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from problems.lec.device import Device


def known_devices() -> dict[str, type[Device]]:
    """Every device of this package by the name of its table."""
    found: dict[str, type[Device]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{module_info.name}")
        classes = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Device)]
        own = [c for c in classes if c.__module__ == module.__name__]
        if len(own) != 1:
            raise TypeError(f"{module.__name__} must define exactly one Device, it defines {len(own)}")
        found[module_info.name] = own[0]
    return dict(sorted(found.items()))
