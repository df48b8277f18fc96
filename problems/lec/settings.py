"""The table [lec.NAME] of a case file: one community and its devices."""

from __future__ import annotations

from collections.abc import Mapping
from math import acos, tan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationInfo,
    create_model,
    model_validator,
)

from decomp.case.registry import NotFound, Registry
from decomp.messages import FloatArray
from problems.lec.device import Device, Size
from problems.lec.devices import known_devices
from problems.risk import Risk

_DEVICES = Registry("device", known_devices(), lambda c: "" if _is_device(c) else "it must subclass Device")


EXCHANGE = frozenset({"import", "load", "shed"})  # p_import_kw is the community's


def _is_device(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Device)


def _by_kind(table: Any, info: ValidationInfo) -> Device:
    if isinstance(table, Device):
        return table
    if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
        raise ValueError("a device is a table with kind = 'module:Name' and the device's settings")
    try:
        found = _DEVICES.find(table["kind"], (info.context or {}).get("folders") or [Path.cwd()])
    except NotFound as error:
        raise ValueError(str(error)) from error
    return found.model_validate({k: v for k, v in table.items() if k != "kind"})


def _name_of_bus(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Community(BaseModel):
    """Settings of one community; beside these keys every device has its table, or a list of tables for several.

    bus                             where its PCC is
    load_peak_kw, load_power_factor greatest active load, and cos(phi) of the load (lagging)
    bus_load                        where the network has a load at the PCC: "beside" keeps it, "instead" puts the
                                    community in its place; without the key only where both are of one size
    heat_peak_kw, heat_mean_kw      greatest and mean heat load; without a mean the shape is only scaled to the peak
    import_max_kw, export_max_kw    active power at the PCC; None = no limit
    heat_import_max_kw              heat from the district; None = no limit
    heat_export_max_kw              heat the district takes back at the price it sells for
    risk                            alpha, beta: (1 - beta) E[cost] + beta CVaR_alpha[cost], not only E[cost]
    device                          devices of one's own: kind = "module:Name" and their settings
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bus: Annotated[str, Field(min_length=1), BeforeValidator(_name_of_bus)]
    load_peak_kw: Size
    load_power_factor: Annotated[float, Field(gt=0, le=1)] = 0.9
    bus_load: Literal["beside", "instead"] | None = None
    heat_peak_kw: Size = 0.0
    heat_mean_kw: Size | None = None
    import_max_kw: Size | None = None
    export_max_kw: Size | None = None
    heat_import_max_kw: Size | None = None
    heat_export_max_kw: Size = 0.0
    risk: Risk | None = None
    device: list[Annotated[Device, PlainValidator(_by_kind)]] = []

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.heat_mean_kw is not None and self.heat_mean_kw > self.heat_peak_kw:
            raise ValueError(f"heat_mean_kw = {self.heat_mean_kw:g} is above heat_peak_kw = {self.heat_peak_kw:g}")
        names = [name for name, _ in self._named()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two devices are called {', '.join(twice)}; give each a name of its own")
        taken = sorted(set(names) & EXCHANGE)
        if taken:
            raise ValueError(f"a device cannot be called {', '.join(taken)}: the community's own series are called so")
        return self

    @property
    def devices(self) -> dict[str, Device]:
        """Every device by its name: the one given, or that of its table (numbered where there are several)."""
        return dict(self._named())

    def _named(self) -> list[tuple[str, Device]]:
        named: list[tuple[str, Device]] = []
        for key in [*_DEVICES.known, "device"]:
            given = getattr(self, key)
            tables = [] if given is None else given if isinstance(given, list) else [given]
            for number, device in enumerate(tables, 1):
                named.append((device.name or (key if len(tables) == 1 else f"{key}{number}"), device))
        return named

    def load(self, shape: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(T,) kW and (T,) kvar of a load of this shape (pu of its peak)."""
        p = self.load_peak_kw * np.asarray(shape, float)
        return p, p * tan(acos(self.load_power_factor))

    def heat_load(self, shape: FloatArray) -> FloatArray:
        """(T,) kW: the shape, stretched so that its greatest value is the peak and, if given, its mean is the mean."""
        shape = np.asarray(shape, float)
        top, mean = float(shape.max()), float(shape.mean())
        if self.heat_mean_kw is None:
            return self.heat_peak_kw * shape / top
        if top == mean:
            return np.full(shape.shape, self.heat_mean_kw)
        return np.asarray(self.heat_peak_kw - (self.heat_peak_kw - self.heat_mean_kw) * (top - shape) / (top - mean))


def _one_or_more(cls: type[Device]) -> Any:
    kinds = Annotated[cls, Tag("one")] | Annotated[list[cls], Tag("several")]  # type: ignore[valid-type]
    which = Discriminator(lambda value: "several" if isinstance(value, list) else "one")
    return Annotated[kinds, which] | None


if TYPE_CHECKING:
    LecSettings = _Community
else:
    LecSettings = create_model(
        "LecSettings",
        __base__=_Community,
        __doc__=_Community.__doc__,
        **{name: (_one_or_more(cls), None) for name, cls in known_devices().items()},
    )
