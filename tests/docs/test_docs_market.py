"""The page about the market's tables names every key there is."""

from __future__ import annotations

import pytest
from paths import ROOT
from pydantic import BaseModel

from problems.lec.devices import known_devices
from problems.lec.settings import LecSettings
from problems.market.settings import AddedLoad, MarketSettings
from problems.network.settings import NetworkSettings, SourceSettings
from problems.synthetic_communities.settings import FleetSettings, StressSettings

PAGE = (ROOT / "docs" / "market.md").read_text(encoding="utf-8")
TABLES = [f.annotation for f in MarketSettings.model_fields.values() if isinstance(f.annotation, type)]
DRAWN = [NetworkSettings, SourceSettings, FleetSettings, StressSettings]
MODELS = [t for t in TABLES if issubclass(t, BaseModel)] + [AddedLoad, *DRAWN, *known_devices().values()]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_key_is_on_the_page(model):
    assert [name for name in model.model_fields if f"`{name}`" not in PAGE] == []


def test_every_key_of_a_community_is_on_the_page():
    devices = set(known_devices())
    assert [name for name in LecSettings.model_fields if name not in devices and f"`{name}`" not in PAGE] == []
    assert [name for name in devices if f"### {name}" not in PAGE] == []
