"""Tables of a case with `problem = "mpisppy"`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from decomp.blocks.solve.solver_state import BlockSettings


class MpiSppyTable(BaseModel):
    """[mpisppy]: the module and its scenarios.

    module  the module's name; looked for beside the case file, in the working directory, then among installed packages
    count   number of scenarios
    start   number of the first one
    names   "Scen{}": the names with their number, or all names in a list; none = what the module's
            scenario_names_creator says
    kwargs  arguments of scenario_creator; `num_scens` is given where it takes one and they do not say
    bundle  up to so many scenarios share a block
    """

    model_config = ConfigDict(extra="forbid")

    module: str = Field(min_length=1)
    count: int = Field(ge=1)
    start: int | None = Field(default=None, ge=0)
    names: str | list[str] | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    bundle: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _named(self) -> MpiSppyTable:
        if isinstance(self.names, str) and self.names.count("{}") != 1:
            raise ValueError("names needs one {} where the scenario's number stands, or a list of all names")
        if isinstance(self.names, list) and len(self.names) != self.count:
            raise ValueError(f"names has {len(self.names)} names, count is {self.count}")
        return self


class SolverTable(BaseModel):
    """[solver]: how a scenario's problem is solved; see `BlockSettings`.

    name  "highs", or any Pyomo solver for models that are not linear, quadratic or mixed-integer
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "highs"
    options: dict[str, Any] = Field(default_factory=dict)
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


class MpiSppySettings(BaseModel):
    """All tables of the case file that describe the stochastic program."""

    model_config = ConfigDict(extra="forbid")

    mpisppy: MpiSppyTable
    solver: SolverTable = SolverTable()
