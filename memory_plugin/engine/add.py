"""add:  Document ─chunk→ [Chunk] ─embed→ Vectors ─seal→ [Point] ─upsert→ Qdrant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from memory_plugin.engine.backfill import heal
from memory_plugin.engine.commit import NOTHING, Found, commit, existing, show
from memory_plugin.engine.commit import head as head_of
from memory_plugin.engine.core import Engine, scroll
from memory_plugin.engine.encode import encode
from memory_plugin.engine.entries import Entry
from memory_plugin.engine.payload import DOCUMENT, RECORD, REVISION, STAGED, SUBJECT, open_record
from memory_plugin.engine.sealing import Cut, Work, by_document, finish, lengths, point_ids, seal
from memory_plugin.engine.spaces import fitting, follow, lacking
from memory_plugin.engine.usage import Bill
from memory_plugin.errors import InvalidInputError
from memory_plugin.protocols import Sealer
from memory_plugin.types import Added, And, AnyOf, Namespace, Point, PointId

Progress = Callable[[int, int], None]
"""Called with documents done and documents given."""


def silent(done: int, of: int) -> None:
    """No progress shown."""


async def add(engine: Engine, items: Sequence[Entry], namespace: Namespace, progress: Progress = silent) -> Added:
    """Remember the entries; durable on return.

    Raises:
        EmbeddingError: The embedder failed; documents before it are kept, it is not.
        IndexUnavailableError: Qdrant failed.
    """
    if not items:
        return Added()
    await follow(engine)
    sealer = await engine.sealer(namespace, create=True)
    assert sealer is not None
    works = await engine.io.call(_places, engine, sealer, namespace, items)
    # Of several texts under one name the last counts.
    last = {work.document: work for work in works}
    found = await existing(engine, sealer, list(last))
    bare = await _bare_images(engine, last.values())
    todo, ids = await engine.io.call(_compared, sealer, last.values(), found, bare)
    replaced = len({work.document for work in todo} & set(found))
    written = done = 0
    bill = Bill()
    progress(len(last) - len(todo), len(last))
    async for batch in _batches(engine, todo):
        made = await _write(engine, sealer, namespace, batch, bill)
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
        billed_tokens=bill.tokens,
        cost=bill.cost,
    )


def _places(engine: Engine, sealer: Sealer, namespace: Namespace, items: Sequence[Entry]) -> list[Work]:
    for entry in items:
        _require_one_vector(engine, entry)
    return [
        Work(
            entry,
            sealer.tag("document", *namespace, *entry.identity()),
            sealer.tag("revision", entry.revision(engine.settings.chunk_tokens)),
        )
        for entry in items
    ]


def _compared(
    sealer: Sealer, works: Iterable[Work], found: Mapping[str, Found], bare: Container[str]
) -> tuple[list[Work], dict[str, list[PointId]]]:
    """What has to be written, and the points of what is there."""
    todo, ids = [], {}
    for work in works:
        known = found.get(work.document, NOTHING)
        if work.document in bare or not known.has(work.revision):
            todo.append(work)
        else:
            ids[work.document] = point_ids(sealer, work, known.expected[work.revision])
    return todo, ids


async def _bare_images(engine: Engine, works: Iterable[Work]) -> set[str]:
    """Images that are there without a vector of the model that is searched: added again, they get one."""
    images = tuple(work.document for work in works if work.entry.image is not None)
    if not images:
        return set()
    where = And((lacking(engine, engine.active.space, images=True), AnyOf(DOCUMENT, images)))
    return {str(point.payload[DOCUMENT]) async for point in scroll(engine, where, payload=(DOCUMENT,))}


def _require_one_vector(engine: Engine, entry: Entry) -> None:
    """Refuse what cannot have its one vector, before anything is written.

    Raises:
        InvalidInputError: It has one and is too long for one passage, or the store makes none and it has none.
    """
    model = engine.active
    if entry.whole:
        entry.chunks(engine.private_pieces, engine.clock(), max_tokens=engine.settings.chunk_tokens)
    elif entry.text and not getattr(model.embedder, "embeds", True):
        raise InvalidInputError(
            f"this store takes vectors that are given ({model.name}) and makes none: add each text with its own, "
            "Document(text, vector=…) or add(text, namespace, vector=…); nothing was written"
        )


async def _batches(engine: Engine, works: Sequence[Work]) -> AsyncIterator[list[Cut]]:
    """Documents cut into passages and gathered into batches worth one call of the embedder."""
    batch: list[Cut] = []
    size = 0
    for work in works:
        cut = await engine.io.call(_cut, engine, work)
        if _staged(engine, cut):
            yield [cut]
            continue
        batch.append(cut)
        size += cut.total
        if size >= engine.settings.batch:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cut(engine: Engine, work: Work) -> Cut:
    now = engine.clock()
    pieces = engine.private_pieces if work.entry.local_only or work.entry.whole else engine.pieces
    chunks = work.entry.chunks(pieces, now, max_tokens=engine.settings.chunk_tokens)
    value = work.entry.value is not None
    return Cut(work, chunks, work.entry.time or work.entry.modified or now, len(chunks) + value, value)


def _staged(engine: Engine, cut: Cut) -> bool:
    """Whether it is too long for one upsert."""
    return len(cut.chunks) > engine.settings.staging


async def _write(
    engine: Engine, sealer: Sealer, namespace: Namespace, batch: list[Cut], bill: Bill
) -> dict[str, list[PointId]]:
    """Embed, seal and upsert a batch; the points of each document."""
    if _staged(engine, batch[0]):
        return await _write_staged(engine, sealer, namespace, batch[0], bill)
    encoded = await encode(engine, batch)
    bill.add(encoded.parts)
    drafts = await engine.io.call(seal, engine, sealer, namespace, batch, encoded)
    await engine.io.uninterrupted(commit(engine, sealer, batch, drafts))
    await heal(engine, sealer, [cut.work.document for cut in batch], encoded.spaces)
    return by_document(drafts)


async def _write_staged(
    engine: Engine, sealer: Sealer, namespace: Namespace, cut: Cut, bill: Bill
) -> dict[str, list[PointId]]:
    """Write a long document out of sight, then show it in one step."""
    work = cut.work
    staged = And((AnyOf(SUBJECT, (STAGED,)), AnyOf(DOCUMENT, (work.document,)), AnyOf(REVISION, (work.revision,))))
    sizes: list[int] = []
    ids = point_ids(sealer, work, cut.total)
    async with engine.staging:
        found = (await existing(engine, sealer, [work.document])).get(work.document, NOTHING)
        if found.has(work.revision):
            return {work.document: ids}
        # What can be seen of this revision stays as it is, whatever happens to the rest.
        seen = set(found.revisions.get(work.revision, ()))
        hidden = replace(
            cut,
            chunks=[chunk for chunk in cut.chunks if ids[chunk.index] not in seen],
            value=cut.value and ids[-1] not in seen,
        )
        when = cut.time if work.entry.time is not None or not seen else await _time_of(engine, sealer, min(seen))
        spaces = {model.space for model in (engine.active, engine.other) if model is not None}
        try:
            for part in _parts(hidden, engine.settings.batch, when):
                encoded = await encode(engine, [part])
                bill.add(encoded.parts)
                drafts = await engine.io.call(seal, engine, sealer, namespace, [part], encoded)
                sizes += lengths(drafts)
                head = (await head_of(engine, sealer)).grown(sizes)
                points = await engine.io.call(finish, engine, sealer, drafts, head)
                spaces &= encoded.spaces
                await follow(engine)
                unseen = await engine.io.call(_unseen, engine, points)
                await engine.io.uninterrupted(engine.index.upsert(engine.io, unseen))
            await engine.io.uninterrupted(show(engine, sealer, work, staged, sizes))
        except BaseException:
            await engine.io.uninterrupted(engine.index.delete(engine.io, staged))
            raise
        await heal(engine, sealer, [work.document], spaces)
    return {work.document: ids}


def _unseen(engine: Engine, points: Sequence[Point]) -> list[Point]:
    fits = [fitting(engine, point) for point in points]
    return [replace(point, payload={**point.payload, SUBJECT: STAGED}) for point in fits]


def _parts(cut: Cut, size: int, when: datetime) -> Iterator[Cut]:
    """The passages some at a time; the value with the last of them."""
    starts = range(0, max(len(cut.chunks), int(cut.value)), size)
    for start in starts:
        last = start == starts[-1]
        yield replace(cut, chunks=cut.chunks[start : start + size], time=when, value=cut.value and last)


async def _time_of(engine: Engine, sealer: Sealer, point: PointId) -> datetime:
    """When a document without a time of its own was added: all its passages have the same."""
    found = await engine.index.fetch(engine.io, [point], payload=(RECORD,))
    return open_record(sealer, point, found[0].payload).time if found else engine.clock()
