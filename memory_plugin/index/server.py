"""The served index: a Qdrant server or cluster, by qdrant-client, sync or async with one body.

A collection ``<name>__v1`` stands behind the alias ``<name>``.  The alias is made last, so a half made collection is
never seen, and a rebuilt one can take its place in one step.  The manifest is the collection's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal
from qdrant_client.local.qdrant_local import QdrantLocal

from memory_plugin.errors import (
    IndexUnavailableError,
    ManifestMismatchError,
    MemoryPluginError,
    StoreClosedError,
)
from memory_plugin.flow import IO
from memory_plugin.index import server_codec as codec
from memory_plugin.index.server_codec import PROVIDER
from memory_plugin.index.validate import (
    Layout,
    by_frequency,
    check_ids,
    check_indexed,
    check_key,
    check_limit,
    check_payload,
    check_points,
    pack_manifest,
    unpack_manifest,
)
from memory_plugin.network import is_loopback
from memory_plugin.types import And, Filter, Json, LegQuery, Point, PointId, Quantization, Scored

Client: TypeAlias = QdrantClient | AsyncQdrantClient
# The first whose sparse search takes the term statistics of one subject's points.
OLDEST_SERVER = (1, 19)
# Metadata is merged key by key, so the manifest is one text under one key: replaced whole or not at all.
_METADATA_KEY = "memory_plugin"


class ServerIndex:
    """A ``VectorIndex`` on a server.

    Args:
        client: Sync, or async for use on an event loop.
        collection: Name of the alias.
        replication_factor: Copies of each shard; None: the server's default.
        shard_number: Parts of the collection; None: one a node.
        write_consistency_factor: Copies that must confirm a write; None: the server's default.
        owns_client: Whether ``close`` closes the client.
    """

    def __init__(
        self,
        client: Client,
        collection: str,
        *,
        replication_factor: int | None = None,
        shard_number: int | None = None,
        write_consistency_factor: int | None = None,
        owns_client: bool = False,
    ) -> None:
        """Remember where.

        Raises:
            InvalidInputError: The collection's name cannot be used.
        """
        self._client: Any = client
        self._name = check_key(collection)
        self._cluster = {
            "replication_factor": replication_factor,
            "shard_number": shard_number,
            "write_consistency_factor": write_consistency_factor,
        }
        self._owns_client = owns_client
        # The client's local mode is a test double: it has no payload indexes, quantization or server
        # version, and warns when it is asked for them.
        self._local = isinstance(client._client, QdrantLocal | AsyncQdrantLocal)
        self._server: str | None = None
        self._known: Layout | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"ServerIndex({self.location!r})"

    @property
    def name(self) -> str:
        """The engine and its version, the client's until the server was asked."""
        if self._local:
            return f"qdrant-client {version('qdrant-client')} local mode"
        return f"qdrant {self._server}" if self._server else f"qdrant-client {version('qdrant-client')}"

    @property
    def exclusive(self) -> bool:
        """False: other processes may write to the same collection."""
        return False

    @property
    def location(self) -> str:
        """Address and collection, without credentials."""
        options = self._client.init_options
        place = options.get("location") or options.get("path") or options.get("host") or "localhost"
        if options.get("url") or "://" in str(place):
            parts = urlsplit(str(options.get("url") or place))
            place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        return f"{place}/{self._name}"

    @property
    def leaves_machine(self) -> bool:
        """Whether the server is another machine."""
        return not self._local and not is_loopback(self.location)

    async def read_manifest(self, io: IO, /) -> dict[str, Json] | None:
        """The manifest, or None where there is no collection of that name.

        Raises:
            ManifestMismatchError: The collection was not made by this library.
            IndexUnavailableError: The server does not answer, or is older than 1.19.
        """
        await self._check_version(io)
        if not await self._call(io, "collection_exists", collection_name=self._name):
            return None
        self._known, manifest = await self._read(io)
        return manifest

    async def create(
        self,
        io: IO,
        manifest: Mapping[str, Json],
        /,
        *,
        dense: Mapping[str, int],
        sparse: Sequence[str],
        weighted: Sequence[str] = (),
        keywords: Sequence[str],
        integers: Sequence[str],
        tenant: str,
        quantization: Quantization = "turbo4",
    ) -> None:
        """Make the collection, its payload indexes before any point, and last the alias.

        Raises:
            InvalidInputError: A name or dimension cannot be used, or the manifest is not JSON.
            IndexUnavailableError: There is a collection of that name, or the server refuses or is too old.
        """
        layout = Layout(dict(dense), tuple(sparse), tuple(keywords), tuple(integers), tenant)
        metadata = {_METADATA_KEY: pack_manifest(layout, manifest)}
        await self._check_version(io)
        if await self._call(io, "collection_exists", collection_name=self._name):
            raise IndexUnavailableError(f"there is a collection at {self.location} already", provider=PROVIDER)
        physical = f"{self._name}__v1"
        if await self._call(io, "collection_exists", collection_name=physical):
            await self._discard_unborn(io, physical)
        settings = codec.collection_settings(layout)
        await self._call(
            io, "create_collection", collection_name=physical, metadata=metadata, **settings, **self._cluster
        )
        if not self._local:
            for key, schema in codec.payload_schemas(layout).items():
                await self._call(
                    io, "create_payload_index", collection_name=physical, field_name=key, field_schema=schema, wait=True
                )
        alias = models.CreateAlias(collection_name=physical, alias_name=self._name)
        operations = [models.CreateAliasOperation(create_alias=alias)]
        await self._call(io, "update_collection_aliases", change_aliases_operations=operations)
        self._known = layout

    async def write_manifest(self, io: IO, manifest: Mapping[str, Json], /) -> None:
        """Replace the manifest in one step."""
        text = pack_manifest(await self._layout(io), manifest)
        aliases = await self._call(io, "get_aliases")
        behind = [alias.collection_name for alias in aliases.aliases if alias.alias_name == self._name]
        target = behind[0] if behind else self._name
        await self._call(io, "update_collection", collection_name=target, metadata={_METADATA_KEY: text})

    async def upsert(self, io: IO, points: Sequence[Point], /) -> None:
        """Write points in one request, applied on return; of two points with one id the later stays.

        Raises:
            InvalidInputError: A point cannot be stored; nothing was sent.
        """
        checked = check_points(await self._layout(io), points)
        if checked:
            structs = [codec.to_point(point) for point in checked]
            await self._call(io, "upsert", collection_name=self._name, points=structs, wait=True)

    async def set_payload(self, io: IO, payload: Mapping[str, Json], /, *, where: Filter) -> None:
        """Set payload keys of all matching points, in one request."""
        checked, condition = check_payload(payload), codec.to_filter(where)
        await self._layout(io)
        if checked:
            await self._call(
                io, "set_payload", collection_name=self._name, payload=checked, points=condition, wait=True
            )

    async def fetch(
        self, io: IO, ids: Sequence[PointId], /, *, payload: Sequence[str] | Literal[True], vectors: bool = False
    ) -> list[Point]:
        """Those of the points that exist, in the order asked; dense vectors have unit length."""
        wanted, selector = check_ids(ids), codec.to_selector(payload)
        await self._layout(io)
        if not wanted:
            return []
        records = await self._call(
            io,
            "retrieve",
            collection_name=self._name,
            ids=list(dict.fromkeys(wanted)),
            with_payload=selector,
            with_vectors=vectors,
        )
        found = {point.id: point for point in map(codec.from_record, records)}
        return [found[point] for point in wanted if point in found]

    async def search(self, io: IO, legs: Sequence[LegQuery], /) -> list[list[Scored]]:
        """All legs in one request, ids and scores only."""
        layout = await self._layout(io)
        requests = [codec.to_request(layout, leg, quantized=not self._local) for leg in legs]
        asked = [request for request in requests if request is not None]
        found: list[Any] = []
        if asked:
            found = await self._call(io, "query_batch_points", collection_name=self._name, requests=asked)
        answers = iter(found)
        return [
            [] if request is None else [Scored(str(point.id), point.score) for point in next(answers).points]
            for request in requests
        ]

    async def scroll(
        self,
        io: IO,
        where: Filter,
        /,
        *,
        limit: int,
        after: PointId | None = None,
        payload: Sequence[str] | Literal[True],
    ) -> tuple[list[Point], PointId | None]:
        """A page in id order, and where the next begins."""
        request = {
            "scroll_filter": codec.to_filter(where),
            "limit": check_limit(limit),
            "offset": None if after is None else check_ids([after])[0],
            "with_payload": codec.to_selector(payload),
            "with_vectors": False,
        }
        await self._layout(io)
        records, following = await self._call(io, "scroll", collection_name=self._name, **request)
        return [codec.from_record(record) for record in records], None if following is None else str(following)

    async def count(self, io: IO, where: Filter, /) -> int:
        """How many match, exactly."""
        condition = codec.to_filter(where)
        await self._layout(io)
        answer = await self._call(io, "count", collection_name=self._name, count_filter=condition, exact=True)
        return int(answer.count)

    async def facet(self, io: IO, key: str, where: Filter, /, *, limit: int) -> list[tuple[str | int, int]]:
        """Exact counts by value, most frequent first, then by value."""
        request = {
            "key": check_indexed(await self._layout(io), key),
            "facet_filter": codec.to_filter(where),
            "limit": check_limit(limit),
        }
        answer = await self._call(io, "facet", collection_name=self._name, exact=True, **request)
        return sorted(((hit.value, hit.count) for hit in answer.hits), key=by_frequency)

    async def delete(self, io: IO, where: Filter | Sequence[PointId], /) -> None:
        """Delete by filter or by ids, in one request."""
        if isinstance(where, Sequence):
            ids = check_ids(where)
            selector: Any = models.PointIdsList(points=list(ids))
            if not ids:
                return
        else:
            selector = models.FilterSelector(filter=codec.to_filter(where))
        await self._layout(io)
        await self._call(io, "delete", collection_name=self._name, points_selector=selector, wait=True)

    async def stats(self, io: IO, /) -> dict[str, Json]:
        """Points, status and settings; a server does not tell its bytes."""
        await self._layout(io)
        info = await self._call(io, "get_collection", collection_name=self._name)
        settings: dict[str, Json] = info.config.model_dump(mode="json", exclude_none=True)
        settings.pop("metadata", None)
        return {
            "engine": self.name,
            "points": await self.count(io, And(())),
            "bytes": None,
            "segments": info.segments_count,
            "status": str(info.status.value),
            "indexed_vectors": info.indexed_vectors_count,
            "settings": settings,
        }

    async def close(self, io: IO, /) -> None:
        """Let go of the client, and close it if it is this index's own."""
        if not self._closed:
            self._closed = True
            if self._owns_client:
                await self._map(io, "close")

    # ── what every call goes through ──────────────────────────────────────────────────────────────────

    async def _call(self, io: IO, method: str, **arguments: Any) -> Any:
        if self._closed:
            raise StoreClosedError(f"the store at {self.location} was closed")
        return await self._map(io, method, **arguments)

    async def _map(self, io: IO, method: str, **arguments: Any) -> Any:
        try:
            return await io.call(getattr(self._client, method), **arguments)
        except MemoryPluginError:
            raise
        except Exception as error:
            raise codec.map_error(error, self.location) from error

    async def _check_version(self, io: IO) -> None:
        if self._local or self._server is not None:
            return
        info = await self._call(io, "info")
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

    async def _layout(self, io: IO) -> Layout:
        if self._closed:
            raise StoreClosedError(f"the store at {self.location} was closed")
        if self._known is None and await self.read_manifest(io) is None:
            raise IndexUnavailableError(f"there is no collection at {self.location}: create it", provider=PROVIDER)
        assert self._known is not None
        return self._known

    async def _read(self, io: IO) -> tuple[Layout, dict[str, Json]]:
        info = await self._call(io, "get_collection", collection_name=self._name)
        text = (info.config.metadata or {}).get(_METADATA_KEY)
        if not isinstance(text, str):
            raise ManifestMismatchError(
                f"the collection at {self.location} was not made by this library: choose another name"
            )
        return unpack_manifest(text, self.location)

    async def _discard_unborn(self, io: IO, physical: str) -> None:
        """A collection without its alias is one whose making was cut short, unless it holds points."""
        if (await self._call(io, "count", collection_name=physical, exact=True)).count:
            raise IndexUnavailableError(
                f"the collection {physical!r} holds points but the alias {self._name!r} is gone: "
                "make the alias again, or delete the collection",
                provider=PROVIDER,
            )
        await self._call(io, "delete_collection", collection_name=physical)
