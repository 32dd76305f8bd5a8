"""add:  Document ─chunk→ [Chunk] ─embed→ Vectors ─seal→ [Point] ─upsert→ Qdrant

A document appears whole or not at all, and so does its replacement:

* One of up to ``settings.staging`` chunks goes into one upsert, which the embedded engine applies
  all or none.  If it replaces an older text, the same upsert carries an *intent* point that names the
  revision to keep; then the older chunks are deleted, then the intent.
* A longer one is written under the subject "staged", which no search sees, and shown by one
  ``set_payload`` when all of it is there.

``recover`` finishes what a killed process left: intents are carried out, staged points dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from memory_plugin.engine.core import Engine
from memory_plugin.engine.entries import Entry
from memory_plugin.engine.payload import (
    CHUNKS,
    DAY,
    DOCUMENT,
    HEAD,
    INTENT,
    PREFIXES,
    RECORD,
    REVISION,
    STAGED,
    SUBJECT,
    TOKENS,
    Head,
    encode,
    namespace_tag,
)
from memory_plugin.filters import value_keys
from memory_plugin.ids import day
from memory_plugin.lexical import bm25_weights, terms
from memory_plugin.protocols import Sealer
from memory_plugin.types import (
    Added,
    And,
    AnyOf,
    Chunk,
    Embeddings,
    Filter,
    Json,
    Namespace,
    Not,
    Point,
    PointId,
    Record,
    SparseVector,
    TokenVectors,
)

Progress = Callable[[int, int], None]
"""Called with documents done and documents given."""


def silent(done: int, of: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class _Work:
    """An entry with its place in the store."""

    entry: Entry
    document: str
    revision: str


@dataclass(frozen=True, slots=True)
class _Cut:
    """A document in passages, or some of them."""

    work: _Work
    chunks: list[Chunk]
    time: datetime
    total: int


async def add(engine: Engine, items: Sequence[Entry], namespace: Namespace, progress: Progress = silent) -> Added:
    """Remember the entries; durable on return.

    Raises:
        EmbeddingError: The embedder failed; documents before it are kept, it is not.
        IndexUnavailableError: Qdrant failed.
    """
    if not items:
        return Added()
    sealer = await engine.sealer(namespace, create=True)
    assert sealer is not None
    works = [_place(engine, sealer, namespace, entry) for entry in items]
    # Of several texts under one name the last counts.
    last = {work.document: work for work in works}
    found = await _existing(engine, sealer, list(last))
    todo = [work for work in last.values() if not found.get(work.document, _NOTHING).has(work.revision)]
    changed = {work.document for work in todo}
    ids = {
        work.document: _point_ids(sealer, work, found[work.document].expected[work.revision])
        for work in last.values()
        if work.document not in changed
    }
    replaced = len(changed & set(found))
    written = done = 0
    async for batch in _batches(engine, todo):
        made = await _write(engine, sealer, namespace, batch)
        ids.update(made)
        written += sum(map(len, made.values()))
        done += len(batch)
        progress(len(last) - len(todo) + done, len(last))
    return Added(
        ids=tuple(point for work in works for point in ids[work.document]),
        documents=len(items),
        written=written,
        unchanged=len(last) - len(todo),
        replaced=replaced,
    )


def _point_ids(sealer: Sealer, work: _Work, chunks: int) -> list[PointId]:
    return [sealer.point_id(work.document, work.revision, str(index)) for index in range(chunks)]


def _place(engine: Engine, sealer: Sealer, namespace: Namespace, entry: Entry) -> _Work:
    document = sealer.tag("document", *namespace, *entry.identity())
    revision = sealer.tag("revision", entry.revision(engine.settings.chunk_tokens))
    return _Work(entry, document, revision)


async def _batches(engine: Engine, works: Sequence[_Work]) -> AsyncIterator[list[_Cut]]:
    """Documents cut into passages and gathered into batches worth one call of the embedder."""
    batch: list[_Cut] = []
    size = 0
    for work in works:
        cut = await engine.io.call(_cut, engine, work)
        if len(cut.chunks) > engine.settings.staging:
            yield [cut]
            continue
        batch.append(cut)
        size += len(cut.chunks)
        if size >= engine.settings.batch:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cut(engine: Engine, work: _Work) -> _Cut:
    now = engine.clock()
    chunks = work.entry.chunks(engine.pieces, now, max_tokens=engine.settings.chunk_tokens)
    return _Cut(work, chunks, work.entry.time or now, len(chunks))


# ── write ─────────────────────────────────────────────────────────────────────────────────────────


async def _write(engine: Engine, sealer: Sealer, namespace: Namespace, batch: list[_Cut]) -> dict[str, list[PointId]]:
    """Embed, seal and upsert a batch; the points of each document."""
    if len(batch[0].chunks) > engine.settings.staging:
        return await _write_staged(engine, sealer, namespace, batch[0])
    embedded = await _embed(engine, [chunk for cut in batch for chunk in cut.chunks])
    drafts = await engine.io.call(_seal, engine, sealer, namespace, batch, embedded)
    await engine.io.uninterrupted(_commit(engine, sealer, batch, drafts))
    return _by_document(drafts)


async def _embed(engine: Engine, chunks: Sequence[Chunk]) -> Embeddings:
    texts = [chunk.passage for chunk in chunks]
    made = await engine.embed(texts, input_type="document")
    if engine.late is None or (made.tokens is not None and engine.shares_tokens):
        return made
    return replace(made, tokens=await engine.io.call(engine.late.tokens, texts))


@dataclass(frozen=True, slots=True)
class _Draft:
    """A point but for its lexical vector, which needs the average length of the subject's passages."""

    point: Point
    terms: Counter[str]


