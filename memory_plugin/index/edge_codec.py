"""Our values to the embedded engine's and back, and its exceptions to ours: the only words shared with it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import qdrant_edge as qe

from memory_plugin.errors import IndexUnavailableError, InvalidInputError, MemoryPluginError, StoreClosedError
from memory_plugin.index.compiler import compile_filter
from memory_plugin.index.edge_files import MIB, PROVIDER, disk_full, locked
from memory_plugin.index.validate import Checked, Layout, check_key, check_leg
from memory_plugin.types import Filter, LegQuery, Point, SparseVector, Vector

# Above what any disk holds, in KiB: no HNSW graph is ever built.
NEVER = 2**40
OVERSAMPLING = 3.0
# One call is one log record, whose length the engine counts in 32 bits; what is longer encoded stays below.
MAX_CALL_BYTES = 512 * MIB


def config(layout: Layout, search_threads: int) -> qe.EdgeConfig:
    """How a shard is made and loaded: 4 bit Turbo quantization beside the full vectors, WAL on, no graph."""
    return qe.EdgeConfig(
        vectors={
            name: qe.EdgeVectorParams(size=size, distance=qe.Distance.Cosine) for name, size in layout.dense.items()
        },
        sparse_vectors={name: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf) for name in layout.sparse},
        quantization_config=qe.TurboQuantQuantizationConfig(bits=qe.TurboQuantBitSize.Bits4),
        # Rewrite a segment as soon as anything in it was deleted.
        optimizers=qe.EdgeOptimizersConfig(
            deleted_threshold=0.0001, vacuum_min_vector_number=1, indexing_threshold=NEVER
        ),
        max_search_threads=search_threads,
    )


def index_operations(layout: Layout) -> list[qe.UpdateOperation]:
    """The payload indexes; ``update`` takes one at a time."""
    create = qe.UpdateOperation.create_field_index
    keywords = [create(key, qe.KeywordIndexParams(is_tenant=key == layout.tenant)) for key in layout.keywords]
    return keywords + [create(key, qe.IntegerIndexParams(lookup=True, range=True)) for key in layout.integers]


class _EdgeDialect:
    def any_of(self, key: str, values: list[str] | list[int], /) -> Any:
        match = qe.MatchValue(values[0]) if len(values) == 1 else qe.MatchAny(values)
        return qe.FieldCondition(key, match=match)

    def between(self, key: str, /, *, gte: float | None, gt: float | None, lte: float | None, lt: float | None) -> Any:
        return qe.FieldCondition(key, range=qe.RangeFloat(gte=gte, gt=gt, lte=lte, lt=lt))

    def has_vector(self, name: str, /) -> Any:
        return qe.HasVectorCondition(name)

    def lacks(self, key: str, /) -> Any:
        return qe.IsEmptyCondition(key)

    def group(self, *, must: Sequence[Any] = (), should: Sequence[Any] = (), must_not: Sequence[Any] = ()) -> Any:
        return qe.Filter(must=list(must) or None, should=list(should) or None, must_not=list(must_not) or None)


_DIALECT = _EdgeDialect()


def to_filter(where: Filter) -> qe.Filter:
    """Raises: InvalidInputError: An index cannot answer it."""
    return cast("qe.Filter", compile_filter(where, _DIALECT))


def to_point(point: Checked) -> qe.Point:
    """A checked point as the engine takes it."""
    vectors: dict[str, Any] = {name: row.tolist() for name, row in point.dense.items()}
    for name, (indices, values) in point.sparse.items():
        vectors[name] = qe.SparseVector(indices, values)
    return qe.Point(point.id, vectors, cast("dict[str, Any]", point.payload))


def call_bytes(points: Sequence[Checked]) -> int:
    """About how many bytes of content an upsert holds; the disk takes some twice that, log included.

    Raises:
        InvalidInputError: More than one log record should hold.
    """
    total = 0
    for point in points:
        total += 256 + sum(row.nbytes for row in point.dense.values())
        total += sum(8 * len(indices) for indices, _ in point.sparse.values())
        total += sum(32 + len(value if isinstance(value, str) else str(value)) for value in point.payload.values())
    if total > MAX_CALL_BYTES:
        raise InvalidInputError(
            f"{len(points)} points of together {total // MIB} MiB are too many for one call, which may have "
            f"{MAX_CALL_BYTES // MIB} MiB: nothing was written, upsert fewer at a time"
        )
    return total


def to_request(layout: Layout, leg: LegQuery) -> qe.QueryRequest | None:
    """A leg as a request; None where nothing can match, since it has no terms.

    Raises:
        InvalidInputError: The leg's name, vector, limit or filters cannot be used.
    """
    vector = check_leg(layout, leg)
    where = to_filter(leg.filter)
    corpus = None if leg.corpus is None else to_filter(leg.corpus)
    query: Any
    if isinstance(vector, tuple):
        if not vector[0]:
            return None
        query = qe.SparseVector(*vector)
        params = None if corpus is None else qe.SearchParams(idf=qe.IdfParams(corpus=corpus))
    else:
        query = vector.tolist()
        params = qe.SearchParams(quantization=qe.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING))
    return qe.QueryRequest(
        limit=leg.limit,
        query=qe.Query.Nearest(query, using=leg.using),
        filter=where,
        params=params,
        with_payload=False,
        with_vector=False,
    )


def to_selector(payload: Sequence[str] | Literal[True]) -> Any:
    """Which payload keys to read.

    Raises:
        InvalidInputError: A key is no plain word.
    """
    if payload is True:
        return True
    return qe.PayloadSelector.Include([check_key(key) for key in payload]) if payload else False


def from_record(record: qe.Record) -> Point:
    """A record as it was stored: its id, the payload asked for, the vectors if asked for."""
    found = record.vector if isinstance(record.vector, Mapping) else {}
    vectors: dict[str, Vector | SparseVector] = {}
    for name, vector in found.items():
        if isinstance(vector, qe.SparseVector):
            indices, values = np.asarray(vector.indices, dtype=np.uint32), np.asarray(vector.values, dtype=np.float32)
            vectors[name] = SparseVector(indices, values)
        else:
            vectors[name] = np.asarray(vector, dtype=np.float32)
    return Point(str(record.id), record.payload or {}, vectors)


def map_error(error: BaseException, store: Path) -> MemoryPluginError:
    """The engine raises bare exceptions with a text: the one place that reads it."""
    text = str(error)
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return disk_full(store, text)
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError):
            return IndexUnavailableError(
                f"the store at {store} cannot be used: {text}. Choose a directory that this user can write to",
                provider=PROVIDER,
            )
    if "No space left" in text or "StorageFull" in text:
        return disk_full(store, text)
    if "no segments were loaded" in text or "cannot load edge shard" in text:
        return IndexUnavailableError(
            f"the store at {store} has a manifest but its shard is empty or gone: restore it from a backup, "
            "or remove the directory to begin anew",
            provider=PROVIDER,
        )
    if "WouldBlock" in text:  # a process that uses the engine without our lock
        return locked(store, None)
    if "Shard is not initialized" in text:
        return StoreClosedError(f"the store at {store} was closed")
    if isinstance(error, TypeError | ValueError | OverflowError):
        return InvalidInputError(f"{PROVIDER} refused a value: {text}")
    if "Vector dimension error" in text or "Not existing vector name" in text:
        return InvalidInputError(text)
    kind = type(error).__name__
    return IndexUnavailableError(f"{PROVIDER} failed on {store}: {kind}: {text}", provider=PROVIDER)


@contextmanager
def mapped(store: Path) -> Iterator[None]:
    """Let only our errors out.

    Raises:
        MemoryPluginError: What ``map_error`` makes of the engine's.
    """
    try:
        yield
    except MemoryPluginError:
        raise
    except Exception as error:
        raise map_error(error, store) from error
    except BaseException as error:
        # A panic in the engine's Rust is no Exception, so that nobody ignores it; to a caller it is a failure.
        if type(error).__name__ != "PanicException":
            raise
        raise map_error(error, store) from error
