"""The back-fill: memories that lack a vector of a space get one, while others read and write.

The filter is the to-do list, so what was cut off goes on where it was: what is done is not on the list any more.
A point is never made here, only given vectors: one that was deleted or replaced meanwhile stays so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from memory_plugin.engine.core import Engine, Model, pages
from memory_plugin.engine.overlong import embed_passages
from memory_plugin.engine.payload import DOCUMENT, RECORD, SUBJECT, open_record
from memory_plugin.engine.sealing import learned, placed, stored_vectors
from memory_plugin.engine.spaces import follow, lacking
from memory_plugin.errors import MigrationError, SealError
from memory_plugin.network import may_see
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, AnyOf, Embeddings, Filter, Point, PointId, Record

BATCH = 64
"""Memories embedded and written together."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A memory on the to-do list, opened.

    Args:
        point: As it was read.
        sealer: The keys of its subject.
        record: Its content.
    """

    point: Point
    sealer: Sealer
    record: Record


class Maker(Protocol):
    """Where new vectors come from."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Payload keys that it needs beside the record."""

    @property
    def made(self) -> int:
        """Texts embedded so far."""

    async def __call__(self, engine: Engine, model: Model, items: Sequence[Item], /) -> Embeddings:
        """One vector an item, as the model would make it."""


class Embedding:
    """New vectors from texts."""

    keys: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self, engine: Engine, model: Model, items: Sequence[Item], /) -> Embeddings:
        """Embed the passages as documents."""
        found = await embed_passages(engine, model, [item.record.passage for item in items])
        self.made += len(items)
        return found


class Pace:
    """Not more than so many memories a second.

    Args:
        rate: Memories a second; None: as fast as it goes.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._start = time.monotonic()
        self._done = 0

    async def wait(self, engine: Engine, number: int) -> None:
        """Wait until so many more are allowed."""
        self._done += number
        if self._rate is not None:
            ahead = self._start + self._done / self._rate - time.monotonic()
            if ahead > 0:
                await engine.io.sleep(ahead)


@dataclass(slots=True)
class Done:
    """What a back-fill did.

    Args:
        filled: Memories that got a vector.
        unreadable: Why a memory could not be opened, by point.
    """

    filled: int
    unreadable: dict[PointId, str]


def nothing(_filled: int) -> None:
    """Tell nobody."""


async def fill(
    engine: Engine,
    model: Model,
    make: Maker,
    *,
    where: Filter | None = None,
    batch: int = BATCH,
    pace: Pace | None = None,
    tell: Callable[[int], None] = nothing,
    images: bool = False,
) -> Done:
    """Give the model's vectors to memories that lack them, one pass over the list.

    Args:
        engine: The open store.
        model: Whose space.
        make: Where vectors come from.
        where: Only those of the list that match.
        batch: Memories at a time.
        pace: Holds it back.
        tell: Called with how many got one so far.
        images: Images in place of texts: for vectors that are made of stored ones.

    Raises:
        MigrationError: The space was given up meanwhile.
        EmbeddingError: The embedder failed; what was done stays done.
        IndexUnavailableError: Qdrant failed, likewise.
    """
    todo = lacking(engine, model.space, images=images)
    done = Done(0, {})
    keys = (SUBJECT, RECORD, *make.keys)
    async for page in pages(engine, todo if where is None else And((where, todo)), payload=keys, size=batch):
        opened = await open_page(engine, page, done.unreadable)
        items = visible(opened, model)
        items = [item for item in items if item.record.kind != "value" and (item.record.kind == "image") == images]
        hidden = "it is local only, or an image, or a value, and the mark that says so is gone"
        done.unreadable.update((item.point.id, hidden) for item in opened if item not in items)
        if items:
            made = await make(engine, model, items)
            done.filled += await engine.io.uninterrupted(_write(engine, model, items, made))
            if pace is not None:
                await pace.wait(engine, len(items))
            tell(done.filled)
    return done


def visible(items: Sequence[Item], *models: Model) -> list[Item]:
    """Those that the models may see: the sealed record says so, whatever the point's marks say."""
    return [
        item for item in items if all(may_see(model.embedder, local_only=item.record.local_only) for model in models)
    ]