def _seal(
    engine: Engine, sealer: Sealer, namespace: Namespace, cuts: Sequence[_Cut], embedded: Embeddings
) -> list[_Draft]:
    """Seal every passage of the documents, in order."""
    rotated = sealer.rotate(embedded.vectors) if engine.settings.vectors == "rotated" else embedded.vectors
    prefixes: list[Json] = [namespace_tag(sealer, namespace[:size]) for size in range(2, len(namespace) + 1)]
    drafts = []
    place = 0
    for cut in cuts:
        for chunk in cut.chunks:
            tokens = embedded.tokens[place] if engine.late is not None and embedded.tokens is not None else None
            payload, point_id = _payload(engine, sealer, namespace, cut, chunk, tokens)
            if prefixes:
                payload[PREFIXES] = prefixes
            point = Point(point_id, payload, {engine.dense: rotated[place]})
            drafts.append(_Draft(point, Counter(terms(chunk.passage, engine.settings.language))))
            place += 1
    return drafts


def _payload(
    engine: Engine, sealer: Sealer, namespace: Namespace, cut: _Cut, chunk: Chunk, tokens: TokenVectors | None
) -> tuple[dict[str, Json], PointId]:
    entry, work = cut.work.entry, cut.work
    point_id = sealer.point_id(work.document, work.revision, str(chunk.index))
    record = Record(
        id=point_id,
        namespace=namespace,
        text=chunk.text,
        time=cut.time,
        kind=entry.kind,
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
    )
    payload: dict[str, Json] = {
        SUBJECT: sealer.subject,
        DOCUMENT: work.document,
        REVISION: work.revision,
        CHUNKS: cut.total,
        RECORD: sealer.seal(point_id, "record", encode(record)),
    }
    if engine.settings.time_index == "day":
        payload[DAY] = day(cut.time)
    for name in engine.settings.filterable:
        keys = value_keys(entry.metadata[name]) if name in entry.metadata else []
        if keys:
            payload[engine.field_key(name)] = [sealer.tag("field", name, key) for key in keys]
    if tokens is not None and engine.late is not None:
        payload[TOKENS] = sealer.seal(point_id, "tokens", engine.late.pack(tokens))
    return payload, point_id


