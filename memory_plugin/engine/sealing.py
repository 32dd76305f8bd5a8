"""The pure middle of the add arrow: passages and their vectors into sealed points."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory_plugin.engine import sealed_vectors
from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.entries import Entry
from memory_plugin.engine.payload import (
    CHUNKS,
    DAY,
    DOCUMENT,
    IMAGE,
    LOCAL_ONLY,
    PREFIXES,
    RECORD,
    REVISION,
    SUBJECT,
    TOKENS,
    VALUE,
    VECTOR,
    Head,
    encode,
    namespace_tag,
    vector_key,
)
from memory_plugin.filters import field_value, value_keys
from memory_plugin.ids import day
from memory_plugin.lexical import bm25_weights, terms
from memory_plugin.protocols import Sealer
from memory_plugin.types import (
    Chunk,
    Embeddings,
    Json,
    Kind,
    Matrix,
    Namespace,
    Point,
    PointId,
    Record,
    SparseVector,
    TokenVectors,
    Vector,
)


@dataclass(frozen=True, slots=True)
class Work:
    """An entry with its place in the store."""

    entry: Entry
    document: str
    revision: str


@dataclass(frozen=True, slots=True)
class Cut:
    """A document in passages, or some of them.

    Args:
        work: The document.
        chunks: The passages.
        time: When it is from.
        total: How many points the whole document has.
        value: Whether its value is one of these, after the passages.
    """

    work: Work
    chunks: list[Chunk]
    time: datetime
    total: int
    value: bool = False


def point_ids(sealer: Sealer, work: Work, total: int) -> list[PointId]:
    """The points of a document that has so many; that of its value is the last."""
    return [sealer.point_id(work.document, work.revision, str(index)) for index in range(total)]


@dataclass(frozen=True, slots=True)
class Draft:
    """A point but for its lexical vector, which needs the average length of the subject's passages.

    Args:
        point: With its other vectors.
        terms: Of a passage; None for a value, which is no passage and is not counted as one.
    """

    point: Point
    terms: Counter[str] | None


def lengths(drafts: Iterable[Draft]) -> list[int]:
    """How many lexical terms the passages have."""
    return [draft.terms.total() for draft in drafts if draft.terms is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one model made of passages of a batch: of those that it was given.

    Args:
        model: Whose space.
        places: Which passages, by their place in the batch.
        embeddings: Theirs, in that order.
    """

    model: Model
    places: tuple[int, ...]
    embeddings: Embeddings


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What models made of the passages of a batch.

    Args:
        parts: Vectors of each space that is written.
        tokens: Token vectors for late interaction, by place in the batch.
        spaces: Those whose models were asked, and answered.
    """

    parts: tuple[Part, ...]
    tokens: Mapping[int, TokenVectors]
    spaces: frozenset[str] = frozenset()


def seal(engine: Engine, sealer: Sealer, namespace: Namespace, cuts: Sequence[Cut], encoded: Encoded) -> list[Draft]:
    """Seal every passage of the documents, in order."""
    stored = _by_place(engine, sealer, encoded)
    drafts = []
    place = 0
    for cut in cuts:
        for chunk in cut.chunks:
            payload, point_id = _payload(engine, sealer, namespace, cut, chunk, encoded.tokens.get(place))
            vectors: dict[str, Vector | SparseVector] = {}
            for model, row, weights in stored.get(place, ()):
                shown, sealed = placed(engine, sealer, model, point_id, row)
                vectors |= {**shown, **learned(engine, sealer, model, weights)}
                payload |= sealed
            point = Point(point_id, payload, vectors)
            drafts.append(Draft(point, Counter(terms(chunk.passage, engine.settings.language))))
            place += 1
        if cut.value:
            payload, point_id = _payload(engine, sealer, namespace, cut, None, None)
            drafts.append(Draft(Point(point_id, payload), None))
    return drafts


_Made: TypeAlias = tuple[Model, Vector, Mapping[str, float] | None]


def _by_place(engine: Engine, sealer: Sealer, encoded: Encoded) -> dict[int, list[_Made]]:
    """Stored vectors and weighted terms of each passage, by its place in the batch."""
    found: dict[int, list[_Made]] = {}
    for part in encoded.parts:
        weights = part.embeddings.terms or [None] * len(part.places)
        for place, row, one in zip(part.places, stored_vectors(engine, sealer, part.embeddings), weights, strict=True):
            found.setdefault(place, []).append((part.model, row, one))
    return found


def stored_vectors(engine: Engine, sealer: Sealer, embedded: Embeddings) -> Matrix:
    """Vectors as they are stored, shape (n, dimension)."""
    return sealer.rotate(embedded.vectors) if engine.settings.vectors == "rotated" else embedded.vectors


def placed(
    engine: Engine, sealer: Sealer, model: Model, point: PointId, row: Vector
) -> tuple[Mapping[str, Vector], Mapping[str, Json]]:
    """A stored vector as a vector in Qdrant, or, where vectors are sealed, as a payload key."""
    if engine.settings.vectors != "sealed":
        return {model.dense: row}, {}
    key = vector_key(model.space)
    return {}, {key: sealer.seal(point, key, sealed_vectors.encode(row))}


def _payload(
    engine: Engine, sealer: Sealer, namespace: Namespace, cut: Cut, chunk: Chunk | None, tokens: TokenVectors | None
) -> tuple[dict[str, Json], PointId]:
    """The payload of a passage, or, without one, of the document's value."""
    entry, work = cut.work.entry, cut.work
    value = None
    kind: Kind = entry.kind
    if chunk is None:
        assert entry.value is not None
        chunk, value, kind = Chunk(entry.value.decode(), 0, 0, cut.total - 1), json.loads(entry.value), "value"
    point_id = sealer.point_id(work.document, work.revision, str(chunk.index))
    record = Record(
        id=point_id,
        namespace=namespace,
        text=chunk.text,
        time=cut.time,
        kind=kind,
        context=chunk.context,
        source=entry.source,
        role=entry.role,
        name=entry.name,
        metadata=entry.metadata,
        start=chunk.start,
        end=chunk.end,
        index=chunk.index,
        chunks=cut.total,
        document=work.document,
        local_only=entry.local_only,
        media_type=entry.image.media_type if entry.image is not None else None,
        sha256=entry.image.sha256 if entry.image is not None else None,
        value=value,
    )
    payload = {**tags(engine, sealer, record, work.revision), RECORD: sealer.seal(point_id, "record", encode(record))}
    if tokens is not None and engine.late is not None:
        payload[TOKENS] = sealer.seal(point_id, "tokens", engine.late.pack(tokens))
    return payload, point_id


