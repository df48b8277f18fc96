"""Plain data as JSON structure and arrays, and back: for checkpoints, and as one stretch of floats between ranks.

Data only: numbers, texts, arrays, sparse matrices, containers, and dataclasses, named tuples and enumerations of a
`Vocabulary`. Reading imports nothing, looks up no function and calls no constructor but that of a sparse matrix, and
every field must be what its annotation says.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import sparse

from decomp.errors import CheckpointError
from decomp.messages import FloatArray
from decomp.parallel.vocabulary import Vocabulary, is_named_tuple, misfit

Structure = Any  # what the json module can write
WORD = 8  # bytes of a float: everything in a message begins at a multiple
LARGEST = 2**63  # whole numbers are smaller than this
COMPRESSED = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}
NOTHING: Mapping[str, Any] = {}
NOT_UNDERSTOOD = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def flatten(value: Any, shared: Mapping[str, Any], vocabulary: Vocabulary) -> tuple[Structure, list[np.ndarray]]:
    """Structure and arrays of a value; an object that `is` one of `shared` is written as its name.

    Raises CheckpointError that names the place of what is no plain data (a function, an open file, a solver object).
    """
    writer = _Writer(shared, vocabulary)
    return writer.write(value, "state"), writer.arrays


def unflatten(
    structure: Structure, arrays: Mapping[int, np.ndarray], shared: Mapping[str, Any], vocabulary: Vocabulary
) -> Any:
    """The value written by `flatten`; the objects named by it are taken from `shared`. Raises CheckpointError."""
    try:
        return _Reader(arrays, shared, vocabulary).read(structure)
    except CheckpointError:
        raise
    except NOT_UNDERSTOOD as error:
        raise CheckpointError(f"its structure is not understood: {type(error).__name__}: {error}") from error


def encode(value: Any, vocabulary: Vocabulary) -> FloatArray:
    """The bytes of plain data, as floats: length of the structure, structure, arrays end to end.

    An array keeps its order in memory, so that what is computed from it has the same bits on any rank.
    Raises CheckpointError that names the place of what is no plain data.
    """
    structure, arrays = flatten(value, NOTHING, vocabulary)
    turned = [a.ndim > 1 and a.flags.f_contiguous and not a.flags.c_contiguous for a in arrays]
    shapes = [(a.dtype.str, a.shape, t) for a, t in zip(arrays, turned, strict=True)]
    text = json.dumps([structure, shapes]).encode()
    parts = [np.int64(len(text)).tobytes(), text]
    parts += [a.tobytes(order="F" if t else "C") for a, t in zip(arrays, turned, strict=True)]
    whole = b"".join(part + bytes(-len(part) % WORD) for part in parts)
    return np.frombuffer(whole, np.float64).copy()


def decode(message: FloatArray, vocabulary: Vocabulary) -> Any:
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
    return unflatten(structure, arrays, NOTHING, vocabulary)


class _Writer:
    def __init__(self, shared: Mapping[str, Any], vocabulary: Vocabulary) -> None:
        self.arrays: list[np.ndarray] = []
        self._shared, self._vocabulary = {id(thing): name for name, thing in shared.items()}, vocabulary
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is only good as long as its object lives

    def write(self, value: Any, where: str) -> Structure:
        if id(value) in self._shared:
            return {"shared": self._shared[id(value)]}
        if value is None or isinstance(value, bool) or type(value) in (int, float, str):
            return value
        if isinstance(value, np.ndarray):
            return {"array": self._array(value, where)}
        if sparse.issparse(value) and value.format in COMPRESSED:
            parts = (value.data, value.indices, value.indptr)
            shape = [int(size) for size in value.shape]
            return {"sparse": [value.format, shape, [self._array(part, where) for part in parts]]}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), where)}
        if isinstance(value, enum.Enum):
            return {"enum": self._name(value, where), "value": self.write(value.value, where)}
        if is_named_tuple(type(value)):
            return {"named": self._name(value, where), "of": self._each(value, where)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            written = {
                f.name: self.write(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)
            }
            return {"class": self._name(value, where), "fields": written}
        return self._container(value, where)

    def _container(self, value: Any, where: str) -> Structure:
        if isinstance(value, tuple):
            return {"tuple": self._each(value, where)}
        if isinstance(value, list):
            return {"list": self._each(value, where)}
        if isinstance(value, frozenset):
            return {"set": self._each(sorted(value), where)}
        if isinstance(value, Mapping):
            return {"dict": [self._each(pair, f"{where}[{pair[0]!r}]") for pair in value.items()]}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        raise CheckpointError(
            f"{where} is of type {type(value).__name__}, which cannot be written down; a rule's state and a "
            "coordinator's warm value hold frozen dataclasses, tuples, dicts, numbers, texts and arrays"
        )

    def _name(self, value: Any, where: str) -> str:
        name = self._vocabulary.name_of(type(value))
        if name is None:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise CheckpointError(
                f"{where} is of type {kind}, which cannot be written down: only dataclasses, named tuples and "
                "enumerations can that are neither callable nor abstract, and that the modules of the rule and the "
                "coordinator define or import"
            )
        return name

    def _each(self, values: Iterable[Any], where: str) -> list[Structure]:
        return [self.write(item, f"{where}[{i}]") for i, item in enumerate(values)]

    def _array(self, value: np.ndarray, where: str) -> int:
        if value.dtype.hasobject:
            raise CheckpointError(f"{where} is an array of objects, which cannot be written down")
        if id(value) not in self._seen:
            self._seen[id(value)] = len(self.arrays)
            self.arrays.append(value)
            self._alive.append(value)
        return self._seen[id(value)]


class _Reader:
    def __init__(self, arrays: Mapping[int, np.ndarray], shared: Mapping[str, Any], vocabulary: Vocabulary) -> None:
        self._arrays, self._shared, self._vocabulary = arrays, shared, vocabulary
        # what the run knows for itself is never made from what is read
        self._only_shared = {type(thing) for thing in shared.values()}

    def read(self, item: Structure) -> Any:
        if isinstance(item, int) and not -LARGEST <= item < LARGEST:
            raise CheckpointError(f"it holds a whole number of {len(str(item))} digits")
        if item is None or isinstance(item, bool | int | float | str):
            return item
        if not isinstance(item, dict) or not item:
            raise CheckpointError(f"its structure is not understood: {str(item)[:80]}")
        kind, content = next(iter(item.items()))
        if kind == "shared":
            return self._shared[content]
        if kind == "array":
            return self._arrays[content]
        if kind == "sparse":
            return self._sparse(*content)
        if kind == "scalar":
            return self._arrays[content][()]
        if kind == "enum":
            return self._find(content, enum.Enum)(self.read(item["value"]))
        if kind == "named":
            return self._named(self._find(content, tuple), self._each(item["of"]))
        if kind == "class":
            return self._object(self._find(content, object), item["fields"])
        return self._container(kind, content)

    def _container(self, kind: str, content: Any) -> Any:
        if kind == "tuple":
            return tuple(self._each(content))
        if kind == "list":
            return self._each(content)
        if kind == "set":
            return frozenset(self._each(content))
        if kind == "dict":
            return {self.read(name): self.read(value) for name, value in content}
        if kind == "bytes":
            return bytes.fromhex(content)
        raise CheckpointError(f"its structure is not understood: {kind}")

    def _sparse(self, kind: str, shape: list[int], parts: list[int]) -> Any:
        data, indices, indptr = (self._arrays[i] for i in parts)
        if len(shape) != 2 or data.dtype.kind not in "fiub":
            raise CheckpointError("it holds a sparse matrix that is none")
        matrix = COMPRESSED[kind]((data, indices, indptr), shape=tuple(shape))
        matrix.check_format(full_check=True)  # an index outside would be read from elsewhere in memory
        return matrix

    def _each(self, items: list[Structure]) -> list[Any]:
        return [self.read(item) for item in items]

    def _find(self, name: str, base: type) -> Any:
        found = self._vocabulary.kind(name)
        plain = found is not None and issubclass(found, base) and found not in self._only_shared
        if not plain or (base is object and not dataclasses.is_dataclass(found)):
            raise CheckpointError(f"it holds a {str(name)[:80]!r}, which this run does not know")
        return found

    def _named(self, cls: Any, values: list[Any]) -> Any:
        made = cls._make(values)
        self._fits(cls, made._asdict())
        return made

    def _object(self, cls: Any, written: Mapping[str, Structure]) -> Any:
        names = {f.name for f in dataclasses.fields(cls)}
        if names != set(written):
            changed = ", ".join(sorted(map(str, names ^ set(written))))
            raise CheckpointError(f"{cls.__qualname__} has other fields than when it was written: {changed}")
        values = {name: self.read(value) for name, value in written.items()}
        self._fits(cls, values)
        made = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    def _fits(self, cls: type, values: Mapping[str, Any]) -> None:
        hints = self._vocabulary.hints(cls)
        for name, value in values.items():
            wrong = misfit(value, hints[name]) if name in hints else ""
            if wrong:
                raise CheckpointError(f"{cls.__qualname__}.{name} is {wrong}")