def _finish(engine: Engine, sealer: Sealer, drafts: Sequence[_Draft], head: Head) -> list[Point]:
    """The drafts with their lexical vectors."""
    points = []
    for draft in drafts:
        weights = bm25_weights(draft.terms, head.average_length)
        vectors = {**draft.point.vectors}
        if weights:
            vectors[engine.sparse] = sparse_vector(sealer, list(weights), list(weights.values()))
        points.append(replace(draft.point, vectors=vectors))
    return points


def sparse_vector(sealer: Sealer, names: Sequence[str], weights: Sequence[float]) -> SparseVector:
    """Keyed ids with weights; terms whose ids collide are added up."""
    indices, inverse = np.unique(sealer.term_ids(names), return_inverse=True)
    return SparseVector(indices, np.bincount(inverse, weights=weights).astype(np.float32))


def _by_document(drafts: Iterable[_Draft]) -> dict[str, list[PointId]]:
    made: dict[str, list[PointId]] = {}
    for draft in drafts:
        made.setdefault(str(draft.point.payload[DOCUMENT]), []).append(draft.point.id)
    return made


# ── commit ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Found:
    """What the store has of a document: points by revision, and how many each revision should have."""

    revisions: dict[str, list[PointId]]
    expected: dict[str, int]

    def has(self, revision: str) -> bool:
        """Whether exactly this revision is there, whole."""
        return set(self.revisions) == {revision} and len(self.revisions[revision]) == self.expected[revision]

    def others(self, revision: str) -> bool:
        """Whether there is another revision."""
        return bool(set(self.revisions) - {revision})


_NOTHING = _Found({}, {})


async def _existing(engine: Engine, sealer: Sealer, documents: Sequence[str]) -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for start in range(0, len(documents), 256):
        tags = tuple(documents[start : start + 256])
        where = And((AnyOf(SUBJECT, (sealer.subject,)), AnyOf(DOCUMENT, tags)))
        async for point in scroll(engine, where, payload=(DOCUMENT, REVISION, CHUNKS)):
            one = found.setdefault(str(point.payload[DOCUMENT]), _Found({}, {}))
            revision = str(point.payload[REVISION])
            one.revisions.setdefault(revision, []).append(point.id)
            one.expected[revision] = int(point.payload[CHUNKS])  # type: ignore[arg-type]
    return found


async def scroll(engine: Engine, where: Filter, *, payload: Sequence[str], page: int = 256) -> AsyncIterator[Point]:
    """Every matching point, page by page."""
    after: PointId | None = None
    while True:
        points, after = await engine.index.scroll(engine.io, where, limit=page, after=after, payload=payload)
        for point in points:
            yield point
        if after is None:
            return


async def _commit(engine: Engine, sealer: Sealer, cuts: Sequence[_Cut], drafts: Sequence[_Draft]) -> None:
    """Write documents whole, and take away what they replace."""
    async with engine.writing:
        found = await _existing(engine, sealer, [cut.work.document for cut in cuts])
        replacing = [cut.work for cut in cuts if found.get(cut.work.document, _NOTHING).others(cut.work.revision)]
        head = (await _head(engine, sealer)).grown([draft.terms.total() for draft in drafts])
        points = await engine.io.call(_finish, engine, sealer, drafts, head)
        intents = [_intent(sealer, work) for work in replacing]
        await engine.index.upsert(engine.io, [*points, *intents, _head_point(sealer, head)])
        engine.heads[sealer.subject] = head
        for work, intent in zip(replacing, intents, strict=True):
            await _carry_out(engine, work.document, work.revision, intent.id)


