"""Update rules, one a file. `RULES` maps the name used in a case file to the class."""

from decomp.rules.admm import ADMM
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.rules.bundle import Bundle
from decomp.rules.dual_ascent import DualAscent

RULES: dict[str, type[UpdateRule]] = {
    "dual_ascent": DualAscent,
    "transactive": DualAscent,
    "admm": ADMM,
    "bundle": Bundle,
    "progressive_hedging": ADMM,
}

__all__ = ["ADMM", "RULES", "Bundle", "Candidate", "DualAscent", "Setup", "State", "UpdateRule"]
