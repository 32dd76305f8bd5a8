"""Our values to the client's and back, and its exceptions to ours: the only words shared with qdrant-client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Literal, cast

import numpy as np
from httpx import HTTPError
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from memory_plugin.errors import IndexUnavailableError, InvalidInputError, MemoryPluginError
from memory_plugin.index.compiler import compile_filter
from memory_plugin.index.layout import OVERSAMPLING, Layout, check_key
from memory_plugin.index.validate import Checked, check_leg
from memory_plugin.types import Filter, Json, LegQuery, Point, PointId, Quantization, SparseVector, Vector

PROVIDER = "qdrant"
_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
# Names of gRPC status codes.
_BUSY_CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"}
_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_DENIED_CODES = {"UNAUTHENTICATED", "PERMISSION_DENIED"}


# Each form of the server's, and of ours.
_QUANTIZED: dict[Quantization, Any] = {
    "none": None,
    "turbo4": models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4)),
    "turbo2": models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS2)),
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig()),
}


def quantization_update(quantization: Quantization) -> Any:
    """As ``update_collection`` takes it, where None means "as before"."""
    return _QUANTIZED[quantization] or models.Disabled.DISABLED


def vector_settings(layout: Layout, name: str) -> models.DenseVectorNameConfig | models.SparseVectorNameConfig:
    """One of the layout's vectors, as ``create_vector_name`` takes it."""
    if name in layout.dense:
        dense = models.DenseVectorConfig(size=layout.dense[name], distance=models.Distance.COSINE)
        return models.DenseVectorNameConfig(dense=dense)
    return models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())


def seen(layout: Layout, config: models.CollectionConfig) -> Layout:
    """The layout with the vectors that the collection really has: another process may have changed them."""
    vectors = config.params.vectors if isinstance(config.params.vectors, Mapping) else {}
    terms = config.params.sparse_vectors or {}
    return replace(
        layout,
        dense={name: settings.size for name, settings in vectors.items()},
        sparse=tuple(name for name, settings in terms.items() if settings.modifier == models.Modifier.IDF),
        weighted=tuple(name for name, settings in terms.items() if settings.modifier != models.Modifier.IDF),
    )


def collection_settings(layout: Layout) -> dict[str, Any]:
    """Vectors and quantization, as ``create_collection`` takes them."""
    return {
        "vectors_config": {
            name: models.VectorParams(size=size, distance=models.Distance.COSINE) for name, size in layout.dense.items()
        },
        "sparse_vectors_config": {
            name: models.SparseVectorParams(modifier=models.Modifier.IDF) for name in layout.sparse
        }
        | {name: models.SparseVectorParams() for name in layout.weighted},
        "quantization_config": _QUANTIZED[layout.quantization],
        # Links inside each tenant, so that a filtered search walks the tenant's own graph.
        "hnsw_config": models.HnswConfigDiff(payload_m=16),
    }


def payload_schemas(layout: Layout) -> dict[str, Any]:
    """The index of each payload key."""
    schemas: dict[str, Any] = {
        key: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=key == layout.tenant)
        for key in layout.keywords
    }
    for key in layout.integers:
        schemas[key] = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True)
    return schemas


class _ServerDialect:
    def any_of(self, key: str, values: list[str] | list[int], /) -> Any:
        match: Any = models.MatchValue(value=values[0]) if len(values) == 1 else models.MatchAny(any=values)
        return models.FieldCondition(key=key, match=match)

    def between(self, key: str, /, *, gte: float | None, gt: float | None, lte: float | None, lt: float | None) -> Any:
        return models.FieldCondition(key=key, range=models.Range(gte=gte, gt=gt, lte=lte, lt=lt))

    def has_vector(self, name: str, /) -> Any:
        return models.HasVectorCondition(has_vector=name)

    def lacks(self, key: str, /) -> Any:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))

    def group(self, *, must: Sequence[Any] = (), should: Sequence[Any] = (), must_not: Sequence[Any] = ()) -> Any:
        return models.Filter(must=list(must) or None, should=list(should) or None, must_not=list(must_not) or None)


_DIALECT = _ServerDialect()


def to_filter(where: Filter) -> models.Filter:
    """The filter in the client's words.

    Raises:
        InvalidInputError: An index cannot answer it.
    """
    return cast("models.Filter", compile_filter(where, _DIALECT))


