"""Which data a block has, as a few bytes: what has the same may be answered for by the same points."""

from __future__ import annotations

import dataclasses
import hashlib
import types
from typing import Any

import numpy as np
from scipy import sparse


def fingerprint(*values: Any) -> bytes | None:
    """SHA-256 of plain values; None where one of them cannot be told apart by what it holds.

    Plain are numbers, texts, arrays, sparse matrices, tuples, lists and dataclasses of them, and functions of a module,
    which count by their name and the last part of their module's. Functions within functions may hold anything.
    """
    digest = hashlib.sha256()
    return digest.digest() if all([_add(digest, value) for value in values]) else None


def _add(digest: Any, value: Any) -> bool:
    if sparse.issparse(value):
        rows = value.tocsr()
        return all([_add(digest, part) for part in (rows.shape, rows.indptr, rows.indices, rows.data)])
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        numbers = value.astype(np.int64) if np.issubdtype(value.dtype, np.integer) else value
        digest.update(f"{numbers.dtype.str}{numbers.shape}".encode() + np.ascontiguousarray(numbers).tobytes())
        return True
    if isinstance(value, types.FunctionType):
        digest.update(f"{value.__module__.rpartition('.')[2]}:{value.__qualname__}".encode())
        return "<" not in value.__qualname__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        _add(digest, type(value).__qualname__)
        return all([_add(digest, getattr(value, field.name)) for field in dataclasses.fields(value)])
    if isinstance(value, tuple | list):
        digest.update(f"{len(value)} of".encode())
        return all([_add(digest, item) for item in value])
    text = f"{type(value).__name__} {value!r};"
    digest.update(f"{len(text)} {text}".encode())
    return value is None or isinstance(value, bool | int | float | str | bytes | np.generic)
