"""How a store is put together: names to providers, places to indexes, and where keys are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from memory_plugin import registry
from memory_plugin.crypto.kek import LocalKek
from memory_plugin.crypto.keyring import PLAINTEXT, FileKeyRing
from memory_plugin.engine.opening import Parts, new_store_id, open_engine
from memory_plugin.engine.verbs import Verbs
from memory_plugin.flow import IO
from memory_plugin.manifest import Manifest
from memory_plugin.protocols import Embedder, KeyRing, LateInteraction, Reranker, VectorIndex
from memory_plugin.settings import Settings

KeySource: TypeAlias = "KeyRing | Callable[[str], KeyRing] | str | os.PathLike[str] | None"
"""Where a store's keys are: a key ring; a function from the store's id to one; the path of a key file;
"environment" for a key file whose KEK is in MEMORY_PLUGIN_KEK; ``PLAINTEXT``; or None for the default file."""

LOCAL = "local"


class Assembly:
    """What both stores are made from, until the engine is open."""

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder | str,
        reranker: Reranker | str | None,
        late: LateInteraction | str | None,
        keyring: KeySource,
        settings: Settings | None,
    ) -> None:
        self._index = index
        self._embedder = registry.embedder(embedder) if isinstance(embedder, str) else embedder
        self._reranker = registry.reranker(reranker) if isinstance(reranker, str) else reranker
        self._late = registry.late_interaction(late) if isinstance(late, str) else late
        self._keyring = keyring
        self._settings = settings

    async def open(self, io: IO) -> Verbs:
        """Open the index, find the keys, make or check the collection."""
        try:
            found = await self._index.read_manifest(io)
            store = Manifest.from_json(found).store if found is not None else new_store_id()
            parts = Parts(
                index=self._index,
                embedder=self._embedder,
                late=self._late,
                reranker=self._reranker,
                pieces=registry.pieces(self._embedder),
                settings=self._settings,
                shares_tokens=registry.shares_tokens(self._embedder, self._late),
            )
            keyring = key_ring(self._keyring, store)
            return Verbs(await open_engine(io, parts, keyring, store, sealed=keyring is not PLAINTEXT))
        except BaseException:
            await self._index.close(io)
            raise


def key_ring(source: KeySource, store: str) -> KeyRing:
    """The key ring of a store.

    Args:
        source: See ``KeySource``.
        store: The store's id.
    """
    if source is None:
        return FileKeyRing(default_key_file(store), store_id=store)
    if source == "environment":
        return FileKeyRing(default_key_file(store), store_id=store, kek=LocalKek.from_environment())
    if isinstance(source, str | os.PathLike):
        return FileKeyRing(source, store_id=store)
    return source(store) if callable(source) else source


def default_key_file(store: str) -> Path:
    """Where a store's keys are unless told otherwise: the user's data directory, never the store's."""
    import platformdirs

    return Path(platformdirs.user_data_dir("memory-plugin", appauthor=False)) / "keys" / f"{store}.json"


def index_at(
    location: str | os.PathLike[str], *, asynchronous: bool, collection: str, api_key: str | None
) -> VectorIndex:
    """The index at a place: a directory for the embedded engine, an http(s) address for a server."""
    place = os.fspath(location)
    if place.startswith(("http://", "https://")):
        from qdrant_client import AsyncQdrantClient, QdrantClient

        from memory_plugin.index.server import ServerIndex

        make = AsyncQdrantClient if asynchronous else QdrantClient
        return ServerIndex(make(url=place, api_key=api_key), collection, owns_client=True)
    from memory_plugin.index.edge import EdgeIndex

    return EdgeIndex(place)
