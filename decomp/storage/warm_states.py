"""Warm states of many blocks as few arrays: one column for each name and type, the blocks' values end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from decomp.errors import CheckpointError
from decomp.subproblem import Arrays

ABSENT = -1  # number of dimensions of an array that a block does not have


def packed(blocks: Sequence[int], states: Sequence[Arrays | None]) -> dict[str, np.ndarray]:
    """Columns of the states of the blocks with these numbers; a block without a state has none of the names.

    Raises CheckpointError for a state that is no mapping from names to plain arrays.
    """
    plain = [_plain(b, state) for b, state in zip(blocks, states, strict=True)]
    columns = sorted({(name, value.dtype.str) for state in plain for name, value in state.items()})
    out = {"blocks": np.array(blocks, np.int64), "states": np.array([s is not None for s in states], bool)}
    for i, (name, kind) in enumerate(columns):
        values = [_of_type(state, name, kind) for state in plain]
        present = [v for v in values if v is not None]
        out[f"{i} name"] = np.array(name)
        out[f"{i} dimensions"] = np.array([ABSENT if v is None else v.ndim for v in values], np.int64)
        out[f"{i} shapes"] = np.array([n for v in present for n in v.shape], np.int64)
        out[f"{i} values"] = np.concatenate([v.ravel() for v in present])
    return out


def unpacked(columns: Mapping[str, np.ndarray], wanted: Iterable[int]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Number and state of the `wanted` blocks among those written by `packed`; none for blocks without a state."""
    numbers, has = columns["blocks"], columns["states"]
    wanted = set(wanted)
    rows = [row for row, b in enumerate(numbers.tolist()) if b in wanted and has[row]]
    states: dict[int, dict[str, np.ndarray]] = {row: {} for row in rows}
    for i in range(sum(name.endswith(" name") for name in columns)):
        name, dimensions = str(columns[f"{i} name"]), columns[f"{i} dimensions"]
        shapes, values = columns[f"{i} shapes"], columns[f"{i} values"]
        at_shape = at = 0
        for row, ndim in enumerate(dimensions.tolist()):
            if ndim == ABSENT:
                continue
            shape = tuple(shapes[at_shape : at_shape + ndim].tolist())
            size = int(np.prod(shape, dtype=np.int64))
            if row in states:
                states[row][name] = values[at : at + size].reshape(shape).copy()
            at_shape, at = at_shape + ndim, at + size
    for row, state in states.items():
        yield int(numbers[row]), state


def _plain(b: int, state: Arrays | None) -> dict[str, np.ndarray]:
    found = {str(name): np.asarray(value) for name, value in (state or {}).items()}
    wrong = [name for name, value in found.items() if value.dtype.hasobject]
    if wrong:
        raise CheckpointError(f"the warm state of block {b} has no plain array in {', '.join(wrong)}")
    return found


def _of_type(state: Mapping[str, np.ndarray], name: str, kind: str) -> np.ndarray | None:
    value = state.get(name)
    return value if value is not None and value.dtype.str == kind else None
