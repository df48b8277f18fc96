"""`problems.market:ReactiveMarket` is the name that case files have."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from problems.market.problem import ReactiveMarket as ReactiveMarket

__all__ = ["ReactiveMarket"]


def __getattr__(name: str) -> Any:
    """Loaded when asked for: what it imports imports modules of this package."""
    if name in __all__:
        return getattr(import_module("problems.market.problem"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
