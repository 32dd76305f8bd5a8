"""The dense leg of a store whose vectors are sealed: similarity is computed in this process.

A subject's vectors are opened once and kept, 1.5 KB a memory at 384 dimensions; writes of this process keep
them up to date, those of another are noticed by the number of points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memory_plugin.engine.core import Engine, Model, scroll
from memory_plugin.engine.payload import vector_key
from memory_plugin.errors import DecryptionError
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, Filter, HasKey, Matrix, Point, PointId, Scored, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A subject's vectors.

    Args:
        ids: Their points.
        matrix: Unit vectors, shape (points, dimension), float32.
    """

    ids: list[PointId]
    matrix: Matrix


def encode(vector: Vector) -> bytes:
    """A vector as half precision, little-endian."""
    return vector.astype("<f2").tobytes()


def decode(point: PointId, data: bytes, dimension: int) -> Vector:
    """What ``encode`` was given, of unit length again.

    Raises:
        DecryptionError: It opened, but is no vector of that dimension.
    """
    vector = np.frombuffer(data, dtype="<f2").astype(np.float32)
    norm = float(np.linalg.norm(vector))
    if vector.shape != (dimension,) or not np.isfinite(norm) or norm == 0:
        raise DecryptionError(f"the vector of point {point} is not one of dimension {dimension}")
    return np.asarray(vector / norm, np.float32)


async def search(
    engine: Engine, model: Model, sealer: Sealer, where: Filter, vector: Vector, *, limit: int, whole_subject: bool
) -> list[Scored]:
    """The points nearest to a vector, best first.

    Args:
        engine: The open store.
        model: Whose space.
        sealer: The subject's keys.
        where: Which points.
        vector: Unit length, as the embedder made it.
        limit: How many at most.
        whole_subject: Whether ``where`` is all of the subject.
    """
    opened = await _opened(engine, model, sealer)
    if not opened.ids:
        return []
    wanted = None if whole_subject else {point.id async for point in scroll(engine, where, payload=())}
    return await engine.io.call(_nearest, opened, vector, wanted, limit)


def _nearest(opened: Opened, vector: Vector, wanted: set[PointId] | None, limit: int) -> list[Scored]:
    scores = opened.matrix @ vector
    if wanted is not None:
        scores[[point not in wanted for point in opened.ids]] = -np.inf
    best = np.argsort(-scores, kind="stable")[:limit]
    return [Scored(opened.ids[place], float(scores[place])) for place in best if scores[place] > -np.inf]


async def _opened(engine: Engine, model: Model, sealer: Sealer) -> Opened:
    # A memory that the model may not see has no vector of it.
    scope = And((engine.scope(sealer, (sealer.subject,)), HasKey(vector_key(model.space))))
    place = model.space, sealer.subject
    known = engine.opened_vectors.get(place)
    if isinstance(known, Opened) and len(known.ids) == await engine.index.count(engine.io, scope):
        return known
    # Who writes meanwhile takes the mark away: what was read before is then not kept.
    mark = object()
    engine.opened_vectors[place] = mark
    points = [point async for point in scroll(engine, scope, payload=(vector_key(model.space),))]
    opened = await engine.io.call(_open_all, model, sealer, points)
    if engine.opened_vectors.get(place) is mark:
        engine.opened_vectors[place] = opened
    return opened


def _open_all(model: Model, sealer: Sealer, points: Sequence[Point]) -> Opened:
    key, dimension = vector_key(model.space), model.embedder.identity.dimension
    matrix = np.empty((len(points), dimension), np.float32)
    for row, point in zip(matrix, points, strict=True):
        row[:] = decode(point.id, sealer.open(point.id, key, point.payload.get(key)), dimension)
    return Opened([point.id for point in points], matrix)
