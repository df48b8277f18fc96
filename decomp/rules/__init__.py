"""Update rules, one a file. `RULES` maps the name used in a case file to the class."""

from decomp.rules.admm import ADMM
from decomp.rules.auto import Auto
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.rules.bundle import Bundle
from decomp.rules.dantzig_wolfe import DantzigWolfe
from decomp.rules.dual_ascent import DualAscent
from decomp.rules.newton import Newton

RULES: dict[str, type[UpdateRule]] = {
    "dual_ascent": DualAscent,
    "transactive": DualAscent,
    "admm": ADMM,
    "auto": Auto,
    "bundle": Bundle,
    "dantzig_wolfe": DantzigWolfe,
    "newton": Newton,
    "progressive_hedging": ADMM,
}

__all__ = [
    "ADMM",
    "RULES",
    "Auto",
    "Bundle",
    "Candidate",
    "DantzigWolfe",
    "DualAscent",
    "Newton",
    "Setup",
    "State",
    "UpdateRule",
]
