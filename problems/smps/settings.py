"""Tables of a case with `problem = "smps"`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.blocks.solve.solver_state import BlockSettings


class SmpsTable(BaseModel):
    """[smps]: the files, and which scenarios of theirs are solved.

    file        the core file, relative to the case file
    time        the time file; none = beside the core file, with its name and the ending .tim
    stochastic  the stochastic file; none = beside it, with the ending .sto
    format      "auto": fields are parted by spaces, or lie in fixed columns where names of rows hold spaces; "free" and
                "fixed" say which
    scenarios   so many are drawn at random, equally likely; with more than two stages a list: how many nodes below each
                node of the first stage, of the second, ... none = all scenarios of the files
    seed        of the draw
    bundle      up to so many scenarios share a block
    """

    model_config = ConfigDict(extra="forbid")

    file: str = Field(min_length=1)
    time: str | None = None
    stochastic: str | None = None
    format: Literal["auto", "free", "fixed"] = "auto"
    scenarios: int | list[int] | None = None
    seed: int | None = Field(default=None, ge=0)
    bundle: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _drawn(self) -> SmpsTable:
        if (self.scenarios is None) != (self.seed is None):
            raise ValueError(
                "scenarios and seed belong together: a draw needs both, all scenarios of the files neither"
            )
        if any(k < 1 for k in self.children):
            raise ValueError("scenarios must be at least 1")
        return self

    @property
    def children(self) -> list[int]:
        """Nodes below each node, by stage; [] = nothing is drawn."""
        if self.scenarios is None:
            return []
        return [self.scenarios] if isinstance(self.scenarios, int) else list(self.scenarios)


class SolverTable(BaseModel):
    """[solver]: how a scenario's problem is solved; see `BlockSettings`."""

    model_config = ConfigDict(extra="forbid")

    mip_abs_gap: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    mip_rel_gap: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    integers: Literal["fix", "each_round", "relax"] = "fix"
    mip_max_nodes: int = Field(default=10_000, ge=1)
    time_limit_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    def block(self) -> BlockSettings:
        """The settings of a block."""
        return BlockSettings(
            mip_abs_gap=self.mip_abs_gap,
            mip_rel_gap=self.mip_rel_gap,
            milp=self.integers,
            mip_max_nodes=self.mip_max_nodes,
            time_limit_s=self.time_limit_s,
        )


class SmpsSettings(BaseModel):
    """All tables of the case file that describe the stochastic program."""

    model_config = ConfigDict(extra="forbid")

    smps: SmpsTable
    solver: SolverTable = SolverTable()
