"""columns.npz of a result folder: what the blocks of a run have answered, for another run to begin with.

A column is a point of the block's own model and what it costs. It stays one as long as the block's data are the same,
whatever has become of the coordinator, the prices and the other blocks. It proves no bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from decomp.errors import CheckpointError, InputError, Mistake
from decomp.layout import Layout
from decomp.messages import Coupling, FloatArray, IntArray, Key
from decomp.rules.columns import Columns, Held
from decomp.storage.checkpoint import read_arrays, write_arrays

FILE = "columns.npz"
FORMAT = 1
UNKNOWN = ""  # in place of the fingerprint of a block that cannot tell which data it has


@dataclass(frozen=True, eq=False)
class StoredColumns:
    """What a run has held at its end.

    nodes     (n,) names of the node rows, for the prices
    keys      (B,) blocks; entries by unit; weight (N,) of the blocks' entries
    prints    (B,) fingerprints of the blocks' data
    held      columns by number of the block; price (n,), w (N,)
    """

    nodes: tuple[str, ...]
    keys: tuple[Key, ...]
    entries: Mapping[str, tuple[str, ...]]
    weight: FloatArray
    prints: tuple[str, ...]
    held: Held

    @classmethod
    def of(cls, layout: Layout, nodes: Sequence[str], prints: Sequence[str], held: Held) -> StoredColumns:
        """Of a run with this layout, at its end."""
        entries = {c.unit: c.entries for c in layout.couplings}
        weight = layout.to_blocks(layout.weight)
        return cls(tuple(nodes), layout.keys, entries, weight, tuple(prints), held)

    @property
    def start(self) -> IntArray:
        """(B+1,) block b's entries are start[b]:start[b+1]."""
        return np.cumsum([0, *(len(self.entries[key.unit]) for key in self.keys)])

    # -- begin with it -------------------------------------------------------------------------------------------------

    def mistakes(self, couplings: Sequence[Coupling], file: str) -> list[Mistake]:
        """Why it cannot be of use to a case with these couplings; empty where it can."""
        start, units = self.start, {c.unit: c for c in couplings}
        weight = {k.unit: self.weight[start[b] : start[b + 1]] for b, k in enumerate(self.keys)}
        both = sorted(set(self.entries) & set(units))
        other = [u for u in both if units[u].entries != self.entries[u] or np.any(units[u].weight != weight[u])]
        text = "" if both else "has columns of none of the case's units"
        if other:
            text = f"units are coupled otherwise than in this case: {', '.join(other[:5])} ({len(other)} in all)"
        remedy = "the folder must come from a case whose units have the same entries, with the same weights"
        return [Mistake(file, "start", "columns", text, remedy)] if text else []

    def price(self, nodes: Sequence[str], file: str) -> FloatArray:
        """(n,) the best prices it knew. Raises InputError where the nodes are others."""
        if set(nodes) != set(self.nodes):
            text = f"its prices are of {len(self.nodes)} other nodes, this case has {len(nodes)}"
            raise InputError(
                [Mistake(file, "start", "columns", text, "also give [start] prices for this case's nodes")]
            )
        return self.held.price[[self.nodes.index(node) for node in nodes]]

    def fitted(self, layout: Layout, prints: Sequence[str]) -> tuple[Held, str]:
        """What of it holds for the blocks of this layout, which have these fingerprints; and that in words."""
        number = {key: b for b, key in enumerate(self.keys)}
        before = [number.get(key, -1) for key in layout.keys]
        unknown = sum(
            p == UNKNOWN or (e >= 0 and self.prints[e] == UNKNOWN) for e, p in zip(before, prints, strict=True)
        )
        same = {
            e: b
            for b, (e, p) in enumerate(zip(before, prints, strict=True))
            if e >= 0 and p == self.prints[e] != UNKNOWN
        }
        new = sum(e < 0 and p != UNKNOWN for e, p in zip(before, prints, strict=True))
        columns = self.held.columns
        columns = columns.only(np.flatnonzero(np.isin(columns.block, list(same))))
        columns = replace(columns, block=np.array([same[e] for e in columns.block.tolist()], np.int64))
        w = np.zeros(len(layout.entry))
        start = self.start
        for e, b in same.items():
            w[layout.start[b] : layout.start[b + 1]] = self.held.w[start[e] : start[e + 1]]
        # where scenarios have come, gone or changed their weight, the rest must sum to 0 again
        held = Held(columns, self.held.price, w - layout.to_blocks(layout.mean(w)))
        others = {
            "other data than then": len(prints) - len(same) - unknown - new,
            "were not there then": new,
            "cannot tell which data they have": unknown,
        }
        told = "".join(f"; {count} {what}" for what, count in others.items() if count)
        return held, f"{len(columns.block)} columns of {len(same)} of {len(prints)} blocks{told}"

    # -- as a file -----------------------------------------------------------------------------------------------------

    def write(self, folder: Path) -> Path:
        """Write it into a result folder, whole or not at all. Raises OSError."""
        columns, units = self.held.columns, sorted(self.entries)
        arrays = {
            "format": np.array(FORMAT),
            "nodes": np.array(self.nodes, str),
            "units": np.array(units, str),
            "sizes": np.array([len(self.entries[u]) for u in units], np.int64),
            "entries": np.array([name for u in units for name in self.entries[u]], str),
            "key_units": np.array([key.unit for key in self.keys], str),
            "key_scenarios": np.array([key.scenario for key in self.keys], str),
            "weight": self.weight,
            "prints": np.array(self.prints, str),
            "price": self.held.price,
            "w": self.held.w,
            "block": columns.block,
            "start": columns.start,
            "y": columns.y,
            "cost": columns.cost,
            "pattern": columns.pattern,
        }
        beside = folder / (FILE + ".unfinished")
        write_arrays(beside, arrays)
        return beside.replace(folder / FILE)


