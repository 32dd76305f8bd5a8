"""``AsyncMemoryStore``: one line a verb over the same engine, on an event loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from memory_plugin import ids
from memory_plugin.assembly import AUTO, LOCAL, Assembly, KeySource, index_at
from memory_plugin.engine.add import Progress
from memory_plugin.engine.entries import Items
from memory_plugin.engine.images import ImageLike
from memory_plugin.engine.request import Legs, Rerank
from memory_plugin.engine.verbs import Verbs
from memory_plugin.errors import StoreClosedError
from memory_plugin.flow import OnLoop
from memory_plugin.protocols import AnyEmbedder, LateInteraction, Reranker, VectorIndex
from memory_plugin.settings import Settings
from memory_plugin.tokens import DEFAULT_ENCODING
from memory_plugin.types import (
    Added,
    Context,
    Filter,
    Metadata,
    Numbers,
    Page,
    PointId,
    Record,
    Results,
    Scalar,
)
from memory_plugin.upkeep import AsyncUpkeep


class AsyncMemoryStore(AsyncUpkeep):
    """``MemoryStore`` on an event loop: the same verbs, awaited; opens at ``async with`` or its first verb.

    No verb computes on the loop's thread.  Make the first one of a process before the loop serves anybody: that imports
    the engine, some 60 ms.

    Args:
        index: See ``MemoryStore``.
        embedder: See ``MemoryStore``.
        reranker: See ``MemoryStore``.
        late: See ``MemoryStore``.
        keyring: See ``MemoryStore``.
        settings: See ``MemoryStore``.
        successor: See ``MemoryStore``.
        allow_network: See ``MemoryStore``.
    """

    def __init__(
        self,
        index: VectorIndex,
        embedder: AnyEmbedder | str = LOCAL,
        *,
        reranker: Reranker | str | None = LOCAL,
        late: LateInteraction | str | None = AUTO,
        keyring: KeySource = None,
        settings: Settings | None = None,
        successor: AnyEmbedder | str | None = None,
        allow_network: bool = True,
    ) -> None:
        self._io = OnLoop()
        self._opening = Assembly(
            index, embedder, reranker, late, keyring, settings, successor, allow_network=allow_network
        )
        self._opened: Verbs | None = None
        self._once = self._io.lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str],
        *,
        embedder: AnyEmbedder | str = LOCAL,
        reranker: Reranker | str | None = LOCAL,
        late: LateInteraction | str | None = AUTO,
        keyring: KeySource = None,
        settings: Settings | None = None,
        successor: AnyEmbedder | str | None = None,
        allow_network: bool = True,
        collection: str = "memory",
        api_key: str | None = None,
    ) -> Self:
        """See ``MemoryStore.open``; nothing is touched before ``async with`` or the first verb."""
        index = index_at(
            location, asynchronous=True, collection=collection, api_key=api_key, allow_network=allow_network
        )
        return cls(
            index,
            embedder,
            reranker=reranker,
            late=late,
            keyring=keyring,
            settings=settings,
            successor=successor,
            allow_network=allow_network,
        )

    async def _verbs(self) -> Verbs:
        if self._opened is None:
            async with self._once:
                if self._closed:
                    raise StoreClosedError("the store was closed: open it again")
                if self._opened is None:
                    await self._io.uninterrupted(self._open())
        assert self._opened is not None
        return self._opened

    async def _open(self) -> None:
        self._opened = await self._opening.open(self._io)

    async def add(
        self,
        items: Items,
        namespace: ids.NamespaceLike,
        *,
        source: str | None = None,
        time: datetime | None = None,
        metadata: Metadata | None = None,
        markdown: bool = False,
        local_only: bool = False,
        vector: Numbers | None = None,
        progress: Progress | None = None,
    ) -> Added:
        """See ``MemoryStore.add``."""
        return await (await self._verbs()).add(
            items,
            namespace,
            source=source,
            time=time,
            metadata=metadata,
            markdown=markdown,
            local_only=local_only,
            vector=vector,
            progress=progress,
        )

    async def add_file(
        self,
        path: str | os.PathLike[str],
        namespace: ids.NamespaceLike,
        *,
        source: str | None = None,
        time: datetime | None = None,
        metadata: Metadata | None = None,
        local_only: bool = False,
    ) -> Added:
        """See ``MemoryStore.add_file``."""
        return await (await self._verbs()).add_file(
            path, namespace, source=source, time=time, metadata=metadata, local_only=local_only
        )

    async def add_image(
        self,
        image: ImageLike,
        namespace: ids.NamespaceLike,
        *,
        caption: str | None = None,
        source: str | None = None,
        time: datetime | None = None,
        metadata: Metadata | None = None,
        local_only: bool = False,
    ) -> Added:
        """See ``MemoryStore.add_image``."""
        return await (await self._verbs()).add_image(
            image, namespace, caption=caption, source=source, time=time, metadata=metadata, local_only=local_only
        )

    async def search(
        self,
        query: str,
        namespace: ids.NamespacesLike,
        *,
        limit: int = 10,
        filter: Filter | None = None,
        legs: Legs = "hybrid",
        rerank: Rerank = "full",
        per_document: int | None = None,
        neighbours: int = 0,
        vector: Numbers | None = None,
        duplicates: bool = False,
    ) -> Results:
        """See ``MemoryStore.search``."""
        return await (await self._verbs()).search(
            query,
            namespace,
            limit=limit,
            filter=filter,
            legs=legs,
            rerank=rerank,
            per_document=per_document,
            neighbours=neighbours,
            vector=vector,
            duplicates=duplicates,
        )

    async def context(
        self,
        query: str,
        namespace: ids.NamespacesLike,
        *,
        max_tokens: int = 1000,
        limit: int = 20,
        filter: Filter | None = None,
        neighbours: int = 0,
        encoding: str = DEFAULT_ENCODING,
        vector: Numbers | None = None,
    ) -> Context:
        """See ``MemoryStore.context``."""
        return await (await self._verbs()).context(
            query,
            namespace,
            max_tokens=max_tokens,
            limit=limit,
            filter=filter,
            neighbours=neighbours,
            encoding=encoding,
            vector=vector,
        )

    async def get(self, id: PointId, namespace: ids.NamespaceLike) -> Record:
        """See ``MemoryStore.get``."""
        return await (await self._verbs()).get(id, namespace)

    async def get_sources(self, sources: Sequence[str], namespace: ids.NamespaceLike) -> dict[str, tuple[Record, ...]]:
        """See ``MemoryStore.get_sources``."""
        return await (await self._verbs()).get_sources(sources, namespace)

    async def list(
        self,
        namespace: ids.NamespaceLike,
        *,
        filter: Filter | None = None,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = False,
    ) -> Page:
        """See ``MemoryStore.list``."""
        return await (await self._verbs()).list(
            namespace, filter=filter, limit=limit, after=after, newest_first=newest_first
        )

    async def count(self, namespace: ids.NamespaceLike, *, filter: Filter | None = None) -> int:
        """See ``MemoryStore.count``."""
        return await (await self._verbs()).count(namespace, filter=filter)

    async def facet(
        self,
        field: str,
        namespace: ids.NamespaceLike,
        *,
        filter: Filter | None = None,
        limit: int = 100,
    ) -> dict[Scalar, int]:
        """See ``MemoryStore.facet``."""
        return await (await self._verbs()).facet(field, namespace, filter=filter, limit=limit)

    async def close(self) -> None:
        """See ``MemoryStore.close``."""
        async with self._once:  # not while it is being opened
            self._closed = True
            if self._opened is not None:
                await self._opened.close()

    async def __aenter__(self) -> Self:
        await self._verbs()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
