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
from memory_plugin.index.layout import OVERSAMPLING, Layout, check_key
from memory_plugin.index.validate import Checked, check_leg
from memory_plugin.types import Filter, LegQuery, Point, Quantization, SparseVector, Vector

# Above what any disk holds, in KiB: a segment is never "indexed".
NEVER = 2**40
# One call is one log record, whose length the engine counts in 32 bits; what is longer encoded stays below.
MAX_CALL_BYTES = 512 * MIB


def config(layout: Layout, search_threads: int) -> qe.EdgeConfig:
    """How a shard is made and loaded: quantized vectors beside the full ones, WAL on, no graph.

    ``int8`` is applied by the engine only to a segment that it "indexes", so there it indexes at once, with a graph of
    no links.  ``none`` asks for int8 and never indexes, since the engine takes None for "as before".
    """
    return qe.EdgeConfig(
        vectors={
            name: qe.EdgeVectorParams(size=size, distance=qe.Distance.Cosine) for name, size in layout.dense.items()
        },
        sparse_vectors={name: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf) for name in layout.sparse}
        | {name: qe.EdgeSparseVectorParams() for name in layout.weighted},
        quantization_config=_quantization(layout.quantization),
        hnsw_config=qe.HnswIndexConfig(m=0, ef_construct=4, full_scan_threshold=1),
        # Rewrite a segment as soon as anything in it was deleted.
        optimizers=qe.EdgeOptimizersConfig(
            deleted_threshold=0.0001,
            vacuum_min_vector_number=1,
            indexing_threshold=1 if layout.quantization == "int8" else NEVER,
        ),
        max_search_threads=search_threads,
    )


def _quantization(quantization: Quantization) -> Any:
    match quantization:
        case "turbo4":
            return qe.TurboQuantQuantizationConfig(bits=qe.TurboQuantBitSize.Bits4)
        case "turbo2":
            return qe.TurboQuantQuantizationConfig(bits=qe.TurboQuantBitSize.Bits2)
        case "binary":
            return qe.BinaryQuantizationConfig()
        case "int8" | "none":
            return qe.ScalarQuantizationConfig(type=qe.ScalarType.Int8, quantile=0.99)


def add_operations(layout: Layout, names: Sequence[str]) -> list[qe.UpdateOperation]:
    """Make those vectors of the layout, empty, whatever was left of others of their names."""
    operations: list[qe.UpdateOperation] = []
    for name in names:
        operations.append(qe.UpdateOperation.delete_vector_name(name))
        if name in layout.dense:
            operations.append(qe.UpdateOperation.create_dense_vector(name, layout.dense[name], qe.Distance.Cosine))
        else:
            operations.append(qe.UpdateOperation.create_sparse_vector(name))
    return operations


def no_operation(size: int) -> qe.UpdateOperation:
    """One that changes nothing, whose log record has ``size`` bytes and more."""
    return qe.UpdateOperation.set_payload_by_filter(qe.Filter(must=[qe.HasIdCondition(set())]), {"_": "0" * size})


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
    return qe.Point(point.id, _vectors(point), cast("dict[str, Any]", point.payload))


def _vectors(point: Checked) -> dict[str, Any]:
    vectors: dict[str, Any] = {name: row.tolist() for name, row in point.dense.items()}
    for name, (indices, values) in point.sparse.items():
        vectors[name] = qe.SparseVector(indices, values)
    return vectors


def to_vectors(point: Checked) -> qe.PointVectors:
    """A checked point's vectors as the engine takes them alone."""
    return qe.PointVectors(point.id, _vectors(point))


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
        counted = corpus is not None and leg.using in layout.sparse
        params = qe.SearchParams(idf=qe.IdfParams(corpus=corpus)) if counted else None
    else:
        query = vector.tolist()
        oversampling = OVERSAMPLING[layout.quantization]
        params = qe.SearchParams(quantization=qe.QuantizationSearchParams(rescore=True, oversampling=oversampling))
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
