"""New vectors out of stored ones, where the new model differs by its dimension alone: nothing is embedded again.

A shorter vector of a model trained for it (Matryoshka) is the beginning of the long one, of unit length again.  That
is not believed but tried: some memories are embedded by the new model, and compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from memory_plugin.embedders.truncated import shortened
from memory_plugin.engine import sealed_vectors
from memory_plugin.engine.backfill import Embedding, Item, open_page, visible
from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.payload import RECORD, SUBJECT, vector_key
from memory_plugin.engine.spaces import eligible
from memory_plugin.types import And, Embeddings, Filter, HasKey, HasVector, Matrix, ModelIdentity, Vector

TRIED = 8
"""Memories that are embedded to see whether a shorter vector is the beginning of the longer one."""

ALIKE = 0.999
"""Cosine from which it is: float16 and a vendor's jitter stay above, another model or a learned projection below."""


def shortens(old: ModelIdentity, new: ModelIdentity) -> bool:
    """Whether the new model is the old one with a smaller dimension, and nothing else."""
    return new.dimension < old.dimension and replace(new, dimension=old.dimension, normalized=old.normalized) == old


class Shortening:
    """New vectors from the stored ones of the longer space; what has none there is embedded.

    Args:
        old: The model of the longer space.
        centred: Whether each vector's mean is taken away first.
        sealed: Whether vectors are sealed in payloads.
    """

    def __init__(self, old: Model, *, centred: bool, sealed: bool) -> None:
        self._old = old
        self._centred = centred
        self._embedding = Embedding()
        self.keys: tuple[str, ...] = (vector_key(old.space),) if sealed else ()

    @property
    def made(self) -> int:
        """Texts embedded all the same."""
        return self._embedding.made

    async def __call__(self, engine: Engine, model: Model, items: Sequence[Item], /) -> Embeddings:
        """Cut, or embed."""
        rows = await stored(engine, self._old, items)
        bare = [item for item, row in zip(items, rows, strict=True) if row is None]
        fresh = iter((await self._embedding(engine, model, bare)).vectors if bare else ())
        dimension = model.embedder.identity.dimension
        made = [next(fresh) if row is None else self.cut(row[None], dimension)[0] for row in rows]
        return Embeddings(np.stack(made).astype(np.float32))

    def cut(self, vectors: Matrix, dimension: int) -> Matrix:
        """Shorter vectors of unit length."""
        return shortened(vectors, dimension, centred=self._centred)


async def shortening(engine: Engine, model: Model) -> Shortening | None:
    """How the model's vectors are made of stored ones; None where they have to be embedded.

    Raises:
        EmbeddingError: The embedder failed.
    """
    old = engine.active
    if not shortens(old.embedder.identity, model.embedder.identity) or model.weighted is not None:
        return None
    sealed = engine.settings.vectors == "sealed"
    if not getattr(model.embedder, "embeds", True):
        return Shortening(old, centred=False, sealed=sealed)
    where = And((eligible(engine, model.space), having(engine, old)))
    keys = (SUBJECT, RECORD, *((vector_key(old.space),) if sealed else ()))
    points, _ = await engine.index.scroll(engine.io, where, limit=TRIED, payload=keys)
    items = visible(await open_page(engine, points, {}), model)
    rows = await stored(engine, old, items)
    if not items or any(row is None for row in rows):
        return None
    long, wanted = np.stack([row for row in rows if row is not None]), await Embedding()(engine, model, items)
    for centred in (False, True):
        way = Shortening(old, centred=centred, sealed=sealed)
        if ((way.cut(long, wanted.vectors.shape[1]) * wanted.vectors).sum(axis=1) >= ALIKE).all():
            return way
    return None


async def stored(engine: Engine, model: Model, items: Sequence[Item]) -> list[Vector | None]:
    """The vectors of memories as the model made them, up to rounding; None for those that have none."""
    if engine.settings.vectors == "sealed":
        return await engine.io.call(_unsealed, model, items)
    points = await engine.index.fetch(engine.io, [item.point.id for item in items], payload=(), vectors=True)
    found = {point.id: point.vectors.get(model.dense) for point in points}
    rows = [found.get(item.point.id) for item in items]
    if engine.settings.vectors == "plain":
        return [row if isinstance(row, np.ndarray) else None for row in rows]
    return await engine.io.call(_unrotated, items, rows)


def _unsealed(model: Model, items: Sequence[Item]) -> list[Vector | None]:
    key, dimension = vector_key(model.space), model.embedder.identity.dimension
    rows: list[Vector | None] = []
    for item in items:
        point = item.point
        if key not in point.payload:
            rows.append(None)
            continue
        rows.append(sealed_vectors.decode(point.id, item.sealer.open(point.id, key, point.payload[key]), dimension))
    return rows


def _unrotated(items: Sequence[Item], rows: Sequence[object]) -> list[Vector | None]:
    return [
        item.sealer.unrotate(row[None])[0] if isinstance(row, np.ndarray) else None
        for item, row in zip(items, rows, strict=True)
    ]


def having(engine: Engine, model: Model) -> Filter:
    """Points that have a vector of the model."""
    key = vector_key(model.space)
    return HasKey(key) if engine.settings.vectors == "sealed" else HasVector(model.dense)
