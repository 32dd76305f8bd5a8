"""The served index: a Qdrant server or cluster, by qdrant-client, sync or async with one body.

A collection ``<name>__v1`` stands behind the alias ``<name>``.  The alias is made last, so a half made collection is
never seen, and a rebuilt one can take its place in one step.  The manifest is the collection's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from qdrant_client import models

from memory_plugin.errors import IndexUnavailableError
from memory_plugin.flow import IO
from memory_plugin.index import server_codec as codec
from memory_plugin.index.layout import Layout, check_key, check_quantization, described
from memory_plugin.index.server_codec import PROVIDER
from memory_plugin.index.server_collection import Client, ServerCollection
from memory_plugin.index.validate import (
    by_frequency,
    check_ids,
    check_indexed,
    check_limit,
    check_payload,
    check_points,
    check_vectors,
)
from memory_plugin.network import is_loopback
from memory_plugin.types import And, Filter, Json, LegQuery, Point, PointId, Quantization, Scored

# How often vectors are sent again when points that they name are deleted meanwhile.
_ATTEMPTS = 5


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
        self._collection = ServerCollection(client, check_key(collection))
        self._cluster = {
            "replication_factor": replication_factor,
            "shard_number": shard_number,
            "write_consistency_factor": write_consistency_factor,
        }
        self._owns_client = owns_client

    def __repr__(self) -> str:
        return f"ServerIndex({self.location!r})"

    @property
    def name(self) -> str:
        """The engine and its version, the client's until the server was asked."""
        return self._collection.engine

    @property
    def exclusive(self) -> bool:
        """False: other processes may write to the same collection."""
        return False

    @property
    def location(self) -> str:
        """Address and collection, without credentials."""
        return self._collection.location

    @property
    def leaves_machine(self) -> bool:
        """Whether the server is another machine."""
        return not self._collection.local and not is_loopback(self.location)

    async def read_manifest(self, io: IO, /) -> dict[str, Json] | None:
        """The manifest, or None where there is no collection of that name.

        Raises:
            ManifestMismatchError: The collection was not made by this library.
            IndexUnavailableError: The server does not answer, or is older than 1.19.
        """
        found = await self._collection.read(io)
        return None if found is None else found[1]

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
        layout = Layout(
            dict(dense), tuple(sparse), tuple(keywords), tuple(integers), tenant, tuple(weighted), quantization
        )
        metadata = self._collection.metadata(layout, manifest)
        await self._collection.check_version(io)
        if await self._collection.call(io, "collection_exists", collection_name=self._collection.name):
            raise IndexUnavailableError(f"there is a collection at {self.location} already", provider=PROVIDER)
        name = self._collection.name
        physical = f"{name}__v1"
        if await self._collection.call(io, "collection_exists", collection_name=physical):
            await self._discard_unborn(io, physical)
        settings = codec.collection_settings(layout)
        await self._collection.call(
            io, "create_collection", collection_name=physical, metadata=metadata, **settings, **self._cluster
        )
        if not self._collection.local:
            for key, schema in codec.payload_schemas(layout).items():
                await self._collection.call(
                    io, "create_payload_index", collection_name=physical, field_name=key, field_schema=schema, wait=True
                )
        alias = models.CreateAlias(collection_name=physical, alias_name=name)
        operations = [models.CreateAliasOperation(create_alias=alias)]
        await self._collection.call(io, "update_collection_aliases", change_aliases_operations=operations)
        self._collection.made(layout)

    async def write_manifest(self, io: IO, manifest: Mapping[str, Json], /) -> None:
        """Replace the manifest in one step."""
        layout, _ = await self._collection.current(io)
        await self._collection.update(io, metadata=self._collection.metadata(layout, manifest))

    async def add_vectors(self, io: IO, /, *, dense: Mapping[str, int], weighted: Sequence[str] = ()) -> None:
        """Give the collection further vectors, which no point has yet.

        Raises:
            InvalidInputError: A vector of that name has another dimension or kind.
        """
        before, _ = await self._collection.current(io)
        layout = before.with_vectors(dense, weighted)
        for name in layout.vectors:
            if name not in before.vectors:
                settings = codec.vector_settings(layout, name)
                await self._collection.write(io, "create_vector_name", vector_name=name, vector_name_config=settings)
        await self._collection.current(io)

    async def drop_vectors(self, io: IO, names: Sequence[str], /) -> None:
        """Take vectors away; the server removes their files, and later what its log holds of them.

        Raises:
            InvalidInputError: They are all that the collection has.
        """
        layout, _ = await self._collection.current(io)
        gone = {check_key(name) for name in names}.intersection(layout.vectors)
        layout.without(gone)
        for name in sorted(gone):
            await self._collection.write(io, "delete_vector_name", vector_name=name)
        await self._collection.current(io)

    async def update_vectors(self, io: IO, points: Sequence[Point], /) -> None:
        """Set the vectors given of points that exist, in one request; payloads are not looked at.

        Raises:
            InvalidInputError: A vector cannot be stored; nothing was sent.
            IndexUnavailableError: Points kept disappearing between being looked for and being written.
        """
        layout = await self._collection.layout(io, {name for point in points for name in point.vectors})
        checked = [point for point in check_vectors(layout, points) if point.dense or point.sparse]
        for last in (False,) * _ATTEMPTS + (True,):
            found = await self.fetch(io, [point.id for point in checked], payload=[])
            there = {point.id for point in found}
            vectors = [codec.to_vectors(point) for point in checked if point.id in there]
            try:
                if vectors:
                    await self._collection.write(io, "update_vectors", points=vectors)
                return
            except IndexUnavailableError as error:
                # Somebody deleted a point meanwhile; the server has applied the others.
                if last or not codec.is_absent_point(error):
                    raise

    async def update_payloads(self, io: IO, points: Sequence[Point], /) -> None:
        """Set the payload keys given of points that exist, in one request; vectors are not looked at.

        Raises:
            InvalidInputError: A payload cannot be stored; nothing was sent.
        """
        check_ids([point.id for point in points])
        operations = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload=payload, filter=codec.to_filter_of(point.id))
            )
            for point in points
            if (payload := check_payload(point.payload))
        ]
        await self._collection.layout(io)
        if operations:
            await self._collection.write(io, "batch_update_points", update_operations=operations)

    async def drop_payload(self, io: IO, keys: Sequence[str], /) -> None:
        """Take payload keys away, in one request; the server removes their bytes when it next writes its segments."""
        wanted = [check_key(key) for key in keys]
        await self._collection.layout(io)
        if wanted:
            await self._collection.write(io, "delete_payload", keys=wanted, points=models.Filter())

    async def quantize(self, io: IO, quantization: Quantization, /) -> None:
        """Change how dense vectors are kept for the first pass, and wait until the server has computed it."""
        check_quantization(quantization)
        layout, manifest = await self._collection.current(io)
        settings: dict[str, Any] = {
            "metadata": self._collection.metadata(replace(layout, quantization=quantization), manifest)
        }
        if not self._collection.local:
            settings["quantization_config"] = codec.quantization_update(quantization)
        await self._collection.update(io, **settings)
        await self.settle(io)

    async def settle(self, io: IO, /) -> None:
        """Wait until the server has quantized and linked what it has; it does so by itself.

        Raises:
            IndexUnavailableError: The server says that it cannot, or has not finished within an hour.
        """
        await self._collection.current(io)
        await self._collection.settled(io)

    async def upsert(self, io: IO, points: Sequence[Point], /) -> None:
        """Write points in one request, applied on return; of two points with one id the later stays.

        Raises:
            InvalidInputError: A point cannot be stored; nothing was sent.
        """
        layout = await self._collection.layout(io, {name for point in points for name in point.vectors})
        checked = check_points(layout, points)
        if checked:
            structs = [codec.to_point(point) for point in checked]
            await self._collection.write(io, "upsert", points=structs)

    async def set_payload(self, io: IO, payload: Mapping[str, Json], /, *, where: Filter) -> None:
        """Set payload keys of all matching points, in one request."""
        checked, condition = check_payload(payload), codec.to_filter(where)
        await self._collection.layout(io)
        if checked:
            await self._collection.write(io, "set_payload", payload=checked, points=condition)

    async def fetch(
        self, io: IO, ids: Sequence[PointId], /, *, payload: Sequence[str] | Literal[True], vectors: bool = False
    ) -> list[Point]:
        """Those of the points that exist, in the order asked; dense vectors have unit length."""
        wanted, selector = check_ids(ids), codec.to_selector(payload)
        await self._collection.layout(io)
        if not wanted:
            return []
        records = await self._collection.call(
            io,
            "retrieve",
            collection_name=self._collection.name,
            ids=list(dict.fromkeys(wanted)),
            with_payload=selector,
            with_vectors=vectors,
        )
        found = {point.id: point for point in map(codec.from_record, records)}
        return [found[point] for point in wanted if point in found]

    async def search(self, io: IO, legs: Sequence[LegQuery], /) -> list[list[Scored]]:
        """All legs in one request, ids and scores only."""
        layout = await self._collection.layout(io, {leg.using for leg in legs})
        requests = [codec.to_request(layout, leg, quantized=not self._collection.local) for leg in legs]
        asked = [request for request in requests if request is not None]
        found: list[Any] = []
        if asked:
            found = await self._collection.call(
                io, "query_batch_points", collection_name=self._collection.name, requests=asked
            )
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
        await self._collection.layout(io)
        records, following = await self._collection.call(io, "scroll", collection_name=self._collection.name, **request)
        return [codec.from_record(record) for record in records], None if following is None else str(following)

    async def count(self, io: IO, where: Filter, /) -> int:
        """How many match, exactly."""
        condition = codec.to_filter(where)
        await self._collection.layout(io)
        answer = await self._collection.call(
            io, "count", collection_name=self._collection.name, count_filter=condition, exact=True
        )
        return int(answer.count)

    async def facet(self, io: IO, key: str, where: Filter, /, *, limit: int) -> list[tuple[str | int, int]]:
        """Exact counts by value, most frequent first, then by value."""
        request = {
            "key": check_indexed(await self._collection.layout(io), key),
            "facet_filter": codec.to_filter(where),
            "limit": check_limit(limit),
        }
        answer = await self._collection.call(io, "facet", collection_name=self._collection.name, exact=True, **request)
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
        await self._collection.layout(io)
        await self._collection.write(io, "delete", points_selector=selector)

    async def stats(self, io: IO, /) -> dict[str, Json]:
        """Points, status and settings; a server does not tell its bytes."""
        layout, _ = await self._collection.current(io)
        info = await self._collection.call(io, "get_collection", collection_name=self._collection.name)
        settings: dict[str, Json] = info.config.model_dump(mode="json", exclude_none=True)
        settings.pop("metadata", None)
        return {
            "engine": self.name,
            "points": await self.count(io, And(())),
            "bytes": None,
            "segments": info.segments_count,
            "status": str(info.status.value),
            "indexed_vectors": info.indexed_vectors_count,
            "vectors": dict(described(layout)),
            "quantization": layout.quantization,
            "settings": settings,
        }

    async def close(self, io: IO, /) -> None:
        """Let go of the client, and close it if it is this index's own."""
        await self._collection.close(io, client=self._owns_client)

    async def _discard_unborn(self, io: IO, physical: str) -> None:
        """A collection without its alias is one whose making was cut short, unless it holds points."""
        if (await self._collection.call(io, "count", collection_name=physical, exact=True)).count:
            raise IndexUnavailableError(
                f"the collection {physical!r} holds points but the alias {self._collection.name!r} is gone: "
                "make the alias again, or delete the collection",
                provider=PROVIDER,
            )
        await self._collection.call(io, "delete_collection", collection_name=physical)
