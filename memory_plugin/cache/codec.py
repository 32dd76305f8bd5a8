"""What a model made of one text as bytes, and exactly that back."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memory_plugin.types import Embeddings, TokenVectors

VERSION = 1
_LENGTH = struct.Struct(">I")
_NUMBERS = ("<f2", "<f4", "<f8")
_IDS = ("<u2", "<u4", "<i4", "<i8")


def encode(row: Embeddings) -> bytes | None:
    """The row as it is, to the last bit; None where it holds what has no place here.

    Args:
        row: Of one text.
    """
    arrays = [_little(row.vectors[0])]
    if row.tokens is not None:
        arrays += [_little(row.tokens[0].ids), _little(row.tokens[0].vectors)]
    kinds = [(one.dtype.str, one.shape) for one in arrays]
    if kinds[0][0] not in _NUMBERS or (len(kinds) > 1 and not (kinds[1][0] in _IDS and kinds[2][0] in _NUMBERS)):
        return None
    terms = None if row.terms is None else {str(term): float(weight) for term, weight in row.terms[0].items()}
    head = json.dumps({"version": VERSION, "arrays": kinds, "terms": terms}, ensure_ascii=False).encode()
    return b"".join([_LENGTH.pack(len(head)), head, *(one.tobytes() for one in arrays)])


def decode(data: bytes) -> Embeddings:
    """The row that ``encode`` was given.

    Raises:
        ValueError: It is none of this version.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        head = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        if head["version"] != VERSION:
            raise ValueError(f"version {head['version']}")
        arrays = list(_arrays(data[_LENGTH.size + length :], head["arrays"]))
        terms = head["terms"]
    except (struct.error, KeyError, TypeError, RecursionError) as error:
        raise ValueError("no entry of a cache") from error
    vector, *tokens = arrays
    return Embeddings(
        vector[np.newaxis],
        (TokenVectors(*tokens),) if tokens else None,
        terms=None if terms is None else (terms,),
    )


def _little(array: NDArray[Any]) -> NDArray[Any]:
    found = np.ascontiguousarray(array)
    return found.astype(found.dtype.newbyteorder("<"), copy=False)


def _arrays(data: bytes, kinds: Any) -> Iterator[NDArray[Any]]:
    at = 0
    for name, shape in kinds:
        if name not in (*_NUMBERS, *_IDS):
            raise ValueError(f"numbers of type {name}")
        kind, number = np.dtype(name), int(np.prod(shape, dtype=np.int64))
        yield np.frombuffer(data, kind, number, at).reshape(shape)
        at += kind.itemsize * number
    if at != len(data):
        raise ValueError("bytes that belong to nothing")
