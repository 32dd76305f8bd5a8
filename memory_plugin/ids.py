"""Names: what a namespace is, what makes two documents the same, canonical JSON.  Pure."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Json, Metadata, Namespace

NamespaceLike: TypeAlias = "str | tuple[str, ...]"
"""One namespace; a string is sugar for one part."""
NamespacesLike: TypeAlias = "NamespaceLike | Sequence[NamespaceLike]"
"""One namespace, or a list of several."""

MAX_PARTS = 16
MAX_PART_BYTES = 1024
MAX_SOURCE_BYTES = 4096
MAX_METADATA_BYTES = 256 * 1024

_VISIBLE = re.compile(r"[^\s\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def utf8(text: object, what: str, *, limit: int | None = None) -> bytes:
    """The text's UTF-8 bytes.

    Raises:
        InvalidInputError: It is no string, holds a lone surrogate, or is longer than ``limit`` bytes.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} must be a string, not {type(text).__name__}")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} holds a lone surrogate at character {error.start}: it was decoded wrongly; "
            "decode its bytes with errors='replace', or drop the character"
        ) from None
    if limit is not None and len(data) > limit:
        raise InvalidInputError(f"{what} is {len(data):,} bytes long; at most {limit:,} are accepted")
    return data


def visible(text: str) -> bool:
    """Whether the text holds anything but white space and characters of no width."""
    return _VISIBLE.search(text) is not None


def whole(value: object, what: str, *, least: int = 1) -> int:
    """A whole number of at least so much.

    Raises:
        InvalidInputError: It is less, or no whole number.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{what} must be a whole number, not {type(value).__name__}")
    if value < least:
        raise InvalidInputError(f"{what} must be at least {least}, not {value:,}")
    return value


def namespace(value: NamespaceLike) -> Namespace:
    """One namespace as a tuple of its parts.

    Raises:
        InvalidInputError: It is empty, not text, or too long.
    """
    parts = (value,) if isinstance(value, str) else value
    if not isinstance(parts, tuple) or not parts:
        raise InvalidInputError(
            "a namespace is a string or a tuple of strings, such as 'alice' or ('alice', 'session-7'), "
            f"not {value!r:.100}"
        )
    if len(parts) > MAX_PARTS:
        raise InvalidInputError(f"a namespace has at most {MAX_PARTS} parts, not {len(parts)}")
    for part in parts:
        if not utf8(part, "a part of a namespace", limit=MAX_PART_BYTES):
            raise InvalidInputError("a part of a namespace is empty; every part names something")
    return parts


def namespaces(value: NamespacesLike) -> tuple[Namespace, ...]:
    """One or several namespaces, without repetition and without those inside another of them.

    Raises:
        InvalidInputError: There is none, or one of them is not valid.
    """
    given = [value] if isinstance(value, str | tuple) else value
    if not isinstance(given, list) or not given:
        raise InvalidInputError("a read needs a namespace, or a list of several: nothing is ever read from all of them")
    found = list(dict.fromkeys(namespace(one) for one in given))
    return tuple(one for one in found if not any(one != other and one[: len(other)] == other for other in found))


def canonical(value: Json | Mapping[str, Json]) -> bytes:
    """Equal values have equal bytes: sorted keys, no spaces, UTF-8.

    Raises:
        InvalidInputError: It is no JSON value: an object, NaN, a lone surrogate, a key that is no string.
    """
    try:
        if not _string_keys(value):
            raise TypeError("a key is no string")
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"not a JSON value: {error}") from error
    return utf8(text, "a JSON value")


def _string_keys(value: object) -> bool:
    # json.dumps would write the key 1 as "1", and so make two different values one.
    if isinstance(value, dict):
        return all(isinstance(key, str) and _string_keys(one) for key, one in value.items())
    return all(map(_string_keys, value)) if isinstance(value, list | tuple) else True


def metadata(value: Metadata) -> dict[str, Json]:
    """The metadata as it will be read again: plain dictionaries, lists, texts and numbers.

    Raises:
        InvalidInputError: It is no mapping of strings to JSON values, or too large.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidInputError("metadata is a mapping from strings to JSON values")
    data = canonical(dict(value))
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidInputError(f"metadata is larger than {MAX_METADATA_BYTES:,} bytes: add it as a document")
    # A tuple would be tagged as one value now and be a list of several when it is read.
    plain: dict[str, Json] = json.loads(data)
    return plain


def moment(value: datetime | None, what: str = "time") -> datetime | None:
    """The time in UTC.

    Raises:
        InvalidInputError: It has no time zone, or is before the year 1 or after 9999 in UTC.
    """
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInputError(f"{what} needs a time zone: datetime(…, tzinfo=timezone.utc), not {value!r:.80}")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInputError(f"{what} is out of range in UTC: {value!r:.80}") from None


def day(value: datetime) -> int:
    """Days since 1970-01-01 in UTC; exact, where a POSIX time in a float is not."""
    return value.astimezone(UTC).toordinal() - _EPOCH_DAY


def microseconds(value: datetime) -> int:
    """Microseconds since 1970 in UTC; exact, where a POSIX time in a float is not."""
    return (value - _EPOCH) // timedelta(microseconds=1)


def date_words(value: datetime) -> str:
    """The day in English words, whatever the locale: "7 May 2023"."""
    return f"{value.day} {_MONTHS[value.month - 1]} {value.year}"


def is_point_id(value: object) -> bool:
    """Whether the value is a UUID as this library writes them."""
    if not isinstance(value, str) or len(value) != 36:
        return False
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False
