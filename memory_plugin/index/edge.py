"""The embedded index: Qdrant Edge, the server's own core, in this process and one directory.

What the engine leaves to its user is done here: a write is acknowledged once its log is on the disk, the store has one
owner at a time, a forked child cannot use it or harm it, a killed process leaves nothing that stops the next one, and a
full disk is an error instead of a killed process.

No HNSW graph: 4 bit Turbo quantization with rescoring finds what an exact search finds, in a millisecond or two up to
some 300,000 points.  Beyond that, use a server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NoReturn

import qdrant_edge as qe

from memory_plugin.errors import InvalidInputError
from memory_plugin.flow import IO
from memory_plugin.index import edge_codec as codec
from memory_plugin.index import edge_repair as repair
from memory_plugin.index import edge_schema as schema
from memory_plugin.index.edge_files import PROVIDER, RESERVE_BYTES, SMALL_RESERVE_BYTES, disk_usage
from memory_plugin.index.edge_shard import DURABILITIES, Durability, ShardDirectory
from memory_plugin.index.layout import Layout, described
from memory_plugin.index.validate import (
    by_frequency,
    check_ids,
    check_indexed,
    check_limit,
    check_payload,
    check_points,
    check_vectors,
)
from memory_plugin.types import Filter, Json, LegQuery, Point, PointId, Quantization, Scored


class EdgeIndex:
    """A ``VectorIndex`` in a directory.

    Nothing is read or locked before the first call.  Safe to use from several threads; not from several
    processes, nor after a fork.

    Args:
        path: The store's directory; made, for its owner only, by ``create``.
        durability: When a write is acknowledged.  ``"disk"``: its log is on the disk (Linux: fsync of the log;
            elsewhere as ``"flush"``).  ``"flush"``: all segments are written out too, some 10 to 100 ms a write.
            ``"process"``: it survives the process being killed, not a power cut.
        search_threads: Threads of the engine's own that read segments.
    """

    leaves_machine = False

    def __init__(
        self, path: str | os.PathLike[str], *, durability: Durability = "disk", search_threads: int = 2
    ) -> None:
        """Remember where.

        Raises:
            InvalidInputError: An unknown durability, or no threads.
        """
        if durability not in DURABILITIES:
            raise InvalidInputError(f"durability must be one of {', '.join(DURABILITIES)}, not {durability!r}")
        if search_threads < 1:
            raise InvalidInputError("search_threads must be 1 or more")
        self._path = Path(path).expanduser().absolute()
        self._durability = durability
        self._threads = search_threads
        self._shard = ShardDirectory(self._path, durability, search_threads)

    def __repr__(self) -> str:
        return f"EdgeIndex({str(self._path)!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied into another process.

        Raises:
            TypeError: Always.
        """
        raise TypeError("an EdgeIndex cannot be pickled or copied: open the store where it is needed")

    @property
    def name(self) -> str:
        """The engine and its version."""
        return f"{PROVIDER} {version('qdrant-edge-py')}"

    @property
    def location(self) -> str:
        """The directory."""
        return str(self._path)

    # ── the protocol: every call that blocks goes through the IO ──────────────────────────────────────

    @property
    def exclusive(self) -> bool:
        """True: the lock file keeps every other process out."""
        return True

    async def read_manifest(self, io: IO, /) -> dict[str, Json] | None:
        """The manifest, or None where there is no store; opens and locks the store if there is one.

        Raises:
            StoreLockedError: Another process, or another index in this one, has it open.
            ManifestMismatchError: The file is damaged or not ours.
        """
        return await io.call(self._shard.read_manifest)

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
        """Make the store; what a killed ``create`` left is made anew.

        Raises:
            InvalidInputError: A name or dimension cannot be used, or the manifest is not JSON.
            IndexUnavailableError: There is a store already, the directory cannot be written, or the disk is full.
            StoreLockedError: Another process has it open.
        """
        layout = Layout(
            dict(dense), tuple(sparse), tuple(keywords), tuple(integers), tenant, tuple(weighted), quantization
        )
        await io.call(self._shard.create, layout, manifest)

    async def add_vectors(self, io: IO, /, *, dense: Mapping[str, int], weighted: Sequence[str] = ()) -> None:
        """Give the store further vectors, which no point has yet.

        Raises:
            InvalidInputError: A vector of that name has another dimension or kind.
        """
        await io.call(schema.add_vectors, self._shard, dense, weighted)

    async def drop_vectors(self, io: IO, names: Sequence[str], /) -> None:
        """Take vectors away; on return no file holds them.

        Files that held them are removed, not overwritten: what a file system keeps of a removed file is beyond this.
        Some 0.2 s and 70 MB of log are written to push them out of the log.

        Raises:
            InvalidInputError: They are all that the store has.
        """
        await io.call(schema.drop_vectors, self._shard, names)

    async def update_vectors(self, io: IO, points: Sequence[Point], /) -> None:
        """Set the vectors given of points that exist, in one log record; payloads are not looked at.

        Raises:
            InvalidInputError: A vector cannot be stored, or there is too much for one call; nothing was written.
        """
        await io.call(self._update_vectors, points)

    async def update_payloads(self, io: IO, points: Sequence[Point], /) -> None:
        """Set the payload keys given of points that exist, a log record each; vectors are not looked at.

        Raises:
            InvalidInputError: A payload cannot be stored; nothing was written.
        """
        await io.call(self._update_payloads, points)

    async def drop_payload(self, io: IO, keys: Sequence[str], /) -> None:
        """Take payload keys away; segments and log are written anew, so that on return no file holds them."""
        await io.call(schema.drop_payload, self._shard, keys)

    async def quantize(self, io: IO, quantization: Quantization, /) -> None:
        """Change how dense vectors are kept for the first pass; calls wait, some 0.05 s per 1000 points.

        ``int8``: what is written later is compared in full until the next ``settle``.
        """
        await io.call(schema.quantize, self._shard, quantization)

    async def settle(self, io: IO, /) -> None:
        """Quantize what was added and filled later; at once where there is nothing to do."""
        await io.call(schema.settle, self._shard)

    async def write_manifest(self, io: IO, manifest: Mapping[str, Json], /) -> None:
        """Replace the manifest: after a crash there is the old one or the new one."""
        await io.call(self._shard.write_manifest, manifest)

    async def upsert(self, io: IO, points: Sequence[Point], /) -> None:
        """Write points, all or none, in one log record; of two points with one id the later stays.

        A log segment has 32 MiB; a larger call makes a larger one (measured to 600 MB, and read back after a kill), but
        the interpreter stands still meanwhile, some 12 ms a MiB.  Keep calls to about a hundred points.

        Raises:
            InvalidInputError: A point cannot be stored, or all of them have over 512 MiB; nothing was written.
            IndexUnavailableError: Too little disk space is free; nothing was written.
        """
        await io.call(self._upsert, points)

    async def set_payload(self, io: IO, payload: Mapping[str, Json], /, *, where: Filter) -> None:
        """Set payload keys of all matching points, in one log record."""
        await io.call(self._set_payload, payload, where)

    async def fetch(
        self, io: IO, ids: Sequence[PointId], /, *, payload: Sequence[str] | Literal[True], vectors: bool = False
    ) -> list[Point]:
        """Those of the points that exist, in the order asked; dense vectors have unit length."""
        return await io.call(self._fetch, ids, payload, vectors)

    async def search(self, io: IO, legs: Sequence[LegQuery], /) -> list[list[Scored]]:
        """All legs in one batch, ids and scores only."""
        return await io.call(self._search, legs)

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
        return await io.call(self._scroll, where, limit, after, payload)

    async def count(self, io: IO, where: Filter, /) -> int:
        """How many match, exactly."""
        return await io.call(self._count, where)

    async def facet(self, io: IO, key: str, where: Filter, /, *, limit: int) -> list[tuple[str | int, int]]:
        """Exact counts by value, most frequent first, then by value."""
        return await io.call(self._facet, key, where, limit)

    async def delete(self, io: IO, where: Filter | Sequence[PointId], /) -> None:
        """Delete by filter or by ids, in one log record.  The bytes stay on disk until the segment is rewritten."""
        await io.call(self._delete, where)

    async def stats(self, io: IO, /) -> dict[str, Json]:
        """Points, bytes (allocated and apparent), log, settings by vector, versions."""
        return await io.call(self._stats)

    async def close(self, io: IO, /) -> None:
        """Wait for running calls, write out, unlock.  In a forked child: nothing, the parent still owns it."""
        await io.call(self._shard.close)

    # ── the same, blocking ────────────────────────────────────────────────────────────────────────────

    def _upsert(self, points: Sequence[Point]) -> None:
        with self._shard.using() as opened:
            checked = check_points(opened.layout, points)
            if checked:
                size = codec.call_bytes(checked)
                operation = qe.UpdateOperation.upsert_points([codec.to_point(point) for point in checked])
                self._shard.write(opened, operation, RESERVE_BYTES + 3 * size)

    def _update_vectors(self, points: Sequence[Point]) -> None:
        with self._shard.using() as opened:
            checked = [point for point in check_vectors(opened.layout, points) if point.dense or point.sparse]
            if not checked:
                return
            # The engine would apply what it can and fail for those that are not there: no deletion may come between.
            with self._shard.writing(opened, RESERVE_BYTES + 3 * codec.call_bytes(checked)):
                records = opened.shard.retrieve([point.id for point in checked], with_payload=False, with_vector=False)
                there = {str(record.id) for record in records}
                found = [codec.to_vectors(point) for point in checked if point.id in there]
                if found:
                    opened.shard.update(qe.UpdateOperation.update_vectors(found))

    def _update_payloads(self, points: Sequence[Point]) -> None:
        with self._shard.using() as opened:
            check_ids([point.id for point in points])
            checked = [(point.id, found) for point in points if (found := check_payload(point.payload))]
            size = sum(len(str(payload)) for _, payload in checked)
            if not checked:
                return
            # The engine fails for those that are not there: no deletion may come between.
            with self._shard.writing(opened, RESERVE_BYTES + 3 * size):
                records = opened.shard.retrieve([point for point, _ in checked], with_payload=False, with_vector=False)
                there = {str(record.id) for record in records}
                for point, payload in checked:
                    if point in there:
                        opened.shard.update(qe.UpdateOperation.set_payload([point], payload))

    def _set_payload(self, payload: Mapping[str, Json], where: Filter) -> None:
        with self._shard.using() as opened:
            checked, condition = check_payload(payload), codec.to_filter(where)
            # Every matching payload may be written anew, beside the old one.
            points = max(opened.shard.count(qe.CountRequest(exact=True)), 1)
            matching = opened.shard.count(qe.CountRequest(exact=True, filter=condition))
            stored, _ = disk_usage(self._shard.shard_path / "segments")
            if checked and matching:
                operation = qe.UpdateOperation.set_payload_by_filter(condition, checked)
                self._shard.write(opened, operation, RESERVE_BYTES + matching * (stored // points + len(str(checked))))

    def _delete(self, where: Filter | Sequence[PointId]) -> None:
        with self._shard.using() as opened:
            if isinstance(where, Sequence):
                ids = check_ids(where)
                if not ids:
                    return
                operation = qe.UpdateOperation.delete_points(list(ids))
            else:
                operation = qe.UpdateOperation.delete_points_by_filter(codec.to_filter(where))
            self._shard.write(opened, operation, SMALL_RESERVE_BYTES)

    def _fetch(self, ids: Sequence[PointId], payload: Sequence[str] | Literal[True], vectors: bool) -> list[Point]:
        with self._shard.using() as opened:
            wanted = check_ids(ids)
            records = opened.shard.retrieve(list(wanted), codec.to_selector(payload), vectors)
            found = {point.id: point for point in map(codec.from_record, records)}
            return [found[point] for point in wanted if point in found]

    def _search(self, legs: Sequence[LegQuery]) -> list[list[Scored]]:
        with self._shard.using() as opened:
            requests = [codec.to_request(opened.layout, leg) for leg in legs]
            asked = [request for request in requests if request is not None]
            answers = iter(opened.shard.query_batch(qe.QueryBatchRequest(asked)) if asked else [])
            return [
                [] if request is None else [Scored(str(point.id), point.score) for point in next(answers)]
                for request in requests
            ]

    def _scroll(
        self, where: Filter, limit: int, after: PointId | None, payload: Sequence[str] | Literal[True]
    ) -> tuple[list[Point], PointId | None]:
        with self._shard.using() as opened:
            request = qe.ScrollRequest(
                offset=None if after is None else check_ids([after])[0],
                limit=check_limit(limit),
                filter=codec.to_filter(where),
                with_payload=codec.to_selector(payload),
                with_vector=False,
            )
            records, following = opened.shard.scroll(request)
            return [codec.from_record(record) for record in records], None if following is None else str(following)

    def _count(self, where: Filter) -> int:
        with self._shard.using() as opened:
            return opened.shard.count(qe.CountRequest(exact=True, filter=codec.to_filter(where)))

    def _facet(self, key: str, where: Filter, limit: int) -> list[tuple[str | int, int]]:
        with self._shard.using() as opened:
            request = qe.FacetRequest(
                check_indexed(opened.layout, key), limit=check_limit(limit), exact=True, filter=codec.to_filter(where)
            )
            hits = [(hit.value, hit.count) for hit in opened.shard.facet(request).hits]
            return sorted(hits, key=by_frequency)

    def _stats(self) -> dict[str, Json]:
        with self._shard.using() as opened:
            info = opened.shard.info()
            allocated, apparent = disk_usage(self._path)
            log, _ = disk_usage(self._shard.shard_path / "wal")
            vectors = described(opened.layout)
            quantized = repair.quantized(self._shard.shard_path)
            for name in opened.layout.dense:
                vectors[name]["quantized"] = quantized.get(name, False)
            return {
                "engine": self.name,
                "points": info.points_count,
                "bytes": allocated,
                "bytes_apparent": apparent,
                "wal_bytes": log,
                "segments": info.segments_count,
                "vectors": dict(vectors),
                "quantization": opened.layout.quantization,
                "hnsw": False,
                "durability": self._durability,
                "search_threads": self._threads,
            }