def sealed_fields(payload: Mapping[str, Json]) -> dict[str, str]:
    """The payload's keys that hold envelopes, and the field that each is bound to.

    Vectors of a space that another process has begun are among them, so the manifest is not asked.
    """
    known = {RECORD: "record", TOKENS: "tokens"}
    return {key: known.get(key, key) for key in payload if key in known or key.startswith(VECTOR)}


def sealed_anew(sealer: Sealer, point: Point) -> Point:
    """The point with its envelopes under the key that seals now."""
    payload = dict(point.payload)
    for key, name in sealed_fields(payload).items():
        payload[key] = sealer.seal(point.id, name, sealer.open(point.id, name, payload[key]))
    return replace(point, payload=payload)


def tags(engine: Engine, sealer: Sealer, record: Record, revision: str) -> dict[str, Json]:
    """What a point shows in the clear: all of it follows from the sealed record and the revision."""
    namespace = record.namespace
    shown: dict[str, Json] = {
        SUBJECT: sealer.subject,
        DOCUMENT: record.document,
        REVISION: revision,
        CHUNKS: record.chunks,
    }
    if record.local_only:
        shown[LOCAL_ONLY] = 1
    if record.kind == "image":
        shown[IMAGE] = 1
    if record.kind == "value":
        shown[VALUE] = 1
    if len(namespace) > 1:
        shown[PREFIXES] = [namespace_tag(sealer, namespace[:size]) for size in range(2, len(namespace) + 1)]
    if engine.settings.time_index == "day":
        shown[DAY] = day(record.time)
    for name in engine.settings.filterable:
        keys = value_keys(field_value(record, name))
        if keys:
            shown[engine.field_key(name)] = [sealer.tag("field", name, key) for key in keys]
    return shown


def finish(engine: Engine, sealer: Sealer, drafts: Sequence[Draft], head: Head) -> list[Point]:
    """The drafts with their lexical vectors."""
    points = []
    for draft in drafts:
        weights = bm25_weights(draft.terms, head.average_length) if draft.terms is not None else None
        vectors = {**draft.point.vectors}
        if weights:
            vectors[engine.sparse] = sparse_vector(sealer, list(weights), list(weights.values()))
        points.append(replace(draft.point, vectors=vectors))
    return points


def sparse_vector(sealer: Sealer, names: Sequence[str], weights: Sequence[float] | NDArray[np.float64]) -> SparseVector:
    """Keyed ids with weights; terms whose ids collide are added up."""
    indices, inverse = np.unique(sealer.term_ids(names), return_inverse=True)
    return SparseVector(indices, np.bincount(inverse, weights=weights).astype(np.float32))


LEARNED = "learned term: "
"""Before terms that a model weighed: no word or identifier holds a blank, so their ids are none of BM25's."""

_SCALE = "scale of learned term: "
_SCALE_BITS = 8


def learned(
    engine: Engine, sealer: Sealer, model: Model, weights: Mapping[str, float] | None, *, query: bool = False
) -> dict[str, SparseVector]:
    """The vector of a model's weighted terms by its name; none where there are none, or vectors are sealed.

    Where vectors are rotated, each weight is multiplied by a keyed factor of its term, and a query's divided by it:
    products are what they were, and a text's weights alone no longer tell which text it is.
    """
    name = engine.weighted(model)
    kept = {term: weight for term, weight in (weights or {}).items() if weight != 0}
    if name is None or not kept:
        return {}
    values = np.array(list(kept.values()), np.float64)
    if engine.settings.vectors == "rotated":
        share = sealer.term_ids([f"{_SCALE}{term}" for term in kept]) / 2.0**32
        factors = 2.0 ** (_SCALE_BITS * (share - 0.5))  # from 1/16 to 16
        values = values / factors if query else values * factors
    return {name: sparse_vector(sealer, [f"{LEARNED}{term}" for term in kept], values)}


def by_document(drafts: Iterable[Draft]) -> dict[str, list[PointId]]:
    """Points by document tag, in order."""
    made: dict[str, list[PointId]] = {}
    for draft in drafts:
        made.setdefault(str(draft.point.payload[DOCUMENT]), []).append(draft.point.id)
    return made