def read_earlier(folder: Path) -> StoredColumns:
    """What a run has left in its result folder. Raises InputError."""
    file = folder / FILE

    def wrong(problem: str, remedy: str) -> InputError:
        return InputError([Mistake(str(file), "start", "columns", problem, remedy)])

    if not file.is_file():
        remedy = "run the earlier case with a rule that keeps answers (bundle, dantzig_wolfe) and [run] columns = true"
        raise wrong("is not there", remedy)
    try:
        a = read_arrays(file)
        if int(a["format"]) != FORMAT:
            raise ValueError(f"its format is {int(a['format'])}, this version reads {FORMAT}")
        earlier = _from_arrays(a)
        trouble = _inconsistent(earlier)
    except CheckpointError as error:
        raise wrong(str(error), "run the earlier case again") from None
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise wrong(f"cannot be read: {type(error).__name__}: {error}", "run the earlier case again") from None
    if trouble:
        raise wrong(trouble, "run the earlier case again")
    return earlier


def _from_arrays(a: Mapping[str, np.ndarray]) -> StoredColumns:
    ends = np.cumsum(a["sizes"])[:-1]
    entries = zip(a["units"].tolist(), np.split(a["entries"], ends), strict=True)
    keys = zip(a["key_units"].tolist(), a["key_scenarios"].tolist(), strict=True)
    columns = Columns(a["block"], a["start"], a["y"], a["cost"], np.zeros(len(a["block"]), np.int64), a["pattern"])
    return StoredColumns(
        nodes=tuple(a["nodes"].tolist()),
        keys=tuple(Key(unit, scenario) for unit, scenario in keys),
        entries={unit: tuple(names.tolist()) for unit, names in entries},
        weight=a["weight"],
        prints=tuple(a["prints"].tolist()),
        held=Held(columns, a["price"], a["w"]),
    )


def _inconsistent(earlier: StoredColumns) -> str:
    """What does not fit together; "" where all does."""
    held, columns, start = earlier.held, earlier.held.columns, earlier.start
    K, B, N = len(columns.block), len(earlier.keys), int(start[-1])
    lengths = {
        "price": (held.price, len(earlier.nodes)), "w": (held.w, N), "weight": (earlier.weight, N),
        "cost": (columns.cost, K), "pattern": (columns.pattern, K), "start": (columns.start, K + 1),
    }  # fmt: skip
    wrong = [name for name, (values, length) in lengths.items() if np.shape(values) != (length,)]
    if wrong or len(earlier.prints) != B:
        return f"its arrays do not fit together: {', '.join(wrong or ['prints'])}"
    if not K:
        return "holds no columns"
    if np.any(columns.block < 0) or np.any(columns.block >= B):
        return "its columns are of blocks that it does not name"
    if not np.array_equal(np.diff(columns.start), np.diff(start)[columns.block]) or columns.start[-1] != len(columns.y):
        return "its columns do not have the length of their blocks' entries"
    numbers = (held.price, held.w, columns.y, columns.cost)
    return "" if all(np.all(np.isfinite(x)) for x in numbers) else "holds numbers that are not finite"
