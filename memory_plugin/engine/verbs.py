"""The verbs of a store, written once; both stores forward to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from memory_plugin import ids
from memory_plugin.context import pack
from memory_plugin.engine import add as adding
from memory_plugin.engine import describe as describing
from memory_plugin.engine import manage
from memory_plugin.engine import request as requests
from memory_plugin.engine import rotate as rotating
from memory_plugin.engine import search as searching
from memory_plugin.engine.core import Engine
from memory_plugin.engine.entries import Items, entries
from memory_plugin.errors import InvalidInputError, StoreClosedError
from memory_plugin.filters import check
from memory_plugin.protocols import TokenCounter
from memory_plugin.tokens import counter
from memory_plugin.types import Added, Context, Document, Filter, Json, Metadata, Page, PointId, Record, Results, Scalar

MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx")


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
        )
        return await searching.search(self.engine, asked)

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
        source: str | None,
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

    async def verify(self) -> describing.Verified:
        """See ``MemoryStore.verify``."""
        return await describing.verify(self.engine)

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


def read_file(
    path: object, source: str | None, time: datetime | None, metadata: Metadata | None, limit: int
) -> Document:
    """A text file as a document: its path names it, its date is when it was written.

    Raises:
        InvalidInputError: There is no such file, it is too large, or it is not UTF-8 text.
    """
    if not isinstance(path, str | os.PathLike) or "\x00" in os.fspath(path):
        raise InvalidInputError(f"add_file takes the path of a file, not {path!r:.80}")
    path = Path(path)
    try:
        found = path.stat()
        if found.st_size > limit:
            raise InvalidInputError(f"{path} is {found.st_size:,} bytes long; at most {limit:,} are accepted")
        text = path.read_bytes().decode("utf-8-sig")
        modified = None if time is not None else datetime.fromtimestamp(found.st_mtime, UTC)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start}): convert it to text first") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (OverflowError, ValueError) as error:
        raise InvalidInputError(f"{path} was written at a time that no calendar has: give time=") from error
    if "\x00" in text:
        raise InvalidInputError(f"{path} holds NUL bytes: it is no text")
    return Document(
        text=text,
        source=source if source is not None else path.as_posix(),
        time=time,
        metadata=metadata if metadata is not None else {},
        markdown=path.suffix.lower() in MARKDOWN_SUFFIXES,
        modified=modified,
    )
