"""Records by the names that their documents were given: one request, however large the store is.

A document's tag is a keyed hash of namespace and name, so names are looked up, never searched for.  While a document
is being replaced both of its revisions are there (see ``commit``); a reader gets one of them, whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from memory_plugin import ids
from memory_plugin.engine.core import Engine, pages
from memory_plugin.engine.payload import DOCUMENT, INTENT, RECORD, REVISION, SUBJECT, open_record
from memory_plugin.errors import DecryptionError, InvalidInputError
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, AnyOf, Filter, Namespace, Point, Record

NAMES = 1024
"""Names that are asked for in one request."""

_PAGE = 512
"""Records that are read at once: the engine makes objects of them while nothing else of the process runs."""
_PAUSES = (0.0, 0.002, 0.01, 0.05)
"""Seconds to wait before a document is read again that was seen in the middle of a change."""


def names_of(sources: object) -> tuple[str, ...]:
    """The names, checked, each once.

    Raises:
        InvalidInputError: They are no list of texts, or one is too long for a name.
    """
    if isinstance(sources, str) or not isinstance(sources, Iterable):
        raise InvalidInputError(f"sources are a list of names, not {type(sources).__name__}")
    names = tuple(dict.fromkeys(sources))
    for name in names:
        ids.utf8(name, "source", limit=ids.MAX_SOURCE_BYTES)
    return names


def tags_of(sealer: Sealer, namespace: Namespace, names: Sequence[str]) -> dict[str, str]:
    """The names by the tags of their documents."""
    return {sealer.tag("document", *namespace, "source", name): name for name in names}


async def get_sources(engine: Engine, namespace: Namespace, names: Sequence[str]) -> dict[str, tuple[Record, ...]]:
    """The records of each name that is there, chunks in order, the value last.

    Raises:
        SealError: One does not open, or was moved here from another place.
    """
    sealer = await engine.sealer(namespace, create=False)
    if sealer is None:
        return {}
    tags = await engine.io.call(tags_of, sealer, namespace, names)
    found: dict[str, tuple[Record, ...]] = {}
    listed = list(tags)
    for start in range(0, len(listed), NAMES):
        part = {tag: tags[tag] for tag in listed[start : start + NAMES]}
        found |= await _read(engine, sealer, namespace, part)
    return {name: found[name] for name in names if name in found}


@dataclass(slots=True)
class _Seen:
    """What was read of a document.

    Args:
        revisions: Its records by revision.
        intended: Revisions that somebody is replacing the others by.
    """

    revisions: dict[str, list[Record]] = field(default_factory=dict)
    intended: set[str] = field(default_factory=set)

    def whole(self) -> str | None:
        """The revision to give: whole, and if several are, the one that is to stay; None where that is not clear."""
        whole = {name for name, records in self.revisions.items() if len(records) == records[0].chunks}
        clear = whole & self.intended or whole
        return next(iter(clear)) if len(clear) == 1 else None

    def best(self) -> str:
        """The same where it stays unclear, as when single chunks were deleted: what there is most of, the newest."""
        order = {
            name: (name in self.intended, len(records) / records[0].chunks, records[0].time, name)
            for name, records in self.revisions.items()
        }
        return max(order, key=lambda name: order[name])

    def points(self) -> set[str]:
        """What it consists of."""
        return {record.id for records in self.revisions.values() for record in records}


async def _read(
    engine: Engine, sealer: Sealer, namespace: Namespace, tags: Mapping[str, str]
) -> dict[str, tuple[Record, ...]]:
    """Documents by their tags; again those that were being replaced or deleted meanwhile."""
    found: dict[str, tuple[Record, ...]] = {}
    before: dict[str, _Seen] = {}
    for pause in _PAUSES:
        if pause:
            await engine.io.sleep(pause)
        where = And((AnyOf(SUBJECT, (sealer.subject, INTENT)), AnyOf(DOCUMENT, tuple(tags))))
        seen = await _seen(engine, sealer, namespace, tags, where)
        unclear = {}
        for tag, one in seen.items():
            same = tag in before and before[tag].points() == one.points() and not one.intended
            revision = one.whole() or (one.best() if same or pause == _PAUSES[-1] else None)
            if revision is None:
                unclear[tag] = tags[tag]
            else:
                found[tags[tag]] = tuple(sorted(one.revisions[revision], key=lambda record: record.index))
        if not unclear:
            break
        tags, before = unclear, seen
    return found


async def _seen(
    engine: Engine, sealer: Sealer, namespace: Namespace, tags: Mapping[str, str], where: Filter
) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    async for page in pages(engine, where, payload=(SUBJECT, DOCUMENT, REVISION, RECORD), size=_PAGE):
        await engine.io.call(_open_page, sealer, namespace, tags, page, seen)
    return {tag: one for tag, one in seen.items() if one.revisions}


def _open_page(
    sealer: Sealer, namespace: Namespace, tags: Mapping[str, str], page: Sequence[Point], seen: dict[str, _Seen]
) -> None:
    for point in page:
        tag, revision = str(point.payload.get(DOCUMENT)), str(point.payload.get(REVISION))
        one = seen.setdefault(tag, _Seen())
        if point.payload.get(SUBJECT) == INTENT:
            one.intended.add(revision)
            continue
        record = open_record(sealer, point.id, point.payload)
        # Qdrant says what is found under which name; what opened has to say the same.
        own = record.namespace == namespace and record.document == tag and record.source == tags.get(tag)
        if not own or point.id != sealer.point_id(tag, revision, str(record.index)):
            raise DecryptionError(f"point {point.id} was found under a name that it does not have")
        one.revisions.setdefault(revision, []).append(record)
