"""What a migration would take: tokens, dollars, bytes, seconds.  Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence

from memory_plugin.engine.backfill import Item
from memory_plugin.engine.convert import shortens
from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.gate import sample
from memory_plugin.engine.migration import Estimate
from memory_plugin.engine.overlong import embed_passages
from memory_plugin.engine.payload import OURS
from memory_plugin.engine.spaces import lacking
from memory_plugin.managed.prices import price
from memory_plugin.network import leaves_machine
from memory_plugin.plan import SEALED_VECTOR, quantized_bytes, sealed_bytes, vendor_rate
from memory_plugin.types import Quantization

TRIAL = 16
"""Memories that are embedded to see how long it takes, after one to load the model."""

MADE_A_SECOND = 2000.0
"""Vectors made of stored ones a second: reading, turning, writing."""


async def estimate(engine: Engine, model: Model, *, rate: float | None, quantization: Quantization) -> Estimate:
    """What it would take to move the store to a model.

    Args:
        engine: The open store.
        model: Where to.
        rate: The throttle that would be set, memories a second.
        quantization: How the new vectors would be kept.

    Raises:
        EmbeddingError: The trial failed.
    """
    todo = await engine.index.count(engine.io, lacking(engine, model.space))
    items = await sample(engine, model)
    old, new = engine.active.embedder.identity, model.embedder.identity
    embeds = not shortens(old, new) or model.weighted is not None
    texts = [item.record.passage for item in items]
    mean = await engine.io.call(_mean_tokens, engine, texts) if embeds else 0.0
    tokens = round(mean * todo)
    per_million = price(model.name)
    sealed = engine.settings.vectors == "sealed"
    added = todo * vector_bytes(new.dimension, quantization, sealed=sealed)
    left = todo * vector_bytes(old.dimension, engine.settings.quantization, sealed=sealed)
    speed = await _speed(engine, model, items, rate, mean) if embeds else min(MADE_A_SECOND, rate or MADE_A_SECOND)
    return Estimate(
        memories=todo,
        tokens=tokens,
        cost=0.0 if not embeds else None if per_million is None else tokens * per_million / 1e6,
        bytes_during=added,
        bytes_after=added - left,
        seconds=None if speed is None else todo / speed,
        embeds=embeds,
    )


async def estimate_quantization(engine: Engine, quantization: Quantization) -> Estimate:
    """What it would take to keep the vectors in another form: nothing but the bytes."""
    memories = await engine.index.count(engine.io, OURS)
    dimension, sealed = engine.active.embedder.identity.dimension, engine.settings.vectors == "sealed"
    now = vector_bytes(dimension, engine.settings.quantization, sealed=sealed)
    more = memories * (vector_bytes(dimension, quantization, sealed=sealed) - now)
    return Estimate(memories, 0, 0.0, more, more, None, embeds=False)


def _mean_tokens(engine: Engine, texts: Sequence[str]) -> float:
    return sum(map(engine.private_pieces.count, texts)) / len(texts) if texts else 0.0


def vector_bytes(dimension: int, quantization: Quantization, *, sealed: bool) -> int:
    """What one vector takes: in full and quantized, or, sealed, as the text of an envelope; see docs/sizing.md."""
    if sealed:
        return round(sealed_bytes(SEALED_VECTOR * dimension))
    return 4 * dimension + quantized_bytes(dimension, quantization)


async def _speed(
    engine: Engine, model: Model, items: Sequence[Item], rate: float | None, tokens: float
) -> float | None:
    """Memories a second: tried where that costs nothing and sends nothing away, else what the vendor allows."""
    if leaves_machine(model.embedder) or not items:
        allowed = vendor_rate(model.name, tokens)
        speeds = [rate, allowed / tokens if allowed is not None and tokens else None]
        return min((speed for speed in speeds if speed is not None), default=None)
    texts = [item.record.passage for item in items[:TRIAL]]
    await embed_passages(engine, model, texts[:1])  # loads the model
    start = time.perf_counter()
    await embed_passages(engine, model, texts)
    speed = len(texts) / max(time.perf_counter() - start, 1e-6)
    return speed if rate is None else min(speed, rate)
