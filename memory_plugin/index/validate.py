"""What both indexes check before an engine sees it, so that a refused call has written nothing.

Neither engine is all-or-nothing about bad input: a batch with one vector of a wrong length stores the points
before it.  So every id, number and vector is looked at here first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from memory_plugin.errors import InvalidInputError
from memory_plugin.index.layout import Layout, check_key
from memory_plugin.types import Json, LegQuery, Point, PointId, SparseVector, Vector

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INT64 = 2**63
_UINT32 = 2**32
_MAX_DEPTH = 16


def check_ids(ids: Iterable[PointId]) -> list[PointId]:
    """The ids, every one a UUID in its canonical form.

    Raises:
        InvalidInputError: One is not.
    """
    if isinstance(ids, str):
        raise InvalidInputError("a sequence of point ids is needed, not one string")
    checked = list(ids)
    for point in checked:
        if not isinstance(point, str) or not _UUID.fullmatch(point):
            raise InvalidInputError(f"point id {point!r} is no UUID in canonical form (36 characters, lower case)")
    return checked


def check_limit(limit: int) -> int:
    """A count of results.

    Raises:
        InvalidInputError: It is not positive.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InvalidInputError(f"limit must be a whole number of 1 or more, not {limit!r}")
    return limit


def check_indexed(layout: Layout, key: str) -> str:
    """A key that can be counted by value.

    Raises:
        InvalidInputError: It has no index.
    """
    if key not in layout.keywords and key not in layout.integers:
        known = ", ".join([*layout.keywords, *layout.integers])
        raise InvalidInputError(f"payload key {key!r} has no index to count by; there are: {known}")
    return key


def by_frequency(counted: tuple[str | int, int]) -> tuple[int, bool, str | int]:
    """Sorts values with counts: most frequent first, then numbers before words, each in their order."""
    value, count = counted
    return -count, isinstance(value, str), value


def dense_vector(vector: Vector, size: int, what: str) -> Vector:
    """The vector as float32, checked.

    Raises:
        InvalidInputError: It is no row of ``size`` finite numbers.
    """
    if isinstance(vector, SparseVector):
        raise InvalidInputError(f"{what} is dense and was given a sparse vector")
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is caught as infinite below
            row = np.asarray(vector, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what}: not a row of numbers") from error
    if row.shape != (size,):
        raise InvalidInputError(f"{what} has shape {row.shape}, this collection needs ({size},)")
    if not np.isfinite(row).all():
        raise InvalidInputError(f"{what} holds NaN or infinity")
    return row


def sparse_vector(vector: Vector | SparseVector, what: str) -> tuple[list[int], list[float]]:
    """Indices and values, checked.

    Raises:
        InvalidInputError: It is not sparse, lengths differ, an index repeats or is no uint32, a value is not finite.
    """
    if not isinstance(vector, SparseVector):
        raise InvalidInputError(f"{what} is sparse and was given a dense vector")
    indices: list[object] = np.asarray(vector.indices).tolist()
    values: list[float] = np.asarray(vector.values, dtype=np.float32).tolist()
    if not isinstance(indices, list) or len(indices) != len(values) or len(set(indices)) != len(indices):
        raise InvalidInputError(f"{what} needs distinct indices, one for each value")
    if not all(type(index) is int and 0 <= index < _UINT32 for index in indices):
        raise InvalidInputError(f"{what} has an index that is no 32 bit unsigned integer")
    if not all(map(math.isfinite, values)):
        raise InvalidInputError(f"{what} holds NaN or infinity")
    return cast("list[int]", indices), values


def check_payload(payload: Mapping[str, Json]) -> dict[str, Json]:
    """The payload as a plain dictionary of JSON that both engines store without changing it.

    Raises:
        InvalidInputError: A key is no plain word, or a value is not JSON, not finite, beyond 64 bits, or not Unicode.
    """
    checked: dict[str, Json] = {}
    for key, value in payload.items():
        checked[check_key(key)] = value
        _check_json(key, value, 0)
    return checked


def _check_json(key: str, value: object, depth: int) -> None:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise InvalidInputError(f"payload {key!r} holds half of a surrogate pair, which is not Unicode text")
    elif isinstance(value, int | float):  # bool is an int
        # The embedded engine would turn a larger integer into a float, silently.
        if not (-_INT64 <= value < _INT64 if isinstance(value, int) else math.isfinite(value)):
            raise InvalidInputError(f"payload {key!r} holds {value!r}: neither 64 bits nor finite")
    elif value is not None:
        _check_nested(key, value, depth)


def _check_nested(key: str, value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidInputError(f"payload {key!r} is nested too deeply")
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise InvalidInputError(f"payload {key!r} has a key that is no string: {name!r}")
            _check_json(key, name, depth)
        value = list(value.values())
    if not isinstance(value, list):
        raise InvalidInputError(f"payload {key!r} holds a {type(value).__name__}, which is not JSON")
    for item in value:
        _check_json(key, item, depth + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A point or a leg whose vectors were checked: dense rows, and sparse (indices, values)."""

    id: PointId
    payload: dict[str, Json]
    dense: dict[str, Vector]
    sparse: dict[str, tuple[list[int], list[float]]]


def check_points(layout: Layout, points: Sequence[Point]) -> list[Checked]:
    """Every point, ready to be handed to an engine.

    Raises:
        InvalidInputError: An id, a payload or a vector cannot be stored.
    """
    check_ids([point.id for point in points])
    return [_checked(layout, point, check_payload(point.payload)) for point in points]


def check_vectors(layout: Layout, points: Sequence[Point]) -> list[Checked]:
    """Every point's vectors, ready to be handed to an engine; payloads are left out.

    Raises:
        InvalidInputError: An id or a vector cannot be stored.
    """
    check_ids([point.id for point in points])
    return [_checked(layout, point, {}) for point in points]


def _checked(layout: Layout, point: Point, payload: dict[str, Json]) -> Checked:
    dense: dict[str, Vector] = {}
    sparse: dict[str, tuple[list[int], list[float]]] = {}
    for name, vector in point.vectors.items():
        what = f"vector {name!r} of point {point.id}"
        if name in layout.dense:
            dense[name] = dense_vector(cast("Vector", vector), layout.dense[name], what)
        elif name in layout.sparse or name in layout.weighted:
            sparse[name] = sparse_vector(vector, what)
        else:
            raise unknown_vector(layout, name)
    return Checked(point.id, payload, dense, sparse)


def check_leg(layout: Layout, leg: LegQuery) -> Vector | tuple[list[int], list[float]]:
    """A leg's query vector, ready for an engine.

    Raises:
        InvalidInputError: The name, the vector or the limit cannot be used.
    """
    check_limit(leg.limit)
    what = f"the query for {leg.using!r}"
    if leg.using in layout.dense:
        return dense_vector(cast("Vector", leg.vector), layout.dense[leg.using], what)
    if leg.using in layout.sparse or leg.using in layout.weighted:
        return sparse_vector(leg.vector, what)
    raise unknown_vector(layout, leg.using)


def unknown_vector(layout: Layout, name: str) -> InvalidInputError:
    """The error for a vector name that the collection does not have."""
    return InvalidInputError(f"no vector is called {name!r} here; there are: {', '.join(layout.vectors)}")
