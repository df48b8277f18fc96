"""Plain values as one stretch of floats, for messages between ranks: what is sent is bytes, and no pickle."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from decomp.messages import FloatArray
from decomp.plain_value import flatten, unflatten

WORD = 8  # bytes of a float: everything begins at a multiple


def encode(value: Any) -> FloatArray:
    """The bytes of a plain value, as floats: length of the structure, structure, arrays end to end.

    An array keeps its order in memory, so that what is computed from it has the same bits on any rank.
    Raises CheckpointError that names the place of what is no plain value.
    """
    structure, arrays = flatten(value, {})
    turned = [a.ndim > 1 and a.flags.f_contiguous and not a.flags.c_contiguous for a in arrays]
    shapes = [(a.dtype.str, a.shape, t) for a, t in zip(arrays, turned, strict=True)]
    text = json.dumps([structure, shapes]).encode()
    parts = [np.int64(len(text)).tobytes(), text]
    parts += [a.tobytes(order="F" if t else "C") for a, t in zip(arrays, turned, strict=True)]
    whole = b"".join(part + bytes(-len(part) % WORD) for part in parts)
    return np.frombuffer(whole, np.float64).copy()


def decode(message: FloatArray) -> Any:
    """The value that `encode` was given."""
    data = message.view(np.uint8)
    length = int(data[:WORD].view(np.int64)[0])
    structure, shapes = json.loads(data[WORD : WORD + length].tobytes())
    at, arrays = WORD + length + -length % WORD, {}
    for i, (kind, shape, turned) in enumerate(shapes):
        dtype = np.dtype(kind)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        flat = data[at : at + size].copy().view(dtype)
        arrays[i] = flat.reshape(shape, order="F" if turned else "C")
        at += size + -size % WORD
    return unflatten(structure, arrays, {})
