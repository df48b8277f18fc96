"""Update rules, one a file. `RULES` maps the name used in a case file to the class."""

from decomp.rules.admm import ADMM
from decomp.rules.app import APP
from decomp.rules.atc import ATC
from decomp.rules.auto import Auto
from decomp.rules.averaging import AveragedAnswers, AveragedPrices
from decomp.rules.barzilai_borwein import BarzilaiBorwein
from decomp.rules.base import Candidate, Setup, State, UpdateRule
from decomp.rules.bundle import Bundle
from decomp.rules.dantzig_wolfe import DantzigWolfe
from decomp.rules.dual_ascent import DualAscent
from decomp.rules.interior_point import InteriorPoint
from decomp.rules.nesterov import Nesterov
from decomp.rules.newton import Newton
from decomp.rules.polyak import Polyak
from decomp.rules.progressive_hedging import ProgressiveHedging
from decomp.rules.subgradient import DeflectedSubgradient
from decomp.rules.value_at_risk import ValueAtRisk
from decomp.rules.volume import Volume
from decomp.rules.wrappers import Damped, Projected

RULES: dict[str, type[UpdateRule]] = {
    "dual_ascent": DualAscent,
    "transactive": DualAscent,
    "averaged_answers": AveragedAnswers,
    "averaged_prices": AveragedPrices,
    "barzilai_borwein": BarzilaiBorwein,
    "damped": Damped,
    "deflected_subgradient": DeflectedSubgradient,
    "nesterov": Nesterov,
    "polyak": Polyak,
    "projected": Projected,
    "volume": Volume,
    "admm": ADMM,
    "app": APP,
    "atc": ATC,
    "auto": Auto,
    "bundle": Bundle,
    "dantzig_wolfe": DantzigWolfe,
    "interior_point": InteriorPoint,
    "newton": Newton,
    "progressive_hedging": ProgressiveHedging,
    "value_at_risk": ValueAtRisk,
}

__all__ = [
    "ADMM",
    "APP",
    "ATC",
    "RULES",
    "Auto",
    "AveragedAnswers",
    "AveragedPrices",
    "BarzilaiBorwein",
    "Bundle",
    "Candidate",
    "Damped",
    "DantzigWolfe",
    "DeflectedSubgradient",
    "DualAscent",
    "InteriorPoint",
    "Nesterov",
    "Newton",
    "Polyak",
    "ProgressiveHedging",
    "Projected",
    "Setup",
    "State",
    "UpdateRule",
    "ValueAtRisk",
    "Volume",
]