def to_filter_of(point: PointId) -> models.Filter:
    """The point of that id, if it is there: a selection by id would fail for one that is not."""
    return models.Filter(must=[models.HasIdCondition(has_id=[point])])


def to_point(point: Checked) -> models.PointStruct:
    """A checked point as the client takes it."""
    return models.PointStruct(id=point.id, vector=_vectors(point), payload=point.payload)


def to_vectors(point: Checked) -> models.PointVectors:
    """A checked point's vectors as the client takes them alone."""
    return models.PointVectors(id=point.id, vector=_vectors(point))


def _vectors(point: Checked) -> dict[str, Any]:
    vectors: dict[str, Any] = {name: row.tolist() for name, row in point.dense.items()}
    for name, (indices, values) in point.sparse.items():
        vectors[name] = models.SparseVector(indices=indices, values=values)
    return vectors


def to_request(layout: Layout, leg: LegQuery, *, quantized: bool) -> models.QueryRequest | None:
    """A leg as a request; None where nothing can match, since it has no terms.

    Args:
        layout: What the collection has.
        leg: The question.
        quantized: Whether dense vectors are searched by their quantized form first; local mode has none.

    Raises:
        InvalidInputError: The leg's name, vector, limit or filters cannot be used.
    """
    vector = check_leg(layout, leg)
    where = to_filter(leg.filter)
    corpus = None if leg.corpus is None else to_filter(leg.corpus)
    query: Any
    params = None
    if isinstance(vector, tuple):
        if not vector[0]:
            return None
        query = models.SparseVector(indices=vector[0], values=vector[1])
        if corpus is not None and leg.using in layout.sparse:
            params = models.SearchParams(idf=models.IdfCorpusParams(corpus=corpus))
    else:
        query = vector.tolist()
    if quantized and leg.using in layout.dense:
        rescored = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING[layout.quantization])
        params = models.SearchParams(quantization=rescored)
    return models.QueryRequest(
        query=query,
        using=leg.using,
        filter=where,
        limit=leg.limit,
        params=params,
        with_payload=False,
        with_vector=False,
    )


def to_selector(payload: Sequence[str] | Literal[True]) -> bool | list[str]:
    """Which payload keys to read.

    Raises:
        InvalidInputError: A key is no plain word.
    """
    if payload is True:
        return True
    return [check_key(key) for key in payload] or False


def from_record(record: models.Record) -> Point:
    """A record as it was stored: its id, the payload asked for, the vectors if asked for."""
    found = record.vector if isinstance(record.vector, Mapping) else {}
    vectors: dict[str, Vector | SparseVector] = {}
    for name, vector in found.items():
        if isinstance(vector, models.SparseVector):
            indices = np.asarray(vector.indices, dtype=np.uint32)
            vectors[name] = SparseVector(indices, np.asarray(vector.values, dtype=np.float32))
        else:
            vectors[name] = np.asarray(vector, dtype=np.float32)
    return Point(str(record.id), cast("dict[str, Json]", record.payload or {}), vectors)


def is_absent_point(error: IndexUnavailableError) -> bool:
    """Whether a write failed because a point is not there."""
    cause = error.__cause__
    return isinstance(cause, KeyError) or "No point with id" in str(cause)  # KeyError: local mode


def map_error(error: Exception, where: str) -> MemoryPluginError:
    """What the client raised, as one of ours; ``retryable`` when the same call may succeed later."""
    denied = retryable = False
    if "Not existing vector name" in str(error):
        return InvalidInputError(f"a vector was dropped from {where} meanwhile: {error}")
    if isinstance(error, UnexpectedResponse):
        status = error.status_code or 0
        denied = status in _DENIED
        retryable = status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    elif callable(code := getattr(error, "code", None)):  # gRPC's errors are known by this method
        denied, retryable = code().name in _DENIED_CODES, code().name in _BUSY_CODES
    elif isinstance(error, ResponseHandlingException | ResourceExhaustedResponse | HTTPError | OSError):
        retryable = True  # no connection, a timeout, or told to come back later
    detail = f"{type(error).__name__}: {error}"
    if denied:
        detail = f"access was refused, check the API key ({type(error).__name__})"
    return IndexUnavailableError(f"Qdrant failed at {where}: {detail}", provider=PROVIDER, retryable=retryable)
