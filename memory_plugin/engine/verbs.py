"""The verbs of a store, written once; both stores forward to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from memory_plugin import ids
from memory_plugin.context import pack
from memory_plugin.engine import add as adding
from memory_plugin.engine import describe as describing
from memory_plugin.engine import manage, migration, transitions
from memory_plugin.engine import migrate as migrating
from memory_plugin.engine import request as requests
from memory_plugin.engine import rotate as rotating
from memory_plugin.engine import sources as naming
from memory_plugin.engine.core import Engine
from memory_plugin.engine.entries import Items, entries
from memory_plugin.engine.images import ImageLike, image_entry, require_images
from memory_plugin.engine.inputs import Questions, model_of, read_file, read_questions
from memory_plugin.engine.one_space import search_active
from memory_plugin.engine.usage import usage as used
from memory_plugin.errors import StoreClosedError
from memory_plugin.filters import check
from memory_plugin.protocols import AnyEmbedder, Embedder, TokenCounter
from memory_plugin.tokens import counter
from memory_plugin.types import (
    Added,
    Context,
    Filter,
    Json,
    Metadata,
    Numbers,
    Page,
    PointId,
    Quantization,
    Record,
    Results,
    Scalar,
    Usage,
)


class Verbs:
    """What a store can do, over an open engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        self._location = engine.index.location
        self._counters: dict[str, TokenCounter] = {}

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            StoreClosedError: The store was closed.
        """
        if self._engine is None:
            raise StoreClosedError(f"the store at {self._location} was closed: open it again")
        return self._engine

    async def add(
        self,
        items: Items,
        namespace: ids.NamespaceLike,
        *,
        source: str | None,
        time: datetime | None,
        metadata: Metadata | None,
        markdown: bool,
        local_only: bool,
        progress: adding.Progress | None,
        vector: Numbers | None = None,
    ) -> Added:
        """See ``MemoryStore.add``."""
        engine = self.engine
        where = ids.namespace(namespace)
        checked = await engine.io.call(
            entries,
            items,
            engine.settings,
            source=source,
            time=time,
            metadata=metadata,
            markdown=markdown,
            local_only=local_only,
            vector=vector,
            dimension=engine.manifest.spaces[engine.active.space].dimension,
        )
        return await adding.add(engine, checked, where, progress or adding.silent)

    async def add_file(
        self,
        path: str | os.PathLike[str],
        namespace: ids.NamespaceLike,
        *,
        source: str | None,
        time: datetime | None,
        metadata: Metadata | None,
        local_only: bool,
    ) -> Added:
        """See ``MemoryStore.add_file``."""
        document = await self.engine.io.call(
            read_file, path, source, time, metadata, self.engine.settings.max_text_bytes
        )
        return await self.add(
            document,
            namespace,
            source=None,
            time=None,
            metadata=None,
            markdown=False,
            local_only=local_only,
            progress=None,
        )

    async def add_image(
        self,
        image: ImageLike,
        namespace: ids.NamespaceLike,
        *,
        caption: str | None,
        source: str | None,
        time: datetime | None,
        metadata: Metadata | None,
        local_only: bool,
    ) -> Added:
        """See ``MemoryStore.add_image``."""
        engine = self.engine
        where = ids.namespace(namespace)
        require_images(engine.active)
        entry = await engine.io.call(
            image_entry,
            engine.active,
            image,
            engine.settings,
            caption=caption,
            source=source,
            time=time,
            metadata=metadata,
            local_only=local_only,
        )
        return await adding.add(engine, [entry], where)

    async def search(
        self,
        query: str,
        namespace: ids.NamespacesLike,
        *,
        limit: int,
        filter: Filter | None,
        legs: requests.Legs,
        rerank: requests.Rerank,
        per_document: int | None,
        neighbours: int,
        vector: Numbers | None = None,
        duplicates: bool = False,
    ) -> Results:
        """See ``MemoryStore.search``."""
        asked = requests.request(
            query,
            namespace,
            limit=limit,
            filter_=filter,
            legs=legs,
            rerank=rerank,
            per_document=per_document,
            neighbours=neighbours,
            vector=vector,
            duplicates=duplicates,
        )
        return await search_active(self.engine, asked)

    async def context(
        self,
        query: str,
        namespace: ids.NamespacesLike,
        *,
        max_tokens: int,
        limit: int,
        filter: Filter | None,
        neighbours: int,
        encoding: str,
        vector: Numbers | None = None,
    ) -> Context:
        """See ``MemoryStore.context``."""
        ids.whole(max_tokens, "max_tokens")
        ids.utf8(encoding, "encoding", limit=64)
        found = await self.search(
            query,
            namespace,
            limit=limit,
            filter=filter,
            legs="hybrid",
            rerank="full",
            per_document=None,
            neighbours=neighbours,
            vector=vector,
        )
        engine = self.engine
        count = self._counters.get(encoding)
        if count is None:
            count = await engine.io.call(counter, engine.private_pieces.count, encoding)
            self._counters[encoding] = count
        return await engine.io.call(pack, found.hits, max_tokens=max_tokens, count=count)

    async def get(self, id: PointId, namespace: ids.NamespaceLike) -> Record:
        """See ``MemoryStore.get``."""
        return await manage.get(self.engine, ids.namespace(namespace), id)

    async def get_sources(self, sources: Sequence[str], namespace: ids.NamespaceLike) -> dict[str, tuple[Record, ...]]:
        """See ``MemoryStore.get_sources``."""
        names = naming.names_of(sources)
        return await naming.get_sources(self.engine, ids.namespace(namespace), names)

    async def list(
        self,
        namespace: ids.NamespaceLike,
        *,
        filter: Filter | None,
        limit: int,
        after: str | None,
        newest_first: bool,
    ) -> Page:
        """See ``MemoryStore.list``."""
        where = ids.namespace(namespace)
        _check(filter)
        return await manage.list_(
            self.engine, where, filter_=filter, limit=limit, after=after, newest_first=newest_first
        )

    async def count(self, namespace: ids.NamespaceLike, *, filter: Filter | None) -> int:
        """See ``MemoryStore.count``."""
        _check(filter)
        return await manage.count(self.engine, ids.namespace(namespace), filter)

    async def facet(
        self,
        field: str,
        namespace: ids.NamespaceLike,
        *,
        filter: Filter | None,
        limit: int,
    ) -> dict[Scalar, int]:
        """See ``MemoryStore.facet``."""
        _check(filter)
        return await manage.facet(self.engine, ids.namespace(namespace), field, filter_=filter, limit=limit)

    async def delete(
        self,
        namespace: ids.NamespaceLike,
        ids_: PointId | Sequence[PointId] | None,
        *,
        source: str | Sequence[str] | None,
        filter: Filter | None,
        everything: bool,
    ) -> int:
        """See ``MemoryStore.delete``."""
        _check(filter)
        points = [ids_] if isinstance(ids_, str) else ids_
        return await manage.delete(
            self.engine, ids.namespace(namespace), points=points, source=source, filter_=filter, everything=everything
        )

    async def forget(self, namespace: ids.NamespaceLike) -> manage.Forgotten:
        """See ``MemoryStore.forget``."""
        return await manage.forget(self.engine, ids.namespace(namespace))

    async def rotate(self, namespace: ids.NamespaceLike) -> rotating.Rotated:
        """See ``MemoryStore.rotate``."""
        return await rotating.rotate(self.engine, ids.namespace(namespace))

    async def migrate(
        self,
        embedder: AnyEmbedder | str | None,
        *,
        questions: Questions | None,
        floor: float,
        rate: float | None,
        batch: int,
        progress: migration.Tell | None,
        dry_run: bool,
        force: bool,
        quantization: Quantization | None,
    ) -> migration.Migration:
        """See ``MemoryStore.migrate``."""
        engine = self.engine
        asked = await engine.io.call(read_questions, questions)
        plan = migrating.plan(asked, floor=floor, rate=rate, batch=batch, tell=progress, force=force)
        model = (
            None if embedder is None else await engine.io.call(model_of, embedder, allow_network=engine.allow_network)
        )
        return await migrating.run(engine, model, plan, quantization=quantization, dry_run=dry_run)

    async def rollback(
        self, embedder: AnyEmbedder | str | None, *, rate: float | None, batch: int
    ) -> migration.Migration:
        """See ``MemoryStore.rollback``."""
        engine = self.engine
        model = (
            None if embedder is None else await engine.io.call(model_of, embedder, allow_network=engine.allow_network)
        )
        return await migrating.rollback(engine, model, migrating.plan(rate=rate, batch=batch))

    async def _named(self, embedder: AnyEmbedder | str | None) -> Embedder | None:
        engine = self.engine
        if embedder is None:
            return None
        return await engine.io.call(model_of, embedder, allow_network=engine.allow_network)

    async def finish(self) -> int | None:
        """See ``MemoryStore.finish``."""
        return await self.engine.io.uninterrupted(transitions.drop_previous(self.engine))

    async def abandon(self) -> int | None:
        """See ``MemoryStore.abandon``."""
        return await self.engine.io.uninterrupted(transitions.drop_target(self.engine))

    async def migration(self) -> migration.Pending | None:
        """See ``MemoryStore.migration``."""
        return await transitions.pending(self.engine)

    async def verify(self, *, model: bool) -> describing.Verified:
        """See ``MemoryStore.verify``."""
        return await describing.verify(self.engine, model=model)

    async def usage(self) -> dict[str, Usage]:
        """See ``MemoryStore.usage``."""
        return used(self.engine)

    async def describe(self) -> dict[str, Json]:
        """See ``MemoryStore.describe``."""
        return await describing.describe(self.engine)

    async def close(self) -> None:
        """See ``MemoryStore.close``."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.io.uninterrupted(engine.index.close(engine.io))


def _check(filter_: Filter | None) -> None:
    if filter_ is not None:
        check(filter_)
