"""Values as plain JSON: a copy that nobody else can change, or a refusal that says where and why.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from memory_plugin.errors import InvalidInputError
from memory_plugin.ids import utf8
from memory_plugin.types import Json

MAX_DEPTH = 100
"""How deep a memory's value may be nested."""


def plain(value: object, where: str = "value", depth: int = 0) -> Json:
    """A copy of the value, of dictionaries, lists, texts, numbers, booleans and None alone.

    Raises:
        InvalidInputError: It is no JSON; the message names the place, and nothing of the content.
    """
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"an item's value may be nested {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        utf8(value, f"a text in an item's value, at {where:.80},")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInputError(f"{where:.80} is {value}, which JSON has not: use None")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InvalidInputError(f"{where:.80} has a key that is no text: JSON has only those")
        return {plain_key(key, where): plain(one, f"{where}.{key}", depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, f"{where}[{place}]", depth + 1) for place, one in enumerate(value)]
    raise InvalidInputError(
        f"{where:.80} is a {type(value).__name__}: an item's value is JSON; give a text, a number, a list or a mapping "
        "in its place, such as model_dump(mode='json') or isoformat()"
    )


def plain_key(key: str, where: str) -> str:
    """A key of a mapping, checked."""
    utf8(key, f"a key in an item's value, at {where:.80},")
    return key
