"""Our own format: a folder with feeder.toml, buses.csv, lines.csv, loads.csv and, where there are any, profiles.csv.

feeder.toml  base_kva, slack_bus, slack_v_pu; base_kv where buses.csv has none; source, notes
buses.csv    bus, base_kv, shunt_G_S, shunt_B_S, joins (further names of the bus, separated by |)
lines.csv    from, to, kind, R_ohm, X_ohm, G_S, B_S, ratio, shift_deg, all at the base voltage of the to bus
loads.csv    bus, name, kind, p_kw, q_kvar, profile; drawn is positive
profiles.csv time, and NAME_p, NAME_q in per unit of p_kw and q_kvar
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from decomp.errors import InputError, Mistake
from problems.network.feeder import Feeder, FeederLoad
from problems.network.from_tables import Place, Tables, read_rows, read_tables

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
KINDS = ("load", "pv", "wind", "generation", "storage")


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    base_kva: Positive
    slack_bus: str
    slack_v_pu: Positive
    base_kv: Positive | None = None
    source: str = ""
    checked: str = ""
    notes: dict[str, list[str]] = Field(default_factory=dict)


def write_folder(feeder: Feeder, folder: Path, checked: str = "") -> list[Path]:
    """Write the feeder; read back it is the same to the last bits of its figures. checked: what has been compared."""
    folder.mkdir(parents=True, exist_ok=True)
    network = feeder.network
    z_bus = 1000.0 * feeder.base_kv**2 / network.base_kva
    z = z_bus[network.to_bus]
    head = {
        "source": feeder.source,
        "checked": checked,
        "base_kva": network.base_kva,
        "slack_bus": network.buses[network.slack],
        "slack_v_pu": network.slack_v_pu,
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in head.items() if value != ""]
    if feeder.notes:
        lines += ["", "[notes]  # of the source, with no part in its power flow or none that could be kept"]
        lines += [f"{json.dumps(k)} = {json.dumps(list(v), ensure_ascii=False)}" for k, v in feeder.notes.items()]
    (folder / "feeder.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    joins = ["|".join(feeder.joins.get(name, ())) for name in network.buses]
    shunts = (network.shunt_g_pu / z_bus, network.shunt_b_pu / z_bus)
    _write(
        folder / "buses.csv",
        ("bus", "base_kv", "shunt_G_S", "shunt_B_S", "joins"),
        zip(network.buses, feeder.base_kv, *shunts, joins, strict=True),
    )
    names = np.array(network.buses, object)
    level = feeder.base_kv[network.from_bus] != feeder.base_kv[network.to_bus]
    turns = level | (network.ratio != 1) | (network.shift_rad != 0) | (np.minimum(network.r_pu, network.x_pu) < 0)
    _write(
        folder / "lines.csv",
        ("from", "to", "kind", "R_ohm", "X_ohm", "G_S", "B_S", "ratio", "shift_deg"),
        zip(
            names[network.from_bus],
            names[network.to_bus],
            np.where(turns, "transformer", "line"),
            *(network.r_pu * z, network.x_pu * z, network.g_pu / z, network.b_pu / z),
            *(network.ratio, np.rad2deg(network.shift_rad)),
            strict=True,
        ),
    )
    loads = [(x.bus, x.name, x.kind, x.p_kw, x.q_kvar, x.profile) for x in feeder.loads]
    _write(folder / "loads.csv", ("bus", "name", "kind", "p_kw", "q_kvar", "profile"), loads)
    written = [folder / f for f in ("feeder.toml", "buses.csv", "lines.csv", "loads.csv")]
    if feeder.profiles is not None:
        feeder.profiles.to_csv(folder / "profiles.csv", index=False, lineterminator="\n")
        written.append(folder / "profiles.csv")
    return written


def read_folder(folder: Path) -> Feeder:
    """The feeder of a folder. Raises InputError with every mistake in its files."""
    head = _head(folder)
    mistakes: list[Mistake] = []
    network, base_kv, loads = None, None, []
    try:
        tables = head.model_dump(include={"base_kva", "base_kv", "slack_bus", "slack_v_pu"})
        network, base_kv = read_tables(Tables("lines.csv", "buses.csv", v_min_pu=0.9, v_max_pu=1.1, **tables), folder)
    except InputError as error:
        mistakes += error.mistakes
    if (folder / "loads.csv").is_file():
        loads = _read_loads(folder, () if network is None else network.buses, mistakes)
    if mistakes or network is None or base_kv is None:
        raise InputError(mistakes)
    rows = read_rows(folder, "buses.csv", "buses", ("bus",), mistakes)
    joins = {row["bus"]: tuple(row["joins"].split("|")) for row in rows if row.get("joins")}
    notes = {name: tuple(found) for name, found in head.notes.items()}
    profiles = pd.read_csv(folder / "profiles.csv") if (folder / "profiles.csv").is_file() else None
    return Feeder(network, base_kv, tuple(loads), head.source, joins, notes, profiles)


def _head(folder: Path) -> _Head:
    path = folder / "feeder.toml"
    try:
        return _Head.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        found = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
    except FileNotFoundError:
        found = [("source", f"there is no file {path}")]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        found = [("source", f"the file cannot be read: {error}")]
    remedy = "`python -m problems.network.import_feeder SOURCE FOLDER` writes such a folder"
    raise InputError(Mistake(str(path), "network", key, problem, remedy) for key, problem in found)


def _read_loads(folder: Path, buses: Sequence[str], mistakes: list[Mistake]) -> list[FeederLoad]:
    place, loads = Place("loads.csv", mistakes), []
    known = set(buses)
    text = (folder / "loads.csv").read_text(encoding="utf-8-sig")
    if len(text.strip().splitlines()) < 2:  # a feeder without any load is legal
        return []
    for i, row in enumerate(read_rows(folder, "loads.csv", "loads", ("bus", "p_kw", "q_kvar"), mistakes)):
        if known and row["bus"] not in known:
            place.add(i, "bus", f"no bus '{row['bus']}' in buses.csv", "add the bus or correct the load")
        kind = row.get("kind", "load")
        if kind not in KINDS:
            place.add(i, "kind", f"'{kind}' is unknown", f"known: {', '.join(KINDS)}")
        p, q = place.number(i, row, "p_kw"), place.number(i, row, "q_kvar")
        loads.append(FeederLoad(row["bus"], row.get("name", ""), kind, p, q, row.get("profile", "")))
    return loads


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows([repr(float(x)) if isinstance(x, float) else x for x in row] for row in rows)


def shown(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each kind of note, the first names of each."""
    return [f"{kind}: {', '.join(found[:6])}{' ...' if len(found) > 6 else ''}" for kind, found in notes.items()]
