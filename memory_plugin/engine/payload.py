"""A record as the sealed payload of a point, and back.  Pure.

Payload keys are short because each is stored with every point:

====  ============================================================================
t     subject tag, or what a point of our own is: "staged", "intent", "head"
p     tags of the namespace's prefixes below the subject
d     tag of the document
r     tag of the document's revision
n     how many chunks the revision has
y     day number of the memory's time (absent with ``time_index=None``)
f…    tags of a declared field's values
e     sealed record
m     sealed token vectors (absent without late interaction)
v_…   sealed dense vector of a space (only in a store whose vectors are sealed)
l     1 where no model outside this machine may see the text; else absent
i     1 where it is an image, of which only its own model can make a vector; else absent
j     1 where it is the value of a document: JSON, of which no model makes anything; else absent
====  ============================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from memory_plugin.errors import DecryptionError, InvalidInputError
from memory_plugin.ids import canonical, microseconds
from memory_plugin.protocols import Sealer
from memory_plugin.types import AnyOf, Filter, Json, Namespace, Not, PointId, Record

SUBJECT = "t"
PREFIXES = "p"
DOCUMENT = "d"
REVISION = "r"
CHUNKS = "n"
DAY = "y"
RECORD = "e"
TOKENS = "m"
LOCAL_ONLY = "l"
IMAGE = "i"
VALUE = "j"

STAGED = "staged"
INTENT = "intent"
HEAD = "head"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

KEYWORDS = (SUBJECT, PREFIXES, DOCUMENT)

MARKS: Mapping[str, Filter] = {"image": AnyOf(IMAGE, (1,)), "value": AnyOf(VALUE, (1,))}
"""Kinds of records that show; documents and messages are those without a mark, and look alike."""

OURS = Not(AnyOf(SUBJECT, (HEAD, INTENT, STAGED)))
"""Every memory: all points but those that the engine keeps for itself, or has not shown yet."""


def encode(record: Record) -> bytes:
    """The record as JSON, without what the point itself tells."""
    full: dict[str, Json] = {
        "ns": list(record.namespace),
        "text": record.text,
        "time": microseconds(record.time),
        "kind": record.kind,
        "context": record.context,
        "source": record.source,
        "role": record.role,
        "name": record.name,
        "meta": dict(record.metadata),
        "at": [record.start, record.end, record.index, record.chunks],
        "doc": record.document,
        "local": record.local_only or None,
        "media": record.media_type,
        "sha": record.sha256,
    }
    told: dict[str, Json] = {key: value for key, value in full.items() if value not in (None, "", {})}
    if record.kind == "value":
        told["value"] = record.value  # also one that is empty, or false
        del told["text"]  # the same again
    return canonical(told)


def decode(point: PointId, data: bytes) -> Record:
    """The record that ``encode`` made.

    Raises:
        DecryptionError: It opened, but is no record of this format.
    """
    try:
        found = json.loads(data)
        start, end, index, chunks = found["at"]
        of_value = found["kind"] == "value"
        return Record(
            id=point,
            namespace=tuple(found["ns"]),
            text=canonical(found["value"]).decode() if of_value else found.get("text", ""),
            time=_EPOCH + timedelta(microseconds=found["time"]),
            kind=found["kind"],
            context=found.get("context", ""),
            source=found.get("source"),
            role=found.get("role"),
            name=found.get("name"),
            metadata=found.get("meta", {}),
            start=start,
            end=end,
            index=index,
            chunks=chunks,
            document=found.get("doc", ""),
            local_only=found.get("local", False),
            media_type=found.get("media"),
            sha256=found.get("sha"),
            value=found["value"] if of_value else None,
        )
    except (InvalidInputError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DecryptionError(f"the record of point {point} has an unknown form") from error


def open_record(sealer: Sealer, point: PointId, payload: Mapping[str, Json]) -> Record:
    """Open a point's record.

    Raises:
        SealError: It is not sealed, or not for this place.
    """
    return decode(point, sealer.open(point, "record", payload.get(RECORD)))


def require_inside(record: Record, namespaces: Sequence[Namespace]) -> None:
    """Refuse a record that is in none of the namespaces: the tags by which it was found are not trusted.

    Raises:
        DecryptionError: Its tags were changed.
    """
    if not any(record.namespace[: len(one)] == one for one in namespaces):
        raise DecryptionError(f"point {record.id} was found in a namespace that it does not belong to")


def require_passage(record: Record) -> None:
    """Refuse a value that a search has found: it was written without vectors.

    Raises:
        DecryptionError: Somebody gave it one.
    """
    if record.kind == "value":
        raise DecryptionError(f"point {record.id} is a value and has no vectors, but was found by one")


VECTOR = "v_"


def vector_key(space: str) -> str:
    """The payload key of a space's sealed vector; it names the field that the envelope is bound to, too."""
    return f"{VECTOR}{space}"


def namespace_tag(sealer: Sealer, namespace: Namespace) -> str:
    """The blind tag of a namespace below its subject."""
    return sealer.tag("namespace", *namespace)


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a data subject as a whole, sealed in a point of its own.

    Args:
        passages: Passages ever indexed.
        terms: Lexical terms in them, repetitions included.
    """

    passages: int = 0
    terms: int = 0

    @property
    def average_length(self) -> float:
        """Terms a passage."""
        return self.terms / self.passages if self.passages else 1.0

    def grown(self, lengths: list[int]) -> Head:
        """With further passages of these lengths."""
        return Head(self.passages + len(lengths), self.terms + sum(lengths))

    def encode(self) -> bytes:
        """As JSON."""
        return canonical({"passages": self.passages, "terms": self.terms})

    @classmethod
    def decode(cls, data: bytes) -> Head:
        """From JSON.

        Raises:
            DecryptionError: It opened, but is no head of this format.
        """
        try:
            found = json.loads(data)
            return cls(int(found["passages"]), int(found["terms"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DecryptionError("the head of a data subject has an unknown form") from error
