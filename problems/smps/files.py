"""The three files of a stochastic program, found and read together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from decomp.errors import InputError, Mistake
from problems.smps.core import Core, read_core
from problems.smps.elements import Elements
from problems.smps.lines import Format, reading
from problems.smps.stages import Stages, read_stages
from problems.smps.stochastic import Stochastic, read_stochastic

ENDINGS = {"time": (".tim", ".time", ".TIM"), "stochastic": (".sto", ".stoch", ".STO")}


@dataclass(frozen=True, eq=False)
class SmpsFiles:
    """What the files say, before any scenario is written out."""

    core: Core
    stages: Stages
    stochastic: Stochastic
    paths: tuple[Path, ...] = ()

    @property
    def elements(self) -> Elements:
        return self.stochastic.elements


def read_smps(
    file: str | Path, time: str | Path | None = None, stochastic: str | Path | None = None, *,
    folder: Path | None = None, form: Format = "auto",
) -> SmpsFiles:  # fmt: skip
    """Read core, time and stochastic file; the last two lie beside the first unless they are named.

    Raises InputError with every mistake of the first of the files that has any: the later ones lean on it.
    """
    base = Path() if folder is None else folder
    core_file = base / file
    source = reading(core_file, str(file), form)
    core = read_core(source)
    time_file, time_name = _beside(core_file, time, base, "time")
    times = reading(time_file, time_name, form, fixed=source.fixed)
    stages = read_stages(times, core)
    if len(stages.periods) < 2:
        raise InputError([Mistake(times.name, "PERIODS", "", "there is only one period", "nothing is uncertain in it")])
    random_file, random_name = _beside(core_file, stochastic, base, "stochastic")
    randoms = reading(random_file, random_name, form, fixed=source.fixed)
    found = read_stochastic(randoms, Elements(core, stages))
    return SmpsFiles(core, stages, found, (core_file, time_file, random_file))


def _beside(core: Path, given: str | Path | None, base: Path, which: str) -> tuple[Path, str]:
    if given is not None:
        return base / given, str(given)
    ends = ENDINGS[which]
    found = next((core.with_suffix(end) for end in ends if core.with_suffix(end).exists()), core.with_suffix(ends[0]))
    return found, found.name
