"""A LangGraph item as a document with a value, and back; where both lie.  Pure.

The item's value is the document's, exact.  Beside it the metadata says what LangGraph keeps besides: the key, when the
item was made, its time to live.  Small fields of the value are metadata too, so that filters can run inside the index.

An item that expires has a second document, in a namespace of its own: its time is when it expires.  Putting that off
writes this one anew, which is a value without a text: nothing is embedded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from memory_plugin import Document
from memory_plugin.adapters.extras import needs
from memory_plugin.ids import MAX_SOURCE_BYTES, microseconds
from memory_plugin.types import Json, Namespace, Record

with needs("langgraph", "the LangGraph store"):
    from langgraph.store.base import Item, SearchItem, get_text_at_path

MARK = "langgraph"
"""The metadata field with what LangGraph keeps besides, and what names of items begin with."""
WIDE = "langgraph_wide"
"""The metadata field of items with so many fields that none of them is metadata."""
EXPIRY = ".expiry"
"""The label below which it is kept when items expire: no label of LangGraph's has a period."""
WHOLE = "$"
"""The path of all of a value."""

_MAX_NAME = 128
_MAX_TEXT = 256
_MAX_FIELDS = 4096  # characters: metadata lies beside every passage of a text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Place:
    """Where LangGraph's namespaces lie in ours.

    Args:
        base: What comes before their labels; () where the first label is the data subject.
    """

    base: Namespace

    def of(self, labels: Sequence[str]) -> Namespace:
        """Our namespace of LangGraph's."""
        return (*self.base, *labels)

    def labels(self, namespace: Namespace) -> Namespace:
        """LangGraph's namespace of ours."""
        return namespace[len(self.base) :]


def expiry_of(namespace: Namespace) -> Namespace:
    """Where it is kept when the items of a namespace, and of those below it, expire."""
    return (namespace[0], EXPIRY, *namespace[1:])


def items_of(expiry: Namespace) -> Namespace:
    """The opposite."""
    return (expiry[0], *expiry[2:])


def source_of(key: str) -> str:
    """What an item's document is called."""
    source = f"{MARK}:{key}"
    if len(source.encode("utf-8", "surrogatepass")) <= MAX_SOURCE_BYTES:
        return source
    return f"{MARK}#{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Kept:
    """An item as it lies in the store.

    Args:
        namespace: Ours.
        key: LangGraph's.
        value: A copy of the reader's own.
        created: When it was made.
        updated: When it was last put.
        ttl: Minutes that it lives after it was last used, or None.
        expires: When it does, or None.
        ids: Its points.
    """

    namespace: Namespace
    key: str
    value: dict[str, Any]
    created: datetime
    updated: datetime
    ttl: float | None
    expires: datetime | None
    ids: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[Namespace, str]:
        """What there is one item of."""
        return self.namespace, self.key

    def gone(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires is not None and self.expires <= now

    def item(self, place: Place) -> Item:
        """For a reader who asked by its key."""
        return Item(
            value=self.value,
            key=self.key,
            namespace=place.labels(self.namespace),
            created_at=self.created,
            updated_at=self.updated,
        )

    def found(self, place: Place, score: float | None) -> SearchItem:
        """For a reader who searched."""
        labels = place.labels(self.namespace)
        return SearchItem(labels, self.key, self.value, self.created, self.updated, score)


def kept(records: Sequence[Record]) -> Kept | None:
    """The item that the records of a document are; None where they are somebody else's."""
    record = records[-1]
    told = record.metadata.get(MARK)
    if record.kind != "value" or not isinstance(told, dict) or not isinstance(record.value, dict):
        return None
    key, created, ttl = told.get("key"), told.get("created"), told.get("ttl")
    if not isinstance(key, str) or not isinstance(created, int):
        return None
    minutes = float(ttl) if isinstance(ttl, int | float) else None
    return Kept(
        namespace=record.namespace,
        key=key,
        value=record.value,
        created=_EPOCH + timedelta(microseconds=created),
        updated=record.time,
        ttl=minutes,
        expires=None if minutes is None else after(record.time, minutes),
        ids=tuple(one.id for one in records),
    )


def after(moment: datetime, minutes: float) -> datetime:
    """So many minutes later; never after the last moment that there is."""
    try:
        return moment + timedelta(minutes=minutes)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def document(
    key: str, value: Mapping[str, Any], text: str, *, created: datetime, updated: datetime, ttl: float | None
) -> Document:
    """An item as a document."""
    told: dict[str, Json] = {"key": key, "created": microseconds(created)}
    if ttl is not None:
        told["ttl"] = ttl
    return Document(text, source=source_of(key), value=dict(value), time=updated, metadata={**small(value), MARK: told})


# ── when it expires ───────────────────────────────────────────────────────────────────────────────


def expiry(key: str, updated: datetime, expires: datetime) -> Document:
    """A document that says when an item expires; only of the item as it was put then."""
    told: dict[str, Json] = {"key": key, "of": microseconds(updated)}
    return Document("", source=source_of(key), value=told, time=expires)


def expiring(item: Kept, records: Sequence[Record]) -> Kept:
    """The item with what is said of when it expires, where that is said of this one and not of one before it."""
    told = records[-1].value if records else None
    if isinstance(told, dict) and told.get("of") == microseconds(item.updated):
        return replace(item, expires=records[-1].time)
    return item


# ── what it is found by ───────────────────────────────────────────────────────────────────────────


def text_of(value: Mapping[str, Any], paths: Sequence[str]) -> str:
    """The text by which a value is found: what lies at the paths."""
    texts: list[str] = []
    for path in paths:
        texts += [_whole(value)] if path in (WHOLE, "") else get_text_at_path(value, path)
    return "\n\n".join(dict.fromkeys(text for text in texts if text.strip()))


def _whole(value: Mapping[str, Any]) -> str:
    """All texts and numbers, each on a line with its name; one text alone without."""
    lines = list(_lines(value, ""))
    if len(lines) == 1:
        return lines[0][1]
    return "\n".join(f"{name}: {text}" if name else text for name, text in lines)


def _lines(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _lines(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _lines(one, name)
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    elif isinstance(value, str | int | float) and str(value).strip():
        yield name, str(value)


# ── what it is filtered by ────────────────────────────────────────────────────────────────────────


def is_small(field: object, value: object) -> bool:
    """Whether a field of a value is metadata; says the same of a field that a filter names, and its value there."""
    if not isinstance(field, str) or field.startswith("$") or field in (MARK, WIDE) or len(field) > _MAX_NAME:
        return False
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def small(value: Mapping[str, Any]) -> dict[str, Json]:
    """The fields of a value that are metadata."""
    found: dict[str, Json] = {field: one for field, one in value.items() if is_small(field, one)}
    return found if len(json.dumps(found)) <= _MAX_FIELDS else {WIDE: True}
