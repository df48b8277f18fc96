"""Tables of a case with `problem = "blocks"`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

SUM = 1e-9  # probabilities sum to 1 within this


class UnitSettings(BaseModel):
    """[unit.NAME]: one unit, or `count` of them called NAME1, NAME2, ...

    block      "module:name": a class of `Subproblem`, or a function that returns one
    arguments  what it is called with; beside these `scenario` and `number` where it has arguments of these names
    entries    names of its coupling entries; none = those of its nodes
    nodes      names of the coordinator's nodes its entries feed, "" for one that only agrees over the scenarios; none =
               all nodes, in order
    weight     of entries without a node; those of a node have its weight
    scenarios  probability by name; none = one scenario
    report     names of what the block tells without a price
    """

    model_config = ConfigDict(extra="forbid")

    block: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    entries: list[str] | None = None
    nodes: list[str] | None = None
    weight: float = Field(1.0, gt=0)
    scenarios: dict[str, float] | None = None
    report: list[str] = Field(default_factory=list)
    count: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> UnitSettings:
        if self.entries is not None and self.nodes is not None and len(self.entries) != len(self.nodes):
            raise ValueError(f"entries has {len(self.entries)} names, nodes {len(self.nodes)}: one node for each entry")
        if self.scenarios is not None:
            total = sum(self.scenarios.values())
            if not self.scenarios or min(self.scenarios.values()) <= 0 or abs(total - 1) > SUM:
                raise ValueError(f"probabilities of scenarios must be positive and sum to 1, they sum to {total!r}")
        return self


class Settings(BaseModel):
    """[coordinator] with its kind and the arguments of that kind, and [unit.NAME] for every unit."""

    model_config = ConfigDict(extra="forbid")

    coordinator: dict[str, Any] = Field(default_factory=lambda: {"kind": "nobody"})
    unit: dict[str, UnitSettings] = Field(min_length=1)