async def _write_staged(engine: Engine, sealer: Sealer, namespace: Namespace, cut: _Cut) -> dict[str, list[PointId]]:
    """Write a long document out of sight, then show it in one step."""
    work = cut.work
    staged = And((AnyOf(SUBJECT, (STAGED,)), AnyOf(DOCUMENT, (work.document,)), AnyOf(REVISION, (work.revision,))))
    made: list[PointId] = []
    lengths: list[int] = []
    async with engine.staging:
        found = await _existing(engine, sealer, [work.document])
        if found.get(work.document, _NOTHING).has(work.revision):
            return {work.document: _point_ids(sealer, work, cut.total)}
        try:
            for start in range(0, len(cut.chunks), engine.settings.batch):
                chunks = cut.chunks[start : start + engine.settings.batch]
                embedded = await _embed(engine, chunks)
                part = _Cut(work, chunks, cut.time, cut.total)
                drafts = await engine.io.call(_seal, engine, sealer, namespace, [part], embedded)
                lengths += [draft.terms.total() for draft in drafts]
                head = (await _head(engine, sealer)).grown(lengths)
                points = await engine.io.call(_finish, engine, sealer, drafts, head)
                hidden = [replace(point, payload={**point.payload, SUBJECT: STAGED}) for point in points]
                await engine.index.upsert(engine.io, hidden)
                made += [point.id for point in points]
        except BaseException:
            await engine.io.uninterrupted(engine.index.delete(engine.io, staged))
            raise
        await engine.io.uninterrupted(_show(engine, sealer, work, staged, lengths))
    return {work.document: made}


async def _show(engine: Engine, sealer: Sealer, work: _Work, staged: Filter, lengths: list[int]) -> None:
    async with engine.writing:
        head = (await _head(engine, sealer)).grown(lengths)
        intent = _intent(sealer, work)
        await engine.index.upsert(engine.io, [intent, _head_point(sealer, head)])
        engine.heads[sealer.subject] = head
        await engine.index.set_payload(engine.io, {SUBJECT: sealer.subject}, where=staged)
        await _carry_out(engine, work.document, work.revision, intent.id)


def _intent(sealer: Sealer, work: _Work) -> Point:
    payload: dict[str, Json] = {SUBJECT: INTENT, DOCUMENT: work.document, REVISION: work.revision}
    return Point(sealer.point_id("intent", work.document, work.revision), payload)


async def _carry_out(engine: Engine, document: str, revision: str, intent: PointId) -> None:
    """Delete the document's other revisions, then the intent to do so."""
    older = And(
        (AnyOf(DOCUMENT, (document,)), Not(AnyOf(REVISION, (revision,))), Not(AnyOf(SUBJECT, (STAGED, INTENT))))
    )
    await engine.index.delete(engine.io, older)
    await engine.index.delete(engine.io, [intent])


async def _head(engine: Engine, sealer: Sealer) -> Head:
    known = engine.heads.get(sealer.subject)
    if known is not None:
        return known
    point_id = sealer.point_id("head")
    points = await engine.index.fetch(engine.io, [point_id], payload=(RECORD,))
    return Head.decode(sealer.open(point_id, "head", points[0].payload.get(RECORD))) if points else Head()


def _head_point(sealer: Sealer, head: Head) -> Point:
    point_id = sealer.point_id("head")
    return Point(point_id, {SUBJECT: HEAD, RECORD: sealer.seal(point_id, "head", head.encode())})


# ── after a crash ─────────────────────────────────────────────────────────────────────────────────


async def recover(engine: Engine) -> int:
    """Finish or undo what a killed writer left; how many things there were to do.

    Only for an index that this process alone writes to: what is staged is nobody's work in progress.
    """
    where = AnyOf(SUBJECT, (INTENT,))
    intents = [point async for point in scroll(engine, where, payload=(DOCUMENT, REVISION))]
    staged = AnyOf(SUBJECT, (STAGED,))
    dropped = await engine.index.count(engine.io, staged)
    if dropped:
        await engine.index.delete(engine.io, staged)
    for intent in intents:
        document, revision = str(intent.payload[DOCUMENT]), str(intent.payload[REVISION])
        kept = And((AnyOf(DOCUMENT, (document,)), AnyOf(REVISION, (revision,)), Not(AnyOf(SUBJECT, (INTENT,)))))
        if await engine.index.count(engine.io, kept):
            await _carry_out(engine, document, revision, intent.id)
        else:
            await engine.index.delete(engine.io, [intent.id])
    return len(intents) + dropped