async def open_page(engine: Engine, page: Sequence[Point], unreadable: dict[PointId, str]) -> list[Item]:
    """What of a page can be opened; a subject that was forgotten meanwhile has nothing left."""
    sealers: dict[str, Sealer | None] = {}
    for point in page:
        subject = str(point.payload.get(SUBJECT))
        if subject not in sealers:
            sealers[subject] = await engine.sealer_of(subject, create=False)
    return await engine.io.call(_open_all, page, sealers, unreadable)


def _open_all(
    page: Sequence[Point], sealers: Mapping[str, Sealer | None], unreadable: dict[PointId, str]
) -> list[Item]:
    items = []
    for point in page:
        sealer = sealers[str(point.payload.get(SUBJECT))]
        if sealer is None:
            unreadable[point.id] = "the key of its subject is gone"
            continue
        try:
            items.append(Item(point, sealer, open_record(sealer, point.id, point.payload)))
        except SealError as error:
            unreadable[point.id] = f"{type(error).__name__}: {error}"
    return items


async def _write(engine: Engine, model: Model, items: Sequence[Item], made: Embeddings) -> int:
    """Give vectors to those that are still what was embedded; how many."""
    async with engine.writing:
        await follow(engine)
        if model.space not in engine.manifest.spaces:
            raise MigrationError(f"the space of {model.name} was given up while it was being filled")
        now = await engine.index.fetch(engine.io, [item.point.id for item in items], payload=(SUBJECT, RECORD))
        # A key may have been rotated, or destroyed, while texts were embedded.
        subjects = {item.sealer.subject for item in items}
        keys = {subject: await engine.sealer_of(subject, create=False) for subject in subjects}
        points = await engine.io.call(_placed, engine, model, items, made, {point.id: point for point in now}, keys)
        if not points:
            return 0
        if any(point.vectors for point in points):
            await engine.index.update_vectors(engine.io, points)
        if any(point.payload for point in points):
            await engine.index.update_payloads(engine.io, points)
        for subject in subjects:
            engine.drop_vectors(subject)
    return len(points)


def _placed(
    engine: Engine,
    model: Model,
    items: Sequence[Item],
    made: Embeddings,
    now: Mapping[PointId, Point],
    keys: Mapping[str, Sealer | None],
) -> list[Point]:
    """The vectors as they are stored, each under its subject's keys as they are now."""
    by_subject: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        sealer = keys[item.sealer.subject]
        if sealer is not None and item.point.id in now and _same(item, sealer, now[item.point.id]):
            by_subject.setdefault(sealer.subject, []).append(place)
    points = []
    for subject, places in by_subject.items():
        sealer = keys[subject]
        assert sealer is not None
        rows = stored_vectors(engine, sealer, replace(made, vectors=made.vectors[places]))
        for row, place in zip(rows, places, strict=True):
            identity = items[place].point.id
            vectors, payload = placed(engine, sealer, model, identity, row)
            weights = made.terms[place] if made.terms is not None else None
            points.append(Point(identity, payload, {**vectors, **learned(engine, sealer, model, weights)}))
    return points


def _same(item: Item, sealer: Sealer, now: Point) -> bool:
    """Whether a point still holds what was embedded: it may have been sealed anew, or added again on another day."""
    if now.payload.get(SUBJECT) != item.point.payload.get(SUBJECT):
        return False
    if now.payload.get(RECORD) == item.point.payload.get(RECORD):
        return True
    try:
        return open_record(sealer, now.id, now.payload).passage == item.record.passage
    except SealError:
        return False  # it stays on the list, and the next pass says what is wrong with it


async def heal(engine: Engine, sealer: Sealer, documents: Sequence[str], made: Collection[str]) -> None:
    """After a write: fill in the vectors that it lacks because the store was switched to another model meanwhile.

    Args:
        engine: The open store.
        sealer: Of the subject that was written to.
        documents: Tags of what was written.
        made: Spaces that it was embedded for.
    """
    await follow(engine)
    active = engine.active
    if active.space not in made:
        written = And((AnyOf(SUBJECT, (sealer.subject,)), AnyOf(DOCUMENT, tuple(documents))))
        await fill(engine, active, Embedding(), where=written)
