"""How a store is put together: names to providers, places to indexes, and where keys are."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit

from memory_plugin import registry
from memory_plugin.crypto.kek import LocalKek
from memory_plugin.crypto.keyring import PLAINTEXT, FileKeyRing
from memory_plugin.engine.opening import Parts, new_store_id, open_engine
from memory_plugin.engine.verbs import Verbs
from memory_plugin.errors import ConfigurationError, InvalidInputError, MemoryPluginError, NetworkForbiddenError
from memory_plugin.flow import IO
from memory_plugin.manifest import Manifest
from memory_plugin.network import is_loopback, require_local
from memory_plugin.protocols import AnyEmbedder, Embedder, KeyRing, LateInteraction, Reranker, VectorIndex
from memory_plugin.settings import Settings

KeySource: TypeAlias = "KeyRing | Callable[[str], KeyRing] | str | os.PathLike[str] | None"
"""Where a store's keys are: a key ring; a function from the store's id to one; the path of a key file;
"environment" for a key file whose KEK is in MEMORY_PLUGIN_KEK; ``PLAINTEXT``; or None for the default file."""

LOCAL, AUTO = "local", "auto"


T = TypeVar("T")


class Assembly:
    """What both stores are made from, until the engine is open."""

    def __init__(
        self,
        index: VectorIndex,
        embedder: AnyEmbedder | str,
        reranker: Reranker | str | None,
        late: LateInteraction | str | None,
        keyring: KeySource,
        settings: Settings | None,
        successor: AnyEmbedder | str | None = None,
        *,
        allow_network: bool = True,
    ) -> None:
        if not isinstance(allow_network, bool):
            raise ConfigurationError(f"allow_network is True or False, not {allow_network!r:.80}")
        self._allow_network = allow_network
        self._index = self._here(_having(index, "index", "read_manifest", "upsert"), "index")
        self._embedder = _having(self._model(embedder), "embedder", "embed", "identity")
        self._successor = None
        if successor is not None:
            self._successor = _having(self._model(successor), "successor", "embed", "identity")
        self._reranker = registry.reranker(reranker) if isinstance(reranker, str) else reranker
        if self._reranker is not None:
            _having(self._here(self._reranker, "reranker"), "reranker", "rerank", "model")
        self._late: LateInteraction | str | None = late
        if isinstance(late, str) and late != AUTO:
            self._late = registry.late_interaction(late)
        if not (self._late is None or isinstance(self._late, str)):
            _having(self._here(self._late, "late"), "late", "score", "pack", "tokens")
        self._keyring = keyring
        if not (keyring is None or callable(keyring) or isinstance(keyring, str | os.PathLike)):
            _having(keyring, "keyring", "keys", "destroy")
        self._settings = settings
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigurationError(f"settings is a Settings, not {type(settings).__name__}")

    def _model(self, given: AnyEmbedder | str) -> Embedder:
        if isinstance(given, str):
            return registry.embedder(given, allow_network=self._allow_network)
        return self._here(registry.adapted(given, allow_network=self._allow_network), "embedder")

    def _here(self, provider: T, what: str) -> T:
        """The provider; refused where it leaves the machine and may not."""
        if not self._allow_network:
            require_local(provider, what)
        return provider

    async def open(self, io: IO) -> Verbs:
        """Open the index, find the keys, make or check the collection."""
        made: FileKeyRing | None = None
        try:
            found = await self._index.read_manifest(io)
            manifest = Manifest.from_json(found) if found is not None else None
            store = manifest.store if manifest is not None else new_store_id()
            parts = Parts(
                index=self._index,
                embedder=self._embedder,
                late=await io.call(self._late_interaction, manifest),
                reranker=self._reranker,
                settings=self._settings,
                allow_network=self._allow_network,
                successor=self._successor,
            )
            keyring = key_ring(self._keyring, store)
            if found is None and isinstance(keyring, FileKeyRing):
                made = keyring
            return Verbs(await open_engine(io, parts, keyring, store, sealed=keyring is not PLAINTEXT))
        except BaseException:
            if made is not None:
                await self._discard(io, made)
            await self._index.close(io)
            raise

    def _late_interaction(self, made: Manifest | None) -> LateInteraction | None:
        """What re-ranks by token vectors: left to us, what the store was made with, or the embedder's own first."""
        if not isinstance(self._late, str):
            return self._late
        embedders = (self._embedder, self._successor)  # a store that was migrated keeps the first one's
        own = [registry.own_late_interaction(one) for one in embedders if one is not None]
        choices = [*(one for one in own if one is not None), registry.late_interaction(LOCAL)]
        if made is None:
            return choices[0]
        fitting = [one for one in choices if one.model == made.late]
        return next(iter(fitting), choices[0] if made.late is not None else None)

    async def _discard(self, io: IO, keyring: FileKeyRing) -> None:
        """Remove the keys of a store that never came to be: their file would stand in the way of the next one."""
        with suppress(MemoryPluginError):
            if await self._index.read_manifest(io) is None:
                await io.call(keyring.discard)


def _having(part: T, what: str, *names: str) -> T:
    """The part, which has what its protocol says.

    Raises:
        ConfigurationError: It has not.
    """
    missing = [name for name in names if not hasattr(part, name)]
    if missing:
        raise ConfigurationError(f"{what}: {type(part).__name__} has no {missing[0]!r}; see memory_plugin.protocols")
    return part


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
    location: str | os.PathLike[str],
    *,
    asynchronous: bool,
    collection: str,
    api_key: str | None,
    allow_network: bool = True,
) -> VectorIndex:
    """The index at a place: a directory for the embedded engine, an http(s) address for a server.

    Raises:
        InvalidInputError: It is neither.
        NetworkForbiddenError: It is another machine's address, and ``allow_network`` is False.
    """
    if not isinstance(location, str | os.PathLike):
        raise InvalidInputError(f"a store is at a directory or an http(s) address, not {location!r:.80}")
    place = os.fspath(location)
    if not place or "\x00" in place:
        raise InvalidInputError(f"{place!r:.80} is no directory: name the one that the store is to be in")
    if place.startswith(("http://", "https://")):
        if not allow_network and not is_loopback(place):
            # Before there is a client: it would ask the server for its version.
            raise NetworkForbiddenError(
                f"the server {urlsplit(place).hostname} is another machine, and allow_network is False: "
                "open a directory, or a server on this machine"
            )
        from qdrant_client import AsyncQdrantClient, QdrantClient

        from memory_plugin.index.server import ServerIndex

        make = AsyncQdrantClient if asynchronous else QdrantClient
        return ServerIndex(make(url=place, api_key=api_key), collection, owns_client=True)
    from memory_plugin.index.edge import EdgeIndex

    return EdgeIndex(place)
