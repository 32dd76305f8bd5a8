"""Reading items from a memory store, and writing them: written once for both stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from memory_plugin import AsyncMemoryStore, MemoryStore, time_range
from memory_plugin.adapters.langgraph.items import (
    Kept,
    Place,
    after,
    document,
    expiring,
    expiry,
    expiry_of,
    items_of,
    kept,
    source_of,
    text_of,
)
from memory_plugin.flow import IO
from memory_plugin.types import Document, Namespace, Page, Record

_SOME = 1024
"""Expired items that are deleted at a time."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class Put:
    """What is to be put.

    Args:
        namespace: Ours.
        key: LangGraph's.
        value: Or None to delete.
        paths: What it is to be found by; none for nothing.
        ttl: Minutes, or None.
    """

    namespace: Namespace
    key: str
    value: Mapping[str, Any] | None = field(repr=False)
    paths: tuple[str, ...]
    ttl: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """A memory store with items in it.

    Args:
        store: Either store.
        place: Where the items lie.
        omit_expired: Whether what has expired and is not swept yet is left out.
        clock: The time.
    """

    store: MemoryStore | AsyncMemoryStore
    place: Place
    omit_expired: bool = True
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    # ── read ──────────────────────────────────────────────────────────────────────────────────────

    async def get(self, io: IO, wanted: Mapping[Namespace, Iterable[str]]) -> dict[tuple[Namespace, str], Kept]:
        """Items by their keys, those that have not expired: one request a namespace, two where items expire."""
        found: list[Kept] = []
        for namespace, keys in wanted.items():
            found += await self._items(io, keys, namespace)
        living = await self.living(io, found)
        return await io.call(lambda: {one.place: one for one in living})

    async def living(self, io: IO, items: Sequence[Kept]) -> list[Kept]:
        """The items with when they expire, without those that have."""
        told = await self.expiring(io, items)
        if not self.omit_expired:
            return list(told)
        now = self.clock()
        return await io.call(lambda: [one for one in told if not one.gone(now)])

    async def expiring(self, io: IO, items: Sequence[Kept]) -> Sequence[Kept]:
        """The items with when they expire."""
        told: dict[Namespace, Mapping[str, Sequence[Record]]] = {}
        for namespace, some in (await io.call(_lasting, items)).items():
            told[namespace] = await self._sources(io, some, expiry_of(namespace))
        return await io.call(_told, items, told) if told else items

    async def _sources(self, io: IO, keys: Iterable[str], namespace: Namespace) -> dict[str, tuple[Record, ...]]:
        get_sources: Any = self.store.get_sources  # of either store
        sources = await io.call(lambda: [source_of(key) for key in keys])
        found: dict[str, tuple[Record, ...]] = await io.call(get_sources, sources, namespace)
        return found

    async def _items(self, io: IO, keys: Iterable[str], namespace: Namespace) -> list[Kept]:
        records = await self._sources(io, keys, namespace)
        return await io.call(lambda: [one for one in map(kept, records.values()) if one is not None])

    # ── write ─────────────────────────────────────────────────────────────────────────────────────

    async def put(self, io: IO, puts: Sequence[Put]) -> None:
        """Write and delete; of a namespace, all that is written at once."""
        delete: Any = self.store.delete  # of either store
        for namespace, some in by_namespace(puts).items():
            writes = [one for one in some if one.value is not None]
            deletes = [one.key for one in some if one.value is None]
            if writes:
                await self._write(io, namespace, writes)
            if deletes:
                sources = [source_of(key) for key in deletes]
                await io.call(delete, namespace, source=sources)
                await io.call(delete, expiry_of(namespace), source=sources)

    async def _write(self, io: IO, namespace: Namespace, puts: Sequence[Put]) -> None:
        add: Any = self.store.add  # of either store
        before = await self.get(io, {namespace: [one.key for one in puts]})
        documents, expiries = await io.call(self._documents, puts, before)
        if expiries:
            # First: an item whose time to live nobody knows of would stay for ever.
            await io.call(add, expiries, expiry_of(namespace))
        await io.call(add, documents, namespace)

    def _documents(
        self, puts: Sequence[Put], before: Mapping[tuple[Namespace, str], Kept]
    ) -> tuple[list[Document], list[Document]]:
        now = self.clock()
        documents, expiries = [], []
        for one in puts:
            assert one.value is not None
            old = before.get((one.namespace, one.key))
            updated = now if old is None else max(now, old.updated + _TICK)
            created = updated if old is None else old.created
            text = text_of(one.value, one.paths)
            documents.append(document(one.key, one.value, text, created=created, updated=updated, ttl=one.ttl))
            if one.ttl is not None:
                expiries.append(expiry(one.key, updated, after(updated, one.ttl)))
        return documents, expiries

    async def refresh(self, io: IO, items: Iterable[Kept]) -> None:
        """Put off when items expire: they were used."""
        add: Any = self.store.add  # of either store
        now = self.clock()
        for namespace, some in by_namespace(one for one in items if one.ttl is not None).items():
            later = {one.key: expiry(one.key, one.updated, after(now, one.ttl or 0.0)) for one in some}
            await io.call(add, list(later.values()), expiry_of(namespace))

    async def sweep(self, io: IO, base: Namespace) -> int:
        """Delete what has expired in a namespace and those below it; how many items."""
        list_: Any = self.store.list  # of either store
        delete: Any = self.store.delete
        swept = 0
        while True:
            now = self.clock()
            due: Page = await io.call(list_, expiry_of(base), filter=time_range(until=now), limit=_SOME)
            for namespace, told in by_namespace(due.records).items():
                keys = [str(record.value["key"]) for record in told if isinstance(record.value, dict)]
                items = await self._items(io, keys, items_of(namespace))
                gone = [one for one in await self.expiring(io, items) if one.gone(now)]
                # By the points that were seen: what was put meanwhile has others.
                points = [point for one in gone for point in one.ids]
                if points:
                    await io.call(delete, items_of(namespace), points)
                await io.call(delete, namespace, [record.id for record in told])
                swept += len(gone)
            if due.next is None:
                return swept


def _lasting(items: Iterable[Kept]) -> dict[Namespace, list[str]]:
    """Keys of the items that expire, by their namespaces."""
    lasting = by_namespace(one for one in items if one.ttl is not None)
    return {namespace: [one.key for one in some] for namespace, some in lasting.items()}


def _told(items: Iterable[Kept], told: Mapping[Namespace, Mapping[str, Sequence[Record]]]) -> list[Kept]:
    """The items, those that expire with what was told of them."""
    return [one if one.ttl is None else expiring(one, told[one.namespace].get(source_of(one.key), ())) for one in items]


def by_namespace(some: Iterable[Any]) -> dict[Namespace, list[Any]]:
    """What has a namespace, by that."""
    found: dict[Namespace, list[Any]] = {}
    for one in some:
        found.setdefault(one.namespace, []).append(one)
    return found
