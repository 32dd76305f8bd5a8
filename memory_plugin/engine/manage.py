"""Everything that is neither adding nor searching: get, list, count, facet, delete, forget."""

from __future__ import annotations

import base64
import heapq
import json
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from memory_plugin import ids
from memory_plugin.engine.core import Engine, pages
from memory_plugin.engine.payload import (
    DAY,
    DOCUMENT,
    PREFIXES,
    RECORD,
    SUBJECT,
    namespace_tag,
    open_record,
    require_inside,
)
from memory_plugin.engine.sources import names_of, tags_of
from memory_plugin.errors import (
    DecryptionError,
    InvalidInputError,
    KeyServiceError,
    MemoryNotFoundError,
    translate,
)
from memory_plugin.filters import MISSING, Blind, check, field_value, matcher, scalar_key
from memory_plugin.protocols import Sealer
from memory_plugin.types import (
    And,
    AnyOf,
    Filter,
    Namespace,
    Page,
    Point,
    PointId,
    Range,
    Record,
    Scalar,
)

_FOREVER = 2**31
DAY_MICROSECONDS = 86_400_000_000


# ── read ──────────────────────────────────────────────────────────────────────────────────────────


async def get(engine: Engine, namespace: Namespace, point: PointId) -> Record:
    """One memory.

    Raises:
        MemoryNotFoundError: None of that id in that namespace.
    """
    sealer = await engine.sealer(namespace, create=False)
    if sealer is not None and ids.is_point_id(point):
        points = await engine.index.fetch(engine.io, [point], payload=(SUBJECT, PREFIXES, RECORD))
        if points and _belongs(sealer, namespace, points[0]):
            record = open_record(sealer, points[0].id, points[0].payload)
            if record.namespace[: len(namespace)] == namespace:
                return record
    raise MemoryNotFoundError(f"no memory {point!r:.60} in namespace {namespace!r:.120}")


def _belongs(sealer: Sealer, namespace: Namespace, point: Point) -> bool:
    if point.payload.get(SUBJECT) != sealer.subject:
        return False
    prefixes = point.payload.get(PREFIXES) or []
    return len(namespace) == 1 or (isinstance(prefixes, list) and namespace_tag(sealer, namespace) in prefixes)


async def record_pages(
    engine: Engine, sealer: Sealer, namespace: Namespace, where: Blind, filter_: Filter | None
) -> AsyncIterator[list[Record]]:
    """Every memory that satisfies the filter, in no order, some at once.

    Raises:
        SealError: One does not open, or its tags were changed so that it appears where it does not belong.
    """
    async for page in pages(engine, where.filter, payload=(RECORD,)):
        yield await engine.io.call(_open_page, sealer, namespace, filter_, page)


def _open_page(sealer: Sealer, namespace: Namespace, filter_: Filter | None, page: Sequence[Point]) -> list[Record]:
    opened = [open_record(sealer, point.id, point.payload) for point in page]
    for record in opened:
        require_inside(record, (namespace,))
    return opened if filter_ is None else list(filter(matcher(filter_), opened))


