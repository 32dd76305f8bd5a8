"""A collection on a server: how it is called, what it has as of now, and how long it takes to have it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal
from qdrant_client.local.qdrant_local import QdrantLocal

from memory_plugin.errors import (
    IndexUnavailableError,
    InvalidInputError,
    ManifestMismatchError,
    MemoryPluginError,
    StoreClosedError,
)
from memory_plugin.flow import IO
from memory_plugin.index import server_codec as codec
from memory_plugin.index.layout import Layout, pack_manifest, unpack_manifest
from memory_plugin.index.server_codec import PROVIDER
from memory_plugin.types import Json

Client: TypeAlias = QdrantClient | AsyncQdrantClient
# The first whose sparse search takes the term statistics of one subject's points.
OLDEST_SERVER = (1, 19)
# Metadata is merged key by key, so the manifest is one text under one key: replaced whole or not at all.
_METADATA_KEY = "memory_plugin"
_SETTLE_SECONDS = 3600
# Another process may drop a vector or change the quantization: after this time, a layout is read again.
_FRESH_SECONDS = 60.0


class ServerCollection:
    """The half of ``ServerIndex`` below its verbs.

    Args:
        client: Sync, or async for use on an event loop.
        name: Of the alias.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        # The client's local mode is a test double: it has no payload indexes, quantization or server
        # version, and warns when it is asked for them.
        self.local = isinstance(client._client, QdrantLocal | AsyncQdrantLocal)
        self.closed = False
        self._client: Any = client
        self._server: str | None = None
        self._known: Layout | None = None
        self._read_at = 0.0

    @property
    def engine(self) -> str:
        """The engine and its version, the client's until the server was asked."""
        if self.local:
            return f"qdrant-client {version('qdrant-client')} local mode"
        return f"qdrant {self._server}" if self._server else f"qdrant-client {version('qdrant-client')}"

    @property
    def location(self) -> str:
        """Address and collection, without credentials."""
        options = self._client.init_options
        place = options.get("location") or options.get("path") or options.get("host") or "localhost"
        if options.get("url") or "://" in str(place):
            parts = urlsplit(str(options.get("url") or place))
            place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        return f"{place}/{self.name}"

    # ── what every call goes through ──────────────────────────────────────────────────────────────────

    async def call(self, io: IO, method: str, **arguments: Any) -> Any:
        """One of the client's methods.

        Raises:
            StoreClosedError: It was closed.
            IndexUnavailableError: The server failed, does not answer, or refuses.
            InvalidInputError: Somebody dropped a vector that this call names.
        """
        if self.closed:
            raise StoreClosedError(f"the store at {self.location} was closed")
        return await self._map(io, method, **arguments)

    async def write(self, io: IO, method: str, **arguments: Any) -> Any:
        """One of the client's methods that write points: what it writes is applied on return."""
        return await self.call(io, method, collection_name=self.name, wait=True, **arguments)

    async def update(self, io: IO, **settings: Any) -> None:
        """Change the settings of the collection behind the alias."""
        aliases = await self.call(io, "get_aliases")
        behind = [alias.collection_name for alias in aliases.aliases if alias.alias_name == self.name]
        await self.call(io, "update_collection", collection_name=behind[0] if behind else self.name, **settings)

    async def close(self, io: IO, *, client: bool) -> None:
        """Make no more calls; close the client, too, if told."""
        if not self.closed:
            self.closed = True
            if client:
                await self._map(io, "close")

    async def _map(self, io: IO, method: str, **arguments: Any) -> Any:
        try:
            return await io.call(getattr(self._client, method), **arguments)
        except MemoryPluginError:
            raise
        except Exception as error:
            mapped = codec.map_error(error, self.location)
            if isinstance(mapped, InvalidInputError):
                self._known = None
            raise mapped from error

    async def check_version(self, io: IO) -> None:
        """Ask the server once.

        Raises:
            IndexUnavailableError: It is too old.
        """
        if self.local or self._server is not None:
            return
        info = await self.call(io, "info")
        # "1.20.0-dev" is 1.20.
        parts = str(info.version).split("-")[0].split(".")
        if tuple(int(part) for part in parts[:2] if part.isdecimal()) < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise IndexUnavailableError(
                f"the server at {self.location} is Qdrant {info.version}; lexical search needs the term statistics of "
                f"one data subject (per-tenant IDF), which came with {oldest}: upgrade the server",
                provider=PROVIDER,
            )
        self._server = str(info.version)

    # ── what the collection has ───────────────────────────────────────────────────────────────────────

    @staticmethod
    def metadata(layout: Layout, manifest: Mapping[str, Json]) -> dict[str, str]:
        """Layout and manifest as the collection keeps them."""
        return {_METADATA_KEY: pack_manifest(layout, manifest)}

    async def read(self, io: IO) -> tuple[Layout, dict[str, Json]] | None:
        """Layout and manifest as they are now; None where there is no collection.

        Raises:
            ManifestMismatchError: The collection was not made by this library.
        """
        await self.check_version(io)
        if not await self.call(io, "collection_exists", collection_name=self.name):
            return None
        info = await self.call(io, "get_collection", collection_name=self.name)
        text = (info.config.metadata or {}).get(_METADATA_KEY)
        if not isinstance(text, str):
            raise ManifestMismatchError(
                f"the collection at {self.location} was not made by this library: choose another name"
            )
        layout, manifest = unpack_manifest(text, self.location)
        layout = codec.seen(layout, info.config)
        self.made(layout)
        return layout, manifest

    async def current(self, io: IO) -> tuple[Layout, dict[str, Json]]:
        """Layout and manifest as they are now: another process may have changed them.

        Raises:
            StoreClosedError: It was closed.
            IndexUnavailableError: There is no collection.
        """
        found = await self.read(io)
        if found is None:
            raise IndexUnavailableError(f"there is no collection at {self.location}: create it", provider=PROVIDER)
        return found

    async def layout(self, io: IO, names: Collection[str] = ()) -> Layout:
        """The layout as seen within a minute, or as it is now if that lacks one of the vectors' names.

        Raises:
            StoreClosedError: It was closed.
            IndexUnavailableError: There is no collection.
        """
        if self.closed:
            raise StoreClosedError(f"the store at {self.location} was closed")
        known, stale = self._known, time.monotonic() - self._read_at > _FRESH_SECONDS
        if known is None or stale or not set(names) <= set(known.vectors):
            known, _ = await self.current(io)
        return known

    def made(self, layout: Layout) -> None:
        """Remember what was just made or read."""
        self._known, self._read_at = layout, time.monotonic()

    async def settled(self, io: IO) -> None:
        """Wait until the server has quantized and linked what it has; it does so by itself.

        Raises:
            IndexUnavailableError: The server says that it cannot, or has not finished within an hour.
        """
        for _ in range(_SETTLE_SECONDS):
            info = await self.call(io, "get_collection", collection_name=self.name)
            status = str(info.status.value)
            if status == "green":
                return
            if status == "red":
                raise IndexUnavailableError(
                    f"the server cannot optimize the collection at {self.location}: {info.optimizer_status}; "
                    "look into its log",
                    provider=PROVIDER,
                )
            if status == "grey":  # waits, since the server was started, for a change to begin with
                await self.update(io, optimizers_config=models.OptimizersConfigDiff())
            await io.call(time.sleep, 1.0)
        raise IndexUnavailableError(
            f"the server is still optimizing the collection at {self.location}: settle again later",
            provider=PROVIDER,
            retryable=True,
        )
