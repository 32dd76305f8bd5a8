"""What a vendor answered, checked: as many vectors or scores as texts, in their order, whole and finite.  Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memory_plugin.managed.failure import CallError, unreadable
from memory_plugin.types import Matrix


def parsed(content: bytes, headers: Mapping[str, str]) -> Any:
    """An answer's JSON.

    Raises:
        CallError: It breaks off, or is something else; the next may be whole.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        kind = headers.get("content-type", "")
        what = "is no JSON" if not content or "json" in kind else f"is {kind or 'of no type'}, no JSON"
        raise unreadable(f"{what} ({len(content)} bytes)", headers=headers) from error


def at(body: Any, *path: str) -> Any:
    """What is in a JSON object under some keys.

    Raises:
        CallError: It is not there.
    """
    for key in path:
        if not isinstance(body, Mapping) or body.get(key) is None:
            told = body.get("error") or body.get("detail") if isinstance(body, Mapping) else None
            words = f"it says {told!r:.300}" if told else "is this the address of such a service?"
            raise CallError(f"an answer without {'.'.join(path)!r}: {words}")
        body = body[key]
    return body


def whole(body: Any, *path: str) -> int:
    """A count in a JSON object, or 0 where the vendor tells none."""
    for key in path:
        body = body.get(key) if isinstance(body, Mapping) else None
    return int(body) if isinstance(body, int | float) and not isinstance(body, bool) and body >= 0 else 0


def ordered(items: Any, number: int, key: str | None) -> list[Any]:
    """One item for each text, in the texts' order.

    Args:
        items: The vendor's list.
        number: How many texts there were.
        key: Of each item's value; None: the item is the value.

    Raises:
        CallError: There are more or fewer, or their indices are not those of the texts.
    """
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise CallError(f"an answer with {type(items).__name__} where a list belongs")
    if len(items) != number:
        raise CallError(f"an answer with {len(items)} results for {number} texts")
    if key is None:
        return list(items)
    told = [item.get("index") if isinstance(item, Mapping) else None for item in items]
    places = [place if isinstance(place, int) else -1 for place in told]
    if all(place is None for place in told):
        places = list(range(number))
    if sorted(places) != list(range(number)):
        raise CallError(f"an answer whose indices are not 0 to {number - 1}")
    made: list[Any] = [None] * number
    for place, item in zip(places, items, strict=True):
        made[place] = at(item, key)
    return made


def matrix(rows: Sequence[Any], dimension: int | None, *, dtype: str = "float32") -> Matrix:
    """Vectors as the vendor wrote them, shape (n, dimension), float32.

    Args:
        rows: Each a list of numbers, or base64 of their little-endian bytes.
        dimension: What they have to have; None: whatever the first one has.
        dtype: Element type of base64: "float32" or "int8".

    Raises:
        CallError: One is of another length, zero, or not finite.
    """
    made: list[Matrix] = []
    for place, row in enumerate(rows):
        vector = _vector(row, place, dtype)
        dimension = len(vector) if dimension is None else dimension
        if len(vector) != dimension:
            raise CallError(f"a vector of {len(vector)} numbers for text {place}, not {dimension}")
        if not np.isfinite(vector).all() or not vector.any():
            raise CallError(f"a vector for text {place} that is zero or not finite")
        made.append(vector)
    return np.stack(made)


def _vector(row: Any, place: int, dtype: str) -> Matrix:
    if isinstance(row, str):
        try:
            content = base64.b64decode(row, validate=True)
            return np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).astype(np.float32)
        except (binascii.Error, ValueError) as error:
            raise CallError(f"a vector for text {place} that is no base64 of whole numbers", cause=error) from None
    try:
        vector = np.asarray(row)
    except ValueError as error:
        raise CallError(f"a vector for text {place} that is no list of numbers", cause=error) from None
    if vector.ndim != 1 or vector.dtype.kind not in "fiu" or not len(vector):
        raise CallError(f"a vector for text {place} that is no list of numbers")
    return vector.astype(np.float32)


def scores(items: Any, number: int, key: str) -> list[float]:
    """One score for each text, in the texts' order; vendors sort them by score.

    Raises:
        CallError: There are more or fewer, an index is not a text's, or a score is no finite number.
    """
    found = ordered(items, number, key)
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and np.isfinite(one) for one in found):
        raise CallError("a score that is no finite number")
    return [float(one) for one in found]