async def list_(
    engine: Engine, namespace: Namespace, *, filter_: Filter | None, limit: int, after: str | None, newest_first: bool
) -> Page:
    """A page of memories in time order.

    Raises:
        InvalidInputError: ``limit`` or ``after`` is not valid.
    """
    ids.whole(limit, "limit")
    start = _cursor(after) if after is not None else None
    sealer = await engine.sealer(namespace, create=False)
    if sealer is None:
        return Page(())
    where = await engine.blind(sealer, namespace, filter_)
    sign = -1 if newest_first else 1
    found: list[Record] = []
    async for day in _days(engine, where, newest_first=newest_first):
        if start is not None and day is not None and sign * day < sign * (start[0] // DAY_MICROSECONDS):
            continue
        part = where if day is None else Blind(And((where.filter, Range(DAY, gte=day, lte=day))), where.exact)
        pages = record_pages(engine, sealer, namespace, part, filter_)
        found += await _first(engine, pages, start, limit + 1 - len(found), newest_first=newest_first)
        if len(found) > limit:
            break
    page = tuple(found[:limit])
    return Page(page, _encode_cursor(page[-1]) if len(found) > limit else None)


async def _first(
    engine: Engine, pages: AsyncIterator[list[Record]], start: _Order | None, number: int, *, newest_first: bool
) -> list[Record]:
    """The first so many records after a place in the order, in order.

    Of a long listing little more than what is returned is ever held: what is held, the collector walks through.
    """
    held: list[Record] = []
    async for page in pages:
        held += page
        if len(held) > 4 * number:
            held = await engine.io.call(_cut, held, start, number, newest_first=newest_first)
    return await engine.io.call(_cut, held, start, number, newest_first=newest_first)


def _cut(records: Iterable[Record], start: _Order | None, number: int, *, newest_first: bool) -> list[Record]:
    keyed = ((_time_order(record), record) for record in records)
    after = (
        (order, record)
        for order, record in keyed
        if start is None or (order < start if newest_first else order > start)
    )
    pick = heapq.nlargest if newest_first else heapq.nsmallest
    return [record for _, record in pick(number, after, key=itemgetter(0))]


_Order: TypeAlias = tuple[int, str, int, str]


def _time_order(record: Record) -> _Order:
    return ids.microseconds(record.time), record.document, record.index, record.id


async def _days(engine: Engine, where: Blind, *, newest_first: bool) -> AsyncIterator[int | None]:
    """Days that have memories, in order; a single None where days are sealed."""
    if engine.settings.time_index is None:
        yield None
        return
    found = await engine.index.facet(engine.io, DAY, where.filter, limit=_FOREVER)
    for day in sorted((int(day) for day, _ in found), reverse=newest_first):
        yield day


def _encode_cursor(record: Record) -> str:
    return base64.urlsafe_b64encode(json.dumps(_time_order(record)).encode()).decode()


def _cursor(text: object) -> _Order:
    try:
        time, document, index, point = json.loads(base64.urlsafe_b64decode(ids.utf8(text, "after", limit=1024)))
    except (ValueError, TypeError) as error:
        raise InvalidInputError("after is not the `next` of a page of this listing") from error
    if (type(time), type(document), type(index), type(point)) != (int, str, int, str):
        raise InvalidInputError("after is not the `next` of a page of this listing")
    return time, document, index, point


async def count(engine: Engine, namespace: Namespace, filter_: Filter | None) -> int:
    """How many memories (chunks) satisfy the filter, exactly."""
    sealer = await engine.sealer(namespace, create=False)
    if sealer is None:
        return 0
    where = await engine.blind(sealer, namespace, filter_)
    if where.exact:
        return await engine.index.count(engine.io, where.filter)
    return sum([len(page) async for page in record_pages(engine, sealer, namespace, where, filter_)])


async def facet(
    engine: Engine, namespace: Namespace, field: str, *, filter_: Filter | None, limit: int
) -> dict[Scalar, int]:
    """How many memories have each value of a field, most frequent first.

    A declared field is counted by Qdrant, another by opening every memory; the answer is the same.
    """
    check(AnyOf(field, ()))
    ids.whole(limit, "limit")
    sealer = await engine.sealer(namespace, create=False)
    if sealer is None:
        return {}
    where = await engine.blind(sealer, namespace, filter_)
    if field not in engine.settings.filterable or not where.exact:
        counts: Counter[str] = Counter()
        values: dict[str, Scalar] = {}
        async for page in record_pages(engine, sealer, namespace, where, filter_):
            for found in await engine.io.call(lambda page=page: [_scalars(one, field) for one in page]):  # type: ignore[misc]
                counts.update(found.keys())
                values.update(found)
        return {values[key]: number for key, number in counts.most_common(limit)}
    key = engine.field_key(field)
    tags = await engine.index.facet(engine.io, key, where.filter, limit=limit)
    counted: dict[Scalar, int] = {}
    for tag, number in tags:
        value = await _value(engine, sealer, namespace, field, And((where.filter, AnyOf(key, (tag,)))), str(tag))
        counted.update(dict.fromkeys(value, number))
    return counted


def _scalars(record: Record, field: str) -> dict[str, Scalar]:
    """The field's values by their keys."""
    value = field_value(record, field)
    if value is MISSING:
        return {}
    elements = value if isinstance(value, list) else [value]
    return {scalar_key(one): one for one in elements if one is None or isinstance(one, str | int | float | bool)}


async def _value(
    engine: Engine, sealer: Sealer, namespace: Namespace, field: str, where: Filter, tag: str
) -> tuple[Scalar, ...]:
    """What a tag stands for, read from one memory that has it; nothing when the last one was deleted meanwhile.

    Raises:
        SealError: The memory does not open, or the tag is not one of its own.
    """
    points, _ = await engine.index.scroll(engine.io, where, limit=1, payload=(RECORD,))
    if not points:
        return ()
    [record] = _open_page(sealer, namespace, None, points)
    for key, value in _scalars(record, field).items():
        if sealer.tag("field", field, key) == tag:
            return (value,)
    raise DecryptionError(f"point {points[0].id} has a tag of a value that is not its own")


# ── delete ────────────────────────────────────────────────────────────────────────────────────────


async def delete(
    engine: Engine,
    namespace: Namespace,
    *,
    points: Iterable[PointId] | None,
    source: str | Sequence[str] | None,
    filter_: Filter | None,
    everything: bool,
) -> int:
    """Delete memories of a namespace; how many chunks there were.

    Exactly one of the four says which.

    Raises:
        InvalidInputError: None of them or several.
    """
    if sum((points is not None, source is not None, filter_ is not None, bool(everything))) != 1:
        raise InvalidInputError("delete needs exactly one of: ids, source=, filter=, everything=True")
    if points is not None and not (isinstance(points, Iterable) and all(isinstance(point, str) for point in points)):
        raise InvalidInputError(f"ids is the id of a memory, or a list of several, not {points!r:.80}")
    names = names_of([source] if isinstance(source, str) else source) if source is not None else ()
    sealer = await engine.sealer(namespace, create=False)
    if sealer is None:
        return 0
    if points is not None:
        work = _delete_points(engine, sealer, namespace, points)
    elif source is not None:
        tags = await engine.io.call(tags_of, sealer, namespace, names)
        where = Blind(And((engine.scope(sealer, namespace), AnyOf(DOCUMENT, tuple(tags)))), exact=True)
        work = _delete_where(engine, sealer, namespace, where, None)
    else:
        where = await engine.blind(sealer, namespace, filter_)
        work = _delete_where(engine, sealer, namespace, where, filter_)
    return await engine.io.uninterrupted(_alone(engine, sealer, work))


async def _alone(engine: Engine, sealer: Sealer, work: Coroutine[Any, Any, int]) -> int:
    """Do it while nothing else of this store writes."""
    async with engine.writing:
        try:
            return await work
        finally:
            engine.drop_vectors(sealer.subject)


async def _delete_where(
    engine: Engine, sealer: Sealer, namespace: Namespace, where: Blind, filter_: Filter | None
) -> int:
    if where.exact:
        number = await engine.index.count(engine.io, where.filter)
        if number:
            await engine.index.delete(engine.io, where.filter)
        return number
    pages = record_pages(engine, sealer, namespace, where, filter_)
    found = [record.id async for page in pages for record in page]
    if found:
        await engine.index.delete(engine.io, found)
    return len(found)


async def _delete_points(engine: Engine, sealer: Sealer, namespace: Namespace, points: Iterable[PointId]) -> int:
    valid = [point for point in dict.fromkeys(points) if ids.is_point_id(point)]
    found = await engine.index.fetch(engine.io, valid, payload=(SUBJECT, PREFIXES))
    own = [point.id for point in found if _belongs(sealer, namespace, point)]
    if own:
        await engine.index.delete(engine.io, own)
    return len(own)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What ``forget`` did, in words for people.

    Args:
        memories: Chunks deleted.
        keys: Keys destroyed.
        gone: What nobody can read any more.
        remains: What is still on disk, and what it tells.
    """

    memories: int
    keys: int
    gone: tuple[str, ...]
    remains: tuple[str, ...]


async def forget(engine: Engine, namespace: Namespace) -> Forgotten:
    """Destroy a data subject's key, then delete its points.

    Raises:
        InvalidInputError: The namespace has more than one part: only the subject owns a key.
    """
    if len(namespace) != 1:
        raise InvalidInputError(
            f"forget destroys the key of a whole data subject: forget({namespace[0]!r:.60}); "
            "for a part of it use delete(namespace, everything=True)"
        )
    sealer = await engine.sealer(namespace, create=False)
    if sealer is None:
        return Forgotten(0, 0, ("There was nothing.",), ())
    return await engine.io.uninterrupted(_forget(engine, sealer, namespace))


async def _forget(engine: Engine, sealer: Sealer, namespace: Namespace) -> Forgotten:
    async with engine.writing:
        where = engine.scope(sealer, namespace)
        number = await engine.index.count(engine.io, where)
        with translate(KeyServiceError, provider=engine.keyring.location):
            keys = await engine.io.call(engine.keyring.destroy, sealer.subject)
        engine.drop_sealer(sealer.subject)
        await engine.index.delete(engine.io, where)
        await engine.index.delete(engine.io, [sealer.point_id("head")])
    return Forgotten(number, keys, *_report(engine, keys))


def _report(engine: Engine, keys: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not keys:
        return (
            ("The points are deleted: no search, list or count finds them.",),
            ("This store is PLAINTEXT: Qdrant's files keep deleted texts until it rewrites them.",),
        )
    vectors = engine.settings.vectors
    sealed = (
        "Texts, metadata, sources, names and token vectors: the key that opens them is destroyed, in Qdrant's "
        "files, its write-ahead log and backups of them alike."
    )
    gone = (sealed, "The points are deleted: no search, list or count finds them.")
    remains = {
        "rotated": "Rotated vectors and keyed term ids stay in Qdrant's files until it rewrites them.",
        "plain": "PLAIN vectors stay in Qdrant's files until it rewrites them: most short texts can be guessed.",
        "sealed": "Keyed term ids stay in Qdrant's files until it rewrites them.",
    }
    backup = f"A copy made before now of the key ring still opens old copies of the store: {engine.keyring.location}"
    return gone, (remains[vectors], backup)
